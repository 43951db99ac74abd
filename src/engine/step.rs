//! A run together with what it moves.

use std::sync::Arc;

use super::command::Command;
use super::core::Core;
use super::error::{Error, Result};
use super::refs::who;
use super::state::State;
use super::types::{LiveInput, Sink, Step, Target};
use crate::history::{BranchName, Expected, Head, HeadTo, RefEdit, RefName, TagName};
use crate::object::CommitId;

/// The branch that a step moves and what it must be at before.
struct Moves {
    branch: BranchName,
    expected: Expected,
    /// An existing branch may also be at the result already.
    at: Option<CommitId>,
}

impl Core {
    pub(super) fn step(
        self: &Arc<Self>,
        target: &Target,
        command: &Command,
        sink: Option<Sink>,
        live: Option<&mut dyn FnMut(LiveInput)>,
    ) -> Result<Step> {
        if command.disposable && (target.branch.is_some() || target.tag.is_some()) {
            return Err(Error::invalid("a disposable run leaves nothing that a branch or tag could name"));
        }
        self.prestart_if_certain(command);
        let tag = target.tag.as_deref().map(TagName::new).transpose()?;
        let (parent, moves) = self.start_of(target)?;
        let outcome = self.run(&parent, command, sink, live)?;
        let Some(state) = outcome.state.clone() else {
            return Ok(Step { outcome, commit: None, branch: None });
        };
        let advance = outcome.success() || target.keep_failed;
        let message = format!("run: {}", command.program.text().lines().next().unwrap_or_default());
        let mut step = Step { outcome, commit: state.commit(), branch: None };
        // What moves, moves as one operation.
        let mut edits = Vec::new();
        let mut head = None;
        if let (Some(moves), true) = (moves, advance) {
            let (commit, edit) = self.advance(&moves, &parent, &state, target.force)?;
            edits.extend(edit);
            step.commit = Some(commit);
            step.branch = Some(moves.branch.as_str().to_owned());
        } else if target.from.is_none() && target.branch.is_none() && advance && step.outcome.changed {
            // As with Git, a detached HEAD moves along.
            let commit = self.name(&state)?;
            head = Some(HeadTo::Detached(commit));
            step.commit = Some(commit);
        }
        if let Some(tag) = tag {
            let expected = if target.force { Expected::Any } else { Expected::Absent };
            edits.push(self.edit_to(tag.into(), expected, &state)?.0);
            step.commit = state.commit();
        }
        match head {
            Some(head) => self.history()?.edit_with_head(&edits, &head, &message, &who())?,
            None if edits.is_empty() => {}
            None => self.history()?.edit(&edits, &message, &who())?,
        }
        Ok(step)
    }

    fn start_of(self: &Arc<Self>, target: &Target) -> Result<(State, Option<Moves>)> {
        let history = match (&target.from, &target.branch) {
            // Nothing moves, and an id may need no history at all.
            (Some(from), None) => return Ok((self.resolve(from)?, None)),
            _ => self.history()?,
        };
        let Some(name) = &target.branch else {
            let parent = self.head_state()?;
            let moves = match history.head()? {
                Head::Branch { name, commit } => {
                    let expected = commit.map_or(Expected::Absent, Expected::Is);
                    Some(Moves { branch: name, expected, at: commit })
                }
                _ => None,
            };
            return Ok((parent, moves));
        };
        let branch = BranchName::new(name)?;
        let at = history.read_ref(&RefName::Branch(branch.clone()))?;
        let parent = match (&target.from, at) {
            (Some(from), _) => self.resolve(from)?,
            (None, Some(commit)) => self.state_at(commit)?,
            (None, None) => {
                return Err(Error::not_found(format!(
                    "no branch is called `{name}`: give --from to say where it begins"
                )));
            }
        };
        let expected = at.map_or(Expected::Absent, Expected::Is);
        Ok((parent, Some(Moves { branch, expected, at })))
    }

    /// What moves a branch to a result, which gets a commit. A branch that is elsewhere is a conflict, unless it is forced or there already.
    fn advance(
        self: &Arc<Self>,
        moves: &Moves,
        start: &State,
        state: &State,
        force: bool,
    ) -> Result<(CommitId, Option<RefEdit>)> {
        if let (Some(at), false) = (moves.at, force) {
            let there = self.state_of_commit(&at)?;
            if there == state.id() {
                return Ok((at, None));
            }
            if start.id() != there {
                return Err(Error::Conflict(format!(
                    "branch {} is at {}, neither where this run started nor at its result {}: force it or choose another name",
                    moves.branch,
                    at.short(),
                    state.id().short()
                )));
            }
            if let Some((_, parent)) = &state.origin.run {
                // The branch's own commit is the parent in history, also when the run was remembered from elsewhere.
                *parent.origin.commit.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(at);
            }
        }
        let commit = self.name(state)?;
        let expected = if force { Expected::Any } else { moves.expected };
        let edit = RefEdit { name: moves.branch.clone().into(), expected, new: Some(commit) };
        Ok((commit, (moves.at != Some(commit)).then_some(edit)))
    }
}
