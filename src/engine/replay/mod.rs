//! Running the commands of a branch again somewhere else: rebase for execution.
//!
//! `plan.rs` finds the steps, `step.rs` performs one of them, `progress.rs` keeps how far a replay has come, `drive.rs` goes through the steps and
//! moves the branch at the end.
//!
//! A step is a commit on the first-parent line of the branch. What a run made is run again, with what is remembered; what anything else made
//! (`cp`, a merge) is the difference to its first parent, and is merged in again. A merge keeps its other parents.
//!
//! # Invariants
//! - Until all steps are done no ref moves and no commit is written: results are states and runs, as after any run.
//! - One replay is under way in a store at a time.
//!
//! # Locking
//! `replay.lock` is held by who performs steps or changes `replay`; the kernel drops it with its holder.

mod drive;
mod plan;
mod progress;
mod step;

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::error::Result;
use super::outcome::{ChangeCounts, Exited};
use super::state::State;
use crate::object::{CommitId, ConfigConflict, Conflict, Side, TreePath};

#[cfg(any(test, fuzzing))]
pub(super) use progress::fuzz as fuzz_progress;
pub(super) use progress::replay_flaw;
pub(super) use step::{StepEnd, Work};

/// A change of the steps of a branch. A step is named by its number in the [plan](super::blocking::Engine::replay_plan) or by a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEdit {
    /// Runs another command, as shell text, in place of a step's own, with the same environment, user, input and so on.
    Edit {
        /// Which step.
        step: String,
        /// The command.
        command: String,
    },
    /// Leaves a step out.
    Drop {
        /// Which step.
        step: String,
    },
    /// Runs a command before a step; before the number after the last one means at the end.
    Insert {
        /// Before which step.
        step: String,
        /// The command.
        command: String,
    },
}

/// What to replay where.
#[derive(Debug, Clone, Default)]
pub struct ReplayOptions {
    /// The new base; without one the steps before the first change stay, and what comes after is replayed on them.
    pub onto: Option<String>,
    /// Changes of the steps.
    pub edits: Vec<StepEdit>,
    /// Which side settles conflicts of steps that are merged in: ours is what was replayed so far, theirs the step.
    pub settle: Vec<(TreePath, Side)>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// It runs a command again.
    Run,
    /// It merges in what a commit changed that no run made.
    Change,
    /// It runs a changed command.
    Edited,
    /// It runs a new command.
    Inserted,
    /// It is left out.
    Dropped,
}

impl StepKind {
    /// The word for it: run, change, edited, inserted or dropped.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Change => "change",
            Self::Edited => "edited",
            Self::Inserted => "inserted",
            Self::Dropped => "dropped",
        }
    }
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Its number among the steps of the branch, from 1; an inserted one has that of the step it stands before.
    pub number: usize,
    /// What it does.
    pub kind: StepKind,
    /// The commit that it comes from.
    pub commit: Option<CommitId>,
    /// The command or message.
    pub command: String,
    /// Whether its result is known already; `None` when that depends on a step before it that has to run.
    pub remembered: Option<bool>,
}

/// What a replay will do.
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    /// The branch.
    pub branch: String,
    /// The commit that it goes on from.
    pub onto: CommitId,
    /// The steps, oldest first.
    pub steps: Vec<PlannedStep>,
}

/// How a step was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepHow {
    /// A remembered run was used.
    Reused,
    /// The command ran.
    Ran,
    /// A change was merged in.
    Applied,
}

impl StepHow {
    /// The word for it: reused, ran or applied.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Ran => "ran",
            Self::Applied => "applied",
        }
    }
}

/// A step that was done.
#[derive(Debug, Clone)]
pub struct ReplayedStep {
    /// Its number.
    pub number: usize,
    /// The commit that it comes from.
    pub commit: Option<CommitId>,
    /// The command or message.
    pub command: String,
    /// How it was done.
    pub how: StepHow,
    /// The state after it.
    pub state: State,
    /// Whether that differs from the state before it; a step that changes nothing makes no commit.
    pub changed: bool,
    /// How many paths it changed.
    pub changes: ChangeCounts,
    /// How long its command took; when it was reused, how long it took then.
    pub duration: Duration,
}

/// Where a replay has stopped.
#[derive(Debug, Clone)]
pub struct StoppedStep {
    /// The step's number.
    pub number: usize,
    /// The commit that it comes from.
    pub commit: Option<CommitId>,
    /// The command or message.
    pub command: String,
    /// Why, in a few words: an exit code, conflicts, or what is missing.
    pub reason: String,
    /// The state before it.
    pub before: State,
    /// What the failed command left, to look at.
    pub state: Option<State>,
    /// How the command ended, when it ran.
    pub exited: Option<Exited>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// The paths that do not join.
    pub conflicts: Vec<Conflict>,
    /// The settings that do not join.
    pub config_conflicts: Vec<ConfigConflict>,
}

/// What came of a replay.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The branch.
    pub branch: String,
    /// Where it was.
    pub was: CommitId,
    /// Where it is now; as before when the replay has stopped.
    pub commit: CommitId,
    /// The state there.
    pub state: State,
    /// The step at which it has stopped.
    pub stopped: Option<StoppedStep>,
}

/// How far a replay has come that is not finished.
#[derive(Debug, Clone)]
pub struct ReplayStatus {
    /// The branch.
    pub branch: String,
    /// Where it is until the end.
    pub was: CommitId,
    /// The commit it goes on from.
    pub onto: CommitId,
    /// Steps that are done.
    pub done: usize,
    /// The steps.
    pub steps: Vec<PlannedStep>,
    /// The state after the steps that are done.
    pub state: State,
    /// Why the next step failed, and what it left.
    pub failed: Option<(String, Option<State>)>,
    /// Whether a process is at it now.
    pub running: bool,
}

/// Hears of each step when it is done.
pub type StepListener<'l> = &'l mut dyn FnMut(&ReplayedStep);

impl super::blocking::Engine {
    /// What a replay would do, and which results are known already. Nothing runs.
    pub fn replay_plan(&self, branch: Option<&str>, options: &ReplayOptions) -> Result<ReplayPlan> {
        self.core.replay_plan(branch, options)
    }

    /// Runs the commands of a branch (the current one without a name) again on another base, or with changes, and moves it to the result.
    ///
    /// At the first step that fails it stops: the branch stays, what is done is kept, and [`replay_continue`](Self::replay_continue) goes on.
    ///
    /// # Errors
    /// [`super::ErrorKind::Conflict`] when another replay is not finished, or the branch moved meanwhile.
    pub fn replay(
        &self,
        branch: Option<&str>,
        options: &ReplayOptions,
        listener: StepListener<'_>,
    ) -> Result<Replayed> {
        self.core.start_replay(branch, options, listener)
    }

    /// Goes on with a replay that has stopped: with the step that failed, or with `skip` after it.
    pub fn replay_continue(
        &self,
        skip: bool,
        settle: &[(TreePath, Side)],
        listener: StepListener<'_>,
    ) -> Result<Replayed> {
        self.core.continue_replay(skip, settle, listener)
    }

    /// Gives up a replay that has stopped, and says of which branch: it is where it was.
    pub fn replay_abort(&self) -> Result<String> {
        self.core.abort_replay()
    }

    /// The replay that is not finished, when there is one.
    pub fn replay_status(&self) -> Result<Option<ReplayStatus>> {
        self.core.replay_status()
    }
}

/// A replay on its way.
struct Replay {
    core: Arc<Core>,
    progress: progress::Progress,
    /// The steps, of which the first are done.
    work: Vec<Work>,
    done: Vec<progress::Done>,
    /// The state after the steps that are done.
    here: State,
    _lock: crate::disk::FileLock,
}
