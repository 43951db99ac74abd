//! This process's terminal while a command with a terminal of its own has it: raw, so that every key is the command's.
//!
//! It is put back however this process ends, but for SIGKILL: at the end of the command, on an error, in the panic hook,
//! and before a signal ends or stops the process.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use treebox::TerminalSize;

/// How the terminal on standard input was before it was made raw, and how raw it is to be.
static BEFORE: Mutex<Option<(Termios, Keys)>> = Mutex::new(None);

/// Which keys are left to this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Those that make signals: there is no command yet that could take them.
    Signals,
    /// None.
    Nothing,
}

fn before() -> MutexGuard<'static, Option<(Termios, Keys)>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the terminal raw until it is dropped.
pub(super) struct Raw(());

impl Raw {
    /// Makes the terminal on standard input raw, so that nothing that the command writes passes through its settings; nothing where
    /// that is no terminal. Ctrl-C is still this process's.
    pub(super) fn enter() -> Option<Self> {
        let stdin = io::stdin();
        let settings = tcgetattr(stdin.as_fd()).ok()?;
        *before() = Some((settings, Keys::Signals));
        resume();
        Some(Self(()))
    }

    /// Leaves every key to the command, which is there now.
    pub(super) fn hand_over(&self) {
        if let Some((_, keys)) = &mut *before() {
            *keys = Keys::Nothing;
        }
        resume();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
        *before() = None;
    }
}

/// Makes the terminal raw again after this process was stopped; nothing where it was not raw or belongs to another job now.
pub(super) fn resume() {
    let Some((mut settings, keys)) = before().clone() else { return };
    cfmakeraw(&mut settings);
    if keys == Keys::Signals {
        settings.local_flags |= LocalFlags::ISIG;
    }
    set(&settings);
}

/// Puts the terminal back as it was; nothing where it was never made raw.
pub(in crate::cli) fn restore() {
    if let Some((settings, _)) = &*before() {
        set(settings);
    }
}

fn set(settings: &Termios) {
    let stdin = io::stdin();
    // A job in the background has no business with the terminal, and would be stopped for it.
    let ours = nix::unistd::tcgetpgrp(stdin.as_fd()).is_ok_and(|group| group == nix::unistd::getpgrp());
    if ours {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, settings);
    }
}

/// The size of this process's terminal, wherever it has one.
pub(super) fn size() -> TerminalSize {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
    let sized = streams.into_iter().find_map(|stream| rustix::termios::tcgetwinsize(stream).ok());
    match sized {
        Some(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => TerminalSize::default(),
    }
}

/// Whether standard input and output are a person's terminal.
pub(in crate::cli) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
