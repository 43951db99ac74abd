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
        for Leftover { path, .. } in self.leftovers()? {
            if path.is_dir() {
                std::fs::remove_dir_all(&path)
                    .map_err(|source| HistoryError::io("removing", &path, source))?;
                removed.push(path);
            } else if sync::remove_stale(&path) {
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// What dead processes left here: what [`sweep`](Self::sweep) would remove.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, HistoryError> {
        let mut found = Vec::new();
        let is_lock = |name: &OsStr| name.as_encoded_bytes().ends_with(b".lock");
        // A half-written object of Git's library; stock git's own are `tmp_obj_*`, which `git gc` knows.
        let is_half = |name: &OsStr| name.as_encoded_bytes().starts_with(b".tmp");
        let mut below = |directory: &Path, depth, wanted: &dyn Fn(&OsStr) -> bool, is_lock| {
            let mut paths = Vec::new();
            find(directory, depth, wanted, &mut paths)?;
            found.extend(paths.into_iter().map(|path| Leftover { path, is_lock }));
            Ok::<(), HistoryError>(())
        };
        below(&self.directory, 0, &is_lock, true)?;
        below(&self.directory.join("refs"), usize::MAX, &is_lock, true)?;
        below(&self.directory.join("objects"), 1, &is_half, false)?;
        let unfinished = self.unfinished()?.into_iter().map(|path| Leftover { path, is_lock: false });
        found.extend(unfinished);
        Ok(found)
    }

    fn unfinished(&self) -> Result<Vec<PathBuf>, HistoryError> {
        let (Some(parent), Some(name)) = (self.directory.parent(), self.directory.file_name()) else {
            return Ok(Vec::new());
        };
        let mut prefix = name.to_owned();
        prefix.push(UNFINISHED);
        let mut found = entries(parent)?;
        found.retain(|entry| {
            let name = entry.file_name().unwrap_or_default();
            // Making one takes milliseconds; its directory's time is that of the last file made in it.
            name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) && sync::is_stale(entry)
        });
        Ok(found)
    }
}

/// Something that a dead process left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a lock file, which keeps others out.
    pub is_lock: bool,
}

fn find(
    directory: &Path,
    depth: usize,
    wanted: &dyn Fn(&OsStr) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), HistoryError> {
    for path in entries(directory)? {
        let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if is_directory && depth > 0 {
            find(&path, depth - 1, wanted, found)?;
        } else if !is_directory && wanted(path.file_name().unwrap_or_default()) && sync::is_stale(&path) {
            found.push(path);
        }
    }
    Ok(())
}
