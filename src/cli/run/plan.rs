//! What was typed behind `treebox run`, and what it means.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use treebox::object::Network;
use treebox::{Command, Feature, Reuse, Stdin, Target};

use super::args::{Args, FeatureChoice, NetworkChoice, ReuseChoice, Shared};
use super::{stdin, terminal};
use crate::cli::exit::Failure;
use crate::cli::host;

/// Where the step starts, what moves, and the command. Reads standard input if the command gets a file.
pub(super) fn resolve(args: Args) -> Result<(Target, Command), Failure> {
    if args.disposable && args.from.is_some() && args.branch.is_some() {
        return Err(Failure::Usage("--disposable leaves no state that --branch could be made at".to_owned()));
    }
    // Not left to the parser, which asks for nothing that something else rules out.
    if args.jobs.is_some() || args.race {
        return Err(Failure::Usage(
            "--jobs and --race are about several commands: give --commands FILE".to_owned(),
        ));
    }
    let command = command(&args)?;
    let Args { from, branch, tag, force, keep_failed, .. } = args;
    Ok((Target { from, branch, tag, force, keep_failed }, command))
}

fn command(args: &Args) -> Result<Command, Failure> {
    let command = match (&args.text, args.argv.is_empty()) {
        (None, true) => {
            return Err(Failure::Usage("nothing to run: give -c TEXT, -- CMD or --commands FILE".to_owned()));
        }
        (text, _) => typed(text.as_deref(), &args.argv)?,
    };
    let command = dressed(args, command)?;
    let command = if args.tty { in_terminal(command)? } else { command };
    if args.interactive { with_input(command, args.tty) } else { Ok(command) }
}

/// The command that was typed, as text or as words.
pub(in crate::cli) fn typed(text: Option<&str>, argv: &[OsString]) -> Result<Command, Failure> {
    match (text, argv.split_first()) {
        (Some(text), _) => Ok(Command::shell(text)),
        (None, Some((program, rest))) => {
            Ok(Command::new(program.clone().into_vec()).args(rest.iter().map(|arg| arg.clone().into_vec())))
        }
        (None, None) => Err(Failure::Usage("nothing to run: give -c TEXT or -- CMD".to_owned())),
    }
}

/// A command with everything that was typed but its text, its terminal and its input.
pub(super) fn dressed(args: &Args, command: Command) -> Result<Command, Failure> {
    let reuse = match args.reuse {
        _ if args.fresh => Reuse::Never,
        ReuseChoice::Auto => Reuse::Auto,
        ReuseChoice::Always => Reuse::Always,
        ReuseChoice::Never => Reuse::Never,
    };
    Ok(shared(&args.shared, command)?.reuse(reuse).disposable(args.disposable))
}

/// Gives a command a terminal that is like this process's own.
pub(in crate::cli) fn in_terminal(command: Command) -> Result<Command, Failure> {
    let command = command.terminal(terminal::size());
    // Before what `-e` says, which wins.
    let kind = host::variable("TERM")?.filter(|kind| !kind.is_empty());
    Ok(match kind {
        Some(kind) if !command.sets("TERM") => command.env("TERM", kind),
        _ => command,
    })
}

/// Gives a command the standard input of this process.
pub(in crate::cli) fn with_input(command: Command, tty: bool) -> Result<Command, Failure> {
    // What is typed into a terminal is typed while the command runs, wherever it comes from.
    let stdin = if tty { Stdin::Piped } else { stdin::of_this_process()? };
    Ok(command.stdin(stdin))
}

/// Applies the options that `run` and `shell` share.
pub(in crate::cli) fn shared(args: &Shared, mut command: Command) -> Result<Command, Failure> {
    for (key, value) in &args.env {
        // As in podman: a variable that the host does not have is not set inside.
        let value = match value {
            Some(value) => Some(value.clone()),
            None => host::variable(key)?,
        };
        if let Some(value) = value {
            command = command.env(key, value);
        }
    }
    if let Some(workdir) = &args.workdir {
        command = command.workdir(workdir);
    }
    if let Some(user) = &args.user {
        command = command.user(user);
    }
    if let Some(hostname) = &args.hostname {
        command = command.hostname(hostname);
    }
    if let Some(timeout) = args.timeout {
        command = command.timeout(timeout);
    }
    if let Some(bytes) = args.max_output {
        command = command.max_output(bytes);
    }
    if let Some(bytes) = args.memory {
        command = command.memory(bytes);
    }
    if let Some(count) = args.cpus {
        command = command.cpus(count);
    }
    if let Some(count) = args.pids {
        command = command.pids(count);
    }
    if let Some(bytes) = args.disk {
        command = command.disk(bytes);
    }
    if let Some(epoch) = args.epoch.map_or_else(host::source_date_epoch, |epoch| Ok(Some(epoch)))? {
        command = command.epoch(epoch);
    }
    for feature in &args.allow {
        command = command.allow(match feature {
            FeatureChoice::Userns => Feature::Userns,
            FeatureChoice::IoUring => Feature::IoUring,
            FeatureChoice::Keyring => Feature::Keyring,
            FeatureChoice::Socketcall => Feature::Socketcall,
        });
    }
    let network = match args.network {
        NetworkChoice::None => Network::None,
        NetworkChoice::Host => Network::Host,
        NetworkChoice::Private => Network::Private,
    };
    let mounts = [&args.mount, &args.volume, &args.tmpfs, &args.secret];
    let mounts = mounts.into_iter().flatten().flatten();
    let command = mounts.fold(command, |command, mount| command.mount((**mount).clone()));
    let command = args.copy.iter().fold(command, |command, pair| command.copy(&pair.source, &pair.dest));
    Ok(command
        .network(network)
        .read_only(args.read_only)
        .keep_env(args.keep_env)
        .keep_workdir(args.keep_workdir))
}
