//! Steps in the life of the worker's processes, which are no sandbox yet.

use std::io;
use std::os::fd::BorrowedFd;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

use super::plan::TerminalSize;
use super::sys;

/// The two sides of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// This is the new process.
    Child,
    /// This is the caller; the child's pid.
    Parent(i32),
}

/// Makes the calling process fit to be the worker: no descriptors but the standard ones, a session of its own so that
/// the terminal's signals pass it by, and no working directory that could keep a file system busy.
pub fn become_worker() -> io::Result<()> {
    sys::close_from(3)?;
    // Fails only for a process that leads its group already; then it is as good as done.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // A core dump of the worker would hold whatever passed through it. One byte, unlike none, also keeps the host's handler away.
    let core = rustix::process::getrlimit(rustix::process::Resource::Core);
    let limit = rustix::process::Rlimit { current: Some(1).min(core.maximum.or(Some(1))), ..core };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, limit);
    Ok(rustix::process::chdir("/")?)
}

/// Moves the calling process, which must have one thread, into a new user namespace.
pub fn unshare_user() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?)
}

/// Forks a process with one thread; with more it refuses, since the child could then hang on a lock for ever.
pub fn fork() -> io::Result<Forked> {
    // A directory has one link per subdirectory, and /proc/self/task one of these per thread.
    if rustix::fs::stat("/proc/self/task")?.st_nlink != 3 {
        return Err(io::Error::other("a process with threads cannot fork"));
    }
    // SAFETY: there is one thread, so no lock can be held by another.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Forked::Child),
        nix::unistd::ForkResult::Parent { child } => Ok(Forked::Parent(child.as_raw())),
    }
}

/// Lets the kernel kill this process when its parent, whose pid is given, ends.
pub fn die_with_parent(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if std::os::unix::process::parent_id() as i32 == parent {
        Ok(())
    } else {
        Err(io::Error::other("the parent has ended already"))
    }
}

/// Decides whether ended children wait to be collected (`true`) or vanish by themselves.
pub fn own_children(collect: bool) -> io::Result<()> {
    let action = if collect { SigHandler::SigDfl } else { SigHandler::SigIgn };
    // SAFETY: neither disposition runs code of ours.
    unsafe { signal(Signal::SIGCHLD, action) }?;
    Ok(())
}

/// Sets the size of a terminal; the kernel tells its foreground process group by SIGWINCH.
pub fn set_terminal_size(terminal: BorrowedFd<'_>, size: TerminalSize) -> io::Result<()> {
    Ok(sys::set_terminal_size(terminal, size.rows, size.columns)?)
}

/// Ends this process at once, without destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    sys::exit_now(code)
}

/// The numbers of some signals, for callers that name no system library.
pub mod signals {
    /// Polite request to end.
    pub const TERM: i32 = super::libc::SIGTERM;
    /// Interrupt from the keyboard.
    pub const INT: i32 = super::libc::SIGINT;
    /// Certain death.
    pub const KILL: i32 = super::libc::SIGKILL;
}
