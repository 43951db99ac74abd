//! One commit of elsewhere, done again on HEAD.

use std::sync::Arc;

use super::core::Core;
use super::error::Result;
use super::replay::{ReplayedStep, StepEnd, StoppedStep, Work};
use super::state::State;
use crate::object::{CommitId, Side, TreePath};

/// What came of a cherry-pick.
#[derive(Debug, Clone)]
pub struct Picked {
    /// The current branch; `None` when HEAD is detached.
    pub branch: Option<String>,
    /// HEAD's commit now.
    pub commit: CommitId,
    /// HEAD's state now.
    pub state: State,
    /// What was done; `None` when it failed.
    pub step: Option<ReplayedStep>,
    /// Why it failed, and what the command left. Nothing moved.
    pub stopped: Option<StoppedStep>,
}

impl super::blocking::Engine {
    /// Does on HEAD what one commit did: its command runs again, any other change is merged in. Of a merge it is the change to its first parent.
    ///
    /// `settle` says which side settles conflicts: ours is HEAD, theirs the commit.
    pub fn cherry_pick(&self, rev: &str, settle: &[(TreePath, Side)]) -> Result<Picked> {
        self.core.cherry_pick(rev, settle)
    }
}

impl Core {
    fn cherry_pick(self: &Arc<Self>, rev: &str, settle: &[(TreePath, Side)]) -> Result<Picked> {
        let head = self.history()?.head()?;
        let here = self.head_state()?;
        let tip = self.name(&here)?;
        let work = Work { number: 1, commit: Some(self.resolve_commit(rev)?), text: None };
        let branch = head.branch().map(ToString::to_string);
        let mut picked = Picked { branch, commit: tip, state: here.clone(), step: None, stopped: None };
        match self.perform(&work, &here, settle)? {
            StepEnd::Stopped(stopped) => picked.stopped = Some(*stopped),
            StepEnd::Done(step) => {
                if step.changed {
                    let run = self.run_number(&step.state);
                    let commit = self.commit_step(&work, &step.state, run, tip, false)?;
                    let title = step.command.lines().next().unwrap_or_default();
                    self.advance_head(&head, commit, &format!("cherry-pick: {title}"))
                        .map_err(|error| error.keeping(&step.state.id()))?;
                    (picked.commit, picked.state) = (commit, step.state.clone());
                }
                picked.step = Some(*step);
            }
        }
        Ok(picked)
    }
}
