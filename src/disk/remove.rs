//! Removing whole trees.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::{Context, DiskError};

/// Removes a path with everything below it; a missing path is fine. Symlinks are removed, never followed.
///
/// Directories that their owner cannot enter are opened up first. What belongs to mapped ids cannot be removed from outside the user
/// namespace: that is the worker's job.
pub fn remove_tree(path: &Path) -> Result<(), DiskError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path).context("remove", path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            fs::remove_file(path).context("remove", path)
        }
        other => other.context("remove", path),
    }
}

fn open_up(path: &Path) -> Result<(), DiskError> {
    let meta = fs::symlink_metadata(path).context("look at", path)?;
    if !meta.is_dir() {
        return Ok(());
    }
    if meta.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).context("open up", path)?;
    }
    for entry in fs::read_dir(path).context("list", path)? {
        open_up(&entry.context("list", path)?.path())?;
    }
    Ok(())
}
