//! Which steps a replay has.

use std::sync::Arc;

use super::{PlannedStep, ReplayOptions, ReplayPlan, StepEdit, StepKind, Work};
use crate::engine::command::Command;
use crate::engine::core::Core;
use crate::engine::error::{Error, ErrorKind, Result};
use crate::engine::state::State;
use crate::history::{BranchName, Head, RefName};
use crate::object::CommitId;

/// The steps of a replay, dropped ones among them.
pub(super) struct Planned {
    pub(super) branch: BranchName,
    pub(super) was: CommitId,
    pub(super) onto: CommitId,
    pub(super) steps: Vec<(StepKind, Work)>,
    /// What the branch's log will say.
    pub(super) message: String,
}

/// A commit of a branch that has a parent.
#[derive(Clone, Copy)]
struct Link {
    commit: CommitId,
    parent: CommitId,
}

impl Core {
    pub(super) fn replay_plan(
        self: &Arc<Self>,
        branch: Option<&str>,
        options: &ReplayOptions,
    ) -> Result<ReplayPlan> {
        let planned = self.plan_replay(branch, options, true)?;
        let mut here = Some(self.state_at(planned.onto)?);
        let mut steps = Vec::with_capacity(planned.steps.len());
        for (kind, work) in &planned.steps {
            let remembered = match (&here, kind) {
                (None, _) | (_, StepKind::Dropped) => None,
                (Some(on), _) => {
                    let (known, next) = self.foreseen(*kind, work, on, options)?;
                    here = next;
                    known
                }
            };
            steps.push(self.planned(*kind, work, remembered)?);
        }
        Ok(ReplayPlan { branch: planned.branch.as_str().to_owned(), onto: planned.onto, steps })
    }

    pub(super) fn planned(
        &self,
        kind: StepKind,
        work: &Work,
        remembered: Option<bool>,
    ) -> Result<PlannedStep> {
        let command = self.title(work)?;
        Ok(PlannedStep { number: work.number, kind, commit: work.commit, command, remembered })
    }

    /// Whether a step's result is remembered, and the state after it as far as that is known without running.
    fn foreseen(
        self: &Arc<Self>,
        kind: StepKind,
        work: &Work,
        on: &State,
        options: &ReplayOptions,
    ) -> Result<(Option<bool>, Option<State>)> {
        let remembered = match (self.recorded_work(work), &work.text) {
            _ if kind == StepKind::Change => {
                return Ok((None, self.merge_in(work, on, &options.settle)?.ok()));
            }
            (Ok(Some(recorded)), _) => self.remembered_again(&recorded, on),
            (Ok(None), Some(text)) => {
                let command = Command::shell(text);
                self.resolve_command(on, &command)
                    .and_then(|resolved| self.remembered(on, &command, &resolved))
            }
            (Ok(None), None) => Ok(None),
            (Err(error), _) => Err(error),
        };
        match remembered {
            Ok(Some(outcome)) => Ok((Some(true), Some(outcome.state().clone()))),
            Ok(None) => Ok((Some(false), None)),
            // What cannot be run again stops the replay itself, not the plan of it.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {
                Ok((Some(false), None))
            }
            Err(error) => Err(error),
        }
    }

    /// Finds the steps. Without a new base and without changes there is nothing to replay, but all steps of the branch can be listed.
    pub(super) fn plan_replay(
        self: &Arc<Self>,
        branch: Option<&str>,
        options: &ReplayOptions,
        listing: bool,
    ) -> Result<Planned> {
        let history = self.history()?;
        let branch = match (branch, history.head()?) {
            (Some(name), _) => BranchName::new(name)?,
            (None, Head::Branch { name, .. }) => name,
            (None, Head::Detached(_)) => {
                return Err(Error::invalid("HEAD is on no branch: say which branch to replay"));
            }
        };
        let was = history.read_ref(&RefName::Branch(branch.clone()))?;
        let was = was.ok_or_else(|| Error::not_found(format!("no branch is called `{branch}`")))?;
        let onto = options.onto.as_deref().map(|rev| self.resolve_commit(rev)).transpose()?;
        let links = self.links(was, onto)?;
        let changes = self.changes(&branch, &links, &options.edits)?;
        let first = changes.iter().position(|change| !change.is_none()).unwrap_or(links.len() + 1);
        let (from, onto) = match onto {
            Some(onto) => (0, onto),
            None if options.edits.is_empty() && listing => (0, links.first().map_or(was, |link| link.parent)),
            None if options.edits.is_empty() => {
                return Err(Error::invalid(
                    "a replay needs a new base or a change: give --onto REV, or --edit, --drop or --insert",
                ));
            }
            None => (first, links.get(first).map_or(was, |link| link.parent)),
        };
        let mut steps = Vec::new();
        for (at, change) in changes.into_iter().enumerate().skip(from) {
            let number = at + 1;
            for text in change.inserted {
                steps.push((StepKind::Inserted, Work { number, commit: None, text: Some(text) }));
            }
            let Some(link) = links.get(at) else { continue };
            let work = Work { number, commit: Some(link.commit), text: change.edited };
            let kind = match (change.dropped, &work.text) {
                (true, _) => StepKind::Dropped,
                (false, Some(_)) => StepKind::Edited,
                (false, None) => self.kind_of(&work)?,
            };
            if kind == StepKind::Edited && self.said_of(&link.commit)?.kind != "run" {
                return Err(Error::invalid(format!(
                    "step {number} of {branch} ran no command that could be changed: drop it, and insert one"
                )));
            }
            steps.push((kind, work));
        }
        Ok(Planned { branch, was, onto, steps, message: message(options) })
    }

    pub(super) fn kind_of(&self, work: &Work) -> Result<StepKind> {
        Ok(match (&work.commit, &work.text) {
            (Some(_), Some(_)) => StepKind::Edited,
            (None, _) => StepKind::Inserted,
            (Some(commit), None) if self.said_of(commit)?.kind == "run" => StepKind::Run,
            (Some(_), None) => StepKind::Change,
        })
    }

    /// The first-parent line of a branch, oldest first, without what `onto` has as well and without its root, which is no step.
    fn links(&self, tip: CommitId, onto: Option<CommitId>) -> Result<Vec<Link>> {
        let history = self.history()?;
        let mut links = Vec::new();
        let mut here = tip;
        while let Some(parent) = history.read_commit(&here)?.parents.first().copied() {
            links.push(Link { commit: here, parent });
            here = parent;
        }
        if let Some(onto) = onto {
            // Once the line meets what leads to the new base it stays there, so the place is found by halving.
            let (mut own, mut end) = (0, links.len());
            while own < end {
                let middle = own + (end - own) / 2;
                if history.is_ancestor(&links[middle].commit, &onto)? {
                    end = middle;
                } else {
                    own = middle + 1;
                }
            }
            links.truncate(own);
        }
        links.reverse();
        Ok(links)
    }

    /// What is to be changed at each step, and after the last one.
    fn changes(
        self: &Arc<Self>,
        branch: &BranchName,
        links: &[Link],
        edits: &[StepEdit],
    ) -> Result<Vec<StepChange>> {
        let mut changes = vec![StepChange::default(); links.len() + 1];
        for edit in edits {
            let (StepEdit::Edit { step, .. } | StepEdit::Drop { step } | StepEdit::Insert { step, .. }) =
                edit;
            let last = links.len() + usize::from(matches!(edit, StepEdit::Insert { .. }));
            let at = match step.parse::<usize>() {
                Ok(number) if (1..=last).contains(&number) => Some(number - 1),
                _ => match self.resolve_commit(step) {
                    Ok(commit) => links.iter().position(|link| link.commit == commit),
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                },
            };
            let at = at.ok_or_else(|| {
                Error::not_found(format!(
                    "`{step}` is none of the {} steps of {branch}: `treebox replay --plan` lists them",
                    links.len()
                ))
            })?;
            let change = &mut changes[at];
            match edit {
                StepEdit::Insert { command, .. } => change.inserted.push(command.clone()),
                StepEdit::Edit { .. } | StepEdit::Drop { .. }
                    if change.dropped || change.edited.is_some() =>
                {
                    return Err(Error::invalid(format!("step {} of {branch} is changed twice", at + 1)));
                }
                StepEdit::Edit { command, .. } => change.edited = Some(command.clone()),
                StepEdit::Drop { .. } => change.dropped = true,
            }
        }
        Ok(changes)
    }
}

/// What is to be changed at one step.
#[derive(Debug, Clone, Default)]
struct StepChange {
    inserted: Vec<String>,
    edited: Option<String>,
    dropped: bool,
}

impl StepChange {
    fn is_none(&self) -> bool {
        self.inserted.is_empty() && self.edited.is_none() && !self.dropped
    }
}

fn message(options: &ReplayOptions) -> String {
    let mut parts: Vec<String> = options.onto.iter().map(|onto| format!("onto {onto}")).collect();
    parts.extend(options.edits.iter().map(|edit| match edit {
        StepEdit::Edit { step, .. } => format!("edit {step}"),
        StepEdit::Drop { step } => format!("drop {step}"),
        StepEdit::Insert { step, .. } => format!("insert before {step}"),
    }));
    format!("replay: {}", parts.join(", "))
}
