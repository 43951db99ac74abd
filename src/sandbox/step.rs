//! The steps of a launch: what the first processes of a sandbox do, one after the other.
//!
//! A step owns everything its system calls need (zero-terminated strings, arrays), so that performing it allocates
//! nothing. Printing a step is how errors and `Plan`'s `Display` name it.

use std::ffi::{CStr, CString};
use std::fmt;

use nix::libc;

use super::plan::{FileIdentity, Resource, SecretBytes, TerminalSize};
use super::seccomp::Feature;

/// One step. The order of the list they stand in is fixed in `prepare`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait until the parent has written the id maps and connected a private network; before that this process may own nothing.
    AwaitMaps,
    /// Stop mounts from travelling between the host and here.
    PrivateMounts,
    /// Use so many of the processors.
    Processors(u32),
    /// Leave the host's session keyring.
    OwnKeyring,
    /// Drop what the caller's scheduling and personality would change inside.
    OrdinaryProcess,
    /// Bound the process ids of the new pid namespace, where the kernel can.
    ProcessIds { most: u32 },
    /// Set the host name.
    Hostname(Vec<u8>),
    /// Bring the loopback interface up.
    LoopbackUp,
    /// Mount the overlay that becomes the root.
    Overlay(OverlayLayers),
    /// Bind the directory that becomes the root.
    BindRoot { source: CString, read_only: bool },
    /// Mount a proc of the new pid namespace.
    FreshProc,
    /// Cover a path below /proc or /sys, if it exists.
    Mask(CString),
    /// Cover a path below /sys, if it exists and /sys is the host's.
    MaskOfHost(CString),
    /// Make a path below /proc read-only, if it exists.
    ReadOnly(CString),
    /// Mount a read-only sysfs of the new network namespace, or show the host's, or nothing.
    FreshSys,
    /// Show the host's sysfs, read-only.
    HostSys,
    /// Mount an empty /dev.
    Dev,
    /// Bring in one device of the host, after a check that it is that device.
    Device { name: CString, host: CString, major: u32, minor: u32 },
    /// Make a link in /dev.
    DevLink { name: CString, target: CString },
    /// Mount terminals of the sandbox's own.
    DevPts { tty_group: bool },
    /// Mount shared memory.
    DevShm,
    /// Mount message queues, where the kernel has them.
    DevMqueue,
    /// Bind a path of the host, after a check that it is still that file.
    Bind { source: CString, found: Option<FileIdentity>, target: CString, read_only: bool },
    /// Mount an empty file system in memory; the mode is octal digits.
    Tmpfs { target: CString, size: CString, mode: CString, read_only: bool },
    /// Show a file that exists in memory alone.
    Secret { target: CString, content: SecretBytes, mode: u32, uid: u32, gid: u32 },
    /// Make a mount point inside a mount of the sandbox's own, if it is not there.
    Point { parent: CString, name: CString, directory: bool },
    /// Make the new root the root and let the host's go.
    Pivot,
    /// Refuse dangerous system calls from here on, but for what these features need.
    Seal(Vec<Feature>),
    /// Create the payload's process; what follows happens there.
    Fork,
    /// Let this process wait for others to join; it collects the dead meanwhile.
    Idle,
    /// Enter the namespaces of a sandbox and create a process there; what follows happens in that.
    Join,
    /// Open a terminal of the sandbox's own and send the other end of it to the parent.
    Terminal { size: TerminalSize, owner: u32 },
    /// Start a session, on the terminal if there is one.
    NewSession { tty: bool },
    /// Put the three standard streams in place and close every other descriptor.
    Streams { owner: u32 },
    /// Set one resource limit.
    Limit { resource: Resource, soft: u64, hard: u64 },
    /// Set one resource limit, or what the caller may have of it if that is less.
    LimitAtMost { resource: Resource, soft: u64, hard: u64 },
    /// Set the file creation mask.
    Umask(u32),
    /// Enter the working directory.
    WorkDir(CString),
    /// See that the program is a file of the sandbox's own, and not what a link in /proc makes of this process.
    OwnProgram(Program),
    /// Drop what no process of the sandbox may ever have.
    BoundCapabilities,
    /// Set the supplementary groups.
    Groups(Vec<u32>),
    /// Set the group id.
    Gid(u32),
    /// Set the user id.
    Uid(u32),
    /// Keep the capabilities of a container's root, or none.
    Capabilities { root: bool },
    /// Make setuid programs inert.
    NoNewPrivileges,
    /// Send calls that only real root may make to the supervisor, and believe to be who that number stands for.
    Emulate { filter: Vec<libc::sock_filter>, identity: u64 },
    /// Put signals back to their defaults.
    DefaultSignals,
    /// Become the program.
    Exec(Program),
    /// Use the root as a probe does.
    Exercise(Exercise),
}

/// What a probe does in its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exercise {
    /// Remove the file `gone`; remove the directory `dir` with its file `inner`, and make it anew.
    RemoveAndReplace,
    /// Read `redirected` and find `CONTENT` there.
    ReadRedirected,
    /// Become a group that is not mapped, and find that it worked.
    BecomeOther,
}

impl Exercise {
    /// What the redirected file holds.
    pub(crate) const CONTENT: &'static [u8] = b"treebox";
}

/// The directories of an overlay, twice: whole names, and one option string for the old mount(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OverlayLayers {
    pub(crate) lowers: Vec<CString>,
    pub(crate) data_lower: Option<CString>,
    /// Upper and work directory.
    pub(crate) upper: Option<(CString, CString)>,
    /// The directory that the names in `options` are relative to.
    pub(crate) base: CString,
    pub(crate) options: CString,
    /// Where the mount is attached until the pivot: any directory that certainly exists.
    pub(crate) attach_at: CString,
    /// Use mount(2) at once, as is done on kernels before 6.13; tests set it.
    pub(crate) old_mount: bool,
}

/// A program with its arguments, ready for execve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The paths to try, in order.
    pub(crate) candidates: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AwaitMaps => f.write_str("wait for the id maps"),
            Self::PrivateMounts => f.write_str("make all mounts private"),
            Self::Processors(count) => write!(f, "use {count} processors"),
            Self::OwnKeyring => f.write_str("join a new session keyring"),
            Self::OrdinaryProcess => f.write_str("become an ordinary process"),
            Self::ProcessIds { most } => write!(f, "bound process ids to {most}"),
            Self::Hostname(name) => write!(f, "set the host name to {}", name.escape_ascii()),
            Self::LoopbackUp => f.write_str("bring the loopback interface up"),
            Self::Overlay(layers) => write!(f, "mount the overlay root ({layers})"),
            Self::BindRoot { source, read_only } => {
                write!(f, "bind {} as the root{}", text(source), read_only_word(*read_only))
            }
            Self::FreshProc => f.write_str("mount /proc"),
            Self::Mask(path) => write!(f, "mask /{}", text(path)),
            Self::MaskOfHost(path) => write!(f, "mask /{} if it is the host's", text(path)),
            Self::ReadOnly(path) => write!(f, "make /{} read-only", text(path)),
            Self::FreshSys => f.write_str("mount /sys read-only"),
            Self::HostSys => f.write_str("bind the host's /sys read-only"),
            Self::Dev => f.write_str("mount an empty /dev"),
            Self::Device { name, major, minor, .. } => {
                write!(f, "bind the device /dev/{} ({major}:{minor})", text(name))
            }
            Self::DevLink { name, target } => write!(f, "link /dev/{} to {}", text(name), text(target)),
            Self::DevPts { .. } => f.write_str("mount /dev/pts"),
            Self::DevShm => f.write_str("mount /dev/shm"),
            Self::DevMqueue => f.write_str("mount /dev/mqueue"),
            Self::Bind { source, target, read_only, .. } => {
                write!(f, "bind {} at {}{}", text(source), text(target), read_only_word(*read_only))
            }
            Self::Tmpfs { target, size, read_only, .. } => {
                let word = read_only_word(*read_only);
                write!(f, "mount a tmpfs of {} bytes at {}{word}", text(size), text(target))
            }
            Self::Secret { target, .. } => write!(f, "show a secret at {}", text(target)),
            Self::Point { parent, name, .. } => {
                write!(f, "make the mount point {} in {}", text(name), text(parent))
            }
            Self::Pivot => f.write_str("make the new root the root"),
            Self::Seal(allow) => {
                f.write_str("refuse dangerous system calls")?;
                for (at, feature) in allow.iter().enumerate() {
                    write!(f, "{} {}", if at == 0 { ", but allow" } else { "," }, feature.name())?;
                }
                Ok(())
            }
            Self::Fork => f.write_str("create the payload's process"),
            Self::Idle => f.write_str("wait for commands"),
            Self::Join => f.write_str("join the sandbox"),
            Self::Terminal { size, .. } => {
                write!(f, "open a terminal of {} lines with {} columns", size.rows, size.columns)
            }
            Self::NewSession { tty: false } => f.write_str("start a session"),
            Self::NewSession { tty: true } => f.write_str("start a session on the terminal"),
            Self::Streams { .. } => f.write_str("put the standard streams in place"),
            Self::Limit { resource, soft, hard } => {
                write!(f, "limit {resource:?} to {} (at most {})", limit(*soft), limit(*hard))
            }
            Self::LimitAtMost { resource, soft, hard } => {
                write!(f, "limit {resource:?} to {} (at most {}), or less", limit(*soft), limit(*hard))
            }
            Self::Umask(mask) => write!(f, "set the umask to {mask:03o}"),
            Self::WorkDir(path) => write!(f, "enter the working directory {}", text(path)),
            Self::OwnProgram(_) => f.write_str("see that the program lies inside"),
            Self::BoundCapabilities => f.write_str("drop capabilities from the bounding set"),
            Self::Groups(groups) => write!(f, "set the supplementary groups to {groups:?}"),
            Self::Gid(gid) => write!(f, "become group {gid}"),
            Self::Uid(uid) => write!(f, "become user {uid}"),
            Self::Capabilities { root: true } => f.write_str("keep the capabilities of a container's root"),
            Self::Capabilities { root: false } => f.write_str("drop all capabilities"),
            Self::NoNewPrivileges => f.write_str("refuse new privileges"),
            Self::Emulate { .. } => f.write_str("send root's calls to the supervisor"),
            Self::DefaultSignals => f.write_str("put signals back to their defaults"),
            Self::Exec(program) => write!(f, "execute {program}"),
            Self::Exercise(Exercise::RemoveAndReplace) => {
                f.write_str("remove and replace things in an overlay")
            }
            Self::Exercise(Exercise::BecomeOther) => f.write_str("become another group"),
            Self::Exercise(Exercise::ReadRedirected) => f.write_str("read a file through a data-only layer"),
        }
    }
}

impl fmt::Display for OverlayLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.upper {
            Some((upper, _)) => write!(f, "upper {}", text(upper))?,
            None => f.write_str("read-only")?,
        }
        for lower in &self.lowers {
            write!(f, ", lower {}", text(lower))?;
        }
        match &self.data_lower {
            Some(data) => write!(f, ", data {}", text(data)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, word) in self.argv.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{}", text(word))?;
        }
        Ok(())
    }
}

fn text(bytes: &CStr) -> impl fmt::Display + '_ {
    bytes.to_bytes().escape_ascii()
}

fn read_only_word(read_only: bool) -> &'static str {
    if read_only { ", read-only" } else { "" }
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() }
}
