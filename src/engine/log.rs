//! Commits as a person reads them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::core::Core;
use super::error::Result;
use super::naming::said_in;
use super::outcome::ChangeCounts;
use super::place::Place;
use super::revision::revision_error;
use super::run::resources;
use super::types::{CommitDetail, CommitInfo, LogQuery};
use crate::history::{Head, Order, RefKind, WalkOptions};
use crate::index::RunRecord;
use crate::object::{CommandSpec, CommitId, Entry, SourceError, StateId, TreeId, TreePath, diff};

/// Where paths are in a commit, each where it is at all.
type Places = Vec<Option<Place>>;

impl Core {
    pub(super) fn log(self: &Arc<Self>, query: &LogQuery) -> Result<Vec<CommitInfo>> {
        let history = self.history()?;
        let mut options = WalkOptions { order: Order::Topological, ..WalkOptions::default() };
        if query.revs.is_empty() {
            let head = self.head_state()?;
            options.tips.push(self.name(&head)?);
        }
        for rev in &query.revs {
            let is_range = rev.contains("..") || rev.starts_with('^');
            if is_range {
                let set = history.resolve_range(rev).map_err(revision_error)?;
                options.tips.extend(set.include);
                options.hidden.extend(set.exclude);
            } else {
                options.tips.push(self.resolve_commit(rev)?);
            }
        }
        // One line of history is the same in both orders, and by time the first commit comes at once.
        if query.limit.is_some() && options.tips.len() == 1 {
            options.order = Order::Time;
        }
        let refs = self.refs_by_commit()?;
        let (mut infos, mut known) = (Vec::new(), HashMap::new());
        for walked in history.walk(&options)? {
            if query.limit.is_some_and(|limit| infos.len() >= limit) {
                break;
            }
            let walked = walked?;
            if self.touches(&walked.id, &walked.parents, &query.paths, &mut known)? {
                infos.push(self.commit_info(walked.id, &refs)?.0);
            }
        }
        self.add_notes(&mut infos)?;
        Ok(infos)
    }

    pub(super) fn show(self: &Arc<Self>, rev: &str) -> Result<CommitDetail> {
        let commit = self.resolve_commit(rev)?;
        let (info, run) = self.commit_info(commit, &self.refs_by_commit()?)?;
        let mut detail = CommitDetail {
            env: Vec::new(),
            workdir: None,
            user: None,
            mounts: Vec::new(),
            key: None,
            resources: None,
            changed: Vec::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            info,
        };
        self.add_notes(std::slice::from_mut(&mut detail.info))?;
        if let Some(parent) = detail.info.parents.first() {
            let (old, new) = (self.state_at(*parent)?, self.state_at(commit)?);
            detail.changed = self.diff(&old, &new, &[])?;
        }
        if let Some(run) = run {
            detail.key = Some(run.key);
            detail.resources = Some(resources(&run));
            detail.stdout = self.output(&run.stdout).unwrap_or_default();
            detail.stderr = self.output(&run.stderr).unwrap_or_default();
            if let Ok(spec) = CommandSpec::decode(&run.spec) {
                detail.user = Some(format!("{}:{}", spec.uid, spec.gid));
                detail.workdir = Some(String::from_utf8_lossy(&spec.cwd).into_owned());
                let mounts = spec.mounts.iter().map(|mount| {
                    (mount.content.kind().to_owned(), String::from_utf8_lossy(&mount.path).into_owned())
                });
                detail.mounts = mounts.collect();
                detail.env = spec.env;
            }
        }
        Ok(detail)
    }

    /// Whether a commit changed something at or below one of the paths. What is found of its parents stays known until they are asked
    /// about themselves.
    fn touches(
        &self,
        commit: &CommitId,
        parents: &[CommitId],
        paths: &[TreePath],
        known: &mut HashMap<CommitId, Places>,
    ) -> Result<bool> {
        if paths.is_empty() {
            return Ok(true);
        }
        let here = match known.remove(commit) {
            Some(here) => here,
            None => self.places(commit, paths, None)?,
        };
        for parent in parents {
            if !known.contains_key(parent) {
                known.insert(*parent, self.places(parent, paths, Some(&here))?);
            }
        }
        let there: Vec<&Places> = parents.iter().filter_map(|parent| known.get(parent)).collect();
        for (at, new) in here.iter().enumerate() {
            let entry = |place: &Option<Place>| place.as_ref().map(|place| place.entry.clone());
            let new = entry(new);
            let mut differs_from_all = new.is_some() || !there.is_empty();
            for old in &there {
                differs_from_all = differs_from_all && self.differ(entry(&old[at]).as_ref(), new.as_ref())?;
            }
            if differs_from_all {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where each of the paths is in a commit; `like` is a commit that has most of them in common.
    fn places(&self, commit: &CommitId, paths: &[TreePath], like: Option<&Places>) -> Result<Places> {
        let root = self.tree_of_commit(commit)?;
        let known = |at: usize| like.and_then(|like| like[at].as_ref());
        paths.iter().enumerate().map(|(at, path)| self.place(&root, path, known(at))).collect()
    }

    /// Whether what is at a path in two trees differs as [`Core::each_change`] has it: times of directories do not count.
    pub(super) fn differ(&self, old: Option<&Entry>, new: Option<&Entry>) -> Result<bool> {
        let (Some(old), Some(new)) = (old, new) else { return Ok(old.is_some() != new.is_some()) };
        if old == new {
            return Ok(false);
        }
        let mut differs = false;
        let walked = diff(&self.store, old, new, &mut |change| {
            differs |= !change.is_directory_time_only();
            if differs { Err(SourceError("enough seen".into())) } else { Ok(()) }
        });
        if differs { Ok(true) } else { Ok(walked.map(|()| false)?) }
    }

    pub(super) fn commit_info(
        &self,
        commit: CommitId,
        refs: &HashMap<CommitId, Vec<String>>,
    ) -> Result<(CommitInfo, Option<RunRecord>)> {
        let record = self.history()?.read_commit(&commit)?;
        let value = said_in(&record);
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let state: StateId = match text("state").and_then(|text| text.parse().ok()) {
            Some(state) => state,
            None => self.state_of_commit(&commit)?,
        };
        let tree = match text("tree").and_then(|text| text.parse::<TreeId>().ok()) {
            Some(tree) => tree,
            None => self.store.state(&state)?.root,
        };
        let run = match self.index.commit_run(&commit)? {
            Some(seq) => self.index.run(seq)?,
            None => None,
        };
        let count =
            |key: &str| value.pointer(&format!("/changes/{key}")).and_then(Value::as_u64).unwrap_or(0);
        let command = match record.message.split_once("\n\nTreebox-State: ") {
            Some((command, _)) => command.to_owned(),
            None => record.message.clone(),
        };
        let info = CommitInfo {
            commit,
            parents: record.parents,
            state,
            tree,
            command,
            exit_code: value
                .get("exit_code")
                .and_then(Value::as_i64)
                .and_then(|code| i32::try_from(code).ok()),
            duration_ms: run.as_ref().map(|run| run.duration_ms),
            started_ms: run.as_ref().map(|run| run.started_ms),
            changes: ChangeCounts {
                added: count("added"),
                modified: count("modified"),
                deleted: count("deleted"),
            },
            refs: refs.get(&commit).cloned().unwrap_or_default(),
            note: None,
        };
        Ok((info, run))
    }

    /// The names at each commit, HEAD and the current branch first.
    pub(super) fn refs_by_commit(&self) -> Result<HashMap<CommitId, Vec<String>>> {
        let history = self.history()?;
        let mut refs: HashMap<CommitId, Vec<String>> = HashMap::new();
        let head = history.head()?;
        if let Some(commit) = head.commit() {
            let text = match &head {
                Head::Branch { name, .. } => format!("HEAD -> {name}"),
                _ => "HEAD".to_owned(),
            };
            refs.entry(commit).or_default().push(text);
        }
        for kind in RefKind::OF_STATES {
            for (name, commit) in history.refs(kind)? {
                let current = matches!(&head, Head::Branch { name: current, .. } if kind == RefKind::Branch && current.as_str() == name.short());
                if !current {
                    let prefix = if kind == RefKind::Tag { "tag: " } else { "" };
                    refs.entry(commit).or_default().push(format!("{prefix}{}", name.short()));
                }
            }
        }
        Ok(refs)
    }
}
