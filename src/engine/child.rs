//! The process of a command: its streams, its end, and what can be done to it meanwhile.
//!
//! Two kinds of threads belong to one: a pump per stream that reads what comes, and one that waits for the end and
//! keeps the time. Neither depends on whether the handle's owner asks for anything.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::command::{Command, Stdin};
use super::core::now_ms;
use super::error::{Error, Result};
use super::outcome::{Exited, Finished, Resources};
use super::types::{Sink, Stream, Terminal};
use crate::sandbox::{Ending, Plan};
use crate::worker::{Exit, Killer, Running, SessionError};

const READ_BYTES: usize = 64 * 1024;

/// How long a terminal has to be quiet after its command's end before its output counts as complete, while others still have it
/// open. What the kernel passes from one side to the other takes no longer than a moment.
const TERMINAL_QUIET_MS: u16 = 50;

/// A command's process. Dropping it kills it and waits for its end.
pub(super) struct Child {
    killer: Killer,
    pid: i32,
    end: Arc<End>,
    outputs: Option<JoinHandle<[Kept; 2]>>,
    terminal: Option<Terminal>,
    started_ms: i64,
}

/// When a command's output is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complete {
    /// When all that could write to it is gone.
    AtItsEnd,
    /// When the command has ended and what it wrote has been read: a daemon that it left behind may hold the streams for ever.
    WithTheCommand,
}

/// What was kept of an output stream.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    pub(super) truncated: bool,
}

impl Child {
    /// Starts a command by `launch`; gives the writing end of its input when that is piped.
    pub(super) fn start(
        command: &Command,
        mut plan: Plan,
        dir: &Path,
        sink: Option<Sink>,
        complete: Complete,
        launch: impl FnOnce(Plan, [OwnedFd; 3]) -> Result<Running, SessionError>,
    ) -> Result<(Self, Option<File>)> {
        let limit = command.max_output_bytes;
        let tap = |from: OwnedFd, stream| Tap::open(from, stream, limit, sink.clone());
        plan.terminal = command.terminal;
        let (mut running, taps, stdin);
        let mut terminal = None;
        if command.terminal.is_some() {
            running = launch(plan, [null()?, null()?, null()?])?;
            let master = running.take_terminal().ok_or(SessionError::OutOfTurn)?;
            let master = Arc::new(File::from(master));
            taps = [Some(tap(duplicate(&master)?.into(), Stream::Stdout)?), None];
            let device = Terminal::new(Arc::clone(&master));
            stdin = match &command.stdin {
                Stdin::Empty => None,
                Stdin::Piped => Some(duplicate(&master)?),
                Stdin::Bytes(bytes) => {
                    let (bytes, mut input, device) = (bytes.clone(), duplicate(&master)?, device.clone());
                    spawn("treebox-input", move || {
                        // A command that ends before it has read everything is no failure.
                        let _ = input.write_all(&bytes).map(|()| device.end_input());
                    })?;
                    None
                }
            };
            terminal = Some(device);
        } else {
            let (reader, writer) = input(command, dir)?;
            let (stdout, stdout_writer) = pipe()?;
            let (stderr, stderr_writer) = pipe()?;
            running = launch(plan, [reader, stdout_writer, stderr_writer])?;
            taps = [Some(tap(stdout, Stream::Stdout)?), Some(tap(stderr, Stream::Stderr)?)];
            stdin = writer;
        }
        let (killer, pid, end) = (running.killer(), running.pid(), Arc::new(End::default()));
        let deadline = command.timeout.and_then(|limit| Instant::now().checked_add(limit));
        let told = Arc::clone(&end);
        let outputs = spawn("treebox-wait", move || {
            told.tell(wait(running, deadline));
            taps.map(|tap| tap.map(|tap| tap.complete(complete)).unwrap_or_default())
        })?;
        let outputs = Some(outputs);
        Ok((Self { killer, pid, end, outputs, terminal, started_ms: now_ms() }, stdin))
    }

    pub(super) fn killer(&self) -> Killer {
        self.killer.clone()
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn started_ms(&self) -> i64 {
        self.started_ms
    }

    pub(super) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    pub(super) fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// Waits for the end and for the output.
    pub(super) fn finish(&mut self) -> Result<Finished> {
        let (exit, timed_out) = self.end.wait(None)?.ok_or(SessionError::Ended)?;
        let outputs = self.outputs.take().map(JoinHandle::join);
        let [stdout, stderr] = outputs.and_then(Result::ok).unwrap_or_default();
        let Exited { exit_code, signal, .. } = exited(&exit, timed_out);
        Ok(Finished {
            exit_code,
            signal,
            timed_out,
            truncated: stdout.truncated || stderr.truncated,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            duration: exit.duration,
            resources: resources(&exit),
            exceeded: exit.exceeded,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.outputs.is_some() && !self.end.is_told() {
            let _ = self.killer.kill();
            let _ = self.end.wait(None);
        }
    }
}

/// Waits for the end; kills when the time is up, and says whether that is what ended it.
fn wait(mut running: Running, deadline: Option<Instant>) -> Result<(Exit, bool), SessionError> {
    let in_time = match deadline {
        None => None,
        Some(at) => running.wait_until(at)?,
    };
    match (in_time, deadline) {
        (Some(exit), _) => Ok((exit, false)),
        (None, None) => Ok((running.wait()?, false)),
        (None, Some(_)) => {
            running.kill()?;
            let exit = running.wait()?;
            // It may have ended by itself at this very moment.
            Ok((exit, matches!(exit.ending, Ending::Signal(_))))
        }
    }
}

pub(super) fn exited(exit: &Exit, timed_out: bool) -> Exited {
    let (exit_code, signal) = match exit.ending {
        Ending::Code(code) => (Some(code), None),
        Ending::Signal(signal) => (None, Some(signal)),
    };
    Exited { exit_code, signal, timed_out }
}

pub(super) fn resources(exit: &Exit) -> Resources {
    let usage = &exit.usage;
    Resources {
        user_ms: usage.user_micros as f64 / 1000.0,
        system_ms: usage.system_micros as f64 / 1000.0,
        max_rss_kib: usage.max_rss_bytes / 1024,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}

/// The end of a command, once it is known; threads and tasks can wait for it.
#[derive(Default)]
pub(super) struct End {
    told: Mutex<Option<Result<(Exit, bool), SessionError>>>,
    changed: Condvar,
    pub(super) notify: tokio::sync::Notify,
}

impl End {
    fn tell(&self, end: Result<(Exit, bool), SessionError>) {
        *self.lock() = Some(end);
        self.changed.notify_all();
        self.notify.notify_waiters();
    }

    fn is_told(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<(Exit, bool), SessionError>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, at most so long; `None` when it has not ended by then.
    pub(super) fn wait(&self, limit: Option<Duration>) -> Result<Option<(Exit, bool)>, SessionError> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut told = self.lock();
        loop {
            match &*told {
                Some(Ok(end)) => return Ok(Some(*end)),
                // An error is told once in full.
                Some(Err(_)) => {
                    return Err(match told.replace(Err(SessionError::Ended)) {
                        Some(Err(error)) => error,
                        _ => SessionError::Ended,
                    });
                }
                None => {}
            }
            told = match until {
                None if limit.is_some_and(|limit| limit.is_zero()) => return Ok(None),
                None => self.changed.wait(told).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// One output stream that is being read.
struct Tap {
    shared: Arc<(Mutex<Taken>, Condvar)>,
    stream: File,
}

/// What has been read, and what is done with it.
struct Taken {
    kept: Kept,
    read: u64,
    closed: bool,
    /// Nobody wants more: what comes is dropped, so that its writer neither waits nor gets SIGPIPE.
    ignored: bool,
    limit: u64,
    sink: Option<Sink>,
}

impl Tap {
    fn open(from: OwnedFd, stream: Stream, limit: u64, sink: Option<Sink>) -> Result<Self> {
        let taken = Taken { kept: Kept::default(), read: 0, closed: false, ignored: false, limit, sink };
        let shared = Arc::new((Mutex::new(taken), Condvar::new()));
        let file = File::from(from);
        let (theirs, from) = (Arc::clone(&shared), duplicate(&file)?);
        spawn("treebox-output", move || pump(from, stream, &theirs))?;
        Ok(Self { shared, stream: file })
    }

    /// Waits until the output is complete and takes it.
    fn complete(self, when: Complete) -> Kept {
        let (lock, changed) = &*self.shared;
        let mut taken = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut enough = u64::MAX;
        if when == Complete::WithTheCommand && !taken.closed {
            // Nothing is between the stream and `read` while the lock is held.
            let terminal = rustix::termios::isatty(&self.stream);
            enough = match rustix::io::ioctl_fionread(&self.stream) {
                Ok(more) if !terminal => taken.read + more,
                _ => {
                    drop(taken);
                    while !is_quiet(&self.stream) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    taken = lock.lock().unwrap_or_else(PoisonError::into_inner);
                    taken.read
                }
            };
        }
        while !taken.closed && taken.read < enough {
            taken = changed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        taken.ignored = true;
        taken.sink = None;
        std::mem::take(&mut taken.kept)
    }
}

/// Whether nothing comes for a while.
fn is_quiet(stream: &File) -> bool {
    let mut watched = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    let waited = poll(&mut watched, PollTimeout::from(TERMINAL_QUIET_MS));
    // Only hung up: everything has been read.
    matches!(waited, Ok(0)) || watched[0].revents().is_some_and(|events| !events.contains(PollFlags::POLLIN))
}

/// Reads a stream to its end, keeps what fits and passes everything on.
fn pump(mut from: File, stream: Stream, shared: &(Mutex<Taken>, Condvar)) {
    let (lock, changed) = shared;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        // Waited for without the lock, read with it: whoever holds the lock knows that nothing is on its way.
        let mut watched = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut watched, PollTimeout::NONE);
        let mut taken = lock.lock().unwrap_or_else(PoisonError::into_inner);
        match from.read(&mut buffer) {
            Ok(count @ 1..) => taken.take(stream, &buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // The end. A terminal says EIO when nobody has it open any more.
            Ok(_) | Err(_) => {
                taken.closed = true;
                taken.sink = None;
                changed.notify_all();
                return;
            }
        }
        changed.notify_all();
    }
}

impl Taken {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        self.read += bytes.len() as u64;
        if self.ignored {
            return;
        }
        let room = usize::try_from(self.limit).unwrap_or(usize::MAX).saturating_sub(self.kept.bytes.len());
        self.kept.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.kept.truncated |= bytes.len() > room;
        if let Some(sink) = &self.sink {
            sink(stream, bytes);
        }
    }
}

fn input(command: &Command, dir: &Path) -> Result<(OwnedFd, Option<File>)> {
    match &command.stdin {
        Stdin::Piped => {
            let (reader, writer) = pipe()?;
            Ok((reader, Some(File::from(writer))))
        }
        Stdin::Bytes(bytes) if !bytes.is_empty() => {
            let path = dir.join(format!("stdin-{:?}", std::thread::current().id()));
            let write = || {
                std::fs::write(&path, bytes)?;
                let file = File::open(&path)?;
                std::fs::remove_file(&path)?;
                Ok(file)
            };
            Ok((write().map_err(|error| Error::disk("write", &path, error))?.into(), None))
        }
        _ => Ok((null()?, None)),
    }
}

fn null() -> Result<OwnedFd> {
    Ok(File::open("/dev/null").map_err(|error| Error::disk("open", "/dev/null", error))?.into())
}

fn duplicate(file: &File) -> Result<File> {
    file.try_clone().map_err(|error| Error::disk("duplicate", "a stream of the command", error))
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

/// Writes all bytes to a running command's input; a command that has closed it is no error.
pub(super) fn feed(stdin: &mut File, bytes: &[u8]) -> Result<()> {
    match stdin.write_all(bytes) {
        Err(error) if !is_over(&error) => Err(Error::disk("write to", "the command's input", error)),
        _ => Ok(()),
    }
}

/// Whether an error says that the command reads no more: it has closed its pipe, or its terminal is gone.
pub(super) fn is_over(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
