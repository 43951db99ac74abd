//! What came of a run.

use std::time::Duration;

use super::limits::{Limit, LimitKind};
use super::state::State;
use crate::object::{RunKey, TreeId};
use crate::sandbox::Exceeded;

/// What a run used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resources {
    /// Processor time in user mode, in milliseconds.
    pub user_ms: f64,
    /// Processor time in the kernel, in milliseconds.
    pub system_ms: f64,
    /// The largest resident set of one process, in KiB.
    pub max_rss_kib: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
}

/// How many paths a run changed; directories of which only the time differs do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangeCounts {
    /// Paths that are new.
    pub added: u64,
    /// Paths with other content or attributes.
    pub modified: u64,
    /// Paths that are gone.
    pub deleted: u64,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exited {
    /// The exit status; `None` when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
}

impl Exited {
    /// Whether it exited 0, by itself and in time.
    pub fn success(&self) -> bool {
        self.exit_code == Some(0) && !self.timed_out
    }

    /// The exit code as a shell gives it: the command's own, 128 + N for signal N, 124 when the time was up.
    pub fn shell_code(&self) -> i32 {
        match (self.timed_out, self.exit_code, self.signal) {
            (true, _, _) => 124,
            (false, Some(code), _) => code,
            (false, None, Some(signal)) => 128 + signal,
            (false, None, None) => 125,
        }
    }
}

/// What came of one command in a live sandbox. What it did to the files is kept or dropped with the sandbox.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit status; `None` when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
    /// What it wrote to standard output, or to its terminal.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether more was written than was kept.
    pub truncated: bool,
    /// How long it took.
    pub duration: Duration,
    /// What it used.
    pub resources: Resources,
    pub(super) exceeded: Option<Exceeded>,
}

impl Finished {
    /// The limit of its sandbox for which everything in there was killed.
    pub fn killed_for(&self) -> Option<LimitKind> {
        self.exceeded.map(LimitKind::of)
    }

    /// How it ended.
    pub fn exited(&self) -> Exited {
        Exited { exit_code: self.exit_code, signal: self.signal, timed_out: self.timed_out }
    }

    /// Whether it exited 0, by itself and in time.
    pub fn success(&self) -> bool {
        self.exited().success()
    }

    /// The exit code as a shell gives it; see [`Exited::shell_code`].
    pub fn shell_code(&self) -> i32 {
        self.exited().shell_code()
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome<S = State> {
    /// The resulting state; the parent when nothing changed, `None` for a disposable run.
    pub state: Option<S>,
    /// The root tree of the resulting state.
    pub tree: Option<TreeId>,
    /// The state it ran on.
    pub parent: S,
    /// The key it is remembered under; `None` for a disposable run or one whose input was piped.
    pub key: Option<RunKey>,
    /// Whether the state differs from the parent.
    pub changed: bool,
    /// Whether a remembered run was used.
    pub reused: bool,
    /// The exit status; `None` when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether more was written than was kept.
    pub truncated: bool,
    /// How long the command took; for a reused run, how long it took then.
    pub duration: Duration,
    /// What it used.
    pub resources: Resources,
    /// How many paths it changed.
    pub changes: ChangeCounts,
    /// How each limit that was asked for was kept; empty for a remembered run.
    pub limits: Vec<Limit>,
    /// The limit for which it was killed.
    pub killed_for: Option<LimitKind>,
}

impl<S> Outcome<S> {
    /// The same outcome with other handles.
    pub(super) fn map<T>(self, wrap: impl Fn(S) -> T) -> Outcome<T> {
        Outcome {
            state: self.state.map(&wrap),
            parent: wrap(self.parent),
            tree: self.tree,
            key: self.key,
            changed: self.changed,
            reused: self.reused,
            exit_code: self.exit_code,
            signal: self.signal,
            timed_out: self.timed_out,
            stdout: self.stdout,
            stderr: self.stderr,
            truncated: self.truncated,
            duration: self.duration,
            resources: self.resources,
            changes: self.changes,
            limits: self.limits,
            killed_for: self.killed_for,
        }
    }

    /// The resulting state, or else the one it ran on: the one to go on from.
    pub fn state(&self) -> &S {
        self.state.as_ref().unwrap_or(&self.parent)
    }

    /// How the command ended.
    pub fn exited(&self) -> Exited {
        Exited { exit_code: self.exit_code, signal: self.signal, timed_out: self.timed_out }
    }

    /// Whether it exited 0, by itself and in time.
    pub fn success(&self) -> bool {
        self.exited().success()
    }

    /// The exit code as a shell gives it; see [`Exited::shell_code`].
    pub fn shell_code(&self) -> i32 {
        self.exited().shell_code()
    }
}
