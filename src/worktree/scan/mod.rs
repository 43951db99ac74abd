//! A host directory, or one host file, into a draft.
//!
//! Symlinks are never followed below the named source: every directory is opened relative to the one above it and refused when it is no
//! directory any more. What the caller may not read is an error, never left out.
//!
//! # Invariants
//! - A file's bytes and its size and time belong together: what changes while it is read is read again or refused.
//! - At most [`MAX_OPEN_FILES`] files and [`MAX_OPEN_DIRECTORIES`] directories are open, and 2 MiB of file bytes in memory, at any time.

mod error;
mod inode;
mod pool;
mod read;
mod walk;

#[cfg(test)]
pub(in crate::worktree) mod fixture;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use error::ScanError;
pub(crate) use error::ScanErrorContext;
pub use inode::{Inode, LeftOut, Owners, XattrSource, is_portable, read_xattrs};
pub use read::{FileReader, StoredFile};

use crate::object::{Draft, Kind, Patterns, TreePath};
use crate::store::Batch;

/// How many files wait, opened, for a thread that reads them.
pub const MAX_OPEN_FILES: usize = 64;
/// How many directories on the way down stay open; one further up is opened again through `..`.
pub const MAX_OPEN_DIRECTORIES: usize = 128;

/// What a scan takes and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScanOptions {
    /// Whose files the entries become.
    pub owners: Owners,
    /// Paths below the source that are left out with everything in them.
    pub exclude: Vec<TreePath>,
    /// Patterns that leave paths below the source out.
    pub patterns: Patterns,
    /// Host directories that are left out wherever the walk meets them, known by device and inode, such as the store itself.
    pub exclude_directories: Vec<PathBuf>,
    /// Whether directories of another file system than the source's become empty ones.
    pub one_file_system: bool,
    /// Whether the named source itself may be a symlink and stands for what it points to.
    pub follow_source: bool,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            owners: Owners::AsOnDisk,
            exclude: Vec::new(),
            patterns: Patterns::default(),
            exclude_directories: Vec::new(),
            one_file_system: false,
            follow_source: true,
        }
    }
}

impl ScanOptions {
    /// The options with another rule for owners.
    pub fn with_owners(owners: Owners) -> Self {
        Self { owners, ..Self::default() }
    }
}

/// Why something is not in the draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SkipReason {
    /// The options exclude it.
    Excluded,
    /// It was removed between the listing of its directory and the reading.
    Vanished,
    /// It is on another file system; the directory itself is there, empty.
    OtherFileSystem,
}

/// What a scan did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Entries placed, the source itself included.
    pub entries: u64,
    /// Sizes of the regular files in bytes; each file once, however many names it has.
    pub bytes: u64,
    /// What is not in the draft, by host path.
    pub skipped: Vec<(PathBuf, SkipReason)>,
    /// Extended attributes that were not kept: name and on how many files.
    pub xattrs_left_out: LeftOut,
}

/// Reads a host directory with everything below it into a draft at `at`.
///
/// Directories that the draft has already keep their other entries; anything else at the same path is replaced. The directory that is to
/// hold `at` must be in the draft. Blobs are in the batch when this returns.
pub fn scan(
    directory: &Path,
    batch: &Batch<'_>,
    draft: &mut Draft<'_>,
    at: &TreePath,
    options: &ScanOptions,
) -> Result<ScanReport, ScanError> {
    let source = walk::open_source(directory, options.follow_source)?;
    if source.inode.kind != Kind::Directory {
        return Err(ScanError::NotADirectory { path: directory.to_owned() });
    }
    pool::with_readers(batch, options.owners, |pool| {
        walk::Walk::new(directory, draft, at, options, pool)?.directory(source)
    })
}

/// Reads whatever is at a host path: [`scan`] for a directory, [`scan_file`] for anything else.
pub fn scan_path(
    path: &Path,
    batch: &Batch<'_>,
    draft: &mut Draft<'_>,
    at: &TreePath,
    options: &ScanOptions,
) -> Result<ScanReport, ScanError> {
    match scan(path, batch, draft, at, options) {
        Err(ScanError::NotADirectory { .. }) => scan_file(path, batch, draft, at, options),
        other => other,
    }
}

/// Reads one host file that is not a directory, of any kind, into a draft at `at`.
///
/// Whatever the draft had there is replaced. The directory that is to hold `at` must be in the draft.
pub fn scan_file(
    file: &Path,
    batch: &Batch<'_>,
    draft: &mut Draft<'_>,
    at: &TreePath,
    options: &ScanOptions,
) -> Result<ScanReport, ScanError> {
    let source = walk::open_source(file, options.follow_source)?;
    if source.inode.kind == Kind::Directory {
        return Err(ScanError::IsADirectory { path: file.to_owned() });
    }
    pool::with_readers(batch, options.owners, |pool| {
        walk::Walk::new(file, draft, at, options, pool)?.single(&source)
    })
}
