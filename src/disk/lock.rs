//! Locks that the kernel releases when their owner dies.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{Context, DiskError};

/// How a lock excludes others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Many may hold it, and nobody exclusively.
    Shared,
    /// One may hold it.
    Exclusive,
}

/// A held `flock(2)` lock on a file; dropping it, or the death of the process, releases it.
#[derive(Debug)]
pub struct FileLock(Flock<File>);

impl FileLock {
    /// The locked file, for what is kept in it.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// Waits for the lock on a file, which is made when it is missing.
    pub fn acquire(path: &Path, mode: LockMode) -> Result<Self, DiskError> {
        let arg = match mode {
            LockMode::Shared => FlockArg::LockShared,
            LockMode::Exclusive => FlockArg::LockExclusive,
        };
        Ok(Self::lock(path, arg, true)?.expect("a blocking lock is granted or fails"))
    }

    /// Takes the lock if it is free at once.
    pub fn try_acquire(path: &Path, mode: LockMode) -> Result<Option<Self>, DiskError> {
        let arg = match mode {
            LockMode::Shared => FlockArg::LockSharedNonblock,
            LockMode::Exclusive => FlockArg::LockExclusiveNonblock,
        };
        Self::lock(path, arg, true)
    }

    /// Takes the exclusive lock on a file that exists, if it is free at once; `None` also when the file is gone.
    pub(super) fn try_acquire_existing(path: &Path) -> Result<Option<Self>, DiskError> {
        match Self::lock(path, FlockArg::LockExclusiveNonblock, false) {
            Err(error) if error.is_not_found() => Ok(None),
            other => other,
        }
    }

    fn lock(path: &Path, arg: FlockArg, create: bool) -> Result<Option<Self>, DiskError> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(create)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .context("open lock file", path)?;
            let held = match Flock::lock(file, arg) {
                Ok(held) => held,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, Errno::EINTR)) => continue,
                Err((_, errno)) => return Err(DiskError::new("lock", path, errno)),
            };
            if is_named(&held, path)? {
                return Ok(Some(Self(held)));
            }
            if !create {
                return Ok(None);
            }
        }
    }
}

/// Whether a path still leads to a file that was locked: one that was removed between the open and the lock guards nothing.
pub(super) fn is_named(file: &File, path: &Path) -> Result<bool, DiskError> {
    let file = file.metadata().context("look at", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DiskError::new("look at", path, error)),
    }
}
