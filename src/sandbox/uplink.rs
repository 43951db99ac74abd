//! The way out of a private network: a helper program of the host that carries its packets through ordinary sockets.
//!
//! Which helper there is, how it is asked for the safe setting, and how it is kept from outliving its sandbox. No port
//! of the host leads inside, and the host's own loopback addresses are not reachable through the gateway.
//!
//! # Invariants
//! - The helper runs in a pid namespace whose init, the guard, dies with the session and with the sandbox: neither a
//!   daemon that the helper makes of itself nor a change of its credentials (which clears the parent death signal)
//!   lets it get away.
//! - It inherits the standard streams and no other descriptor, and an empty environment.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

use super::error::LaunchError;
use super::init::GO;
use super::sys::{self, Cloned, Pointers};

/// How long a helper may take until the network works. They need about 30 ms.
const READY_TIMEOUT_MS: i32 = 10_000;

/// How much of what a helper says is kept for an error.
const MAX_WORDS_BYTES: usize = 4096;

/// The address that pasta is told to answer name queries on: link-local, so that it hides nothing of anybody's network.
const PASTA_RESOLVER: &str = "169.254.1.1";

/// The address on which slirp4netns answers name queries.
const SLIRP_RESOLVER: &str = "10.0.2.3";

/// The interface inside.
const INTERFACE: &str = "eth0";

/// Which helper program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Helper {
    /// `pasta`, of the package passt.
    Pasta,
    /// `slirp4netns`.
    Slirp4netns,
}

impl Helper {
    /// The best first.
    const ALL: [Self; 2] = [Self::Pasta, Self::Slirp4netns];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }
}

/// A helper program of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Which one.
    pub helper: Helper,
    /// Its executable, an absolute path.
    #[serde(with = "super::plan::path_bytes")]
    pub program: PathBuf,
}

impl Uplink {
    /// Looks for pasta, then for slirp4netns, in the absolute directories of a search path and in the usual places.
    pub fn find(search_path: &OsStr) -> Option<Self> {
        let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from);
        let given: Vec<PathBuf> =
            std::env::split_paths(search_path).filter(|dir| dir.is_absolute()).collect();
        Helper::ALL.into_iter().find_map(|helper| {
            let mut candidates = given.iter().chain(&usual).map(|dir| dir.join(helper.name()));
            let program = candidates.find(|program| is_executable(program))?;
            Some(Self { helper, program })
        })
    }

    /// The address inside that answers name queries as the host's own resolver does.
    pub fn resolver(&self) -> &'static str {
        match self.helper {
            Helper::Pasta => PASTA_RESOLVER,
            Helper::Slirp4netns => SLIRP_RESOLVER,
        }
    }

    /// The command line for the network and user namespace of a process.
    fn argv(&self, pid: i32) -> Vec<CString> {
        let (user, net) = (format!("/proc/{pid}/ns/user"), format!("/proc/{pid}/ns/net"));
        let mut words: Vec<&str> = vec![self.helper.name()];
        match self.helper {
            Helper::Pasta => words.extend([
                "--quiet",
                "--config-net",
                // The gateway's address is otherwise the host's 127.0.0.1.
                "--no-map-gw",
                "--dns-forward",
                PASTA_RESOLVER,
                "--ns-ifname",
                INTERFACE,
                // Root of the worker's namespace is the caller; pasta would take it for real root and become nobody.
                "--runas",
                "0",
                // Listening ports are otherwise carried over, in both directions.
                "--tcp-ports",
                "none",
                "--udp-ports",
                "none",
                "--tcp-ns",
                "none",
                "--udp-ns",
                "none",
                "--userns",
                &user,
                "--netns",
                &net,
            ]),
            Helper::Slirp4netns => words.extend([
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                "--enable-sandbox",
                "--enable-seccomp",
                "--ready-fd=3",
                "--userns-path",
                &user,
                "--netns-type=path",
                &net,
                INTERFACE,
            ]),
        }
        words.into_iter().map(|word| CString::new(word).unwrap_or_default()).collect()
    }

    /// Connects the network namespace of `pid` and returns when it works.
    ///
    /// The process must still be dumpable: its namespaces are opened through /proc.
    pub(crate) fn connect(&self, pid: i32) -> Result<Guard, LaunchError> {
        let program = CString::new(self.program.as_os_str().as_bytes())
            .map_err(|_| self.failed("its path holds a zero byte".to_owned()))?;
        let argv = self.argv(pid);
        let pointers = (Pointers::of(&argv), Pointers::of(&[]));
        let system =
            |attempt: &'static str| move |errno: nix::Error| LaunchError::system(attempt, errno as i32);
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(system("make a pipe"));
        let (ready, ready_end) = pipe()?;
        let (words, words_end) = pipe()?;
        let (link, link_end) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(system("make a socket pair"))?;
        let null = fs::File::open("/dev/null")
            .map_err(|err| LaunchError::system("open /dev/null", err.raw_os_error().unwrap_or(libc::EIO)))?;
        let tools = Tools {
            program: &program,
            argv: &pointers.0,
            env: &pointers.1,
            tells_itself: self.helper == Helper::Slirp4netns,
            null: null.into(),
            ready: ready_end,
            words: words_end,
            link: link_end,
        };
        // SAFETY: the child goes into `watch_over`, which makes system calls only on memory that exists already.
        let cloned = unsafe { sys::clone3(libc::CLONE_NEWPID, true) };
        let pidfd = match cloned {
            Ok(Cloned::Child) => watch_over(&tools),
            Ok(Cloned::Parent(_, Some(pidfd))) => pidfd,
            Ok(Cloned::Parent(_, None)) => return Err(LaunchError::namespaces(libc::EINVAL)),
            Err(errno) => return Err(LaunchError::namespaces(errno.raw_os_error())),
        };
        drop(tools);
        let guard = Guard { pidfd };
        send(link.as_raw_fd(), &[GO], MsgFlags::MSG_NOSIGNAL)
            .map_err(system("let the network's helper begin"))?;
        let waited = sys::wait_readable_for([ready.as_raw_fd()], READY_TIMEOUT_MS);
        let mut answer = [0];
        if waited != [true] {
            return Err(self.failed(format!("it was not ready within {} s", READY_TIMEOUT_MS / 1000)));
        }
        if fs::File::from(ready).read(&mut answer).unwrap_or(0) == 1 {
            return Ok(guard);
        }
        // Its end of the pipe closes with it.
        drop(guard);
        Err(self.failed(said(words)))
    }

    fn failed(&self, message: String) -> LaunchError {
        let hint = hint(&message).to_owned();
        LaunchError::Network { program: self.program.display().to_string(), message, hint }
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The last line of what a helper that is gone has said, without what it says about its own log.
fn said(words: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // Every writer is dead, so this ends.
    let _ = fs::File::from(words).take(MAX_WORDS_BYTES as u64).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("to syslog"));
    lines.next_back().unwrap_or("it ended without a word").to_owned()
}

fn hint(message: &str) -> &'static str {
    if message.contains("tun") && message.contains("open") || message.contains("tap device") {
        "; everybody needs to be able to open /dev/net/tun: `sudo modprobe tun; sudo chmod 666 /dev/net/tun`"
    } else if message.contains("xternal") {
        "; this host has no route to the outside"
    } else {
        ""
    }
}

/// A running helper. Dropping it ends the helper and waits for that.
#[derive(Debug)]
pub(crate) struct Guard {
    pidfd: OwnedFd,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself. The kernel kills the rest of its pid namespace before it can be collected.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let exited = WaitIdOptions::EXITED;
        while matches!(
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), exited),
            Err(rustix::io::Errno::INTR)
        ) {}
    }
}

/// What the guard needs, made before the clone.
struct Tools<'a> {
    program: &'a CString,
    argv: &'a Pointers,
    env: &'a Pointers,
    /// Whether the helper itself writes to descriptor 3 when it is ready; otherwise it makes itself a daemon then.
    tells_itself: bool,
    null: OwnedFd,
    ready: OwnedFd,
    words: OwnedFd,
    link: OwnedFd,
}

/// The life of the guard: pid 1 of the helper's pid namespace. System calls only.
fn watch_over(tools: &Tools<'_>) -> ! {
    let mut kept = [&tools.null, &tools.ready, &tools.words, &tools.link].map(AsRawFd::as_raw_fd);
    kept.sort_unstable();
    let prepared = close_others(&kept)
        .and_then(|()| rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))
        // The session was there after the wish to die with it.
        .and_then(|()| sys::receive_byte(&tools.link, 0))
        .and_then(|byte| if byte == Some(GO) { Ok(()) } else { Err(rustix::io::Errno::PIPE) })
        // No signals that are meant for the caller's process group.
        .and_then(|()| rustix::process::setsid().map(drop));
    if prepared.is_err() {
        sys::exit_now(1);
    }
    // SAFETY: the guard has one thread, and both sides go on with system calls only.
    let helper = match unsafe { sys::clone3(0, false) } {
        Ok(Cloned::Child) => become_helper(tools),
        Ok(Cloned::Parent(pid, _)) => pid,
        Err(_) => sys::exit_now(1),
    };
    loop {
        match sys::reap_next() {
            Some((pid, 0)) if pid == helper && !tools.tells_itself => {
                // It configured the network and went on as a daemon, which is now a child of this process.
                let _ = rustix::io::write(&tools.ready, &[GO]);
            }
            Some((pid, _)) if pid == helper => sys::exit_now(1),
            Some(_) => {}
            None => sys::exit_now(0),
        }
    }
}

fn close_others(kept: &[RawFd]) -> Result<(), rustix::io::Errno> {
    let mut first = 3;
    for fd in kept.iter().copied().filter(|fd| *fd >= 3) {
        if fd > first {
            sys::close_range(first as u32, fd as u32 - 1)?;
        }
        first = fd + 1;
    }
    sys::close_from(first as u32)
}

fn become_helper(tools: &Tools<'_>) -> ! {
    const READY_FD: RawFd = 3;
    // The numbers 0 to 2 are in use, so none of what is duplicated lies there; 3 is taken last.
    let mut done = sys::duplicate_onto(tools.null.as_raw_fd(), 0, false)
        .and_then(|()| sys::duplicate_onto(tools.words.as_raw_fd(), 1, false))
        .and_then(|()| sys::duplicate_onto(tools.words.as_raw_fd(), 2, false));
    if tools.tells_itself {
        done = done.and_then(|()| match tools.ready.as_raw_fd() {
            READY_FD => Ok(rustix::io::fcntl_setfd(&tools.ready, rustix::io::FdFlags::empty())?),
            other => sys::duplicate_onto(other, READY_FD, false),
        });
    }
    // pasta of 2023 takes a SIGPIPE that is ignored already for a failure. slirp4netns must go on when what it says is no
    // longer read, and Rust's runtime, which this process came from, ignores the signal.
    if !tools.tells_itself {
        done = done.and_then(|()| sys::default_signals());
    }
    // A guard of its own death as well: where the helper keeps its credentials, the signal reaches it at once.
    done = done.and_then(|()| rustix::process::set_parent_process_death_signal(Some(Signal::KILL)));
    let first_closed = if tools.tells_itself { READY_FD + 1 } else { READY_FD };
    if done.and_then(|()| sys::close_from(first_closed as u32)).is_ok() {
        // SAFETY: the caller owns both the strings and the pointers to them.
        unsafe { sys::execute(tools.program, tools.argv, tools.env) };
        // SAFETY: descriptor 2 was made above.
        let errors = unsafe { std::os::fd::BorrowedFd::borrow_raw(2) };
        let _ = rustix::io::write(errors, b"it cannot be executed\n");
    }
    sys::exit_now(127)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasta_is_preferred_and_only_executables_in_absolute_directories_count() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            fs::write(dir.path().join(name), "").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        put("slirp4netns", 0o755);
        put("pasta", 0o755);
        let found = Uplink::find(dir.path().as_os_str()).unwrap();
        assert_eq!(found, Uplink { helper: Helper::Pasta, program: dir.path().join("pasta") });
        put("pasta", 0o644);
        let found = Uplink::find(dir.path().as_os_str());
        assert_ne!(found.map(|found| found.program), Some(dir.path().join("pasta")));
        assert!(!Uplink::find(OsStr::new(".")).is_some_and(|found| found.program.is_relative()));
    }

    #[test]
    fn no_port_is_carried_over_and_the_hosts_loopback_stays_out() {
        let words = |helper| {
            let uplink = Uplink { helper, program: "/x".into() };
            uplink.argv(7).iter().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let pasta = words(Helper::Pasta);
        for needed in
            ["--no-map-gw", "--tcp-ns none", "--udp-ns none", "--tcp-ports none", "--udp-ports none"]
        {
            assert!(pasta.contains(needed), "{needed}: {pasta}");
        }
        assert!(words(Helper::Slirp4netns).contains("--disable-host-loopback"));
    }

    #[test]
    fn what_a_helper_says_is_told_without_its_trouble_with_the_log() {
        let (reader, writer) = std::io::pipe().unwrap();
        let text = b"Failed to open() /dev/net/tun: Permission denied\nFailed to send 3 bytes to syslog\n\n";
        std::io::Write::write_all(&mut { writer }, text).unwrap();
        let told = said(reader.into());
        assert_eq!(told, "Failed to open() /dev/net/tun: Permission denied");
        assert!(hint(&told).contains("chmod 666"));
    }
}
