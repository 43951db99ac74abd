//! The error of every file verb.

use std::io;
use std::path::{Path, PathBuf};

/// A file verb that failed: what was attempted, on what, and the system's reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}: {source}", path.display())]
pub struct DiskError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl DiskError {
    /// An error of `verb` on `path`.
    pub fn new(verb: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { verb, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// The system's reason.
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// The system's reason, for who has other words for the rest.
    pub(crate) fn into_io(self) -> io::Error {
        self.source
    }

    /// The path that the verb was about.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path was missing.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Gives an `io::Result` the verb and the path it was about.
pub(crate) trait Context<T> {
    /// Says what was attempted on what.
    fn context(self, verb: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, verb: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::new(verb, path, source))
    }
}
