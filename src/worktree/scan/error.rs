//! What can go wrong while a host directory is read.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::DiskError;
use crate::object::{DraftError, InvalidName};
use crate::store::StoreError;

/// A host directory or file could not be read into a draft.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The caller's rights do not suffice.
    #[error("cannot read {}: {source}; exclude it, or read it as a user who may", path.display())]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file's bytes changed during each reading.
    #[error("{} changes while it is read: stop what writes to it, or exclude it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Something else stands under the name than a moment ago.
    #[error("{} was replaced while it was read: try again when nothing changes it", path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// The source must be a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The source.
        path: PathBuf,
    },
    /// The source must not be a directory.
    #[error("{} is a directory", path.display())]
    IsADirectory {
        /// The source.
        path: PathBuf,
    },
    /// The file system gave a name that no tree can hold.
    #[error("in {}: {source}", path.display())]
    Name {
        /// The directory.
        path: PathBuf,
        /// What is wrong with the name.
        source: InvalidName,
    },
    /// A file verb failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The draft refused an entry.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The bytes could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives a system error the verb and the path it was about.
pub(crate) trait ScanErrorContext<T> {
    /// Says what was attempted on what.
    fn context(self, verb: &'static str, path: &Path) -> Result<T, ScanError>;
}

impl<T, E: Into<io::Error>> ScanErrorContext<T> for Result<T, E> {
    fn context(self, verb: &'static str, path: &Path) -> Result<T, ScanError> {
        self.map_err(|error| {
            let error = error.into();
            match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ScanError::Unreadable { path: path.to_owned(), source: error }
                }
                _ => DiskError::new(verb, path, error).into(),
            }
        })
    }
}
