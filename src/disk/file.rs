//! Whole-file verbs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{Context, DiskError};
use super::sync::{Durability, SyncSet};

/// Makes a directory and its parents, readable by the owner alone.
pub fn create_dir_all_private(path: &Path) -> Result<(), DiskError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).context("create directory", path)
}

/// Creates a file that must not exist yet, readable by the owner alone.
pub fn create_new(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).context("create", path)
}

/// Whether there is anything at a path; a dangling symlink counts.
pub fn exists(path: &Path) -> Result<bool, DiskError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DiskError::new("look at", path, error)),
    }
}

/// Removes a file; whether it was there.
pub fn remove_file(path: &Path) -> Result<bool, DiskError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DiskError::new("remove", path, error)),
    }
}

/// Gives a file another name; an existing file of that name is replaced at once.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).context("rename into place", to)
}

/// Reads a file that may have at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).context("open", path)?;
    Read::by_ref(&mut file).take(limit.saturating_add(1)).read_to_end(&mut bytes).context("read", path)?;
    if bytes.len() as u64 > limit {
        let reason = io::Error::other(format!("it is larger than {limit} bytes"));
        return Err(DiskError::new("read", path, reason));
    }
    Ok(bytes)
}

/// Creates a file beside `path` under a name that nobody else uses, not even a process of the same number in another pid namespace.
fn temporary_beside(path: &Path) -> Result<(PathBuf, File), DiskError> {
    let mut number = u64::from(std::process::id()) << 32;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number:x}.tmp"));
        let temporary = path.with_file_name(name);
        match create_new(&temporary) {
            Err(error) if error.io().kind() == io::ErrorKind::AlreadyExists => number += 1,
            created => return created.map(|file| (temporary, file)),
        }
    }
}

/// Replaces a small file as a whole: readers see the old or the new bytes, also after a crash.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), DiskError> {
    let (temporary, mut file) = temporary_beside(path)?;
    let mut write = || {
        file.write_all(bytes).context("write", &temporary)?;
        if durability == Durability::Commit {
            file.sync_all().context("sync", &temporary)?;
        }
        rename(&temporary, path)?;
        let mut sync = SyncSet::new(durability);
        sync.directory(path.parent().unwrap_or(Path::new(".")));
        sync.finish()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
