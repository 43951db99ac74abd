//! The lock between those who make or take something and the one who deletes: `<store>/gc.lock`.
//!
//! It is shared for moments by whoever relies on something that no root leads to yet, and exclusive while a slice of garbage is
//! deleted. Beside the lock the file holds 16 bytes: the generation, which grows before anything is deleted, and since when a deleter waits.
//! Both are little-endian; a file that is shorter holds zeros.
//!
//! # Locking
//! A process holds the shared lock once, however many of its threads use it. The kernel does not make new sharers queue behind a waiting
//! deleter, so these hold back for a while when they see that one waits, and a deleter gets its turn in a busy store too.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::disk::{DiskError, FileLock, LockMode};

/// How long a sharer lets a waiting deleter go first.
const HOLD_BACK: Duration = Duration::from_millis(100);
/// The same for a thread whose process has the lock: it may be its own, which the deleter waits for.
const HOLD_BACK_INSIDE: Duration = Duration::from_millis(10);
/// A deleter says this often that it still waits.
const WAITING_LASTS: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(1);

/// The lock of one store, for one process.
#[derive(Debug)]
pub struct GcLock {
    path: PathBuf,
    shared: Mutex<Shared>,
    /// Whether it is taken at all.
    takes: bool,
}

#[derive(Debug, Default)]
struct Shared {
    holders: usize,
    lock: Option<FileLock>,
}

/// While it lives nothing is deleted.
#[derive(Debug)]
pub struct Undeleted {
    lock: Arc<GcLock>,
}

/// While it lives nobody makes, takes or deletes anything else.
#[derive(Debug)]
pub struct Deleting {
    lock: FileLock,
    path: PathBuf,
}

impl GcLock {
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, shared: Mutex::default(), takes: true })
    }

    /// One that is never taken, for a store that is only read: who deletes there is not kept away.
    pub(super) fn never_taken(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, shared: Mutex::default(), takes: false })
    }

    /// Keeps everything from being deleted. Waits for the slice that is being deleted just now.
    pub fn share(self: &Arc<Self>) -> Result<Undeleted, DiskError> {
        let mut shared = self.lock();
        if shared.holders > 0 {
            let began = Instant::now();
            while shared.holders > 0
                && began.elapsed() < HOLD_BACK_INSIDE
                && shared.lock.as_ref().is_some_and(|lock| somebody_waits(lock.file()))
            {
                drop(shared);
                std::thread::sleep(PAUSE);
                shared = self.lock();
            }
        }
        if shared.holders == 0 {
            shared.lock = self.take_shared()?;
        }
        shared.holders += 1;
        Ok(Undeleted { lock: Arc::clone(self) })
    }

    /// `None` on a disk that cannot be written: nothing can be deleted there.
    fn take_shared(&self) -> Result<Option<FileLock>, DiskError> {
        if !self.takes {
            return Ok(None);
        }
        let began = Instant::now();
        loop {
            let lock = match FileLock::acquire(&self.path, LockMode::Shared) {
                Ok(lock) => lock,
                Err(error) if error.io().kind() == std::io::ErrorKind::ReadOnlyFilesystem => return Ok(None),
                Err(error) => return Err(error),
            };
            if began.elapsed() >= HOLD_BACK || !somebody_waits(lock.file()) {
                return Ok(Some(lock));
            }
            drop(lock);
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes the lock for deleting; `None` when `give_up` said so while others had it. Whoever shares it already must not call this.
    pub fn delete(&self, give_up: &dyn Fn() -> bool) -> Result<Option<Deleting>, DiskError> {
        let mut told: Option<Instant> = None;
        loop {
            if let Some(lock) = FileLock::try_acquire(&self.path, LockMode::Exclusive)? {
                let deleting = Deleting { lock, path: self.path.clone() };
                if told.is_some() {
                    deleting.write(8, 0)?;
                }
                return Ok(Some(deleting));
            }
            if told.is_none_or(|told| told.elapsed() >= WAITING_LASTS) {
                let file = File::options().write(true).open(&self.path);
                let written = file.and_then(|file| file.write_all_at(&now_ms().to_le_bytes(), 8));
                written.map_err(|error| DiskError::new("write", &self.path, error))?;
                told = Some(Instant::now());
            }
            if give_up() {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Undeleted {
    /// How often something may have been deleted so far.
    pub fn generation(&self) -> u64 {
        self.lock.lock().lock.as_ref().map_or(0, |lock| read(lock.file(), 0))
    }
}

impl Drop for Undeleted {
    fn drop(&mut self) {
        let mut shared = self.lock.lock();
        shared.holders -= 1;
        if shared.holders == 0 {
            shared.lock = None;
        }
    }
}

impl Deleting {
    /// Says that something is about to be deleted. Whoever relied on what was there looks again.
    pub fn announce(&self) -> Result<(), DiskError> {
        self.write(0, read(self.lock.file(), 0).wrapping_add(1))
    }

    fn write(&self, at: u64, value: u64) -> Result<(), DiskError> {
        let written = self.lock.file().write_all_at(&value.to_le_bytes(), at);
        written.map_err(|error| DiskError::new("write", &self.path, error))
    }
}

fn read(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}

/// Whether a deleter said lately that it waits; one that was killed has said so for the last time.
fn somebody_waits(file: &File) -> bool {
    let since = read(file, 8);
    let lasts = 2 * u64::try_from(WAITING_LASTS.as_millis()).unwrap_or(u64::MAX);
    since != 0 && now_ms().abs_diff(since) < lasts
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleter_waits_for_sharers_and_gets_its_turn_among_many() {
        let dir = tempfile::tempdir().unwrap();
        let lock = GcLock::new(dir.path().join("gc.lock"));
        let (first, second) = (lock.share().unwrap(), lock.share().unwrap());
        assert_eq!(first.generation(), 0);
        drop(first);
        assert!(lock.delete(&|| true).unwrap().is_none(), "one still shares");
        drop(second);
        lock.delete(&|| false).unwrap().unwrap().announce().unwrap();
        assert_eq!(lock.share().unwrap().generation(), 1);

        // Three that share all the time, as of three processes, and between them there is never a gap.
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let other = GcLock::new(dir.path().join("gc.lock"));
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let _held = other.share().unwrap();
                        std::thread::sleep(Duration::from_millis(3));
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20));
            let began = Instant::now();
            for _ in 0..5 {
                drop(lock.delete(&|| false).unwrap().unwrap());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        });
    }
}
