//! Root over one id: a supervisor that answers, as real root would see them, the calls that the kernel refuses to a user
//! namespace with one id, and records what they asked for.
//!
//! The payload's filter ([`calls`]) sends changes of owner and identity, device nodes, some attributes and everything that shows
//! them to this process. A change is made as far as the kernel allows, by this process on the thread's behalf and on an object that it
//! holds itself, never checked here and then left to the thread; what was meant is recorded ([`records`]) and shown from then on.
//! Capture takes the records into the tree.
//!
//! # Invariants
//! - It is faithfulness, not a wall: the kernel's ids of every process inside stay the one mapped id, and its checks hold.
//! - No answer waits for anything inside the sandbox.
//! - Where the kernel itself gives the right answer, or a thread's memory or path cannot be read, the kernel answers.
//!
//! # Compatibility
//! Linux ≥ 5.5 (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`); creating files as somebody else wants 5.14 (`SECCOMP_ADDFD_FLAG_SEND`). The 32-bit
//! conventions have their 32-bit ids and statx answered, not the older `stat` structures.

mod calls;
mod creds;
mod files;
mod identity;
mod make;
mod notify;
mod records;
mod stat;
mod target;
mod xattrs;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use serde::{Deserialize, Serialize};

use super::error::LaunchError;
use super::plan::{Plan, Rootfs};
use super::seccomp::Abi;
use calls::Call;
pub(crate) use calls::filter;
pub(crate) use creds::mark_self;
use creds::{Creds, Known};
use notify::{Answer, Listener, Question};
use records::Origin;
pub use records::{Device, Owned, Recorded, Records};
use target::{Stop, Target};

/// What the supervisor has to know of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulation {
    /// Every file that is not 0:0, or not what it is on disk.
    pub owned: Vec<Owned>,
    /// The number of who the payload believes to be; [`Emulator::admit`] sets it.
    pub identity: u64,
}

/// The supervisor of one sandbox.
#[derive(Debug)]
pub struct Emulator {
    listeners: Vec<Listener>,
    origin: Origin,
    records: Records,
    known: Known,
    /// Whether some process may have changed its root.
    roots_differ: bool,
    /// Whether there may be a directory that gives a group other than 0 to what is made in it.
    gives_group: bool,
}

/// A call under consideration.
#[derive(Clone, Copy)]
struct Ask<'l> {
    listener: &'l Listener,
    question: &'l Question,
    target: Target<'l>,
}

impl Ask<'_> {
    fn arg(&self, at: usize) -> u64 {
        self.question.args[at]
    }

    /// An argument that the kernel takes as 32 bits.
    fn word(&self, at: usize) -> u32 {
        self.question.args[at] as u32
    }

    fn fd(&self, at: usize) -> i32 {
        self.question.args[at] as i32
    }

    fn path(&self, at: usize) -> Result<Vec<u8>, Stop> {
        self.target.path(self.arg(at))
    }

    /// What a directory descriptor and a path mean, with the flags that the `at` calls have.
    fn at(&self, dirfd: usize, path: usize, flags: u32) -> Result<OwnedFd, Stop> {
        let empty = flags & libc::AT_EMPTY_PATH as u32 != 0;
        let text = if empty && self.arg(path) == 0 { Vec::new() } else { self.path(path)? };
        match (text.is_empty(), self.fd(dirfd)) {
            (true, libc::AT_FDCWD) if empty => self.target.resolve(libc::AT_FDCWD, b".", true),
            (true, fd) if empty => self.target.descriptor(fd),
            (_, fd) => self.target.resolve(fd, &text, flags & libc::AT_SYMLINK_NOFOLLOW as u32 == 0),
        }
    }

    /// The thread still waits, so everything read of it was its own. Asked before anything is changed on its behalf.
    fn still(&self) -> Result<(), Stop> {
        if self.listener.is_valid(self.question) { Ok(()) } else { Err(Stop::Continue) }
    }
}

impl Emulator {
    /// The supervisor that a plan wants, if it wants one.
    pub fn for_plan(plan: &Plan) -> Result<Option<Self>, LaunchError> {
        let Some(emulation) = &plan.emulation else { return Ok(None) };
        let upper = match &plan.rootfs {
            Rootfs::Overlay { upper, .. } => upper.as_ref().map(|upper| upper.upper.as_path()),
            Rootfs::Directory { path, read_only } => (!read_only).then_some(path.as_path()),
        };
        let upper = upper
            .map(records::open_upper)
            .transpose()
            .map_err(|errno| LaunchError::system("open the upper directory", errno.raw_os_error()))?;
        Ok(Some(Self {
            listeners: Vec::new(),
            origin: Origin::new(upper),
            records: Records::new(&emulation.owned),
            known: Known::default(),
            roots_differ: false,
            gives_group: emulation.owned.iter().any(|one| one.gives_group),
        }))
    }

    /// Takes over the supervisor's end of a payload's filter.
    pub fn attach(&mut self, listener: OwnedFd) {
        self.listeners.push(Listener::new(listener));
    }

    /// What was recorded.
    pub fn into_records(self) -> Records {
        self.records
    }

    /// Makes a plan's payload believe to be who the plan says. Done before the payload is started.
    pub fn admit(&mut self, plan: &mut Plan) {
        let number = self.known.number(&Creds::of(plan.uid, plan.gid, &plan.groups));
        if let Some(emulation) = &mut plan.emulation {
            emulation.identity = number;
        }
    }

    /// The descriptors that become readable when a call waits for an answer.
    pub fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(AsFd::as_fd)
    }

    /// Answers a call on each listener that has one; lets go of those whose last process is gone. Never waits.
    pub fn serve_all(&mut self) {
        let event = |listener: &Listener| libc::pollfd {
            fd: listener.as_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut events: Vec<libc::pollfd> = self.listeners.iter().map(event).collect();
        super::sys::poll_now(&mut events);
        for (at, event) in events.iter().enumerate() {
            if event.revents & libc::POLLIN != 0 {
                self.serve(at);
            }
        }
        let mut events = events.into_iter();
        // A hang-up with nothing to read.
        let alive = |event: libc::pollfd| event.revents == 0 || event.revents & libc::POLLIN != 0;
        self.listeners.retain(|_| events.next().is_none_or(alive));
    }

    /// Answers one call.
    fn serve(&mut self, at: usize) {
        let listener = self.listeners.swap_remove(at);
        if let Some(question) = listener.receive() {
            let answer = match self.consider(&listener, &question) {
                Ok(answer) => answer,
                Err(Stop::Continue) => Answer::Continue,
                Err(Stop::Error(errno)) => Answer::Error(errno),
            };
            listener.answer(&question, answer);
        }
        self.listeners.push(listener);
        let last = self.listeners.len() - 1;
        self.listeners.swap(at, last);
    }

    fn consider(&mut self, listener: &Listener, question: &Question) -> Result<Answer, Stop> {
        let abi = Abi::of_arch(question.arch);
        let ask = &Ask { listener, question, target: Target { tid: question.tid, root: None } };
        let Some(call) = abi.and_then(|abi| Call::of(abi, question.number)) else {
            return Err(Stop::Continue);
        };
        match call {
            Call::GetUid | Call::GetEuid | Call::GetGid | Call::GetEgid => self.one_id(ask, call),
            Call::GetResuid | Call::GetResgid => self.three_ids(ask, call),
            Call::GetGroups => self.groups(ask),
            Call::SetUid
            | Call::SetGid
            | Call::SetReuid
            | Call::SetRegid
            | Call::SetResuid
            | Call::SetResgid
            | Call::SetFsuid
            | Call::SetFsgid
            | Call::SetGroups
            | Call::KeepCapabilities => self.become_other(ask, call),
            Call::Chroot => {
                self.roots_differ = true;
                Err(Stop::Continue)
            }
            call => {
                self.origin.learn_root(|| ask.target.own_root())?;
                let root = if self.roots_differ { None } else { self.origin.root() };
                let target = Target { tid: question.tid, root: root.as_deref() };
                self.consider_file(&Ask { listener, question, target }, call)
            }
        }
    }

    fn consider_file(&mut self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        match call {
            Call::Stat { .. } | Call::Fstat | Call::Fstatat | Call::Statx => self.stat(ask, call),
            Call::Chown { .. } | Call::Fchown | Call::Fchownat => self.chown(ask, call),
            Call::Link | Call::Linkat => self.link(ask, call),
            Call::Rename => self.rename(ask, [None, None], [0, 1], false),
            Call::Renameat => self.rename(ask, [Some(0), Some(2)], [1, 3], false),
            Call::Renameat2 => self.rename(ask, [Some(0), Some(2)], [1, 3], true),
            Call::Unlink | Call::Rmdir => self.unlink(ask, None, call == Call::Rmdir),
            Call::Unlinkat => self.unlink(ask, Some(0), ask.word(2) & libc::AT_REMOVEDIR as u32 != 0),
            Call::Open | Call::Openat | Call::Openat2 | Call::Creat => self.open(ask, call),
            Call::Mkdir => self.mkdir(ask, None, 0),
            Call::Mkdirat => self.mkdir(ask, Some(0), 1),
            Call::Symlink => self.symlink(ask, None, 1),
            Call::Symlinkat => self.symlink(ask, Some(1), 2),
            Call::Mknod => self.mknod(ask, None, 0),
            Call::Mknodat => self.mknod(ask, Some(0), 1),
            Call::SetXattr(file) => self.set_xattr(ask, file),
            Call::GetXattr(file) => self.get_xattr(ask, file),
            Call::ListXattr(file) => self.list_xattrs(ask, file),
            Call::RemoveXattr(file) => self.remove_xattr(ask, file),
            _ => Err(Stop::Continue),
        }
    }

    fn creds(&self, ask: &Ask<'_>) -> &Creds {
        self.known.of(ask.target.tid)
    }
}
