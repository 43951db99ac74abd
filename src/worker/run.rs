//! The host's end of one run.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::line::Line;
use super::protocol::{Request, Response, send};
use super::session::SessionError;
use crate::sandbox::{Ending, Exceeded, Plan, Usage};

/// A sandbox with its command, or a command that joined one. Dropping it before its end kills it and waits.
#[derive(Debug)]
pub struct Running {
    line: Arc<Line>,
    run: u64,
    pid: i32,
    began: Instant,
    over: bool,
    /// Whether its end makes the session free again.
    claims: bool,
    terminal: Option<OwnedFd>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The payload's exit code, or the signal that killed it.
    pub ending: Ending,
    /// What it has used, with everything it waited for.
    pub usage: Usage,
    /// The bound for which the sandbox was killed, or was found to be over at its end.
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
    pub(crate) fn new(
        line: Arc<Line>,
        run: u64,
        (pid, terminal): (i32, Option<OwnedFd>),
        began: Instant,
        claims: bool,
    ) -> Self {
        Self { line, run, pid, began, over: false, claims, terminal }
    }

    /// The pid of the sandbox's init on the host, or of the command itself when it joined a sandbox.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The master of the terminal that the plan asked for; once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// A handle for other threads.
    pub fn killer(&self) -> Killer {
        Killer { line: Arc::clone(&self.line), run: self.run }
    }

    /// Passes a signal to the payload; see [`Killer::signal`].
    pub fn signal(&self, signal: i32) -> Result<(), SessionError> {
        self.killer().signal(signal)
    }

    /// Kills everything in the sandbox; of a command that joined one what belongs to the command.
    pub fn kill(&self) -> Result<(), SessionError> {
        self.killer().kill()
    }

    /// Waits until nothing of the sandbox is left, its mounts included. The session is then free again.
    ///
    /// A command that joined a sandbox is waited for alone.
    pub fn wait(mut self) -> Result<Exit, SessionError> {
        match self.finish(None)? {
            Some(exit) => Ok(exit),
            None => Err(SessionError::Ended),
        }
    }

    /// Waits as [`Running::wait`] does, until a point in time at most; `None` when that has come.
    pub fn wait_until(&mut self, until: Instant) -> Result<Option<Exit>, SessionError> {
        self.finish(Some(until))
    }

    fn finish(&mut self, until: Option<Instant>) -> Result<Option<Exit>, SessionError> {
        match self.line.receive(self.run, until) {
            Ok(None) => Ok(None),
            Ok(Some((Response::Exited { ending, usage, exceeded, .. }, _))) => {
                self.over = true;
                if self.claims {
                    self.line.busy.store(false, Ordering::Release);
                }
                Ok(Some(Exit { ending, usage, exceeded, duration: self.began.elapsed() }))
            }
            Ok(Some(_)) => {
                self.over = true;
                Err(SessionError::OutOfTurn)
            }
            Err(error) => {
                self.over = true;
                Err(error)
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.kill();
            let _ = self.finish(None);
        }
    }
}

/// A sandbox in which several commands run, one after the other or at once. Dropping it kills everything inside and waits.
#[derive(Debug)]
pub struct Sandbox {
    init: Running,
}

impl Sandbox {
    pub(crate) fn new(init: Running) -> Self {
        Self { init }
    }

    /// The pid of its init on the host.
    pub fn pid(&self) -> i32 {
        self.init.pid
    }

    /// Runs a command beside the others; of the plan what concerns the payload counts. Returns when its program has been executed.
    pub fn run(&self, plan: Plan, streams: [OwnedFd; 3]) -> Result<Running, SessionError> {
        let (began, line) = (Instant::now(), &self.init.line);
        let run = line.new_run();
        let request = Request::Join { run, within: self.init.run, plan: Box::new(plan) };
        let started = line.start(run, &request, &streams)?;
        Ok(Running::new(Arc::clone(line), run, started, began, false))
    }

    /// Kills everything inside and waits until nothing is left, its mounts included. The session is then free again.
    pub fn end(self) -> Result<Exit, SessionError> {
        self.init.kill()?;
        self.init.wait()
    }

    /// Ends it from elsewhere.
    pub fn killer(&self) -> Killer {
        self.init.killer()
    }
}
