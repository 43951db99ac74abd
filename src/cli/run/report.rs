//! What is told of a run: one JSON document, or one line.

use serde::Serialize;
use treebox::{Step, Target};

use super::limits;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::cli::{records, text};

#[derive(Serialize)]
pub(super) struct Record<'a> {
    state: Option<String>,
    commit: Option<String>,
    parent: String,
    tree: Option<String>,
    branch: Option<&'a str>,
    changed: bool,
    reused: bool,
    exit_code: Option<i32>,
    signal: Option<i32>,
    timed_out: bool,
    #[serde(flatten)]
    output: records::OutputRecord,
    truncated: bool,
    duration_ms: f64,
    resources: records::ResourcesRecord,
    changes: records::Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<limits::Record<'a>>,
}

pub(super) fn json(step: &Step, out: &mut Output) -> Result<(), Failure> {
    out.record(&record(step))
}

pub(super) fn record(step: &Step) -> Record<'_> {
    let outcome = &step.outcome;
    Record {
        state: outcome.state.as_ref().map(|state| state.id().to_string()),
        commit: step.commit.map(|id| id.to_string()),
        parent: outcome.parent.id().to_string(),
        tree: outcome.tree.map(|id| id.to_string()),
        branch: step.branch.as_deref(),
        changed: outcome.changed,
        reused: outcome.reused,
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        timed_out: outcome.timed_out,
        output: records::OutputRecord::new(&outcome.stdout, &outcome.stderr),
        truncated: outcome.truncated,
        duration_ms: records::milliseconds(outcome.duration),
        resources: outcome.resources.into(),
        changes: outcome.changes.into(),
        limits: limits::record(outcome),
    }
}

/// `main 1a2b3c4d5e6f (+1 ~0 -0) 0.02s`, with what else a person must know: that it failed, that the branch stayed.
pub(super) fn line(step: &Step, target: &Target) -> String {
    let outcome = &step.outcome;
    let mut words = Vec::new();
    if outcome.timed_out {
        words.push("timed out;".to_owned());
    } else if let Some(limit) = limits::killed_for(outcome) {
        words.push(format!("killed: over the {};", limits::text(limit)));
    } else if let Some(signal) = outcome.signal {
        words.push(format!("killed by signal {signal};"));
    } else if let Some(code) = outcome.exit_code.filter(|code| *code != 0) {
        words.push(format!("exit {code};"));
    }
    match &outcome.state {
        None => words.push("nothing kept".to_owned()),
        Some(state) => {
            words.extend(step.branch.clone());
            words.push(state.id().short());
            words.push(match outcome.changed {
                true => text::changes(outcome.changes),
                false => "unchanged".to_owned(),
            });
            if outcome.changed && step.branch.is_none() && !outcome.success() && target.from.is_none() {
                words.push("kept, the branch stays".to_owned());
            }
        }
    }
    words.push(if outcome.reused { "reused".to_owned() } else { text::duration(outcome.duration) });
    words.join(" ")
}
