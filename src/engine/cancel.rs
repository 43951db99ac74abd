//! Stopping work that runs several commands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::live::Killer;

/// Stops work that runs commands: what runs is killed with everything that it started, and nothing more begins.
///
/// Cheap to clone; every clone is the same. It is given to a verb before it begins and used from another thread.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    cancelled: bool,
    next: u64,
    killers: BTreeMap<u64, Killer>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl Cancel {
    /// Nothing is cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kills what runs and lets nothing more begin. It does not wait; whoever did the work does.
    pub fn cancel(&self) {
        let mut running = self.lock();
        running.cancelled = true;
        for killer in running.killers.values() {
            // One that ends at this moment is no failure.
            let _ = killer.kill();
        }
    }

    /// Whether it was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Has a command killed when this is cancelled, until the guard is dropped; at once if it is cancelled already.
    pub(super) fn watch(&self, killer: Killer) -> Watched<'_> {
        let mut running = self.lock();
        if running.cancelled {
            let _ = killer.kill();
        }
        let number = running.next;
        running.next += 1;
        running.killers.insert(number, killer);
        Watched { cancel: self, number }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that is killed when its work is cancelled.
pub(super) struct Watched<'c> {
    cancel: &'c Cancel,
    number: u64,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.cancel.lock().killers.remove(&self.number);
    }
}

/// Cancels when it is dropped: so dropping the future of some work stops the work.
pub(super) struct CancelOnDrop(pub(super) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
