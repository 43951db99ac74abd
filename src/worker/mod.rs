//! The worker: a helper process that is root of a user namespace, and the protocol with it.
//!
//! Files owned by mapped ids can only be touched from inside the namespace, and a program with threads can neither
//! unshare nor fork soundly. So the host starts a process of its own executable with a hidden first argument; that
//! master becomes root of a namespace, and forks one session process per request of the host. A session serves one
//! request after the other: run a plan, remove a tree, rename. A live sandbox has a session of its own, in which several commands run at once. [`Worker`], [`Session`] and [`Running`] are the host's
//! end; [`hook`] is what the executable must call.
//!
//! This room never decides what to run or to keep, never touches the store's index or history, and holds no `unsafe`.
//!
//! # Invariants
//! - The worker ends when its host does: every socket of a dead host closes, and the master's death takes the sessions
//!   and their sandboxes along. A host that forks without executing keeps the sockets open, and with them the worker.
//! - Master and sessions have one thread each.
//! - The mode is recognised by the first argument alone, never by the environment.
//! - A damaged message is an error and never a panic.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod layers;
mod line;
mod master;
mod protocol;
mod run;
mod runs;
mod session;
mod session_layers;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};

pub use host::{Worker, WorkerError, WorkerOptions};
pub use run::{Exit, Killer, Running, Sandbox};
pub use session::{Session, SessionError};
pub use session_layers::LayerUpload;

static HOOKED: AtomicBool = AtomicBool::new(false);

/// Whether this program's `main` has called [`hook`], so that its own executable can be the worker.
pub fn hooked() -> bool {
    HOOKED.load(Ordering::Relaxed)
}

/// The hidden first argument.
pub const WORKER_ARGUMENT: &str = "__worker";

/// Becomes the worker if this process was started as one; call it first thing in `main`.
///
/// It looks at the first argument only. As the worker it never returns.
pub fn hook() {
    HOOKED.store(true, Ordering::Relaxed);
    if std::env::args_os().nth(1).is_some_and(|argument| argument == WORKER_ARGUMENT) {
        serve()
    }
}

/// Serves the host on standard input until it closes. For executables that parse their arguments themselves.
pub fn serve() -> ! {
    master::serve()
}
