//! Moving refs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::git::{HeadTarget, Local, OldValue, Step, TransactionError};
use super::journal::Lock;
use super::operations::{HeadTo, Purpose};
use super::{GitError, History, HistoryError, RefKind, RefName, Who};
use super::{reflog, sync};
use crate::object::{CommitId, OperationId};

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

/// Where HEAD is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadEdit {
    /// Where to.
    pub to: HeadTo,
    /// Where it must point before; `None` for wherever it does.
    pub expected: Option<HeadTo>,
}

impl From<HeadTo> for HeadEdit {
    /// From wherever it is.
    fn from(to: HeadTo) -> Self {
        Self { to, expected: None }
    }
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
    /// HEAD is not what was expected: somebody else moved it.
    #[error("HEAD was moved meanwhile: `treebox status` says where it is")]
    HeadMoved,
    /// No operation is on record that has not been taken back.
    #[error("there is nothing to take back")]
    NothingToUndo,
    /// There were operations, and none of them is on record any more.
    #[error(
        "there is nothing to take back: `treebox gc` keeps operations on record for --keep-days, and these were older"
    )]
    OperationsForgotten,
    /// No such operation is on record.
    #[error("no operation {0} is on record")]
    NoOperation(OperationId),
    /// The history could not be read or written.
    #[error(transparent)]
    History(#[from] HistoryError),
}

fn at(found: Option<CommitId>) -> String {
    found.map_or_else(|| "does not exist".to_owned(), |commit| format!("is at {}", commit.short()))
}

/// A change to be made: of refs, of HEAD, or both, as one operation.
pub(super) struct Change<'c> {
    /// The refs.
    pub(super) edits: &'c [RefEdit],
    /// Where HEAD goes.
    pub(super) head: Option<&'c HeadEdit>,
    /// What does it.
    pub(super) message: &'c str,
    /// Who does it.
    pub(super) who: &'c Who,
    /// What it is to an earlier operation.
    pub(super) purpose: Purpose,
    /// The branch whose log goes along to the new name.
    pub(super) renames: Option<(&'c RefName, &'c RefName)>,
    /// It is the rest of one that a dead process noted, whose note stays.
    pub(super) resumes: bool,
    /// The operation is on record.
    pub(super) recorded: bool,
}

impl<'c> Change<'c> {
    /// Nothing yet.
    pub(super) fn new(message: &'c str, who: &'c Who) -> Self {
        let purpose = Purpose::Change;
        Self { edits: &[], head: None, message, who, purpose, renames: None, resumes: false, recorded: false }
    }

    /// What did it; where nothing else is said, that HEAD moved.
    fn message_for(&self, head: Option<&HeadStep>) -> String {
        match head {
            Some(head) if self.message.is_empty() => head.message(),
            _ => reflog::one_line(self.message),
        }
    }
}

/// HEAD's part of a change, checked.
#[derive(Debug, Clone)]
pub(super) struct HeadStep {
    pub(super) old: Option<HeadTo>,
    pub(super) new: HeadTo,
    pub(super) old_commit: Option<CommitId>,
    pub(super) new_commit: Option<CommitId>,
}

/// Why a change was not made, or not whole.
enum ApplyError {
    /// Nothing moved.
    Nothing(HistoryError),
    /// Nothing moved, and trying again may help.
    Refused(GitError),
    /// Something moved and something did not.
    Half(HistoryError),
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

    /// Moves refs: all of them or, when one is not as expected, none. One call is one operation of the [log](Self::operations).
    ///
    /// Each gets a line in its log, and so does HEAD when the branch that is checked out moves. A ref that already is
    /// where it should go is left alone.
    pub fn edit(&self, edits: &[RefEdit], message: &str, who: &Who) -> Result<(), EditError> {
        self.change(&Change { edits, ..Change::new(message, who) })
    }

    /// Moves refs, and HEAD to a branch, which need not exist yet, or to a commit by itself; all as one operation.
    pub fn edit_with_head(
        &self,
        edits: &[RefEdit],
        head: &HeadEdit,
        message: &str,
        who: &Who,
    ) -> Result<(), EditError> {
        self.change(&Change { edits, head: Some(head), ..Change::new(message, who) })
    }

    /// Deletes a ref and its log; says where it was.
    pub fn delete(&self, name: &RefName, expected: Expected, who: &Who) -> Result<CommitId, EditError> {
        self.settle()?;
        let lock = self.lock()?;
        let found = self.read_ref(name)?.ok_or_else(|| EditError::NoSuchRef(name.clone()))?;
        let edits = [RefEdit { name: name.clone(), expected, new: None }];
        let message = format!("{}: deleted {}", name.kind().as_str(), name.short());
        self.change_locked(&lock, &Change { edits: &edits, ..Change::new(&message, who) })?;
        Ok(found)
    }

    /// Makes a change under the lock, taken here.
    pub(super) fn change(&self, change: &Change<'_>) -> Result<(), EditError> {
        self.settle()?;
        let lock = self.lock()?;
        self.change_locked(&lock, change)
    }

    /// Makes a change. Nothing moves unless every ref is as expected and the operation is on record.
    pub(super) fn change_locked(&self, lock: &Lock, change: &Change<'_>) -> Result<(), EditError> {
        self.refuse_after_failed_sync()?;
        self.settle_batch()?;
        let git = self.git.local();
        let mut tries = 0;
        loop {
            let steps = self.check(&git, change.edits)?;
            let head = change.head.map(|to| self.check_head(&git, to, &steps)).transpose()?.flatten();
            if steps.is_empty() && head.is_none() {
                return Ok(());
            }
            let message = change.message_for(head.as_ref());
            let len = self.operations_len();
            if !change.resumes {
                lock.note(self, &steps, head.as_ref(), len, &message, change.who)?;
            }
            let applied = self
                .record(change, &steps, head.as_ref(), &message)
                .map_err(ApplyError::Nothing)
                .and_then(|()| self.apply(&git, change, &steps, head.as_ref(), &message));
            let source = match applied {
                Ok(()) => {
                    self.settle()?;
                    self.pack_when_grown(lock);
                    self.outlast_git_gc()?;
                    return Ok(());
                }
                Err(ApplyError::Half(error)) => {
                    lock.keep_note();
                    return Err(error.into());
                }
                Err(ApplyError::Nothing(error)) => {
                    self.unrecord(change, len)?;
                    return Err(error.into());
                }
                Err(ApplyError::Refused(source)) => source,
            };
            // Stock git moved a ref, or holds a lock. Its lock may also be a dead process's.
            self.unrecord(change, len)?;
            tries += 1;
            if tries >= MAX_TRIES {
                return Err(self.why(&git, change.edits, &steps, source));
            }
            for step in &steps {
                sync::remove_stale(&self.lock_path_of(&step.full));
            }
            for name in ["HEAD", "packed-refs"] {
                sync::remove_stale(&self.lock_path_of(name));
            }
        }
    }

    /// Writes what must be there before anything moves: the operation's record, and the new name's log of a renamed branch.
    fn record(
        &self,
        change: &Change<'_>,
        steps: &[Step],
        head: Option<&HeadStep>,
        message: &str,
    ) -> Result<(), HistoryError> {
        if change.recorded {
            return Ok(());
        }
        if let Some((from, to)) = change.renames {
            self.copy_log(from, to)?;
            let commit = steps.iter().find_map(|step| step.new);
            reflog::append(self, &to.full(), &reflog::line(commit, commit, change.who, message))?;
        }
        self.record_operation(steps, head, change.purpose, message, change.who)
    }

    /// Takes back what [`record`](Self::record) wrote: nothing has moved.
    fn unrecord(&self, change: &Change<'_>, len: u64) -> Result<(), HistoryError> {
        if let Some((_, to)) = change.renames {
            let _ = std::fs::remove_file(self.log_path(&to.full()));
        }
        if change.recorded { Ok(()) } else { self.forget_operation(len) }
    }

    /// Moves refs and HEAD. With HEAD there are up to three moments: what is made or moved, HEAD, what is deleted; so HEAD never
    /// points at a branch that is not there yet or no longer.
    fn apply(
        &self,
        git: &Local,
        change: &Change<'_>,
        steps: &[Step],
        head: Option<&HeadStep>,
        message: &str,
    ) -> Result<(), ApplyError> {
        if head.is_none() && change.renames.is_none() {
            return self.transact(git, steps, message, change.who, true);
        }
        let (moved, deleted): (Vec<_>, Vec<_>) = steps.iter().cloned().partition(|step| step.new.is_some());
        let half = |any: bool, error: HistoryError| match any {
            true => ApplyError::Half(error),
            false => ApplyError::Nothing(error),
        };
        if !moved.is_empty() {
            self.transact(git, &moved, message, change.who, change.renames.is_none())?;
        }
        if let Some(head) = head {
            let message = change.renames.map(|_| message);
            self.switch_head(head, message, change.who).map_err(|error| half(!moved.is_empty(), error))?;
        }
        if !deleted.is_empty() {
            let any = !moved.is_empty() || head.is_some();
            return match self.transact(git, &deleted, message, change.who, true) {
                Err(ApplyError::Nothing(error)) => Err(half(any, error)),
                Err(ApplyError::Refused(source)) if any => {
                    Err(ApplyError::Half(self.git_error("deleting refs", source)))
                }
                other => other,
            };
        }
        Ok(())
    }

    /// Moves refs at one moment. `log` says whether their logs get a line.
    fn transact(
        &self,
        git: &Local,
        steps: &[Step],
        message: &str,
        who: &Who,
        log: bool,
    ) -> Result<(), ApplyError> {
        let touched = self.paths_of(steps);
        let locks: Vec<_> = steps
            .iter()
            .filter(|step| step.new.is_some())
            .map(|step| self.lock_path_of(&step.full))
            .collect();
        // The new value is on disk before it gets its name: a power cut must not leave an empty ref.
        let before_commit = || -> Result<(), HistoryError> {
            self.must_sync(locks.iter().cloned());
            self.settle()?;
            if log { self.log_moves(git, steps, message, who) } else { Ok(()) }
        };
        match git.transact(steps, before_commit) {
            Ok(()) => {
                // Git's library leaves a torn file alone when `packed-refs` has the value already.
                for step in steps.iter().filter(|step| matches!(step.old, OldValue::Broken)) {
                    if git.find(&step.full).is_err() {
                        let torn = self.directory.join(&step.full);
                        let removed = std::fs::remove_file(&torn);
                        removed.map_err(|source| {
                            ApplyError::Half(HistoryError::io("removing", &torn, source))
                        })?;
                    }
                }
                // Of a directory that went with its last ref it is the one above that must not have it any more.
                let there = touched.iter().filter_map(|path| path.ancestors().find(|path| path.exists()));
                self.must_sync(there.map(Path::to_owned));
                Ok(())
            }
            Err(TransactionError::Sync(error)) => Err(ApplyError::Nothing(error)),
            Err(TransactionError::Half(source)) => {
                Err(ApplyError::Half(self.git_error("moving refs", source)))
            }
            Err(TransactionError::Git(source)) => Err(ApplyError::Refused(source)),
        }
    }

    /// Writes the lines of the logs: each ref's that moves, and HEAD's when the branch that is checked out does, as in Git. Git's library would do it
    /// too, but in pieces, and HEAD's only by taking the locks of HEAD and the branch in the order opposite to stock git's: both would wait in vain.
    fn log_moves(&self, git: &Local, steps: &[Step], message: &str, who: &Who) -> Result<(), HistoryError> {
        let line = |step: &Step| reflog::line(step.old.object(), step.new, who, message);
        for step in steps.iter().filter(|step| step.new.is_some()) {
            reflog::append(self, &step.full, &line(step))?;
        }
        let Ok(HeadTarget::Ref(head)) = git.head() else { return Ok(()) };
        match steps.iter().find(|step| step.full == head) {
            Some(step) => reflog::append(self, "HEAD", &line(step)),
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
                    self.write_fresh_again()?;
                    if !self.git.local().has_commit(&new) {
                        return Err(HistoryError::MissingCommit(new).into());
                    }
                }
                if matches!(old, OldValue::Absent) {
                    self.check_directories(git, edit, &full)?;
                }
            }
            if edit.new != commit || matches!(old, OldValue::Broken) {
                steps.push(Step { full, old, new: edit.new });
            }
        }
        // Two that are made at once may be in each other's way too; Git's library would see that when one is made.
        for step in steps.iter().filter(|step| step.new.is_some()) {
            let below = format!("{}/", step.full);
            if let Some(other) =
                steps.iter().find(|other| other.new.is_some() && other.full.starts_with(&below))
                && let Some(edit) = edits.iter().find(|edit| edit.name.full() == other.full)
            {
                let existing = RefName::from_full(&step.full);
                let existing = existing.map_or_else(|| step.full.clone(), |name| name.to_string());
                return Err(EditError::DirectoryConflict { name: edit.name.clone(), existing });
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
