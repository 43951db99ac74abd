//! The supervisor: runs a command and all its children, and does something at the n-th call that changes the store.
//!
//! Counted are system calls, not verbs of `disk/`: Git's library, SQLite, the worker and the commands inside all write by themselves, and
//! nothing of the program under test is built otherwise than it is shipped.
//!
//! Between two such calls a program changes nothing on the disk, so "killed behind call n" and "killed before call n + 1" leave the same store.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc::{self, c_int, pid_t};

use super::calls::{self, Act, Call};
use super::sys::{self, Waited};

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing: the calls are counted.
    None,
    /// The n-th fails with what this makes of its name.
    Fail(usize, c_int),
    /// Everything is killed before the n-th.
    Kill(usize),
}

/// How long a command may take in which a call failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a command.
#[derive(Debug)]
pub(super) struct Traced {
    /// Its exit code, or the signal that ended it with a minus.
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// How many calls it made.
    pub(super) calls: usize,
    /// The call at which the fault came.
    pub(super) hit: Option<Call>,
    /// It did not end in time and was killed.
    pub(super) hung: bool,
}

/// Sees every call that succeeded, when it has been made: the call, what it returned, and whether its path was there before.
pub(super) type Seen<'s> = &'s mut dyn FnMut(&Call, pid_t, i64, bool);

/// Runs a command under the supervisor.
#[expect(clippy::zombie_processes, reason = "everything that this thread traces is waited for")]
pub(super) fn run(command: &mut Command, store: &Path, fault: Fault, mut seen: Option<Seen<'_>>) -> Traced {
    let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null()).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    sys::trace_child(command, &calls::stops());
    let child = command.spawn().unwrap();
    let main = pid_t::try_from(child.id()).unwrap();
    let living = Arc::new(Mutex::new(HashSet::from([main])));
    let (over, watched) = mpsc::channel::<()>();
    let watch = std::thread::spawn({
        let living = Arc::clone(&living);
        move || {
            let hung = watched.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            if hung {
                living.lock().unwrap().iter().for_each(|pid| sys::kill(*pid));
            }
            hung
        }
    });
    let (mut code, mut calls, mut hit, mut followed) = (-1, 0, None, false);
    let mut new = HashSet::new();
    loop {
        match sys::wait(-1) {
            Waited::Nobody => break,
            Waited::Ended(pid, status) => {
                living.lock().unwrap().remove(&pid);
                if pid == main {
                    let signal = libc::WIFSIGNALED(status).then(|| -libc::WTERMSIG(status));
                    code = signal.unwrap_or_else(|| libc::WEXITSTATUS(status));
                }
            }
            Waited::AtCall(pid) => {
                let registers = sys::registers(pid).ok();
                let call = registers.as_ref().and_then(|registers| calls::at(pid, registers, store));
                let (Some(registers), Some(call)) = (registers, call) else {
                    sys::resume(pid, 0);
                    continue;
                };
                calls += 1;
                match fault {
                    Fault::Kill(number) if number == calls => {
                        hit = Some(call);
                        living.lock().unwrap().iter().for_each(|pid| sys::kill(*pid));
                    }
                    Fault::Fail(number, errno) if number == calls => {
                        hit = Some(call);
                        let _ = sys::answer(pid, registers, -i64::from(errno));
                        sys::resume(pid, 0);
                    }
                    _ => {
                        let existed = seen.is_some() && std::fs::symlink_metadata(&call.path).is_ok();
                        // Syncs are not made: what was written is seen by whoever comes next, be it on the disk or not.
                        let result = match matches!(call.act, Act::Sync | Act::SyncAll) {
                            true => sys::answer(pid, registers, 0).ok().map(|()| 0),
                            false if seen.is_some() => end_of_call(pid),
                            false => None,
                        };
                        if let (Some(seen), Some(result)) = (&mut seen, result)
                            && result >= 0
                        {
                            seen(&call, pid, result, existed);
                        }
                        sys::resume(pid, 0);
                    }
                }
            }
            Waited::Event(pid) | Waited::AfterCall(pid) => sys::resume(pid, 0),
            Waited::Signal(pid, signal) => {
                // The first stops: of the program when it was executed, of what it starts when it was made.
                let first =
                    if pid == main { !std::mem::replace(&mut followed, true) } else { new.insert(pid) };
                if first && pid == main {
                    sys::follow(pid).unwrap();
                }
                living.lock().unwrap().insert(pid);
                if hit.is_some() && matches!(fault, Fault::Kill(_)) {
                    sys::kill(pid);
                }
                sys::resume(pid, if first { 0 } else { signal });
            }
        }
    }
    drop(over);
    let hung = watch.join().unwrap();
    Traced { code, stdout: text(&mut stdout), stderr: text(&mut stderr), calls, hit, hung }
}

/// Lets a process make its call; gives what that returned. Others wait meanwhile before theirs, so calls have an order.
fn end_of_call(pid: pid_t) -> Option<i64> {
    sys::resume_to_end_of_call(pid);
    loop {
        match sys::wait(pid) {
            Waited::AfterCall(_) => {
                return sys::registers(pid).ok().map(|registers| registers.rax.cast_signed());
            }
            Waited::Signal(_, signal) => sys::resume(pid, signal),
            Waited::Event(_) | Waited::AtCall(_) => sys::resume_to_end_of_call(pid),
            Waited::Ended(..) | Waited::Nobody => return None,
        }
    }
}

fn text(file: &mut File) -> String {
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
