//! What can go wrong with a history.

use std::path::{Path, PathBuf};

use crate::object::CommitId;

/// What Git's library said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GitError(pub(super) String);

/// Why a history could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// There is no repository.
    #[error("there is no history at {}", .0.display())]
    Missing(PathBuf),
    /// The directory is no repository that can be used.
    #[error("{} is not a usable Git repository; `git fsck` there may say more", path.display())]
    NotARepository {
        /// The directory.
        path: PathBuf,
        /// What Git's library said.
        source: GitError,
    },
    /// The handle only reads.
    #[error("the store is read-only: no ref of it can be changed; use one that you may write, with --store")]
    ReadOnly,
    /// A commit does not exist here.
    #[error(
        "commit {0} is not in the history; `git gc` removes what no branch, tag, image or reflog leads to"
    )]
    MissingCommit(CommitId),
    /// A commit that treebox did not make: it has no record.
    #[error("commit {0} has no `state.json`: treebox did not make it")]
    NoRecord(CommitId),
    /// A record larger than a commit may carry.
    #[error("a commit's record has {len} bytes, {max} at most")]
    RecordTooLarge {
        /// Its length.
        len: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A note that is too long to be read whole.
    #[error("a note has {len} bytes, {max} at most: keep long texts in a file and its name in the note")]
    NoteTooLong {
        /// Its length.
        len: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A commit message with a NUL byte, which Git refuses.
    #[error("a commit message cannot contain a NUL byte")]
    NulInMessage,
    /// HEAD is attached to a ref that is no branch.
    #[error("HEAD is attached to `{0}`, which is not a branch: attach it to one with `treebox checkout`")]
    StrangeHead(String),
    /// An earlier sync failed, so what is on disk is unknown.
    #[error("an earlier sync failed; nothing more is changed until the store is opened again")]
    SyncFailed,
    /// A lock file of Git's that another program holds.
    #[error("{} is held by another program; remove it if no git process is running", .0.display())]
    Locked(PathBuf),
    /// A file could not be used.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Git's library failed.
    #[error("{doing} in {}: {source}", path.display())]
    Git {
        /// What was tried.
        doing: &'static str,
        /// The repository.
        path: PathBuf,
        /// What it said.
        source: GitError,
    },
}

impl HistoryError {
    pub(super) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}
