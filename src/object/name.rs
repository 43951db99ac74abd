//! The name of one directory entry.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// A directory entry's name: 1 to 255 bytes, without `/` and NUL, neither `.` nor `..`.
///
/// Bytes, not text: Linux file names have no encoding. Ordered by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why some bytes cannot be a directory entry's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be a file name: {reason}", shown.escape_ascii())]
pub struct InvalidName {
    shown: Vec<u8>,
    reason: &'static str,
}

impl Name {
    /// The longest name, in bytes (Linux `NAME_MAX`).
    pub const MAX_BYTES: usize = 255;

    /// Checks and takes a name.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidName> {
        let reason = match bytes {
            [] => "it is empty",
            b"." | b".." => "it names a directory itself or its parent",
            _ if bytes.len() > Self::MAX_BYTES => "it is longer than 255 bytes",
            _ if bytes.contains(&b'/') => "it contains a slash",
            _ if bytes.contains(&0) => "it contains a NUL byte",
            _ => return Ok(Self(bytes.into())),
        };
        Err(InvalidName { shown: bytes[..bytes.len().min(64)].to_vec(), reason })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for host file calls.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_a_directory_could_hold_are_taken() {
        assert!(Name::new(b"a").is_ok());
        assert!(Name::new(b"...").is_ok());
        assert!(Name::new(&[0xff, b'\n']).is_ok());
        assert!(Name::new(&[b'x'; 255]).is_ok());
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
    }
}
