//! What goes and what stays, worked out before anything is touched.
//!
//! What must stay is marked first, then what may go, the most valuable first: logs, remembered runs, caches, originals of images that only a log
//! leads to, layers; each group by its last use. Where the size is bounded, the first that does not fit goes with all that come after it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::marks::{Marks, Thing};
use super::roots::{Root, Roots, Seen};
use super::size::{Counted, StoreSize, disk_bytes};
use super::{GoneCache, GoneLayer, GoneOriginal};
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::index::{LayerRecord, RunHold};
use crate::object::{StateId, TreeId};
use crate::oci::Original;
use crate::store::{Leased, ObjectKind, record_bytes};

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// When it is, in milliseconds since 1970.
    pub(super) now_ms: i64,
    /// What was not used since then may go.
    pub(super) since_ms: i64,
    /// How large the store may be.
    pub(super) max_bytes: Option<u64>,
}

/// The plan.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) before: StoreSize,
    pub(super) marks: Marks,
    /// Log lines older than that go, in seconds since 1970.
    pub(super) logged_since: i64,
    pub(super) log_lines: usize,
    /// Runs that are forgotten, with what each left.
    pub(super) runs: Vec<(i64, StateId)>,
    /// What was seen of history that stays.
    pub(super) seen: Seen,
    /// When it was made, in milliseconds since 1970.
    pub(super) made_ms: i64,
    /// By how much what must stay is too large, in bytes.
    pub(super) over_bytes: u64,
    pub(super) layers: Vec<GoneLayer>,
    pub(super) originals: Vec<(GoneOriginal, PathBuf)>,
    pub(super) caches: Vec<(GoneCache, PathBuf)>,
    /// Originals whose parts are marked.
    pub(super) read_originals: HashSet<PathBuf>,
    pub(super) states: Vec<StateId>,
    pub(super) trees: u64,
    pub(super) packed_bytes: u64,
    pub(super) blobs: u64,
    pub(super) blob_bytes: u64,
    /// What stays, by the first thing that keeps it, in bytes.
    pub(super) stays: Stays,
}

/// What stays and why, in bytes; each thing counts for the first that keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stays {
    /// Refs, running processes, replays and checkouts.
    pub needed: u64,
    /// Logs of refs and operations.
    pub logged: u64,
    /// Remembered runs.
    pub runs: u64,
    /// Caches that commands mount.
    pub caches: u64,
    /// Originals of images.
    pub originals: u64,
    /// Layers.
    pub layers: u64,
}

/// How much room there still is; without a bound always enough.
struct Room {
    left: Option<u64>,
    /// Something did not fit: nothing that comes after it is kept.
    full: bool,
    /// How much is missing for what must stay.
    short: u64,
}

impl Room {
    /// Whether so many bytes of something that may go still fit.
    fn take(&mut self, bytes: u64) -> bool {
        self.full |= self.left.is_some_and(|left| bytes > left);
        if !self.full {
            self.force(bytes);
        }
        !self.full
    }

    /// Takes room for what must stay.
    fn force(&mut self, bytes: u64) {
        if let Some(left) = &mut self.left {
            self.full |= bytes > *left;
            self.short += bytes.saturating_sub(*left);
            *left = left.saturating_sub(bytes);
        }
    }
}

impl Core {
    /// Works out what goes. Nothing is touched.
    pub(super) fn plan_gc(&self, policy: &Policy) -> Result<Plan> {
        let logged_since = policy.since_ms.div_euclid(1000);
        let mut plan = Plan { logged_since, made_ms: policy.now_ms, ..Plan::default() };
        let mut counted = Counted::default();
        plan.before = self.size_counting(&mut Counted::default())?;
        let roots = self.roots(plan.logged_since, None)?;
        plan.seen = roots.seen.clone();
        let mut blob_bytes = 0;
        let device = std::os::unix::fs::MetadataExt::dev(
            &std::fs::metadata(self.layout().objects())
                .map_err(|error| Error::disk("look at", self.layout().objects(), error))?,
        );
        self.store.each_blob(&mut |_, file| {
            blob_bytes += file.disk_bytes;
            if file.links > 1 {
                counted.insert((device, file.inode));
            }
        })?;
        let StoreSize { originals, layers, caches, segments, .. } = plan.before;
        let fixed = plan.before.total() - originals - layers - caches - segments - blob_bytes;
        let left = policy.max_bytes.map(|max| max.saturating_sub(fixed));
        let short = policy.max_bytes.map_or(0, |max| fixed.saturating_sub(max));
        let mut room = Room { left, full: short > 0, short };

        plan.stays.needed = self.keep_all(&mut plan.marks, &roots.hard)?;
        room.force(plan.stays.needed);
        self.keep_needed_originals(&roots, &mut plan, &mut room)?;
        for (logged, kept) in &roots.logged {
            match self.keep_if_room(&mut plan.marks, kept, 0, &mut room)? {
                Some(bytes) => plan.stays.logged += bytes,
                None => {
                    plan.logged_since = plan.logged_since.max(logged.time_seconds + 1);
                    break;
                }
            }
        }
        plan.log_lines = self.history()?.old_log_lines(plan.logged_since)?;
        self.plan_runs(&roots, policy, &mut plan, &mut room)?;
        self.plan_caches(policy, &mut plan, &mut room)?;
        self.plan_originals(&roots, policy, &mut plan, &mut room)?;
        self.plan_layers(&roots, policy, &mut plan, &mut room, &mut counted)?;
        self.count_objects(&mut plan)?;
        plan.over_bytes = room.short;
        Ok(plan)
    }

    /// Marks, and says what that takes; `fresh` hears of each thing that was not marked.
    fn keep(&self, marks: &mut Marks, roots: &[Root], fresh: &mut dyn FnMut(Thing)) -> Result<u64> {
        let mut bytes = 0;
        for (thing, _) in roots {
            self.mark(marks, *thing, &mut |new| {
                bytes += self.disk_bytes(new)?;
                fresh(new);
                Ok(())
            })?;
        }
        Ok(bytes)
    }

    /// The same for what must stay.
    fn keep_all(&self, marks: &mut Marks, roots: &[Root]) -> Result<u64> {
        self.keep(marks, roots, &mut |_| {})
    }

    /// The same for what may go, as far as there is room for it and for so many bytes `besides`; `None` when there is none, and then nothing is marked.
    fn keep_if_room(
        &self,
        marks: &mut Marks,
        roots: &[Root],
        besides: u64,
        room: &mut Room,
    ) -> Result<Option<u64>> {
        let mut new = Vec::new();
        let bytes = self.keep(marks, roots, &mut |thing| new.push(thing))?;
        if room.take(bytes + besides) {
            return Ok(Some(bytes));
        }
        new.into_iter().for_each(|thing| marks.remove(thing));
        Ok(None)
    }

    /// The blobs that originals of images with a ref are put together from.
    fn keep_needed_originals(&self, roots: &Roots, plan: &mut Plan, room: &mut Room) -> Result<()> {
        for original in self.needed_originals(roots)? {
            let blobs: Vec<Root> =
                original.blobs().into_iter().map(|blob| (Thing::Blob(blob), super::Why::Image)).collect();
            let bytes = original.disk_bytes + self.keep_all(&mut plan.marks, &blobs)?;
            plan.stays.originals += bytes;
            room.force(bytes);
        }
        Ok(())
    }

    /// The originals of images with a ref, and those that somebody uses.
    pub(super) fn needed_originals(&self, roots: &Roots) -> Result<Vec<Original>> {
        let pulled = self.pulled_digests()?;
        let mut needed = Vec::new();
        self.originals().each(&mut |original| {
            let used = roots.use_originals_of(millis(original.used));
            let named =
                roots.originals.get(&original.digest) == Some(&true) || pulled.contains_key(&original.digest);
            if used || named && !original.is_partial {
                needed.push(original);
            }
        })?;
        Ok(needed)
    }

    fn plan_runs(&self, roots: &Roots, policy: &Policy, plan: &mut Plan, room: &mut Room) -> Result<()> {
        let mut as_parent = Vec::new();
        for (run, kept) in &roots.runs {
            let there = self.store.has_packed(run.result.as_bytes())?;
            if room.full || run.used_ms < policy.since_ms || !there {
                plan.runs.push((run.seq, run.result));
                continue;
            }
            let Some(bytes) = self.keep_if_room(&mut plan.marks, kept, 0, room)? else {
                plan.runs.push((run.seq, run.result));
                continue;
            };
            plan.stays.runs += bytes;
            if !run.changed {
                as_parent.push(run);
            }
        }
        // What changed nothing is worth as much as the state it ran on.
        let gone = |run: &&&RunHold| !plan.marks.has(Thing::State(run.parent));
        plan.runs.extend(as_parent.iter().filter(gone).map(|run| (run.seq, run.result)));
        Ok(())
    }

    fn plan_caches(&self, policy: &Policy, plan: &mut Plan, room: &mut Room) -> Result<()> {
        let dir = self.layout().caches();
        let Ok(listing) = std::fs::read_dir(&dir) else { return Ok(()) };
        let mut caches = Vec::new();
        for entry in listing {
            let path = entry.map_err(|error| Error::disk("list", &dir, error))?.path();
            let about = path.join("about");
            let used = std::fs::metadata(&about).and_then(|stat| stat.modified()).map_or(0, millis);
            if !path.join("0").exists() {
                continue;
            }
            let bytes = disk_bytes(&path, &mut Counted::default(), &mut 0);
            let text = std::fs::read_to_string(&about).unwrap_or_default();
            let id = text.lines().find_map(|line| line.strip_prefix("id ")).unwrap_or_default().to_owned();
            caches.push((used, GoneCache { id, bytes }, path));
        }
        caches.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        for (used, gone, path) in caches {
            if used >= policy.since_ms && room.take(gone.bytes) {
                plan.stays.caches += gone.bytes;
            } else {
                plan.caches.push((gone, path));
            }
        }
        Ok(())
    }

    fn plan_originals(&self, roots: &Roots, policy: &Policy, plan: &mut Plan, room: &mut Room) -> Result<()> {
        let pulled = self.pulled_digests()?;
        let mut found = Vec::new();
        self.originals().each(&mut |original| found.push(original))?;
        found.sort_by_key(|original| std::cmp::Reverse(original.used));
        for original in found {
            let used = millis(original.used);
            if roots.use_originals_of(used) {
                continue;
            }
            let named = roots.originals.get(&original.digest).copied();
            let keep = match named {
                _ if original.is_partial => used >= policy.since_ms && room.take(original.disk_bytes),
                Some(true) => continue,
                _ if pulled.contains_key(&original.digest) => continue,
                Some(false) => {
                    let blobs: Vec<Root> =
                        original.blobs().into_iter().map(|id| (Thing::Blob(id), super::Why::Image)).collect();
                    self.keep_if_room(&mut plan.marks, &blobs, original.disk_bytes, room)?.is_some()
                }
                None => false,
            };
            if keep {
                plan.stays.originals += original.disk_bytes;
            } else {
                let gone = GoneOriginal { digest: original.digest, bytes: original.disk_bytes };
                plan.originals.push((gone, original.path));
            }
        }
        Ok(())
    }

    fn plan_layers(
        &self,
        roots: &Roots,
        policy: &Policy,
        plan: &mut Plan,
        room: &mut Room,
        counted: &mut Counted,
    ) -> Result<()> {
        let dir = self.layout().layers();
        let listing = std::fs::read_dir(&dir).map_err(|error| Error::disk("list", &dir, error))?;
        let mut there: HashSet<String> = HashSet::new();
        for entry in listing {
            let entry = entry.map_err(|error| Error::disk("list", &dir, error))?;
            there.insert(entry.file_name().to_string_lossy().into_owned());
        }
        let mut records = self.index.layers()?;
        records.reverse();
        let mut kept: HashSet<String> = HashSet::new();
        for name in there.iter().filter(|name| roots.layers.contains(&Leased::layer(name))) {
            let bytes = disk_bytes(&dir.join(name), counted, &mut 0);
            plan.stays.layers += bytes;
            room.force(bytes);
            kept.insert(name.clone());
        }
        let by_name: HashMap<&str, &LayerRecord> =
            records.iter().map(|record| (record.name.as_str(), record)).collect();
        let mut idle: BTreeMap<String, &'static str> = BTreeMap::new();
        for record in &records {
            let lost = !plan.marks.has(Thing::Root(record.tree));
            let idle_now = record.used_ms < policy.since_ms;
            if lost || idle_now {
                idle.insert(record.name.clone(), if lost { UNREACHABLE } else { IDLE });
                continue;
            }
            if room.full {
                continue;
            }
            // With it stay those below it.
            let stack = std::iter::once(&record.name).chain(&record.below);
            let new: Vec<&String> =
                stack.filter(|name| there.contains(*name) && !kept.contains(*name)).collect();
            let mut trial = if policy.max_bytes.is_some() { counted.clone() } else { Counted::default() };
            let counting = if policy.max_bytes.is_some() { &mut trial } else { &mut *counted };
            let bytes = new.iter().map(|name| disk_bytes(&dir.join(name), counting, &mut 0)).sum();
            if room.take(bytes) {
                if policy.max_bytes.is_some() {
                    *counted = trial;
                }
                plan.stays.layers += bytes;
                kept.extend(new.into_iter().cloned());
            }
        }
        for name in there.into_iter().filter(|name| !kept.contains(name)) {
            let record = by_name.get(name.as_str());
            plan.layers.push(GoneLayer {
                bytes: disk_bytes(&dir.join(&name), counted, &mut 0),
                tree: record.map(|record| record.tree),
                why: match record {
                    None => UNKNOWN,
                    Some(_) => idle.get(&name).copied().unwrap_or(NO_ROOM),
                },
                used_ms: record.map_or(0, |record| record.used_ms),
                name,
            });
        }
        plan.layers.sort_by(|a, b| (a.used_ms, &a.name).cmp(&(b.used_ms, &b.name)));
        Ok(())
    }

    /// Counts what is not marked.
    fn count_objects(&self, plan: &mut Plan) -> Result<()> {
        self.each_known_object(&mut |object| {
            if plan.marks.packed.contains(&object.id) {
                return;
            }
            plan.packed_bytes += record_bytes(u64::from(object.len));
            match object.kind == ObjectKind::State.code() {
                true => plan.states.push(StateId::from_bytes(object.id)),
                false => plan.trees += 1,
            }
        })?;
        let Plan { marks, blobs, blob_bytes, .. } = plan;
        Ok(self.store.each_blob(&mut |id, file| {
            if !marks.blobs.contains(id.as_bytes()) {
                *blobs += 1;
                *blob_bytes += file.disk_bytes;
            }
        })?)
    }

    /// Which lists of owners are of trees that go.
    pub(super) fn idle_owners(&self, marks: &Marks) -> Vec<PathBuf> {
        let Ok(listing) = std::fs::read_dir(self.layout().owners()) else { return Vec::new() };
        let idle = |path: &PathBuf| {
            let tree = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            tree.is_some_and(|tree: TreeId| !marks.has(Thing::Root(tree)))
        };
        listing.filter_map(Result::ok).map(|entry| entry.path()).filter(idle).collect()
    }
}

/// Why a layer goes.
const UNREACHABLE: &str = "nothing leads to its tree";
const IDLE: &str = "not used for long";
const NO_ROOM: &str = "no room";
const UNKNOWN: &str = "it is on no record";

pub(super) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
