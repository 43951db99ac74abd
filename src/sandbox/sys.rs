//! The system calls that neither nix nor rustix has in a form that may be used between clone and exec.
//!
//! Every function here is one or two plain system calls: no allocation, no lock, no signal to other threads. libc's
//! own `setresuid` and its kin are avoided for that reason (they interrupt every thread they believe to exist).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use rustix::io::Errno;

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// The two sides of a clone.
pub(crate) enum Cloned {
    /// This is the new process.
    Child,
    /// This is the caller; the child's pid, and its pidfd if one was asked for.
    Parent(libc::pid_t, Option<OwnedFd>),
}

/// From linux/sched.h; libc's own constant is too narrow to hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3(2) with a copy of the address space, like fork. Without any flag it is a clone(2), which the seal of a sandbox
/// permits.
///
/// # Safety
/// If the calling process may have threads, the child may only make system calls until it executes or exits.
pub(crate) unsafe fn clone3(flags: libc::c_int, pidfd: bool) -> Result<Cloned, Errno> {
    if flags == 0 && !pidfd {
        // SAFETY: with nothing but an exit signal the child runs on its own copy of this stack. The other arguments are unused,
        // whatever their order on this architecture.
        let pid = check(unsafe {
            libc::syscall(libc::SYS_clone, libc::SIGCHLD as usize, 0usize, 0usize, 0usize, 0usize)
        })?;
        return Ok(if pid == 0 { Cloned::Child } else { Cloned::Parent(pid as libc::pid_t, None) });
    }
    // SAFETY: the caller's promise is handed on.
    unsafe { clone3_into(flags, pidfd, None) }
}

/// The same by clone3(2) alone, with the child in the cgroup v2 that a descriptor stands for from its first instant on (Linux 5.7).
///
/// # Safety
/// As for `clone3`.
pub(crate) unsafe fn clone3_into(
    flags: libc::c_int,
    pidfd: bool,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Cloned, Errno> {
    let mut fd: RawFd = -1;
    // SAFETY: clone_args is plain numbers, for which zeroes mean "default".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u32 as u64;
    // A sibling takes its signal from its parent, and the kernel refuses another.
    args.exit_signal = if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    if pidfd {
        args.flags |= libc::CLONE_PIDFD as u64;
        args.pidfd = &raw mut fd as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on its own copy of this stack, so no stack has to be given; the
    // pointers in `args` live across the call.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    let pidfd = pidfd.then(|| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(Cloned::Parent(pid as libc::pid_t, pidfd))
}

/// Ends this process at once: no destructors, no exit handlers, no flushing.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    close_range(first, u32::MAX)
}

/// Closes the descriptors from `first` to `last`.
pub(crate) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: descriptors are only closed by processes that own nothing which still uses them: the worker before it
    // opens any, and a payload between its last use and execve.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) }).map(drop)
}

/// Makes `target` a duplicate of `fd`.
pub(crate) fn duplicate_onto(fd: RawFd, target: RawFd, close_on_exec: bool) -> Result<(), Errno> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: dup3 touches no memory.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd, target, flags) }).map(drop)
}

/// Changes attributes of the mount `fd` stands for, with everything below it.
pub(crate) fn mount_setattr(fd: BorrowedFd<'_>, set: u64) -> Result<(), Errno> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty constant string and `attr` outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Joins a new, empty session keyring.
pub(crate) fn join_new_keyring() -> Result<(), Errno> {
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// Sets the host name of this uts namespace.
pub(crate) fn set_hostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length are those of a live slice.
    check(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.len()) }).map(drop)
}

/// Puts a seccomp filter on this thread; gives the supervisor's descriptor, closed on execve, when `listener` asks for one.
///
/// The thread must have no_new_privs set, or CAP_SYS_ADMIN in its user namespace.
pub(crate) fn install_filter(
    program: &[libc::sock_filter],
    listener: bool,
) -> Result<Option<OwnedFd>, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        // SAFETY: the kernel copies the program, whose pointer and length are those of a live slice, and writes nothing.
        check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) })
    };
    let fd = if listener {
        let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // A signal then does not take a call back that is being answered (Linux ≥ 5.19).
        match install(listen | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
            Err(Errno::INVAL) => install(listen)?,
            other => other?,
        }
    } else {
        install(0)?
    };
    // SAFETY: with that flag the kernel has just made this descriptor for us.
    Ok(listener.then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
}

/// Takes real-time scheduling and an odd personality away. Niceness stays: who starts a run politely means the run.
pub(crate) fn become_ordinary() -> Result<(), Errno> {
    // SAFETY: both calls take plain numbers.
    unsafe {
        check(libc::syscall(libc::SYS_personality, 0usize))?;
        let policy = check(libc::syscall(libc::SYS_sched_getscheduler, 0usize))?;
        let ordinary = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].map(libc::c_long::from);
        if !ordinary.contains(&policy) {
            let priority: libc::c_int = 0;
            // A sched_param is its priority, and 0 is the only one of ordinary processes.
            check(libc::syscall(
                libc::SYS_sched_setscheduler,
                0usize,
                libc::SCHED_OTHER,
                &raw const priority,
            ))?;
        }
    }
    Ok(())
}

/// Shows the kernel's release; an unreadable one is empty.
pub(crate) fn kernel_release<T>(show: impl FnOnce(&str) -> T) -> T {
    // SAFETY: utsname is plain bytes, for which zeroes are valid; the call fills it and ends each text with a zero.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut name);
        name
    };
    // SAFETY: the last byte of the zeroed array is never written, so there is an end.
    show(unsafe { CStr::from_ptr(name.release.as_ptr()) }.to_str().unwrap_or_default())
}

/// Writes to a file that exists, in one call.
pub(crate) fn write_to(dir: impl std::os::fd::AsFd, path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, path, flags, Mode::empty())?;
    rustix::io::write(&file, bytes).map(drop)
}

/// Brings the loopback interface of this network namespace up; the kernel then gives it its addresses.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    // SAFETY: socket has no memory arguments.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is the structure SIOCSIFFLAGS reads, and outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    })
    .map(drop)
}

/// Opens the slave of a terminal whose master is given, by that alone: no path is looked up. Sets its size first.
pub(crate) fn open_slave(master: &OwnedFd, rows: u16, columns: u16) -> Result<OwnedFd, Errno> {
    let fd = master.as_raw_fd();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd, libc::TIOCSPTLCK, &raw const unlock) })?;
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd, libc::TIOCSWINSZ, &raw const size) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags as a number.
    let slave = check(unsafe { libc::syscall(libc::SYS_ioctl, fd, libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(slave as RawFd) })
}

/// Sets the size of a terminal; the kernel tells its foreground process group by SIGWINCH.
pub(crate) fn set_terminal_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_ioctl, terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}

/// Makes the terminal on descriptor 0 the controlling one.
pub(crate) fn take_terminal() -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes a number.
    check(unsafe { libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0) }).map(drop)
}

/// Puts every signal back to its default action and blocks none.
pub(crate) fn default_signals() -> Result<(), Errno> {
    // The kernel's structure is at most four words, all zero here: SIG_DFL, no flags, no restorer, no mask.
    let default = [0u64; 4];
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            let none: *mut u64 = std::ptr::null_mut();
            // SAFETY: `default` is at least as large as the structure read, and nothing is written.
            check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8usize) })?;
        }
    }
    block_signals(0)
}

/// Sets the mask of blocked signals; bit n-1 is signal n.
pub(crate) fn block_signals(mask: u64) -> Result<(), Errno> {
    let none: *mut u64 = std::ptr::null_mut();
    // SAFETY: the mask outlives the call and has the size given.
    check(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, none, 8usize)
    })
    .map(drop)
}

/// A descriptor that becomes readable when one of the signals in the mask is pending.
pub(crate) fn signal_fd(mask: u64) -> Result<OwnedFd, Errno> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask outlives the call and has the size given.
    let fd = check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8usize, flags) })?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal; a negative pid means a process group.
pub(crate) fn kill(pid: libc::pid_t, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory arguments.
    check(unsafe { libc::syscall(libc::SYS_kill, pid, signal) }).map(drop)
}

/// Collects one dead child if there is one: its pid and raw wait status.
pub(crate) fn reap_any() -> Option<(libc::pid_t, i32)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; a null rusage is allowed.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, std::ptr::null_mut()) };
    (pid > 0).then_some((pid, status))
}

/// Waits for the next child to end; `None` when there are no children.
pub(crate) fn reap_next() -> Option<(libc::pid_t, i32)> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call; a null rusage is allowed.
        let pid = unsafe { libc::wait4(-1, &raw mut status, 0, std::ptr::null_mut()) };
        match pid {
            1.. => return Some((pid, status)),
            _ if last_errno() == Errno::INTR => {}
            _ => return None,
        }
    }
}

/// Waits for the end of a child and collects it: its raw wait status, and what it and its own children have used.
pub(crate) fn collect(pidfd: BorrowedFd<'_>) -> Result<(i32, libc::rusage), Errno> {
    loop {
        // SAFETY: siginfo_t and rusage are plain data, for which zeroes are valid.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        let (kind, fd) = (libc::P_PIDFD, pidfd.as_raw_fd());
        // SAFETY: both structures outlive the call, which fills them.
        let waited = check(unsafe {
            libc::syscall(libc::SYS_waitid, kind, fd, &raw mut info, libc::WEXITED, &raw mut usage)
        });
        match waited {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => {
                // SAFETY: after success these fields are those of a SIGCHLD.
                let status = unsafe { info.si_status() };
                let raw = if info.si_code == libc::CLD_EXITED { (status & 0xff) << 8 } else { status & 0x7f };
                return Ok((raw, usage));
            }
        }
    }
}

/// The resources used by all children waited for so far.
pub(crate) fn children_usage() -> libc::rusage {
    // SAFETY: rusage is plain numbers; getrusage fills it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    }
}

/// Pointers to strings, ended by a null, as execve wants them.
pub(crate) struct Pointers(Vec<*const libc::c_char>);

impl Pointers {
    /// The strings must not be dropped before the pointers are used; `execute` takes both to make that so.
    pub(crate) fn of(strings: &[CString]) -> Self {
        Self(strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect())
    }
}

/// Becomes another program; returns only on failure.
///
/// # Safety
/// The strings that `argv` and `env` were made of are alive.
pub(crate) unsafe fn execute(path: &CStr, argv: &Pointers, env: &Pointers) -> Errno {
    // SAFETY: both arrays end in a null and point to live strings by this function's contract.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.0.as_ptr(), env.0.as_ptr()) };
    last_errno()
}

/// Receives a packet of one byte; `None` when the other end is closed.
pub(crate) fn receive_byte(socket: &OwnedFd, flags: libc::c_int) -> Result<Option<u8>, Errno> {
    let mut byte = 0u8;
    let none: *mut libc::c_void = std::ptr::null_mut();
    let fd = socket.as_raw_fd();
    // SAFETY: the buffer is one byte long, as said; no address is asked for.
    let length =
        check(unsafe { libc::syscall(libc::SYS_recvfrom, fd, &raw mut byte, 1usize, flags, none, none) })?;
    Ok((length == 1).then_some(byte))
}

/// What a descriptor that is sent is: the master of a terminal.
pub(crate) const TERMINAL: u8 = 0;
/// What a descriptor that is sent is: the supervisor's end of a filter.
pub(crate) const LISTENER: u8 = 1;

/// Sends one packet of one byte, which says what it is, with a descriptor.
pub(crate) fn send_descriptor(socket: BorrowedFd<'_>, fd: &OwnedFd, what: u8) -> Result<(), Errno> {
    /// A control message with room for one descriptor, aligned as the kernel wants it.
    #[repr(C)]
    struct Rights {
        header: libc::cmsghdr,
        fd: RawFd,
    }
    // SAFETY: cmsghdr and msghdr are plain numbers and pointers, for which zeroes are valid.
    let mut rights = Rights { header: unsafe { std::mem::zeroed() }, fd: fd.as_raw_fd() };
    rights.header.cmsg_level = libc::SOL_SOCKET;
    rights.header.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: CMSG_LEN only computes.
    rights.header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as _;
    let mut byte = what;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut rights).cast();
    message.msg_controllen = size_of::<Rights>() as _;
    // SAFETY: everything that `message` points to lives across the call and has the lengths given.
    check(unsafe {
        libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    })
    .map(drop)
}

/// Sends one packet.
pub(crate) fn send_packet(socket: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let none: *const libc::c_void = std::ptr::null();
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_NOSIGNAL);
    // SAFETY: pointer and length are those of a live slice; no address is given.
    check(unsafe { libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, none, 0u32) })
        .map(drop)
}

/// Looks which events have happened.
pub(crate) fn poll_now(events: &mut [libc::pollfd]) {
    // SAFETY: pointer and length are those of a live slice.
    unsafe { libc::poll(events.as_mut_ptr(), events.len() as libc::nfds_t, 0) };
}

/// Waits until one of the descriptors is readable or closed at the other end, and says which are.
pub(crate) fn wait_readable<const N: usize>(fds: [RawFd; N]) -> [bool; N] {
    wait_readable_for(fds, -1)
}

/// The same, for so many milliseconds at most; -1 is for ever.
pub(crate) fn wait_readable_for<const N: usize>(fds: [RawFd; N], milliseconds: i32) -> [bool; N] {
    let mut events = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: pointer and length are those of a live array. A failure (EINTR) leaves all answers at "no".
    unsafe { libc::poll(events.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    events.map(|event| event.revents != 0)
}
