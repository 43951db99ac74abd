//! Running commands on states, and using again what is remembered.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cancel::Cancel;
use super::command::{Command, Reuse, Stdin};
use super::core::Core;
use super::error::{Error, Result};
use super::execute::Execution;
use super::flight::{Flight, Flown};
use super::live::Running;
use super::open::{Live, SandboxOptions};
use super::outcome::{ChangeCounts, Outcome, Resources};
use super::prepared::Prepared;
use super::spec::Resolved;
use super::state::{Origin, State};
use super::types::{LiveInput, Sink};
use crate::index::{OutputRecord, RunRecord};
use crate::object::TreeId;

/// A command that was asked for.
pub(super) enum Begun {
    /// It is not run: this is what is remembered of it.
    Remembered(Box<Outcome>),
    /// It runs; with the writing end of its input when that is piped.
    Running(Box<Execution>, Option<File>),
}

impl State {
    /// Runs a command on this state, or uses what is remembered of that.
    ///
    /// When the same runs already, in this process or another, and its result can be used, that is waited for. No ref moves. The command's own failure is an outcome, not an error.
    pub fn run(&self, command: &Command) -> Result<Outcome> {
        self.core.run(self, command, None, None)
    }

    /// Runs a command and passes its output on while it comes.
    pub fn run_with(&self, command: &Command, sink: Sink) -> Result<Outcome> {
        self.core.run(self, command, Some(sink), None)
    }

    /// Starts a command and gives a live handle. What is remembered is not used.
    pub fn spawn(&self, command: &Command) -> Result<Running> {
        Running::start(self, command)
    }

    /// Starts a sandbox in which several commands run, one after the other or at once; its result is kept as one state, or dropped.
    pub fn open(&self, options: &SandboxOptions) -> Result<Live> {
        Live::open(self, options)
    }

    /// Resolves a command against this state once, to run it many times, also at once.
    pub fn prepare(&self, command: &Command) -> Result<Prepared> {
        Prepared::new(self, command)
    }
}

impl Core {
    pub(super) fn run(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        sink: Option<Sink>,
        live: Option<&mut dyn FnMut(LiveInput)>,
    ) -> Result<Outcome> {
        if command.stdin == Stdin::Piped && live.is_none() {
            return Err(Error::invalid("a command with piped input needs a live handle: use State::spawn"));
        }
        self.prestart_if_certain(command);
        let resolved = self.resolve_command(parent, command)?;
        self.run_resolved(parent, command, resolved, sink, live)
    }

    pub(super) fn run_resolved(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: Resolved,
        sink: Option<Sink>,
        live: Option<&mut dyn FnMut(LiveInput)>,
    ) -> Result<Outcome> {
        let (execution, stdin) = match self.begin_unless_remembered(parent, command, resolved, sink, &[])? {
            Begun::Remembered(outcome) => return Ok(*outcome),
            Begun::Running(execution, stdin) => (execution, stdin),
        };
        if let Some(live) = live {
            let killer = super::live::Killer::new(execution.child().killer());
            live(LiveInput { stdin, terminal: execution.child().terminal().cloned(), killer });
        }
        execution.finish()
    }

    /// Starts a command, unless what is remembered of it is used or others are making it just now.
    ///
    /// Waiting for them ends when one of `cancels` is cancelled, and is part of the time that a command has.
    pub(super) fn begin_unless_remembered(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        mut resolved: Resolved,
        sink: Option<Sink>,
        cancels: &[&Cancel],
    ) -> Result<Begun> {
        let asked = Instant::now();
        let mut flown = self.board(parent, command, &resolved, cancels)?;
        if !matches!(flown, Flown::Found(_)) && resolved.spec.root_mode != self.learn_root_mode()? {
            // Subordinate ids came or went since a worker last ran: the key is another one.
            drop(flown);
            resolved = self.resolve_command(parent, command)?;
            flown = self.board(parent, command, &resolved, cancels)?;
        }
        let flight = match flown {
            Flown::Found(outcome) => return Ok(Begun::Remembered(outcome)),
            Flown::Mine(flight) => Some(flight),
            Flown::Alone => None,
        };
        let (execution, stdin) = self.begin_after(parent, command, resolved, sink, flight, asked)?;
        Ok(Begun::Running(Box::new(execution), stdin))
    }

    /// Starts a command for which there was perhaps something to wait, and for whose result others may wait.
    pub(super) fn begin_after(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: Resolved,
        sink: Option<Sink>,
        flight: Option<Flight>,
        asked: Instant,
    ) -> Result<(Execution, Option<File>)> {
        let left = command.timeout.map(|limit| limit.saturating_sub(asked.elapsed()));
        let shortened = left.map(|left| Command { timeout: Some(left), ..command.clone() });
        match self.begin(parent, shortened.as_ref().unwrap_or(command), resolved, sink) {
            Ok((mut execution, stdin)) => {
                execution.carry(flight);
                Ok((execution, stdin))
            }
            Err(error) => {
                Flight::land(flight);
                Err(error)
            }
        }
    }

    /// What is remembered of a command on that parent, as far as its reuse policy allows.
    ///
    /// An entry whose objects are gone is a miss, never an error.
    pub(super) fn remembered(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: &Resolved,
    ) -> Result<Option<Outcome>> {
        let (Some(key), false) = (&resolved.key, command.disposable) else { return Ok(None) };
        if command.reuse == Reuse::Never {
            return Ok(None);
        }
        let Some(record) = self.index.newest_successful_run(key)? else { return Ok(None) };
        if command.reuse == Reuse::Auto && !record.changed {
            return Ok(None);
        }
        let outcome = self.replay(parent, &record);
        match outcome {
            Err(Error::Store(error)) if error.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }

    fn replay(self: &Arc<Self>, parent: &State, record: &RunRecord) -> Result<Outcome> {
        let state = if record.result == parent.id {
            parent.clone()
        } else {
            let state = self.handle(record.result, Origin::of_run(record.seq, parent.clone()))?;
            if !self.store.has_packed(state.value.root.as_bytes())? {
                // Read for its error, which says what is missing.
                self.store.root(&state.value.root)?;
            }
            state
        };
        self.note_use(record);
        Ok(Outcome {
            tree: Some(state.tree()),
            state: Some(state),
            parent: parent.clone(),
            key: Some(record.key),
            changed: record.changed,
            reused: true,
            exit_code: record.exit_code,
            signal: record.signal,
            timed_out: record.timed_out,
            stdout: self.output(&record.stdout)?,
            stderr: self.output(&record.stderr)?,
            truncated: record.truncated,
            duration: Duration::from_secs_f64((record.duration_ms / 1000.0).clamp(0.0, 1e9)),
            resources: resources(record),
            changes: ChangeCounts { added: record.added, modified: record.modified, deleted: record.deleted },
            limits: Vec::new(),
            killed_for: None,
        })
    }

    /// Notes that a remembered run was used, which decides how long it stays; not every time, for looking up must stay cheap.
    fn note_use(&self, record: &RunRecord) {
        const HOUR_MS: i64 = 3_600_000;
        let now = super::core::now_ms();
        if now - record.started_ms >= HOUR_MS {
            // On a full disk what is remembered can still be used.
            let _ = self.index.touch_run(record.seq, now);
        }
    }

    pub(super) fn output(&self, record: &OutputRecord) -> Result<Vec<u8>> {
        match record {
            OutputRecord::Inline(bytes) => Ok(bytes.clone()),
            OutputRecord::Blob(blob, _) => Ok(self.store.read_blob(blob)?),
        }
    }

    /// The tree that a state was made from, as far as its handle or a commit knows: its layers may be there already.
    pub(super) fn layer_hint(&self, state: &State) -> Result<Option<TreeId>> {
        if let Some((_, parent)) = &state.origin.run {
            return Ok(Some(parent.tree()));
        }
        let Some(commit) = state.commit() else { return Ok(None) };
        let Some(fact) = self.index.commit(&commit)? else { return Ok(None) };
        for parent in fact.parents {
            if let Some(id) = self.index.commit_state(&parent)? {
                return match self.store.state(&id) {
                    Ok(state) => Ok(Some(state.root)),
                    Err(error) if error.is_missing() => Ok(None),
                    Err(error) => Err(error.into()),
                };
            }
        }
        Ok(None)
    }
}

pub(super) fn resources(record: &RunRecord) -> Resources {
    let usage = &record.usage;
    Resources {
        user_ms: usage.user_ms,
        system_ms: usage.system_ms,
        max_rss_kib: usage.max_rss_kib,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}
