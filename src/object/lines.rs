//! Which lines of two texts differ.
//!
//! The only file that names the library which compares them.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// The longest content that is compared line by line, in bytes; what is longer is compared as a whole.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// How much of a content is looked at to tell whether it is text, in bytes: as much as Git looks at.
pub const TEXT_PROBE_BYTES: usize = 8000;

/// A run of lines that differs: in the older text these, in the newer text those, counted from 0. One of both may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// Lines of the older text.
    pub old: Range<usize>,
    /// Lines of the newer text.
    pub new: Range<usize>,
}

/// Whether a content is text that may be compared line by line: no NUL among its first bytes, as Git decides, and not too long.
pub fn is_text(content: &[u8]) -> bool {
    content.len() <= MAX_TEXT_BYTES && !content[..content.len().min(TEXT_PROBE_BYTES)].contains(&0)
}

/// The lines of a text, each with its newline; the last may have none.
pub fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// The runs of lines that differ between two texts, in order; between them lie equal lines.
pub fn line_hunks(old: &[u8], new: &[u8]) -> Vec<Hunk> {
    // By its own lines rather than the library's, so that the numbers are those of `lines` for any bytes.
    let mut input = InternedInput::default();
    input.update_before(lines(old).into_iter());
    input.update_after(lines(new).into_iter());
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_no_heuristic(&input);
    let range = |range: Range<u32>| range.start as usize..range.end as usize;
    diff.hunks().map(|hunk| Hunk { old: range(hunk.before), new: range(hunk.after) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_found_and_counted_from_nought() {
        let hunks = line_hunks(b"a\nb\nc\nd\n", b"a\nB\nc\nd\ne");
        assert_eq!(hunks, [Hunk { old: 1..2, new: 1..2 }, Hunk { old: 4..4, new: 4..5 }]);
        assert_eq!(line_hunks(b"same\n", b"same\n"), []);
        assert_eq!(line_hunks(b"", b"x"), [Hunk { old: 0..0, new: 0..1 }]);
        assert_eq!(line_hunks(b"x\n", b"x"), [Hunk { old: 0..1, new: 0..1 }], "a lost newline is a change");
    }

    #[test]
    fn a_nul_among_the_first_bytes_makes_a_content_binary() {
        assert!(is_text(b"") && is_text(b"gr\xfcn\n") && !is_text(b"\x7fELF\0"));
        assert!(
            is_text(&[vec![b'x'; TEXT_PROBE_BYTES], vec![0]].concat()),
            "only the first bytes are looked at"
        );
        assert!(!is_text(&vec![b'x'; MAX_TEXT_BYTES + 1]));
    }

    proptest::proptest! {
        /// What the hunks say makes the newer text of the older one.
        #[test]
        fn hunks_lead_from_one_text_to_the_other(old in "[ab\n]{0,60}", new in "[ab\n]{0,60}") {
            let (left, right) = (lines(old.as_bytes()), lines(new.as_bytes()));
            let (mut made, mut at) = (Vec::new(), 0);
            for hunk in line_hunks(old.as_bytes(), new.as_bytes()) {
                made.extend_from_slice(&left[at..hunk.old.start]);
                made.extend_from_slice(&right[hunk.new.clone()]);
                at = hunk.old.end;
            }
            made.extend_from_slice(&left[at..]);
            proptest::prop_assert_eq!(made.concat(), new.into_bytes());
        }
    }
}
