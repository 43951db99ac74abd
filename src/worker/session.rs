//! The host's end of one session.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::line::Line;
use super::protocol::{ENTRIES_PER_MESSAGE, Request, Response, send};
use super::run::{Running, Sandbox};
use crate::sandbox::{Channel, FrameError, LaunchError, Plan};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The sandbox could not be started; the session goes on.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The request failed in the worker; the session goes on.
    #[error("{message}")]
    Refused {
        /// What failed, on what, and why.
        message: String,
        /// The cause.
        source: io::Error,
    },
    /// A run of this session has not ended yet.
    #[error("the session is busy with a run")]
    Busy,
    /// The worker, or the session's process, has ended.
    #[error("the worker's session has ended; its messages are on standard error")]
    Ended,
    /// The session said what it may not say at this point.
    #[error("the worker's session answered out of turn")]
    OutOfTurn,
    /// The conversation broke off.
    #[error("the conversation with the worker's session broke off: {0}")]
    Frame(FrameError),
}

impl From<FrameError> for SessionError {
    fn from(err: FrameError) -> Self {
        match err {
            FrameError::Cut => Self::Ended,
            FrameError::Socket { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => Self::Ended,
            err => Self::Frame(err),
        }
    }
}

/// A process of the worker that serves one request at a time. Dropping it, and every run of it, ends the process.
#[derive(Debug)]
pub struct Session {
    pub(super) line: Arc<Line>,
}

impl Session {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { line: Arc::new(Line::new(channel)) }
    }

    /// Starts a sandbox on the given standard input, output and error; returns when its program has been executed.
    ///
    /// With a terminal in the plan that takes the place of the streams; see [`Running::take_terminal`].
    pub fn run(&self, mut plan: Plan, streams: [OwnedFd; 3]) -> Result<Running, SessionError> {
        let began = Instant::now();
        let claim = self.claim()?;
        self.tell_owned(&mut plan)?;
        let run = self.line.new_run();
        let started = self.line.start(run, &Request::Run { run, plan: Box::new(plan) }, &streams)?;
        claim.keep();
        Ok(Running::new(Arc::clone(&self.line), run, started, began, true))
    }

    /// Starts a sandbox in which commands are to run; what the plan says about a payload does not count.
    pub fn open(&self, mut plan: Plan) -> Result<Sandbox, SessionError> {
        let began = Instant::now();
        let claim = self.claim()?;
        self.tell_owned(&mut plan)?;
        let run = self.line.new_run();
        let started = self.line.start(run, &Request::Open { run, plan: Box::new(plan) }, &[])?;
        claim.keep();
        Ok(Sandbox::new(Running::new(Arc::clone(&self.line), run, started, began, true)))
    }

    /// Sends ahead what a plan says of the image's owners: an image can have more of them than a message holds.
    fn tell_owned(&self, plan: &mut Plan) -> Result<(), SessionError> {
        let owned = plan.emulation.as_mut().map(|emulation| std::mem::take(&mut emulation.owned));
        let owned = owned.unwrap_or_default();
        for some in owned.chunks(ENTRIES_PER_MESSAGE) {
            send(&self.line.channel, &Request::Owned(some.to_vec()), &[])?;
        }
        Ok(())
    }

    /// Removes whatever is at `path`, as root of the namespace; nothing there is success.
    pub fn remove(&self, path: &Path) -> Result<(), SessionError> {
        self.ask(&Request::Remove { path: path.as_os_str().as_bytes().to_vec() })
    }

    /// Renames a file or directory, as root of the namespace.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), SessionError> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        self.ask(&Request::Rename { from: bytes(from), to: bytes(to) })
    }

    fn ask(&self, request: &Request) -> Result<(), SessionError> {
        let _claim = self.claim()?;
        send(&self.line.channel, request, &[])?;
        match self.line.answer()? {
            Response::Done => Ok(()),
            Response::Failed { errno, message } => {
                Err(SessionError::Refused { message, source: io::Error::from_raw_os_error(errno) })
            }
            _ => Err(SessionError::OutOfTurn),
        }
    }

    pub(super) fn claim(&self) -> Result<Claim<'_>, SessionError> {
        if self.line.busy.swap(true, Ordering::Acquire) {
            return Err(SessionError::Busy);
        }
        Ok(Claim { busy: &self.line.busy, kept: false })
    }
}

/// The right to speak on a session, given back on drop unless a run keeps it.
pub(super) struct Claim<'a> {
    busy: &'a AtomicBool,
    kept: bool,
}

impl Claim<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.busy.store(false, Ordering::Release);
        }
    }
}
