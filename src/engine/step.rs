//! A run together with what it moves.

use std::sync::Arc;

use super::command::Command;
use super::core::Core;
use super::error::{Error, Result};
use super::outcome::Outcome;
use super::refs::who;
use super::state::State;
use super::types::{LiveInput, Sink, Step, Target};
use crate::history::{BranchName, EditError, Expected, Head, HeadEdit, HeadTo, RefEdit, RefName, TagName};
use crate::object::CommitId;

/// The branch that a step moves and what it must be at before.
struct Moves {
    branch: BranchName,
    expected: Expected,
    /// An existing branch may also be at the result already.
    at: Option<CommitId>,
}

/// Where a step begins and what it is to move.
pub(super) struct Start {
    parent: State,
    moves: Option<Moves>,
    tag: Option<TagName>,
}

impl Start {
    pub(super) fn parent(&self) -> &State {
        &self.parent
    }
}

impl Core {
    pub(super) fn step(
        self: &Arc<Self>,
        target: &Target,
        command: &Command,
        sink: Option<Sink>,
        live: Option<&mut dyn FnMut(LiveInput)>,
    ) -> Result<Step> {
        if command.disposable {
            self.refuse_names_of_nothing(target)?;
        }
        self.prestart_if_certain(command);
        let start = self.depart(target)?;
        let outcome = self.run(&start.parent, command, sink, live)?;
        let (commit, branch) = self.arrive(target, &start, &outcome, &command.program.text())?;
        Ok(Step { outcome, commit, branch })
    }

    /// Refuses a target with names when there will be nothing to name.
    pub(super) fn refuse_names_of_nothing(&self, target: &Target) -> Result<()> {
        if target.branch.is_some() || target.tag.is_some() {
            return Err(Error::invalid("a disposable run leaves nothing that a branch or tag could name"));
        }
        Ok(())
    }

    /// Finds where a step begins and what it will move.
    pub(super) fn depart(self: &Arc<Self>, target: &Target) -> Result<Start> {
        let tag = target.tag.as_deref().map(TagName::new).transpose()?;
        let (parent, moves) = self.start_of(target)?;
        Ok(Start { parent, moves, tag })
    }

    /// Moves what a step moves to what came of it; gives the result's commit and the branch that is there, if any.
    ///
    /// When somebody else moved the branch meanwhile, and not to the same result, that is a conflict that says where the result is.
    pub(super) fn arrive(
        self: &Arc<Self>,
        target: &Target,
        start: &Start,
        outcome: &Outcome,
        command: &str,
    ) -> Result<(Option<CommitId>, Option<String>)> {
        let Some(state) = &outcome.state else { return Ok((None, None)) };
        self.arrive_at(target, start, outcome, state, command).map_err(|error| error.keeping(&state.id()))
    }

    fn arrive_at(
        self: &Arc<Self>,
        target: &Target,
        start: &Start,
        outcome: &Outcome,
        state: &State,
        command: &str,
    ) -> Result<(Option<CommitId>, Option<String>)> {
        let advance = outcome.success() || target.keep_failed;
        let message = format!("run: {}", command.lines().next().unwrap_or_default());
        let (mut commit, mut branch) = (state.commit(), None);
        // What moves, moves as one operation.
        let mut edits = Vec::new();
        let mut head = None;
        if let (Some(moves), true) = (&start.moves, advance) {
            let (moved, edit) = self.advance(moves, &start.parent, state, target.force)?;
            edits.extend(edit);
            commit = Some(moved);
            branch = Some(moves.branch.as_str().to_owned());
        } else if target.from.is_none() && target.branch.is_none() && advance && outcome.changed {
            // As with Git, a detached HEAD moves along.
            let moved = self.name(state)?;
            head = Some(HeadEdit {
                to: HeadTo::Detached(moved),
                expected: start.parent.commit().map(HeadTo::Detached),
            });
            commit = Some(moved);
        }
        if let Some(tag) = &start.tag {
            let expected = if target.force { Expected::Any } else { Expected::Absent };
            edits.push(self.edit_to(tag.clone().into(), expected, state)?.0);
            commit = state.commit();
        }
        match head {
            Some(head) => self.history()?.edit_with_head(&edits, &head, &message, &who())?,
            None if edits.is_empty() => {}
            None => match (self.history()?.edit(&edits, &message, &who()), &start.moves) {
                // Who ran the same at the same time has moved the branch there already.
                (Err(EditError::Conflict { name, found: Some(at), .. }), Some(moves))
                    if name == moves.branch.clone().into() && self.state_of_commit(&at)? == state.id() =>
                {
                    commit = Some(at);
                    edits.retain(|edit| edit.name != name);
                    if !edits.is_empty() {
                        self.history()?.edit(&edits, &message, &who())?;
                    }
                }
                (edited, _) => edited?,
            },
        }
        Ok((commit, branch))
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
                    "branch {} is at {}, neither where this run started nor at its result: force it or choose another name",
                    moves.branch,
                    at.short()
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
