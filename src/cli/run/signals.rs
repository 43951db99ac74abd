//! Signals that are meant for the command: Ctrl-C, termination, hang-up.
//!
//! They are blocked in the whole process and taken by one thread, so no handler runs in the middle of anything. The first
//! that asks for an end goes to the command, the second kills it; treebox then ends as the command did. A third ends treebox
//! itself, which is safe at any instant: what is half-made is swept at the next start.
//!
//! While the command has the terminal, Ctrl-C is a key like any other and no signal comes of it here. A change of the
//! terminal's size is passed on, and when this process is stopped or goes on, the terminal is put back or made raw again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use treebox::{Cancel, Killer, Terminal};

use super::terminal;

/// Takes signals and directs them to the command.
#[derive(Clone)]
pub(in crate::cli) struct Signals(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    command: Command,
    terminal: Option<Terminal>,
    /// How many that ask for an end came, before the command or since it runs.
    count: u32,
    /// One that came before the command was there.
    waiting: Option<Signal>,
    /// What ends then: the wait for others.
    until_then: Cancel,
    /// The first that asked for an end.
    ending: Option<Signal>,
}

#[derive(Default)]
enum Command {
    #[default]
    NotYet,
    Running(Killer),
    /// Several, which end together.
    Several(Cancel),
    Ended,
}

/// Signals that ask for an end.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals that programs give a meaning of their own.
const CHOSEN: [Signal; 2] = [Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals about the terminal and this process's place at it.
const TERMINAL: [Signal; 3] = [Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGCONT];

impl Signals {
    /// Begins to take signals. Call it before any other thread is started: threads inherit what is blocked.
    ///
    /// `tty` says that the command gets a terminal.
    pub(in crate::cli) fn watch(tty: bool) -> Self {
        let signals = Self(Arc::default());
        let mut set = SigSet::empty();
        let about_terminal = TERMINAL.iter().filter(|_| tty);
        for signal in ENDING.iter().chain(&CHOSEN).chain(about_terminal) {
            // What was ignored when this program was started (`nohup`, a job in the background) stays ignored.
            if !is_ignored(*signal) {
                set.add(*signal);
            }
        }
        if set.thread_block().is_err() {
            return signals;
        }
        let taker = signals.clone();
        std::thread::spawn(move || {
            while let Ok(signal) = set.wait() {
                taker.take(signal);
            }
        });
        signals
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, signal: Signal) {
        match signal {
            Signal::SIGWINCH => self.resize(),
            Signal::SIGTSTP => {
                terminal::restore();
                // The very stop that was asked for; this goes on when somebody continues the process, and with SIGCONT then.
                let _ = nix::sys::signal::raise(Signal::SIGSTOP);
            }
            Signal::SIGCONT => {
                terminal::resume();
                self.resize();
            }
            signal if CHOSEN.contains(&signal) => {
                if let Command::Running(killer) = &self.seen().command {
                    drop(killer.signal(signal as i32));
                }
            }
            signal => self.end(signal),
        }
    }

    fn resize(&self) {
        if let Some(terminal) = &self.seen().terminal {
            // A command that ends at this moment is no failure.
            let _ = terminal.resize(terminal::size());
        }
    }

    fn end(&self, signal: Signal) {
        let mut seen = self.seen();
        seen.count += 1;
        seen.ending.get_or_insert(signal);
        let count = seen.count;
        // A command that ends at this moment is no failure.
        match &seen.command {
            Command::Running(killer) if count == 1 => drop(killer.signal(signal as i32)),
            Command::Running(killer) if count == 2 => drop(killer.kill()),
            Command::Several(cancel) if count == 1 => cancel.cancel(),
            Command::NotYet if count == 1 => {
                seen.until_then.cancel();
                seen.waiting = Some(signal);
            }
            // While the result is kept, one Ctrl-C is not enough to lose it.
            Command::Ended if count == 1 => {}
            _ => {
                terminal::restore();
                std::process::exit(128 + signal as i32)
            }
        }
    }

    /// Before the command is there, the first signal that asks for an end cancels this.
    pub(in crate::cli) fn until_then(&self, cancel: Cancel) {
        let mut seen = self.seen();
        if seen.waiting.is_some() {
            cancel.cancel();
        }
        seen.until_then = cancel;
    }

    /// The command is there: what came before goes to it, and so does what comes from now on.
    pub(super) fn direct_to(&self, killer: Killer, terminal: Option<Terminal>) {
        let mut seen = self.seen();
        if let Some(signal) = seen.waiting.take() {
            drop(killer.signal(signal as i32));
        }
        seen.command = Command::Running(killer);
        seen.terminal = terminal;
        drop(seen);
        // It may have changed since the size was read.
        self.resize();
    }

    /// Several commands are under way, or will be: the first signal that asks for an end ends all of them.
    pub(in crate::cli) fn direct_to_all(&self, cancel: Cancel) {
        let mut seen = self.seen();
        if seen.waiting.take().is_some() {
            cancel.cancel();
        }
        seen.command = Command::Several(cancel);
    }

    /// The number of the first signal that asked for an end.
    pub(in crate::cli) fn ended_by(&self) -> Option<i32> {
        self.seen().ending.map(|signal| signal as i32)
    }

    /// The command has ended: nothing is left to signal.
    pub(in crate::cli) fn command_ended(&self) {
        let mut seen = self.seen();
        seen.command = Command::Ended;
        seen.terminal = None;
    }
}

/// Whether this process ignores a signal, as the kernel shows it.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}
