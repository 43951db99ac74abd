//! Thinning history out: log lines that are too old go, then objects that nothing leads to any more.
//!
//! # Locking
//! Both under the history's lock. Objects are removed while `hold`, which the caller gives, keeps others from writing commits.
//!
//! # Durability
//! A log is replaced as a whole, in Git's way; a pack is on disk before what it replaces goes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::operations::LOG_REF;
use super::pack::{entries, remove, remove_pack};
use super::sync::{self, Replacement};
use super::{Durability, EditError, History, HistoryError, reflog};
use crate::object::CommitId;

/// A commit that a log leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The full name of the ref whose log it is; the operation log's own is `refs/treebox/operations`.
    pub full: String,
    /// The commit.
    pub commit: CommitId,
    /// When the line was written, in seconds since 1970.
    pub time_seconds: i64,
}

/// Where history begins, seen from its ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tips {
    /// Refs by their full names, HEAD among them, with the commits they lead to.
    pub refs: Vec<(String, CommitId)>,
    /// What logs lead to, each commit once for a log, with its newest time.
    pub logged: Vec<Logged>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Objects that nothing led to.
    pub objects: usize,
    /// How much smaller the repository's objects are, in bytes on disk.
    pub freed_bytes: u64,
}

/// A log as it is and as it is to be.
struct Thinned {
    lines: Vec<u8>,
    dropped: usize,
    /// Whether it is another than before.
    changed: bool,
    kept: Vec<(Option<CommitId>, Option<CommitId>, i64)>,
}

impl History {
    /// Where refs are, and what lines of logs lead to that are no older than `since`, in seconds since 1970.
    pub fn tips(&self, since: i64) -> Result<Tips, HistoryError> {
        let git = self.git.local();
        let mut tips = Tips::default();
        let refs = git.all_refs().map_err(|source| self.git_error("listing refs", source))?;
        for (full, id) in refs {
            // The operation log's ref is only there for its log.
            if full != LOG_REF
                && let Some(commit) = git.commit_behind(&id)
            {
                tips.refs.push((full, commit));
            }
        }
        if let Some(commit) = self.head().ok().and_then(|head| head.commit())
            && git.has_commit(&commit)
        {
            tips.refs.push(("HEAD".to_owned(), commit));
        }
        for full in self.logs()? {
            let thinned = self.thinned(&full, since)?;
            let mut newest = std::collections::BTreeMap::new();
            for (old, new, time) in thinned.kept {
                for commit in [old, new].into_iter().flatten() {
                    let at = newest.entry(commit).or_insert(time);
                    *at = time.max(*at);
                }
            }
            for (commit, time_seconds) in newest {
                if git.has_commit(&commit) {
                    tips.logged.push(Logged { full: full.clone(), commit, time_seconds });
                }
            }
        }
        Ok(tips)
    }

    /// Visits commits and all their ancestors that are there, but for those in `seen`, which grows.
    pub fn each_ancestor(
        &self,
        tips: impl IntoIterator<Item = CommitId>,
        seen: &mut HashSet<CommitId>,
        visit: &mut dyn FnMut(CommitId, &[CommitId]),
    ) -> Result<(), HistoryError> {
        let git = self.git.local();
        let mut todo: Vec<_> = tips.into_iter().collect();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            let read = git.commit(&id).map_err(|source| self.git_error("reading a commit", source))?;
            if let Some(commit) = read {
                visit(id, &commit.parents);
                todo.extend(commit.parents);
            }
        }
        Ok(())
    }

    /// How many log lines are older than `since`.
    pub fn old_log_lines(&self, since: i64) -> Result<usize, HistoryError> {
        self.logs()?.iter().map(|full| Ok(self.thinned(full, since)?.dropped)).sum()
    }

    /// Removes log lines that are older than `since`; says how many. The newest line of a ref's log stays, and with it where the ref is.
    pub fn expire_logs(&self, since: i64) -> Result<usize, EditError> {
        let lock = self.lock()?;
        let mut dropped = 0;
        let mut old = Vec::new();
        for full in self.logs()? {
            if self.thinned(&full, since)?.changed {
                old.push(full);
            }
        }
        if !old.is_empty() {
            lock.note_locks(self, &old)?;
        }
        for full in old {
            // Git's own lock of the ref guards its log too.
            let reference = self.directory.join(&full);
            if let Some(parent) = reference.parent().filter(|parent| !parent.exists()) {
                std::fs::create_dir_all(parent)
                    .map_err(|source| HistoryError::io("making", parent, source))?;
            }
            let held = match Replacement::begin(&reference) {
                Ok(held) => held,
                // Somebody moves it right now; its old lines go next time.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(HistoryError::io("replacing", &reference, source).into()),
            };
            let thinned = self.thinned(&full, since)?;
            let path = self.log_path(&full);
            let failed = |source| HistoryError::io("replacing", &path, source);
            let durable = self.durability() == Durability::Commit;
            // Who holds the ref's lock has the log too: what lies here was left by somebody who is dead.
            let _ = std::fs::remove_file(sync::lock_path(&path));
            Replacement::begin(&path).and_then(|log| log.finish(&thinned.lines, durable)).map_err(failed)?;
            dropped += thinned.dropped;
            if full == LOG_REF {
                // The ref goes along to what is still in its log, else to where some other is: it must not keep what nothing else keeps.
                let commit = thinned.kept.iter().find_map(|(old, new, _)| new.or(*old));
                let commit = match commit {
                    Some(commit) => Some(commit),
                    None => self.tips(i64::MAX)?.refs.first().map(|(_, commit)| *commit),
                };
                if let Some(commit) = commit {
                    held.finish(format!("{commit}\n").as_bytes(), durable).map_err(failed)?;
                }
            }
        }
        Ok(dropped)
    }

    /// The full names of refs that have a log.
    pub(super) fn logs(&self) -> Result<Vec<String>, HistoryError> {
        let root = self.directory.join("logs");
        let mut found = Vec::new();
        let mut todo = vec![root.clone()];
        while let Some(directory) = todo.pop() {
            for path in entries(&directory)? {
                if path.is_dir() {
                    todo.push(path);
                } else if path.extension().is_none_or(|extension| extension != "lock")
                    && let Some(full) = path.strip_prefix(&root).ok().and_then(Path::to_str)
                {
                    found.push(full.to_owned());
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn thinned(&self, full: &str, since: i64) -> Result<Thinned, HistoryError> {
        let path = self.log_path(full);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(HistoryError::io("reading", &path, source)),
        };
        Ok(thin(&bytes, since, full != LOG_REF))
    }

    /// Removes Git objects to which neither a ref nor a log nor one of `keep` leads.
    ///
    /// `hold` is called before anything is removed: what it gives keeps others from writing commits for as long as it lives, and it names commits
    /// that are to be kept besides; `None` gives up for this time.
    pub fn prune<H>(
        &self,
        keep: &[CommitId],
        hold: impl FnOnce() -> Option<(H, Vec<CommitId>)>,
    ) -> Result<Pruned, EditError> {
        self.settle()?;
        let _lock = self.lock()?;
        let before = self.objects_disk_bytes()?;
        let git = self.git.local();
        let mut kept = HashSet::new();
        self.reach(self.object_tips()?.into_iter().chain(keep.iter().copied()), &mut kept)?;
        let garbage =
            |ids: &[CommitId], kept: &HashSet<CommitId>| ids.iter().filter(|id| !kept.contains(*id)).count();
        let loose = self.loose_objects()?;
        let failed = |source| self.git_error("reading a pack", source);
        let mut packs = Vec::new();
        for index in self.packs()? {
            let ids = git.packed_objects(&index).map_err(failed)?;
            if garbage(&ids, &kept) > 0 {
                packs.push((index, ids));
            }
        }
        if packs.is_empty() && garbage(&loose, &kept) == 0 {
            return Ok(Pruned::default());
        }
        let mut written = HashSet::new();
        let mut made = self.repack(&packs, &kept, &mut written)?;
        let Some((_held, more)) = hold() else { return Ok(Pruned::default()) };
        self.reach(more.into_iter(), &mut kept)?;
        made.extend(self.repack(&packs, &kept, &mut written)?);
        let mut objects = HashSet::new();
        for id in loose.iter().filter(|id| !kept.contains(*id)) {
            remove(&self.loose_path(id))?;
            objects.insert(*id);
        }
        for (index, ids) in packs.iter().filter(|(index, _)| !made.contains(index)) {
            objects.extend(ids.iter().filter(|id| !kept.contains(*id)));
            remove_pack(index)?;
        }
        for derived in ["objects/info/commit-graph", "objects/info/packs", "objects/pack/multi-pack-index"] {
            // Git makes them anew; they would name what is gone.
            remove(&self.directory.join(derived))?;
        }
        let _ = std::fs::remove_dir_all(self.directory.join("objects/info/commit-graphs"));
        // A clock tick may have seen packs come and go: whoever has them open is to look again.
        if let Ok(directory) = std::fs::File::open(self.directory.join("objects/pack")) {
            let _ = directory.set_modified(SystemTime::now());
        }
        let freed_bytes = before.saturating_sub(self.objects_disk_bytes()?);
        Ok(Pruned { objects: objects.len(), freed_bytes })
    }

    /// Writes what is kept of packs, and not written yet, into a new one.
    fn repack(
        &self,
        packs: &[(PathBuf, Vec<CommitId>)],
        kept: &HashSet<CommitId>,
        written: &mut HashSet<CommitId>,
    ) -> Result<Vec<PathBuf>, HistoryError> {
        let ids = packs.iter().flat_map(|(_, ids)| ids).filter(|id| kept.contains(*id));
        let ids: Vec<_> = ids.copied().filter(|id| written.insert(*id)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.write_pack(&self.git.local(), &ids)
    }

    /// What refs name, tags among them, and what logs lead to.
    fn object_tips(&self) -> Result<Vec<CommitId>, HistoryError> {
        let git = self.git.local();
        let refs = git.all_refs().map_err(|source| self.git_error("listing refs", source))?;
        let tips = self.tips(i64::MIN)?;
        let logged = tips.logged.into_iter().map(|logged| logged.commit);
        let heads = tips.refs.into_iter().map(|(_, commit)| commit);
        Ok(refs.into_iter().map(|(_, id)| id).chain(logged).chain(heads).collect())
    }

    fn reach(
        &self,
        tips: impl Iterator<Item = CommitId>,
        seen: &mut HashSet<CommitId>,
    ) -> Result<(), HistoryError> {
        let git = self.git.local();
        let mut todo: Vec<_> = tips.collect();
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                todo.extend(git.below(&id).map_err(|source| self.git_error("reading an object", source))?);
            }
        }
        Ok(())
    }

    fn objects_disk_bytes(&self) -> Result<u64, HistoryError> {
        use std::os::unix::fs::MetadataExt as _;
        let mut sum = 0;
        let mut todo = vec![self.directory.join("objects")];
        while let Some(directory) = todo.pop() {
            for path in entries(&directory)? {
                let Ok(stat) = path.symlink_metadata() else { continue };
                sum += stat.blocks() * 512;
                if stat.is_dir() {
                    todo.push(path);
                }
            }
        }
        Ok(sum)
    }
}

/// Leaves the lines that are no older than `since`, and with `newest` the last one.
fn thin(bytes: &[u8], since: i64, newest: bool) -> Thinned {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let parsed: Vec<_> =
        lines.iter().map(|line| reflog::parse(line.strip_suffix(b"\n").unwrap_or(line))).collect();
    let last = parsed.iter().rposition(Option::is_some).filter(|_| newest);
    let mut thinned = Thinned { lines: Vec::new(), dropped: 0, changed: false, kept: Vec::new() };
    for (at, (line, entry)) in lines.iter().zip(&parsed).enumerate() {
        // What is torn or strange goes with the first that is too old.
        let Some(entry) = entry else { continue };
        let old = entry.time_seconds < since;
        if old && Some(at) != last {
            thinned.dropped += 1;
            thinned.changed = true;
            continue;
        }
        // As `git reflog expire --rewrite`: the first line that stays says nothing of what is gone. A record of an operation is kept whole.
        let first = newest && thinned.kept.is_empty() && (old || thinned.dropped > 0);
        thinned.changed |= first && entry.old.is_some();
        if first && line.len() > 40 {
            thinned.lines.extend([b'0'; 40]);
            thinned.lines.extend(&line[40..]);
        } else {
            thinned.lines.extend(*line);
        }
        if !line.ends_with(b"\n") {
            thinned.lines.push(b'\n');
        }
        thinned.kept.push((entry.old.filter(|_| !first), entry.new, entry.time_seconds));
    }
    thinned
}
