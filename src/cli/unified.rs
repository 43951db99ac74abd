//! Hunks of the unified format: lines that differ with some equal ones around them.

use std::ops::Range;

use treebox::Hunk;
use treebox::object::lines;

use super::output::{ADDED, DELETED, HUNK, PLAIN, Span};

/// Equal lines around a difference, unless it is said otherwise; as many as Git shows.
pub(super) const DEFAULT_CONTEXT: usize = 3;
/// How much of a line that tells where a hunk is stands behind its `@@`, in bytes.
const MAX_HEADING_BYTES: usize = 80;

/// Differences that are shown together, with the lines around them on both sides.
#[derive(Debug, PartialEq, Eq)]
struct Group<'h> {
    old: Range<usize>,
    new: Range<usize>,
    hunks: &'h [Hunk],
}

/// Joins differences whose surroundings touch.
fn groups(hunks: &[Hunk], context: usize, old_lines: usize) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    let mut rest = hunks;
    while !rest.is_empty() {
        let near = |pair: &[Hunk]| pair[1].old.start - pair[0].old.end <= context.saturating_mul(2);
        let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (here, after) = rest.split_at(count);
        let (first, last) = (&here[0], &here[count - 1]);
        let before = context.min(first.old.start);
        let behind = context.min(old_lines - last.old.end);
        groups.push(Group {
            old: first.old.start - before..last.old.end + behind,
            new: first.new.start - before..last.new.end + behind,
            hunks: here,
        });
        rest = after;
    }
    groups
}

/// The hunks of two texts, a line at a time.
pub(super) fn unified<E>(
    old: &[u8],
    new: &[u8],
    hunks: &[Hunk],
    context: usize,
    write: &mut dyn FnMut(Vec<Span>) -> Result<(), E>,
) -> Result<(), E> {
    let (old, new) = (lines(old), lines(new));
    for group in groups(hunks, context, old.len()) {
        let mut head = vec![Span::text(HUNK, format!("@@ -{} +{} @@", span(&group.old), span(&group.new)))];
        if let Some(heading) = heading(&old[..group.old.start]) {
            head.push(Span::text(PLAIN, [b" ", heading].concat()));
        }
        write(head)?;
        let mut at = group.old.start;
        for hunk in group.hunks {
            some(&old[at..hunk.old.start], b' ', write)?;
            some(&old[hunk.old.clone()], b'-', write)?;
            some(&new[hunk.new.clone()], b'+', write)?;
            at = hunk.old.end;
        }
        some(&old[at..group.old.end], b' ', write)?;
    }
    Ok(())
}

fn some<E>(lines: &[&[u8]], mark: u8, write: &mut dyn FnMut(Vec<Span>) -> Result<(), E>) -> Result<(), E> {
    let style = match mark {
        b'-' => DELETED,
        b'+' => ADDED,
        _ => PLAIN,
    };
    for line in lines {
        let ended = line.strip_suffix(b"\n");
        write(vec![Span::text(style, [&[mark], ended.unwrap_or(line)].concat())])?;
        if ended.is_none() {
            write(vec![Span::text(PLAIN, *b"\\ No newline at end of file")])?;
        }
    }
    Ok(())
}

/// `start,count`, counted from 1; an empty range names the line before it, and a count of 1 is left out.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        count => format!("{},{count}", range.start + 1),
    }
}

/// The nearest line above that begins something, as far as its first letter tells: Git's own rule.
fn heading<'t>(above: &[&'t [u8]]) -> Option<&'t [u8]> {
    let begins =
        |line: &&&[u8]| line.first().is_some_and(|byte| byte.is_ascii_alphabetic() || b"_$".contains(byte));
    let line = above.iter().rev().find(begins)?;
    let cut = &line[..line.len().min(MAX_HEADING_BYTES)];
    // A letter of several bytes is not cut through.
    let cut = cut.utf8_chunks().next().map_or(cut, |chunk| chunk.valid().as_bytes());
    Some(cut.trim_ascii_end()).filter(|cut| !cut.is_empty())
}

#[cfg(test)]
mod tests {
    use treebox::object::line_hunks;

    use super::*;

    fn text(old: &str, new: &str, context: usize) -> String {
        let mut text = Vec::new();
        let hunks = line_hunks(old.as_bytes(), new.as_bytes());
        unified::<()>(old.as_bytes(), new.as_bytes(), &hunks, context, &mut |spans| {
            for span in spans {
                text.extend_from_slice(span.bytes());
            }
            text.push(b'\n');
            Ok(())
        })
        .unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn near_differences_share_a_hunk_and_far_ones_do_not() {
        let old = "a\nb\nc\nd\ne\nf\n";
        let new = "A\nb\nc\nD\ne\nf\n";
        assert_eq!(text(old, new, 1), "@@ -1,5 +1,5 @@\n-a\n+A\n b\n c\n-d\n+D\n e\n");
        assert_eq!(text(old, new, 0), "@@ -1 +1 @@\n-a\n+A\n@@ -4 +4 @@ c\n-d\n+D\n");
    }

    #[test]
    fn an_empty_side_names_the_line_before_it() {
        assert_eq!(text("", "x\n", 3), "@@ -0,0 +1 @@\n+x\n");
        assert_eq!(text("a\nb\n", "a\n", 3), "@@ -1,2 +1 @@\n a\n-b\n");
        assert_eq!(text("a\n", "a\nb\n", 0), "@@ -1,0 +2 @@ a\n+b\n");
    }

    #[test]
    fn a_missing_newline_is_marked_as_git_marks_it() {
        let mark = "\\ No newline at end of file\n";
        assert_eq!(text("a", "a\n", 3), format!("@@ -1 +1 @@\n-a\n{mark}+a\n"));
        assert_eq!(text("x\na", "y\na", 3), format!("@@ -1,2 +1,2 @@\n-x\n+y\n a\n{mark}"));
    }

    proptest::proptest! {
        /// The hunks say how many lines they hold, and lead from the one text to the other.
        #[test]
        fn hunks_applied_to_the_older_text_give_the_newer(
            old in "[abc\n]{0,80}", new in "[abc\n]{0,80}", context in 0_usize..5,
        ) {
            let patch = text(&old, &new, context);
            let left: Vec<&str> = old.split_inclusive('\n').collect();
            let (mut made, mut at) = (String::new(), 0);
            let mut counts = (0, 0);
            for line in patch.lines() {
                if let Some(head) = line.strip_prefix("@@ -") {
                    proptest::prop_assert_eq!(counts, (0, 0));
                    let mut ranges = head.split(' ').take(2).map(|range| {
                        let mut numbers = range.trim_start_matches('+').split(',').map(|n| n.parse::<usize>().unwrap());
                        (numbers.next().unwrap(), numbers.next().unwrap_or(1))
                    });
                    let ((start, removed), (_, added)) = (ranges.next().unwrap(), ranges.next().unwrap());
                    let start = if removed == 0 { start } else { start - 1 };
                    made.push_str(&left[at..start].concat());
                    at = start;
                    counts = (removed, added);
                    continue;
                }
                let (mark, rest) = line.split_at(1);
                match mark {
                    "\\" => { made.pop(); continue }
                    "-" => { at += 1; counts.0 -= 1 }
                    "+" => { made.push_str(rest); made.push('\n'); counts.1 -= 1 }
                    _ => { made.push_str(rest); made.push('\n'); at += 1; counts.0 -= 1; counts.1 -= 1 }
                }
            }
            // A mark behind a removed line took the newline of the line before it: put it back.
            made.push_str(&left[at..].concat());
            proptest::prop_assert_eq!(counts, (0, 0));
            proptest::prop_assert_eq!(made.replace('\n', ""), new.replace('\n', ""));
        }
    }
}
