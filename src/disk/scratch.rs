//! Directories for everything half-made.
//!
//! # Locking
//! A scratch directory `NAME` stands beside `NAME.lock`, which its owner holds locked. [`sweep`] removes every scratch whose lock is free:
//! its owner is dead.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Context, DiskError};
use super::file::create_dir_all_private;
use super::lock::{FileLock, LockMode};
use super::remove::remove_tree;

/// A private directory that vanishes with its owner.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: FileLock,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    /// Makes a scratch directory in `parent`.
    pub fn new(parent: &Path) -> Result<Self, DiskError> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            let (path, lock_path) = (parent.join(&name), parent.join(format!("{name}.lock")));
            // A process of the same number in another pid namespace may share the store: take the next number.
            let Some(lock) = FileLock::try_acquire(&lock_path, LockMode::Exclusive)? else { continue };
            if super::exists(&path)? {
                drop(lock);
                continue;
            }
            create_dir_all_private(&path)?;
            return Ok(Self { path, lock_path, _lock: lock });
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed here (files of mapped ids) is left, with its lock file, to the worker and the next sweep.
        if remove_tree(&self.path).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes the scratch directories of dead owners by `remove`, which says whether it could; gives those that are left.
pub fn sweep(parent: &Path, remove: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, DiskError> {
    let mut left = Vec::new();
    for entry in fs::read_dir(parent).context("list", parent)? {
        let found = entry.context("list", parent)?.path();
        let (path, lock) = if found.extension().is_some_and(|extension| extension == "lock") {
            (found.with_extension(""), FileLock::try_acquire_existing(&found)?)
        } else {
            // A lock is made before its directory and goes after it: only a power cut can have taken it, or its owner just now both.
            let lock_path = found.with_extension("lock");
            if super::exists(&lock_path)? || !super::exists(&found)? {
                continue;
            }
            let lock = FileLock::try_acquire(&lock_path, LockMode::Exclusive)?;
            (found, lock)
        };
        let Some(_lock) = lock else { continue };
        let lock_path = path.with_extension("lock");
        if remove(&path) {
            let _ = fs::remove_file(&lock_path);
        } else {
            left.push(path);
        }
    }
    Ok(left)
}

/// The scratch directories of dead owners, which [`sweep`] would remove.
pub fn dead_scratches(parent: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let mut dead = Vec::new();
    for entry in fs::read_dir(parent).context("list", parent)? {
        let lock_path = entry.context("list", parent)?.path();
        let is_lock = lock_path.extension().is_some_and(|extension| extension == "lock");
        if is_lock && FileLock::try_acquire_existing(&lock_path)?.is_some() {
            dead.push(lock_path.with_extension(""));
        }
    }
    Ok(dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_of_a_living_owner_survives_a_sweep_and_a_dead_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Scratch::new(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("999999999-0/deep")).unwrap();
        fs::write(dir.path().join("999999999-0.lock"), "").unwrap();
        // After a power cut the lock's name may be gone, or the directory's.
        fs::create_dir_all(dir.path().join("999999999-1/deep")).unwrap();
        fs::write(dir.path().join("999999999-2.lock"), "").unwrap();
        assert!(sweep(dir.path(), |path| remove_tree(path).is_ok()).unwrap().is_empty());
        assert!(alive.path().exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(alive);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
