//! Going through the steps of a replay, and moving the branch at the end.

use std::sync::Arc;

use super::progress::{Done, Failed, Progress, id};
use super::{
    Replay, ReplayOptions, ReplayStatus, Replayed, StepEnd, StepKind, StepListener, StoppedStep, Work,
};
use crate::disk::FileLock;
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::engine::join::Settlements;
use crate::engine::naming::Made;
use crate::engine::refs::who;
use crate::engine::state::{Origin, State};
use crate::history::{BranchName, EditError, Expected, RefEdit};
use crate::object::{CommitId, StateId};

impl Core {
    pub(super) fn start_replay(
        self: &Arc<Self>,
        branch: Option<&str>,
        options: &ReplayOptions,
        listener: StepListener<'_>,
    ) -> Result<Replayed> {
        let lock = self.replay_alone()?;
        if let Some(under_way) = self.read_progress()? {
            return Err(Error::Conflict(format!(
                "a replay of {} is not finished: `treebox replay --continue`, `--skip` or `--abort` first; `--status` says where it is",
                under_way.branch
            )));
        }
        let planned = self.plan_replay(branch, options, false)?;
        let [was, onto] = [planned.was, planned.onto].map(|commit| commit.to_string());
        let kept = planned.steps.into_iter().filter(|(kind, _)| *kind != StepKind::Dropped);
        let replay = Replay {
            core: Arc::clone(self),
            progress: Progress::new(planned.branch.as_str(), &was, &onto, planned.message),
            work: kept.map(|(_, work)| work).collect(),
            done: Vec::new(),
            here: self.state_at(planned.onto)?,
            _lock: lock,
        };
        replay.drive(&options.settle, listener)
    }

    pub(super) fn continue_replay(
        self: &Arc<Self>,
        skip: bool,
        settlements: &Settlements,
        listener: StepListener<'_>,
    ) -> Result<Replayed> {
        let lock = self.replay_alone()?;
        let progress = self.read_progress()?.ok_or_else(nothing_under_way)?;
        let failed = progress.failed.is_some();
        let mut replay = self.reopened(progress, lock)?;
        if skip {
            if !failed {
                return Err(Error::invalid("no step has failed: `treebox replay --continue` goes on"));
            }
            if replay.done.len() < replay.progress.done().len() {
                return Err(Error::Conflict(
                    "results of steps before the failed one are lost: `treebox replay --continue` does them again".into(),
                ));
            }
            replay.done.push(Done { state: replay.here.id().to_string(), run: None, skipped: true });
        }
        replay.drive(settlements, listener)
    }

    pub(super) fn abort_replay(&self) -> Result<String> {
        let _lock = self.replay_alone()?;
        // A file that cannot be read is given up as well.
        let branch = self.read_progress().ok().flatten().map(|progress| progress.branch);
        if !self.remove_progress()? {
            return Err(nothing_under_way());
        }
        Ok(branch.unwrap_or_default())
    }

    pub(super) fn replay_status(self: &Arc<Self>) -> Result<Option<ReplayStatus>> {
        let lock = self.lock_replay()?;
        let running = lock.is_none();
        let Some(progress) = self.read_progress()? else { return Ok(None) };
        let (was, onto) = (id(&progress.was)?, id(&progress.onto)?);
        let failed = match &progress.failed {
            Some(failed) => {
                let state = failed.state.as_deref().map(id::<StateId>).transpose()?;
                Some((failed.reason.clone(), state.map(|state| self.state(state)).transpose()?))
            }
            None => None,
        };
        let work = progress.work()?;
        let steps = work.iter().map(|work| self.planned(self.kind_of(work)?, work, None));
        let steps = steps.collect::<Result<Vec<_>>>()?;
        let branch = progress.branch.clone();
        let (done, state) = self.reached(&progress)?;
        Ok(Some(ReplayStatus { branch, was, onto, done: done.len(), steps, state, failed, running }))
    }

    fn replay_alone(&self) -> Result<FileLock> {
        self.lock_replay()?.ok_or_else(|| {
            Error::Conflict(
                "another process is at a replay in this store: wait for it; `treebox replay --status` says where it is".into(),
            )
        })
    }

    /// A replay as its file says.
    fn reopened(self: &Arc<Self>, progress: Progress, lock: FileLock) -> Result<Replay> {
        let work = progress.work()?;
        let (done, here) = self.reached(&progress)?;
        Ok(Replay { core: Arc::clone(self), progress, work, done, here, _lock: lock })
    }

    /// The steps of which the results are still there, and the state after them. What is lost is done again.
    fn reached(self: &Arc<Self>, progress: &Progress) -> Result<(Vec<Done>, State)> {
        let mut here = self.state_at(id(&progress.onto)?)?;
        let mut reached = Vec::new();
        for done in progress.done() {
            let state: StateId = id(&done.state)?;
            if state != here.id() {
                let mut next = match self.state(state) {
                    Ok(next) => next,
                    Err(Error::Store(error)) if error.is_missing() => break,
                    Err(error) => return Err(error),
                };
                if let Some(seq) = done.run {
                    match self.index.run(seq)? {
                        Some(run) if run.result == state && run.parent == here.id() => {}
                        _ => break,
                    }
                    next.origin = Origin::of_run(seq, here);
                }
                here = next;
            }
            reached.push(done.clone());
        }
        Ok((reached, here))
    }
}

impl Replay {
    fn drive(mut self, settlements: &Settlements, listener: StepListener<'_>) -> Result<Replayed> {
        self.save(None)?;
        while let Some(work) = self.work.get(self.done.len()) {
            match self.core.perform(work, &self.here, settlements)? {
                StepEnd::Done(step) => {
                    listener(&step);
                    let run = self.core.run_number(&step.state).filter(|_| step.changed);
                    self.done.push(Done { state: step.state.id().to_string(), run, skipped: false });
                    self.here = step.state;
                    self.save(None)?;
                }
                StepEnd::Stopped(stopped) => return self.stop(*stopped),
            }
        }
        self.finish()
    }

    fn save(&mut self, failed: Option<Failed>) -> Result<()> {
        self.progress.set(&self.work, &self.done);
        self.progress.failed = failed;
        self.core.write_progress(&self.progress)
    }

    fn stop(mut self, stopped: StoppedStep) -> Result<Replayed> {
        let state = stopped.state.as_ref().map(|state| state.id().to_string());
        self.save(Some(Failed { reason: stopped.reason.clone(), state }))?;
        let was: CommitId = id(&self.progress.was)?;
        let state = self.core.state_at(was)?;
        Ok(Replayed { branch: self.progress.branch, was, commit: was, state, stopped: Some(stopped) })
    }

    /// Writes the commits of what was done and moves the branch to the last one.
    fn finish(self) -> Result<Replayed> {
        let core = &self.core;
        let was: CommitId = id(&self.progress.was)?;
        let mut commit: CommitId = id(&self.progress.onto)?;
        let mut before = core.state_of_commit(&commit)?;
        for (work, done) in self.work.iter().zip(&self.done) {
            let state = core.state(id(&done.state)?)?;
            if state.id() != before {
                commit = core.commit_step(work, &state, done.run, commit, true)?;
                before = state.id();
            }
        }
        let name = BranchName::new(&self.progress.branch)?;
        let edit = RefEdit { name: name.clone().into(), expected: Expected::Is(was), new: Some(commit) };
        match core.history()?.edit(&[edit], &self.progress.message, &who()) {
            Ok(()) => {}
            // This very end was killed before the file was gone.
            Err(EditError::Conflict { found: Some(found), .. }) if found == commit => {}
            Err(error @ EditError::Conflict { .. }) => {
                return Err(Error::Conflict(format!(
                    "{error}: the branch moved while it was replayed. The result is commit {commit}; `treebox replay --abort` ends the replay"
                )));
            }
            Err(error) => return Err(error.into()),
        }
        core.remove_progress()?;
        let state = core.state_at(commit)?;
        Ok(Replayed { branch: self.progress.branch, was, commit, state, stopped: None })
    }
}

impl Core {
    /// Writes the commit of a step on that parent; a merge has its other parents as well when `merges` says so.
    pub(in crate::engine) fn commit_step(
        &self,
        work: &Work,
        state: &State,
        run: Option<i64>,
        parent: CommitId,
        merges: bool,
    ) -> Result<CommitId> {
        if let Some(seq) = run {
            let run = self.index.run(seq)?.ok_or_else(|| {
                Error::not_found("a run of this replay is no longer in the index: `treebox replay --continue` runs it again")
            })?;
            return self.commit_run(state, &run, parent);
        }
        let commit = work.commit.ok_or_else(|| Error::invalid("a change comes from a commit"))?;
        let said = self.said_of(&commit)?;
        let mut parents = vec![parent];
        if merges {
            parents.extend(said.parents.iter().skip(1));
        }
        let made = Made { kind: &said.kind, message: said.message, root_time_seconds: 0, image: None };
        self.commit_made(state, &parents, &made)
    }
}

fn nothing_under_way() -> Error {
    Error::not_found("no replay is under way in this store")
}
