//! `treebox pull`: an image of a registry becomes a state.

use serde::Serialize;
use treebox::{PullOptions, Pulled, PulledHow};

use super::access::Access;
use super::exit::{Exit, Failure};
use super::import::Choice;
use super::{Context, text};

/// Bring in an image from a registry; prints the state id
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// [REGISTRY/]REPOSITORY[:TAG][@DIGEST]; docker.io is meant when no registry is named
    reference: String,
    /// What to call it [default: the reference, such as alpine:latest]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    access: Access,
    /// Ask this registry first, such as HOST[:PORT][/PATH]; may be given several times
    #[arg(long, value_name = "HOST")]
    mirror: Vec<String>,
    /// Use what the name stands for here, and no network
    #[arg(long)]
    offline: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    state: String,
    commit: Option<String>,
    name: &'a str,
    digest: Option<&'a str>,
    entries: u64,
    size: u64,
    source: &'static str,
    requests: u64,
    fetched_bytes: u64,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let hear = context.out.noter();
    let engine = context.engine_with(|options| options.notices(hear))?;
    let out = &mut context.out;
    let chosen = args.choice.options(args.name.as_deref());
    let mut options = PullOptions::new().limits(chosen.limits).offline(args.offline);
    options.name = chosen.name;
    options.platform = chosen.platform;
    let (mut registry, progress) = args.access.options(out)?;
    registry.mirrors = args.mirror.clone();
    let pulled = engine.pull(&args.reference, &options.registry(registry))?;
    drop(progress);
    if out.json() {
        out.record(&Record {
            state: pulled.state.id().to_string(),
            commit: pulled.state.commit().map(|id| id.to_string()),
            name: &pulled.name,
            digest: pulled.digest.as_deref(),
            entries: pulled.entries,
            size: pulled.size_bytes,
            source: word(pulled.how),
            requests: pulled.requests,
            fetched_bytes: pulled.fetched_bytes,
        })?;
    } else {
        writeln!(out, "{}", pulled.state.id())?;
        out.note(told(&pulled));
    }
    Ok(Exit::DONE)
}

fn word(how: PulledHow) -> &'static str {
    match how {
        PulledHow::Unchanged => "unchanged",
        PulledHow::Offline => "offline",
        _ => "registry",
    }
}

fn told(pulled: &Pulled<treebox::blocking::State>) -> String {
    let size = format!(
        "{}: {}, {}",
        pulled.name,
        text::count(pulled.entries, "entry", "entries"),
        text::size(pulled.size_bytes)
    );
    match pulled.how {
        PulledHow::Unchanged => format!("{size}; the registry has nothing newer"),
        PulledHow::Offline => format!("{size}; known from before, no registry was asked"),
        _ => format!("{size}; {} fetched", text::size(pulled.fetched_bytes)),
    }
}
