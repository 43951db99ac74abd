//! Commands under way.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::command::Command;
use super::error::Result;
use super::execute::{Execution, feed};
use super::outcome::Outcome;
use super::state::State;
use super::types::{Sink, Stream};
use crate::worker;

/// Chunks of output that wait for a slow reader before the command itself has to wait.
const MAX_WAITING_CHUNKS: usize = 64;

/// Signals a running command from anywhere; after its end it does nothing.
#[derive(Debug, Clone)]
pub struct Killer(worker::Killer);

impl Killer {
    pub(super) fn new(killer: worker::Killer) -> Self {
        Self(killer)
    }

    /// Sends a signal to the command.
    pub fn signal(&self, signal: i32) -> Result<()> {
        Ok(self.0.signal(signal)?)
    }

    /// Kills the command and everything that it started.
    pub fn kill(&self) -> Result<()> {
        Ok(self.0.kill()?)
    }
}

/// A running command: write its input, read its output, signal it, wait for it. Dropping it kills it and keeps nothing.
pub struct Running {
    execution: Execution,
    stdin: Option<File>,
    output: Receiver<(Stream, Vec<u8>)>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("pid", &self.execution.pid()).finish_non_exhaustive()
    }
}

/// Starts a command whatever is remembered of it.
pub(super) fn begin(state: &State, command: &Command, sink: Sink) -> Result<(Execution, Option<File>)> {
    let core = &state.core;
    core.learn_root_mode()?;
    let resolved = core.resolve_command(state, command)?;
    core.begin(state, command, resolved, Some(sink))
}

impl Running {
    pub(super) fn start(state: &State, command: &Command) -> Result<Self> {
        let (sender, output): (SyncSender<(Stream, Vec<u8>)>, _) = sync_channel(MAX_WAITING_CHUNKS);
        // A reader that is gone is no reason to stop the command.
        let sink: Sink = Arc::new(move |stream, bytes: &[u8]| drop(sender.send((stream, bytes.to_vec()))));
        let (execution, stdin) = begin(state, command, sink)?;
        Ok(Self { execution, stdin, output })
    }

    /// The process id of the sandbox's init on the host.
    pub fn pid(&self) -> i32 {
        self.execution.pid()
    }

    /// Writes to standard input, which must be [`super::Stdin::Piped`]; a command that has closed it is no error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.stdin {
            Some(stdin) => feed(stdin, bytes),
            None => Err(super::error::Error::invalid("standard input is not piped or already closed")),
        }
    }

    /// Ends standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Takes the writing end of standard input, to write from elsewhere.
    pub fn take_stdin(&mut self) -> Option<File> {
        self.stdin.take()
    }

    /// The next piece of output; waits for it. `None` when both streams have ended.
    pub fn read(&mut self) -> Option<(Stream, Vec<u8>)> {
        self.output.recv().ok()
    }

    /// Sends a signal to the command.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.killer().signal(signal)
    }

    /// Kills the command and everything that it started.
    pub fn kill(&self) -> Result<()> {
        self.killer().kill()
    }

    /// A handle that signals it from elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(self.execution.killer())
    }

    /// Whether it has ended; does not wait.
    pub fn poll(&mut self) -> Result<bool> {
        self.execution.poll()
    }

    /// Closes its input, waits for its end and gives what came of it, with all output whether it was read or not.
    pub fn wait(self) -> Result<Outcome> {
        let Self { execution, stdin, output } = self;
        drop(stdin);
        // Without a reader the pumps go on and drop what they pass.
        drop(output);
        execution.finish()
    }
}
