//! Running again what was run before, on the same state or on another.
//!
//! What a record says is the whole environment, user and directory of a command. On another state what came from the old one comes from
//! the new one: only what the command itself was given stays as it was.

use std::sync::Arc;
use std::time::Instant;

use super::command::{Command, Reuse, Stdin};
use super::core::Core;
use super::error::{Error, Result};
use super::flight::Flown;
use super::mounts::ResolvedMount;
use super::outcome::Outcome;
use super::spec::{Resolved, place};
use super::state::State;
use super::types::Sink;
use crate::object::{
    CommandSpec, Config, Draft, InjectedNode, Meta, NewNode, Node, Program, StateId, Timestamp, TreePath,
    entry_at,
};

/// A run that was recorded.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) spec: CommandSpec,
    /// The state that it ran on.
    pub(super) parent: StateId,
    /// The state that it left.
    pub(super) result: StateId,
    /// How it ended then, when it exited.
    pub(super) exit_code: Option<i32>,
    /// Whether the spec is all that the result depended on: no pipe, no terminal, no host directory that it could write to.
    pub(super) complete: bool,
}

/// A recorded run made ready for a state.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) command: Command,
    pub(super) resolved: Resolved,
}

/// What the command itself was given, apart from what it had from the state it ran on.
struct Given {
    env: Vec<(String, String)>,
    workdir: Option<String>,
    user: Option<String>,
}

impl Recorded {
    /// The same run with another command, as shell text. What the old one read is not expected to be read again.
    pub(super) fn with_text(&self, text: &str) -> Self {
        let spec = CommandSpec { program: Program::Shell(text.to_owned()), ..self.spec.clone() };
        Self { spec, complete: true, exit_code: Some(0), ..self.clone() }
    }
}

impl super::blocking::Engine {
    /// Runs on a state the command that a commit records, or uses what is remembered of that. No ref moves.
    ///
    /// What the command had from the state it ran on then (environment, user, directory) it has from this one now.
    ///
    /// # Errors
    /// [`super::ErrorKind::Unsupported`] when no run made the commit, or when the command would have to run and something that it needs was
    /// not kept: what came through a pipe, a secret, a host directory.
    pub fn run_again(&self, rev: &str, on: &State, reuse: Reuse) -> Result<Outcome> {
        let commit = self.core.resolve_commit(rev)?;
        let recorded = self.core.recorded(&commit)?.ok_or_else(|| {
            Error::Unsupported(format!(
                "no command made commit {}: there is nothing to run again",
                commit.short()
            ))
        })?;
        self.core.run_again(&recorded, on, reuse, None)
    }
}

impl Core {
    /// Runs on a state what was run before, or uses what is remembered of that.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when nothing is remembered and something that the command needs was not kept, with its name.
    pub(super) fn run_again(
        self: &Arc<Self>,
        recorded: &Recorded,
        on: &State,
        reuse: Reuse,
        sink: Option<Sink>,
    ) -> Result<Outcome> {
        let asked = Instant::now();
        let mut ready = self.make_ready(recorded, on, reuse)?;
        let mut flown = self.board(on, &ready.command, &ready.resolved, &[])?;
        if !matches!(flown, Flown::Found(_)) && ready.resolved.spec.root_mode != self.learn_root_mode()? {
            // As in a first run: the key is another one than was thought.
            drop(flown);
            ready = self.make_ready(recorded, on, reuse)?;
            flown = self.board(on, &ready.command, &ready.resolved, &[])?;
        }
        let flight = match flown {
            Flown::Found(outcome) => return Ok(*outcome),
            Flown::Mine(flight) => Some(flight),
            Flown::Alone => None,
        };
        self.equip(&mut ready, recorded, on)?;
        let (execution, _) = self.begin_after(on, &ready.command, ready.resolved, sink, flight, asked)?;
        execution.finish()
    }

    /// What is remembered of a recorded run on a state, as far as a build step may use it.
    pub(super) fn remembered_again(
        self: &Arc<Self>,
        recorded: &Recorded,
        on: &State,
    ) -> Result<Option<Outcome>> {
        let ready = self.make_ready(recorded, on, Reuse::Auto)?;
        self.remembered(on, &ready.command, &ready.resolved)
    }

    /// The command of a record and its key on a state. What it needs besides is not looked at: see [`equip`](Self::equip).
    pub(super) fn make_ready(
        self: &Arc<Self>,
        recorded: &Recorded,
        on: &State,
        reuse: Reuse,
    ) -> Result<Ready> {
        let given = self.given(recorded)?;
        let spec = &recorded.spec;
        let command = Command {
            env: given.env,
            workdir: given.workdir,
            user: given.user.clone(),
            hostname: spec.hostname.clone(),
            umask: spec.umask,
            network: spec.network,
            read_only: spec.read_only,
            epoch: spec.epoch,
            keep_env: spec.keep_env,
            keep_workdir: spec.keep_workdir,
            allow: spec.allow.clone(),
            program: spec.program.clone(),
            reuse,
            ..Command::shell("")
        };
        let mut resolved = self.resolve_command(on, &command)?;
        let made = &mut resolved.spec;
        made.stdin = spec.stdin;
        made.injected.clone_from(&spec.injected);
        made.mounts.clone_from(&spec.mounts);
        if given.user.is_some() {
            (made.uid, made.gid) = (spec.uid, spec.gid);
            made.groups.clone_from(&spec.groups);
        }
        if on.id == recorded.parent {
            // On its own state nothing is inherited anew: the record stands to the letter.
            *made = CommandSpec { root_mode: made.root_mode, ..spec.clone() };
        }
        resolved.key = recorded.complete.then(|| resolved.spec.run_key(&on.id));
        Ok(Ready { command, resolved })
    }

    /// Brings what a recorded run needs besides its state: its input, the files placed before it, its mounts.
    pub(super) fn equip(&self, ready: &mut Ready, recorded: &Recorded, on: &State) -> Result<()> {
        let spec = &recorded.spec;
        let mut lacks = Vec::new();
        if !recorded.complete {
            lacks.push(
                "what it read from a pipe or terminal, or from a writable mount, is not kept".to_owned(),
            );
        }
        if let Some(blob) = &spec.stdin {
            match self.store.read_blob(blob) {
                Ok(bytes) => ready.command.stdin = Stdin::Bytes(bytes),
                Err(error) if error.is_missing() => {
                    lacks.push("its standard input is not in the store".to_owned());
                }
                Err(error) => return Err(error.into()),
            }
        }
        for mount in &spec.mounts {
            match ResolvedMount::again(mount) {
                Ok(mount) => ready.resolved.mounts.push(mount),
                Err(lack) => lacks.push(lack),
            }
        }
        if lacks.is_empty() && !spec.injected.is_empty() {
            self.inject_again(ready, recorded, on, &mut lacks)?;
        }
        if lacks.is_empty() {
            return Ok(());
        }
        let text = spec.program.text();
        let text = text.lines().next().unwrap_or_default();
        Err(Error::Unsupported(format!("cannot run `{text}` again: {}", lacks.join("; "))))
    }

    /// Makes the tree with the files in it that the command brought along. Times do not count in a key; where the old result still
    /// has such a file its time is taken from there.
    fn inject_again(
        &self,
        ready: &mut Ready,
        recorded: &Recorded,
        on: &State,
        lacks: &mut Vec<String>,
    ) -> Result<()> {
        // What is found to be there now has to be there until the tree is made.
        let _undeleted = self.store.undeleted()?;
        let result = match self.store.state(&recorded.result) {
            Ok(state) => Some(self.store.root(&state.root)?),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        let mut draft = Draft::from_root(&self.store, on.tree(), self.store.root(&on.tree())?);
        for injected in &recorded.spec.injected {
            let path = TreePath::parse(&injected.path).map_err(|error| Error::invalid(error.to_string()))?;
            let mut meta = Meta::root_owned(injected.mode, Timestamp::default());
            let left = match &result {
                Some(root) => entry_at(&self.store, root, &path)?,
                None => None,
            };
            let node = match &injected.node {
                InjectedNode::Directory => None,
                InjectedNode::Symlink(target) => Some(NewNode::Symlink { target: target.clone() }),
                InjectedNode::File(blob) => {
                    let Some(size) = self.store.blob_len(blob)? else {
                        lacks.push(format!("the file that was copied to {path} is not in the store"));
                        continue;
                    };
                    Some(NewNode::File { blob: *blob, size, link: None })
                }
            };
            if let Some(left) = left {
                let same = match (&left.node, &injected.node) {
                    (Node::File { blob, .. }, InjectedNode::File(injected)) => blob == injected,
                    (Node::Symlink { target }, InjectedNode::Symlink(injected)) => target == injected,
                    (Node::Directory { .. }, InjectedNode::Directory) => true,
                    _ => false,
                };
                if same {
                    (meta.mtime, meta.xattrs) = (left.meta.mtime, left.meta.xattrs);
                }
            }
            place(&mut draft, &path, &meta, &node)?;
        }
        if lacks.is_empty() {
            let mut batch = self.store.batch()?;
            (ready.resolved.base, _) = draft.finish(&mut batch)?;
            let undeleted = batch.commit()?;
            ready.resolved.held = self.hold_tree(ready.resolved.base)?;
            drop(undeleted);
        }
        Ok(())
    }

    /// Tells apart what a command was given and what it had from the state it ran on.
    fn given(self: &Arc<Self>, recorded: &Recorded) -> Result<Given> {
        let spec = &recorded.spec;
        let by_number = format!("{}:{}", spec.uid, spec.gid);
        let parent = match self.state(recorded.parent) {
            Ok(parent) => parent,
            Err(Error::Store(error)) if error.is_missing() => {
                // Nothing tells what was the state's: all of it counts as given.
                let env = spec.env.iter().filter_map(|entry| pair(entry)).collect();
                return Ok(Given { env, workdir: Some(text(&spec.cwd)), user: Some(by_number) });
            }
            Err(error) => return Err(error),
        };
        let result = self.store.state(&recorded.result).ok().map(|state| state.config);
        let mut plain = None;
        for user in [None, Some(spec.uid.to_string()), Some(by_number.clone())] {
            let bare = Command { user: user.clone(), ..Command::shell("") };
            // A user that the state does not know is not the one.
            let Ok(found) = self.resolve_command(&parent, &bare) else { continue };
            let found = found.spec;
            let same = found.uid == spec.uid && found.gid == spec.gid && found.groups == spec.groups;
            plain = Some((user, found));
            if same {
                break;
            }
        }
        let (user, plain) = plain.ok_or_else(|| {
            Error::Unsupported(format!(
                "cannot run `{}` again: the state it ran on cannot be run on any more",
                spec.program.text()
            ))
        })?;
        let mut env = match (&result, spec.keep_env) {
            (Some(result), true) => kept_env(parent.config(), result),
            _ => Vec::new(),
        };
        for entry in spec.env.iter().filter(|entry| !plain.env.contains(entry)) {
            match pair(entry) {
                Some((key, _)) if env.iter().any(|(known, _)| *known == key) => {}
                Some(pair) => env.push(pair),
                None => {}
            }
        }
        let kept = spec.keep_workdir
            && result.is_some_and(|result| result.workdir.as_bytes() == spec.cwd.as_slice());
        let workdir = (kept || plain.cwd != spec.cwd).then(|| text(&spec.cwd));
        Ok(Given { env, workdir, user })
    }
}

/// The variables that a run kept in its result, in the order in which they were given: they stand at the end there.
fn kept_env(before: &Config, after: &Config) -> Vec<(String, String)> {
    for count in 0..=after.env.len() {
        let (rest, kept) = after.env.split_at(after.env.len() - count);
        let kept: Vec<_> = kept.iter().filter_map(|entry| pair(entry)).collect();
        let is_kept = |entry: &str| kept.iter().any(|(key, _)| entry.split('=').next() == Some(key));
        if before.env.iter().filter(|entry| !is_kept(entry)).eq(rest) {
            return kept;
        }
    }
    Vec::new()
}

fn pair(entry: &str) -> Option<(String, String)> {
    let (key, value) = entry.split_once('=')?;
    Some((key.to_owned(), value.to_owned()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
