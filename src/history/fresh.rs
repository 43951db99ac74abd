//! What was written lately, should a `git gc --prune=now` take it for garbage before a ref leads to it.
//!
//! Git's own rule spares objects that are younger than two weeks; who says `now` overrides it. Commits are deterministic, so one that is gone is written
//! again, the same to the bit. While a gc runs its view of refs may be older than an edit: so after one its end is waited for, and what
//! it took is written once more.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::git::Kind;
use super::{History, HistoryError};

/// The most bytes of objects that are remembered; of more the oldest are forgotten.
const MAX_REMEMBERED_BYTES: usize = 16 << 20;
/// How long the end of a gc is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a gc is believed to run at the most: what Git itself believes.
const MAX_GC_AGE: Duration = Duration::from_secs(12 * 3600);

/// Objects that were written by this handle.
#[derive(Default)]
pub(super) struct Fresh {
    objects: VecDeque<(Kind, Vec<u8>)>,
    bytes: usize,
}

impl Fresh {
    fn add(&mut self, kind: Kind, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.objects.push_back((kind, bytes.to_vec()));
        while self.bytes > MAX_REMEMBERED_BYTES
            && let Some((_, oldest)) = self.objects.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }
}

impl History {
    pub(super) fn remember_fresh(&self, kind: Kind, bytes: &[u8]) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).add(kind, bytes);
    }

    /// Writes again what was written lately and is gone.
    pub(super) fn write_fresh_again(&self) -> Result<(), HistoryError> {
        let git = self.git.local();
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, bytes) in &fresh.objects {
            let written =
                git.write(*kind, bytes).map_err(|source| self.git_error("writing a commit", source))?;
            self.must_sync(written.unsynced);
        }
        Ok(())
    }

    /// After an edit: a `git gc` that began before it may not know of it.
    pub(super) fn outlast_git_gc(&self) -> Result<(), HistoryError> {
        if !self.git_gc_runs() {
            return Ok(());
        }
        let began = Instant::now();
        while self.git_gc_runs() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.write_fresh_again()?;
        self.settle()
    }

    /// Whether a living `git gc` says that it is at work.
    fn git_gc_runs(&self) -> bool {
        let path = self.directory.join("gc.pid");
        let Ok(stat) = std::fs::metadata(&path) else { return false };
        if stat.modified().is_ok_and(|at| at.elapsed().unwrap_or_default() > MAX_GC_AGE) {
            return false;
        }
        // `PID HOST`. One of another host cannot be asked for; it is believed.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let (pid, host) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let here = std::fs::read_to_string("/proc/sys/kernel/hostname").is_ok_and(|name| name.trim() == host);
        !here || std::fs::exists(format!("/proc/{pid}")).unwrap_or(true)
    }
}
