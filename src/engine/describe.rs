//! A name for a commit that has none: the nearest tag and the way from it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::blocking::Engine;
use super::core::Core;
use super::error::Result;
use super::listing::named_like;
use crate::history::{RefKind, RefName, WalkOptions};
use crate::object::CommitId;

/// How many tags are compared, as in Git: those that a walk by date meets first.
const CANDIDATES: usize = 10;

/// Which tags may describe a commit.
#[derive(Debug, Clone, Default)]
pub struct DescribeQuery {
    /// Only tags whose names match one of these; every tag when there is none.
    pub patterns: Vec<String>,
    /// Only tags at the commit itself.
    pub exact: bool,
}

/// A commit by its nearest tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The commit that was asked about.
    pub commit: CommitId,
    /// The tag.
    pub tag: String,
    /// How many commits the tag does not have, merged ones among them.
    pub ahead: u64,
}

impl Engine {
    /// The nearest tag from which the commit of a revision came; `None` when there is none.
    pub fn describe(&self, rev: &str, query: &DescribeQuery) -> Result<Option<Described>> {
        self.core.describe(rev, query)
    }
}

impl std::fmt::Display for Described {
    /// The tag; when it is not at the commit itself also how far it is and the short id, `v1-3-g0123456789ab`, which is a revision.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ahead {
            0 => f.write_str(&self.tag),
            ahead => write!(f, "{}-{ahead}-g{}", self.tag, self.commit.short()),
        }
    }
}

impl Core {
    fn describe(self: &Arc<Self>, rev: &str, query: &DescribeQuery) -> Result<Option<Described>> {
        let commit = self.resolve_commit(rev)?;
        let history = self.history()?;
        let wanted = named_like(&query.patterns);
        let mut tags: HashMap<CommitId, Vec<RefName>> = HashMap::new();
        for (name, at) in history.refs(RefKind::Tag)? {
            if wanted(&name) {
                tags.entry(at).or_default().push(name);
            }
        }
        let here = WalkOptions { tips: vec![commit], ..WalkOptions::default() };
        let mut candidates = Vec::new();
        if !tags.is_empty() {
            for step in history.walk(&here)? {
                let step = step?;
                candidates.extend(tags.contains_key(&step.id).then_some(step.id));
                // A tag at the commit itself is nearer than any other.
                if query.exact || candidates.first() == Some(&commit) || candidates.len() == CANDIDATES {
                    break;
                }
            }
        }
        let mut nearest: Option<(u64, CommitId)> = None;
        for candidate in candidates {
            let beyond = WalkOptions { hidden: vec![candidate], ..here.clone() };
            let ahead = history.walk(&beyond)?.try_fold(0, |count, step| step.map(|_| count + 1))?;
            if nearest.is_none_or(|(least, _)| ahead < least) {
                nearest = Some((ahead, candidate));
            }
        }
        let Some((ahead, at)) = nearest else { return Ok(None) };
        // Of several at one commit the newest.
        let mut names = Vec::new();
        for name in &tags[&at] {
            names.push((Reverse(self.moved(name, &at)?), Reverse(name.short())));
        }
        let newest = names.into_iter().min().map(|(_, Reverse(name))| name.to_owned());
        Ok(newest.map(|tag| Described { commit, tag, ahead }))
    }
}
