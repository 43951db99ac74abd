//! The outside of a launch: clones init, writes its id maps, listens to it, and waits for its end.

use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send, socketpair,
};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, FromRawFd};

use super::error::LaunchError;
use super::fault::{self, REPORT_BYTES};
use super::idmap::IdMap;
use super::init::{self, ENDED_BYTES, GO, Lines, Script};
use super::plan::{Network, Plan};
use super::prepare::prepare;
use super::sys::{self, Cloned};

/// How a payload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// The resources that the payload and everything it waited for have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode, in microseconds.
    pub user_micros: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_micros: u64,
    /// The largest resident set of one process, in bytes.
    pub max_rss_bytes: u64,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written towards block devices.
    pub written_bytes: u64,
}

/// A running sandbox. Dropping it kills everything inside and waits until it is gone.
#[derive(Debug)]
pub struct Sandbox {
    pid: i32,
    pidfd: OwnedFd,
    link: OwnedFd,
    listener: Option<OwnedFd>,
    gone: bool,
}

/// Starts a sandbox.
///
/// The caller must be root of its user namespace, whose maps `map` are, and must not ignore SIGCHLD. It returns when
/// the program has been executed, or with what stood in the way.
pub fn launch(plan: &Plan, map: &IdMap, streams: [OwnedFd; 3]) -> Result<Sandbox, LaunchError> {
    let mut namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if plan.network == Network::None {
        namespaces |= libc::CLONE_NEWNET;
    }
    let script = Script::new(prepare(plan, map)?);
    let nested = map.nested();
    start(&script, namespaces, &mut |pid| write_maps(&nested, pid), streams)
}

fn write_maps(map: &IdMap, pid: i32) -> Result<(), LaunchError> {
    map.write(pid, false).map_err(|err| LaunchError::maps(err.raw_os_error().unwrap_or(libc::EIO)))
}

/// Clones a process that acts out a script, and waits until its report line closes.
pub(crate) fn start(
    script: &Script,
    namespaces: i32,
    write_maps: &mut dyn FnMut(i32) -> Result<(), LaunchError>,
    streams: [OwnedFd; 3],
) -> Result<Sandbox, LaunchError> {
    let system = |attempt: &'static str| move |errno: nix::Error| LaunchError::system(attempt, errno as i32);
    let (report, report_end) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(system("make a pipe"))?;
    let (link, link_end) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(system("make a socket pair"))?;
    let lines = Lines { link: link_end, report: report_end, streams };
    // SAFETY: the child goes into `init::live`, which makes system calls only on memory that exists already.
    let cloned = unsafe { sys::clone3(namespaces, true) };
    let (pid, pidfd) = match cloned {
        Err(errno) => return Err(LaunchError::namespaces(errno.raw_os_error())),
        Ok(Cloned::Child) => init::live(script, lines),
        Ok(Cloned::Parent(pid, pidfd)) => (pid, pidfd),
    };
    drop(lines);
    let Some(pidfd) = pidfd else { return Err(LaunchError::namespaces(libc::EINVAL)) };
    let mut sandbox = Sandbox { pid, pidfd, link, listener: None, gone: false };
    write_maps(pid)?;
    send(sandbox.link.as_raw_fd(), &[GO], MsgFlags::MSG_NOSIGNAL).map_err(system("let the sandbox begin"))?;
    let mut record = Vec::with_capacity(REPORT_BYTES);
    std::fs::File::from(report).read_to_end(&mut record).map_err(|err| {
        LaunchError::system("read from the sandbox", err.raw_os_error().unwrap_or(libc::EIO))
    })?;
    match <[u8; REPORT_BYTES]>::try_from(record.as_slice()) {
        Ok(record) => {
            let (number, fault) = fault::decode(record);
            sandbox.await_gone();
            Err(LaunchError::of_step(script.step(number), fault))
        }
        Err(_) => {
            if script.emulates() {
                sandbox.listener = receive_descriptor(&sandbox.link).map_err(system("receive the listener"))?;
            }
            Ok(sandbox)
        }
    }
}

/// The descriptor in the packet that has come before the program was executed.
fn receive_descriptor(link: &OwnedFd) -> nix::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut control = nix::cmsg_space!(std::os::fd::RawFd);
    let mut parts = [std::io::IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(link.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut rights = message.cmsgs()?.filter_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(rights.next().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

impl Sandbox {
    /// The supervisor's end of the payload's filter, once, when the plan emulates root.
    pub fn take_listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// The pid of the sandbox's init, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when init has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal to the payload.
    ///
    /// SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGCONT and SIGWINCH go to the payload's whole process group. A payload that
    /// has ended, or a number that is no signal, is passed over.
    pub fn signal(&self, number: i32) {
        if let Ok(number @ 1..=64) = u8::try_from(number) {
            let _ = send(self.link.as_raw_fd(), &[number], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
        }
    }

    /// Kills everything inside.
    pub fn kill(&self) {
        // It may be gone already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until nothing of the sandbox is left, its mounts included, and tells how the payload ended.
    pub fn wait(mut self) -> (Ending, Usage) {
        self.await_gone();
        let mut record = [0; ENDED_BYTES];
        match recv(self.link.as_raw_fd(), &mut record, MsgFlags::MSG_DONTWAIT) {
            Ok(ENDED_BYTES) => ended(&record),
            // Init was killed before it could tell: so was the payload.
            _ => (Ending::Signal(libc::SIGKILL), Usage::default()),
        }
    }

    fn await_gone(&mut self) {
        // Init can only be collected after every process of its pid namespace is dead, and its mounts go with it.
        while !self.gone {
            let waited = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
            self.gone = !matches!(waited, Err(rustix::io::Errno::INTR));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.gone {
            self.kill();
            self.await_gone();
        }
    }
}

fn ended(record: &[u8; ENDED_BYTES]) -> (Ending, Usage) {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&record[at * 8..at * 8 + 8]);
        u64::from_ne_bytes(bytes)
    };
    let status = number(0) as i32;
    let ending = if libc::WIFSIGNALED(status) {
        Ending::Signal(libc::WTERMSIG(status))
    } else {
        Ending::Code(libc::WEXITSTATUS(status))
    };
    let usage = Usage {
        user_micros: number(1),
        system_micros: number(2),
        max_rss_bytes: number(3),
        read_bytes: number(4),
        written_bytes: number(5),
    };
    (ending, usage)
}
