//! Lines on their way back through older texts, as blame follows them.

use super::lines::Hunk;

/// Some lines of the newest text and where they stand in an older one; all counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineRun {
    /// The first of them in the newest text.
    pub first: usize,
    /// The first of them in the text that is looked at.
    pub here: usize,
    /// How many.
    pub len: usize,
}

/// Divides lines of a text into those that an older text has, then with their places in that one, and those that came after it.
///
/// The hunks lead from the older text to this one.
pub fn pass_lines(runs: &[LineRun], hunks: &[Hunk]) -> (Vec<LineRun>, Vec<LineRun>) {
    let (mut passed, mut kept) = (Vec::new(), Vec::new());
    for run in runs {
        let end = run.here + run.len;
        let mut at = run.here;
        let mut next = hunks.partition_point(|hunk| hunk.new.end <= at);
        while at < end {
            let hunk = hunks.get(next);
            let part = |here: usize, len| LineRun { first: run.first + (here - run.here), here, len };
            match hunk {
                Some(hunk) if hunk.new.start <= at && at < hunk.new.end => {
                    let stop = end.min(hunk.new.end);
                    kept.push(part(at, stop - at));
                    at = stop;
                }
                // Up to the next hunk, or to the end, the lines are those of the older text, further up or down.
                hunk => {
                    let stop = hunk.map_or(end, |hunk| end.min(hunk.new.start.max(at)));
                    let before = hunks[..next].last();
                    let (old, new) = before.map_or((0, 0), |hunk| (hunk.old.end, hunk.new.end));
                    if stop > at {
                        let mut older = part(at, stop - at);
                        older.here = at - new + old;
                        passed.push(older);
                        at = stop;
                    }
                }
            }
            next += usize::from(hunks.get(next).is_some_and(|hunk| hunk.new.end <= at));
        }
    }
    (passed, kept)
}

#[cfg(test)]
mod tests {
    use super::super::lines::{line_hunks, lines};
    use super::*;

    #[test]
    fn lines_between_hunks_are_older_and_lines_in_them_are_new() {
        let hunks = line_hunks(b"a\nb\nc\nd\n", b"x\na\nB\nc\nd\ny\n");
        let run = LineRun { first: 10, here: 0, len: 6 };
        let (passed, kept) = pass_lines(&[run], &hunks);
        let run = |first, here, len| LineRun { first, here, len };
        assert_eq!(passed, [run(11, 0, 1), run(13, 2, 2)]);
        assert_eq!(kept, [run(10, 0, 1), run(12, 2, 1), run(15, 5, 1)]);
    }

    #[test]
    fn a_deletion_moves_what_follows_and_keeps_nothing() {
        let hunks = line_hunks(b"a\nb\nc\n", b"a\nc\n");
        let (passed, kept) = pass_lines(&[LineRun { first: 0, here: 0, len: 2 }], &hunks);
        let run = |first, here, len| LineRun { first, here, len };
        assert_eq!((passed, kept), (vec![run(0, 0, 1), run(1, 2, 1)], vec![]));
    }

    proptest::proptest! {
        /// Every line is passed or kept, once, and what is passed is the same line in the older text.
        #[test]
        fn every_line_goes_one_way_and_stays_the_same(
            old in "[ab\n]{0,40}", new in "[ab\n]{0,40}", from in 0_usize..10, len in 0_usize..20,
        ) {
            let (left, right) = (lines(old.as_bytes()), lines(new.as_bytes()));
            let from = from.min(right.len());
            let len = len.min(right.len() - from);
            let runs = [LineRun { first: from + 100, here: from, len }];
            let (passed, kept) = pass_lines(&runs, &line_hunks(old.as_bytes(), new.as_bytes()));
            let mut seen = vec![0; len];
            for run in &passed {
                for at in 0..run.len {
                    let newest = run.first + at - 100;
                    seen[newest - from] += 1;
                    proptest::prop_assert_eq!(left[run.here + at], right[newest]);
                }
            }
            for run in &kept {
                proptest::prop_assert_eq!(run.first, run.here + 100);
                (0..run.len).for_each(|at| seen[run.here + at - from] += 1);
            }
            proptest::prop_assert!(seen.iter().all(|count| *count == 1));
        }
    }
}
