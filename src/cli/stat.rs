//! `--stat` and `--numstat`: how much differs, path by path.

use treebox::blocking::Engine;
use treebox::object::{Kind, TreePath};
use treebox::{ChangeCounts, ChangeKind, Contents, Difference};

use super::exit::Failure;
use super::output::{ADDED, DELETED, PLAIN, Span};
use super::patch::Write;
use super::{patch, text};

/// How much of one path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Amount {
    /// Lines of a text.
    Lines {
        /// Only in the newer one.
        added: u64,
        /// Only in the older one.
        deleted: u64,
    },
    /// Bytes of something that is no text.
    Bytes {
        /// Before.
        old: u64,
        /// After.
        new: u64,
    },
    /// No content, but this.
    Other(String),
}

/// How much a difference is; reads what has to be compared.
pub(super) fn amount(engine: &Engine, difference: &Difference) -> Result<Amount, Failure> {
    let (old, new) = (difference.change.old.as_ref(), difference.change.new.as_ref());
    let contents = engine.compare_contents(old, new);
    match contents.map_err(|error| error.met_at(&difference.change.path))? {
        Contents::Text { hunks, .. } => {
            let (mut added, mut deleted) = (0, 0);
            for hunk in &hunks {
                added += hunk.new.len() as u64;
                deleted += hunk.old.len() as u64;
            }
            Ok(Amount::Lines { added, deleted })
        }
        Contents::Binary { .. } => {
            let size = |entry: Option<&_>| entry.map_or(0, text::entry_size);
            Ok(Amount::Bytes { old: size(old), new: size(new) })
        }
        Contents::Equal => Ok(match (old, new) {
            (Some(old), Some(new)) if old.node.kind() == new.node.kind() => {
                let words = patch::attributes(old, new);
                match (words.is_empty(), difference.renamed_from.is_some()) {
                    (false, _) => Amount::Other(words.join(", ")),
                    (true, true) => Amount::Lines { added: 0, deleted: 0 },
                    (true, false) => Amount::Other(match new.node.kind() {
                        Kind::Char | Kind::Block if old.node != new.node => patch::described(&new.node),
                        _ => "time".to_owned(),
                    }),
                }
            }
            (Some(old), Some(new)) => {
                Amount::Other(format!("{} -> {}", patch::described(&old.node), patch::described(&new.node)))
            }
            (None, Some(new)) if new.node.kind() != Kind::File => {
                Amount::Other(format!("new {}", patch::described(&new.node)))
            }
            (Some(old), None) if old.node.kind() != Kind::File => {
                Amount::Other(format!("deleted {}", patch::described(&old.node)))
            }
            _ => Amount::Lines { added: 0, deleted: 0 },
        }),
    }
}

/// `ADDED<tab>DELETED<tab>PATH`, `-` for what has no lines.
pub(super) fn numstat(
    engine: &Engine,
    differences: &[Difference],
    write: &mut Write<'_>,
) -> Result<(), Failure> {
    for difference in differences {
        let counts = match amount(engine, difference)? {
            Amount::Lines { added, deleted } => format!("{added}\t{deleted}\t"),
            Amount::Bytes { .. } => "-\t-\t".to_owned(),
            Amount::Other(_) => "0\t0\t".to_owned(),
        };
        write(vec![Span::text(PLAIN, counts), Span::name(named(difference))])?;
    }
    Ok(())
}

/// The path, with the one before it when it was moved.
fn named(difference: &Difference) -> Vec<u8> {
    let path = difference.change.path.to_bytes();
    match &difference.renamed_from {
        Some(from) => [TreePath::to_bytes(from).as_slice(), b" => ", &path].concat(),
        None => path,
    }
}

/// The widths of a table, as Git divides a line.
struct Widths {
    name: usize,
    number: usize,
    graph: usize,
}

impl Widths {
    fn fitting(names: usize, number: usize, graph: usize, columns: usize) -> Self {
        // A blank before the name, ` | ` behind it, a blank between number and graph.
        let around = number + 6;
        let mut fit = Self { name: names, number, graph };
        if fit.name + around + fit.graph > columns {
            fit.graph = fit.graph.min((columns * 3 / 8).saturating_sub(around).max(6));
            let left = columns.saturating_sub(around + fit.graph).max(10);
            if fit.name > left {
                fit.name = left;
            } else {
                // What short names leave, the bars have.
                fit.graph = columns.saturating_sub(around + fit.name).max(fit.graph);
            }
        }
        fit
    }
}

/// A table with a bar for each path, and a summary.
pub(super) fn stat(
    engine: &Engine,
    differences: &[Difference],
    columns: usize,
    write: &mut Write<'_>,
) -> Result<(), Failure> {
    let amounts: Vec<Amount> =
        differences.iter().map(|difference| amount(engine, difference)).collect::<Result<_, _>>()?;
    let names: Vec<String> =
        differences.iter().map(|difference| text::escaped(&named(difference), false)).collect();
    let most = amounts.iter().map(|amount| match amount {
        Amount::Lines { added, deleted } => added + deleted,
        _ => 0,
    });
    let most = most.max().unwrap_or(0);
    let bytes = amounts.iter().any(|amount| matches!(amount, Amount::Bytes { .. }));
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let number = most.to_string().len().max(if bytes { 3 } else { 1 });
    let widths = Widths::fitting(widest, number, usize::try_from(most).unwrap_or(usize::MAX), columns);
    for (name, amount) in names.iter().zip(&amounts) {
        let name = shortened(name, widths.name);
        let pad = widths.name - name.chars().count();
        let mut line = vec![Span::text(PLAIN, format!(" {name}{:pad$} | ", ""))];
        match amount {
            Amount::Lines { added, deleted } => {
                let (plus, minus) = bar(*added, *deleted, widths.graph, most);
                let number = widths.number;
                let blank = if plus + minus > 0 { " " } else { "" };
                line.push(Span::text(PLAIN, format!("{:>number$}{blank}", added + deleted)));
                line.extend((plus > 0).then(|| Span::text(ADDED, "+".repeat(plus))));
                line.extend((minus > 0).then(|| Span::text(DELETED, "-".repeat(minus))));
            }
            Amount::Bytes { old, new } => {
                let number = widths.number;
                line.extend([
                    Span::text(PLAIN, format!("{:>number$} ", "Bin")),
                    Span::text(DELETED, old.to_string()),
                    Span::text(PLAIN, " -> "),
                    Span::text(ADDED, new.to_string()),
                    Span::text(PLAIN, " bytes"),
                ]);
            }
            Amount::Other(words) => line.push(Span::text(PLAIN, words.as_str())),
        }
        write(line)?;
    }
    if !differences.is_empty() {
        write(vec![Span::text(PLAIN, summary(differences, &amounts))])?;
    }
    Ok(())
}

/// ` 3 paths changed: 1 added, 1 modified, 1 deleted; 2 insertions(+), 1 deletion(-); +12 B`
fn summary(differences: &[Difference], amounts: &[Amount]) -> String {
    let (mut counts, mut renamed, mut grown) = (ChangeCounts::default(), 0_u64, 0_i128);
    for Difference { change, renamed_from } in differences {
        let size = |entry: &Option<_>| entry.as_ref().map_or(0, text::entry_size);
        grown += i128::from(size(&change.new)) - i128::from(size(&change.old));
        match change.kind() {
            _ if renamed_from.is_some() => renamed += 1,
            ChangeKind::Added => counts.added += 1,
            ChangeKind::Modified => counts.modified += 1,
            ChangeKind::Deleted => counts.deleted += 1,
        }
    }
    let kinds = [
        (counts.added, "added"),
        (counts.modified, "modified"),
        (counts.deleted, "deleted"),
        (renamed, "renamed"),
    ];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let (mut added, mut deleted) = (0, 0);
    for amount in amounts {
        if let Amount::Lines { added: more, deleted: less } = amount {
            added += more;
            deleted += less;
        }
    }
    let mut lines = Vec::new();
    if added > 0 {
        lines.push(text::count(added, "insertion(+)", "insertions(+)"));
    }
    if deleted > 0 {
        lines.push(text::count(deleted, "deletion(-)", "deletions(-)"));
    }
    let sign = if grown < 0 { '-' } else { '+' };
    let total = u64::try_from(grown.unsigned_abs()).unwrap_or(u64::MAX);
    let paths = text::count(differences.len() as u64, "path", "paths");
    let lines = if lines.is_empty() { String::new() } else { format!("; {}", lines.join(", ")) };
    format!(" {paths} changed: {}{lines}; {sign}{}", kinds.join(", "), text::size(total))
}

/// A name that is too wide keeps its end, from a slash on where one is.
fn shortened(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_owned();
    }
    let kept: String = name.chars().skip(count - (width - 3)).collect();
    match kept.find('/') {
        Some(slash) => format!("...{}", &kept[slash..]),
        None => format!("...{kept}"),
    }
}

/// How many `+` and `-` stand for so many lines, when the most of all has the whole width.
fn bar(added: u64, deleted: u64, width: usize, most: u64) -> (usize, usize) {
    let exact = |lines: u64| usize::try_from(lines).unwrap_or(usize::MAX);
    if u64::try_from(width).is_ok_and(|width| most <= width) {
        return (exact(added), exact(deleted));
    }
    let scaled = |lines: u64| match lines {
        0 => 0,
        // Something is seen of every change, and the most of all is not more than the width.
        lines => 1 + exact(lines * (width as u64 - 1) / most),
    };
    let total = match scaled(added + deleted) {
        0 | 1 if added > 0 && deleted > 0 => 2,
        total => total,
    };
    if added < deleted {
        let plus = scaled(added);
        (plus, total.saturating_sub(plus))
    } else {
        let minus = scaled(deleted);
        (total.saturating_sub(minus), minus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_exact_where_they_fit_and_scaled_where_not() {
        assert_eq!(bar(3, 2, 10, 5), (3, 2));
        assert_eq!(bar(1000, 0, 10, 1000), (10, 0));
        assert_eq!(bar(500, 500, 10, 1000), (5, 5));
        assert_eq!(bar(1, 1, 10, 1000), (1, 1));
        assert_eq!(bar(0, 1, 10, 1000), (0, 1));
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("/a/b", 4), "/a/b");
        assert_eq!(shortened("/usr/share/doc/x", 12), ".../doc/x");
        assert_eq!(shortened("abcdefghijkl", 8), "...hijkl");
    }

    #[test]
    fn a_table_never_goes_over_the_columns() {
        for (names, most, columns) in [(200, 5000, 80), (20, 5000, 80), (200, 3, 80), (10, 10, 80)] {
            let fit = Widths::fitting(names, 4, most, columns);
            assert!(fit.name + 4 + 6 + fit.graph <= columns, "{names} {most}");
        }
    }
}
