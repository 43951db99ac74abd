//! `treebox reset`: move the current branch.

use super::exit::{Exit, Failure};
use super::{Context, switch};

/// Move the current branch, or a detached HEAD, to a revision
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to
    rev: String,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let head = engine.reset(&engine.resolve(&args.rev)?)?;
    switch::tell(&head, context)
}
