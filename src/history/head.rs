//! What is checked out.

use super::git::HeadTarget;
use super::journal::Lock;
use super::sync::Replacement;
use super::{BranchName, Durability, EditError, History, HistoryError, RefKind, RefName, Who, reflog};
use crate::object::CommitId;

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A branch, which moves with new commits; without a commit while nothing has been committed to it.
    Branch {
        /// The branch.
        name: BranchName,
        /// Where it is.
        commit: Option<CommitId>,
    },
    /// A commit by itself.
    Detached(CommitId),
}

impl Head {
    /// The commit, when there is one.
    pub fn commit(&self) -> Option<CommitId> {
        match self {
            Self::Branch { commit, .. } => *commit,
            Self::Detached(commit) => Some(*commit),
        }
    }

    /// As Git's "checkout: moving from … to …" names it, which `@{-1}` reads.
    fn label(&self) -> String {
        match self {
            Self::Branch { name, .. } => name.to_string(),
            Self::Detached(commit) => commit.to_string(),
        }
    }
}

impl History {
    /// What is checked out.
    pub fn head(&self) -> Result<Head, HistoryError> {
        let git = self.git.local();
        let failed = |source| self.git_error("reading HEAD", source);
        match git.head().map_err(failed)? {
            HeadTarget::Commit(commit) => Ok(Head::Detached(commit)),
            HeadTarget::Ref(full) => {
                let name =
                    full.strip_prefix(RefKind::Branch.prefix()).and_then(|name| BranchName::new(name).ok());
                let name = name.ok_or_else(|| HistoryError::StrangeHead(full.clone()))?;
                let commit = git.find(&full).map_err(failed)?.map(|value| value.commit);
                Ok(Head::Branch { name, commit })
            }
        }
    }

    /// Checks out a branch, which need not exist yet.
    pub fn attach_head(&self, branch: &BranchName, who: &Who) -> Result<(), EditError> {
        self.settle()?;
        let lock = self.lock()?;
        let commit = self.read_ref(&RefName::Branch(branch.clone()))?;
        self.switch_head(&lock, &Head::Branch { name: branch.clone(), commit }, None, who)
    }

    /// Checks out a commit by itself.
    pub fn detach_head(&self, commit: &CommitId, who: &Who) -> Result<(), EditError> {
        self.settle()?;
        if !self.has_commit(commit) {
            return Err(HistoryError::MissingCommit(*commit).into());
        }
        let lock = self.lock()?;
        self.switch_head(&lock, &Head::Detached(*commit), None, who)
    }

    /// Moves HEAD. Git's library would write no line in the log, or one without the old commit, so both are done here;
    /// the line first, as Git does. Called under the lock.
    pub(super) fn switch_head(
        &self,
        lock: &Lock,
        to: &Head,
        message: Option<&str>,
        who: &Who,
    ) -> Result<(), EditError> {
        lock.note(self, &[], &["HEAD"], "", who)?;
        let path = self.directory.join("HEAD");
        let replacement = Replacement::begin(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => HistoryError::Locked(super::sync::lock_path(&path)),
            _ => HistoryError::io("replacing", &path, source),
        })?;
        // A HEAD that cannot be read is no reason not to repair it.
        let from = self.head().ok();
        let content = match to {
            Head::Branch { name, .. } => format!("ref: {}{name}\n", RefKind::Branch.prefix()),
            Head::Detached(commit) => format!("{commit}\n"),
        };
        let new = to.commit();
        if new.is_some() {
            let old = from.as_ref().and_then(Head::commit);
            let moved = || {
                let from = from.as_ref().map_or_else(|| "(unknown)".to_owned(), Head::label);
                format!("checkout: moving from {from} to {}", to.label())
            };
            let message = message.map_or_else(moved, str::to_owned);
            let line = reflog::line(old, new, who, &message);
            reflog::append(self, "HEAD", &line)?;
        }
        replacement
            .finish(content.as_bytes(), self.durability() == Durability::Commit)
            .map_err(|source| HistoryError::io("replacing", &path, source))?;
        Ok(self.settle()?)
    }
}
