//! Steps in the life of the worker's processes, which are no sandbox yet.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;

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
/// the terminal's signals pass it by, as many open files as it may have,
/// and no working directory that could keep a file system busy.
pub fn become_worker() -> io::Result<()> {
    sys::close_from(3)?;
    // Fails only for a process that leads its group already; then it is as good as done.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // A core dump of the worker would hold whatever passed through it. One byte, unlike none, also keeps the host's handler away.
    let core = rustix::process::getrlimit(rustix::process::Resource::Core);
    let limit = rustix::process::Rlimit { current: Some(1).min(core.maximum.or(Some(1))), ..core };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, limit);
    // A deep tree takes an open directory for each level. What runs in a sandbox has limits of its own.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = rustix::process::Rlimit { current: files.maximum, ..files };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    Ok(rustix::process::chdir("/")?)
}

/// Sees that nothing inside a sandbox can overwrite the file this program was started from; call it before anything else.
///
/// A process inside can get hold of that file for a moment (CVE-2019-5736). The kernel lets nobody write to a program that runs, but for
/// Linux 6.11 and 6.12: there, if the caller may write to the file, this process goes on as a sealed copy in memory.
pub fn shield_executable() -> io::Result<()> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let Ok(own) = rustix::fs::open("/proc/self/exe", flags, rustix::fs::Mode::empty()) else { return Ok(()) };
    if rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE)) {
        return Ok(());
    }
    drop(own);
    let copy = sealed_copy(std::path::Path::new("/proc/self/exe"))?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Err(std::process::Command::new(path).arg0(name).args(arguments).exec())
}

/// A copy of a program in memory that nobody can change.
fn sealed_copy(program: &std::path::Path) -> io::Result<std::fs::File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux before 6.3 does not know the flag, and needs none to let it be executed.
    let made =
        memfd_create(c"treebox", flags | MemfdFlags::EXEC).or_else(|_| memfd_create(c"treebox", flags))?;
    let mut copy = std::fs::File::from(made);
    io::copy(&mut std::fs::File::open(program)?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy)
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

#[cfg(test)]
mod tests {
    use super::super::kernel::kernel_at_least;
    use super::*;
    use std::io::Write;

    #[test]
    fn a_sealed_copy_runs_and_takes_no_writes() {
        let mut copy = sealed_copy(std::path::Path::new("/bin/sh")).unwrap();
        assert_eq!(copy.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(copy.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        // The descriptor is closed on execve, after the program has been taken from it.
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let said =
            std::process::Command::new(&path).arg0("sh").args(["-c", "echo $((6 * 7))"]).output().unwrap();
        assert_eq!(said.stdout, b"42\n");
    }

    #[test]
    fn a_program_that_runs_is_busy_or_need_not_be_shielded() {
        let own = rustix::fs::open("/proc/self/exe", rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty());
        match own {
            Err(_) => shield_executable().unwrap(),
            // There it would start the tests anew as a copy.
            Ok(_) => assert!(kernel_at_least(6, 11) && !kernel_at_least(6, 13)),
        }
    }
}
