//! Removing what dead processes left.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::layout::UNFINISHED;
use super::pack::entries;
use super::{EditError, History, HistoryError, sync};

impl History {
    /// Removes lock files, half-written objects and half-made repositories of dead processes; says which.
    ///
    /// Takes the store's lock, so no treebox process is in the middle of a change; what is younger than
    /// [`STALE_LOCK_AGE`](super::STALE_LOCK_AGE) may be a running git's and stays.
    pub fn sweep(&self) -> Result<Vec<PathBuf>, EditError> {
        let _lock = self.lock()?;
        let mut removed = Vec::new();
        let is_lock = |name: &OsStr| name.as_encoded_bytes().ends_with(b".lock");
        // A half-written object of Git's library; stock git's own are `tmp_obj_*`, which `git gc` knows.
        let is_half = |name: &OsStr| name.as_encoded_bytes().starts_with(b".tmp");
        sweep(&self.directory, 0, &is_lock, &mut removed)?;
        sweep(&self.directory.join("refs"), usize::MAX, &is_lock, &mut removed)?;
        sweep(&self.directory.join("objects"), 1, &is_half, &mut removed)?;
        self.sweep_unfinished(&mut removed)?;
        Ok(removed)
    }

    fn sweep_unfinished(&self, removed: &mut Vec<PathBuf>) -> Result<(), HistoryError> {
        let (Some(parent), Some(name)) = (self.directory.parent(), self.directory.file_name()) else {
            return Ok(());
        };
        let mut prefix = name.to_owned();
        prefix.push(UNFINISHED);
        for entry in entries(parent)? {
            let name = entry.file_name().unwrap_or_default();
            // Making one takes milliseconds; its directory's time is that of the last file made in it.
            if name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) && sync::is_stale(&entry) {
                std::fs::remove_dir_all(&entry)
                    .map_err(|source| HistoryError::io("removing", &entry, source))?;
                removed.push(entry);
            }
        }
        Ok(())
    }
}

fn sweep(
    directory: &Path,
    depth: usize,
    wanted: &dyn Fn(&OsStr) -> bool,
    removed: &mut Vec<PathBuf>,
) -> Result<(), HistoryError> {
    for path in entries(directory)? {
        let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if is_directory && depth > 0 {
            sweep(&path, depth - 1, wanted, removed)?;
        } else if !is_directory && wanted(path.file_name().unwrap_or_default()) && sync::remove_stale(&path) {
            removed.push(path);
        }
    }
    Ok(())
}
