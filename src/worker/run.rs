//! The host's end of one run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::protocol::{Request, Response, send};
use super::session::{Line, SessionError};
use crate::sandbox::{Ending, Exceeded, Usage};

/// A sandbox under way. Dropping it before its end kills it and waits.
#[derive(Debug)]
pub struct Running {
    line: Arc<Line>,
    run: u64,
    pid: i32,
    began: Instant,
    over: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The payload's exit code, or the signal that killed it.
    pub ending: Ending,
    /// What it has used, with everything it waited for.
    pub usage: Usage,
    /// The bound for which it was killed, or was found to be over at its end.
    pub exceeded: Option<Exceeded>,
    /// Time from the request to the answer, as the host saw it.
    pub duration: Duration,
}

impl Exit {
    /// The exit code, or 128 plus the number of the signal, as shells count.
    pub fn code(&self) -> i32 {
        match self.ending {
            Ending::Code(code) => code,
            Ending::Signal(signal) => 128 + signal,
        }
    }
}

/// Speaks to a run from elsewhere, while [`Running::wait`] blocks. After the run's end it does nothing.
#[derive(Debug, Clone)]
pub struct Killer {
    line: Arc<Line>,
    run: u64,
}

impl Killer {
    /// Passes a signal to the payload; what a terminal would send goes to its whole process group.
    pub fn signal(&self, signal: i32) -> Result<(), SessionError> {
        Ok(send(&self.line.channel, &Request::Signal { run: self.run, signal }, &[])?)
    }

    /// Kills everything in the sandbox.
    pub fn kill(&self) -> Result<(), SessionError> {
        Ok(send(&self.line.channel, &Request::Kill { run: self.run }, &[])?)
    }
}

impl Running {
    pub(crate) fn new(line: Arc<Line>, run: u64, pid: i32, began: Instant) -> Self {
        Self { line, run, pid, began, over: false }
    }

    /// The pid of the sandbox's init on the host.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A handle for other threads.
    pub fn killer(&self) -> Killer {
        Killer { line: Arc::clone(&self.line), run: self.run }
    }

    /// Passes a signal to the payload; see [`Killer::signal`].
    pub fn signal(&self, signal: i32) -> Result<(), SessionError> {
        self.killer().signal(signal)
    }

    /// Kills everything in the sandbox.
    pub fn kill(&self) -> Result<(), SessionError> {
        self.killer().kill()
    }

    /// Waits until nothing of the sandbox is left, its mounts included. The session is then free again.
    pub fn wait(mut self) -> Result<Exit, SessionError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<Exit, SessionError> {
        self.over = true;
        match self.line.receive()? {
            Response::Exited { ending, usage, exceeded } => {
                self.line.busy.store(false, Ordering::Release);
                Ok(Exit { ending, usage, exceeded, duration: self.began.elapsed() })
            }
            _ => Err(SessionError::OutOfTurn),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.kill();
            let _ = self.finish();
        }
    }
}
