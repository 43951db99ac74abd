//! The writing half of an import: threads that put small files into the batch while the archive is read on.
//!
//! One thread more has the disk begin early: left alone the kernel gathers gigabytes, and the sync of the commit would wait for all of them.
//!
//! # Invariants
//! - The bytes that wait are bounded, so memory does not follow the image's size.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::object::Meta;
use crate::store::{Batch, HashedBytes, StoreError};

/// How many bytes of files may wait for a writer.
const BYTES_WAITING: usize = 24 << 20;
/// How many files may wait for a writer.
const FILES_WAITING: usize = 4096;

/// After how many written bytes the disk is set to work on them.
const BYTES_UNSYNCED: u64 = 64 << 20;

/// The queue between the parser and the writers.
pub(super) struct Writers {
    queue: Mutex<Queue>,
    /// Something to do, or the end.
    filled: Condvar,
    /// Something was done.
    drained: Condvar,
    /// Enough was written to begin with its sync, or the end.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(HashedBytes, Meta)>,
    bytes: usize,
    unsynced: u64,
    closed: bool,
    failure: Option<StoreError>,
    /// Writers that wait for something to do: a notification is a system call even when nobody waits.
    idle: usize,
    /// Whether the parser waits for room.
    blocked: bool,
}

/// Closes the queue when it goes out of scope, so that no way out of the parser leaves writers waiting.
pub(super) struct Closing<'w>(pub(super) &'w Writers);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_all();
        self.0.written.notify_all();
    }
}

impl Writers {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// Hands a file to the writers; waits while too much waits already. Gives what went wrong with an earlier one.
    pub(super) fn put(&self, blob: HashedBytes, meta: Meta) -> Result<(), StoreError> {
        let mut queue = self.lock();
        while queue.failure.is_none() && (queue.bytes >= BYTES_WAITING || queue.jobs.len() >= FILES_WAITING) {
            queue.blocked = true;
            queue = self.drained.wait(queue).expect("no holder panics");
        }
        queue.blocked = false;
        if let Some(error) = queue.failure.take() {
            return Err(error);
        }
        queue.bytes += blob.bytes().len();
        queue.jobs.push_back((blob, meta));
        let wake = queue.idle > 0;
        drop(queue);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// One writer: works until the queue is closed and empty, or something fails.
    pub(super) fn work(&self, batch: &Batch<'_>) {
        while let Some((blob, meta)) = self.take() {
            let written = batch.put_hashed(&blob, Some(&meta));
            let mut queue = self.lock();
            queue.bytes -= blob.bytes().len();
            self.count(&mut queue, blob.bytes().len() as u64);
            // Half empty before the parser goes on, so that the two do not take turns file by file.
            let room = queue.bytes <= BYTES_WAITING / 2 && queue.jobs.len() <= FILES_WAITING / 2;
            let wake = queue.blocked && (room || written.is_err());
            if let Err(error) = written {
                queue.failure.get_or_insert(error);
                queue.jobs.clear();
                queue.closed = true;
                self.filled.notify_all();
                self.written.notify_all();
            }
            drop(queue);
            if wake {
                self.drained.notify_one();
            }
        }
    }

    /// Says that the parser wrote bytes itself.
    pub(super) fn streamed(&self, bytes: u64) {
        self.count(&mut self.lock(), bytes);
    }

    fn count(&self, queue: &mut Queue, bytes: u64) {
        let before = queue.unsynced;
        queue.unsynced += bytes;
        if before < BYTES_UNSYNCED && queue.unsynced >= BYTES_UNSYNCED {
            self.written.notify_one();
        }
    }

    /// Syncs what was written while more is being written, until the queue is closed. The rest is left to the commit.
    pub(super) fn sync(&self, batch: &Batch<'_>) {
        let mut queue = self.lock();
        loop {
            while !queue.closed && queue.unsynced < BYTES_UNSYNCED {
                queue = self.written.wait(queue).expect("no holder panics");
            }
            if queue.closed {
                return;
            }
            queue.unsynced = 0;
            drop(queue);
            let synced = batch.sync_early();
            queue = self.lock();
            // The kernel tells of a failure once: the commit's own sync would not hear of it.
            if let Err(error) = synced {
                queue.failure.get_or_insert(error);
                return;
            }
        }
    }

    /// After all writers ended: whether all files were written.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        match self.queue.into_inner().expect("no holder panics").failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn take(&self) -> Option<(HashedBytes, Meta)> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.filled.wait(queue).expect("no holder panics");
            queue.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder panics")
    }
}
