//! What every directory entry has: mode, owner, time, extended attributes.

use super::codec::{DecodeError, Reader, Writer};
use super::time::Timestamp;

/// The most extended attributes that one entry may have.
pub const MAX_XATTR_COUNT: usize = 1024;
/// The longest name of an extended attribute, in bytes (Linux `XATTR_NAME_MAX`).
pub const MAX_XATTR_NAME_BYTES: usize = 255;
/// The longest value of an extended attribute, in bytes (Linux `XATTR_SIZE_MAX`).
pub const MAX_XATTR_VALUE_BYTES: usize = 65_536;

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Xattr {
    /// The full name, such as `security.capability`.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// Extended attributes, sorted by name, no name twice.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Xattrs(Vec<Xattr>);

/// Why an attribute cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("extended attribute `{}`: {reason}", name.escape_ascii())]
pub struct MetaError {
    name: Vec<u8>,
    reason: &'static str,
}

impl Xattrs {
    /// No attributes.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Sets one attribute; a value that was there is replaced.
    pub fn set(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), MetaError> {
        let reason = if name.is_empty() || name.contains(&0) {
            Some("its name is empty or contains a NUL byte")
        } else if name.len() > MAX_XATTR_NAME_BYTES {
            Some("its name is longer than 255 bytes")
        } else if value.len() > MAX_XATTR_VALUE_BYTES {
            Some("its value is longer than 65536 bytes")
        } else if self.0.len() >= MAX_XATTR_COUNT {
            Some("there are more than 1024 of them on one file")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(MetaError { name: name[..name.len().min(64)].to_vec(), reason });
        }
        match self.0.binary_search_by(|have| have.name.cmp(&name)) {
            Ok(at) => self.0[at].value = value,
            Err(at) => self.0.insert(at, Xattr { name, value }),
        }
        Ok(())
    }

    /// The value of one attribute.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.0.binary_search_by(|have| have.name.as_slice().cmp(name)).ok()?;
        Some(&self.0[at].value)
    }

    /// Keeps the attributes for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Xattr) -> bool) {
        self.0.retain(keep);
    }

    /// All attributes, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Xattr> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Mode, owner, modification time and extended attributes of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: at most 0o7777.
    pub mode: u16,
    /// Owner, as seen inside.
    pub uid: u32,
    /// Group, as seen inside.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Meta {
    /// Whether mode, owner and extended attributes are the same; times aside.
    pub fn same_but_time(&self, other: &Self) -> bool {
        let Self { mode, uid, gid, mtime: _, xattrs } = self;
        (*mode, *uid, *gid) == (other.mode, other.uid, other.gid) && *xattrs == other.xattrs
    }

    /// Attributes of something that root owns, with no extended attributes.
    pub const fn root_owned(mode: u16, mtime: Timestamp) -> Self {
        Self { mode, uid: 0, gid: 0, mtime, xattrs: Xattrs::none() }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.u16(self.mode & 0o7777);
        out.u32(self.uid);
        out.u32(self.gid);
        out.timestamp(self.mtime);
        out.u16(u16::try_from(self.xattrs.0.len()).expect("at most MAX_XATTR_COUNT attributes"));
        for xattr in &self.xattrs.0 {
            out.bytes16(&xattr.name);
            out.bytes32(&xattr.value);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mode = input.u16()?;
        if mode > 0o7777 {
            return Err(input.error("a mode above 07777"));
        }
        let (uid, gid, mtime) = (input.u32()?, input.u32()?, input.timestamp()?);
        let count = input.u16()?;
        let mut xattrs = Xattrs::none();
        for _ in 0..count {
            let name = input.bytes16()?.to_vec();
            let value = input.bytes32()?.to_vec();
            if xattrs.0.last().is_some_and(|before| before.name >= name) {
                return Err(input.error("extended attributes out of order"));
            }
            xattrs.set(name, value).map_err(|_| input.error("an impossible extended attribute"))?;
        }
        Ok(Self { mode, uid, gid, mtime, xattrs })
    }
}
