//! Who holds what: for each ref all that it leads to, and what it alone leads to.
//!
//! Which refs lead to a thing is a set. Sets are the same for most things, so each is kept once, and goes down from commits to blobs along every
//! edge once.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::blocking::Engine;
use super::core::{Core, now_ms};
use super::error::{Error, Result};
use super::gc::{Roots, StoreSize, Thing, Why};
use crate::history::{LOG_REF, RefKind, RefName};
use crate::object::{CommitId, StateId};
use crate::store::{Leased, ObjectKind, record_bytes};

/// What a store takes and who holds it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DiskUse {
    /// Refs by name, then what else holds something.
    pub holders: Vec<Holder>,
    /// Blobs, trees and states that nothing holds, in bytes: the next garbage collection frees them.
    pub garbage_bytes: u64,
    /// The parts of the store.
    pub size: StoreSize,
}

/// What holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What it is.
    pub kind: HolderKind,
    /// The ref's name without its kind; else empty.
    pub name: String,
    /// Blobs, trees and states that it leads to, in bytes on disk.
    pub total_bytes: u64,
    /// Those of them that nothing else leads to; with a ref no other ref.
    pub exclusive_bytes: u64,
}

/// What can hold something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderKind {
    /// A branch.
    Branch,
    /// A tag.
    Tag,
    /// An image.
    Image,
    /// HEAD, where it is at no branch, or a ref that was made by another program.
    Other,
    /// Running processes, replays and checkouts.
    InUse,
    /// Logs of refs, and operations that can be taken back.
    Logs,
    /// Remembered runs.
    Runs,
}

impl HolderKind {
    /// The kind in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Tag => "tag",
            Self::Image => "image",
            Self::Other => "ref",
            Self::InUse => "in use",
            Self::Logs => "logs",
            Self::Runs => "runs",
        }
    }

    fn is_ref(self) -> bool {
        !matches!(self, Self::InUse | Self::Logs | Self::Runs)
    }
}

/// Something in the store with everything that keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub what: KeptThing,
    /// What keeps it; nothing does when this is empty.
    pub why: Vec<Why>,
}

/// What can be kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptThing {
    /// A state.
    State(StateId),
    /// A layer, by the name of its directory.
    Layer(String),
}

/// Sets of holders, each kept once.
#[derive(Default)]
struct Sets {
    known: HashMap<Vec<u64>, u32>,
    sets: Vec<Vec<u64>>,
    unions: HashMap<(u32, u32), u32>,
}

impl Sets {
    const NONE: u32 = 0;

    fn new() -> Self {
        let mut sets = Self::default();
        sets.intern(Vec::new());
        sets
    }

    fn intern(&mut self, set: Vec<u64>) -> u32 {
        if let Some(known) = self.known.get(&set) {
            return *known;
        }
        let number = u32::try_from(self.sets.len()).expect("fewer sets than things");
        self.sets.push(set.clone());
        self.known.insert(set, number);
        number
    }

    fn one(&mut self, holder: usize) -> u32 {
        let mut set = vec![0; holder / 64 + 1];
        set[holder / 64] |= 1 << (holder % 64);
        self.intern(set)
    }

    fn union(&mut self, a: u32, b: u32) -> u32 {
        if a == b || b == Self::NONE {
            return a;
        }
        if a == Self::NONE {
            return b;
        }
        let key = (a.min(b), a.max(b));
        if let Some(known) = self.unions.get(&key) {
            return *known;
        }
        let (mut longer, mut shorter) = (self.sets[a as usize].clone(), self.sets[b as usize].clone());
        if longer.len() < shorter.len() {
            std::mem::swap(&mut longer, &mut shorter);
        }
        longer.iter_mut().zip(shorter).for_each(|(into, from)| *into |= from);
        let number = self.intern(longer);
        self.unions.insert(key, number);
        number
    }

    fn members(&self, set: u32) -> Vec<usize> {
        let words = self.sets[set as usize].iter().enumerate();
        words
            .flat_map(|(at, word)| {
                (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
            })
            .collect()
    }
}

impl Engine {
    /// What the store takes on disk, and who holds it.
    pub fn disk_use(&self) -> Result<DiskUse> {
        self.core.disk_use()
    }

    /// Every state and layer with what keeps it.
    pub fn kept(&self) -> Result<Vec<Kept>> {
        self.core.kept()
    }
}

impl Core {
    fn disk_use(&self) -> Result<DiskUse> {
        let roots = self.roots(i64::MIN, None)?;
        let tips = self.history()?.tips(i64::MAX)?;
        let mut holders = Vec::new();
        let mut at = Vec::new();
        let head_is_detached = self.history()?.head()?.branch().is_none();
        for (full, commit) in tips.refs {
            let (kind, name) = match RefName::from_full(&full) {
                _ if full.starts_with("refs/notes/") || full == "HEAD" && !head_is_detached => continue,
                Some(name) => {
                    let kind = match name.kind() {
                        RefKind::Branch => HolderKind::Branch,
                        RefKind::Tag => HolderKind::Tag,
                        RefKind::Image => HolderKind::Image,
                        _ => HolderKind::Other,
                    };
                    (kind, name.short().to_owned())
                }
                None => (HolderKind::Other, full),
            };
            holders.push(Holder { kind, name, total_bytes: 0, exclusive_bytes: 0 });
            at.push(commit);
        }
        let mut sets = Sets::new();
        let mut of_things: HashMap<Thing, u32> = HashMap::new();
        self.states_of_refs(&at, &mut sets, &mut of_things)?;
        let refs = holders.len();
        for (number, kind) in [HolderKind::InUse, HolderKind::Logs, HolderKind::Runs].into_iter().enumerate()
        {
            holders.push(Holder { kind, name: String::new(), total_bytes: 0, exclusive_bytes: 0 });
            let one = sets.one(refs + number);
            for thing in things_of(&roots, kind) {
                let set = of_things.entry(thing).or_insert(Sets::NONE);
                *set = sets.union(*set, one);
            }
        }
        let (order, held) = self.spread(of_things, &mut sets)?;
        let mut bytes_of_sets: HashMap<u32, u64> = HashMap::new();
        let mut all = 0;
        for thing in &order {
            let bytes = self.disk_bytes(*thing)?;
            all += bytes;
            *bytes_of_sets.entry(held[thing]).or_default() += bytes;
        }
        for (set, bytes) in bytes_of_sets {
            let members = sets.members(set);
            let of_refs: Vec<_> = members.iter().filter(|at| holders[**at].kind.is_ref()).collect();
            for at in &members {
                holders[*at].total_bytes += bytes;
                let alone = if holders[*at].kind.is_ref() { of_refs.len() == 1 } else { members.len() == 1 };
                if alone {
                    holders[*at].exclusive_bytes += bytes;
                }
            }
        }
        holders.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        let garbage_bytes = self.objects_bytes()?.saturating_sub(all);
        Ok(DiskUse { holders, garbage_bytes, size: self.size()? })
    }

    /// Which refs lead to which states.
    fn states_of_refs(
        &self,
        at: &[CommitId],
        sets: &mut Sets,
        of_things: &mut HashMap<Thing, u32>,
    ) -> Result<()> {
        let mut parents_of: HashMap<CommitId, Vec<CommitId>> = HashMap::new();
        self.history()?.each_ancestor(at.iter().copied(), &mut HashSet::new(), &mut |commit, parents| {
            parents_of.insert(commit, parents.to_vec());
        })?;
        let mut children: HashMap<CommitId, usize> = HashMap::new();
        for parent in parents_of.values().flatten() {
            *children.entry(*parent).or_default() += 1;
        }
        let mut of_commits: HashMap<CommitId, u32> = HashMap::new();
        for (holder, commit) in at.iter().enumerate() {
            let one = sets.one(holder);
            let set = of_commits.entry(*commit).or_insert(Sets::NONE);
            *set = sets.union(*set, one);
        }
        let is_last = |commit: &&CommitId| !children.contains_key(*commit);
        let mut todo: Vec<CommitId> = parents_of.keys().filter(is_last).copied().collect();
        while let Some(commit) = todo.pop() {
            let set = of_commits.get(&commit).copied().unwrap_or(Sets::NONE);
            if let Some((state, _)) = self.fact(&commit)? {
                let known = of_things.entry(Thing::State(state)).or_insert(Sets::NONE);
                *known = sets.union(*known, set);
            }
            for parent in parents_of.get(&commit).into_iter().flatten() {
                let known = of_commits.entry(*parent).or_insert(Sets::NONE);
                *known = sets.union(*known, set);
                if let Some(left) = children.get_mut(parent) {
                    *left -= 1;
                    if *left == 0 && parents_of.contains_key(parent) {
                        todo.push(*parent);
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands sets down to everything that things lead to; gives all of it, each before what it leads to.
    fn spread(
        &self,
        mut held: HashMap<Thing, u32>,
        sets: &mut Sets,
    ) -> Result<(Vec<Thing>, HashMap<Thing, u32>)> {
        let mut below: HashMap<Thing, Vec<Thing>> = HashMap::new();
        let mut after = Vec::new();
        let mut seen = HashSet::new();
        let mut todo: Vec<(Thing, bool)> = held.keys().map(|thing| (*thing, false)).collect();
        while let Some((thing, left)) = todo.pop() {
            if left {
                after.push(thing);
                continue;
            }
            if !seen.insert(thing) {
                continue;
            }
            todo.push((thing, true));
            let leads = self.leads_to(thing)?;
            todo.extend(leads.iter().filter(|thing| !seen.contains(*thing)).map(|thing| (*thing, false)));
            if !leads.is_empty() {
                below.insert(thing, leads);
            }
        }
        after.reverse();
        for thing in &after {
            let set = held.get(thing).copied().unwrap_or(Sets::NONE);
            held.insert(*thing, set);
            for lower in below.get(thing).into_iter().flatten() {
                let known = held.entry(*lower).or_insert(Sets::NONE);
                *known = sets.union(*known, set);
            }
        }
        Ok((after, held))
    }

    /// What all blobs, trees and states take.
    fn objects_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        self.store.each_blob(&mut |_, file| sum += file.disk_bytes)?;
        self.each_known_object(&mut |object| sum += record_bytes(u64::from(object.len)))?;
        Ok(sum)
    }

    fn kept(&self) -> Result<Vec<Kept>> {
        let roots = self.roots(i64::MIN, None)?;
        let mut reasons: BTreeMap<StateId, Vec<Why>> = BTreeMap::new();
        self.each_known_object(&mut |object| {
            if object.kind == ObjectKind::State.code() {
                reasons.insert(StateId::from_bytes(object.id), Vec::new());
            }
        })?;
        let mut trees: HashMap<_, Vec<Why>> = HashMap::new();
        for (thing, why) in roots.all() {
            match thing {
                Thing::State(id) => reasons.entry(*id).or_default().push(why.clone()),
                Thing::Root(id) => trees.entry(*id).or_default().push(why.clone()),
                _ => {}
            }
        }
        let mut kept = Vec::new();
        for (id, mut why) in reasons {
            if let Ok(state) = self.store.state(&id) {
                why.extend(trees.get(&state.root).into_iter().flatten().cloned());
                trees.entry(state.root).or_default().extend(why.clone());
            }
            why.sort();
            why.dedup();
            kept.push(Kept { what: KeptThing::State(id), why });
        }
        let dir = self.layout().layers();
        let known: HashMap<String, _> =
            self.index.layers()?.into_iter().map(|record| (record.name, record.tree)).collect();
        for entry in std::fs::read_dir(&dir).map_err(|error| Error::disk("list", &dir, error))? {
            let entry = entry.map_err(|error| Error::disk("list", &dir, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut why: Vec<Why> =
                known.get(&name).and_then(|tree| trees.get(tree)).into_iter().flatten().cloned().collect();
            if roots.layers.contains(&Leased::layer(&name)) {
                why.push(Why::InUse);
            }
            why.sort();
            why.dedup();
            kept.push(Kept { what: KeptThing::Layer(name), why });
        }
        kept.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(kept)
    }
}

/// What holders of that kind name.
fn things_of(roots: &Roots, kind: HolderKind) -> Vec<Thing> {
    let things = |list: &[(Thing, Why)], wanted: &dyn Fn(&Why) -> bool| {
        list.iter().filter(|(_, why)| wanted(why)).map(|(thing, _)| *thing).collect::<Vec<_>>()
    };
    match kind {
        HolderKind::InUse => {
            things(&roots.hard, &|why| matches!(why, Why::InUse | Why::Replay | Why::Checkout(_)))
        }
        HolderKind::Logs => roots.logged.iter().flat_map(|(_, kept)| things(kept, &|_| true)).collect(),
        HolderKind::Runs => {
            let recorded = things(&roots.hard, &|why| matches!(why, Why::Recorded(_)));
            let others = roots.runs.iter().flat_map(|(_, kept)| things(kept, &|_| true));
            recorded.into_iter().chain(others).collect()
        }
        _ => Vec::new(),
    }
}

impl Why {
    /// What keeps it, for people.
    pub fn text(&self) -> String {
        let ago = |ms: i64| {
            let days = (now_ms() - ms).max(0) / 86_400_000;
            if days == 0 { "today".to_owned() } else { format!("{days} days ago") }
        };
        match self {
            Self::Ref(full) => match RefName::from_full(full) {
                Some(name) => format!("{} {}", name.kind().as_str(), name.short()),
                None => full.clone(),
            },
            Self::InUse => "in use".to_owned(),
            Self::Replay => "the replay under way".to_owned(),
            Self::Checkout(directory) => format!("checkout to {directory}"),
            Self::Image => "part of an image".to_owned(),
            Self::Recorded(_) => "recorded run".to_owned(),
            Self::Logged { full, time_seconds } => {
                let ago = ago(time_seconds.saturating_mul(1000));
                match full.as_str() {
                    LOG_REF => format!("an operation that can be taken back, {ago}"),
                    "HEAD" => format!("log of HEAD, {ago}"),
                    full => match RefName::from_full(full) {
                        Some(name) => format!("log of {} {}, {ago}", name.kind().as_str(), name.short()),
                        None => format!("log of {full}, {ago}"),
                    },
                }
            }
            Self::Run { used_ms, command, .. } => {
                let line = command.lines().next().unwrap_or_default();
                format!("remembered run, last used {}: {line}", ago(*used_ms))
            }
        }
    }
}
