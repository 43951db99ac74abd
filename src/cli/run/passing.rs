//! The command's output, passed on to this process's own streams while it comes.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use treebox::Stream;

/// Passes output on until nobody reads it any more. A closed pipe does not stop the command: what it does to the file system
/// is wanted whether or not somebody reads along.
#[derive(Default)]
pub(super) struct Passing {
    stdout_gone: AtomicBool,
    stderr_gone: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Passing {
    /// Passes a piece on at once, without waiting for a line to be whole.
    pub(super) fn write(&self, stream: Stream, bytes: &[u8]) {
        let gone = match stream {
            Stream::Stdout => &self.stdout_gone,
            Stream::Stderr => &self.stderr_gone,
        };
        if gone.load(Ordering::Relaxed) {
            return;
        }
        let written = match stream {
            Stream::Stdout => all(&mut io::stdout().lock(), bytes),
            Stream::Stderr => all(&mut io::stderr().lock(), bytes),
        };
        if let Err(error) = written {
            gone.store(true, Ordering::Relaxed);
            if stream == Stream::Stdout && error.kind() != ErrorKind::BrokenPipe {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    }

    /// Why output was lost, unless it was that its reader went away.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn all(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
