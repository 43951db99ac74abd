//! Moving refs.

use std::collections::HashSet;
use std::path::PathBuf;

use super::git::{HeadTarget, Local, OldValue, Step, TransactionError};
use super::journal::Lock;
use super::{GitError, History, HistoryError, RefKind, RefName, Who};
use super::{reflog, sync};
use crate::object::CommitId;

/// What a ref must be for an edit of it to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Any,
    /// It must not exist.
    Absent,
    /// It must be at that commit.
    Is(CommitId),
}

/// One ref to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefEdit {
    /// The ref.
    pub name: RefName,
    /// What it must be before.
    pub expected: Expected,
    /// Where it goes; `None` deletes it and its log.
    pub new: Option<CommitId>,
}

/// Why refs were not moved. None of them was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// A ref is not what was expected: somebody else moved it.
    #[error("{name} {}, expected {}", at(*found), match expected {
        Expected::Any => "anything".to_owned(),
        Expected::Absent => "none of that name".to_owned(),
        Expected::Is(commit) => commit.short(),
    })]
    Conflict {
        /// The ref.
        name: RefName,
        /// What was expected.
        expected: Expected,
        /// Where it is; `None` when it does not exist.
        found: Option<CommitId>,
    },
    /// Git keeps refs as files: `a` and `a/b` cannot both exist.
    #[error("{name} cannot exist beside {existing}: a name cannot continue another after a slash")]
    DirectoryConflict {
        /// The ref that was to be made.
        name: RefName,
        /// The ref in its way, in Git's full name when it is of no known kind.
        existing: String,
    },
    /// One edit names the same ref twice.
    #[error("{0} is named twice in one edit")]
    Twice(RefName),
    /// A branch to rename or delete does not exist.
    #[error("there is no {0}")]
    NoSuchRef(RefName),
    /// The history could not be read or written.
    #[error(transparent)]
    History(#[from] HistoryError),
}

fn at(found: Option<CommitId>) -> String {
    found.map_or_else(|| "does not exist".to_owned(), |commit| format!("is at {}", commit.short()))
}

impl History {
    /// Where a ref is; an annotated tag is followed to its commit.
    pub fn read_ref(&self, name: &RefName) -> Result<Option<CommitId>, HistoryError> {
        let value = self.git.local().find(&name.full());
        Ok(value.map_err(|source| self.git_error("reading a ref", source))?.map(|value| value.commit))
    }

    /// Every ref of a kind and where it is, by name.
    pub fn refs(&self, kind: RefKind) -> Result<Vec<(RefName, CommitId)>, HistoryError> {
        let found = self.git.local().list(kind.prefix());
        let found = found.map_err(|source| self.git_error("listing refs", source))?;
        let mut refs: Vec<_> = found
            .into_iter()
            .filter_map(|(full, commit)| Some((RefName::from_full(&full)?, commit)))
            .collect();
        refs.sort();
        Ok(refs)
    }

    /// Moves refs: all of them or, when one is not as expected, none.
    ///
    /// Each gets a line in its log, and so does HEAD when the branch that is checked out moves. A ref that already is
    /// where it should go is left alone.
    pub fn edit(&self, edits: &[RefEdit], message: &str, who: &Who) -> Result<(), EditError> {
        self.settle()?;
        let lock = self.lock()?;
        self.edit_locked(&lock, edits, message, who, true)
    }

    /// Deletes a ref and its log; says where it was.
    pub fn delete(&self, name: &RefName, expected: Expected, who: &Who) -> Result<CommitId, EditError> {
        self.settle()?;
        let lock = self.lock()?;
        let found = self.read_ref(name)?.ok_or_else(|| EditError::NoSuchRef(name.clone()))?;
        self.edit_locked(&lock, &[RefEdit { name: name.clone(), expected, new: None }], "", who, true)?;
        Ok(found)
    }

    /// [`edit`](Self::edit) under the lock. `log` says whether logs are written.
    pub(super) fn edit_locked(
        &self,
        lock: &Lock,
        edits: &[RefEdit],
        message: &str,
        who: &Who,
        log: bool,
    ) -> Result<(), EditError> {
        self.refuse_after_failed_sync()?;
        let message = reflog::one_line(message);
        let git = self.git.local();
        let mut tries = 0;
        loop {
            let steps = self.check(&git, edits)?;
            if steps.is_empty() {
                return Ok(());
            }
            let files: &[&str] =
                if steps.iter().any(|step| step.new.is_none()) { &["packed-refs"] } else { &[] };
            lock.note(self, &steps, files, &message, who)?;
            let mut touched = self.paths_of(&steps);
            let locks =
                steps.iter().filter(|step| step.new.is_some()).map(|step| self.lock_path_of(&step.full));
            let locks: Vec<_> = locks.collect();
            // The new value is on disk before it gets its name: a power cut must not leave an empty ref.
            let before_commit = || -> Result<(), HistoryError> {
                self.must_sync(locks.iter().cloned());
                self.settle()?;
                if log { self.log_head(&git, &steps, &message, who) } else { Ok(()) }
            };
            match git.transact(&steps, &message, who, log, before_commit) {
                Ok(()) => {
                    touched.retain(|path| path.exists());
                    self.must_sync(touched);
                    return Ok(self.settle()?);
                }
                Err(TransactionError::Sync(error)) => return Err(error.into()),
                Err(TransactionError::Half(source)) => {
                    lock.keep_note();
                    return Err(self.git_error("moving refs", source).into());
                }
                // Stock git moved a ref, or holds a lock. Its lock may also be a dead process's.
                Err(TransactionError::Git(source)) => {
                    tries += 1;
                    if tries >= MAX_TRIES {
                        return Err(self.why(&git, edits, &steps, source));
                    }
                    for step in &steps {
                        sync::remove_stale(&self.lock_path_of(&step.full));
                    }
                    for name in ["HEAD", "packed-refs"] {
                        sync::remove_stale(&self.lock_path_of(name));
                    }
                }
            }
        }
    }

    /// Writes HEAD's line when the branch that is checked out moves, as Git does. Git's library would do it too, but
    /// only by taking the locks of HEAD and the branch in the order opposite to stock git's: both would wait in vain.
    fn log_head(&self, git: &Local, steps: &[Step], message: &str, who: &Who) -> Result<(), HistoryError> {
        let Ok(HeadTarget::Ref(head)) = git.head() else {
            return Ok(());
        };
        match steps.iter().find(|step| step.full == head) {
            Some(step) => {
                reflog::append(self, "HEAD", &reflog::line(step.old.commit(), step.new, who, message))
            }
            None => Ok(()),
        }
    }

    fn lock_path_of(&self, full: &str) -> PathBuf {
        sync::lock_path(&self.directory.join(full))
    }

    /// Compares every ref with what is expected of it and leaves what is to be done.
    fn check(&self, git: &Local, edits: &[RefEdit]) -> Result<Vec<Step>, EditError> {
        let mut seen = HashSet::new();
        let mut steps = Vec::with_capacity(edits.len());
        for edit in edits {
            if !seen.insert(&edit.name) {
                return Err(EditError::Twice(edit.name.clone()));
            }
            let full = edit.name.full();
            let old = match git.find(&full) {
                Ok(old) => old.map_or(OldValue::Absent, OldValue::Is),
                // An empty or torn ref is repaired by an edit that does not ask what it was.
                Err(_) if edit.expected == Expected::Any => OldValue::Broken,
                Err(source) => return Err(self.git_error("reading a ref", source).into()),
            };
            let commit = old.commit();
            let fits = match edit.expected {
                Expected::Any => true,
                Expected::Absent => commit.is_none(),
                Expected::Is(expected) => commit == Some(expected),
            };
            if !fits {
                let (name, expected) = (edit.name.clone(), edit.expected);
                return Err(EditError::Conflict { name, expected, found: commit });
            }
            if let Some(new) = edit.new {
                if !git.has_commit(&new) {
                    return Err(HistoryError::MissingCommit(new).into());
                }
                if matches!(old, OldValue::Absent) {
                    self.check_directories(git, edit, &full)?;
                }
            }
            if edit.new != commit || matches!(old, OldValue::Broken) {
                steps.push(Step { full, old, new: edit.new });
            }
        }
        Ok(steps)
    }

    /// Git's library looks at loose refs only, so a packed `a` would not keep it from making `a/b`.
    fn check_directories(&self, git: &Local, edit: &RefEdit, full: &str) -> Result<(), EditError> {
        let conflict = |existing: &str| {
            let existing =
                RefName::from_full(existing).map_or_else(|| existing.to_owned(), |name| name.to_string());
            Err(EditError::DirectoryConflict { name: edit.name.clone(), existing })
        };
        let kind = edit.name.kind().prefix().len();
        for (at, _) in full.match_indices('/').filter(|(at, _)| *at > kind) {
            if git.find(&full[..at]).is_ok_and(|found| found.is_some()) {
                return conflict(&full[..at]);
            }
        }
        let below = git.list(&format!("{full}/"));
        let below = below.map_err(|source| self.git_error("listing refs", source))?;
        below.first().map_or(Ok(()), |(existing, _)| conflict(existing))
    }

    /// What a finished step leaves to be synced: logs, and the directories of what was renamed or removed.
    fn paths_of(&self, steps: &[Step]) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for step in steps {
            let log = self.log_path(&step.full);
            let made_log = !log.exists();
            let file = self.directory.join(&step.full);
            for (path, always) in [(file, true), (log.clone(), made_log)] {
                // The nearest directory that exists holds the name of one that will be made, and so on downwards.
                for parent in path.ancestors().skip(1).take_while(|path| **path != self.directory) {
                    if always || made_log {
                        paths.push(parent.to_owned());
                    }
                    if parent.exists() {
                        break;
                    }
                }
            }
            if step.new.is_some() {
                paths.push(log);
            } else {
                paths.push(self.directory.join("packed-refs"));
            }
        }
        paths
    }

    /// The reason for which Git's library refused, once waiting and sweeping did not help.
    fn why(&self, git: &Local, edits: &[RefEdit], steps: &[Step], source: GitError) -> EditError {
        if let Err(error) = self.check(git, edits) {
            return error;
        }
        let names = steps.iter().map(|step| step.full.as_str()).chain(["HEAD", "packed-refs"]);
        let held = names.map(|name| self.lock_path_of(name)).find(|lock| lock.exists());
        match held {
            Some(lock) => HistoryError::Locked(lock).into(),
            None => self.git_error("moving refs", source).into(),
        }
    }

    pub(super) fn git_error(&self, doing: &'static str, source: GitError) -> HistoryError {
        HistoryError::Git { doing, path: self.directory.clone(), source }
    }
}

/// Each try waits for locks as long as stock git does, 100 ms.
const MAX_TRIES: usize = 10;
