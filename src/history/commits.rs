//! Writing and reading commits.

use super::git::{Kind, Local};
use super::{Durability, History, HistoryError, IDENTITY_EMAIL, IDENTITY_NAME};
use crate::object::CommitId;

/// The file in a commit's Git tree that holds its record.
pub const RECORD_NAME: &str = "state.json";

/// The largest record of one commit: it is read whole.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// A commit to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit {
    /// Its parents, in order.
    pub parents: Vec<CommitId>,
    /// What `git log` shows. A newline is added at its end when there is none.
    pub message: String,
    /// The bytes of `state.json`.
    pub record: Vec<u8>,
    /// Its date, in seconds since 1970. To give equal builds equal ids, it must not come from a clock.
    pub time_seconds: i64,
}

/// A commit as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRecord {
    /// Its parents, in order.
    pub parents: Vec<CommitId>,
    /// What `git log` shows, without the newline at its end.
    pub message: String,
    /// The bytes of `state.json`.
    pub record: Vec<u8>,
    /// Its date, in seconds since 1970.
    pub time_seconds: i64,
}

impl History {
    /// Writes a commit: a blob, a tree and the commit object, each only when it does not exist yet.
    ///
    /// Nothing leads to it until a ref is moved; that is when it becomes durable.
    pub fn write_commit(&self, commit: &NewCommit) -> Result<CommitId, HistoryError> {
        self.write_one(&self.git.local(), commit)
    }

    /// Writes commits in order. Where a parent is a commit of the same batch, its id must be known beforehand, see
    /// [`write_chain`](Self::write_chain).
    pub fn write_commits(&self, commits: &[NewCommit]) -> Result<Vec<CommitId>, HistoryError> {
        let git = self.git.local();
        commits.iter().map(|commit| self.write_one(&git, commit)).collect()
    }

    /// Writes commits of which each has the one before it as its only parent, and the first the parents it names.
    pub fn write_chain(&self, commits: Vec<NewCommit>) -> Result<Vec<CommitId>, HistoryError> {
        let git = self.git.local();
        let mut ids: Vec<CommitId> = Vec::with_capacity(commits.len());
        for mut commit in commits {
            if let Some(before) = ids.last() {
                commit.parents = vec![*before];
            }
            ids.push(self.write_one(&git, &commit)?);
        }
        Ok(ids)
    }

    fn write_one(&self, git: &Local, commit: &NewCommit) -> Result<CommitId, HistoryError> {
        if commit.record.len() > MAX_RECORD_BYTES {
            return Err(HistoryError::RecordTooLarge { len: commit.record.len(), max: MAX_RECORD_BYTES });
        }
        if commit.message.contains('\0') {
            return Err(HistoryError::NulInMessage);
        }
        let blob = self.write_object(git, Kind::Blob, &commit.record)?;
        let mut tree = format!("100644 {RECORD_NAME}\0").into_bytes();
        tree.extend(blob.as_bytes());
        let tree = self.write_object(git, Kind::Tree, &tree)?;
        self.write_object(git, Kind::Commit, encode(commit, &tree).as_bytes())
    }

    pub(super) fn write_object(
        &self,
        git: &Local,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<CommitId, HistoryError> {
        self.remember_fresh(kind, bytes);
        if self.read_only {
            return Err(HistoryError::ReadOnly);
        }
        let written = git.write(kind, bytes).map_err(|source| self.git_error("writing a commit", source))?;
        if self.durability() == Durability::Commit {
            self.must_sync(written.unsynced);
        }
        Ok(written.id)
    }

    /// Whether the commit exists.
    pub fn has_commit(&self, id: &CommitId) -> bool {
        self.git.local().has_commit(id)
    }

    /// Reads a commit.
    ///
    /// # Errors
    /// [`HistoryError::MissingCommit`], and [`HistoryError::NoRecord`] for a commit that was not made here.
    pub fn read_commit(&self, id: &CommitId) -> Result<CommitRecord, HistoryError> {
        match self.read_commit_once(id) {
            // A `git gc` may have moved it just now, or taken what no ref leads to yet.
            Err(HistoryError::Git { .. } | HistoryError::MissingCommit(_)) => {
                self.write_fresh_again()?;
                self.read_commit_once(id)
            }
            read => read,
        }
    }

    fn read_commit_once(&self, id: &CommitId) -> Result<CommitRecord, HistoryError> {
        let git = self.git.local();
        let failed = |source| self.git_error("reading a commit", source);
        let commit = git.commit(id).map_err(failed)?.ok_or(HistoryError::MissingCommit(*id))?;
        let record =
            git.file(&commit.tree, RECORD_NAME).map_err(failed)?.ok_or(HistoryError::NoRecord(*id))?;
        let mut message = commit.message;
        if message.ends_with('\n') {
            message.pop();
        }
        Ok(CommitRecord { parents: commit.parents, message, record, time_seconds: commit.time_seconds })
    }
}

/// A commit object's bytes.
pub(super) fn encode(commit: &NewCommit, tree: &CommitId) -> String {
    let mut text = format!("tree {tree}\n");
    for parent in &commit.parents {
        text.push_str(&format!("parent {parent}\n"));
    }
    for role in ["author", "committer"] {
        text.push_str(&format!("{role} {IDENTITY_NAME} <{IDENTITY_EMAIL}> {} +0000\n", commit.time_seconds));
    }
    text.push('\n');
    text.push_str(&commit.message);
    if !commit.message.ends_with('\n') {
        text.push('\n');
    }
    text
}
