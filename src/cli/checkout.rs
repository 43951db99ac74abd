//! `treebox checkout`: move HEAD, or write a state's files to a new host directory.

use std::path::PathBuf;

use serde::Serialize;
use treebox::CheckoutOptions;
use treebox::object::TreePath;

use super::exit::{Exit, Failure};
use super::{Context, import, records, switch, text};

/// Move HEAD to a revision; with --to write its files to a new host directory instead
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A branch becomes the current one; anything else detaches HEAD
    rev: String,
    /// Write the files to this directory: a new or empty one, or one that an earlier checkout wrote, in which then only what differs
    /// is touched; HEAD stays. Owners are set where subordinate ids allow it; with --identity plain all files are yours
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Only what is at or below this path of the state
    #[arg(long, value_name = "PATH", requires = "to")]
    path: Option<String>,
    /// Replace what was changed by hand in a directory that an earlier checkout wrote
    #[arg(short, long, requires = "to")]
    force: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    record: records::WrittenRecord<'a>,
    written: u64,
    removed: u64,
    kept: u64,
    from: Option<String>,
    left: &'a [String],
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let Some(to) = &args.to else { return switch::tell(&engine.checkout(&args.rev)?, context) };
    let path = TreePath::parse(args.path.as_deref().unwrap_or("/").as_bytes())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let state = engine.resolve(&args.rev)?;
    let done = engine.checkout_with(&state, &path, to, &CheckoutOptions::new().force(args.force))?;
    let written = &done.written;
    let out = &mut context.out;
    if out.json() {
        out.record(&Record {
            record: records::WrittenRecord::new(state.id().to_string(), &path, to, written),
            written: written.entries,
            removed: done.removed,
            kept: done.kept,
            from: done.from.map(|id| id.to_string()),
            left: &done.left,
        })?;
    }
    let counts = match done.from {
        Some(_) => format!("{} written, {} removed, {} kept", written.entries, done.removed, done.kept),
        None => text::count(written.entries, "entry", "entries"),
    };
    let left = match done.left.as_slice() {
        [] => String::new(),
        [first, ..] => format!("; {} stays, since files of others are in it", first),
    };
    out.note(format_args!(
        "{counts} to {}{left}{}",
        to.display(),
        import::not_held(&written.skipped, out.verbose()),
    ));
    Ok(Exit::DONE)
}
