//! `treebox completions`: a script for the shell, made from the argument definitions.

use super::Context;
use super::args::Cli;
use super::exit::{Exit, Failure};

/// Print the completion script for a shell
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which one
    shell: clap_complete::Shell,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::everything(), "treebox", &mut script);
    context.out.bytes(&script)?;
    Ok(Exit::DONE)
}
