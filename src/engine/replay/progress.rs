//! How far a replay has come: the file `replay` of the store.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Work;
use crate::disk::{FileLock, LockMode, exists, read_limited, remove_file, write_atomic};
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::object::{CommitId, StateId};

/// The version of the file.
const VERSION: u32 = 1;
/// The largest file that is read.
const MAX_PROGRESS_BYTES: u64 = 16 << 20;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    version: u32,
    /// The branch.
    pub(super) branch: String,
    /// Its commit when the replay began.
    pub(super) was: String,
    /// The commit on which the first step is performed.
    pub(super) onto: String,
    /// What the branch's log will say.
    pub(super) message: String,
    steps: Vec<StepRecord>,
    done: Vec<Done>,
    pub(super) failed: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StepRecord {
    number: usize,
    commit: Option<String>,
    command: Option<String>,
}

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// The state after it.
    pub(super) state: String,
    /// The number of the run that made it.
    pub(super) run: Option<i64>,
    /// Whether it was left out.
    pub(super) skipped: bool,
}

/// The step after those that are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) reason: String,
    /// What its command left.
    pub(super) state: Option<String>,
}

impl Progress {
    pub(super) fn new(branch: &str, was: &str, onto: &str, message: String) -> Self {
        let [branch, was, onto] = [branch, was, onto].map(str::to_owned);
        Self {
            version: VERSION,
            branch,
            was,
            onto,
            message,
            steps: Vec::new(),
            done: Vec::new(),
            failed: None,
        }
    }

    pub(super) fn set(&mut self, work: &[Work], done: &[Done]) {
        let record = |work: &Work| StepRecord {
            number: work.number,
            commit: work.commit.map(|commit| commit.to_string()),
            command: work.text.clone(),
        };
        self.steps = work.iter().map(record).collect();
        self.done = done.to_vec();
    }

    pub(super) fn work(&self) -> Result<Vec<Work>> {
        let work = |step: &StepRecord| {
            let commit = step.commit.as_deref().map(id).transpose()?;
            Ok(Work { number: step.number, commit, text: step.command.clone() })
        };
        self.steps.iter().map(work).collect()
    }

    pub(super) fn done(&self) -> &[Done] {
        &self.done
    }
}

/// An id in the file.
pub(super) fn id<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| damaged(&format!("`{text}` is no id")))
}

fn damaged(why: &str) -> Error {
    Error::invalid(format!(
        "the store's file `replay` is damaged: {why}; `treebox replay --abort` removes it"
    ))
}

/// What a fuzz target does with the file.
#[cfg(any(test, fuzzing))]
pub(in crate::engine) fn fuzz(bytes: &[u8]) {
    let Ok(progress) = serde_json::from_slice::<Progress>(bytes) else { return };
    let again = serde_json::to_vec(&progress).expect("a replay is written");
    assert_eq!(serde_json::from_slice::<Progress>(&again).expect("what was written is read"), progress);
    // An id that is none is an error.
    let _ = (progress.work(), id::<CommitId>(&progress.was), id::<CommitId>(&progress.onto));
}

/// What is wrong with the bytes of the file.
pub(in crate::engine) fn replay_flaw(bytes: &[u8]) -> Option<String> {
    match serde_json::from_slice::<Progress>(bytes) {
        Ok(progress) => progress.work().err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

impl Core {
    fn progress_path(&self) -> PathBuf {
        self.layout().root().join("replay")
    }

    /// The lock of who works at a replay, when nobody else does.
    pub(super) fn lock_replay(&self) -> Result<Option<FileLock>> {
        Ok(FileLock::try_acquire(&self.layout().root().join("replay.lock"), LockMode::Exclusive)?)
    }

    pub(super) fn read_progress(&self) -> Result<Option<Progress>> {
        let path = self.progress_path();
        if !exists(&path)? {
            return Ok(None);
        }
        let bytes = read_limited(&path, MAX_PROGRESS_BYTES)?;
        let progress: Progress =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
        if progress.version != VERSION {
            return Err(Error::Unsupported(format!(
                "the replay under way was begun by another version of treebox (its file has version {}): finish it there, or give it up with \
                 `treebox replay --abort`",
                progress.version
            )));
        }
        Ok(Some(progress))
    }

    /// The states and commits that a replay under way needs.
    pub(in crate::engine) fn replay_needs(&self) -> Result<(Vec<StateId>, Vec<CommitId>)> {
        let Some(progress) = self.read_progress()? else { return Ok(Default::default()) };
        let states = progress.done.iter().map(|done| &done.state);
        let failed = progress.failed.iter().filter_map(|failed| failed.state.as_ref());
        let states = states.chain(failed).map(|text| id(text)).collect::<Result<Vec<_>>>()?;
        let steps = progress.steps.iter().filter_map(|step| step.commit.as_ref());
        let commits = steps.chain([&progress.was, &progress.onto]);
        Ok((states, commits.map(|text| id(text)).collect::<Result<Vec<_>>>()?))
    }

    pub(super) fn write_progress(&self, progress: &Progress) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(progress).unwrap_or_default();
        bytes.push(b'\n');
        Ok(write_atomic(&self.progress_path(), &bytes, self.options.durability)?)
    }

    /// Forgets a replay; whether there was one.
    pub(super) fn remove_progress(&self) -> Result<bool> {
        Ok(remove_file(&self.progress_path())?)
    }
}
