//! What was typed behind `treebox run`, and what it means.

use std::os::unix::ffi::OsStringExt as _;

use treebox::object::Network;
use treebox::{Command, Feature, Reuse, Target};

use super::args::{Args, FeatureChoice, NetworkChoice, ReuseChoice};
use super::stdin;
use crate::cli::exit::Failure;

/// Where the step starts, what moves, and the command. Reads standard input if the command gets a file.
pub(super) fn resolve(args: Args) -> Result<(Target, Command), Failure> {
    let unsupported = args.later.named();
    let unsupported = unsupported.or((args.network == NetworkChoice::Private).then_some("--network private"));
    if let Some(option) = unsupported {
        return Err(Failure::refused(format!("{option} is not supported yet")));
    }
    if args.disposable && args.from.is_some() && args.branch.is_some() {
        return Err(Failure::Usage("--disposable leaves no state that --branch could be made at".to_owned()));
    }
    let command = command(&args)?;
    let Args { from, branch, tag, force, keep_failed, .. } = args;
    Ok((Target { from, branch, tag, force, keep_failed }, command))
}

fn command(args: &Args) -> Result<Command, Failure> {
    let mut command = match (&args.text, args.argv.split_first()) {
        (Some(text), _) => Command::shell(text),
        (None, Some((program, rest))) => {
            Command::new(program.clone().into_vec()).args(rest.iter().map(|arg| arg.clone().into_vec()))
        }
        (None, None) => return Err(Failure::Usage("nothing to run: give -c TEXT or -- CMD".to_owned())),
    };
    for (key, value) in &args.env {
        // As in podman: a variable that the host does not have is not set inside.
        let value = match value {
            Some(value) => Some(value.clone()),
            None => host_variable(key)?,
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
    if let Some(epoch) = args.epoch.map_or_else(source_date_epoch, |epoch| Ok(Some(epoch)))? {
        command = command.epoch(epoch);
    }
    if args.interactive {
        command = command.stdin(stdin::of_this_process()?);
    }
    for feature in &args.allow {
        command = command.allow(match feature {
            FeatureChoice::Userns => Feature::Userns,
            FeatureChoice::IoUring => Feature::IoUring,
            FeatureChoice::Keyring => Feature::Keyring,
            FeatureChoice::Socketcall => Feature::Socketcall,
        });
    }
    let network = if args.network == NetworkChoice::Host { Network::Host } else { Network::None };
    let reuse = match args.reuse {
        _ if args.fresh => Reuse::Never,
        ReuseChoice::Auto => Reuse::Auto,
        ReuseChoice::Always => Reuse::Always,
        ReuseChoice::Never => Reuse::Never,
    };
    let mounts = [&args.mount, &args.volume, &args.tmpfs, &args.secret];
    let mounts = mounts.into_iter().flatten().flatten();
    let command = mounts.fold(command, |command, mount| command.mount((**mount).clone()));
    let command = args.copy.iter().fold(command, |command, pair| command.copy(&pair.source, &pair.dest));
    Ok(command
        .network(network)
        .reuse(reuse)
        .disposable(args.disposable)
        .read_only(args.read_only)
        .keep_env(args.keep_env)
        .keep_workdir(args.keep_workdir))
}

fn host_variable(key: &str) -> Result<Option<String>, Failure> {
    let Some(value) = std::env::var_os(key) else { return Ok(None) };
    let text = value.into_string();
    text.map(Some).map_err(|_| Failure::refused(format!("the host's variable {key} is not UTF-8")))
}

/// The time that reproducible builds agree on; see <https://reproducible-builds.org/specs/source-date-epoch/>.
fn source_date_epoch() -> Result<Option<i64>, Failure> {
    match host_variable("SOURCE_DATE_EPOCH")? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Failure::refused(format!("SOURCE_DATE_EPOCH is `{text}`, which is no number of seconds"))
        }),
    }
}
