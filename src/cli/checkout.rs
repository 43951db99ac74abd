//! `treebox checkout`: move HEAD, or write a state's files to a new host directory.

use std::path::PathBuf;

use treebox::object::TreePath;

use super::exit::{Exit, Failure};
use super::{Context, import, records, switch, text};

/// Move HEAD to a revision; with --to write its files to a new host directory instead
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A branch becomes the current one; anything else detaches HEAD
    rev: String,
    /// Write the files to this directory, which must be new or empty; HEAD stays
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Only what is at or below this path of the state
    #[arg(long, value_name = "PATH", requires = "to")]
    path: Option<String>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let Some(to) = &args.to else { return switch::tell(&engine.checkout(&args.rev)?, context) };
    let path = TreePath::parse(args.path.as_deref().unwrap_or("/").as_bytes())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let state = engine.resolve(&args.rev)?;
    let written = engine.checkout_to(&state, &path, to)?;
    let out = &mut context.out;
    if out.json() {
        out.record(&records::WrittenRecord::new(state.id().to_string(), &path, to, &written))?;
    }
    out.note(format_args!(
        "{} to {}{}",
        text::count(written.entries, "entry", "entries"),
        to.display(),
        import::left_out(&written.skipped, out.verbose()),
    ));
    Ok(Exit::DONE)
}
