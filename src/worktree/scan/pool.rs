//! The threads that read files while the walk goes on.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use super::read::{FileReader, StoredFile};
use super::{MAX_OPEN_FILES, Owners, ScanError};
use crate::object::{LinkKey, TreePath, Xattrs};
use crate::store::Batch;

const THREADS: usize = 2;

/// A regular file to read.
pub(super) struct Job {
    pub(super) file: File,
    pub(super) host_path: PathBuf,
    pub(super) path: TreePath,
    pub(super) xattrs: Xattrs,
    pub(super) link: Option<LinkKey>,
}

/// A file that was read.
pub(super) struct Done {
    pub(super) path: TreePath,
    pub(super) link: Option<LinkKey>,
    pub(super) stored: StoredFile,
}

/// The walk's end of the readers.
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    done: Receiver<Result<Done, ScanError>>,
}

impl Pool {
    /// Hands a file to the readers; waits while [`MAX_OPEN_FILES`] are ahead of it.
    pub(super) fn read(&self, job: Job) {
        // The readers go away only after the walk, so the send cannot fail; if it did, no result would come and `finish` end the same way.
        let _ = self.jobs.send(job);
    }

    /// A file that is ready, if there is one.
    pub(super) fn ready(&self) -> Option<Result<Done, ScanError>> {
        self.done.try_recv().ok()
    }

    /// All that is still under way.
    pub(super) fn finish(self) -> impl Iterator<Item = Result<Done, ScanError>> {
        drop(self.jobs);
        self.done.into_iter()
    }
}

/// Runs a walk with readers at its side.
pub(super) fn with_readers<T>(
    batch: &Batch<'_>,
    owners: Owners,
    walk: impl FnOnce(Pool) -> Result<T, ScanError>,
) -> Result<T, ScanError> {
    let (jobs, queue) = mpsc::sync_channel::<Job>(MAX_OPEN_FILES - THREADS);
    let (results, done) = mpsc::channel();
    let (queue, stop) = (Mutex::new(queue), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (results, queue, stop) = (results.clone(), &queue, &stop);
            scope.spawn(move || {
                let mut reader = FileReader::new(batch);
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    if stop.load(Ordering::Relaxed) {
                        continue;
                    }
                    if results.send(run(&mut reader, owners, job)).is_err() {
                        // The walk has ended with an error of its own.
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        drop(results);
        let walked = walk(Pool { jobs, done });
        stop.store(true, Ordering::Relaxed);
        walked
    })
}

fn run(reader: &mut FileReader<'_, '_>, owners: Owners, job: Job) -> Result<Done, ScanError> {
    let Job { mut file, host_path, path, xattrs, link } = job;
    let stored = reader.store(&mut file, &host_path, |inode| inode.meta(owners, xattrs.clone()))?;
    Ok(Done { path, link, stored })
}
