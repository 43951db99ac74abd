//! The few durable file verbs that Git's library lacks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::STALE_LOCK_AGE;

/// As long as Git's library waits for a lock file.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

/// Takes the kernel's exclusive lock on a file, made when missing, and waits for it as long as it takes.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|()| file),
        }
    }
}

/// Whether nobody holds the kernel's lock on a file just now.
pub(super) fn is_unlocked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok())
}

/// Brings a file or a directory to disk. One that is gone has nothing to bring.
pub(super) fn path(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings the whole file system that holds `path` to disk.
pub(super) fn file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Writes a new file.
pub(super) fn create(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// A file being replaced in Git's way: `<path>.lock` is made, filled and renamed. Dropped before that, it is removed.
pub(super) struct Replacement {
    path: PathBuf,
    lock: Option<PathBuf>,
}

impl Replacement {
    /// Takes Git's lock on a file; waits for another holder a little, and removes the lock of a dead one.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let lock = lock_path(path);
        let started = Instant::now();
        loop {
            match OpenOptions::new().write(true).create_new(true).open(&lock) {
                Ok(_) => return Ok(Self { path: path.to_owned(), lock: Some(lock) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !remove_stale(&lock) {
                        if started.elapsed() > LOCK_PATIENCE {
                            return Err(error);
                        }
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts the new content in place.
    pub(super) fn finish(mut self, bytes: &[u8], durable: bool) -> io::Result<()> {
        let lock = self.lock.as_ref().expect("a replacement is finished once");
        let mut file = OpenOptions::new().write(true).open(lock)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(lock, &self.path)?;
        self.lock = None;
        if durable && let Some(parent) = self.path.parent() {
            path(parent)?;
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            let _ = std::fs::remove_file(lock);
        }
    }
}

/// Git's lock file of a file.
pub(super) fn lock_path(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

/// Removes a file when it is old enough that its owner must be dead; says whether it did. Only under the store's lock.
pub(super) fn remove_stale(path: &Path) -> bool {
    is_stale(path) && std::fs::remove_file(path).is_ok()
}

/// Whether a file or directory is there and was last changed so long ago that its owner must be dead.
pub(super) fn is_stale(path: &Path) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = |modified| SystemTime::now().duration_since(modified).unwrap_or_default();
    modified.is_ok_and(|modified| age(modified) >= STALE_LOCK_AGE)
}
