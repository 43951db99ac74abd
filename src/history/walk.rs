//! Going through history.

use super::{History, HistoryError};
use crate::object::CommitId;

/// In which order a walk shows commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest date first, as `git log`.
    #[default]
    Time,
    /// No parent before all its children, and branches not mixed, as `git log --topo-order`. The first
    /// commit comes only after the whole history has been seen.
    Topological,
}

/// What a walk shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalkOptions {
    /// Where it starts.
    pub tips: Vec<CommitId>,
    /// What is not shown, with all its ancestors.
    pub hidden: Vec<CommitId>,
    /// In which order.
    pub order: Order,
    /// Whether only the first parent of each commit is followed.
    pub first_parent: bool,
}

/// One commit of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// The commit.
    pub id: CommitId,
    /// Its parents; only the first when only that is followed.
    pub parents: Vec<CommitId>,
    /// Its date, in seconds since 1970.
    pub time_seconds: i64,
}

/// A walk under way.
pub struct Walk<'h> {
    history: &'h History,
    inner: super::git::Steps,
}

impl Iterator for Walk<'_> {
    type Item = Result<Walked, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.inner.next()?;
        Some(step.map_err(|source| self.history.git_error("walking through history", source)))
    }
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").finish_non_exhaustive()
    }
}

impl History {
    /// Goes from the tips through all their ancestors.
    pub fn walk(&self, options: &WalkOptions) -> Result<Walk<'_>, HistoryError> {
        let git = self.git.local();
        if let Some(missing) = options.tips.iter().chain(&options.hidden).find(|id| !git.has_commit(id)) {
            return Err(HistoryError::MissingCommit(*missing));
        }
        let inner = git.walk(options).map_err(|source| self.git_error("walking through history", source))?;
        Ok(Walk { history: self, inner })
    }

    /// The best common ancestor of two commits, when there is one.
    pub fn merge_base(&self, a: &CommitId, b: &CommitId) -> Result<Option<CommitId>, HistoryError> {
        Ok(self.merge_bases(a, b)?.first().copied())
    }

    /// Every best common ancestor of two commits; more than one where branches were merged both ways.
    pub fn merge_bases(&self, a: &CommitId, b: &CommitId) -> Result<Vec<CommitId>, HistoryError> {
        let git = self.git.local();
        if let Some(missing) = [a, b].into_iter().find(|id| !git.has_commit(id)) {
            return Err(HistoryError::MissingCommit(*missing));
        }
        git.merge_bases(a, b).map_err(|source| self.git_error("finding a common ancestor", source))
    }

    /// Whether `ancestor` is `descendant` or one of its ancestors.
    pub fn is_ancestor(&self, ancestor: &CommitId, descendant: &CommitId) -> Result<bool, HistoryError> {
        Ok(ancestor == descendant || self.merge_bases(ancestor, descendant)?.contains(ancestor))
    }
}
