//! The raw system calls of the supervisor: ptrace(2), a seccomp filter that stops at calls that change a disk, waiting.
//!
//! Everything of these tests that is `unsafe` is here.
#![allow(unsafe_code, reason = "ptrace and the filter have no safe wrapper among this crate's libraries")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc::{self, c_int, c_long, c_void, pid_t};

/// The registers of a stopped process.
pub(super) type Registers = libc::user_regs_struct;

/// What `waitpid` told of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// It is gone; its wait status.
    Ended(pid_t, c_int),
    /// It stands before a call that the filter names.
    AtCall(pid_t),
    /// It stands behind a call.
    AfterCall(pid_t),
    /// It stopped for another reason: a new process, a program executed.
    Event(pid_t),
    /// A signal is about to reach it.
    Signal(pid_t, c_int),
    /// Nobody is left.
    Nobody,
}

/// Makes the child of this command a tracee whose calls of these numbers stop, each perhaps only when its third argument has one of
/// the given bits.
pub(super) fn trace_child(command: &mut Command, calls: &[(c_long, Option<u32>)]) {
    let program = filter(calls);
    let start = move || {
        let prog = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: between fork and exec only system calls are made, and the filter lives as long as the closure.
        unsafe {
            check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))?;
            check(c_long::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))?;
            let mode = libc::SECCOMP_MODE_FILTER;
            check(c_long::from(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const prog, 0, 0)))
        }
    };
    // SAFETY: see above.
    unsafe { command.pre_exec(start) };
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Instructions that return `RET_TRACE` for the calls and allow everything else.
fn filter(calls: &[(c_long, Option<u32>)]) -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let bits = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let ret = libc::BPF_RET | libc::BPF_K;
    // Of `struct seccomp_data`: the call's number, and the low half of the third of the arguments.
    let (number_at, third_at) = (0, 16 + 2 * 8);
    let mut program = vec![statement(load, number_at)];
    for (number, wanted) in calls {
        match wanted {
            None => {
                program.push(jump(equal, *number as u32, 0, 1));
                program.push(statement(ret, libc::SECCOMP_RET_TRACE));
            }
            Some(wanted) => {
                program.push(jump(equal, *number as u32, 0, 4));
                program.push(statement(load, third_at));
                program.push(jump(bits, *wanted, 0, 1));
                program.push(statement(ret, libc::SECCOMP_RET_TRACE));
                program.push(statement(ret, libc::SECCOMP_RET_ALLOW));
            }
        }
    }
    program.push(statement(ret, libc::SECCOMP_RET_ALLOW));
    program
}

/// Follows every child, and lets none outlive the tracer.
pub(super) fn follow(pid: pid_t) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_EXITKILL;
    // SAFETY: sets options of a stopped tracee.
    check(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, c_long::from(options)) })
}

/// Lets a stopped process go on, perhaps with a signal. One that was killed meanwhile is no error.
pub(super) fn resume(pid: pid_t, signal: c_int) {
    // SAFETY: no memory is touched.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, c_long::from(signal)) };
}

/// Lets a stopped process go on to the end of the call at which it stands.
pub(super) fn resume_to_end_of_call(pid: pid_t) {
    // SAFETY: no memory is touched.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, 0) };
}

/// The registers of a stopped process.
pub(super) fn registers(pid: pid_t) -> io::Result<Registers> {
    // SAFETY: zeros are registers.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in one such value.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, (&raw mut registers).cast::<c_void>()) })?;
    Ok(registers)
}

/// Skips the call at which a process stands; it returns that value.
pub(super) fn answer(pid: pid_t, mut registers: Registers, value: i64) -> io::Result<()> {
    registers.orig_rax = u64::MAX;
    registers.rax = value.cast_unsigned();
    // SAFETY: the kernel reads one such value.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0, (&raw const registers).cast::<c_void>()) })
}

/// Waits for one process, or with -1 for any that this very thread traces.
pub(super) fn wait(pid: pid_t) -> Waited {
    let mut status = 0;
    loop {
        // SAFETY: the kernel fills in the status.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if found > 0 {
            return read(found, status);
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return Waited::Nobody;
        }
    }
}

fn read(pid: pid_t, status: c_int) -> Waited {
    if !libc::WIFSTOPPED(status) {
        return Waited::Ended(pid, status);
    }
    match (libc::WSTOPSIG(status), status >> 16) {
        (libc::SIGTRAP, libc::PTRACE_EVENT_SECCOMP) => Waited::AtCall(pid),
        (libc::SIGTRAP, event) if event != 0 => Waited::Event(pid),
        (signal, _) if signal == libc::SIGTRAP | 0x80 => Waited::AfterCall(pid),
        (signal, _) => Waited::Signal(pid, signal),
    }
}

/// Kills a process. That it is gone already is no error.
pub(super) fn kill(pid: pid_t) {
    // SAFETY: no memory is touched.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}
