//! What is checked out.

use super::edit::{HeadEdit, HeadStep};
use super::git::{HeadTarget, Local, Step};
use super::operations::HeadTo;
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

    /// The branch that is checked out; `None` when HEAD is detached.
    pub fn branch(&self) -> Option<&BranchName> {
        match self {
            Self::Branch { name, .. } => Some(name),
            Self::Detached(_) => None,
        }
    }

    /// Where it points.
    pub fn to(&self) -> HeadTo {
        match self {
            Self::Branch { name, .. } => HeadTo::Branch(name.clone()),
            Self::Detached(commit) => HeadTo::Detached(*commit),
        }
    }
}

impl HeadStep {
    /// A commit that it has to do with.
    pub(super) fn any_commit(&self) -> Option<CommitId> {
        self.new_commit.or(self.old_commit)
    }

    /// As Git says it; `@{-1}` is read from that.
    pub(super) fn message(&self) -> String {
        let label = |to: &HeadTo| match to {
            HeadTo::Branch(name) => name.to_string(),
            HeadTo::Detached(commit) => commit.to_string(),
        };
        let from = self.old.as_ref().map_or_else(|| "(unknown)".to_owned(), label);
        format!("checkout: moving from {from} to {}", label(&self.new))
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
        self.edit_with_head(&[], &HeadTo::Branch(branch.clone()).into(), "", who)
    }

    /// Checks out a commit by itself.
    pub fn detach_head(&self, commit: &CommitId, who: &Who) -> Result<(), EditError> {
        self.edit_with_head(&[], &HeadTo::Detached(*commit).into(), "", who)
    }

    /// What moving HEAD comes to, after these refs have moved; `None` when it is there already.
    pub(super) fn check_head(
        &self,
        git: &Local,
        edit: &HeadEdit,
        steps: &[Step],
    ) -> Result<Option<HeadStep>, EditError> {
        // A HEAD that cannot be read is no reason not to repair it.
        let from = self.head().ok();
        let old = from.as_ref().map(Head::to);
        if edit.expected.is_some() && edit.expected != old {
            return Err(EditError::HeadMoved);
        }
        let to = &edit.to;
        let new_commit = match to {
            HeadTo::Detached(commit) if !git.has_commit(commit) => {
                return Err(HistoryError::MissingCommit(*commit).into());
            }
            HeadTo::Detached(commit) => Some(*commit),
            HeadTo::Branch(name) => {
                let name = RefName::Branch(name.clone());
                let full = name.full();
                match steps.iter().find(|step| step.full == full) {
                    Some(step) => step.new,
                    None => self.read_ref(&name)?,
                }
            }
        };
        let old_commit = from.as_ref().and_then(Head::commit);
        // Git writes a line even when a branch is checked out that already is; here nothing changed.
        let moves = old.as_ref() != Some(to);
        Ok(moves.then(|| HeadStep { old, new: to.clone(), old_commit, new_commit }))
    }

    /// Moves HEAD. Git's library would write no line in the log, or one without the old commit, so both are done here;
    /// the line first, as Git does. Called under the lock, with a note of it.
    pub(super) fn switch_head(
        &self,
        step: &HeadStep,
        message: Option<&str>,
        who: &Who,
    ) -> Result<(), HistoryError> {
        let path = self.directory.join("HEAD");
        let replacement = Replacement::begin(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => HistoryError::Locked(super::sync::lock_path(&path)),
            _ => HistoryError::io("replacing", &path, source),
        })?;
        if step.new_commit.is_some() {
            let message = message.map_or_else(|| step.message(), str::to_owned);
            let line = reflog::line(step.old_commit, step.new_commit, who, &message);
            reflog::append(self, "HEAD", &line)?;
        }
        // The record of the operation lasts before what it records.
        self.settle()?;
        replacement
            .finish(step.new.content().as_bytes(), self.durability() == Durability::Commit)
            .map_err(|source| HistoryError::io("replacing", &path, source))
    }
}
