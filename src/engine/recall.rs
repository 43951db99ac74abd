//! What a commit's run was: from the index, or when that is lost from the commit itself.

use std::collections::BTreeSet;

use serde_json::Value;

use super::again::Recorded;
use super::core::Core;
use super::error::{Error, Result};
use super::naming::said_in;
use crate::index::RunRecord;
use crate::object::{
    BlobId, CommandSpec, CommitId, Entry, Feature, Injected, InjectedNode, MountContent, MountSpec, Network,
    Node, Program, RootMode, RunKey, StateId, TreePath, TreeSource, entry_at,
};
#[cfg(any(test, fuzzing))]
use crate::object::{Meta, SourceError, Summary, Timestamp, Tree, TreeId};

const FEATURES: [Feature; 4] = [Feature::Userns, Feature::IoUring, Feature::Keyring, Feature::Socketcall];

impl Core {
    /// The run that a commit records; `None` when no run made it.
    pub(super) fn recorded(&self, commit: &CommitId) -> Result<Option<Recorded>> {
        if let Some(seq) = self.index.commit_run(commit)?
            && let Some(run) = self.index.run(seq)?
        {
            return recorded_run(&run).map(Some);
        }
        let record = self.history()?.read_commit(commit)?;
        let value = said_in(&record);
        if value.get("kind").and_then(Value::as_str) != Some("run") {
            return Ok(None);
        }
        let lost = || {
            Error::Unsupported(format!(
                "cannot run the command of commit {} again: what the index knew of it is lost, and its state.json does not say all: \
                 files that were copied in and changed, mounts, or an unusual option",
                commit.short()
            ))
        };
        let id = |key: &str| value.get(key).and_then(Value::as_str);
        let key: RunKey = id("run_key").and_then(|text| text.parse().ok()).ok_or_else(lost)?;
        // Another run of the same key was the same command on the same state.
        if let Some(run) = self.index.newest_run(&key)? {
            return recorded_run(&run).map(Some);
        }
        let parent: StateId = id("parent_state").and_then(|text| text.parse().ok()).ok_or_else(lost)?;
        let result: StateId = id("state").and_then(|text| text.parse().ok()).ok_or_else(lost)?;
        let root = self.store.root(&self.store.state(&result)?.root)?;
        let said = value.get("command").and_then(|command| said(&self.store, command, &root).transpose());
        let said = said.transpose()?.ok_or_else(lost)?;
        let spec = matching(said, &parent, &key).ok_or_else(lost)?;
        let exit_code =
            value.get("exit_code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
        Ok(Some(Recorded { spec, parent, result, exit_code, complete: true }))
    }
}

/// What `state.json` says of a command; what it leaves out is as usual.
fn said(trees: &impl TreeSource, command: &Value, result: &Entry) -> Result<Option<CommandSpec>> {
    let text = |key: &str| command.get(key).and_then(Value::as_str);
    let number =
        |key: &str| command.get(key).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
    let list = |key: &str| command.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let texts = |key: &str| list(key).iter().filter_map(Value::as_str).map(str::to_owned);
    let program = match command.get("program") {
        Some(program) => match (program.get("shell"), program.get("argv")) {
            (Some(Value::String(text)), _) => Program::Shell(text.clone()),
            (_, Some(Value::Array(argv))) => Program::Argv(
                argv.iter().filter_map(Value::as_str).map(|arg| arg.as_bytes().to_vec()).collect(),
            ),
            _ => return Ok(None),
        },
        None => return Ok(None),
    };
    let mut injected = Vec::new();
    for path in texts("copied") {
        let Ok(parsed) = TreePath::parse(path.as_bytes()) else { return Ok(None) };
        // What a command got and left alone is still in its result.
        let Some(entry) = entry_at(trees, result, &parsed)? else { return Ok(None) };
        let node = match entry.node {
            Node::File { blob, .. } => InjectedNode::File(blob),
            Node::Directory { .. } => InjectedNode::Directory,
            Node::Symlink { target } => InjectedNode::Symlink(target),
            _ => return Ok(None),
        };
        injected.push(Injected { path: path.into_bytes(), mode: entry.meta.mode, node });
    }
    let mounts = list("mounts").iter().filter_map(|mount| {
        let path = mount.get("path")?.as_str()?.as_bytes().to_vec();
        let content = match mount.get("type")?.as_str()? {
            "tmpfs" => MountContent::Tmpfs { mode: 0o1777 },
            "cache" => MountContent::Cache,
            "secret" => MountContent::Secret { version: None },
            _ => MountContent::Host,
        };
        Some(MountSpec { path, content })
    });
    let groups = list("groups").iter().filter_map(Value::as_u64);
    Ok(Some(CommandSpec {
        program,
        env: texts("env").collect(),
        cwd: text("cwd").unwrap_or("/").as_bytes().to_vec(),
        uid: number("uid").unwrap_or(0),
        gid: number("gid").unwrap_or(0),
        groups: groups.filter_map(|group| u32::try_from(group).ok()).collect(),
        umask: text("umask").and_then(|text| u16::from_str_radix(text, 8).ok()).unwrap_or(0o022),
        hostname: text("hostname").unwrap_or_default().to_owned(),
        stdin: text("stdin").and_then(|text| text.parse::<BlobId>().ok()),
        injected,
        mounts: mounts.collect(),
        network: Network::None,
        root_mode: RootMode::Mapped,
        read_only: false,
        epoch: command.get("epoch").and_then(Value::as_i64),
        keep_env: false,
        keep_workdir: false,
        allow: BTreeSet::new(),
    }))
}

/// What a fuzz target does with the value of the key `command`.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz_said(command: &Value) {
    struct Empty;
    impl TreeSource for Empty {
        fn tree(&self, _: &TreeId) -> Result<Tree, SourceError> {
            Ok(Tree::from_sorted(Vec::new()))
        }
    }
    let tree = TreeId::from_bytes([0; 32]);
    let node = Node::Directory { tree, below: Summary::default() };
    let root = Entry { meta: Meta::root_owned(0o755, Timestamp::default()), node };
    if let Ok(Some(spec)) = said(&Empty, command, &root) {
        let (bytes, parent) = (spec.encode(), StateId::from_bytes([1; 32]));
        let again = CommandSpec::decode(&bytes).map(|again| again.run_key(&parent));
        // Text may say what no command can be: then the key that it was found by does not fit.
        assert!(again.is_err() || again.is_ok_and(|key| key == spec.run_key(&parent)));
    }
}

fn recorded_run(run: &RunRecord) -> Result<Recorded> {
    let spec = CommandSpec::decode(&run.spec).map_err(|error| {
        Error::Unsupported(format!("cannot run `{}` again: its record cannot be read: {error}", run.command))
    })?;
    // A run whose input was not known beforehand has a key that its spec does not lead to.
    let complete = spec.run_key(&run.parent) == run.key;
    Ok(Recorded { complete, parent: run.parent, result: run.result, exit_code: run.exit_code, spec })
}

/// The spec that has this key. `state.json` says nothing of what is rarely other than usual, and the key tells which of the few it was.
fn matching(said: CommandSpec, parent: &StateId, key: &RunKey) -> Option<CommandSpec> {
    for allow in 0..1u8 << FEATURES.len() {
        let allow = FEATURES.into_iter().enumerate().filter(|(at, _)| allow & (1 << at) != 0);
        let allow: BTreeSet<Feature> = allow.map(|(_, feature)| feature).collect();
        for root_mode in [RootMode::Mapped, RootMode::Recorded, RootMode::Plain] {
            for network in [Network::None, Network::Host, Network::Private] {
                for flags in 0..8u8 {
                    let spec = CommandSpec {
                        root_mode,
                        network,
                        read_only: flags & 1 != 0,
                        keep_env: flags & 2 != 0,
                        keep_workdir: flags & 4 != 0,
                        allow: allow.clone(),
                        ..said.clone()
                    };
                    if spec.run_key(parent) == *key {
                        return Some(spec);
                    }
                }
            }
        }
    }
    None
}
