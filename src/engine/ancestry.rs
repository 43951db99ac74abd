//! Where a commit came from and what came of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::blocking::Engine;
use super::core::Core;
use super::error::Result;
use super::types::CommitInfo;
use crate::history::{RefKind, WalkOptions};
use crate::object::{CommitId, StateId};

/// A commit among its relatives.
#[derive(Debug, Clone)]
pub struct Ancestry {
    /// The commit itself.
    pub commit: CommitInfo,
    /// How many commits lie behind it, by first parents: 0 for the root.
    pub depth: u64,
    /// Its parents, in order.
    pub parents: Vec<CommitInfo>,
    /// What was made of it, commits that refs lead to first.
    pub children: Vec<Child>,
    /// The first parents behind it, the nearest first, down to the root; at most as many as were asked for.
    pub chain: Vec<CommitInfo>,
    /// Where the chain of first parents begins: the image it grew from, or the first commit.
    pub root: CommitInfo,
}

/// What was made of a commit, or of its state, by one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The state.
    pub state: StateId,
    /// Its commit; `None` for a remembered run whose result was never named.
    pub commit: Option<CommitId>,
    /// The command, or what made it.
    pub command: String,
    /// How the command ended; `None` when there was none, or a signal ended it.
    pub exit_code: Option<i32>,
    /// Whether a branch, a tag or an image leads to it.
    pub named: bool,
}

impl Engine {
    /// Where the commit of a revision came from and what came of it; of the way to the root at most `limit` commits.
    ///
    /// Children are looked for among all that refs lead to, and among the commits and runs that this store remembers.
    pub fn ancestry(&self, rev: &str, limit: Option<usize>) -> Result<Ancestry> {
        self.core.ancestry(rev, limit)
    }
}

impl Core {
    fn ancestry(self: &Arc<Self>, rev: &str, limit: Option<usize>) -> Result<Ancestry> {
        let id = self.resolve_commit(rev)?;
        let options = WalkOptions { tips: vec![id], first_parent: true, ..WalkOptions::default() };
        let line = self.history()?.walk(&options)?.map(|step| Ok(step?.id)).collect::<Result<Vec<_>>>()?;
        let behind = &line[1..];
        let shown = &behind[..behind.len().min(limit.unwrap_or(usize::MAX))];
        let refs = self.refs_by_commit()?;
        let infos = |ids: &[CommitId]| self.commit_infos_with(ids, &refs);
        let [commit, root] =
            <[_; 2]>::try_from(infos(&[id, *line.last().unwrap_or(&id)])?).expect("as many infos as ids");
        Ok(Ancestry {
            depth: behind.len() as u64,
            parents: infos(&commit.parents)?,
            children: self.children(&commit, &refs)?,
            chain: infos(shown)?,
            commit,
            root,
        })
    }

    fn children(&self, of: &CommitInfo, refs: &HashMap<CommitId, Vec<String>>) -> Result<Vec<Child>> {
        let history = self.history()?;
        let mut tips = Vec::new();
        for kind in RefKind::OF_STATES {
            tips.extend(history.refs(kind)?.into_iter().map(|(_, tip)| tip));
        }
        tips.sort_unstable();
        tips.dedup();
        let mut named = Vec::new();
        // Nothing behind the commit can be its child.
        for step in
            history.walk(&WalkOptions { tips, hidden: of.parents.clone(), ..WalkOptions::default() })?
        {
            let step = step?;
            named.extend(step.parents.contains(&of.commit).then_some(step.id));
        }
        named.reverse();
        let mut seen: HashSet<CommitId> = named.iter().copied().collect();
        let others = self.index.children_of(&of.commit)?.into_iter().map(|fact| fact.id);
        let others: Vec<_> = others.filter(|id| seen.insert(*id) && history.has_commit(id)).collect();
        let mut children = Vec::new();
        for (ids, named) in [(&named, true), (&others, false)] {
            children.extend(self.commit_infos_with(ids, refs)?.into_iter().map(|info| Child {
                state: info.state,
                commit: Some(info.commit),
                command: info.command,
                exit_code: info.exit_code,
                named,
            }));
        }
        let mut known: HashSet<(StateId, String)> =
            children.iter().map(|child| (child.state, child.command.trim_end().to_owned())).collect();
        for run in self.index.runs_with_parent(&of.state)? {
            let command = run.command.trim_end().to_owned();
            if run.changed && run.result != of.state && known.insert((run.result, command)) {
                children.push(Child {
                    state: run.result,
                    commit: None,
                    command: run.command.clone(),
                    exit_code: run.exit_code,
                    named: false,
                });
            }
        }
        Ok(children)
    }
}
