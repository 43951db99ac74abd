//! Merging another line of history into the current one.

use std::sync::Arc;

use super::core::Core;
use super::error::{Error, Result};
use super::join::Conflicts;
use super::naming::Made;
use super::outcome::ChangeCounts;
use super::refs::who;
use super::state::State;
use crate::history::{Expected, Head, HeadEdit, HeadTo, RefEdit};
use crate::object::{CommitId, ConfigConflict, Conflict, Side, TreePath};

/// How to merge.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// Which side settles conflicts at or below which paths; the longest path counts. The root settles all, also those of the config.
    pub settle: Vec<(TreePath, Side)>,
    /// Make a merge commit even where the branch could simply move on.
    pub no_fast_forward: bool,
    /// Refuse to make a merge commit.
    pub only_fast_forward: bool,
    /// The message of the merge commit.
    pub message: Option<String>,
    /// Merge what has no common commit: all that is not the same on both sides was then added by both.
    pub unrelated: bool,
}

/// How a merge went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MergeHow {
    /// There was nothing to merge.
    UpToDate,
    /// The branch moved on to the other commit.
    FastForward,
    /// A commit with two parents was made.
    Merged,
    /// Some paths or settings do not join. Nothing moved, and nothing was kept.
    Conflicts,
}

impl MergeHow {
    /// The word for it: up-to-date, fast-forward, merged or conflicts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "up-to-date",
            Self::FastForward => "fast-forward",
            Self::Merged => "merged",
            Self::Conflicts => "conflicts",
        }
    }
}

/// What came of merging states.
#[derive(Debug, Clone)]
pub struct MergedStates<S = State> {
    /// The merged state; `None` when something does not join.
    pub state: Option<S>,
    /// The paths that do not join.
    pub conflicts: Vec<Conflict>,
    /// The settings that do not join.
    pub config_conflicts: Vec<ConfigConflict>,
}

/// What came of a merge.
#[derive(Debug, Clone)]
pub struct Merge<S = State> {
    /// How it went.
    pub how: MergeHow,
    /// HEAD's state now.
    pub state: S,
    /// HEAD's commit now.
    pub commit: CommitId,
    /// The current branch; `None` when HEAD is detached.
    pub branch: Option<String>,
    /// How many paths HEAD's state differs in from before.
    pub changes: ChangeCounts,
    /// The paths that do not join.
    pub conflicts: Vec<Conflict>,
    /// The settings that do not join.
    pub config_conflicts: Vec<ConfigConflict>,
}

impl super::blocking::Engine {
    /// Merges what a revision names into the current branch, or into a detached HEAD.
    ///
    /// The base is the merge base of both; a result that changed on one side alone is as that side has it, text of both sides is joined line
    /// by line, and what does not join is given back. See [`crate::object::merge`] for the rules.
    ///
    /// # Errors
    /// [`super::ErrorKind::Conflict`] when HEAD moved meanwhile, when the two have no common commit and
    /// [`MergeOptions::unrelated`] is not set, or when only a fast-forward was allowed.
    pub fn merge(&self, rev: &str, options: &MergeOptions) -> Result<Merge> {
        self.core.merge(rev, options)
    }

    /// Merges two states that came from a third, without one from nothing, and makes a state of it that no ref names.
    ///
    /// `settle` says which side settles conflicts at or below which paths, as in [`MergeOptions::settle`]; `ours` and `theirs` are the sides.
    pub fn merge_states(
        &self,
        base: Option<&State>,
        ours: &State,
        theirs: &State,
        settle: &[(TreePath, Side)],
    ) -> Result<MergedStates> {
        let core = &self.core;
        let base = base.map(|base| core.base_of_state(&base.value)).transpose()?;
        let joined =
            core.join_states(&core.workspace(), base.as_ref(), &ours.value, &theirs.value, settle)?;
        Ok(match joined {
            Ok(state) => {
                MergedStates { state: Some(state), conflicts: Vec::new(), config_conflicts: Vec::new() }
            }
            Err(Conflicts { paths, config }) => {
                MergedStates { state: None, conflicts: paths, config_conflicts: config }
            }
        })
    }
}

impl Core {
    fn merge(self: &Arc<Self>, rev: &str, options: &MergeOptions) -> Result<Merge> {
        let history = self.history()?;
        let head = history.head()?;
        let ours = self.head_state()?;
        let theirs = self.resolve(rev)?;
        let (tip, other) = (self.name(&ours)?, self.name(&theirs)?);
        let branch = head.branch().map(ToString::to_string);
        let bases = history.merge_bases(&tip, &other)?;
        let mut merge = Merge {
            how: MergeHow::UpToDate,
            commit: tip,
            branch,
            changes: ChangeCounts::default(),
            conflicts: Vec::new(),
            config_conflicts: Vec::new(),
            state: ours.clone(),
        };
        if bases.contains(&other) {
            return Ok(merge);
        }
        if bases.contains(&tip) && !options.no_fast_forward {
            self.advance_head(&head, other, &format!("merge {rev}: Fast-forward"))?;
            merge.how = MergeHow::FastForward;
            merge.changes = self.count_changes(&ours.tree(), &theirs.tree())?;
            (merge.state, merge.commit) = (theirs, other);
            return Ok(merge);
        }
        if options.only_fast_forward {
            return Err(Error::Conflict(format!(
                "cannot move on to {rev} without a merge: both sides have commits of their own"
            )));
        }
        if bases.is_empty() && !options.unrelated {
            return Err(Error::Conflict(format!(
                "HEAD and {rev} have no common commit: --allow-unrelated-histories merges them as if both had added all they have"
            )));
        }
        let workspace = self.workspace();
        let base = self.common_base(&workspace, &tip, &other)?;
        match self.join_states(&workspace, base.as_ref(), &ours.value, &theirs.value, &options.settle)? {
            Err(Conflicts { paths, config }) => {
                merge.how = MergeHow::Conflicts;
                (merge.conflicts, merge.config_conflicts) = (paths, config);
            }
            Ok(state) => {
                let message = options.message.clone().unwrap_or_else(|| format!("merge {rev}"));
                let made = Made { kind: "merge", message, root_time_seconds: 0, image: None };
                let commit = self.commit_made(&state, &[tip, other], &made)?;
                self.advance_head(&head, commit, &format!("merge {rev}: Merge made"))
                    .map_err(|error| error.keeping(&state.id()))?;
                merge.how = MergeHow::Merged;
                merge.changes = self.count_changes(&ours.tree(), &state.tree())?;
                (merge.state, merge.commit) = (state, commit);
            }
        }
        Ok(merge)
    }

    /// Moves the branch that was current, or a detached HEAD, on from where it was.
    pub(super) fn advance_head(&self, head: &Head, to: CommitId, message: &str) -> Result<()> {
        let history = self.history()?;
        match head {
            Head::Branch { name, commit } => {
                let expected = commit.map_or(Expected::Absent, Expected::Is);
                let edit = RefEdit { name: name.clone().into(), expected, new: Some(to) };
                Ok(history.edit(&[edit], message, &who())?)
            }
            Head::Detached(at) => {
                let edit = HeadEdit { to: HeadTo::Detached(to), expected: Some(HeadTo::Detached(*at)) };
                Ok(history.edit_with_head(&[], &edit, message, &who())?)
            }
        }
    }
}
