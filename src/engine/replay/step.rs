//! Performing one step on a state.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{ReplayedStep, StepHow, StoppedStep};
use crate::engine::again::Recorded;
use crate::engine::command::{Command, Reuse};
use crate::engine::core::Core;
use crate::engine::error::{Error, ErrorKind, Result};
use crate::engine::join::Settlements;
use crate::engine::naming::{said_in, without_trailers};
use crate::engine::outcome::Outcome;
use crate::engine::state::State;
use crate::object::CommitId;

/// One step, before it is performed.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Work {
    pub(in crate::engine) number: usize,
    pub(in crate::engine) commit: Option<CommitId>,
    /// The command that is run instead, or that is new.
    pub(in crate::engine) text: Option<String>,
}

/// How a step ended.
pub(in crate::engine) enum StepEnd {
    Done(Box<ReplayedStep>),
    Stopped(Box<StoppedStep>),
}

/// What a commit says of itself.
pub(in crate::engine) struct Said {
    pub(in crate::engine) kind: String,
    pub(in crate::engine) message: String,
    pub(in crate::engine) parents: Vec<CommitId>,
}

impl Core {
    pub(in crate::engine) fn said_of(&self, commit: &CommitId) -> Result<Said> {
        let record = self.history()?.read_commit(commit)?;
        let value = said_in(&record);
        let message = without_trailers(&record.message).to_owned();
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or("commit").to_owned();
        Ok(Said { kind, message, parents: record.parents })
    }

    /// The command of a step, or what its commit says it did.
    pub(in crate::engine) fn title(&self, work: &Work) -> Result<String> {
        match (&work.text, &work.commit) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(commit)) => Ok(self.said_of(commit)?.message),
            (None, None) => Ok(String::new()),
        }
    }

    /// The run of a step; `None` when it is a change to be merged in, or a new command.
    pub(in crate::engine) fn recorded_work(&self, work: &Work) -> Result<Option<Recorded>> {
        let Some(commit) = &work.commit else { return Ok(None) };
        let recorded = self.recorded(commit)?;
        match (&work.text, recorded) {
            (Some(text), Some(recorded)) => Ok(Some(recorded.with_text(text))),
            (_, recorded) => Ok(recorded),
        }
    }

    /// Performs a step. Its failure is no error; an error says that nothing can be performed now.
    pub(in crate::engine) fn perform(
        self: &Arc<Self>,
        work: &Work,
        here: &State,
        settlements: &Settlements,
    ) -> Result<StepEnd> {
        let command = self.title(work)?;
        let stopped = StoppedStep {
            number: work.number,
            commit: work.commit,
            command: command.clone(),
            reason: String::new(),
            before: here.clone(),
            state: None,
            exited: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            conflicts: Vec::new(),
            config_conflicts: Vec::new(),
        };
        let ran = match (self.recorded_work(work), &work.text) {
            (Ok(Some(recorded)), _) => {
                let before = recorded.exit_code;
                Some(self.run_again(&recorded, here, Reuse::Auto, None).map(|outcome| (outcome, before)))
            }
            (Ok(None), Some(text)) => {
                let outcome = self.run(here, &Command::shell(text), None, None);
                Some(outcome.map(|outcome| (outcome, Some(0))))
            }
            (Ok(None), None) => None,
            (Err(error), _) => Some(Err(error)),
        };
        let done = |state: State, how, changed, duration, changes| {
            let (number, commit) = (work.number, work.commit);
            let step = ReplayedStep {
                number,
                commit,
                command: command.clone(),
                how,
                state,
                changed,
                changes,
                duration,
            };
            Ok(StepEnd::Done(Box::new(step)))
        };
        match ran {
            Some(Ok((outcome, exit_code))) if ended_well(&outcome, exit_code) => {
                let how = if outcome.reused { StepHow::Reused } else { StepHow::Ran };
                let state = outcome.state().clone();
                done(state, how, outcome.changed, outcome.duration, outcome.changes)
            }
            Some(Ok((outcome, _))) => {
                let reason = match (outcome.timed_out, outcome.exit_code, outcome.signal) {
                    (true, ..) => "timed out".to_owned(),
                    (_, Some(code), _) => format!("exit {code}"),
                    (_, _, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
                };
                let (state, exited) = (outcome.state.clone(), Some(outcome.exited()));
                let (stdout, stderr) = (outcome.stdout, outcome.stderr);
                Ok(StepEnd::Stopped(Box::new(StoppedStep {
                    reason,
                    state,
                    exited,
                    stdout,
                    stderr,
                    ..stopped
                })))
            }
            Some(Err(error)) if is_of_the_step(&error) => {
                Ok(StepEnd::Stopped(Box::new(StoppedStep { reason: error.to_string(), ..stopped })))
            }
            Some(Err(error)) => Err(error),
            None => match self.merge_in(work, here, settlements)? {
                Ok(state) => {
                    let changes = self.count_changes(&here.tree(), &state.tree())?;
                    let changed = state.id() != here.id();
                    done(state, StepHow::Applied, changed, Duration::ZERO, changes)
                }
                Err(conflicts) => {
                    let count = conflicts.paths.len() + conflicts.config.len();
                    let reason = format!("{count} conflict{}", if count == 1 { "" } else { "s" });
                    let (conflicts, config_conflicts) = (conflicts.paths, conflicts.config);
                    Ok(StepEnd::Stopped(Box::new(StoppedStep {
                        reason,
                        conflicts,
                        config_conflicts,
                        ..stopped
                    })))
                }
            },
        }
    }

    /// Merges in what a commit changed from its first parent.
    pub(in crate::engine) fn merge_in(
        self: &Arc<Self>,
        work: &Work,
        here: &State,
        settlements: &Settlements,
    ) -> Result<Result<State, crate::engine::join::Conflicts>> {
        let commit =
            work.commit.ok_or_else(|| Error::invalid("a step without a command comes from a commit"))?;
        let theirs = self.state_at(commit)?;
        let base = match self.said_of(&commit)?.parents.first() {
            Some(parent) => Some(self.base_of_state(&self.store.state(&self.state_of_commit(parent)?)?)?),
            None => None,
        };
        let joined =
            self.join_states(&self.workspace(), base.as_ref(), &here.value, &theirs.value, settlements)?;
        Ok(joined.map(|state| if state == *here { here.clone() } else { state }))
    }

    /// The number of the run that made a state, when a run of this process or a remembered one did.
    pub(in crate::engine) fn run_number(&self, state: &State) -> Option<i64> {
        state.origin.run.as_ref().map(|(seq, _)| *seq)
    }
}

/// Whether a step did what it did before: it exited 0, or as it had when its result was kept all the same.
fn ended_well(outcome: &Outcome, before: Option<i32>) -> bool {
    !outcome.timed_out && outcome.exit_code.is_some() && (outcome.success() || outcome.exit_code == before)
}

/// Whether another command or another base would help, rather than another machine.
fn is_of_the_step(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported
            | ErrorKind::InvalidInput
            | ErrorKind::CommandNotFound
            | ErrorKind::CommandNotExecutable
            | ErrorKind::OverLimit
            | ErrorKind::TimedOut
    )
}
