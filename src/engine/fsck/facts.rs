//! The index: is it sound, and is what it says so?

use std::collections::{BTreeMap, HashSet};

use super::objects::Found;
use super::refs::{Refs, count};
use super::walk::Walked;
use super::{DamageKind, Pass};
use crate::index::{ChainRecord, CommitFact, Index, IndexError, KnownObject, LayerRecord, OutputRecord};
use crate::object::{BlobId, CommandSpec, StateId, TreeId};
use crate::store::Located;
use crate::store::check::{SegmentFlaw, lies_at};

/// Runs that are read at once.
const RUNS_AT_ONCE: usize = 1000;

/// What the index says.
#[derive(Default)]
pub(super) struct Facts {
    /// Whether there is one that can be read.
    pub(super) known: bool,
    objects: Vec<KnownObject>,
    segments: Vec<(u32, u64)>,
    pub(super) commits: Vec<CommitFact>,
    chains: Vec<ChainRecord>,
    pub(super) layers: Vec<LayerRecord>,
    /// Every state that is remembered.
    pub(super) states: Vec<StateId>,
    /// Root trees that are remembered.
    pub(super) trees: Vec<TreeId>,
    /// Blobs that are remembered besides those of trees.
    pub(super) blobs: Vec<BlobId>,
}

impl Pass<'_> {
    pub(super) fn facts(&mut self) -> Facts {
        let path = self.layout.index();
        let index = match Index::open_read_only(&path) {
            Ok(index) => index,
            Err(IndexError::Missing(_)) => {
                self.tell(DamageKind::IndexMissing, "index.db", "there is none");
                return Facts::default();
            }
            // It is brought up to date by the next open, and looked at then.
            Err(IndexError::Older { .. }) => return Facts::default(),
            Err(error) => {
                self.index_damaged(&error);
                return Facts::default();
            }
        };
        match index.check() {
            Ok(found) if found.is_empty() => {}
            Ok(found) => {
                let detail = format!("SQLite says: {}", found[..found.len().min(3)].join("; "));
                self.tell(DamageKind::IndexDamaged, "index.db", detail);
            }
            Err(error) => self.index_damaged(&error),
        }
        let mut facts = Facts { known: true, ..Facts::default() };
        if let Err(error) = self.read_facts(&index, &mut facts) {
            self.index_damaged(&error);
        }
        facts
    }

    fn index_damaged(&mut self, error: &IndexError) {
        // Found twice, told once.
        let known = |damage: &super::Damage| damage.kind == DamageKind::IndexDamaged;
        if !self.checked.damages.iter().any(known) {
            self.tell(DamageKind::IndexDamaged, "index.db", error.to_string());
        }
    }

    fn read_facts(&mut self, index: &Index, facts: &mut Facts) -> Result<(), IndexError> {
        // Marks first: what is entered meanwhile is above them.
        facts.segments = index.segments()?;
        index.each_object(&mut |object| facts.objects.push(object))?;
        facts.commits = index.commit_facts()?;
        facts.chains = index.chains()?;
        facts.layers = index.layers()?;
        facts.states = index.known_states()?;
        facts.trees = facts.chains.iter().map(|chain| chain.tree).collect();
        let mut after = 0;
        loop {
            let runs = index.runs_after(after, RUNS_AT_ONCE)?;
            let Some(last) = runs.last() else { return Ok(()) };
            after = last.seq;
            for run in &runs {
                for output in [&run.stdout, &run.stderr] {
                    if let OutputRecord::Blob(id, _) = output {
                        facts.blobs.push(*id);
                    }
                }
                match CommandSpec::decode(&run.spec) {
                    Ok(spec) => {
                        facts.blobs.extend(spec.blobs());
                    }
                    Err(error) => {
                        let detail = format!("the command of `{}` cannot be read: {error}", run.command);
                        self.tell(DamageKind::IndexRowRun, format!("run {}", run.seq), detail);
                    }
                }
            }
        }
    }

    /// Compares rows with what is there.
    pub(super) fn compare_facts(&mut self, facts: &Facts, refs: &Refs, found: &Found, walked: &Walked) {
        if !facts.known {
            return;
        }
        self.object_rows(facts, found, walked);
        for fact in &facts.commits {
            let Some(commit) = refs.by_id.get(&fact.id).map(|at| &refs.commits[*at]) else { continue };
            if let Some(state) = commit.state.filter(|state| *state != fact.state) {
                let detail = format!("its row says state {}, and it holds {state}", fact.state);
                self.known.states.insert(fact.id.to_string(), state);
                self.tell(DamageKind::IndexRowCommit, fact.id.to_string(), detail);
            }
        }
        for chain in &facts.chains {
            if found.segments.get(chain.tree.as_bytes()).is_none() {
                let detail = format!("it gives tree {}, which is not there", chain.tree);
                self.tell(DamageKind::IndexRowChain, chain.chain.clone(), detail);
            } else if !walked.is_whole(&chain.tree) {
                // What is wrong below was told, or is missing where nothing named leads: the next import must not build on it.
                let detail = format!("it gives tree {}, which is not whole", chain.tree);
                self.tell(DamageKind::IndexRowChain, chain.chain.clone(), detail);
            }
        }
        let layers = self.layout.layers();
        for layer in &facts.layers {
            if !layers.join(&layer.name).is_dir() {
                let detail = "its directory is not there";
                self.tell(DamageKind::IndexRowLayer, format!("layers/{}", layer.name), detail);
            }
        }
        if !self.layout.history().exists() && !facts.commits.is_empty() {
            let known = count(facts.commits.len(), "commit", "commits");
            self.tell(DamageKind::HistoryMissing, "history.git", format!("the index knows {known}"));
        }
    }

    /// Rows of objects against segments.
    fn object_rows(&mut self, facts: &Facts, found: &Found, walked: &Walked) {
        // What a damaged piece of a segment held is told with that.
        let mut damaged: Vec<(u32, u64, u64)> = Vec::new();
        for flaw in found.segments.flaws() {
            match flaw {
                SegmentFlaw::Record { segment, start, end, .. }
                | SegmentFlaw::Tail { segment, start, end, .. } => damaged.push((*segment, *start, *end)),
                SegmentFlaw::Magic { .. } => {}
                SegmentFlaw::Unreadable { .. } => return,
            }
        }
        let mut wrong: BTreeMap<u32, usize> = BTreeMap::new();
        let mut known: HashSet<[u8; 32]> = HashSet::with_capacity(facts.objects.len());
        for row in &facts.objects {
            known.insert(row.id);
            let place = Located { segment: row.segment, offset: row.offset, len: row.len };
            let is_there = found.segments.get(&row.id).is_some_and(|(kind, at)| {
                kind.code() == row.kind && (at == place || lies_at(self.layout, kind, &row.id, place))
            });
            let in_damage = damaged
                .iter()
                .any(|(segment, start, end)| *segment == row.segment && (*start..*end).contains(&row.offset));
            if !is_there && !in_damage {
                *wrong.entry(row.segment).or_default() += 1;
            }
        }
        for (id, _, located) in found.segments.iter() {
            let until = facts.segments.iter().find(|(segment, _)| *segment == located.segment);
            // Above the mark the next open reads for itself. What no ref leads to was forgotten as garbage, and goes when its segment is compacted.
            let below = until.is_some_and(|(_, until)| located.offset < *until);
            if below && walked.named.contains(id) && !known.contains(id) {
                *wrong.entry(located.segment).or_default() += 1;
            }
        }
        for (segment, number) in wrong {
            let rows = count(number, "row is wrong or missing", "rows are wrong or missing");
            self.tell(DamageKind::IndexRowObject, format!("segment {segment}"), rows);
        }
    }
}
