//! Merging two texts that came from one.

use std::ops::Range;

use crate::object::{Hunk, line_hunks, lines};

/// Joins what two sides changed in a text; `None` when they changed the same or touching lines in different ways.
///
/// Changes with no unchanged line between them count as touching, as in Git.
pub fn merge_texts(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    let base_lines = lines(base);
    let mut sides = [Changed::new(base, ours), Changed::new(base, theirs)];
    let (mut merged, mut at) = (Vec::with_capacity(ours.len().max(theirs.len())), 0);
    while let Some(start) = sides.iter().filter_map(Changed::next_start).min() {
        let mut region = start..start;
        let mut taken = [0..0, 0..0];
        // The region grows as long as a change of either side touches it.
        while (0..2).any(|side| sides[side].extend(&mut region, &mut taken[side])) {}
        merged.extend(base_lines[at..region.start].concat());
        let [left, right] = [0, 1].map(|side| sides[side].lines_in(&taken[side], &region));
        match (left, right) {
            (Some(left), Some(right)) if left == right => merged.extend(left.concat()),
            (Some(only), None) | (None, Some(only)) => merged.extend(only.concat()),
            _ => return None,
        }
        at = region.end;
    }
    merged.extend(base_lines[at..].concat());
    Some(merged)
}

/// What one side changed.
struct Changed<'t> {
    lines: Vec<&'t [u8]>,
    hunks: Vec<Hunk>,
    next: usize,
}

impl<'t> Changed<'t> {
    fn new(base: &[u8], text: &'t [u8]) -> Self {
        Self { lines: lines(text), hunks: line_hunks(base, text), next: 0 }
    }

    fn next_start(&self) -> Option<usize> {
        self.hunks.get(self.next).map(|hunk| hunk.old.start)
    }

    /// Takes the next change into a region when it touches that.
    fn extend(&mut self, region: &mut Range<usize>, taken: &mut Range<usize>) -> bool {
        let Some(hunk) = self.hunks.get(self.next).filter(|hunk| hunk.old.start <= region.end) else {
            return false;
        };
        region.end = region.end.max(hunk.old.end);
        if taken.start == taken.end {
            taken.start = self.next;
        }
        self.next += 1;
        taken.end = self.next;
        true
    }

    /// This side's lines for a region of the base; `None` when it changed nothing there.
    fn lines_in(&self, taken: &Range<usize>, region: &Range<usize>) -> Option<&[&'t [u8]]> {
        let hunks = &self.hunks[taken.clone()];
        let (first, last) = (hunks.first()?, hunks.last()?);
        let start = first.new.start - (first.old.start - region.start);
        let end = last.new.end + (region.end - last.old.end);
        Some(&self.lines[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::merge_texts;

    fn merged(base: &str, ours: &str, theirs: &str) -> Option<String> {
        merge_texts(base.as_bytes(), ours.as_bytes(), theirs.as_bytes())
            .map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn changes_apart_from_each_other_join() {
        let base = "1\n2\n3\n4\n5\n";
        assert_eq!(
            merged(base, "one\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\nsix\n").unwrap(),
            "one\n2\n3\n4\nfive\nsix\n"
        );
        assert_eq!(merged(base, "2\n3\n4\n5\n", "1\n2\n3\n5\n").unwrap(), "2\n3\n5\n");
        assert_eq!(merged(base, base, "x\n").unwrap(), "x\n");
        assert_eq!(merged("a\nb\nc", "A\nb\nc", "a\nb\nC").unwrap(), "A\nb\nC", "no newline at the end");
    }

    #[test]
    fn the_same_change_on_both_sides_is_made_once() {
        assert_eq!(merged("1\n2\n3\n", "1\nx\n3\n", "1\nx\n3\n").unwrap(), "1\nx\n3\n");
        assert_eq!(merged("1\n", "1\n2\n", "1\n2\n").unwrap(), "1\n2\n");
    }

    #[test]
    fn the_same_or_touching_lines_do_not_join() {
        assert_eq!(merged("1\n2\n3\n", "1\nx\n3\n", "1\ny\n3\n"), None);
        assert_eq!(merged("1\n2\n3\n", "x\n2\n3\n", "1\ny\n3\n"), None, "no line between them");
        assert_eq!(merged("1\n", "1\na\n", "1\nb\n"), None, "two things at one place");
        assert_eq!(merged("", "a\n", "b\n"), None);
        assert_eq!(
            merged("1\n2\n3\n4\n", "1\n4\n", "1\n2\nx\n4\n"),
            None,
            "one deletes what the other changes"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_side_that_changed_nothing_yields(base in "[ab\n]{0,60}", other in "[ab\n]{0,60}") {
            proptest::prop_assert_eq!(merged(&base, &base, &other), Some(other.clone()));
            proptest::prop_assert_eq!(merged(&base, &other, &base), Some(other.clone()));
            proptest::prop_assert_eq!(merged(&base, &other, &other), Some(other));
        }

        #[test]
        fn sides_may_be_exchanged(base in "[ab\n]{0,60}", ours in "[ab\n]{0,60}", theirs in "[ab\n]{0,60}") {
            proptest::prop_assert_eq!(merged(&base, &ours, &theirs), merged(&base, &theirs, &ours));
        }
    }
}
