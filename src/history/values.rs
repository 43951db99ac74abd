//! What Git's library is asked for and gives, in this room's own words; `git.rs` speaks with it.

use std::path::PathBuf;

use super::{GitError, HistoryError};
use crate::object::CommitId;

/// The kind of an object to write.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Blob,
    Tree,
    Commit,
}

/// An object that exists now.
pub(super) struct Written {
    /// Its name. Not only commits have one of that type.
    pub(super) id: CommitId,
    /// What must be synced for it to last.
    pub(super) unsynced: Vec<PathBuf>,
}

/// Where HEAD points.
pub(super) enum HeadTarget {
    Ref(String),
    Commit(CommitId),
}

/// Why refs were not moved.
pub(super) enum TransactionError {
    /// None of them was.
    Git(GitError),
    /// Some may have been.
    Half(GitError),
    Sync(HistoryError),
}

/// A commit object.
pub(super) struct CommitObject {
    pub(super) tree: CommitId,
    pub(super) parents: Vec<CommitId>,
    pub(super) message: String,
    pub(super) time_seconds: i64,
}

/// One entry of a Git tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub(super) mode: u16,
    pub(super) name: Vec<u8>,
    pub(super) id: CommitId,
}

/// What a revision means.
pub(super) enum Revision {
    Include(CommitId),
    ParentsOf(CommitId),
    WithoutParents(CommitId),
    Other,
}

/// Why a revision means nothing.
pub(super) enum RevisionError {
    NotFound(String),
    Ambiguous(Vec<String>),
    NoCommit(String),
    Unsupported(String),
    Git(GitError),
}
