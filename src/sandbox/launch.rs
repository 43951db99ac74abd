//! The outside of a launch: clones init, writes its id maps, listens to it, and waits for its end.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno as NixErrno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send, socketpair,
};
use rustix::process::{PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::error::LaunchError;
use super::fault::{self, Fault, REPORT_BYTES};
use super::idmap::IdMap;
use super::init::{self, ENDED_BYTES, GO, Joining, Lines, Script};
use super::plan::{Network, Plan};
use super::prepare::{prepare, prepare_idle, prepare_joining};
use super::sys::{self, Cloned};
use super::uplink::Guard;

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
    /// What init and everything that it collected used, known when it is gone.
    spent: Usage,
    terminal: Option<OwnedFd>,
    /// What others enter to join it; empty when nobody may.
    namespaces: Vec<OwnedFd>,
    /// Where it was put; what joins it goes there as well.
    cgroup: Option<OwnedFd>,
    /// The helper of a private network, which goes after everything inside is gone.
    network: Option<Guard>,
}

/// The namespaces that every sandbox has, with their names below /proc/PID/ns. Who joins needs the first to enter the others.
const NAMESPACES: [(i32, &str); 6] = [
    (libc::CLONE_NEWUSER, "user"),
    (libc::CLONE_NEWPID, "pid"),
    (libc::CLONE_NEWNS, "mnt"),
    (libc::CLONE_NEWIPC, "ipc"),
    (libc::CLONE_NEWUTS, "uts"),
    (libc::CLONE_NEWCGROUP, "cgroup"),
];

/// The namespace that a sandbox has unless it shares the host's network.
const NETWORK: (i32, &str) = (libc::CLONE_NEWNET, "net");

fn namespaces(plan: &Plan) -> impl Iterator<Item = (i32, &'static str)> {
    let own = (plan.network != Network::Host).then_some(NETWORK);
    NAMESPACES.into_iter().chain(own)
}

/// Starts a sandbox.
///
/// The caller must be root of its user namespace, whose maps `map` are, and must not ignore SIGCHLD. It returns when
/// the program has been executed, or with what stood in the way.
pub fn launch(plan: &Plan, map: &IdMap, streams: [OwnedFd; 3]) -> Result<Sandbox, LaunchError> {
    let script = Script::new(prepare(plan, map)?);
    let flags = namespaces(plan).fold(0, |flags, (flag, _)| flags | flag);
    let cgroup = open_cgroup(plan)?;
    let nested = map.nested();
    let mut network = None;
    let mut prepare = |pid| {
        write_maps(&nested, pid)?;
        network = connect(plan, pid)?;
        Ok(())
    };
    let mut sandbox = start(&script, flags, cgroup.as_ref(), &mut prepare, streams)?;
    sandbox.network = network;
    Ok(sandbox)
}

/// Connects a private network. Before init begins: later it is undumpable, and then the kernel does not let its namespaces be opened.
fn connect(plan: &Plan, pid: i32) -> Result<Option<Guard>, LaunchError> {
    match &plan.network {
        Network::Private(uplink) => uplink.connect(pid).map(Some),
        _ => Ok(None),
    }
}

fn open_cgroup(plan: &Plan) -> Result<Option<OwnedFd>, LaunchError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = plan.bounds.cgroup.as_deref().map(|dir| rustix::fs::open(dir, flags, Mode::empty()));
    opened.transpose().map_err(|errno| LaunchError::system("open the sandbox's cgroup", errno.raw_os_error()))
}

/// Starts a sandbox in which nothing runs yet; see [`Sandbox::join`]. It lives until it is killed or dropped.
pub fn launch_idle(plan: &Plan, map: &IdMap) -> Result<Sandbox, LaunchError> {
    let script = Script::new(prepare_idle(plan, map)?);
    let flags = namespaces(plan).fold(0, |flags, (flag, _)| flags | flag);
    let cgroup = open_cgroup(plan)?;
    let nested = map.nested();
    let (mut opened, mut network) = (Vec::new(), None);
    let mut prepare = |pid: i32| {
        write_maps(&nested, pid)?;
        network = connect(plan, pid)?;
        // Before it begins: later it is undumpable, and then the kernel refuses these even to root of its parent namespace.
        for (_, name) in namespaces(plan) {
            let path = format!("/proc/{pid}/ns/{name}");
            let file = File::open(path).map_err(|err| {
                LaunchError::system("open the sandbox's namespaces", err.raw_os_error().unwrap_or(libc::EIO))
            })?;
            opened.push(OwnedFd::from(file));
        }
        Ok(())
    };
    let null = || File::open("/dev/null").map(OwnedFd::from);
    let streams = (|| Ok::<_, std::io::Error>([null()?, null()?, null()?]))()
        .map_err(|err| LaunchError::system("open /dev/null", err.raw_os_error().unwrap_or(libc::EIO)))?;
    let mut sandbox = start(&script, flags, cgroup.as_ref(), &mut prepare, streams)?;
    sandbox.namespaces = opened;
    sandbox.network = network;
    sandbox.cgroup = cgroup;
    Ok(sandbox)
}

fn write_maps(map: &IdMap, pid: i32) -> Result<(), LaunchError> {
    map.write(pid, false).map_err(|err| LaunchError::maps(err.raw_os_error().unwrap_or(libc::EIO)))
}

fn system(attempt: &'static str) -> impl Fn(NixErrno) -> LaunchError {
    move |errno| LaunchError::system(attempt, errno as i32)
}

/// The line on which a process that is being launched says what goes on.
fn report_line() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(system("make a socket pair"))
}

/// What came on a report line until it closed.
#[derive(Default)]
struct Heard {
    fault: Option<(usize, Fault)>,
    /// The process that joined.
    pid: Option<i32>,
    /// The master of its terminal.
    terminal: Option<OwnedFd>,
    /// The supervisor's end of its filter.
    listener: Option<OwnedFd>,
}

/// Listens until the program has been executed or its process has ended.
fn listen(report: &OwnedFd) -> Result<Heard, LaunchError> {
    let failed = system("read from the sandbox");
    let mut heard = Heard::default();
    loop {
        let mut bytes = [0; REPORT_BYTES];
        let mut control = nix::cmsg_space!(RawFd);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let mut given = None;
        let length = match recvmsg::<()>(report.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(NixErrno::EINTR) => continue,
            Err(errno) => return Err(failed(errno)),
            Ok(message) => {
                for part in message.cmsgs().map_err(&failed)? {
                    if let ControlMessageOwned::ScmRights(fds) = part {
                        // SAFETY: the kernel has just made these descriptors for this process; nobody else knows them.
                        let fds = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                        let fds: Vec<OwnedFd> = fds.collect();
                        given = fds.into_iter().next();
                    }
                }
                message.bytes
            }
        };
        match (given, bytes[0]) {
            (Some(fd), sys::LISTENER) => heard.listener = Some(fd),
            (Some(fd), _) => heard.terminal = Some(fd),
            (None, _) => {}
        }
        match length {
            0 => return Ok(heard),
            REPORT_BYTES => heard.fault = Some(fault::decode(bytes)),
            4 => heard.pid = Some(i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            _ => {}
        }
    }
}

/// Held from the making of a report line until this process has dropped the child's end of it.
///
/// Whatever is cloned meanwhile by another thread would hold that end as well, for a sandbox's init executes nothing; and two that start at once would
/// each wait for the other's end to close. Only a probe starts sandboxes in a program with threads.
static STARTING: Mutex<()> = Mutex::new(());

/// Clones a process that acts out a script, and waits until its report line closes. `prepare_outside` does to it, before
/// its first step, what only the outside can: the id maps above all.
pub(crate) fn start(
    script: &Script,
    namespaces: i32,
    cgroup: Option<&OwnedFd>,
    prepare_outside: &mut dyn FnMut(i32) -> Result<(), LaunchError>,
    streams: [OwnedFd; 3],
) -> Result<Sandbox, LaunchError> {
    let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let (report, report_end) = report_line()?;
    let (link, link_end) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(system("make a socket pair"))?;
    let lines = Lines { link: link_end, report: report_end, streams };
    // SAFETY: the child goes into `init::live`, which makes system calls only on memory that exists already.
    let cloned = unsafe { sys::clone3_into(namespaces, true, cgroup.map(AsFd::as_fd)) };
    let (pid, pidfd) = match cloned {
        Err(errno) => return Err(LaunchError::namespaces(errno.raw_os_error())),
        Ok(Cloned::Child) => init::live(script, lines),
        Ok(Cloned::Parent(pid, pidfd)) => (pid, pidfd),
    };
    drop(lines);
    drop(starting);
    let Some(pidfd) = pidfd else { return Err(LaunchError::namespaces(libc::EINVAL)) };
    let mut sandbox = Sandbox {
        pid,
        pidfd,
        link,
        gone: false,
        spent: Usage::default(),
        terminal: None,
        listener: None,
        namespaces: Vec::new(),
        cgroup: None,
        network: None,
    };
    prepare_outside(pid)?;
    send(sandbox.link.as_raw_fd(), &[GO], MsgFlags::MSG_NOSIGNAL).map_err(system("let the sandbox begin"))?;
    let heard = listen(&report)?;
    if let Some((number, fault)) = heard.fault {
        sandbox.await_gone();
        return Err(LaunchError::of_step(script.step(number), fault));
    }
    sandbox.terminal = heard.terminal;
    sandbox.listener = heard.listener;
    Ok(sandbox)
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

    /// The master of the terminal that the plan asked for; once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Starts a command beside what runs already, in a sandbox that [`launch_idle`] made.
    ///
    /// Of the plan only what it says about the payload counts; `map` is that of the launch. What is joined must be collected
    /// before the sandbox: the kernel lets init end only after every process of its pid namespace is gone.
    pub fn join(&self, plan: &Plan, map: &IdMap, streams: [OwnedFd; 3]) -> Result<Joined, LaunchError> {
        let script = Script::new(prepare_joining(plan, map)?);
        let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let (report, report_end) = report_line()?;
        let joining = Joining { namespaces: &self.namespaces, report: report_end, streams };
        // SAFETY: the child goes into `init::join`, which makes system calls only on memory that exists already.
        let cloned = unsafe { sys::clone3_into(0, true, self.cgroup.as_ref().map(AsFd::as_fd)) };
        let joiner = match cloned {
            Err(errno) => return Err(LaunchError::system("clone a process", errno.raw_os_error())),
            Ok(Cloned::Child) => init::join(&script, &joining),
            Ok(Cloned::Parent(_, joiner)) => joiner,
        };
        drop(joining);
        drop(starting);
        let heard = listen(&report);
        if let Some(joiner) = joiner {
            let _ = sys::collect(joiner.as_fd());
        }
        let Heard { fault, pid, terminal, listener } = heard?;
        // Who has come so far as to have a pid is a child to collect, whatever happened to it then.
        let joined = pid.and_then(rustix::process::Pid::from_raw).map(|pid| {
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
            pidfd.map(|pidfd| Joined {
                pid: pid.as_raw_nonzero().get(),
                pidfd,
                gone: false,
                terminal,
                listener,
            })
        });
        let joined = joined
            .transpose()
            .map_err(|errno| LaunchError::system("watch the command's process", errno.raw_os_error()))?;
        match (fault, joined) {
            (Some((number, fault)), _) => Err(LaunchError::of_step(script.step(number), fault)),
            (None, Some(joined)) => Ok(joined),
            // Killed before it could say anything, as by the end of the sandbox.
            (None, None) => Err(LaunchError::system("join the sandbox", libc::ESRCH)),
        }
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
            _ => (Ending::Signal(libc::SIGKILL), self.spent),
        }
    }

    fn await_gone(&mut self) {
        // Init can only be collected after every process of its pid namespace is dead, and its mounts go with it.
        if !self.gone {
            if let Ok((status, usage)) = sys::collect(self.pidfd.as_fd()) {
                self.spent = ended(&init::record(status, &usage)).1;
            }
            self.gone = true;
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

/// A command that joined a sandbox. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Joined {
    pid: i32,
    pidfd: OwnedFd,
    gone: bool,
    terminal: Option<OwnedFd>,
    listener: Option<OwnedFd>,
}

impl Joined {
    /// As [`Sandbox::take_listener`].
    pub fn take_listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// The command's pid, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when the command has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The master of the terminal that the plan asked for; once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Sends a signal to the command, or to its process group as [`Sandbox::signal`] does. What has ended is passed over.
    pub fn signal(&self, number: i32) {
        // It leads a group of its own, and its pid is not given to another before it is collected.
        if (1..=64).contains(&number) && !(init::of_terminal(number) && sys::kill(-self.pid, number).is_ok())
        {
            let _ = sys::kill(self.pid, number);
        }
    }

    /// Kills the command with its descendants and whatever is in its session. What has left both, a daemon, goes on.
    pub fn kill(&self) {
        let send = |fd: &OwnedFd, signal| {
            // It may have ended meanwhile.
            let _ = rustix::process::pidfd_send_signal(fd, signal);
        };
        // All are stopped before the first one dies: nobody forks meanwhile, and nobody acts upon the death of a child.
        send(&self.pidfd, Signal::STOP);
        let mut family: Vec<(i32, OwnedFd)> = Vec::new();
        for _ in 0..MAX_KILL_ROUNDS {
            let found = new_relatives(self.pid, &family);
            if found.is_empty() {
                break;
            }
            found.iter().for_each(|(_, fd)| send(fd, Signal::STOP));
            family.extend(found);
        }
        send(&self.pidfd, Signal::KILL);
        family.iter().for_each(|(_, fd)| send(fd, Signal::KILL));
    }

    /// Waits for its end; tells how it ended and what it used with everything it waited for.
    pub fn wait(mut self) -> (Ending, Usage) {
        self.gone = true;
        match sys::collect(self.pidfd.as_fd()) {
            Ok((status, usage)) => ended(&init::record(status, &usage)),
            Err(_) => (Ending::Signal(libc::SIGKILL), Usage::default()),
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if !self.gone {
            self.kill();
            let _ = sys::collect(self.pidfd.as_fd());
        }
    }
}

/// How often the list of processes is read for one kill: once more than generations that are forked meanwhile.
const MAX_KILL_ROUNDS: usize = 16;

/// The descendants of a process and the members of its session that are not known yet, as /proc lists them.
fn new_relatives(leader: i32, known: &[(i32, OwnedFd)]) -> Vec<(i32, OwnedFd)> {
    // A descriptor first and its line second: then a signal goes to the process that the line told of, or to nobody.
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let pid = rustix::process::Pid::from_raw(pid)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((Relatives::parse(&line)?, fd))
    });
    let mut others: Vec<_> = processes.filter(|(one, _)| !one.dead && one.pid != leader).collect();
    let mut family: Vec<i32> = known.iter().map(|(pid, _)| *pid).chain([leader]).collect();
    let mut found = Vec::new();
    loop {
        let related = |(one, _): &mut (Relatives, OwnedFd)| {
            one.session == leader || family.contains(&one.parent) || family.contains(&one.pid)
        };
        let more: Vec<_> = others.extract_if(.., related).collect();
        if more.is_empty() {
            return found;
        }
        for (one, fd) in more {
            if !family.contains(&one.pid) {
                family.push(one.pid);
                found.push((one.pid, fd));
            }
        }
    }
}

/// What a line of /proc/PID/stat says of a process's relations.
#[derive(Debug, PartialEq, Eq)]
struct Relatives {
    pid: i32,
    parent: i32,
    session: i32,
    dead: bool,
}

impl Relatives {
    /// proc_pid_stat(5). The name in parentheses may itself hold anything.
    fn parse(line: &str) -> Option<Self> {
        let pid = line.split_once(' ')?.0.parse().ok()?;
        let mut rest = line.rsplit_once(')')?.1.split_ascii_whitespace();
        let dead = matches!(rest.next()?, "Z" | "X");
        let parent = rest.next()?.parse().ok()?;
        let session = rest.nth(1)?.parse().ok()?;
        Some(Self { pid, parent, session, dead })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relatives_are_read_whatever_a_process_calls_itself() {
        let line = "42 (a) S 1 9 (b) S 7 42 41 34816 42 4194304\n";
        assert_eq!(Relatives::parse(line), Some(Relatives { pid: 42, parent: 7, session: 41, dead: false }));
        assert!(Relatives::parse("42 (x) Z 7 42 41 0").unwrap().dead);
        assert_eq!(Relatives::parse("42 (x"), None);
        assert_eq!(Relatives::parse(""), None);
    }
}
