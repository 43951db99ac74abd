//! Why a command ran again instead of being remembered: the run that comes nearest, and the parts of the key that differ.
//!
//! Nearest of the remembered runs with the same command is the one with the fewest differing parts of the key; among those the one whose
//! parent tree differs in the fewest paths; among those the newest.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::core::Core;
use super::error::{Error, Result};
use super::state::State;
use crate::index::RunRecord;
use crate::object::{
    self, Change, CommandSpec, CommitId, Config, InjectedNode, MountContent, RunKey, StateId,
};

/// How many remembered runs of a command are compared, the newest first.
const MAX_COMPARED_RUNS: usize = 256;
/// Of how many that differ in equally many parts the parent trees are compared.
const MAX_COMPARED_TREES: usize = 32;
/// Up to how many paths a difference of trees is counted in the search for the smallest.
const MAX_COUNTED_PATHS: u64 = 10_000;

/// Why a run ran.
#[derive(Debug, Clone)]
pub struct Why {
    /// The run.
    pub run: WhyRun,
    /// Why it ran.
    pub answer: WhyAnswer,
}

/// A run as far as it matters here.
#[derive(Debug, Clone)]
pub struct WhyRun {
    /// The state that it left.
    pub state: StateId,
    /// The state that it ran on.
    pub parent: StateId,
    /// A commit of what it left, when there is one.
    pub commit: Option<CommitId>,
    /// The command as a person would type it.
    pub command: String,
    /// When it ran, in milliseconds since 1970.
    pub started_ms: i64,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// The key that it is remembered under.
    pub key: RunKey,
}

/// The reason.
#[derive(Debug, Clone)]
pub enum WhyAnswer {
    /// No remembered run of this command is older.
    First,
    /// What it would read was not known beforehand: a terminal, a pipe, a host directory that it may write.
    Unkeyed,
    /// Something that counts was different.
    Differs {
        /// The remembered run that comes nearest.
        nearest: Box<WhyRun>,
        /// Among how many it was looked for.
        compared: usize,
        /// What differs, in the order of the key; never empty.
        parts: Vec<KeyDifference>,
    },
    /// Nothing that counts was different, and yet it was not used.
    Known {
        /// The earlier run with the same key.
        earlier: Box<WhyRun>,
        /// By which rule it was not used.
        rule: WhyRule,
    },
}

/// Why a remembered run with the same key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyRule {
    /// It failed, and failures are never used again.
    Failed,
    /// It changed nothing, so it only looked; that is used again only where it is asked for.
    Observation,
    /// It could have been used: this run was asked to run in any case.
    Afresh,
    /// Its result is not in the store any more.
    Lost,
}

/// A part of the key of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeyPart {
    /// The files of the parent state.
    ParentTree,
    /// How commands run in the parent state unless they say otherwise.
    ParentConfig,
    /// Environment.
    Env,
    /// Working directory.
    Workdir,
    /// User, group and further groups.
    User,
    /// File mode creation mask.
    Umask,
    /// Host name.
    Hostname,
    /// Standard input.
    Stdin,
    /// Host files that are copied in.
    Copied,
    /// Mounts.
    Mounts,
    /// What it can reach.
    Network,
    /// How ids inside relate to ids on disk.
    RootMode,
    /// Whether the root file system is read-only.
    ReadOnly,
    /// Where times are clamped.
    Epoch,
    /// What of it is kept in the state.
    Keep,
    /// What the sandbox allows.
    Allow,
}

impl KeyPart {
    /// The word for it in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ParentTree => "parent_tree",
            Self::ParentConfig => "parent_config",
            Self::Env => "env",
            Self::Workdir => "workdir",
            Self::User => "user",
            Self::Umask => "umask",
            Self::Hostname => "hostname",
            Self::Stdin => "stdin",
            Self::Copied => "copied",
            Self::Mounts => "mounts",
            Self::Network => "network",
            Self::RootMode => "root_mode",
            Self::ReadOnly => "read_only",
            Self::Epoch => "epoch",
            Self::Keep => "keep",
            Self::Allow => "allow",
        }
    }
}

/// A part of the key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDifference {
    /// Which.
    pub part: KeyPart,
    /// What of it, the nearest run's values as the old ones. Empty for the parent tree.
    pub values: Vec<ValueChange>,
    /// Paths of the parent tree that differ, as many as were asked for.
    pub paths: Vec<Change>,
    /// How many paths or values there are in all; 0 where the parent of the nearest run is not in the store any more.
    pub total: u64,
}

/// A named value that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueChange {
    /// Its name: of a variable, a path, a setting; empty where the part is one value.
    pub name: String,
    /// Before; `None` when it was not there.
    pub old: Option<String>,
    /// Now; `None` when it is not there any more.
    pub new: Option<String>,
}

/// A run with everything that its key was made of.
struct Keyed {
    run: RunRecord,
    spec: CommandSpec,
    /// The parent; `None` when it is not in the store any more.
    parent: Option<object::State>,
}

impl Core {
    pub(super) fn why(self: &Arc<Self>, rev: &str, max_paths: usize) -> Result<Why> {
        let state = self.resolve(rev)?;
        let run = self.run_asked_about(rev, &state)?;
        let asked = self.why_run(&run)?;
        let answer = |answer| Ok(Why { run: asked, answer });
        let this = self.keyed(run)?;
        if this.spec.run_key(&this.run.parent) != this.run.key {
            return answer(WhyAnswer::Unkeyed);
        }
        let same = self.index.runs_of_key_before(&this.run.key, this.run.seq, MAX_COMPARED_RUNS)?;
        if let Some(newest) = same.first() {
            // One that succeeded would have been the one to use.
            let earlier = same.iter().find(|run| run.succeeded()).unwrap_or(newest);
            let rule = match earlier {
                run if !run.succeeded() => WhyRule::Failed,
                run if !run.changed => WhyRule::Observation,
                run if !self.is_there(&run.result)? => WhyRule::Lost,
                _ => WhyRule::Afresh,
            };
            return answer(WhyAnswer::Known { earlier: Box::new(self.why_run(earlier)?), rule });
        }
        let mut candidates = Vec::new();
        let mut seen = HashSet::new();
        for run in self.index.runs_of_command_before(&this.run.command, this.run.seq, MAX_COMPARED_RUNS)? {
            if run.succeeded() && seen.insert(run.key) {
                let other = self.keyed(run)?;
                if other.spec.program == this.spec.program {
                    candidates.push(other);
                }
            }
        }
        let compared = candidates.len();
        let Some(nearest) = self.nearest(&this, candidates)? else { return answer(WhyAnswer::First) };
        let parts = self.parts(&nearest, &this, max_paths)?;
        answer(WhyAnswer::Differs { nearest: Box::new(self.why_run(&nearest.run)?), compared, parts })
    }

    /// The run that made a state, by its commit where it has one.
    fn run_asked_about(&self, rev: &str, state: &State) -> Result<RunRecord> {
        let by_commit = match state.commit() {
            Some(commit) => self.index.commit_run(&commit)?,
            None => None,
        };
        if let Some(run) = by_commit.map(|seq| self.index.run(seq)).transpose()?.flatten() {
            return Ok(run);
        }
        let made = self.index.runs_with_result(&state.id)?.into_iter().rfind(|run| run.changed);
        made.ok_or_else(|| {
            Error::invalid(format!(
                "no run that is known here made `{rev}`: it was imported, copied or merged"
            ))
        })
    }

    fn why_run(&self, run: &RunRecord) -> Result<WhyRun> {
        let commits = if run.changed { self.index.commits_of(&run.result)? } else { Vec::new() };
        Ok(WhyRun {
            state: run.result,
            parent: run.parent,
            commit: commits.first().copied(),
            command: run.command.clone(),
            started_ms: run.started_ms,
            exit_code: run.exit_code,
            key: run.key,
        })
    }

    fn keyed(&self, run: RunRecord) -> Result<Keyed> {
        let spec = CommandSpec::decode(&run.spec)
            .map_err(|error| Error::invalid(format!("the record of run {} is damaged: {error}", run.key)))?;
        let parent = match self.store.state(&run.parent) {
            Ok(parent) => Some(parent),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Keyed { run, spec, parent })
    }

    /// Whether a state and its root are in the store.
    fn is_there(&self, state: &StateId) -> Result<bool> {
        match self.store.state(state) {
            Ok(state) => Ok(self.store.has_packed(state.root.as_bytes())?),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The nearest of some runs, which come newest first.
    fn nearest(&self, this: &Keyed, candidates: Vec<Keyed>) -> Result<Option<Keyed>> {
        let counted: Vec<usize> = candidates.iter().map(|other| values(other, this).len()).collect();
        let Some(fewest) = counted.iter().min() else { return Ok(None) };
        let closest = candidates
            .into_iter()
            .zip(&counted)
            .filter(|(_, count)| *count == fewest)
            .map(|(other, _)| other)
            .take(MAX_COMPARED_TREES);
        let mut best: Option<(u64, Keyed)> = None;
        for other in closest {
            let most = best.as_ref().map_or(MAX_COUNTED_PATHS, |(paths, _)| *paths);
            let mut paths = 0;
            if let (Some(old), Some(new)) = (&other.parent, &this.parent) {
                self.each_change(&old.root, &new.root, &mut |_| {
                    paths += 1;
                    paths < most
                })?;
            } else {
                paths = MAX_COUNTED_PATHS;
            }
            if best.as_ref().is_none_or(|(fewest, _)| paths < *fewest) {
                best = Some((paths, other));
            }
        }
        Ok(best.map(|(_, other)| other))
    }

    /// Everything that differs, with the paths of the parent trees.
    fn parts(&self, old: &Keyed, new: &Keyed, max_paths: usize) -> Result<Vec<KeyDifference>> {
        let mut parts = values(old, new);
        for part in parts.iter_mut().filter(|part| part.part == KeyPart::ParentTree) {
            let (Some(old), Some(new)) = (&old.parent, &new.parent) else { continue };
            self.each_change(&old.root, &new.root, &mut |change| {
                part.total += 1;
                if part.paths.len() < max_paths {
                    part.paths.push(change);
                }
                true
            })?;
        }
        Ok(parts)
    }
}

/// The parts that differ; of the parent trees only that they do.
fn values(old: &Keyed, new: &Keyed) -> Vec<KeyDifference> {
    let mut parts = Vec::new();
    let mut part = |part, values: Vec<ValueChange>| {
        if !values.is_empty() {
            parts.push(KeyDifference { part, total: values.len() as u64, values, paths: Vec::new() });
        }
    };
    if let (Some(left), Some(right)) = (&old.parent, &new.parent) {
        part(KeyPart::ParentConfig, config(&left.config, &right.config));
    }
    let (left, right) = (&old.spec, &new.spec);
    part(KeyPart::Env, named(&variables(&left.env), &variables(&right.env)));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    part(KeyPart::Workdir, single(text(&left.cwd), text(&right.cwd)));
    part(KeyPart::User, single(user(left), user(right)));
    part(KeyPart::Umask, single(format!("{:04o}", left.umask), format!("{:04o}", right.umask)));
    part(KeyPart::Hostname, single(left.hostname.clone(), right.hostname.clone()));
    let stdin = |spec: &CommandSpec| spec.stdin.map_or_else(|| "empty".to_owned(), |blob| blob.short());
    part(KeyPart::Stdin, single(stdin(left), stdin(right)));
    part(KeyPart::Copied, named(&copied(left), &copied(right)));
    part(KeyPart::Mounts, named(&mounts(left), &mounts(right)));
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    part(KeyPart::Network, single(word(&left.network), word(&right.network)));
    part(KeyPart::RootMode, single(word(&left.root_mode), word(&right.root_mode)));
    part(KeyPart::ReadOnly, single(left.read_only.to_string(), right.read_only.to_string()));
    let epoch = |spec: &CommandSpec| spec.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
    part(KeyPart::Epoch, single(epoch(left), epoch(right)));
    let keep = |spec: &CommandSpec| {
        [("env", spec.keep_env), ("workdir", spec.keep_workdir)]
            .into_iter()
            .map(|(name, kept)| (name.to_owned(), kept.to_string()))
            .collect()
    };
    part(KeyPart::Keep, named(&keep(left), &keep(right)));
    let allow = |spec: &CommandSpec| {
        spec.allow.iter().map(|feature| (word(feature), "allowed".to_owned())).collect::<BTreeMap<_, _>>()
    };
    part(KeyPart::Allow, named(&allow(left), &allow(right)));
    let same_tree = match (&old.parent, &new.parent) {
        (Some(left), Some(right)) => left.root == right.root,
        // All that is known is that the states differ.
        _ => old.run.parent == new.run.parent,
    };
    if !same_tree {
        let tree =
            KeyDifference { part: KeyPart::ParentTree, values: Vec::new(), paths: Vec::new(), total: 0 };
        parts.insert(0, tree);
    }
    parts
}

type Values = BTreeMap<String, String>;

fn single(old: String, new: String) -> Vec<ValueChange> {
    match old == new {
        true => Vec::new(),
        false => vec![ValueChange { name: String::new(), old: Some(old), new: Some(new) }],
    }
}

fn named(old: &Values, new: &Values) -> Vec<ValueChange> {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| ValueChange {
            name: name.clone(),
            old: old.get(name).cloned(),
            new: new.get(name).cloned(),
        })
        .collect()
}

fn variables(env: &[String]) -> Values {
    env.iter().filter_map(|entry| entry.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

fn config(old: &Config, new: &Config) -> Vec<ValueChange> {
    let fields = |config: &Config| {
        let mut fields = Values::new();
        fields.insert("platform".into(), config.platform.to_string());
        fields.insert("workdir".into(), config.workdir.clone());
        fields.insert("user".into(), config.user.clone());
        fields.insert("entrypoint".into(), config.entrypoint.join(" "));
        fields.insert("cmd".into(), config.cmd.join(" "));
        fields.insert("ports".into(), config.exposed_ports.join(" "));
        fields.insert("volumes".into(), config.volumes.join(" "));
        fields.insert("stop signal".into(), config.stop_signal.clone());
        fields.extend(variables(&config.env).into_iter().map(|(name, value)| (format!("env {name}"), value)));
        let labels = config.labels.iter();
        fields.extend(labels.map(|(name, value)| (format!("label {name}"), value.clone())));
        fields
    };
    let mut changed = named(&fields(old), &fields(new));
    if changed.is_empty() && old != new {
        // The order of variables, or words that look alike when they are joined.
        changed.push(ValueChange { name: "order".into(), old: None, new: None });
    }
    changed
}

fn user(spec: &CommandSpec) -> String {
    let groups: Vec<String> = spec.groups.iter().map(u32::to_string).collect();
    let more = if groups.is_empty() { String::new() } else { format!(" groups {}", groups.join(",")) };
    format!("{}:{}{more}", spec.uid, spec.gid)
}

fn copied(spec: &CommandSpec) -> Values {
    let shown = |file: &object::Injected| {
        let what = match &file.node {
            InjectedNode::File(blob) => format!("file {}", blob.short()),
            InjectedNode::Symlink(target) => format!("symlink to {}", String::from_utf8_lossy(target)),
            InjectedNode::Directory => "directory".to_owned(),
        };
        (String::from_utf8_lossy(&file.path).into_owned(), format!("{what} {:04o}", file.mode))
    };
    spec.injected.iter().map(shown).collect()
}

fn mounts(spec: &CommandSpec) -> Values {
    let shown = |mount: &object::MountSpec| {
        let more = match &mount.content {
            MountContent::Directory(tree) => format!(" directory {}", tree.short()),
            MountContent::File { mode, blob } => format!(" file {} {mode:04o}", blob.short()),
            MountContent::Special => " socket or fifo".to_owned(),
            MountContent::Host => " writable".to_owned(),
            MountContent::Tmpfs { mode } => format!(" {mode:04o}"),
            MountContent::Secret { version: Some(version) } => format!(" version {version}"),
            MountContent::Cache | MountContent::Secret { version: None } => String::new(),
        };
        (String::from_utf8_lossy(&mount.path).into_owned(), format!("{}{more}", mount.content.kind()))
    };
    spec.mounts.iter().map(shown).collect()
}

impl super::blocking::Engine {
    /// Why the run that made a revision ran instead of being remembered. Of paths that differ at most `max_paths` are listed.
    pub fn why(&self, rev: &str, max_paths: usize) -> Result<Why> {
        self.core.why(rev, max_paths)
    }
}
