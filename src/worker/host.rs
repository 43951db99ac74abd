//! The host's end: starts a worker and asks it for sessions. Blocking; usable from any thread.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::WORKER_ARGUMENT;
use super::protocol::{Hello, Order, PROTOCOL, receive, send};
use super::session::Session;
use crate::sandbox::{Channel, FrameError, Identity, IdentityChoice, IdentityError, assign};

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The executable that calls [`hook`](super::hook). A stable path: AppArmor profiles attach to paths.
    pub program: PathBuf,
    /// Which ids it is to have.
    pub identity: IdentityChoice,
}

/// Why there is no worker or no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The executable cannot be started.
    #[error("cannot start the worker {}: {source}", program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The executable ended without a word.
    #[error("{} ended without speaking as a worker; does its main begin with `treebox::worker::hook()`?",
        program.display())]
    Silent {
        /// The executable.
        program: PathBuf,
    },
    /// The executable speaks another version of the protocol.
    #[error("{} speaks version {theirs} of the worker protocol, this program version {PROTOCOL}; use the same treebox",
        program.display())]
    Protocol {
        /// The executable.
        program: PathBuf,
        /// Its version.
        theirs: u32,
    },
    /// User namespaces are refused.
    #[error("the kernel refuses a user namespace: {source}: {hint}; `treebox doctor` tells more")]
    NoUserNamespace {
        /// The cause.
        source: io::Error,
        /// The likely cause behind it.
        hint: &'static str,
    },
    /// The ids could not be assigned.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The conversation broke off.
    #[error("the worker is gone: {0}")]
    Gone(#[from] FrameError),
    /// A socket pair could not be made.
    #[error("cannot make a socket pair for the worker: {0}")]
    Socket(io::Error),
}

/// A running worker. Dropping it ends it, with every session and sandbox.
#[derive(Debug)]
pub struct Worker {
    control: Channel,
    child: Mutex<Child>,
    identity: Identity,
    fallback: Option<String>,
    /// The first session, which was asked for before the id maps were written: its process is made while they are.
    first: Mutex<Option<Session>>,
}

impl Worker {
    /// Starts a worker and gives it its ids.
    pub fn start(options: &WorkerOptions) -> Result<Self, WorkerError> {
        match Self::start_with(options, options.identity) {
            // A failed attempt may have written half of the maps, so one id needs a new process.
            Err(WorkerError::Identity(err)) if options.identity == IdentityChoice::Auto => {
                let mut worker = Self::start_with(options, IdentityChoice::Single)?;
                worker.fallback = Some(err.to_string());
                Ok(worker)
            }
            other => other,
        }
    }

    fn start_with(options: &WorkerOptions, choice: IdentityChoice) -> Result<Self, WorkerError> {
        let program = &options.program;
        let (control, theirs) = Channel::pair().map_err(WorkerError::Socket)?;
        let child = Command::new(program)
            // What /proc/1/cmdline shows inside a sandbox; the path would tell about the host.
            .arg0("treebox-worker")
            .arg(WORKER_ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| WorkerError::Spawn { program: program.clone(), source })?;
        let pid = child.id() as i32;
        let mut child = Unfinished(Some(child));
        // A worker that ends at once is told apart below, by what it said or did not say.
        let first = Self::new_session(&control).ok();
        let hello = match receive::<Hello>(&control) {
            Ok(Some((hello, _))) => hello,
            Ok(None) | Err(FrameError::Cut) => return Err(WorkerError::Silent { program: program.clone() }),
            Err(err) => return Err(err.into()),
        };
        if hello.protocol != PROTOCOL {
            return Err(WorkerError::Protocol { program: program.clone(), theirs: hello.protocol });
        }
        if hello.unshare_errno != 0 {
            let source = io::Error::from_raw_os_error(hello.unshare_errno);
            let hint = crate::sandbox::namespace_hint(hello.unshare_errno);
            return Err(WorkerError::NoUserNamespace { source, hint });
        }
        let identity = assign(pid, choice)?;
        match child.0.take() {
            Some(child) => {
                let (child, first) = (Mutex::new(child), Mutex::new(first));
                Ok(Self { control, child, identity, fallback: None, first })
            }
            None => Err(WorkerError::Silent { program: program.clone() }),
        }
    }

    /// The ids it has.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Why it has one id only, if more were tried first.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// The pid of the worker's master.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Starts a session. Sessions run side by side.
    pub fn session(&self) -> Result<Session, WorkerError> {
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(session) => Ok(session),
            None => Self::new_session(&self.control),
        }
    }

    fn new_session(control: &Channel) -> Result<Session, WorkerError> {
        let (channel, theirs) = Channel::pair().map_err(WorkerError::Socket)?;
        send(control, &Order::NewSession, &[theirs.as_fd()])?;
        Ok(Session::new(channel))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.control.shutdown();
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It ends at the closing of its socket; sessions and sandboxes follow through the kernel.
        let _ = child.wait();
    }
}

/// A child that is killed and collected unless it is taken out.
struct Unfinished(Option<Child>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
