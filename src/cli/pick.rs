//! `treebox cherry-pick`: do on HEAD what one commit did elsewhere.

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{Context, merge, records, replay, text};

/// Do on HEAD what a commit did: run its command again, or merge its change in
///
/// What is remembered is not run. Of a merge it is the change to its first parent. When the command fails, nothing moves, what it left is kept and
/// named, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The commit
    rev: String,
    #[command(flatten)]
    settle: merge::Settle,
}

#[derive(Serialize)]
struct Record<'a> {
    how: Option<&'static str>,
    changed: bool,
    changes: records::Counts,
    branch: Option<&'a str>,
    commit: String,
    state: String,
    tree: String,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = replay::engine(context)?;
    let picked = engine.cherry_pick(&args.rev, &args.settle.settlements()?)?;
    let out = &mut context.out;
    if let Some(stopped) = &picked.stopped {
        replay::stopped(stopped, out)?;
        return Ok(Exit::NO);
    }
    let at = picked.branch.as_deref().unwrap_or("HEAD");
    if out.json() {
        let step = picked.step.as_ref();
        out.record(&Record {
            how: step.map(|step| step.how.as_str()),
            changed: step.is_some_and(|step| step.changed),
            changes: step.map(|step| step.changes).unwrap_or_default().into(),
            branch: picked.branch.as_deref(),
            commit: picked.commit.to_string(),
            state: picked.state.id().to_string(),
            tree: picked.state.tree().to_string(),
        })?;
    }
    if let Some(step) = &picked.step {
        let changes = if step.changed { text::changes(step.changes) } else { "unchanged".to_owned() };
        out.note(format_args!("{at} {} {changes} {}", picked.state.id().short(), step.how.as_str()));
    }
    Ok(Exit::DONE)
}
