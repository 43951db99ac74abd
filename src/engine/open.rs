//! Live sandboxes: several commands in one file system, whose changes become one state or none.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::child::{Child, Complete, End, resources};
use super::command::Command;
use super::error::{Error, Result};
use super::execute::Ground;
use super::live::{Process, reader};
use super::outcome::{Finished, Outcome, Resources};
use super::state::State;
use super::types::Sink;
use crate::object::{Network, Program};
use crate::sandbox::Plan;
use crate::worker;

/// The longest text of the commands that is kept with the result; what comes then is counted.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// What a live sandbox is like: what it can reach, which files it gets, and what its commands have in common.
///
/// Environment, working directory and user are those of its commands unless they say otherwise. Made from a [`Command`] it takes
/// everything of that but the program, its streams and its time.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    template: Command,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self::from(Command::new("true"))
    }
}

impl From<Command> for SandboxOptions {
    fn from(template: Command) -> Self {
        Self { template }
    }
}

impl SandboxOptions {
    /// The same defaults as [`Command`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an environment variable for every command.
    pub fn env(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.template.env(key, value).into()
    }

    /// Sets the working directory of commands that name none.
    pub fn workdir(self, path: impl Into<String>) -> Self {
        self.template.workdir(path).into()
    }

    /// Sets the user of commands that name none; see [`Command::user`]. Names are those of the state that the sandbox began as.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.template.user(user).into()
    }

    /// Sets the host name inside; the default is `treebox`.
    pub fn hostname(self, name: impl Into<String>) -> Self {
        self.template.hostname(name).into()
    }

    /// Sets what can be reached; the default is nothing.
    pub fn network(self, network: Network) -> Self {
        self.template.network(network).into()
    }

    /// Places a host file or directory in the sandbox before the first command.
    pub fn copy(self, source: impl AsRef<Path>, dest: impl Into<String>) -> Self {
        self.template.copy(source, dest).into()
    }

    /// Refuses changes of the root file system.
    pub fn read_only(self, yes: bool) -> Self {
        self.template.read_only(yes).into()
    }

    /// Clamps modification times of what is written to this many seconds since 1970.
    pub fn epoch(self, seconds: i64) -> Self {
        self.template.epoch(seconds).into()
    }
}

/// A sandbox in which several commands run, one after the other or at once, and see each other's files and processes.
///
/// What a command leaves running, such as a server, runs until the sandbox ends. [`Live::keep`] makes one state of all
/// changes; dropping it keeps nothing. Either kills what still runs: end a server first if its files are to be in order.
///
/// What a command itself asks for beyond its program, streams, environment, directory, user, umask and time does not count: the
/// sandbox is one for all.
///
/// ```no_run
/// # fn demo(state: &treebox::blocking::State) -> treebox::Result<()> {
/// use treebox::{Command, SandboxOptions};
///
/// let live = state.open(&SandboxOptions::new())?;
/// live.run(&Command::shell("my-server --daemon"))?;
/// let tests = live.run(&Command::shell("make test"))?;
/// if tests.success() {
///     let state = live.keep()?.state.expect("a state is kept");
///     println!("{}", state.id());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Live {
    parent: State,
    template: Command,
    opened: Mutex<Option<Opened>>,
    pid: i32,
}

/// What there is until the sandbox ends. The fields are dropped in their order: what runs ends before its files go.
struct Opened {
    sandbox: worker::Sandbox,
    ground: Ground,
    plan: Plan,
    log: Log,
    began: Instant,
}

/// The commands so far: what the result is said to come from.
#[derive(Default)]
struct Log {
    text: String,
    left_out: u64,
    ends: Vec<Arc<End>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("pid", &self.pid).field("parent", &self.parent).finish_non_exhaustive()
    }
}

impl Live {
    pub(super) fn open(parent: &State, options: &SandboxOptions) -> Result<Self> {
        let core = &parent.core;
        core.learn_root_mode()?;
        let template = &options.template;
        let mut resolved = core.resolve_command(parent, template)?;
        // Its result depends on more than one command.
        resolved.key = None;
        let (ground, plan) = core.ground(parent, template, resolved)?;
        let began = Instant::now();
        let sandbox = match ground.session().open(plan.clone()) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                ground.abandon();
                return Err(error.into());
            }
        };
        let pid = sandbox.pid();
        let opened = Opened { sandbox, ground, plan, log: Log::default(), began };
        Ok(Self { parent: parent.clone(), template: template.clone(), opened: Mutex::new(Some(opened)), pid })
    }

    /// The process id of its init on the host.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The state it began as.
    pub fn parent(&self) -> &State {
        &self.parent
    }

    /// Runs a command and waits for its end. The command's own failure is no error.
    ///
    /// It does not wait for what the command leaves behind, and nothing of the output of that is kept.
    pub fn run(&self, command: &Command) -> Result<Finished> {
        self.begin(command, None)?.0.finish()
    }

    /// Runs a command and passes its output on while it comes.
    pub fn run_with(&self, command: &Command, sink: Sink) -> Result<Finished> {
        self.begin(command, Some(sink))?.0.finish()
    }

    /// Starts a command and gives a handle. Several run at once.
    pub fn spawn(&self, command: &Command) -> Result<Process> {
        let (sink, output) = reader();
        let (child, stdin) = self.begin(command, Some(sink))?;
        Ok(Process::new(child, stdin, output))
    }

    /// Starts a command; gives the writing end of its input when that is piped.
    pub(super) fn begin(&self, command: &Command, sink: Option<Sink>) -> Result<(Child, Option<File>)> {
        let command = self.merged(command)?;
        let resolved = self.parent.core.resolve_command(&self.parent, &command)?;
        let mut opened = self.opened();
        let Some(Opened { sandbox, ground, plan, log, .. }) = &mut *opened else { return Err(over()) };
        let mut plan = plan.clone();
        resolved.payload(&mut plan);
        let launch = |plan, streams| sandbox.run(plan, streams);
        let started = Child::start(&command, plan, ground.scratch(), sink, Complete::WithTheCommand, launch)
            .map_err(|error| self.parent.core.explained(error, &resolved))?;
        log.add(&command.program, started.0.end());
        Ok(started)
    }

    /// A command with what the sandbox's options say where it says nothing itself.
    fn merged(&self, command: &Command) -> Result<Command> {
        if !command.injected.is_empty() {
            return Err(Error::invalid(
                "files are copied into a live sandbox by its own options, not by a command",
            ));
        }
        if !command.mounts.is_empty() {
            return Err(Error::invalid(
                "what is mounted in a live sandbox is said by its own options, not by a command",
            ));
        }
        let mut merged = command.clone();
        merged.env = self.template.env.iter().chain(&command.env).cloned().collect();
        merged.workdir = command.workdir.clone().or_else(|| self.template.workdir.clone());
        merged.user = command.user.clone().or_else(|| self.template.user.clone());
        Ok(merged)
    }

    /// Kills everything inside. Its handles tell of it, and it can still be kept.
    pub fn kill(&self) -> Result<()> {
        match &*self.opened() {
            Some(opened) => Ok(opened.sandbox.killer().kill()?),
            None => Ok(()),
        }
    }

    /// Ends the sandbox, killing what still runs, and makes one state of everything that was changed in it.
    ///
    /// The result counts as one run, whose text is that of all commands. It is never used again instead of running.
    pub fn keep(self) -> Result<Outcome> {
        self.end()
    }

    pub(super) fn end(&self) -> Result<Outcome> {
        let Some(Opened { sandbox, mut ground, log, began, .. }) = self.opened().take() else {
            return Err(over());
        };
        let duration = began.elapsed();
        let exit = sandbox.end()?;
        let mut used = resources(&exit);
        for end in &log.ends {
            // All have ended with the sandbox; their threads may not have heard of it yet.
            if let Ok(Some((exit, _))) = end.wait(None) {
                used.add(&resources(&exit));
            }
        }
        ground.resolved.spec.program = Program::Shell(log.finish());
        let finished = Finished {
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: false,
            duration,
            resources: used,
            exceeded: exit.exceeded,
        };
        ground.conclude(finished)
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn add(&mut self, program: &Program, end: &Arc<End>) {
        self.ends.push(Arc::clone(end));
        let text = program.text();
        if self.left_out > 0 || self.text.len() + text.len() > MAX_TEXT_BYTES {
            self.left_out += 1;
            return;
        }
        // One a line, as in a script that does the same.
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += &text;
    }

    fn finish(mut self) -> String {
        if self.left_out > 0 {
            self.text += &format!("\n# and {} more", self.left_out);
        }
        self.text
    }
}

impl Resources {
    fn add(&mut self, other: &Self) {
        self.user_ms += other.user_ms;
        self.system_ms += other.system_ms;
        self.max_rss_kib = self.max_rss_kib.max(other.max_rss_kib);
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
    }
}

fn over() -> Error {
    Error::invalid("the live sandbox has ended")
}
