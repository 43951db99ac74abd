//! The host's end of the socket with a session: who waits for which message.
//!
//! Several runs of one session may be waited for at once, by as many threads. Whoever comes first reads the socket for all;
//! what is meant for others it puts aside and wakes them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::protocol::{Request, Response, receive, send};
use super::session::SessionError;
use crate::sandbox::{Channel, FrameError};

/// What a session shares with its runs.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) channel: Channel,
    /// The number of the latest run; 0 is no run.
    runs: AtomicU64,
    pub(crate) busy: AtomicBool,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

/// Messages that have come and not been taken yet.
#[derive(Debug, Default)]
struct Inbox {
    waiting: VecDeque<Message>,
    /// Somebody reads the socket.
    reading: bool,
    /// Nothing more will come.
    closed: bool,
}

type Message = (Response, Vec<OwnedFd>);

impl Line {
    pub(crate) fn new(channel: Channel) -> Self {
        let (inbox, arrived) = (Mutex::default(), Condvar::new());
        Self { channel, runs: AtomicU64::new(0), busy: AtomicBool::new(false), inbox, arrived }
    }

    /// A number for a run that has not been asked for yet.
    pub(crate) fn new_run(&self) -> u64 {
        self.runs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Asks for a run and waits until its program has been executed; gives its pid and its terminal.
    pub(crate) fn start(
        &self,
        run: u64,
        request: &Request,
        streams: &[OwnedFd],
    ) -> Result<(i32, Option<OwnedFd>), SessionError> {
        let fds: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        send(&self.channel, request, &fds)?;
        match self.receive(run, None)? {
            Some((Response::Started { pid, .. }, fds)) => Ok((pid, fds.into_iter().next())),
            Some((Response::NotStarted { error, .. }, _)) => Err(error.into()),
            _ => Err(SessionError::OutOfTurn),
        }
    }

    /// The answer to a request that is not about a run.
    pub(crate) fn answer(&self) -> Result<Response, SessionError> {
        match self.receive(0, None)? {
            Some((response, _)) => Ok(response),
            None => Err(SessionError::Ended),
        }
    }

    /// The next message about a run, waited for until a point in time; `None` when that has come.
    pub(crate) fn receive(&self, run: u64, until: Option<Instant>) -> Result<Option<Message>, SessionError> {
        let mut inbox = self.inbox();
        loop {
            if let Some(at) = inbox.waiting.iter().position(|(response, _)| response.run() == run) {
                return Ok(inbox.waiting.remove(at));
            }
            if inbox.closed {
                return Err(SessionError::Ended);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            if inbox.reading {
                inbox = match left {
                    None => self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => {
                        self.arrived.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                continue;
            }
            inbox.reading = true;
            drop(inbox);
            let read = self.read(until);
            inbox = self.inbox();
            inbox.reading = false;
            let failure = match read {
                Ok(Some(Some(message))) => {
                    inbox.waiting.push_back(message);
                    None
                }
                Ok(None) => None,
                Ok(Some(None)) => Some(SessionError::Ended),
                Err(error) => Some(error.into()),
            };
            inbox.closed |= failure.is_some();
            self.arrived.notify_all();
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
    }

    /// One message from the socket: `None` when the time has come, `Some(None)` at the end.
    fn read(&self, until: Option<Instant>) -> Result<Option<Option<Message>>, FrameError> {
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now());
            // A millisecond more than is left, so that the time has come afterwards.
            let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut socket = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut socket, left), Ok(1)) {
                return Ok(None);
            }
        }
        receive::<Response>(&self.channel).map(Some)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
