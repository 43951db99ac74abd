//! Commits, refs and reflogs: everything a user can name, kept as a real bare Git repository.
//!
//! `git log`, `show`, `reflog`, `fsck`, `gc` and `bisect` of the stock tools work on `history.git`. A commit's Git tree holds one
//! blob, `state.json`, whose bytes the caller decides; its identity and date are fixed by the caller too, so equal builds get equal
//! commit ids. Git's own library is named in `git.rs` and what is below it only.
//!
//! This room never keeps a file's content in Git, never decides what a commit's record says, never looks at the
//! user's Git configuration or environment, and never moves a ref to a commit that does not exist.
//!
//! # Invariants
//! - A ref is a branch, a tag, an image or the one of the notes; an image's name is escaped into a ref name and reads back as it was.
//! - An edit of refs is checked against the expected old values of all its refs before any of them moves.
//! - Every move leaves a line in the ref's log, and in HEAD's when the branch is checked out.
//! - Everything that moves together is one record of the operation log, which can take it back.
//!
//! # Locking
//! Every change takes the kernel's lock on `history.lock` beside the repository, which ends with its holder. Inside it Git's own
//! `*.lock` files are taken as well, so stock git may write at any time. Those outlive a killed process: treebox's own are
//! known from the note in `history.lock`, a stock git's is removed when it is in the way and older than [`STALE_LOCK_AGE`]. Readers take no lock.
//!
//! # Durability
//! With [`Durability::Commit`] what a commit is made of is on disk before a ref moves, and the ref before the call returns. With
//! [`Durability::Batch`] nothing is synced until [`History::sync`]. After a failed sync the handle changes no more refs: what the
//! kernel could not write it also forgets.
//!
//! An edit of several refs is not one step on disk, so what it will do is noted in `history.lock` first: when its process is
//! killed, the next one that opens the history or takes the lock finishes it; when nothing had moved, the operation's record goes. The
//! record is written before anything moves, so none is ever missing. Renaming a branch makes the new name before it removes the old one.

mod boot;
mod check;
mod commits;
mod edit;
mod error;
mod fresh;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod git;
mod head;
mod journal;
mod layout;
mod mend;
mod names;
mod notes;
mod operations;
mod pack;
mod reflog;
mod rename;
mod resolve;
mod sweep;
mod sync;
#[cfg(test)]
mod tests;
mod thin;
mod undo;
mod values;
mod walk;

pub use crate::disk::Durability;
pub use boot::{BATCH_AGE, Interrupted};
pub use check::{CheckedCommit, CheckedLog, CheckedRef, CommitFlaw, GitFlaw, HeadFound, RefTip};
pub use commits::{CommitRecord, MAX_RECORD_BYTES, NewCommit, RECORD_NAME};
pub use edit::{EditError, Expected, HeadEdit, RefEdit};
pub use error::{GitError, HistoryError};
pub use head::Head;
pub use names::{BranchName, ImageName, NameError, RefKind, RefName, TagName};
pub use notes::{MAX_NOTE_BYTES, Notes};
pub use operations::{HeadMove, HeadTo, LOG_REF, Operation, Purpose, RefMove};
pub use pack::Packed;
pub use reflog::ReflogEntry;
pub use resolve::{ResolveError, RevisionSet};
pub use sweep::Leftover;
pub use thin::{Logged, Pruned, Tips};
pub use undo::Undone;
pub use walk::{Order, Walk, WalkOptions, Walked};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A Git lock file this old belongs to nobody: its owner would have finished or given up.
pub const STALE_LOCK_AGE: Duration = Duration::from_secs(5);

/// How a history is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// When what was written reaches the disk.
    pub durability: Durability,
}

/// Who moved a ref, and when; goes into reflogs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// A person's or program's name.
    pub name: String,
    /// An address, which need not exist.
    pub email: String,
    /// Seconds since 1970.
    pub time_seconds: i64,
}

impl Who {
    /// treebox itself, at that time.
    pub fn treebox(time_seconds: i64) -> Self {
        Self { name: IDENTITY_NAME.to_owned(), email: IDENTITY_EMAIL.to_owned(), time_seconds }
    }

    /// As Git writes it: `name <email> seconds +0000`, without the bytes that would end a field.
    fn signature(&self) -> String {
        let clean = |text: &str| text.replace(['<', '>', '\n', '\r', '\0', '\t'], " ").trim().to_owned();
        format!("{} <{}> {} +0000", clean(&self.name), clean(&self.email), self.time_seconds)
    }
}

/// The author and committer of every commit.
const IDENTITY_NAME: &str = "treebox";
const IDENTITY_EMAIL: &str = "treebox@localhost";

/// The history of one store. May be used from many threads.
pub struct History {
    directory: PathBuf,
    lock_path: PathBuf,
    git: git::Git,
    options: Options,
    /// Files and directories written but not synced.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    sync_failed: AtomicBool,
    /// Whether every change is refused.
    read_only: bool,
    /// Objects that this handle wrote lately.
    fresh: Mutex<fresh::Fresh>,
    /// What is to be looked at after a power cut.
    interrupted: Mutex<Option<Interrupted>>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("directory", &self.directory).field("options", &self.options).finish()
    }
}

/// Above this many paths one sync of the whole file system is cheaper than one each.
const MAX_SINGLE_SYNCS: usize = 64;

impl History {
    /// Opens the repository in `directory`.
    ///
    /// # Errors
    /// [`HistoryError::Missing`] when there is none.
    pub fn open(directory: &Path, options: Options) -> Result<Self, HistoryError> {
        let mut history = Self::inspect(directory, options)?;
        history.read_only = false;
        // Where nothing can be written nothing can be put right, but read.
        let _ = history.after_boot();
        // What a dead process left half done can still be read. Whoever may write finishes it, here or at the next edit.
        let _ = history.recover();
        Ok(history)
    }

    /// The same for reading alone; what a dead process left half done stays as it is.
    pub fn inspect(directory: &Path, options: Options) -> Result<Self, HistoryError> {
        // A path without a parent could not have the lock file beside it.
        let directory = std::path::absolute(directory)
            .map_err(|source| HistoryError::io("finding", directory, source))?;
        if !directory.join("HEAD").exists() {
            return Err(HistoryError::Missing(directory));
        }
        // Git's library wants to know where the process is, and calls a repository unusable when that directory has been deleted.
        std::env::current_dir()
            .map_err(|source| HistoryError::io("finding the working directory", Path::new("."), source))?;
        let git = git::Git::open(&directory)
            .map_err(|source| HistoryError::NotARepository { path: directory.clone(), source })?;
        let lock_path = directory.with_extension("lock");
        let unsynced = Mutex::new(BTreeSet::new());
        let (sync_failed, fresh, interrupted) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Ok(Self {
            directory,
            lock_path,
            git,
            options,
            unsynced,
            sync_failed,
            fresh,
            interrupted,
            read_only: true,
        })
    }

    /// Opens the repository in `directory`, made first when there is none.
    ///
    /// It appears whole or not at all, and of two processes that make it one wins and both open the same.
    pub fn open_or_init(directory: &Path, options: Options) -> Result<Self, HistoryError> {
        match Self::open(directory, options) {
            Err(HistoryError::Missing(directory)) => {
                layout::create(&directory, options.durability)?;
                Self::open(&directory, options)
            }
            other => other,
        }
    }

    /// The repository's directory, for `git --git-dir`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// When what this handle writes reaches the disk.
    pub fn durability(&self) -> Durability {
        self.options.durability
    }

    /// Brings everything written so far to disk, also what other programs wrote to the same file system.
    pub fn sync(&self) -> Result<(), HistoryError> {
        self.synced(sync::file_system(&self.directory), &self.directory)?;
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Notes that these paths must be on disk before a ref moves.
    fn must_sync(&self, paths: impl IntoIterator<Item = PathBuf>) {
        if self.options.durability == Durability::Commit {
            self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
        }
    }

    /// Syncs what [`must_sync`](Self::must_sync) noted.
    ///
    /// The mutex is held meanwhile: another thread's commit may be among the paths, and that thread must wait too.
    fn settle(&self) -> Result<(), HistoryError> {
        self.refuse_after_failed_sync()?;
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        if unsynced.len() > MAX_SINGLE_SYNCS {
            self.synced(sync::file_system(&self.directory), &self.directory)?;
        } else {
            // Files sort after the directory that holds them. Backwards, a name is synced after what it names.
            for path in unsynced.iter().rev() {
                self.synced(sync::path(path), path)?;
            }
        }
        unsynced.clear();
        Ok(())
    }

    fn refuse_after_failed_sync(&self) -> Result<(), HistoryError> {
        if self.sync_failed.load(Ordering::Acquire) { Err(HistoryError::SyncFailed) } else { Ok(()) }
    }

    fn synced(&self, result: std::io::Result<()>, path: &Path) -> Result<(), HistoryError> {
        result.map_err(|source| {
            self.sync_failed.store(true, Ordering::Release);
            HistoryError::io("syncing", path, source)
        })
    }
}
