//! Where everything that stays begins.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::marks::Thing;
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::engine::image_record;
use crate::engine::naming::said_in;
use crate::history::{Logged, RefKind, Tips};
use crate::index::{KnownObject, RunHold};
use crate::object::{CommandSpec, CommitId, StateId};
use crate::store::Leased;

/// Runs that are read at a time.
const PAGE: usize = 1000;
/// Objects of the index that are read at a time.
const OBJECTS_AT_ONCE: usize = 4096;

/// What keeps something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A ref leads to it: by its full name, or `HEAD`.
    Ref(String),
    /// A running process uses it.
    InUse,
    /// A replay that is not finished needs it.
    Replay,
    /// A host directory was written from it, and could not be brought to another state without it.
    Checkout(String),
    /// An image that a ref leads to consists of it.
    Image,
    /// It is the input or output of a run whose result a ref leads to.
    Recorded(i64),
    /// A ref was there, or an operation can be taken back.
    Logged {
        /// The ref whose log leads to it; the operation log's is `refs/treebox/operations`.
        full: String,
        /// When it was there, in seconds since 1970.
        time_seconds: i64,
    },
    /// A remembered run leads to it.
    Run {
        /// The run's number.
        seq: i64,
        /// When it was last made or used, in milliseconds since 1970.
        used_ms: i64,
        /// Its command.
        command: String,
    },
}

/// A thing that stays, with why.
pub(in crate::engine) type Root = (Thing, Why);

/// Everything that keeps something, as it is at one moment.
#[derive(Debug, Default)]
pub(in crate::engine) struct Roots {
    /// What must stay, whatever the size of the store.
    pub(in crate::engine) hard: Vec<Root>,
    /// What only logs lead to, newest first.
    pub(in crate::engine) logged: Vec<(Logged, Vec<Root>)>,
    /// Remembered runs that nothing else keeps, last used first.
    pub(in crate::engine) runs: Vec<(RunHold, Vec<Root>)>,
    /// Layers in use.
    pub(in crate::engine) layers: HashSet<Leased>,
    /// Originals in use: what was made or used since then, in milliseconds since 1970.
    pub(in crate::engine) originals_since: Option<u64>,
    /// Originals that images consist of, and whether a ref leads to the image.
    pub(in crate::engine) originals: BTreeMap<String, bool>,
    /// What was seen that stays in any case.
    pub(in crate::engine) seen: Seen,
}

/// What was seen of history: a second look can leave it out.
#[derive(Debug, Default, Clone)]
pub(in crate::engine) struct Seen {
    commits: HashSet<CommitId>,
    /// Runs that made commits, and whether a ref leads to one.
    linked: BTreeMap<i64, bool>,
    /// The greatest number of a run.
    pub(super) last_run: i64,
}

impl Roots {
    /// Everything that keeps something, with why.
    pub(in crate::engine) fn all(&self) -> impl Iterator<Item = &Root> {
        let logged = self.logged.iter().flat_map(|(_, kept)| kept);
        let runs = self.runs.iter().flat_map(|(_, kept)| kept);
        self.hard.iter().chain(logged).chain(runs)
    }

    /// Whether originals that were last used then, in milliseconds since 1970, are in use.
    pub(super) fn use_originals_of(&self, used_ms: i64) -> bool {
        self.originals_since.is_some_and(|since| used_ms >= since as i64)
    }
}

impl Core {
    /// Every object that the index knows.
    pub(in crate::engine) fn each_known_object(&self, visit: &mut dyn FnMut(&KnownObject)) -> Result<()> {
        let mut last: Option<[u8; 32]> = None;
        loop {
            let page = self.index.objects_after(last.as_ref(), OBJECTS_AT_ONCE)?;
            let Some(object) = page.last() else { return Ok(()) };
            last = Some(object.id);
            page.iter().for_each(&mut *visit);
        }
    }

    /// The commits that are known to hold these states.
    pub(super) fn commits_of_states(
        &self,
        states: impl IntoIterator<Item = StateId>,
    ) -> Result<Vec<CommitId>> {
        let mut commits = Vec::new();
        for state in states {
            commits.extend(self.index.commits_of(&state)?);
        }
        Ok(commits)
    }

    /// Gathers all roots. Logs count from `logged_since` on, in seconds since 1970. What was `seen` before and stays is left out.
    pub(in crate::engine) fn roots(&self, logged_since: i64, seen: Option<Seen>) -> Result<Roots> {
        let mut roots = Roots::default();
        let history = self.history()?;
        let Tips { refs, logged } = history.tips(logged_since)?;
        let Seen { commits: mut seen, mut linked, last_run } = seen.unwrap_or_default();
        roots.seen.last_run = last_run;
        self.leases(&mut roots)?;
        for (full, commit) in refs {
            // Notes are a history of their own, without states.
            if !full.starts_with("refs/notes/") {
                let why = Why::Ref(full);
                if seen.contains(&commit)
                    && let Some((state, _)) = self.fact(&commit)?
                {
                    roots.hard.push((Thing::State(state), why.clone()));
                }
                self.commits(&mut roots, [commit], &mut seen, &mut linked, &why)?;
            }
        }
        let (states, commits) = self.replay_needs()?;
        roots.hard.extend(states.into_iter().map(|id| (Thing::State(id), Why::Replay)));
        self.commits(&mut roots, commits.iter().copied(), &mut seen, &mut linked, &Why::Replay)?;
        for (directory, trees) in self.checkouts_need()? {
            let why = Why::Checkout(directory);
            roots.hard.extend(trees.into_iter().map(|tree| (Thing::Root(tree), why.clone())));
        }
        self.held_commits(&mut roots, &mut seen, &mut linked)?;
        roots.seen.commits.clone_from(&seen);
        self.logged(&mut roots, logged, &mut seen, &mut linked)?;
        self.runs(&mut roots, &linked)?;
        linked.retain(|_, hard| *hard);
        roots.seen.linked = linked;
        Ok(roots)
    }

    /// What living processes use.
    pub(super) fn leases(&self, roots: &mut Roots) -> Result<()> {
        for leased in self.store.leased()? {
            let thing = match leased {
                Leased::State(id) => Thing::State(id),
                Leased::Tree(id) => Thing::Root(id),
                Leased::Blob(id) => Thing::Blob(id),
                Leased::Room(..) => continue,
                Leased::Layer(_) => {
                    roots.layers.insert(leased);
                    continue;
                }
                Leased::OriginalsSince(ms) => {
                    roots.originals_since = Some(roots.originals_since.map_or(ms, |known| known.min(ms)));
                    continue;
                }
            };
            roots.hard.push((thing, Why::InUse));
        }
        Ok(())
    }

    /// The commits that are known to hold states which must stay: one of them may be about to get a ref.
    fn held_commits(
        &self,
        roots: &mut Roots,
        seen: &mut HashSet<CommitId>,
        linked: &mut BTreeMap<i64, bool>,
    ) -> Result<()> {
        let states: BTreeSet<_> = roots
            .hard
            .iter()
            .filter_map(|(thing, why)| match (thing, why) {
                (Thing::State(id), Why::InUse | Why::Replay) => Some(*id),
                _ => None,
            })
            .collect();
        let commits = self.commits_of_states(states)?;
        self.commits(roots, commits, seen, linked, &Why::InUse)
    }

    /// The states of commits and their ancestors; what they say of images; which runs made them.
    fn commits(
        &self,
        roots: &mut Roots,
        tips: impl IntoIterator<Item = CommitId>,
        seen: &mut HashSet<CommitId>,
        linked: &mut BTreeMap<i64, bool>,
        why: &Why,
    ) -> Result<()> {
        let hard = !matches!(why, Why::Logged { .. });
        let mut new = Vec::new();
        self.history()?.each_ancestor(tips, seen, &mut |commit, _| new.push(commit))?;
        let mut found = Vec::new();
        for commit in new {
            let Some(fact) = self.fact(&commit)? else { continue };
            found.push((Thing::State(fact.0), why.clone()));
            match fact.1 {
                Some(run) => _ = linked.entry(run).and_modify(|known| *known |= hard).or_insert(hard),
                None => self.originals_of(&commit, hard, roots)?,
            }
        }
        match why {
            Why::Logged { full, time_seconds } => {
                let commit = CommitId::from_bytes([0; 20]);
                let logged = Logged { full: full.clone(), commit, time_seconds: *time_seconds };
                roots.logged.push((logged, found));
            }
            _ => roots.hard.extend(found),
        }
        Ok(())
    }

    /// The state of a commit and the number of the run that made it; `None` for one that was not made by treebox.
    pub(in crate::engine) fn fact(&self, commit: &CommitId) -> Result<Option<(StateId, Option<i64>)>> {
        if let Some(fact) = self.index.commit(commit)? {
            return Ok(Some((fact.state, fact.run_seq)));
        }
        match self.state_of_commit(commit) {
            Ok(state) => Ok(Some((state, None))),
            Err(Error::Invalid(_) | Error::History(crate::history::HistoryError::NoRecord(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes the originals of a commit that is an image.
    fn originals_of(&self, commit: &CommitId, hard: bool, roots: &mut Roots) -> Result<()> {
        let Ok(record) = self.history()?.read_commit(commit) else { return Ok(()) };
        let said = said_in(&record);
        let Some(image) = said.get("image").and_then(image_record::read) else { return Ok(()) };
        let documents = image.manifest.iter().chain([&image.config]).map(|document| &document.digest);
        let layers = image.layers.iter().flat_map(|layer| [&layer.digest, &layer.diff_id]);
        for digest in documents.chain(layers) {
            *roots.originals.entry(digest.to_string()).or_insert(hard) |= hard;
        }
        Ok(())
    }

    fn logged(
        &self,
        roots: &mut Roots,
        mut logged: Vec<Logged>,
        seen: &mut HashSet<CommitId>,
        linked: &mut BTreeMap<i64, bool>,
    ) -> Result<()> {
        logged.sort_by_key(|logged| std::cmp::Reverse(logged.time_seconds));
        for Logged { full, commit, time_seconds } in logged {
            if seen.contains(&commit) || full.starts_with("refs/notes/") {
                continue;
            }
            self.commits(roots, [commit], seen, linked, &Why::Logged { full, time_seconds })?;
        }
        Ok(())
    }

    /// What remembered runs keep: those of commits that refs lead to keep their input and output in any case.
    fn runs(&self, roots: &mut Roots, linked: &BTreeMap<i64, bool>) -> Result<()> {
        loop {
            let page = self.index.run_holds_after(roots.seen.last_run, PAGE)?;
            let Some(last) = page.last() else { break };
            roots.seen.last_run = last.seq;
            for run in page {
                let recorded = linked.get(&run.seq) == Some(&true);
                let kept = run_keeps(&run, recorded);
                if recorded {
                    roots.hard.extend(kept);
                } else {
                    roots.runs.push((run, kept));
                }
            }
        }
        roots.runs.sort_by_key(|(run, _)| (std::cmp::Reverse(run.used_ms), std::cmp::Reverse(run.seq)));
        Ok(())
    }

    /// Whether a ref leads to what a run made.
    pub(super) fn is_recorded(roots: &Roots, seq: i64) -> bool {
        roots.seen.linked.get(&seq) == Some(&true)
    }

    /// What runs that are younger than that one keep.
    pub(super) fn runs_since(&self, last: &mut i64) -> Result<Vec<Root>> {
        let mut found = Vec::new();
        loop {
            let page = self.index.run_holds_after(*last, PAGE)?;
            let Some(newest) = page.last() else { return Ok(found) };
            *last = newest.seq;
            found.extend(page.iter().flat_map(|run| run_keeps(run, false)));
        }
    }

    /// The digests that names of images say they stand for: of an index of several images nothing else tells.
    pub(super) fn pulled_digests(&self) -> Result<HashMap<String, String>> {
        let refs = self.history()?.refs(RefKind::Image)?;
        let named: HashSet<&str> = refs.iter().map(|(name, _)| name.short()).collect();
        let found = self.index.images()?.into_iter().filter_map(|image| {
            if !named.contains(image.name.as_str()) {
                return None;
            }
            let digest = image.source.split_once('@')?.1.split(' ').next()?.to_owned();
            digest.starts_with("sha").then_some((digest, image.name))
        });
        Ok(found.collect())
    }
}

fn run_keeps(run: &RunHold, recorded: bool) -> Vec<Root> {
    let why = match recorded {
        true => Why::Recorded(run.seq),
        false => Why::Run { seq: run.seq, used_ms: run.used_ms, command: run.command.clone() },
    };
    let mut kept: Vec<Root> = run.output.iter().map(|blob| (Thing::Blob(*blob), why.clone())).collect();
    if run.changed {
        // One that changed nothing is as good as its parent: it lasts as long as that, and does not keep it.
        kept.push((Thing::State(run.result), why.clone()));
        if let Ok(spec) = CommandSpec::decode(&run.spec) {
            kept.extend(spec.blobs().map(|blob| (Thing::Blob(blob), why.clone())));
        }
    }
    kept
}
