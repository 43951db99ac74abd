//! What a power cut may have taken, and putting that right when the history is next opened.
//!
//! Beside the repository lies a file with the kernel's id of the boot in which it was last opened. Another id there says that the machine
//! went down since, and it may have done so without notice. A machine that was shut down in order costs the same look.
//!
//! # Durability
//! With [`Durability::Commit`] nothing that a ref leads to can be missing. But objects of a command that never came to its end may have a name
//! and no bytes; whoever made the same object again would find the name and write nothing. So damaged loose objects are removed.
//!
//! With [`Durability::Batch`] nothing is synced, so refs may lead to what is not there. Before the first such change everything is synced once, and
//! the file gets a list of all refs: what they lead to is whole for ever. Every [`BATCH_AGE`] that is done again, so no more can be lost. After
//! a power cut the [`Interrupted`] list says where to fall back to, when a ref's own log does not say anything newer that is whole.
//!
//! # Locking
//! Whoever works with `Batch` holds a shared lock on a file meanwhile. Others, with `Commit`, find its objects, which are not synced, and have
//! everything synced before a ref moves while the list is there. Who finds the lock free then removes the list.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::git::HeadTarget;
use super::{Durability, EditError, History, HistoryError, RefKind, RefName, WalkOptions, sync};
use crate::disk::{FileLock, LockMode, read_limited, write_atomic};
use crate::object::CommitId;

/// After so long everything is synced at the next move of a ref, also with [`Durability::Batch`].
pub const BATCH_AGE: Duration = Duration::from_secs(30);

const FIRST_LINE: &str = "treebox history boot 1";
const LIMIT_BYTES: u64 = 64 << 20;

/// Where refs were when everything was last known to be on disk, in a boot that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    /// Every ref by its full name.
    pub refs: Vec<(RefName, CommitId)>,
    /// What the file HEAD held.
    pub(super) head: String,
    /// When; what is older was synced then.
    pub since: SystemTime,
}

/// The file's content.
struct Boot {
    id: String,
    batch: Option<Interrupted>,
}

/// The kernel's id of this boot; `None` where it is not to be had.
fn boot_id() -> Option<&'static str> {
    // As long as this process lives it stays the same.
    static ID: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    };
    ID.get_or_init(read).as_deref()
}

impl History {
    fn boot_path(&self) -> PathBuf {
        self.directory.with_extension("boot")
    }

    fn batch_lock_path(&self) -> PathBuf {
        self.directory.with_extension("batch")
    }

    fn read_boot(&self) -> Option<Boot> {
        read(&self.boot_path())
    }

    /// Whether the machine went down since the history in that directory was last opened: one look at a small file.
    pub fn was_interrupted(directory: &Path) -> bool {
        let known = boot_id().zip(read(&directory.with_extension("boot")));
        known.is_none_or(|(now, boot)| now != boot.id) && directory.join("HEAD").exists()
    }

    /// Keeps others from putting right the same, and from work with [`Durability::Batch`], until it is dropped.
    pub fn recovery_lock(&self) -> Result<FileLock, HistoryError> {
        let path = self.batch_lock_path();
        FileLock::acquire(&path, LockMode::Exclusive)
            .map_err(|error| HistoryError::io("locking", &path, error.into_io()))
    }

    /// Looks whether the machine went down since the history was last opened, and removes what that has damaged.
    pub fn after_boot(&self) -> Result<(), HistoryError> {
        let Some(now) = boot_id() else { return Ok(()) };
        if self.read_boot().is_some_and(|boot| boot.id == now) {
            *self.interrupted() = None;
            return Ok(());
        }
        let boot = {
            // Not the lock of a change, which would finish a dead process's edit: its objects may be damaged.
            let _lock = sync::lock(&self.lock_path)
                .map_err(|source| HistoryError::io("locking", &self.lock_path, source))?;
            let boot = self.read_boot();
            if boot.as_ref().is_some_and(|boot| boot.id == now) {
                *self.interrupted() = None;
                return Ok(());
            }
            self.remove_damaged_objects(boot.as_ref().and_then(|boot| boot.batch.as_ref()))?;
            boot
        };
        // The rest of an edit, or what its record says too early.
        let _ = self.recover();
        match boot.and_then(|boot| boot.batch) {
            // Only who knows what a state is can say where the refs are to go; until then the file stays as it is.
            Some(batch) => *self.interrupted() = Some(batch),
            None => {
                self.forget_unfinished_operation()?;
                // Lost again in a power cut it is as good as never written.
                self.write_boot(now, None, Durability::Batch)?;
            }
        }
        Ok(())
    }

    /// Removes loose objects that are damaged or lead to what is not there, as far as a power cut may have done that: with a list those that came
    /// after it, else those that nothing leads to. Any other damage is for `fsck` to tell.
    fn remove_damaged_objects(&self, batch: Option<&Interrupted>) -> Result<(), HistoryError> {
        let git = self.git.local();
        let (mut sound, mut damaged) = (Vec::new(), Vec::new());
        for (id, path) in self.loose_files()? {
            match git.sound_links(&id) {
                Some(links) => sound.push((id, path, links)),
                None => damaged.push((id, path)),
            }
        }
        let mut gone: HashSet<CommitId> = damaged.iter().map(|(id, _)| *id).collect();
        // Stock git finds fault with what leads to one that is gone; so what leads to that.
        loop {
            let is_there = |id: &CommitId| !gone.contains(id) && git.has_object(id);
            let (whole, broken): (Vec<_>, Vec<_>) =
                sound.into_iter().partition(|(_, _, links)| links.iter().all(is_there));
            if broken.is_empty() {
                break;
            }
            gone.extend(broken.iter().map(|(id, ..)| *id));
            damaged.extend(broken.into_iter().map(|(id, path, _)| (id, path)));
            sound = whole;
        }
        if damaged.is_empty() {
            return Ok(());
        }
        let reachable = if batch.is_some() { HashSet::new() } else { self.reachable()? };
        for (id, path) in damaged {
            let is_new = batch.is_none_or(|batch| changed_since(&path, batch.since));
            if is_new && !reachable.contains(&id) {
                std::fs::remove_file(&path)
                    .map_err(|source| HistoryError::io("removing the damaged", &path, source))?;
            }
        }
        Ok(())
    }

    /// Everything that a ref or a log leads to, as far as it can be read.
    fn reachable(&self) -> Result<HashSet<CommitId>, HistoryError> {
        let git = self.git.local();
        let mut todo: Vec<CommitId> = Vec::new();
        for name in self.ref_names()? {
            todo.extend(self.read_ref(&name).ok().flatten());
            todo.extend(self.reflog(&name)?.into_iter().flat_map(|entry| [entry.old, entry.new]).flatten());
        }
        todo.extend(self.head_reflog()?.into_iter().flat_map(|entry| [entry.old, entry.new]).flatten());
        // The newest record may be on the disk before what it names.
        let mut operations = self.operations()?;
        operations.pop();
        let moves = operations.into_iter().flat_map(|operation| operation.refs);
        todo.extend(moves.flat_map(|moved| [moved.old, moved.new]).flatten());
        let mut seen = HashSet::new();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Ok(Some(commit)) = git.commit(&id) {
                todo.extend(commit.parents);
                todo.push(commit.tree);
            } else if let Ok(entries) = git.entries(&id) {
                todo.extend(entries.into_iter().map(|entry| entry.id));
            }
        }
        Ok(seen)
    }

    /// Cuts off the newest record of the operation log when everything is as it was before it; says whether it was. A record is on disk before
    /// what it tells of, and an undo of an operation that was not undone would keep it from ever being.
    fn forget_unfinished_operation(&self) -> Result<bool, HistoryError> {
        let _lock = sync::lock(&self.lock_path)
            .map_err(|source| HistoryError::io("locking", &self.lock_path, source))?;
        let Some(newest) = self.newest_operation()? else { return Ok(false) };
        let refs_stand = newest.refs.iter().all(|moved| {
            RefName::from_full(&moved.full).is_some_and(|name| {
                self.read_ref(&name).is_ok_and(|found| found == moved.old && found != moved.new)
            })
        });
        let head_stands = newest.head.as_ref().is_none_or(|moved| {
            self.head().is_ok_and(|head| Some(head.to()) == moved.old && moved.old != moved.new)
        });
        if refs_stand && head_stands {
            self.cut_operations_at(&newest.id)?;
        }
        Ok(refs_stand && head_stands)
    }

    /// What a power cut during work with [`Durability::Batch`] has left to be looked at.
    pub fn interruption(&self) -> Option<Interrupted> {
        self.interrupted().clone()
    }

    fn interrupted(&self) -> MutexGuard<'_, Option<Interrupted>> {
        self.interrupted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that every ref leads to what is whole again.
    pub fn recovered(&self) -> Result<(), HistoryError> {
        while self.forget_unfinished_operation()? {}
        self.sync()?;
        let now = boot_id().unwrap_or_default();
        self.write_boot(now, None, Durability::Commit)?;
        *self.interrupted() = None;
        Ok(())
    }

    /// The names of all refs, also of those whose files are torn.
    pub fn ref_names(&self) -> Result<Vec<RefName>, HistoryError> {
        let mut names: Vec<_> =
            self.loose_refs()?.iter().filter_map(|full| RefName::from_full(full)).collect();
        for kind in RefKind::ALL {
            names.extend(self.refs(kind)?.into_iter().map(|(name, _)| name));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Removes the file of a ref, which an edit writes anew.
    pub fn remove_torn(&self, name: &RefName) -> Result<(), HistoryError> {
        let path = self.directory.join(name.full());
        std::fs::remove_file(&path).map_err(|source| HistoryError::io("removing the torn", &path, source))
    }

    /// Whether notes can be read as they were at a commit, and at all before it that are not older than the list.
    pub fn notes_are_whole(&self, tip: &CommitId, interrupted: &Interrupted) -> bool {
        if self.read_commit(tip).is_ok() {
            // A commit of a state reads as notes of which there are none.
            return false;
        }
        let synced = interrupted.refs.iter().filter(|(name, _)| *name == RefName::Notes);
        let hidden = synced.map(|(_, commit)| *commit).collect();
        let options = WalkOptions { tips: vec![*tip], hidden, ..WalkOptions::default() };
        let Ok(mut walk) = self.walk(&options) else { return false };
        walk.all(|walked| {
            walked.is_ok_and(|walked| self.notes_at(&walked.id).and_then(|notes| notes.list()).is_ok())
        })
    }

    /// Takes lines out of logs that name commits which are not whole: stock git finds fault with them, and an undo would lead there.
    pub fn forget_in_logs(&self, is_whole: &mut dyn FnMut(&CommitId) -> bool) -> Result<(), HistoryError> {
        let git = self.git.local();
        let mut known = HashMap::new();
        let mut is_gone = |id: Option<CommitId>| {
            let whole =
                |id: CommitId| *known.entry(id).or_insert_with(|| git.has_commit(&id) && is_whole(&id));
            !id.is_none_or(whole)
        };
        let _lock = sync::lock(&self.lock_path)
            .map_err(|source| HistoryError::io("locking", &self.lock_path, source))?;
        for full in self.logs()? {
            let path = self.log_path(&full);
            let failed = |source| HistoryError::io("thinning out", &path, source);
            let bytes = std::fs::read(&path).map_err(failed)?;
            let mut is_kept = |line: &&[u8]| {
                super::reflog::parse(line).is_some_and(|entry| !is_gone(entry.old) && !is_gone(entry.new))
            };
            let lines: Vec<&[u8]> =
                bytes.split_inclusive(|byte| *byte == b'\n').filter(&mut is_kept).collect();
            let kept = lines.concat();
            if kept != bytes {
                write_atomic(&path, &kept, Durability::Commit)
                    .map_err(|error| HistoryError::io("thinning out", &path, error.into_io()))?;
            }
        }
        Ok(())
    }

    /// Whether the file HEAD can be read; after a power cut it may be empty.
    pub fn has_sound_head(&self) -> bool {
        self.git.local().head().is_ok()
    }

    /// Puts HEAD back to where it was before a power cut.
    pub fn restore_head(&self, interrupted: &Interrupted) -> Result<(), HistoryError> {
        let path = self.directory.join("HEAD");
        let content = format!("{}\n", interrupted.head);
        write_atomic(&path, content.as_bytes(), Durability::Commit)
            .map_err(|error| HistoryError::io("replacing", &path, error.into_io()))
    }

    /// Begins work with [`Durability::Batch`]: what is there lasts from now on. Hold the lock for as long as anything is written.
    pub fn begin_batch(&self) -> Result<FileLock, EditError> {
        let path = self.batch_lock_path();
        let held = FileLock::acquire(&path, LockMode::Shared)
            .map_err(|error| HistoryError::io("locking", &path, error.into_io()))?;
        if self.read_boot().is_none_or(|boot| boot.batch.is_none()) {
            let _lock = self.lock()?;
            self.list_refs()?;
        }
        Ok(held)
    }

    /// Has what a ref will lead to on disk, where that is not done otherwise. Called under the lock, before a ref moves.
    pub(super) fn settle_batch(&self) -> Result<(), HistoryError> {
        // A list of another boot is still to be used: refs may lead to what is not there.
        let now = boot_id().unwrap_or_default();
        let boot = self.read_boot().filter(|boot| boot.id == now);
        let Some(batch) = boot.and_then(|boot| boot.batch) else { return Ok(()) };
        match self.durability() {
            // A clock that was set back must not keep it from being done.
            Durability::Batch if batch.since.elapsed().is_ok_and(|age| age < BATCH_AGE) => Ok(()),
            Durability::Batch => self.list_refs(),
            Durability::Commit => {
                let path = self.batch_lock_path();
                let free = FileLock::try_acquire(&path, LockMode::Exclusive)
                    .map_err(|error| HistoryError::io("locking", &path, error.into_io()))?;
                self.sync()?;
                if free.is_some() {
                    self.write_boot(now, None, Durability::Batch)?;
                }
                Ok(())
            }
        }
    }

    /// Syncs everything and writes down where refs are. Called under the lock.
    fn list_refs(&self) -> Result<(), HistoryError> {
        self.sync()?;
        let mut refs = Vec::new();
        for kind in RefKind::ALL {
            refs.extend(self.refs(kind)?);
        }
        let head = match self.git.local().head().map_err(|source| self.git_error("reading HEAD", source))? {
            HeadTarget::Ref(full) => format!("ref: {full}"),
            HeadTarget::Commit(commit) => commit.to_string(),
        };
        let batch = Interrupted { refs, head, since: SystemTime::now() };
        self.write_boot(boot_id().unwrap_or_default(), Some(&batch), Durability::Commit)
    }

    fn write_boot(
        &self,
        id: &str,
        batch: Option<&Interrupted>,
        durability: Durability,
    ) -> Result<(), HistoryError> {
        let path = self.boot_path();
        let mut text = format!("{FIRST_LINE}\nboot {id}\n");
        if let Some(batch) = batch {
            text += &format!("head {}\n", batch.head);
            for (name, commit) in &batch.refs {
                text += &format!("ref {commit} {}\n", name.full());
            }
        }
        text += "end\n";
        write_atomic(&path, text.as_bytes(), durability)
            .map_err(|error| HistoryError::io("writing", &path, error.into_io()))
    }
}

/// Whether a file changed since then, or two seconds before: clocks of the disk and of the program differ by a tick of the kernel.
fn changed_since(path: &Path, since: SystemTime) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = i64::try_from(since).unwrap_or(i64::MAX);
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.ctime() >= since - 2)
}

fn read(path: &Path) -> Option<Boot> {
    let since = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    parse(&String::from_utf8(read_limited(path, LIMIT_BYTES).ok()?).ok()?, since)
}

fn parse(text: &str, since: SystemTime) -> Option<Boot> {
    let mut lines = text.strip_suffix("end\n")?.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let id = lines.next()?.strip_prefix("boot ")?.to_owned();
    let Some(head) = lines.next() else { return Some(Boot { id, batch: None }) };
    let head = head.strip_prefix("head ")?.to_owned();
    let mut refs = Vec::new();
    for line in lines {
        let (commit, full) = line.strip_prefix("ref ")?.split_once(' ')?;
        refs.push((RefName::from_full(full)?, commit.parse().ok()?));
    }
    Some(Boot { id, batch: Some(Interrupted { refs, head, since }) })
}
