//! Finding secrets where they must not be.
//!
//! What is searched for: a secret's bytes as a whole, without white space at their end, and what base64 makes of them wherever they stand in
//! a longer text. Other encodings, compressed or encrypted copies, and parts of a secret are not found.

use memchr::memmem;
use serde::{Deserialize, Serialize};

/// Shorter secrets cannot be searched for: their bytes turn up everywhere.
pub const MIN_SECRET_BYTES: usize = 8;

/// What stands in place of a secret.
const MASK: &[u8] = b"***";

/// Secrets to look for. Its `Debug` shows none of them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needles {
    /// Each form of a secret, with the number of the secret.
    forms: Vec<(usize, Vec<u8>)>,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} forms of secrets", self.forms.len())
    }
}

/// A secret that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leak {
    /// Which secret, counted from 0 in the order in which they were added.
    pub secret: usize,
    /// In which part of an entry.
    pub part: LeakPart,
    /// The entry's path, with secrets in it masked.
    pub path: Vec<u8>,
}

/// The part of an entry that holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeakPart {
    /// The bytes of a file.
    Content,
    /// Its path.
    Name,
    /// The target of a symbolic link.
    Target,
    /// The name or value of an extended attribute.
    Attribute,
}

impl Needles {
    /// Adds a secret; `false` when it is too short to be searched for.
    pub fn add(&mut self, secret: usize, bytes: &[u8]) -> bool {
        let bytes = bytes.trim_ascii_end();
        if bytes.len() < MIN_SECRET_BYTES {
            return false;
        }
        let mut forms = vec![bytes.to_vec()];
        for offset in 0..3 {
            let text = base64_within(bytes, offset);
            let url: Vec<u8> = text
                .iter()
                .map(|byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => *other,
                })
                .collect();
            if url != text {
                forms.push(url);
            }
            forms.push(text);
        }
        self.forms.extend(forms.into_iter().map(|form| (secret, form)));
        true
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// The first secret in these bytes.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        self.forms.iter().find(|(_, form)| memmem::find(bytes, form).is_some()).map(|(secret, _)| *secret)
    }

    /// The bytes with every secret masked. With `cut`, the bytes were cut off at their end, so that a secret may have begun there.
    pub fn mask(&self, bytes: &[u8], cut: bool) -> Option<Vec<u8>> {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for (_, form) in &self.forms {
            spans.extend(memmem::find_iter(bytes, form).map(|start| (start, start + form.len())));
            if cut {
                let longest = form.len().min(bytes.len() + 1) - 1;
                let begun = (MIN_SECRET_BYTES / 2..=longest).rev().find(|len| bytes.ends_with(&form[..*len]));
                spans.extend(begun.map(|len| (bytes.len() - len, bytes.len())));
            }
        }
        if spans.is_empty() {
            return None;
        }
        spans.sort_unstable();
        let mut masked = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for (start, end) in spans {
            if start >= at {
                masked.extend_from_slice(&bytes[at..start]);
                masked.extend_from_slice(MASK);
            }
            at = at.max(end);
        }
        masked.extend_from_slice(&bytes[at..]);
        Some(masked)
    }

    /// A search through bytes that come in pieces.
    pub fn search(&self) -> Search<'_> {
        let overlap = self.forms.iter().map(|(_, form)| form.len()).max().unwrap_or(1) - 1;
        let finders = self.forms.iter().map(|(secret, form)| (*secret, memmem::Finder::new(form)));
        Search { finders: finders.collect(), overlap, window: Vec::new() }
    }
}

/// A search under way.
pub struct Search<'n> {
    finders: Vec<(usize, memmem::Finder<'n>)>,
    /// How much of the end of a piece a secret may share with the next.
    overlap: usize,
    window: Vec<u8>,
}

impl Search<'_> {
    /// Begins anew, with other bytes.
    pub fn restart(&mut self) {
        self.window.clear();
    }

    /// Looks at the next piece; the first secret that ends in it.
    pub fn feed(&mut self, piece: &[u8]) -> Option<usize> {
        if self.finders.is_empty() {
            return None;
        }
        let find = |finders: &[(usize, memmem::Finder<'_>)], bytes: &[u8]| {
            finders.iter().find(|(_, finder)| finder.find(bytes).is_some()).map(|(secret, _)| *secret)
        };
        // What lies across the border: the end of what came before, and as much of this piece as could belong to it.
        let before = self.window.len();
        let found = if before > 0 {
            self.window.extend_from_slice(&piece[..piece.len().min(self.overlap)]);
            find(&self.finders, &self.window)
        } else {
            None
        };
        self.window.truncate(before);
        let found = found.or_else(|| find(&self.finders, piece));
        if piece.len() >= self.overlap {
            self.window.clear();
            self.window.extend_from_slice(&piece[piece.len() - self.overlap..]);
        } else {
            self.window.extend_from_slice(piece);
            let surplus = self.window.len().saturating_sub(self.overlap);
            self.window.drain(..surplus);
        }
        found
    }
}

/// The digits of base64 that these bytes alone decide when `offset` bytes, modulo 3, stand before them.
fn base64_within(bytes: &[u8], offset: usize) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    // Of the first group the digits that the bytes before also decide are left out, and of the last those that bytes behind do.
    let bits = bytes.len() * 8;
    let mut at = [0, 4, 2][offset];
    while at + 6 <= bits {
        let high = u16::from(bytes[at / 8]) << 8;
        let low = bytes.get(at / 8 + 1).map_or(0, |byte| u16::from(*byte));
        let digit = ((high | low) >> (10 - at % 8)) & 0x3f;
        out.push(DIGITS[usize::from(digit)]);
        at += 6;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn needles(secrets: &[&[u8]]) -> Needles {
        let mut needles = Needles::default();
        for (number, secret) in secrets.iter().enumerate() {
            assert!(needles.add(number, secret));
        }
        needles
    }

    fn base64(bytes: &[u8]) -> Vec<u8> {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().div_ceil(3) * 3, 0);
        base64_within(&padded, 0)
    }

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_lies_and_however_the_bytes_come(
            secret in prop::collection::vec(1u8..32, 8..40),
            before in prop::collection::vec(any::<u8>(), 0..100),
            after in prop::collection::vec(any::<u8>(), 0..100),
            piece in 1usize..50,
            encoded in any::<bool>(),
        ) {
            let needles = needles(&[b"some other secret", &[&secret[..], b"~"].concat()]);
            let mut bytes = [&before[..], &secret, b"~", &after].concat();
            if encoded {
                bytes = base64(&bytes);
            }
            prop_assert_eq!(needles.find(&bytes), Some(1));
            let mut search = needles.search();
            let found: Vec<_> = bytes.chunks(piece).filter_map(|piece| search.feed(piece)).collect();
            prop_assert_eq!(found.first(), Some(&1));
            search.restart();
            prop_assert_eq!(search.feed(b"nothing"), None);
        }
    }

    #[test]
    fn the_base64_of_a_secret_is_that_of_other_programs() {
        // `printf 'user:open sesame' | base64`
        let text = b"auth = dXNlcjpvcGVuIHNlc2FtZQ==";
        assert_eq!(needles(&[b"open sesame\n"]).find(text), Some(0));
        assert_eq!(needles(&[b"open sesamE"]).find(text), None);
    }

    #[test]
    fn output_is_masked_also_where_it_was_cut() {
        let needles = needles(&[b"open sesame"]);
        let mask = |text: &str, cut| {
            needles.mask(text.as_bytes(), cut).map(|masked| String::from_utf8(masked).unwrap())
        };
        assert_eq!(mask("a open sesame, open sesame!", false).unwrap(), "a ***, ***!");
        assert_eq!(mask("nothing", true), None);
        assert_eq!(mask("it is open ses", false), None);
        assert_eq!(mask("it is open ses", true).unwrap(), "it is ***");
        assert!(!format!("{needles:?}").contains("sesame"));
    }

    #[test]
    fn a_short_secret_cannot_be_searched_for() {
        assert!(!Needles::default().add(0, b"1234567\n"));
    }
}
