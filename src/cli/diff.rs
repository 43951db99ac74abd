//! `treebox diff`: what differs between two states.

use std::ffi::OsString;

use treebox::{Change, ChangeKind};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::{Context, records, rev_path, text};

/// Show what differs between two states
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox diff [OPTIONS] OLD [NEW] [-- PATH…]")]
pub(super) struct Args {
    /// The older state and the newer one [default: HEAD]; OLD..NEW is the same
    #[arg(value_name = "REV", required = true, num_args = 1..=2)]
    revs: Vec<String>,
    /// A letter (A added, M modified, D deleted) and the path; the default
    #[arg(long, conflicts_with = "stat")]
    name_status: bool,
    /// Sizes of each path, and a summary
    #[arg(long)]
    stat: bool,
    /// Exit 1 if anything differs
    #[arg(long)]
    exit_code: bool,
    /// Only at or below these
    #[arg(value_name = "PATH", last = true)]
    paths: Vec<OsString>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let paths = rev_path::paths(&args.paths)?;
    let engine = context.engine()?;
    let range = args.revs[0].split_once("..").filter(|_| args.revs.len() == 1);
    let (old, new) = match (range, args.revs.get(1)) {
        (Some((old, new)), _) => (old, new),
        (None, new) => (args.revs[0].as_str(), new.map_or("", String::as_str)),
    };
    let resolve = |rev: &str| if rev.is_empty() { engine.head_state() } else { engine.resolve(rev) };
    let changes = engine.diff(&resolve(old)?, &resolve(new)?, &paths)?;
    let out = &mut context.out;
    if out.json() {
        for record in changes.iter().filter_map(records::ChangeRecord::new) {
            out.record(&record)?;
        }
    } else if args.stat {
        stat(&changes, out)?;
    } else {
        name_status(&changes, out)?;
    }
    Ok(if args.exit_code && !changes.is_empty() { Exit::NO } else { Exit::DONE })
}

/// One line a path: the letter, a tab, the path.
pub(super) fn name_status(changes: &[Change], out: &mut Output) -> Result<(), Failure> {
    for change in changes {
        let kind = change.kind();
        let style = match kind {
            ChangeKind::Added => output::ADDED,
            ChangeKind::Modified => output::MODIFIED,
            ChangeKind::Deleted => output::DELETED,
        };
        write!(out, "{}\t", out.paint(style, kind.letter()))?;
        out.name(&change.path.to_bytes())?;
        out.bytes(b"\n")?;
    }
    Ok(())
}

/// One line a path: how its size changed; and a summary.
pub(super) fn stat(changes: &[Change], out: &mut Output) -> Result<(), Failure> {
    let names: Vec<_> = changes.iter().map(|change| change.path.to_bytes()).collect();
    let width = names.iter().map(|name| text::escaped(name, false).chars().count()).max().unwrap_or(0);
    let (mut counts, mut grown) = (treebox::ChangeCounts::default(), 0_i128);
    for (change, name) in changes.iter().zip(&names) {
        let size = |entry: &Option<_>| entry.as_ref().map(text::entry_size);
        let (old, new) = (size(&change.old), size(&change.new));
        grown += i128::from(new.unwrap_or(0)) - i128::from(old.unwrap_or(0));
        let told = match change.kind() {
            ChangeKind::Added => {
                counts.added += 1;
                format!("{} added", text::size(new.unwrap_or(0)))
            }
            ChangeKind::Deleted => {
                counts.deleted += 1;
                format!("{} deleted", text::size(old.unwrap_or(0)))
            }
            ChangeKind::Modified => {
                counts.modified += 1;
                format!("{} -> {} bytes", old.unwrap_or(0), new.unwrap_or(0))
            }
        };
        let shown = text::escaped(name, false).chars().count();
        write!(out, " ")?;
        out.name(name)?;
        writeln!(out, "{:pad$} | {told}", "", pad = width - shown)?;
    }
    let sign = if grown < 0 { '-' } else { '+' };
    let total = u64::try_from(grown.unsigned_abs()).unwrap_or(u64::MAX);
    writeln!(
        out,
        " {} changed: {} added, {} modified, {} deleted, {sign}{}",
        text::count(changes.len() as u64, "path", "paths"),
        counts.added,
        counts.modified,
        counts.deleted,
        text::size(total),
    )
}
