//! Single flight: of several who want the same result at once, in this process or others, one works and the others wait for what comes of it.
//!
//! Nobody waits for a command that only looks: it would run again anyway. Who waited for something that then cannot be used (it failed, it was an observation) goes
//! on by itself, at once with all others who waited.
//!
//! # Locking
//! A flight is a [`Turn`] below `flights/`. Who has one does what it is for and waits for no other, so nobody waits in a circle. A command that is started by
//! a live handle takes no part, for it is the caller who says when that ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cancel::Cancel;
use super::command::{Command, Reuse};
use super::core::Core;
use super::error::{Error, Result};
use super::outcome::Outcome;
use super::spec::Resolved;
use super::state::State;
use crate::disk::{Asked, Look, Turn};
use crate::object::RunKey;
use crate::oci::{Digest, LAYER_RULES};

/// How long is waited before it is looked again; it grows up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Who waits so long is told for whom.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// The right to do what others wait for. Dropped, or when this process dies, one of those who wait takes over.
pub(super) struct Flight(Turn);

impl Flight {
    /// What it was for is done, well or not: nobody need try it for the others first.
    pub(super) fn land(flight: Option<Self>) {
        if let Some(flight) = flight {
            flight.0.done();
        }
    }
}

/// What came of looking for a result that somebody may be making.
pub(super) enum Flown<T> {
    /// It is there.
    Found(T),
    /// It is not there. The caller makes it, and others wait for that.
    Mine(Flight),
    /// It is not there, and nobody waits for the caller's.
    Alone,
}

/// How long somebody waits, and for what.
struct Patience<'p> {
    deadline: Option<Instant>,
    cancels: &'p [&'p Cancel],
    /// What the others do, as in "which …".
    what: &'p str,
}

impl Core {
    /// What is remembered of a command on that parent, or the right to run it.
    ///
    /// Waits while others run the same, unless its result would not be used; at most as long as the command may take.
    pub(super) fn board(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: &Resolved,
        cancels: &[&Cancel],
    ) -> Result<Flown<Box<Outcome>>> {
        if let Some(outcome) = self.remembered(parent, command, resolved)? {
            return Ok(Flown::Found(Box::new(outcome)));
        }
        let Some(key) = self.awaited(command, resolved)? else { return Ok(Flown::Alone) };
        let patience = Patience {
            deadline: command.timeout.and_then(|limit| Instant::now().checked_add(limit)),
            cancels,
            what: "runs the same command on the same state",
        };
        let look = || Ok(self.remembered(parent, command, resolved)?.map(Box::new));
        self.fly(&format!("run-{key}"), &patience, look)
    }

    /// The key under which a command's result is worth being waited for.
    fn awaited(&self, command: &Command, resolved: &Resolved) -> Result<Option<RunKey>> {
        let Some(key) = resolved.key else { return Ok(None) };
        if command.disposable || command.reuse == Reuse::Never {
            return Ok(None);
        }
        // What ended by itself and changed nothing is taken for an observation, whose next result would not be used either.
        let only_looks = |run: &crate::index::Run| !run.changed && run.signal.is_none() && !run.timed_out;
        if command.reuse == Reuse::Auto && self.index.newest_run(&key)?.is_some_and(|run| only_looks(&run)) {
            return Ok(None);
        }
        Ok(Some(key))
    }

    /// The right to bring in the layers that a chain names, once nobody else does; `None` when they are known or need not be waited for.
    pub(super) fn board_image(&self, chain: Option<&Digest>) -> Result<Option<Flight>> {
        let Some(chain) = chain else { return Ok(None) };
        let text = chain.to_string();
        let known = || Ok(self.index.chain(&text, LAYER_RULES)?.map(|_| ()));
        if known()?.is_some() {
            return Ok(None);
        }
        let patience = Patience { deadline: None, cancels: &[], what: "brings the same image in" };
        let name = format!("image-{}", text.replace(':', "-"));
        match self.fly(&name, &patience, known)? {
            Flown::Mine(flight) => Ok(Some(flight)),
            Flown::Found(()) | Flown::Alone => Ok(None),
        }
    }

    /// Looks for a result when it is the caller's turn to make it, or when somebody else has made it.
    fn fly<T>(
        &self,
        name: &str,
        patience: &Patience<'_>,
        look: impl Fn() -> Result<Option<T>>,
    ) -> Result<Flown<T>> {
        let path = self.layout().flights().join(name);
        let mine = |turn: Turn| match look()? {
            // It came between the last look and the turn.
            Some(found) => {
                turn.done();
                Ok(Flown::Found(found))
            }
            None => Ok(Flown::Mine(Flight(turn))),
        };
        let begun = Instant::now();
        let (mut pause, mut told) = (FIRST_PAUSE, false);
        loop {
            let mut waiting = match Turn::ask(&path)? {
                Asked::Mine(turn) => return mine(turn),
                Asked::Theirs(waiting) => waiting,
            };
            loop {
                waiting = match waiting.look()? {
                    Look::Theirs(waiting) => waiting,
                    Look::Mine(turn) => return mine(turn),
                    Look::Over { done: true } => return Ok(look()?.map_or(Flown::Alone, Flown::Found)),
                    Look::Over { done: false } => break,
                };
                let who = || match waiting.owner() {
                    Some(pid) if pid == std::process::id() => "another thread".to_owned(),
                    Some(pid) => format!("process {pid}"),
                    None => "another process".to_owned(),
                };
                let cancels = patience.cancels.iter().copied().chain([&self.options.cancel]);
                if cancels.into_iter().any(Cancel::is_cancelled) {
                    return Err(Error::cancelled(format!(
                        "stopped waiting for {}, which {}",
                        who(),
                        patience.what
                    )));
                }
                if patience.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(Error::TimedOut(format!(
                        "the time was up before {} had ended, which {}",
                        who(),
                        patience.what
                    )));
                }
                if !told && begun.elapsed() >= TELL_AFTER {
                    told = true;
                    self.notice(&format!("waiting for {}, which {}", who(), patience.what));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
