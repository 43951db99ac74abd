//! One execution: from layers and a plan to an exit status, and from an upper directory to a state.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::command::{Command, Stdin};
use super::core::{Core, mapped_ids, now_ms};
use super::error::{Error, Result};
use super::layers::Stack;
use super::outcome::{Outcome, Resources};
use super::spec::Resolved;
use super::state::{Origin, State};
use super::types::{Sink, Stream};
use crate::disk::Scratch;
use crate::index::{MAX_INLINE_OUTPUT_BYTES, OutputRecord, Run, Usage};
use crate::object::{self, Draft, Network, RootMode, StateId, TreeId};
use crate::sandbox::{Emulation, Ending, Plan, Rootfs, Upper};
use crate::store::Batch;
use crate::worker::{Exit, Killer, Session, SessionError};
use crate::worktree::layer::{
    Applied, BuildOptions, CaptureOptions, IdRange, LayerBuilder, LayerEntry, LayerNode, apply,
};

const PIPE_READ_BYTES: usize = 64 * 1024;

/// A command under way.
pub(super) struct Execution {
    core: Arc<Core>,
    parent: State,
    resolved: Resolved,
    disposable: bool,
    timeout: Option<Duration>,
    stack: Stack,
    session: Option<Session>,
    killer: Killer,
    pid: i32,
    exit: Receiver<Result<Exit, SessionError>>,
    ended: Option<(Exit, bool)>,
    pumps: Option<[JoinHandle<Kept>; 2]>,
    started_ms: i64,
    began: Instant,
    /// Dropped last: it holds the upper directory.
    scratch: Scratch,
}

/// What was kept of an output stream.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

/// The directories of a run within its scratch.
struct RunDirs {
    all: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

fn run_dirs(scratch: &Scratch) -> RunDirs {
    let all = scratch.path().join("run");
    RunDirs { upper: all.join("upper"), work: all.join("work"), all }
}

impl Core {
    /// Starts a command; gives the writing end of its input when that is piped.
    pub(super) fn begin(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: Resolved,
        sink: Option<Sink>,
    ) -> Result<(Execution, Option<File>)> {
        let session = self.session()?;
        self.begin_in(parent, command, resolved, sink, session)
    }

    fn begin_in(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: Resolved,
        sink: Option<Sink>,
        session: Session,
    ) -> Result<(Execution, Option<File>)> {
        let hint = self.layer_hint(parent)?;
        let mut stack = self.stack(&session, parent.value.root, hint)?;
        if resolved.base != parent.value.root {
            stack = self.stack(&session, resolved.base, Some(parent.value.root))?;
        }
        let scratch = Scratch::new(&self.layout().tmp())?;
        let plan = self.plan(&session, &resolved, &stack, &scratch)?;
        let (stdin, stdin_writer) = self.stdin(command, &scratch)?;
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        let limit = command.max_output_bytes;
        let pumps =
            [pump(stdout, Stream::Stdout, limit, sink.clone())?, pump(stderr, Stream::Stderr, limit, sink)?];
        let (started_ms, began) = (now_ms(), Instant::now());
        let launched = session.run(plan, [stdin, stdout_writer, stderr_writer]);
        let running = match launched {
            Ok(running) => running,
            Err(error) => {
                let _ = clear(&session, &run_dirs(&scratch));
                self.release(session);
                return Err(error.into());
            }
        };
        let (killer, pid) = (running.killer(), running.pid());
        let (sender, exit) = channel();
        spawn("treebox-wait", move || {
            // Nobody listens when the execution was dropped meanwhile.
            let _ = sender.send(running.wait());
        })?;
        let execution = Execution {
            core: Arc::clone(self),
            parent: parent.clone(),
            resolved,
            disposable: command.disposable,
            timeout: command.timeout,
            stack,
            session: Some(session),
            killer,
            pid,
            exit,
            ended: None,
            pumps: Some(pumps),
            started_ms,
            began,
            scratch,
        };
        Ok((execution, stdin_writer))
    }

    fn plan(&self, session: &Session, resolved: &Resolved, stack: &Stack, scratch: &Scratch) -> Result<Plan> {
        let dirs = run_dirs(scratch);
        let mut lowers = self.lower_paths(stack);
        let options = self.build_options(self.worker()?.identity())?;
        let data_lower = options.redirects.then(|| options.objects.clone());
        self.make_upper(session, resolved, &dirs, options)?;
        let upper = if resolved.spec.read_only {
            // Without an upper directory an overlay needs a second lower: the empty one that would have been the upper.
            lowers.insert(0, dirs.upper);
            None
        } else {
            Some(Upper { upper: dirs.upper, work: dirs.work })
        };
        let spec = &resolved.spec;
        let mut plan = Plan::new(Rootfs::Overlay { lowers, data_lower, upper }, resolved.argv());
        plan.hostname.clone_from(&spec.hostname);
        plan.env = spec.env.iter().map(|entry| entry.clone().into_bytes()).collect();
        plan.cwd.clone_from(&spec.cwd);
        plan.uid = spec.uid;
        plan.gid = spec.gid;
        plan.groups.clone_from(&spec.groups);
        plan.umask = u32::from(spec.umask);
        if spec.root_mode == RootMode::Recorded {
            plan.emulation = Some(Emulation { owned: self.owned(&resolved.base)? });
        }
        plan.network = match spec.network {
            Network::None => crate::sandbox::Network::None,
            Network::Host => crate::sandbox::Network::Host,
            Network::Private => {
                return Err(Error::Unsupported(
                    "a private network is not supported yet: use none or host".into(),
                ));
            }
        };
        Ok(plan)
    }

    /// Makes the upper directory with the root's attributes, which an overlay shows as its own root's.
    fn make_upper(
        &self,
        session: &Session,
        resolved: &Resolved,
        dirs: &RunDirs,
        options: BuildOptions,
    ) -> Result<()> {
        let make = |path: &PathBuf| {
            std::fs::create_dir(path).map_err(|error| Error::disk("create directory", path, error))
        };
        make(&dirs.all)?;
        make(&dirs.work)?;
        let root = self.store.root(&resolved.base)?;
        let plain = root.meta.uid == 0 && root.meta.gid == 0 && root.meta.xattrs.is_empty();
        let entry =
            LayerEntry { path: Vec::new(), meta: root.meta, node: LayerNode::Directory { opaque: false } };
        if plain {
            // Root inside is the caller outside, who needs no worker for this.
            make(&dirs.upper)?;
            let mut builder = LayerBuilder::new(&dirs.upper, BuildOptions { mapped_ids: 1, ..options })?;
            builder.add(&entry)?;
            builder.finish()?;
        } else {
            session.build_layer::<Error>(&dirs.upper, options, |upload| Ok(upload.add(entry)?))?;
        }
        Ok(())
    }

    fn stdin(&self, command: &Command, scratch: &Scratch) -> Result<(OwnedFd, Option<File>)> {
        match &command.stdin {
            Stdin::Piped => {
                let (reader, writer) = pipe()?;
                Ok((reader, Some(File::from(writer))))
            }
            Stdin::Bytes(bytes) if !bytes.is_empty() => {
                let path = scratch.path().join("stdin");
                let write = || {
                    std::fs::write(&path, bytes)?;
                    File::open(&path)
                };
                Ok((write().map_err(|error| Error::disk("write", &path, error))?.into(), None))
            }
            _ => {
                let null =
                    File::open("/dev/null").map_err(|error| Error::disk("open", "/dev/null", error))?;
                Ok((null.into(), None))
            }
        }
    }
}

impl Execution {
    pub(super) fn killer(&self) -> Killer {
        self.killer.clone()
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the end, at most until the command's time is up; then everything is killed.
    pub(super) fn wait(&mut self) -> Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        let left = self.timeout.map(|limit| limit.saturating_sub(self.began.elapsed()));
        let ended = match left {
            None => self.exit.recv().map_err(|_| SessionError::Ended)?.map(|exit| (exit, false)),
            Some(left) => match self.exit.recv_timeout(left) {
                Ok(exit) => exit.map(|exit| (exit, false)),
                Err(RecvTimeoutError::Disconnected) => return Err(SessionError::Ended.into()),
                Err(RecvTimeoutError::Timeout) => {
                    self.killer.kill()?;
                    self.exit.recv().map_err(|_| SessionError::Ended)?.map(|exit| (exit, true))
                }
            },
        };
        self.ended = Some(ended?);
        Ok(())
    }

    /// Whether it has ended; does not wait. A command whose time is up is killed here.
    pub(super) fn poll(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            match self.exit.try_recv() {
                Ok(exit) => self.ended = Some((exit?, false)),
                Err(_) if self.timeout.is_some_and(|limit| self.began.elapsed() >= limit) => self.wait()?,
                Err(_) => {}
            }
        }
        Ok(self.ended.is_some())
    }

    /// Waits for the end and makes of it what the command asked for.
    pub(super) fn finish(mut self) -> Result<Outcome> {
        self.wait()?;
        let (exit, timed_out) = self.ended.expect("wait() fills it");
        let [stdout, stderr] = self.pumps.take().expect("only finish() takes it");
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        let (exit_code, signal) = match exit.ending {
            Ending::Code(code) => (Some(code), None),
            Ending::Signal(signal) => (None, Some(signal)),
        };
        let usage = &exit.usage;
        let mut outcome = Outcome {
            state: None,
            tree: None,
            parent: self.parent.clone(),
            key: self.resolved.key,
            changed: false,
            reused: false,
            exit_code,
            signal,
            timed_out,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            truncated: stdout.truncated || stderr.truncated,
            duration: exit.duration,
            resources: Resources {
                user_ms: usage.user_micros as f64 / 1000.0,
                system_ms: usage.system_micros as f64 / 1000.0,
                max_rss_kib: usage.max_rss_bytes / 1024,
                read_bytes: usage.read_bytes,
                written_bytes: usage.written_bytes,
            },
            changes: Default::default(),
        };
        let session = self.session.take().expect("only finish() takes it");
        let kept = if self.disposable { Ok(()) } else { self.keep(&session, &mut outcome) };
        let cleared = clear(&session, &run_dirs(&self.scratch));
        self.core.release(session);
        kept?;
        cleared?;
        Ok(outcome)
    }

    /// Turns the upper directory into a state and remembers the run.
    fn keep(&self, session: &Session, outcome: &mut Outcome) -> Result<()> {
        let core = &self.core;
        let mut batch = core.store.batch()?;
        let mut dirty = false;
        let mut tree = self.resolved.base;
        let mut applied = None;
        if !self.resolved.spec.read_only {
            applied = Some(self.capture(session, &mut batch, &mut tree)?);
            dirty = tree != self.resolved.base;
        }
        let value = object::State { root: tree, config: self.resolved.config.clone() };
        let mut id = value.id();
        outcome.changed = id != self.parent.id;
        if outcome.changed {
            batch.put_state(&value)?;
        }
        let stdout = output(&batch, &outcome.stdout)?;
        let stderr = output(&batch, &outcome.stderr)?;
        let large = matches!(stdout, OutputRecord::Blob(..)) || matches!(stderr, OutputRecord::Blob(..));
        if outcome.changed || large {
            batch.commit()?;
        }
        let mut value = value;
        if outcome.changed {
            outcome.changes = core.count_changes(&self.parent.value.root, &tree)?;
            if let Some(known) = self.same_but_for_times(&tree)? {
                // The run gave again what is remembered: the state keeps its name.
                id = known;
                value = core.store.state(&known)?;
            } else if let (true, Some(Applied { entries, upper_is_exact: true })) = (dirty, applied) {
                let name = core.layer_name(&tree, &self.scratch);
                session.rename(&run_dirs(&self.scratch).upper, &core.layout().layers().join(&name))?;
                core.enter_layer(name, tree, &self.stack, entries)?;
            }
        }
        let seq = core.index.insert_run(&self.row(outcome, id, stdout, stderr))?;
        outcome.state = Some(if outcome.changed {
            let origin = Origin::of_run(seq, self.parent.clone());
            State { core: Arc::clone(core), id, value: Arc::new(value), origin }
        } else {
            self.parent.clone()
        });
        outcome.tree = outcome.state.as_ref().map(State::tree);
        Ok(())
    }

    fn capture(&self, session: &Session, batch: &mut Batch<'_>, tree: &mut TreeId) -> Result<Applied> {
        let core = &self.core;
        let worker = core.worker()?;
        let captured = session.capture(CaptureOptions {
            upper: run_dirs(&self.scratch).upper,
            objects: core.layout().objects(),
            scratch: batch.scratch().to_owned(),
        })?;
        for entry in &captured {
            if let crate::worktree::layer::CapturedNode::File { blob, placed: true, .. } = &entry.node {
                batch.note_placed(*blob);
            }
        }
        let root = core.store.root(tree)?;
        let mut draft = Draft::from_root(&core.store, *tree, root);
        let recorded = self.resolved.spec.root_mode == RootMode::Recorded;
        let ids = IdRange { mapped: mapped_ids(worker.identity()), recorded };
        let applied = apply(&mut draft, &captured, ids, self.resolved.spec.epoch)?;
        (*tree, _) = draft.finish(batch)?;
        Ok(applied)
    }

    /// The state that an earlier run of the same key led to, when it differs from this tree in nothing but modification times.
    ///
    /// So a build step that does the same again, run afresh, gives the same state id, and files keep the times of one run.
    fn same_but_for_times(&self, tree: &TreeId) -> Result<Option<StateId>> {
        let Some(key) = &self.resolved.key else { return Ok(None) };
        let Some(known) = self.core.index.newest_successful_run(key)? else { return Ok(None) };
        let state = match self.core.store.state(&known.result) {
            Ok(state) if state.config == self.resolved.config => state,
            Ok(_) => return Ok(None),
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(self.core.differ_in_times_only(&state.root, tree)?.then_some(known.result))
    }

    fn row(&self, outcome: &Outcome, result: StateId, stdout: OutputRecord, stderr: OutputRecord) -> Run {
        // A run whose input was not known beforehand is remembered under a key that nothing asks for.
        let key = self.resolved.key.unwrap_or_else(|| {
            let mut hasher = object::BlobHasher::new();
            hasher.update(b"piped");
            hasher.update(&self.started_ms.to_le_bytes());
            hasher.update(self.scratch.path().as_os_str().as_encoded_bytes());
            object::RunKey::from_bytes(*hasher.finish().as_bytes())
        });
        Run {
            key,
            parent: self.parent.id,
            result,
            spec: self.resolved.spec.encode(),
            command: self.resolved.spec.program.text(),
            changed: outcome.changed,
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            timed_out: outcome.timed_out,
            stdout,
            stderr,
            truncated: outcome.truncated,
            usage: Usage {
                user_ms: outcome.resources.user_ms,
                system_ms: outcome.resources.system_ms,
                max_rss_kib: outcome.resources.max_rss_kib,
                read_bytes: outcome.resources.read_bytes,
                written_bytes: outcome.resources.written_bytes,
            },
            duration_ms: outcome.duration.as_secs_f64() * 1000.0,
            started_ms: self.started_ms,
            added: outcome.changes.added,
            modified: outcome.changes.modified,
            deleted: outcome.changes.deleted,
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        if self.ended.is_none() {
            let _ = self.killer.kill();
            let _ = self.exit.recv();
        }
        let _ = clear(&session, &run_dirs(&self.scratch));
    }
}

/// Removes what a run left and nobody keeps. What belongs to mapped ids only the worker can remove.
fn clear(session: &Session, dirs: &RunDirs) -> Result<(), SessionError> {
    match crate::sandbox::remove_tree(&dirs.all) {
        Ok(()) => Ok(()),
        Err(_) => session.remove(&dirs.all),
    }
}

fn output(batch: &Batch<'_>, bytes: &[u8]) -> Result<OutputRecord> {
    if bytes.len() <= MAX_INLINE_OUTPUT_BYTES {
        return Ok(OutputRecord::Inline(bytes.to_vec()));
    }
    Ok(OutputRecord::Blob(batch.put_blob(bytes, None)?, bytes.len() as u64))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Error::disk("make", "a pipe", errno.into()))
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::disk("start", "a thread", error))
}

/// Reads a stream to its end, keeps what fits and passes everything on.
fn pump(from: OwnedFd, stream: Stream, limit: u64, sink: Option<Sink>) -> Result<JoinHandle<Kept>> {
    spawn("treebox-output", move || {
        let mut from = File::from(from);
        let mut kept = Kept::default();
        let mut buffer = vec![0; PIPE_READ_BYTES];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return kept,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return kept,
            };
            let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(kept.bytes.len());
            kept.bytes.extend_from_slice(&buffer[..count.min(room)]);
            kept.truncated |= count > room;
            if let Some(sink) = &sink {
                sink(stream, &buffer[..count]);
            }
        }
    })
}

/// Writes all bytes to a running command's input; a command that has closed it is no error.
pub(super) fn feed(stdin: &mut File, bytes: &[u8]) -> Result<()> {
    match stdin.write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::disk("write to", "the command's input", error))
        }
        _ => Ok(()),
    }
}
