//! `treebox shell`: an interactive shell on a state, whose changes become one commit.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use treebox::blocking::{Engine, State};
use treebox::{Command, Target, TreePath};

use super::Context;
use super::exit::{Exit, Failure};
use super::run::{self, Shared, Signals, terminal};

/// Work in a state by hand; what was changed becomes one commit at the end
///
/// Without REV it starts from HEAD, or from the tip of --branch, and that branch moves to the result. With REV alone no branch
/// moves: the result is usable by its id. The result is kept whatever the shell's exit code; --drop keeps nothing.
///
/// The command is $SHELL of the state's configuration, else bash, else sh. On a terminal it gets one of its own; otherwise it
/// reads standard input as a script. Exits with the shell's own code.
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox shell [OPTIONS] [REV] [-- CMD [ARG…]]")]
pub(super) struct Args {
    /// Start from this revision [default: HEAD, or the tip of --branch]
    #[arg(value_name = "REV")]
    rev: Option<String>,
    /// Move this branch to the result; made if it is not there
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// Move --branch even if it is somewhere else
    #[arg(long, requires = "branch")]
    force: bool,
    /// Keep nothing
    #[arg(long, conflicts_with = "branch")]
    drop: bool,
    #[command(flatten)]
    shared: Shared,
    /// Another command than a shell
    #[arg(value_name = "CMD", last = true)]
    argv: Vec<OsString>,
}

pub(super) fn perform(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let tty = terminal::is_interactive();
    if tty && context.out.json() {
        return Err(Failure::Usage(
            "--json would show nothing of the shell: use it with a script on standard input".to_owned(),
        ));
    }
    // First of all, so that every thread of the engine leaves the signals alone.
    let signals = Signals::watch(tty);
    let engine = run::engine(context, &signals, tty)?;
    let command = match args.argv.split_first() {
        Some((program, rest)) => {
            Command::new(program.clone().into_vec()).args(rest.iter().map(|arg| arg.clone().into_vec()))
        }
        None => Command::new(shell_of(&engine, &start(&engine, &args)?)?),
    };
    let command = run::shared(&args.shared, command)?.disposable(args.drop);
    let command = if tty { run::in_terminal(command)? } else { command };
    let command = run::with_input(command, tty)?;
    let Args { rev: from, branch, force, .. } = args;
    let target = Target { from, branch, tag: None, force, keep_failed: true };
    run::step(&engine, &target, &command, signals, context)
}

fn start(engine: &Engine, args: &Args) -> Result<State, Failure> {
    Ok(match args.rev.as_ref().or(args.branch.as_ref()) {
        Some(rev) => engine.resolve(rev)?,
        None => engine.head_state()?,
    })
}

/// The shell that a state names or has.
fn shell_of(engine: &Engine, state: &State) -> Result<String, Failure> {
    let named = state.config().env.iter().rev().find_map(|entry| entry.strip_prefix("SHELL="));
    if let Some(shell) = named.filter(|shell| !shell.is_empty()) {
        return Ok(shell.to_owned());
    }
    for shell in ["/bin/bash", "/bin/sh"] {
        let path = TreePath::parse(shell.as_bytes()).map_err(|error| Failure::refused(error.to_string()))?;
        if engine.entry(state, &path).is_ok() {
            return Ok(shell.to_owned());
        }
    }
    Err(Failure::refused("the state has neither /bin/bash nor /bin/sh: name a command after --"))
}
