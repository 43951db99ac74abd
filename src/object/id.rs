//! Typed BLAKE3-256 names.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: expected {expected} lower-case hex digits")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (hex_digit(pair[0])? << 4) | hex_digit(pair[1])?;
    }
    Some(out)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    f.pad(&text)
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The id made of these bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first 12 hex digits: enough for a person to tell ids apart.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(12);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text)
                    .map(Self)
                    .ok_or_else(|| ParseIdError { text: text.to_owned(), expected: $digits })
            }
        }
    };
}

typed_id!(
    /// Names the bytes of a regular file: plain BLAKE3-256 of the content, the same as `b3sum` prints.
    BlobId, 32, "64"
);
typed_id!(
    /// Names one directory, or with its root entry a whole file system: BLAKE3-256 of a tree's canonical bytes.
    TreeId, 32, "64"
);
typed_id!(
    /// Names a file system together with its runtime config: BLAKE3-256 of a state's canonical bytes.
    StateId, 32, "64"
);
typed_id!(
    /// Names a run before it happens: BLAKE3-256 over the parent state and the canonical command spec.
    RunKey, 32, "64"
);
typed_id!(
    /// Names a set of hard-linked paths: the first 16 bytes of BLAKE3 over the sorted member paths.
    LinkGroup, 16, "32"
);

typed_id!(
    /// Names a commit of history: the SHA-1 of a Git commit object.
    CommitId, 20, "40"
);
typed_id!(
    /// Names a change of refs: the first 16 bytes of BLAKE3 over what changed and the operation before.
    OperationId, 16, "32"
);

impl BlobId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Computes a [`BlobId`] from a stream of bytes.
#[derive(Debug, Clone, Default)]
pub struct BlobHasher(blake3::Hasher);

impl BlobHasher {
    /// A hasher that has seen no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id of everything taken in so far.
    pub fn finish(&self) -> BlobId {
        BlobId(*self.0.finalize().as_bytes())
    }
}

/// The leading hex digits of an id, as a person types them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPrefix {
    digits: String,
}

impl IdPrefix {
    /// The fewest digits that are taken as a shortened id; fewer are too likely to be a name.
    pub const MIN_DIGITS: usize = 4;

    /// Reads a prefix: 4 to 64 lower-case hex digits, else `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let usable =
            (Self::MIN_DIGITS..=64).contains(&text.len()) && text.bytes().all(|d| hex_digit(d).is_some());
        usable.then(|| Self { digits: text.to_owned() })
    }

    /// The digits.
    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// The smallest and the largest 32-byte id that begin with these digits.
    pub fn range(&self) -> ([u8; 32], [u8; 32]) {
        let fill = |pad: char| {
            let mut text = self.digits.clone();
            text.extend(std::iter::repeat_n(pad, 64 - self.digits.len()));
            parse_hex(&text).expect("a parsed prefix holds at most 64 hex digits")
        };
        (fill('0'), fill('f'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_own_text() {
        let id = BlobId::of(b"abc");
        assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
        assert_eq!(id.to_string(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }

    #[test]
    fn wrong_length_case_and_digits_are_refused() {
        for bad in ["", "64", &"A".repeat(64), &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
            assert!(bad.parse::<TreeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_covers_exactly_the_ids_that_start_with_it() {
        let (low, high) = IdPrefix::parse("ab12f").unwrap().range();
        assert_eq!(&low[..3], &[0xab, 0x12, 0xf0]);
        assert_eq!(&high[..3], &[0xab, 0x12, 0xff]);
        assert_eq!(low[31], 0);
        assert_eq!(high[31], 255);
        assert!(IdPrefix::parse("ab1").is_none());
        assert!(IdPrefix::parse("main").is_none());
    }
}
