//! The async face: the same verbs as [`super::blocking`], on tokio.
//!
//! The work itself is file and process work that blocks; it happens on tokio's blocking threads. Dropping a future does not stop work that has begun: to be able to
//! stop a command, use [`State::spawn`] and drop the handle.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::blocking;
use super::child::{Child, exited, feed, is_over};
use super::error::{Error, Result};
use super::execute::Ground;
use super::live::Killer;
use super::*;

/// Chunks of output that wait for a slow reader before the command itself has to wait.
const MAX_WAITING_CHUNKS: usize = 64;

pub(super) async fn unblock<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
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
        let options = name.into_iter().fold(ImportOptions::new(), ImportOptions::name);
        self.import_with(source, &options).await
    }

    /// [`import`](Self::import) with a say in which of several images is taken and what it may demand.
    pub async fn import_with(
        &self,
        source: &ImportSource,
        options: &ImportOptions,
    ) -> Result<Imported<State>> {
        let (source, options) = (source.clone(), options.clone());
        let imported = self.with(move |engine| engine.import_with(&source, &options)).await?;
        let Imported { state, name, entries, size_bytes, skipped } = imported;
        Ok(Imported { state: State { inner: state }, name, entries, size_bytes, skipped })
    }

    /// Brings an image in from a registry, as far as it is not here, and names it; see [`blocking::Engine::pull`].
    pub async fn pull(&self, reference: &str, options: &PullOptions) -> Result<Pulled<State>> {
        let (reference, options) = (reference.to_owned(), options.clone());
        let pulled = self.with(move |engine| engine.pull(&reference, &options)).await?;
        Ok(pulled.map(|inner| State { inner }))
    }

    /// Sends a state to a registry as an image.
    pub async fn push(&self, state: &State, reference: &str, options: &PushOptions) -> Result<Pushed> {
        let (state, reference, options) = (state.inner.clone(), reference.to_owned(), options.clone());
        self.with(move |engine| engine.push(&state, &reference, &options)).await
    }

    /// Writes a state as an image or a root archive that other tools read; the same state gives the same bytes on any machine.
    pub async fn export(
        &self,
        state: &State,
        target: &ExportTarget,
        options: &ExportOptions,
    ) -> Result<Exported> {
        let (state, target, options) = (state.inner.clone(), target.clone(), options.clone());
        self.with(move |engine| engine.export(&state, &target, &options)).await
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
    pub(super) fn from_blocking(inner: blocking::State) -> Self {
        Self { inner }
    }

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
        let (sink, output) = reader();
        let (execution, stdin) = unblock(move || super::live::begin(&state, &command, sink)).await?;
        let (child, ground) = execution.into_parts();
        Ok(Running { process: Process::new(child, stdin, output)?, ground })
    }

    /// Starts a sandbox in which several commands run, one after the other or at once; its result is kept as one state, or dropped.
    pub async fn open(&self, options: SandboxOptions) -> Result<Live> {
        let state = self.inner.clone();
        Ok(Live { inner: Arc::new(unblock(move || state.open(&options)).await?) })
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

type Chunks = mpsc::Receiver<(Stream, Vec<u8>)>;

/// A sink that hands output to a reader, which makes the command wait when it is slow.
fn reader() -> (Sink, Chunks) {
    let (sender, output) = mpsc::channel(MAX_WAITING_CHUNKS);
    // A reader that is gone is no reason to stop the command.
    let sink = move |stream, bytes: &[u8]| drop(sender.blocking_send((stream, bytes.to_vec())));
    (Arc::new(sink), output)
}

/// A running command: write its input, read its output, signal it, wait for it. Dropping it kills it.
pub struct Process {
    child: Child,
    stdin: Option<Input>,
    output: Chunks,
}

/// Where input is written: a pipe that tells when there is room, or a terminal, which is written to elsewhere.
enum Input {
    Pipe(pipe::Sender),
    Terminal(Arc<std::fs::File>),
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

impl Process {
    fn new(child: Child, stdin: Option<std::fs::File>, output: Chunks) -> Result<Self> {
        let stdin = match stdin {
            Some(file) if child.terminal().is_some() => Some(Input::Terminal(Arc::new(file))),
            Some(file) => {
                let sender = pipe::Sender::from_file(file);
                let failed = |error| Error::disk("use", "the command's input pipe", error);
                Some(Input::Pipe(sender.map_err(failed)?))
            }
            None => None,
        };
        Ok(Self { child, stdin, output })
    }

    /// The process id on the host: of the command itself in a live sandbox, else of its sandbox's init.
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Writes to standard input, which must be [`super::Stdin::Piped`]; a command that has closed it is no error.
    ///
    /// It waits until the command has taken everything but what the pipe holds (64 KiB). Read at the same time, or else a command that
    /// writes while it reads may wait for its reader for ever.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.stdin {
            None => Err(Error::invalid("standard input is not piped or already closed")),
            Some(Input::Terminal(master)) => {
                let (master, bytes) = (Arc::clone(master), bytes.to_vec());
                unblock(move || {
                    let mut master =
                        master.try_clone().map_err(|error| Error::disk("use", "a terminal", error))?;
                    feed(&mut master, &bytes)
                })
                .await
            }
            Some(Input::Pipe(stdin)) => match stdin.write_all(bytes).await {
                Err(error) if !is_over(&error) => Err(Error::disk("write to", "the command's input", error)),
                _ => Ok(()),
            },
        }
    }

    /// Ends standard input.
    pub fn close_stdin(&mut self) {
        if let (Some(_), Some(terminal)) = (self.stdin.take(), self.child.terminal()) {
            terminal.end_input();
        }
    }

    /// Its terminal, if the command asked for one.
    pub fn terminal(&self) -> Option<Terminal> {
        self.child.terminal().cloned()
    }

    /// The next piece of output; `None` when both streams have ended. A command whose output is not read waits when 64 pieces are there.
    pub async fn read(&mut self) -> Option<(Stream, Vec<u8>)> {
        self.output.recv().await
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
        Killer::new(self.child.killer())
    }

    /// Whether it has ended; does not wait.
    pub fn poll(&mut self) -> Result<bool> {
        Ok(self.try_wait()?.is_some())
    }

    /// How it ended, if it has; does not wait.
    pub fn try_wait(&mut self) -> Result<Option<Exited>> {
        let ended = self.child.end().wait(Some(Duration::ZERO))?;
        Ok(ended.map(|(exit, timed_out)| exited(&exit, timed_out)))
    }

    /// Waits for its end, at most so long; `None` when it has not ended by then. Its output is still there to be read.
    pub async fn wait_timeout(&mut self, limit: Duration) -> Result<Option<Exited>> {
        let end = Arc::clone(self.child.end());
        let told = async {
            loop {
                // Listened for before the look, so that nothing falls between.
                let notified = end.notify.notified();
                let mut notified = std::pin::pin!(notified);
                notified.as_mut().enable();
                match self.try_wait() {
                    Ok(None) => notified.await,
                    ended => return ended,
                }
            }
        };
        tokio::time::timeout(limit, told).await.unwrap_or(Ok(None))
    }

    /// Closes its input, waits for its end and gives what came of it, with all output whether it was read or not.
    pub async fn wait(mut self) -> Result<Finished> {
        self.close_stdin();
        let Self { mut child, output, .. } = self;
        drop(output);
        unblock(move || child.finish()).await
    }
}

impl Running {
    /// Closes its input, waits for its end and gives what came of it, with all output whether it was read or not.
    pub async fn wait(self) -> Result<Outcome<State>> {
        let Self { process, ground } = self;
        let finished = process.wait().await?;
        Ok(unblock(move || ground.conclude(finished)).await?.map(|inner| State { inner }))
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

/// A sandbox in which several commands run; the same as [`blocking::Live`], where more is told.
#[derive(Debug)]
pub struct Live {
    inner: Arc<blocking::Live>,
}

impl Live {
    /// The process id of its init on the host.
    pub fn pid(&self) -> i32 {
        self.inner.pid()
    }

    /// The state it began as.
    pub fn parent(&self) -> State {
        State { inner: self.inner.parent().clone() }
    }

    /// Runs a command and waits for its end. The command's own failure is no error.
    ///
    /// It does not wait for what the command leaves behind, and nothing of the output of that is kept.
    pub async fn run(&self, command: Command) -> Result<Finished> {
        let live = Arc::clone(&self.inner);
        unblock(move || live.run(&command)).await
    }

    /// Starts a command and gives a handle. Several run at once.
    pub async fn spawn(&self, command: Command) -> Result<Process> {
        let live = Arc::clone(&self.inner);
        let (sink, output) = reader();
        let (child, stdin) = unblock(move || live.begin(&command, Some(sink))).await?;
        Process::new(child, stdin, output)
    }

    /// Kills everything inside. Its handles tell of it, and it can still be kept.
    pub fn kill(&self) -> Result<()> {
        self.inner.kill()
    }

    /// Ends the sandbox, killing what still runs, and makes one state of everything that was changed in it.
    ///
    /// The result counts as one run, whose text is that of all commands. It is never used again instead of running.
    pub async fn keep(self) -> Result<Outcome<State>> {
        Ok(unblock(move || self.inner.end()).await?.map(|inner| State { inner }))
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
