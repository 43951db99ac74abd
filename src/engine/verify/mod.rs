//! Running recorded steps again, to see whether they give the same files.
//!
//! Nothing of it is remembered: no later run finds what was made here.

mod compare;
mod content;
mod hints;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use self::content::Moments;
use super::again::Recorded;
use super::cancel::Cancel;
use super::command::Reuse;
use super::core::{Core, now_ms};
use super::error::{Error, ErrorKind, Result};
use super::explore::at_once;
use super::hold::Held;
use super::live::Killer;
use super::naming::{said_in, without_trailers};
use super::outcome::{Exited, Finished};
use crate::history::{CommitRecord, Order, WalkOptions};
use crate::object::{CommitId, MountContent, Network, TreeId, TreePath};

/// What is run again, and how it is compared.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Every commit from the revision back to its roots, instead of the revision's own alone.
    pub all: bool,
    /// How many run at once; 0 is one for each processor.
    pub jobs: usize,
    /// Modification times later than this many seconds since 1970 are equal.
    pub epoch: Option<i64>,
    /// The most time that one step may take.
    pub timeout: Option<Duration>,
    /// Stops it from elsewhere.
    pub cancel: Cancel,
}

impl VerifyOptions {
    /// The step of the revision alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every commit from the revision back to its roots.
    pub fn all(mut self, yes: bool) -> Self {
        self.all = yes;
        self
    }

    /// Runs so many at once; 0 is one for each processor.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs;
        self
    }

    /// Takes modification times later than this many seconds since 1970 for equal.
    pub fn epoch(mut self, seconds: Option<i64>) -> Self {
        self.epoch = seconds;
        self
    }

    /// Gives each step so much time.
    pub fn timeout(mut self, limit: Option<Duration>) -> Self {
        self.timeout = limit;
        self
    }

    /// Lets somebody else stop it.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}

/// How a path differs between the recorded result and the one of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiffersIn {
    /// Only the recorded result has it.
    Missing,
    /// Only the result of now has it.
    New,
    /// It is another kind of file, or another device.
    Kind,
    /// The bytes, or the target of a symbolic link.
    Content,
    /// The same lines or members, in another order.
    Order,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes.
    Xattrs,
    /// Which other paths are the same file.
    Links,
    /// The modification time.
    Mtime,
}

impl DiffersIn {
    /// The word that a script sees.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::New => "new",
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Order => "order",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Xattrs => "xattrs",
            Self::Links => "links",
            Self::Mtime => "mtime",
        }
    }
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// Where.
    pub path: TreePath,
    /// In which ways.
    pub how: Vec<DiffersIn>,
    /// Both sides of it, in words: the first line or byte that differs, modes, owners, times.
    pub detail: Option<String>,
    /// What it is likely to come from, and what helps.
    pub hint: Option<String>,
}

/// What became of one step.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The commit.
    pub commit: CommitId,
    /// The command, or what else made the commit.
    pub command: String,
    /// Whether the same came of it; `None` when it could not be run again.
    pub reproducible: Option<bool>,
    /// Whether a command made the commit at all.
    pub is_run: bool,
    /// Why it could not be run again.
    pub reason: Option<String>,
    /// What to keep in mind about the answer: that it had the network, that it ran under other ids.
    pub notes: Vec<String>,
    /// How it ended then, as far as that is known.
    pub exit_then: Option<i32>,
    /// How it ended now, as a shell gives it.
    pub exit_now: Option<i32>,
    /// The paths that differ, parents first.
    pub paths: Vec<Deviation>,
    /// How long it took.
    pub duration: Duration,
}

/// Hears of each step as soon as it is known, from several threads.
pub type VerifiedSink<'h> = &'h (dyn Fn(&Verified) + Sync);

impl super::blocking::Engine {
    /// Runs the step of a revision again, or all steps that led to it, each on the state that it ran on, and compares what they leave
    /// with what is recorded. Gives them oldest first; `hear` gets each as it ends.
    ///
    /// What is remembered is not used, and nothing is remembered of this. A time of a directory is no difference.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] when it was stopped. That one step cannot be run again is told with that step.
    pub fn verify(
        &self,
        rev: &str,
        options: &VerifyOptions,
        hear: VerifiedSink<'_>,
    ) -> Result<Vec<Verified>> {
        self.core.verify(rev, options, hear)
    }
}

impl Core {
    fn verify(
        self: &Arc<Self>,
        rev: &str,
        options: &VerifyOptions,
        hear: VerifiedSink<'_>,
    ) -> Result<Vec<Verified>> {
        let tip = self.resolve_commit(rev)?;
        let mut commits = vec![tip];
        if options.all {
            let walk = WalkOptions { tips: vec![tip], order: Order::Topological, ..WalkOptions::default() };
            let walked = self.history()?.walk(&walk)?.map(|walked| walked.map(|walked| walked.id));
            commits = walked.collect::<Result<_, _>>()?;
            commits.reverse();
        }
        let next = AtomicUsize::new(0);
        let steps: Mutex<Vec<Option<Verified>>> = Mutex::new(commits.iter().map(|_| None).collect());
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        at_once(options.jobs, commits.len(), || {
            while !options.cancel.is_cancelled() {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(commit) = commits.get(at) else { return };
                match self.verify_step(*commit, options) {
                    Ok(step) => {
                        hear(&step);
                        steps.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(step);
                    }
                    Err(error) => {
                        // Others under way come to nothing either.
                        options.cancel.cancel();
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        if options.cancel.is_cancelled() {
            return Err(stopped());
        }
        Ok(steps.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect())
    }

    fn verify_step(self: &Arc<Self>, commit: CommitId, options: &VerifyOptions) -> Result<Verified> {
        let record = self.history()?.read_commit(&commit)?;
        let command = without_trailers(&record.message).to_owned();
        let mut step = Verified {
            commit,
            command,
            reproducible: None,
            is_run: false,
            reason: None,
            notes: Vec::new(),
            exit_then: None,
            exit_now: None,
            paths: Vec::new(),
            duration: Duration::ZERO,
        };
        let recorded = match self.recorded(&commit) {
            Ok(Some(recorded)) => recorded,
            Ok(None) => {
                step.reason = Some("no command made it".to_owned());
                return Ok(step);
            }
            Err(Error::Unsupported(reason)) => {
                (step.is_run, step.reason) = (true, Some(reason));
                return Ok(step);
            }
            Err(error) => return Err(error),
        };
        step.is_run = true;
        let started;
        (step.exit_then, started) = self.ended_then(&commit, &record)?;
        let result = match self.store.state(&recorded.result) {
            Ok(result) => result,
            Err(error) if error.is_missing() => {
                step.reason = Some("its result is not in the store".to_owned());
                return Ok(step);
            }
            Err(error) => return Err(error.into()),
        };
        match self.rehearse(&recorded, record.parents.first(), options, &mut step.notes) {
            Ok((tree, _held, finished)) => {
                let exit_now = finished.shell_code();
                (step.exit_now, step.duration) = (Some(exit_now), finished.duration);
                let moments = Moments { then: started, now: now_ms().div_euclid(1000) };
                step.paths = compare::differences(self, &result.root, &tree, options.epoch, moments)?;
                let same_end = step.exit_then.is_none_or(|then| then == exit_now);
                step.reproducible = Some(same_end && step.paths.is_empty());
            }
            Err(error) if is_of_one_step(&error) => step.reason = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(step)
    }

    /// How the command of a commit ended, as a shell gives it, and when it started, in seconds since 1970; as far as that is known.
    fn ended_then(&self, commit: &CommitId, record: &CommitRecord) -> Result<(Option<i32>, Option<i64>)> {
        if let Some(seq) = self.index.commit_run(commit)?
            && let Some(run) = self.index.run(seq)?
        {
            let exited = Exited { exit_code: run.exit_code, signal: run.signal, timed_out: run.timed_out };
            return Ok((Some(exited.shell_code()), Some(run.started_ms.div_euclid(1000))));
        }
        let value = said_in(record);
        let number =
            |key: &str| value.get(key).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
        Ok((number("exit_code").or_else(|| number("signal").map(|signal| 128 + signal)), None))
    }

    /// Runs a recorded command on its own state and gives the tree that it leaves.
    fn rehearse(
        self: &Arc<Self>,
        recorded: &Recorded,
        parent: Option<&CommitId>,
        options: &VerifyOptions,
        notes: &mut Vec<String>,
    ) -> Result<(TreeId, Held, Finished)> {
        // By its commit, if that is the state: then its layers are found by what they were made from.
        let by_commit = parent.map(|parent| self.state_at(*parent)).transpose()?;
        let state = match by_commit.filter(|state| state.id() == recorded.parent) {
            Some(state) => state,
            None => self.state(recorded.parent)?,
        };
        let root_mode = self.learn_root_mode()?;
        let mut ready = self.make_ready(recorded, &state, Reuse::Never)?;
        self.equip(&mut ready, recorded, &state)?;
        ready.command.timeout = options.timeout;
        match recorded.spec.network {
            Network::None => {}
            Network::Host => notes.push("it had the host's network, where answers change".to_owned()),
            Network::Private => notes.push("it had a network, where answers change".to_owned()),
        }
        if recorded.spec.root_mode != root_mode {
            notes.push(
                format!("it ran with {:?} ids then, with {root_mode:?} ids now", recorded.spec.root_mode)
                    .to_lowercase(),
            );
        }
        if recorded.spec.mounts.iter().any(|mount| matches!(mount.content, MountContent::Cache)) {
            notes.push("it had a cache, which holds something else now".to_owned());
        }
        let (execution, _) = self.begin(&state, &ready.command, ready.resolved, None)?;
        let (mut child, ground) = execution.into_parts();
        let finished = {
            let _watched = options.cancel.watch(Killer::new(child.killer()));
            child.finish()?
        };
        if options.cancel.is_cancelled() {
            return Err(stopped());
        }
        let (tree, held) = ground.tree_left(&finished)?;
        Ok((tree, held, finished))
    }
}

/// Whether an error is about one command; what is wrong with the machine or the store concerns all.
fn is_of_one_step(error: &Error) -> bool {
    match error {
        Error::Store(error) => error.is_missing(),
        error => matches!(
            error.kind(),
            ErrorKind::Unsupported
                | ErrorKind::NotFound
                | ErrorKind::InvalidInput
                | ErrorKind::CommandNotFound
                | ErrorKind::CommandNotExecutable
                | ErrorKind::OverLimit
                | ErrorKind::TimedOut
        ),
    }
}

fn stopped() -> Error {
    Error::cancelled("verifying was stopped")
}
