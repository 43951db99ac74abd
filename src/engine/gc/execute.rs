//! Carrying a plan out, in slices.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::marks::{Marks, Thing};
use super::plan::{Plan, Policy, millis};
use super::roots::{Roots, Why};
use super::{Collected, GcOptions, GoneLayer};
use crate::disk::{FileLock, LockMode, Scratch, sweep};
use crate::engine::core::{Core, now_ms};
use crate::engine::error::{Error, Result};
use crate::index::Forgotten;
use crate::object::{BlobId, StateId, TreeId};
use crate::store::{Deleting, EMPTY_SEGMENT_BYTES, Leased, ObjectKind, PackEnd, StoreError, record_bytes};
use crate::worker::Session;

/// How long others are kept out at a time, besides what the first look takes.
const SLICE: Duration = Duration::from_millis(30);
/// How long they are let in between two slices at least.
const BETWEEN: Duration = Duration::from_millis(2);
/// How long others may keep history's objects from being removed before that is left to the next time.
const PRUNE_PATIENCE: Duration = Duration::from_secs(5);
/// A segment is compacted when at least that share of it is garbage: one in so many bytes.
const GARBAGE_SHARE: u64 = 4;
/// The same when the store is to become smaller.
const TIGHT_GARBAGE_SHARE: u64 = 32;
const DAY_MS: i64 = 86_400_000;

impl Core {
    pub(super) fn gc(self: &Arc<Self>, options: &GcOptions) -> Result<Collected> {
        self.store.writable()?;
        let max_bytes = options.max_bytes.or(self.max_size()?);
        self.collect(options, max_bytes)
    }

    /// The same down to a size that nobody need have asked for.
    pub(in crate::engine) fn collect(
        self: &Arc<Self>,
        options: &GcOptions,
        max_bytes: Option<u64>,
    ) -> Result<Collected> {
        let first = self.gc_once(options, max_bytes)?;
        let (Some(max), Some(after)) = (max_bytes, &first.after) else { return Ok(first) };
        let over = after.total().saturating_sub(max);
        if over == 0 {
            return Ok(first);
        }
        // What files take is not quite what their parts come to: directories, and what others made meanwhile.
        let second = self.gc_once(options, Some(max.saturating_sub(over)))?;
        let mut all = first.and(second);
        // What is over now is over by what must stay.
        all.over_bytes = all.after.as_ref().map_or(0, |after| after.total().saturating_sub(max));
        Ok(all)
    }

    fn gc_once(self: &Arc<Self>, options: &GcOptions, max_bytes: Option<u64>) -> Result<Collected> {
        let now = now_ms();
        let since_ms = match options.keep_days {
            // Also what was made this second.
            0 => now + 1000,
            days => now.saturating_sub(i64::from(days).saturating_mul(DAY_MS)),
        };
        let policy = Policy { now_ms: now, since_ms, max_bytes };
        let mut plan = self.plan_gc(&policy)?;
        let mut done = Collected {
            dry_run: options.dry_run,
            before: plan.before.clone(),
            layers: plan.layers.clone(),
            originals: plan.originals.iter().map(|(gone, _)| gone.clone()).collect(),
            caches: plan.caches.iter().map(|(gone, _)| gone.clone()).collect(),
            runs: plan.runs.len() as u64,
            log_lines: plan.log_lines as u64,
            states: std::mem::take(&mut plan.states),
            trees: plan.trees,
            packed_bytes: plan.packed_bytes,
            blobs: plan.blobs,
            blob_bytes: plan.blob_bytes,
            stays: plan.stays,
            over_bytes: plan.over_bytes,
            ..Collected::default()
        };
        if options.dry_run {
            return Ok(done);
        }
        let stop = || options.cancel.is_cancelled();
        sweep(&self.layout().tmp(), |path| crate::sandbox::remove_tree(path).is_ok())?;
        self.remove_layers(&plan.layers, &stop, &mut done)?;
        done.log_lines = self.history()?.expire_logs(plan.logged_since)? as u64;
        let mut since = self.forget(&mut plan, &stop, &mut done)?;
        self.remove_blobs(&mut plan, &mut since, &stop, &mut done)?;
        self.remove_originals(&plan, &stop, &mut done)?;
        self.remove_caches(&plan, &mut done)?;
        for path in self.idle_owners(&plan.marks) {
            let _ = std::fs::remove_file(path);
        }
        self.compact_segments(max_bytes.is_some(), &stop, &mut done)?;
        self.prune_history(&stop, &mut done)?;
        self.index.compact()?;
        let counted = self.counted_size()?;
        let after = self.size()?;
        self.note_size(counted, &after)?;
        done.after = Some(after);
        Ok(done)
    }

    /// Keeps others out until what this gives goes.
    fn deleting(&self, stop: &dyn Fn() -> bool) -> Result<Deleting> {
        if stop() {
            return Err(stopped());
        }
        let deleting = self.store.gc_lock().delete(stop).map_err(StoreError::from)?;
        deleting.ok_or_else(stopped)
    }

    /// Moves layers out of the way, each unless it came into use, then removes them while others work.
    fn remove_layers(
        &self,
        layers: &[GoneLayer],
        stop: &dyn Fn() -> bool,
        done: &mut Collected,
    ) -> Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        // Files of mapped ids only the worker can touch. Without it those of the caller still go.
        let session = self.session().ok();
        let scratch = Scratch::new(&self.layout().tmp())?;
        let mut left = Vec::new();
        for layer in layers {
            let deleting = self.deleting(stop)?;
            if self.store.leased()?.contains(&Leased::layer(&layer.name)) {
                left.push((layer, "it is in use".to_owned()));
                continue;
            }
            let from = self.layout().layers().join(&layer.name);
            let to = scratch.path().join(&layer.name);
            // What is left of it is never used: its files may need what goes next.
            self.index.forget_layer(&layer.name)?;
            if let Err(reason) = moved(session.as_ref(), &from, &to) {
                left.push((layer, reason));
                continue;
            }
            drop(deleting);
            if crate::sandbox::remove_tree(&to).is_err() {
                match session.as_ref().map(|session| session.remove(&to)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => left.push((layer, error.to_string())),
                    None => left.push((layer, NO_WORKER.to_owned())),
                }
            }
        }
        done.layers.retain(|layer| !left.iter().any(|(other, _)| other.name == layer.name));
        done.left.extend(left.into_iter().map(|(layer, why)| format!("layer {}: {why}", layer.name)));
        if let Some(session) = session {
            self.release(session);
        }
        Ok(())
    }

    /// Looks at all roots once more and forgets the rest: runs, states and trees, together. From here on nobody can get hold of it.
    fn forget(&self, plan: &mut Plan, stop: &dyn Fn() -> bool, done: &mut Collected) -> Result<PackEnd> {
        // What is known now and not marked; what is added from here on stays.
        let end = self.store.pack_end()?;
        let mut candidates = Vec::new();
        self.each_known_object(&mut |object| {
            if !plan.marks.packed.contains(&object.id) {
                candidates.push((object.id, object.kind));
            }
        })?;
        let deleting = self.deleting(stop)?;
        // What was seen at first and stays need not be looked at again. That keeps this slice short.
        let roots = self.roots(plan.logged_since, Some(std::mem::take(&mut plan.seen)))?;
        for (thing, _) in roots.all() {
            self.mark(&mut plan.marks, *thing, &mut |_| Ok(()))?;
        }
        self.mark_originals(plan, &roots)?;
        let end = self.mark_new(&mut plan.marks, end)?;
        candidates.retain(|(id, _)| !plan.marks.packed.contains(id));
        // A run that made what is in use tells whoever names that where it came from; one that a ref leads to by now stays as well.
        let in_use: HashSet<Thing> =
            roots.hard.iter().filter(|(_, why)| *why == Why::InUse).map(|(thing, _)| *thing).collect();
        let stays = |seq: i64, result: StateId| {
            in_use.contains(&Thing::State(result)) || Self::is_recorded(&roots, seq)
        };
        let runs = plan.runs.iter().filter(|(seq, result)| !stays(*seq, *result)).map(|(seq, _)| *seq);
        let forgotten =
            Forgotten { objects: candidates.iter().map(|(id, _)| *id).collect(), runs: runs.collect() };
        plan.seen = roots.seen;
        done.runs = forgotten.runs.len() as u64;
        done.states = candidates
            .iter()
            .filter(|(_, kind)| *kind == ObjectKind::State.code())
            .map(|(id, _)| StateId::from_bytes(*id))
            .collect();
        done.trees = (candidates.len() - done.states.len()) as u64;
        if !forgotten.objects.is_empty() || !forgotten.runs.is_empty() {
            deleting.announce().map_err(StoreError::from)?;
            self.index.forget(&forgotten)?;
        }
        Ok(end)
    }

    /// Marks what images are put together from that came, or were used, since the plan was made.
    fn mark_originals(&self, plan: &mut Plan, roots: &Roots) -> Result<()> {
        let mut new = Vec::new();
        self.originals().each(&mut |original| {
            let used = millis(original.used);
            if used >= plan.made_ms || roots.use_originals_of(used) {
                new.push(original);
            }
        })?;
        for original in new {
            // Read once: what lies under a digest does not change.
            if plan.read_originals.insert(original.path.clone()) {
                for blob in original.blobs() {
                    plan.marks.insert(Thing::Blob(blob));
                }
            }
        }
        Ok(())
    }

    /// Marks what was added to the segments: whoever added it relies on what it leads to, and a later one may find it known.
    fn mark_new(&self, marks: &mut Marks, end: PackEnd) -> Result<PackEnd> {
        let mut new = Vec::new();
        let end = self.store.packed_since(end, &mut |kind, id| new.push((kind, id)))?;
        for (kind, id) in new {
            let tree = TreeId::from_bytes(id);
            let thing = match kind {
                ObjectKind::State => Thing::State(StateId::from_bytes(id)),
                // A root tree reads as a tree with one strange name, and the other way round not at all.
                _ if self.store.root(&tree).is_ok() => Thing::Root(tree),
                _ => Thing::Directory(tree),
            };
            self.mark(marks, thing, &mut |_| Ok(()))?;
        }
        Ok(end)
    }

    /// Removes blobs that are not marked, a slice at a time.
    fn remove_blobs(
        &self,
        plan: &mut Plan,
        end: &mut PackEnd,
        stop: &dyn Fn() -> bool,
        done: &mut Collected,
    ) -> Result<()> {
        (done.blobs, done.blob_bytes) = (0, 0);
        let mut all: Vec<(BlobId, u64)> = Vec::new();
        self.store.each_blob(&mut |id, file| {
            if !plan.marks.blobs.contains(id.as_bytes()) {
                all.push((id, file.disk_bytes));
            }
        })?;
        all.reverse();
        while !all.is_empty() {
            let deleting = self.deleting(stop)?;
            let began = Instant::now();
            // Since trees that nothing led to are forgotten, only these can lead to a blob that was not marked.
            *end = self.mark_new(&mut plan.marks, *end)?;
            for (thing, _) in self.runs_since(&mut plan.seen.last_run)? {
                self.mark(&mut plan.marks, thing, &mut |_| Ok(()))?;
            }
            let mut roots = Roots::default();
            self.leases(&mut roots)?;
            self.mark_originals(plan, &roots)?;
            for (thing, _) in &roots.hard {
                self.mark(&mut plan.marks, *thing, &mut |_| Ok(()))?;
            }
            deleting.announce().map_err(StoreError::from)?;
            while let Some((id, bytes)) = all.pop() {
                if !plan.marks.blobs.contains(id.as_bytes()) && self.store.remove_blob(&id)? {
                    done.blobs += 1;
                    done.blob_bytes += bytes;
                }
                if began.elapsed() > SLICE {
                    break;
                }
            }
            drop(deleting);
            std::thread::sleep(BETWEEN);
        }
        Ok(())
    }

    fn remove_originals(&self, plan: &Plan, stop: &dyn Fn() -> bool, done: &mut Collected) -> Result<()> {
        if plan.originals.is_empty() {
            return Ok(());
        }
        let deleting = self.deleting(stop)?;
        let mut roots = Roots::default();
        self.leases(&mut roots)?;
        deleting.announce().map_err(StoreError::from)?;
        for (gone, path) in &plan.originals {
            let used = std::fs::metadata(path).and_then(|stat| stat.modified()).map_or(0, millis);
            // A download that somebody is at holds its file locked.
            let busy = path.parent().is_some_and(|parent| parent.ends_with("partial"))
                && FileLock::try_acquire(path, LockMode::Exclusive)?.is_none();
            if roots.use_originals_of(used) || busy || used >= plan.made_ms {
                done.originals.retain(|other| other != gone);
                continue;
            }
            crate::disk::remove_file(path)?;
        }
        Ok(())
    }

    /// Removes caches that no command holds.
    fn remove_caches(&self, plan: &Plan, done: &mut Collected) -> Result<()> {
        for (gone, path) in &plan.caches {
            if let Some(why) = self.remove_cache(path)? {
                done.caches.retain(|other| other != gone);
                done.left.push(format!("cache {}: {why}", gone.id));
            }
        }
        Ok(())
    }

    /// `None` when it is gone, else why it is not.
    fn remove_cache(&self, path: &Path) -> Result<Option<String>> {
        let _making = FileLock::acquire(&path.join("lock"), LockMode::Exclusive)?;
        let mut slots: Vec<PathBuf> = Vec::new();
        let mut locks = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| Error::disk("list", path, error))? {
            let entry = entry.map_err(|error| Error::disk("list", path, error))?.path();
            if entry.extension().is_some_and(|extension| extension == "lock") {
                match FileLock::try_acquire(&entry, LockMode::Exclusive)? {
                    Some(lock) => locks.push(lock),
                    None => return Ok(Some("a command holds it".to_owned())),
                }
            } else if entry.is_dir() {
                slots.push(entry);
            }
        }
        let session = self.session().ok();
        let scratch = Scratch::new(&self.layout().tmp())?;
        for (number, slot) in slots.iter().enumerate() {
            let to = scratch.path().join(number.to_string());
            if let Err(reason) = moved(session.as_ref(), slot, &to) {
                return Ok(Some(reason));
            }
            if crate::sandbox::remove_tree(&to).is_err()
                && let Some(session) = &session
            {
                session.remove(&to)?;
            }
        }
        if let Some(session) = session {
            self.release(session);
        }
        // The directory and its locks stay: somebody may be waiting for one of them.
        crate::disk::remove_file(&path.join("about"))?;
        Ok(None)
    }

    fn compact_segments(&self, tight: bool, stop: &dyn Fn() -> bool, done: &mut Collected) -> Result<()> {
        let share = if tight { TIGHT_GARBAGE_SHARE } else { GARBAGE_SHARE };
        for (segment, bytes) in self.store.pack_sizes()? {
            if stop() {
                return Err(stopped());
            }
            let known = self.index.objects_in(segment)?;
            let live: u64 = known.iter().map(|object| record_bytes(u64::from(object.len))).sum();
            let garbage = bytes.saturating_sub(live + EMPTY_SEGMENT_BYTES);
            if garbage < 4096 || garbage < bytes / share {
                continue;
            }
            match self.store.compact(segment) {
                Err(error @ StoreError::Segment { .. }) => done.left.push(error.to_string()),
                compacted => drop(compacted?),
            }
        }
        Ok(())
    }

    /// Removes commits that nothing leads to.
    fn prune_history(&self, stop: &dyn Fn() -> bool, done: &mut Collected) -> Result<()> {
        let began = Instant::now();
        let give_up = || stop() || began.elapsed() > PRUNE_PATIENCE;
        let failed = std::cell::RefCell::new(None);
        let held = || -> Result<Vec<crate::object::CommitId>> {
            let mut roots = Roots::default();
            self.leases(&mut roots)?;
            let leased = roots.hard.iter().filter_map(|(thing, _)| match thing {
                Thing::State(state) => Some(*state),
                _ => None,
            });
            let (states, needed) = self.replay_needs()?;
            let mut commits = self.commits_of_states(leased.chain(states))?;
            commits.extend(needed);
            Ok(commits)
        };
        let hold = || {
            let taken =
                self.store.gc_lock().delete(&give_up).map_err(|error| Error::from(StoreError::from(error)));
            let taken = taken.and_then(|lock| match lock {
                Some(lock) => Ok(Some((lock, held()?))),
                None => Ok(None),
            });
            match taken {
                Ok(taken) => taken,
                Err(error) => {
                    *failed.borrow_mut() = Some(error);
                    None
                }
            }
        };
        let pruned = self.history()?.prune(&held()?, hold)?;
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        done.history_objects = pruned.objects as u64;
        if pruned.objects > 0 {
            let mut gone = Vec::new();
            let mut known = Vec::new();
            self.index.each_commit(&mut |commit, _, _| known.push(commit))?;
            let history = self.history()?;
            gone.extend(known.into_iter().filter(|commit| !history.has_commit(commit)));
            self.index.forget_commits(&gone)?;
        }
        Ok(())
    }
}

/// Why a directory of a namespace stays. What is in `tmp/` by then goes with the next command that has a worker.
const NO_WORKER: &str = "its files belong to other ids, and no worker can be started here";

/// Renames a directory, whoever owns it.
fn moved(session: Option<&Session>, from: &Path, to: &Path) -> Result<(), String> {
    match (std::fs::rename(from, to), session) {
        (Ok(()), _) => Ok(()),
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        (Err(_), Some(session)) => session.rename(from, to).map_err(|error| error.to_string()),
        (Err(_), None) => Err(NO_WORKER.to_owned()),
    }
}

fn stopped() -> Error {
    Error::cancelled(
        "garbage collection was stopped; what it has removed nothing needed, and the next one goes on",
    )
}

impl Collected {
    /// Both together.
    fn and(self, next: Self) -> Self {
        let mut all = Self { before: self.before, ..next };
        all.layers.splice(0..0, self.layers);
        all.originals.splice(0..0, self.originals);
        all.caches.splice(0..0, self.caches);
        all.states.splice(0..0, self.states);
        all.runs += self.runs;
        all.log_lines += self.log_lines;
        all.trees += self.trees;
        all.packed_bytes += self.packed_bytes;
        all.blobs += self.blobs;
        all.blob_bytes += self.blob_bytes;
        all.history_objects += self.history_objects;
        all
    }
}
