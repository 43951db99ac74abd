//! Commands under way.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::child::{Child, exited, feed};
use super::command::Command;
use super::error::Result;
use super::execute::{Execution, Ground};
use super::outcome::{Exited, Finished, Outcome};
use super::state::State;
use super::types::{Sink, Stream, Terminal};
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

/// A running command: write its input, read its output, signal it, wait for it. Dropping it kills it.
///
/// ```no_run
/// # fn demo(state: &treebox::blocking::State) -> treebox::Result<()> {
/// use treebox::{Command, Stdin};
///
/// let mut sort = state.spawn(&Command::new("sort").stdin(Stdin::Piped))?;
/// sort.write(b"b\na\n")?;
/// sort.close_stdin();
/// while let Some((_stream, bytes)) = sort.read() {
///     print!("{}", String::from_utf8_lossy(&bytes));
/// }
/// assert!(sort.wait()?.success());
/// # Ok(())
/// # }
/// ```
pub struct Process {
    child: Child,
    stdin: Option<File>,
    output: Receiver<(Stream, Vec<u8>)>,
}

/// A command under way in a sandbox of its own: a [`Process`] whose end makes a state. Dropping it kills it and keeps nothing.
pub struct Running {
    process: Process,
    ground: Ground,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// Starts a command whatever is remembered of it.
pub(super) fn begin(state: &State, command: &Command, sink: Sink) -> Result<(Execution, Option<File>)> {
    let core = &state.core;
    core.learn_root_mode()?;
    let resolved = core.resolve_command(state, command)?;
    core.begin(state, command, resolved, Some(sink))
}

type Chunks = Receiver<(Stream, Vec<u8>)>;

/// A sink that hands output to a reader, which makes the command wait when it is slow.
pub(super) fn reader() -> (Sink, Chunks) {
    let (sender, output): (SyncSender<(Stream, Vec<u8>)>, _) = sync_channel(MAX_WAITING_CHUNKS);
    // A reader that is gone is no reason to stop the command.
    (Arc::new(move |stream, bytes: &[u8]| drop(sender.send((stream, bytes.to_vec())))), output)
}

impl Process {
    pub(super) fn new(child: Child, stdin: Option<File>, output: Chunks) -> Self {
        Self { child, stdin, output }
    }

    /// The process id on the host: of the command itself in a live sandbox, else of its sandbox's init.
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Writes to standard input, which must be [`super::Stdin::Piped`]; a command that has closed it is no error.
    ///
    /// It waits until the command has taken everything but what the pipe holds (64 KiB). A command that writes meanwhile and whose
    /// output nobody reads stops taking input after a while: read from another thread, or write through
    /// [`Process::take_stdin`] from one.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.stdin {
            Some(stdin) => feed(stdin, bytes),
            None => Err(super::error::Error::invalid("standard input is not piped or already closed")),
        }
    }

    /// Ends standard input.
    pub fn close_stdin(&mut self) {
        if let (Some(_), Some(terminal)) = (self.stdin.take(), self.child.terminal()) {
            terminal.end_input();
        }
    }

    /// Takes the writing end of standard input, to write from elsewhere. Dropping it ends the input, but not that of a terminal.
    pub fn take_stdin(&mut self) -> Option<File> {
        self.stdin.take()
    }

    /// Its terminal, if the command asked for one.
    pub fn terminal(&self) -> Option<Terminal> {
        self.child.terminal().cloned()
    }

    /// The next piece of output; waits for it. `None` when both streams have ended.
    ///
    /// A command whose output is not read waits when 64 pieces are there.
    pub fn read(&mut self) -> Option<(Stream, Vec<u8>)> {
        self.output.recv().ok()
    }

    /// Sends a signal to the command; what a terminal would send goes to its whole process group.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.killer().signal(signal)
    }

    /// Kills the command and everything that it started. In a live sandbox, what has made itself a daemon goes on.
    pub fn kill(&self) -> Result<()> {
        self.killer().kill()
    }

    /// A handle that signals it from elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(self.child.killer())
    }

    /// Whether it has ended; does not wait.
    pub fn poll(&mut self) -> Result<bool> {
        Ok(self.try_wait()?.is_some())
    }

    /// How it ended, if it has; does not wait.
    pub fn try_wait(&mut self) -> Result<Option<Exited>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Waits for its end, at most so long; `None` when it has not ended by then. Its output is still there to be read.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<Exited>> {
        Ok(self.child.end().wait(Some(limit))?.map(|(exit, timed_out)| exited(&exit, timed_out)))
    }

    /// Closes its input, waits for its end and gives what came of it, with all output whether it was read or not.
    pub fn wait(mut self) -> Result<Finished> {
        self.close_stdin();
        let Self { mut child, output, .. } = self;
        // Without a reader the pumps go on and drop what they pass.
        drop(output);
        child.finish()
    }
}

impl Running {
    pub(super) fn start(state: &State, command: &Command) -> Result<Self> {
        let (sink, output) = reader();
        let (execution, stdin) = begin(state, command, sink)?;
        let (child, ground) = execution.into_parts();
        Ok(Self { process: Process::new(child, stdin, output), ground })
    }

    /// Closes its input, waits for its end and gives what came of it, with all output whether it was read or not.
    pub fn wait(self) -> Result<Outcome> {
        let Self { process, ground } = self;
        ground.conclude(process.wait()?)
    }
}

impl Deref for Running {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
