//! Digests as OCI writes them: `algorithm:hex`.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};

use super::error::ImportError;

/// A validated digest; its parts are safe to use in a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// The hash functions of the image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl Digest {
    /// Reads `sha256:` or `sha512:` with lower-case hex digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, hex) = text.split_once(':')?;
        let (algorithm, digits) = match word {
            "sha256" => (Algorithm::Sha256, 64),
            "sha512" => (Algorithm::Sha512, 128),
            _ => return None,
        };
        let valid =
            hex.len() == digits && hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self { algorithm, hex: hex.to_owned() })
    }

    pub(super) fn require(text: &str, what: &str) -> Result<Self, ImportError> {
        Self::parse(text).ok_or_else(|| ImportError::Digest {
            what: what.to_owned(),
            text: text.chars().take(80).collect(),
        })
    }

    /// The digest of bytes at hand.
    pub(super) fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits.
    pub(super) fn hex(&self) -> &str {
        &self.hex
    }

    /// The digest of the blob that lies there in an OCI layout.
    pub(super) fn of_blob_path(path: &str) -> Option<Self> {
        let (word, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
        Self::parse(&format!("{word}:{hex}"))
    }

    /// Where the blob lies in an OCI layout.
    pub(super) fn blob_path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm.word(), self.hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.word(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Computes a [`Digest`] from a stream of bytes.
#[derive(Clone)]
pub(super) enum Hasher {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Box::default()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest { algorithm: Algorithm::Sha256, hex: hex(&hasher.finalize()) },
            Self::Sha512(hasher) => Digest { algorithm: Algorithm::Sha512, hex: hex(&hasher.finalize()) },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_digest_can_become_part_of_a_path() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(Digest::parse(&good).unwrap().to_string(), good);
        for bad in [
            "sha256:../../etc/passwd",
            "sha256:",
            "../x:00",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("sha256:{}", "0A".repeat(32)),
            &format!("sha512:{}", "0a".repeat(32)),
            &format!("sha256:{}/", "0a".repeat(32)),
        ] {
            assert!(Digest::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), empty);
    }
}
