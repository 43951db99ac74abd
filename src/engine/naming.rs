//! Giving states commits: the missing ancestors of what a ref is about to name are written into history.

use std::sync::{Arc, PoisonError};

use serde_json::{Map, Value, json};

use super::core::Core;
use super::error::Result;
use super::image_record;
use super::outcome::ChangeCounts;
use super::state::{Origin, State};
use crate::history::{CommitRecord, NewCommit};
use crate::index::{CommitFact, RunRecord};
use crate::object::{CommandSpec, CommitId, Program, StateId};
use crate::oci::ImageFacts;

/// The version of `state.json`.
pub(super) const RECORD_VERSION: u64 = 1;
/// Changed paths that `state.json` lists; the trees tell the rest.
const MAX_LISTED_CHANGES: usize = 1000;

/// What a commit that no run made says about itself.
#[derive(Debug, Clone)]
pub(super) struct Made<'m> {
    /// `import`, `cp`.
    pub(super) kind: &'m str,
    /// The message: the command that a person typed, as far as it does not depend on this machine.
    pub(super) message: String,
    /// Its date when it has no parent, in seconds since 1970.
    pub(super) root_time_seconds: i64,
    /// What it was as an image.
    pub(super) image: Option<&'m ImageFacts>,
}

impl Core {
    /// The commit of a state, made with its missing ancestors when there is none.
    pub(super) fn name(self: &Arc<Self>, state: &State) -> Result<CommitId> {
        // From the state back to the first ancestor that has a commit: what is on the way has none.
        let mut chain: Vec<(State, RunRecord)> = Vec::new();
        let mut here = state.clone();
        let start = loop {
            if let Some(commit) = self.known_commit(&here)? {
                break commit;
            }
            match self.made_by(&here)? {
                Some((run, parent)) => {
                    let next = parent.clone();
                    chain.push((here, run));
                    here = next;
                }
                None => {
                    let made = Made {
                        kind: "state",
                        message: format!("state {}", here.id().short()),
                        root_time_seconds: 0,
                        image: None,
                    };
                    break self.commit_made(&here, &[], &made)?;
                }
            }
        };
        let mut parent = start;
        for (state, run) in chain.into_iter().rev() {
            parent = self.commit_run(&state, &run, parent)?;
            remember(&state, parent);
        }
        remember(state, parent);
        Ok(parent)
    }

    /// Writes the commit of a run's result on a given parent commit.
    pub(super) fn commit_run(&self, state: &State, run: &RunRecord, parent: CommitId) -> Result<CommitId> {
        let spec = CommandSpec::decode(&run.spec).ok();
        let parent_state = self.store.state(&run.parent)?;
        let changes = self.change_list(&parent_state.root, &state.value.root)?;
        let mut record = base_record(state, Some(&run.parent), "run", &changes);
        record.insert("run_key".into(), json!(run.key.to_string()));
        record.insert("exit_code".into(), json!(run.exit_code));
        record.insert("signal".into(), json!(run.signal));
        if let Some(spec) = &spec {
            record.insert("command".into(), command_record(spec));
        }
        let mut message =
            if run.command.trim().is_empty() { "(empty command)".to_owned() } else { run.command.clone() };
        message.push_str(&format!("\n\nTreebox-State: {}\nTreebox-Run-Key: {}\n", state.id, run.key));
        message.push_str(&match (run.exit_code, run.signal) {
            (Some(code), _) => format!("Treebox-Exit: {code}\n"),
            (None, Some(signal)) => format!("Treebox-Signal: {signal}\n"),
            (None, None) => String::new(),
        });
        self.write_commit(state, vec![parent], message, record, 0, Some(run.seq))
    }

    /// Writes a commit that no run made.
    pub(super) fn commit_made(
        &self,
        state: &State,
        parents: &[CommitId],
        made: &Made<'_>,
    ) -> Result<CommitId> {
        let parent_state = match parents.first() {
            Some(parent) => Some(self.state_of_commit(parent)?),
            None => None,
        };
        let changes = match &parent_state {
            Some(parent) => self.change_list(&self.store.state(parent)?.root, &state.value.root)?,
            None => ChangeList::default(),
        };
        let mut record = base_record(state, parent_state.as_ref(), made.kind, &changes);
        if let Some(image) = made.image {
            record.insert("image".into(), image_record::write(image));
        }
        let message = format!("{}\n\nTreebox-State: {}\n", made.message, state.id);
        let commit =
            self.write_commit(state, parents.to_vec(), message, record, made.root_time_seconds, None)?;
        remember(state, commit);
        Ok(commit)
    }

    fn write_commit(
        &self,
        state: &State,
        parents: Vec<CommitId>,
        message: String,
        record: Map<String, Value>,
        root_time_seconds: i64,
        run_seq: Option<i64>,
    ) -> Result<CommitId> {
        let history = self.history()?;
        // The state is held, and with it every commit that the index knows of it: this one from the end of this on.
        let _undeleted = self.store.undeleted()?;
        // Dates follow from the parents, so the same build gives the same commit ids anywhere.
        let mut time_seconds = root_time_seconds;
        for parent in &parents {
            time_seconds = time_seconds.max(history.read_commit(parent)?.time_seconds + 1);
        }
        // A map of serde_json is sorted by key, so equal records have equal bytes.
        let mut bytes = serde_json::to_vec_pretty(&Value::Object(record)).unwrap_or_default();
        bytes.push(b'\n');
        let id = history.write_commit(&NewCommit {
            parents: parents.clone(),
            message,
            record: bytes,
            time_seconds,
        })?;
        self.spent(super::room::COMMIT_BYTES);
        self.index.record_commits(&[CommitFact { id, state: state.id, parents, run_seq }])?;
        Ok(id)
    }

    /// A commit that holds this state: the handle's own, else the first that was made.
    fn known_commit(&self, state: &State) -> Result<Option<CommitId>> {
        // A handle may be older than the last time that history was thinned out.
        if let Some(commit) = state.commit()
            && self.history()?.has_commit(&commit)
        {
            return Ok(Some(commit));
        }
        if state.origin.run.is_some() {
            // It was reached by a run on a known parent, and its commit has to have that parent's as its own.
            return Ok(None);
        }
        let history = self.history()?;
        Ok(self.index.commits_of(&state.id)?.into_iter().find(|commit| history.has_commit(commit)))
    }

    /// The run that made a state and the state that it ran on.
    fn made_by(self: &Arc<Self>, state: &State) -> Result<Option<(RunRecord, State)>> {
        if let Some((seq, parent)) = &state.origin.run
            && let Some(run) = self.index.run(*seq)?
        {
            return Ok(Some((run, parent.clone())));
        }
        for run in self.index.runs_with_result(&state.id)? {
            if run.changed && run.parent != state.id && self.store.has_packed(run.parent.as_bytes())? {
                let parent = self.state(run.parent)?;
                return Ok(Some((run, parent)));
            }
        }
        Ok(None)
    }

    /// The state that a commit holds, from the index or else from the commit itself.
    pub(super) fn state_of_commit(&self, commit: &CommitId) -> Result<StateId> {
        if let Some(state) = self.index.commit_state(commit)? {
            return Ok(state);
        }
        let record = self.history()?.read_commit(commit)?;
        let value = said_in(&record);
        let state = value.get("state").and_then(Value::as_str).and_then(|text| text.parse::<StateId>().ok());
        let state = state.ok_or_else(|| {
            super::error::Error::invalid(format!(
                "commit {commit} was not made by treebox: its state.json names no state"
            ))
        })?;
        if self.layout().read_only().is_none() {
            self.index.record_commit(commit, &state, &record.parents, None)?;
        }
        Ok(state)
    }

    /// A handle to the state of a commit.
    pub(super) fn state_at(self: &Arc<Self>, commit: CommitId) -> Result<State> {
        let id = self.state_of_commit(&commit)?;
        let origin =
            Origin { commit: std::sync::Mutex::new(Some(commit)), run: None, said: Default::default() };
        self.handle(id, Arc::new(origin))
    }

    fn change_list(&self, old: &crate::object::TreeId, new: &crate::object::TreeId) -> Result<ChangeList> {
        let mut list = ChangeList::default();
        self.each_change(old, new, &mut |change| {
            let kind = change.kind();
            list.count(kind);
            if list.paths.len() < MAX_LISTED_CHANGES {
                let path = String::from_utf8_lossy(&change.path.to_bytes()).into_owned();
                list.paths.push(json!([kind.letter().to_string(), path]));
            }
            true
        })?;
        Ok(list)
    }
}

#[derive(Default)]
struct ChangeList {
    counts: ChangeCounts,
    paths: Vec<Value>,
}

impl ChangeList {
    fn count(&mut self, kind: crate::object::ChangeKind) {
        self.counts.add(kind);
    }
}

/// What a commit says of itself. One that was not made by treebox says nothing.
pub(super) fn said_in(record: &CommitRecord) -> Value {
    serde_json::from_slice(&record.record).unwrap_or(Value::Null)
}

/// A commit's message without the trailers that treebox adds.
pub(super) fn without_trailers(message: &str) -> &str {
    message.split("\n\nTreebox-").next().unwrap_or(message).trim_end()
}

fn remember(state: &State, commit: CommitId) {
    *state.origin.commit.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit);
}

fn base_record(
    state: &State,
    parent: Option<&StateId>,
    kind: &str,
    changes: &ChangeList,
) -> Map<String, Value> {
    let counts = changes.counts;
    let total = counts.added + counts.modified + counts.deleted;
    let mut record = Map::new();
    record.insert("version".into(), json!(RECORD_VERSION));
    record.insert("kind".into(), json!(kind));
    record.insert("state".into(), json!(state.id.to_string()));
    record.insert("tree".into(), json!(state.value.root.to_string()));
    record.insert("parent_state".into(), json!(parent.map(ToString::to_string)));
    record.insert(
        "changes".into(),
        json!({
            "added": counts.added,
            "modified": counts.modified,
            "deleted": counts.deleted,
            "paths": changes.paths,
            "complete": changes.paths.len() as u64 == total,
        }),
    );
    record
}

fn command_record(spec: &CommandSpec) -> Value {
    let program = match &spec.program {
        Program::Shell(text) => json!({ "shell": text }),
        Program::Argv(argv) => {
            json!({ "argv": argv.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>() })
        }
    };
    let mut record = json!({
        "program": program,
        "env": spec.env,
        "cwd": String::from_utf8_lossy(&spec.cwd),
        "uid": spec.uid,
        "gid": spec.gid,
        "groups": spec.groups,
        "umask": format!("{:04o}", spec.umask),
        "hostname": spec.hostname,
        "stdin": spec.stdin.map(|blob| blob.to_string()),
        "copied": spec.injected.iter().map(|file| String::from_utf8_lossy(&file.path)).collect::<Vec<_>>(),
        "epoch": spec.epoch,
    });
    if !spec.mounts.is_empty() {
        let mounts = spec.mounts.iter().map(
            |mount| json!({ "path": String::from_utf8_lossy(&mount.path), "type": mount.content.kind() }),
        );
        record["mounts"] = mounts.collect();
    }
    record
}
