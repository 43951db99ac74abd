//! The async face: the same verbs as [`super::blocking`], on tokio.
//!
//! The work itself is file and process work that blocks; it happens on tokio's blocking threads. Dropping a future does not stop work that has begun: to be able to
//! stop a command, use [`State::spawn`] and drop the handle.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::blocking;
use super::error::{Error, Result};
use super::execute::Execution;
use super::live::Killer;
use super::*;

/// Chunks of output that wait for a slow reader before the command itself has to wait.
const MAX_WAITING_CHUNKS: usize = 64;

async fn unblock<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::invalid("the tokio runtime is shutting down")),
    }
}

/// An open store with everything that can be done in it. Cheap to clone; every clone is the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: blocking::Engine,
}

/// A file system with its runtime config, in one store. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    inner: blocking::State,
}

impl Engine {
    /// Opens a store; where there is none one is made.
    pub async fn open(options: EngineOptions) -> Result<Self> {
        unblock(move || Ok(Self { inner: blocking::Engine::open(options)? })).await
    }

    /// Opens the store at `$TREEBOX_STORE`, else `$XDG_DATA_HOME/treebox`, else `~/.local/share/treebox`.
    pub async fn open_default() -> Result<Self> {
        Self::open(EngineOptions::from_env()?).await
    }

    /// The same engine with verbs that wait: every verb is there, also those that have no async twin.
    pub fn blocking(&self) -> &blocking::Engine {
        &self.inner
    }

    /// Does something with the blocking face on one of tokio's blocking threads.
    ///
    /// ```no_run
    /// # async fn demo(engine: treebox::Engine) -> treebox::Result<()> {
    /// let branches = engine.with(|engine| engine.branches()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&blocking::Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = self.inner.clone();
        unblock(move || work(&engine)).await
    }

    /// Brings an image, a root file system, a directory or the host's own programs in, and names it.
    pub async fn import(&self, source: &ImportSource, name: Option<&str>) -> Result<Imported<State>> {
        let (source, name) = (source.clone(), name.map(str::to_owned));
        let imported = self.with(move |engine| engine.import(&source, name.as_deref())).await?;
        let Imported { state, name, entries, size_bytes, skipped } = imported;
        Ok(Imported { state: State { inner: state }, name, entries, size_bytes, skipped })
    }

    /// The images by name.
    pub async fn images(&self) -> Result<Vec<Image>> {
        self.with(blocking::Engine::images).await
    }

    /// The state that a revision names: Git's syntax over branches, tags, image names, commits and states.
    pub async fn resolve(&self, rev: &str) -> Result<State> {
        let rev = rev.to_owned();
        Ok(State { inner: self.with(move |engine| engine.resolve(&rev)).await? })
    }

    /// Where HEAD is.
    pub async fn head(&self) -> Result<Head> {
        self.with(blocking::Engine::head).await
    }

    /// The branches by name.
    pub async fn branches(&self) -> Result<Vec<Ref>> {
        self.with(blocking::Engine::branches).await
    }

    /// A branch by name, which need not exist yet.
    pub fn branch(&self, name: &str) -> Branch {
        Branch { engine: self.clone(), name: name.to_owned() }
    }

    /// Commits that a revision or range leads to, newest first.
    pub async fn log(&self, query: LogQuery) -> Result<Vec<CommitInfo>> {
        self.with(move |engine| engine.log(&query)).await
    }

    /// Runs a command where `target` says and moves the branch it says.
    pub async fn step(&self, target: Target, command: Command) -> Result<Step<State>> {
        let step = self.with(move |engine| engine.step(&target, &command, None)).await?;
        let outcome = step.outcome.map(|inner| State { inner });
        Ok(Step { outcome, commit: step.commit, branch: step.branch })
    }
}

/// A branch by name.
#[derive(Debug, Clone)]
pub struct Branch {
    engine: Engine,
    name: String,
}

impl Branch {
    /// Makes the branch at a state; one that exists is a conflict.
    pub async fn create_at(&self, state: &State) -> Result<Ref> {
        let (name, state) = (self.name.clone(), state.inner.clone());
        self.engine.with(move |engine| engine.create_branch(&name, &state, false)).await
    }

    /// Moves the branch from one state's commit to another state; a branch that is elsewhere is a conflict.
    pub async fn advance(&self, from: CommitId, to: &State) -> Result<Ref> {
        let (name, to) = (self.name.clone(), to.inner.clone());
        self.engine.with(move |engine| engine.move_branch(&name, Some(from), &to, "advance")).await
    }

    /// Deletes the branch.
    pub async fn delete(&self) -> Result<Ref> {
        let name = self.name.clone();
        self.engine.with(move |engine| engine.delete_branch(&name)).await
    }
}

impl State {
    /// The state's id: what a user sees and compares.
    pub fn id(&self) -> StateId {
        self.inner.id()
    }

    /// The root tree's id: two states with the same files have the same one.
    pub fn tree(&self) -> TreeId {
        self.inner.tree()
    }

    /// How commands run in it unless they say otherwise.
    pub fn config(&self) -> &Config {
        self.inner.config()
    }

    /// The commit this state was reached by, when it is named by one.
    pub fn commit(&self) -> Option<CommitId> {
        self.inner.commit()
    }

    /// The same handle with verbs that wait.
    pub fn blocking(&self) -> &blocking::State {
        &self.inner
    }

    /// Runs a command on this state, or uses what is remembered of that. The command's own failure is an outcome, not an error.
    pub async fn run(&self, command: Command) -> Result<Outcome<State>> {
        let state = self.inner.clone();
        Ok(unblock(move || state.run(&command)).await?.map(|inner| State { inner }))
    }

    /// Starts a command and gives a live handle. What is remembered is not used.
    pub async fn spawn(&self, command: Command) -> Result<Running> {
        let state = self.inner.clone();
        let (sender, output) = mpsc::channel(MAX_WAITING_CHUNKS);
        let sink: Sink = Arc::new(move |stream, bytes: &[u8]| {
            // A reader that is gone is no reason to stop the command.
            drop(sender.blocking_send((stream, bytes.to_vec())));
        });
        let (execution, stdin) = unblock(move || super::live::begin(&state, &command, sink)).await?;
        let stdin = stdin.map(pipe::Sender::from_file).transpose();
        let stdin = stdin.map_err(|error| Error::disk("use", "the command's input pipe", error))?;
        Ok(Running { execution, stdin, output })
    }

    /// Resolves a command against this state once, to run it many times, also at once.
    pub async fn prepare(&self, command: Command) -> Result<Prepared> {
        let state = self.inner.clone();
        Ok(Prepared { inner: unblock(move || state.prepare(&command)).await? })
    }

    /// Reads a whole regular file, symlinks followed within the state.
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let path = TreePath::parse(path.as_bytes()).map_err(|error| Error::invalid(error.to_string()))?;
        let state = self.inner.clone();
        unblock(move || state.core.read_file(&state, &path)).await
    }

    /// What differs from this state to another.
    pub async fn diff(&self, other: &State) -> Result<Vec<Change>> {
        let (old, new) = (self.inner.clone(), other.inner.clone());
        unblock(move || old.core.diff(&old, &new, &[])).await
    }

    /// Writes the files of this state to a host directory that is new or empty.
    pub async fn checkout_to(&self, dest: impl AsRef<Path>) -> Result<Written> {
        let (state, dest): (_, PathBuf) = (self.inner.clone(), dest.as_ref().to_owned());
        unblock(move || state.core.checkout_to(&state, &TreePath::root(), &dest)).await
    }
}

/// A running command: write its input, read its output, signal it, wait for it. Dropping it kills it and keeps nothing.
pub struct Running {
    execution: Execution,
    stdin: Option<pipe::Sender>,
    output: mpsc::Receiver<(Stream, Vec<u8>)>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("pid", &self.execution.pid()).finish_non_exhaustive()
    }
}

impl Running {
    /// The process id of the sandbox's init on the host.
    pub fn pid(&self) -> i32 {
        self.execution.pid()
    }

    /// Writes to standard input, which must be [`super::Stdin::Piped`]; a command that has closed it is no error.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Err(Error::invalid("standard input is not piped or already closed"));
        };
        match stdin.write_all(bytes).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::disk("write to", "the command's input", error))
            }
            _ => Ok(()),
        }
    }

    /// Ends standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next piece of output; `None` when both streams have ended.
    pub async fn read(&mut self) -> Option<(Stream, Vec<u8>)> {
        self.output.recv().await
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
        Killer::new(self.execution.killer())
    }

    /// Whether it has ended; does not wait.
    pub fn poll(&mut self) -> Result<bool> {
        self.execution.poll()
    }

    /// Closes its input, waits for its end and gives what came of it, with all output whether it was read or not.
    pub async fn wait(self) -> Result<Outcome<State>> {
        let Self { execution, stdin, output } = self;
        drop(stdin);
        drop(output);
        Ok(unblock(move || execution.finish()).await?.map(|inner| State { inner }))
    }
}

/// A command resolved against one state, to be run many times.
#[derive(Debug, Clone)]
pub struct Prepared {
    inner: blocking::Prepared,
}

impl Prepared {
    /// The key under which its result is remembered.
    pub fn key(&self) -> RunKey {
        self.inner.key()
    }

    /// Runs it, or uses what is remembered, as its command says.
    pub async fn run(&self) -> Result<Outcome<State>> {
        let prepared = self.inner.clone();
        Ok(unblock(move || prepared.run()).await?.map(|inner| State { inner }))
    }

    /// Runs it whatever is remembered.
    pub async fn run_fresh(&self) -> Result<Outcome<State>> {
        let prepared = self.inner.clone();
        Ok(unblock(move || prepared.run_fresh()).await?.map(|inner| State { inner }))
    }
}
