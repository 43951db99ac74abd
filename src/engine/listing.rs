//! Branches and tags picked and sorted.
//!
//! Without a question that needs it no commit is read: a thousand branches are listed at the cost of reading their refs.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::blocking::Engine;
use super::core::Core;
use super::error::Result;
use super::types::CommitInfo;
use crate::history::{Head, Order, RefKind, RefName, WalkOptions};
use crate::object::{CommitId, Glob, Slashes, StateId};

/// Which branches or tags are listed, and in which order.
#[derive(Debug, Clone, Default)]
pub struct RefQuery {
    /// Only names that match one of these; every name when there is none. `*` matches slashes too, as in Git.
    pub patterns: Vec<String>,
    /// What they are sorted by.
    pub sort: RefSort,
    /// Whether the last comes first.
    pub reversed: bool,
    /// Only those from which this revision can be reached.
    pub contains: Option<String>,
    /// Only those that can be reached from this revision.
    pub merged: Option<String>,
    /// Only those that cannot be reached from this revision.
    pub not_merged: Option<String>,
    /// Whether their states are looked up.
    pub states: bool,
}

/// What branches or tags are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RefSort {
    /// Their names.
    #[default]
    Name,
    /// When they last moved, as their reflogs have it, else when the command of their commit ran. The dates of commits tell nothing:
    /// they follow from their parents.
    Moved,
    /// How many commits lie behind them, by first parents.
    Depth,
}

/// A branch or tag that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefListed {
    /// Its name, such as `main`.
    pub name: String,
    /// The commit it is at.
    pub commit: CommitId,
    /// That commit's state, when it was asked for.
    pub state: Option<StateId>,
    /// Whether HEAD is on it.
    pub current: bool,
    /// When it last moved, in seconds since 1970, when that was asked for and is known.
    pub moved_seconds: Option<i64>,
    /// How many commits lie behind it by first parents, when that was asked for.
    pub depth: Option<u64>,
}

impl Engine {
    /// The branches that a query asks for.
    pub fn list_branches(&self, query: &RefQuery) -> Result<Vec<RefListed>> {
        self.core.list_refs(RefKind::Branch, query)
    }

    /// The tags that a query asks for.
    pub fn list_tags(&self, query: &RefQuery) -> Result<Vec<RefListed>> {
        self.core.list_refs(RefKind::Tag, query)
    }

    /// What a log shows of exactly these commits, in their order.
    pub fn commits(&self, commits: &[CommitId]) -> Result<Vec<CommitInfo>> {
        self.core.commit_infos(commits)
    }
}

/// Whether a ref's name matches one of the patterns; every name does when there is none. `*` matches slashes too, as in Git.
pub(super) fn named_like(patterns: &[String]) -> impl Fn(&RefName) -> bool {
    let globs: Vec<Glob> =
        patterns.iter().map(|pattern| Glob::new(pattern.as_bytes(), Slashes::Ordinary)).collect();
    move |name| globs.is_empty() || globs.iter().any(|glob| glob.matches(name.short().as_bytes()))
}

impl Core {
    pub(super) fn commit_infos(&self, commits: &[CommitId]) -> Result<Vec<CommitInfo>> {
        self.commit_infos_with(commits, &self.refs_by_commit()?)
    }

    /// [`commit_infos`](Self::commit_infos), for one who asks several times and has the refs.
    pub(super) fn commit_infos_with(
        &self,
        commits: &[CommitId],
        refs: &HashMap<CommitId, Vec<String>>,
    ) -> Result<Vec<CommitInfo>> {
        let infos = commits.iter().map(|commit| Ok(self.commit_info(*commit, refs)?.0));
        let mut infos = infos.collect::<Result<Vec<_>>>()?;
        self.add_notes(&mut infos)?;
        Ok(infos)
    }

    fn list_refs(self: &Arc<Self>, kind: RefKind, query: &RefQuery) -> Result<Vec<RefListed>> {
        let history = self.history()?;
        let mut refs = history.refs(kind)?;
        let wanted = named_like(&query.patterns);
        refs.retain(|(name, _)| wanted(name));
        if let Some(rev) = &query.contains {
            let containing = self.containing(&self.resolve_commit(rev)?, &refs)?;
            refs.retain(|(_, tip)| containing.contains(tip));
        }
        for (rev, wanted) in [(&query.merged, true), (&query.not_merged, false)] {
            let Some(rev) = rev else { continue };
            let tips = vec![self.resolve_commit(rev)?];
            let walk = history.walk(&WalkOptions { tips, ..WalkOptions::default() })?;
            let reached = walk.map(|step| Ok(step?.id)).collect::<Result<HashSet<_>>>()?;
            refs.retain(|(_, tip)| reached.contains(tip) == wanted);
        }
        let depths = match query.sort {
            RefSort::Depth => self.depths(refs.iter().map(|(_, tip)| *tip))?,
            _ => HashMap::new(),
        };
        let head = history.head()?;
        let current = match &head {
            Head::Branch { name, .. } if kind == RefKind::Branch => Some(name.as_str()),
            _ => None,
        };
        let states = match query.states {
            true => self.states_of(&refs.iter().map(|(_, commit)| *commit).collect::<Vec<_>>())?,
            false => Vec::new(),
        };
        let listed = refs.into_iter().enumerate().map(|(at, (name, commit))| {
            Ok(RefListed {
                state: states.get(at).copied(),
                current: current == Some(name.short()),
                moved_seconds: match query.sort {
                    RefSort::Moved => self.moved(&name, &commit)?,
                    _ => None,
                },
                depth: depths.get(&commit).copied(),
                name: name.short().to_owned(),
                commit,
            })
        });
        let mut listed = listed.collect::<Result<Vec<_>>>()?;
        // They come sorted by name, and the sort keeps that order among equals.
        let key = |one: &RefListed| match query.sort {
            RefSort::Name => None,
            RefSort::Moved => one.moved_seconds,
            RefSort::Depth => one.depth.map(u64::cast_signed),
        };
        match (query.sort, query.reversed) {
            (RefSort::Name, false) => {}
            (RefSort::Name, true) => listed.reverse(),
            (_, false) => listed.sort_by_key(key),
            (_, true) => listed.sort_by_key(|one| Reverse(key(one))),
        }
        Ok(listed)
    }

    /// The states of commits: from the index at once, and what it lacks from the commits themselves.
    fn states_of(&self, commits: &[CommitId]) -> Result<Vec<StateId>> {
        let known = self.index.commit_states(commits)?;
        let states = known.into_iter().zip(commits);
        states.map(|(state, commit)| state.map_or_else(|| self.state_of_commit(commit), Ok)).collect()
    }

    /// When a ref last moved, else when its commit's command ran.
    pub(super) fn moved(&self, name: &RefName, commit: &CommitId) -> Result<Option<i64>> {
        if let Some(moved) = self.history()?.last_moved(name)? {
            return Ok(Some(moved));
        }
        let run = match self.index.commit_run(commit)? {
            Some(seq) => self.index.run(seq)?,
            None => None,
        };
        Ok(run.map(|run| run.started_ms.div_euclid(1000)))
    }

    /// Those of the tips from which a commit can be reached.
    fn containing(&self, commit: &CommitId, tips: &[(RefName, CommitId)]) -> Result<HashSet<CommitId>> {
        let mut containing = HashSet::from([*commit]);
        let tips = tips.iter().map(|(_, tip)| *tip).collect();
        let options = WalkOptions { tips, order: Order::Topological, ..WalkOptions::default() };
        let walk = self.history()?.walk(&options)?.collect::<std::result::Result<Vec<_>, _>>()?;
        // Backwards, parents come before their children.
        for step in walk.iter().rev() {
            if step.parents.iter().any(|parent| containing.contains(parent)) {
                containing.insert(step.id);
            }
        }
        Ok(containing)
    }

    /// How many commits lie behind each of the tips, and behind each of those, by first parents.
    pub(super) fn depths(&self, tips: impl Iterator<Item = CommitId>) -> Result<HashMap<CommitId, u64>> {
        let options = WalkOptions {
            tips: tips.collect(),
            order: Order::Topological,
            first_parent: true,
            ..WalkOptions::default()
        };
        let walk = self.history()?.walk(&options)?.collect::<std::result::Result<Vec<_>, _>>()?;
        let mut depths: HashMap<CommitId, u64> = HashMap::new();
        for step in walk.iter().rev() {
            let behind =
                step.parents.first().and_then(|parent| depths.get(parent)).map_or(0, |depth| depth + 1);
            depths.insert(step.id, behind);
        }
        Ok(depths)
    }
}
