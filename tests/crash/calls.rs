//! The system calls that change a disk, and which paths they are about.

use std::path::{Path, PathBuf};

use nix::libc::{self, c_long, pid_t};

use super::sys::Registers;

/// How a call says what it is about, by the numbers of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// An open file.
    Fd(usize),
    /// A path from the working directory.
    Path(usize),
    /// A path from a directory; without a path the directory itself.
    At(usize, usize),
    /// Two paths from the working directory.
    Two(usize, usize),
    /// Two paths, each from a directory.
    TwoAt(usize, usize, usize, usize),
    /// A path from a directory, opened by flags that lie in a structure (openat2).
    How(usize, usize, usize),
}

/// What a call does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// May make a file, or cut one.
    Open,
    /// Writes bytes, at the file's position or at one that is given.
    Write,
    /// Writes bytes at the position in an argument.
    WriteAt(usize),
    /// Takes bytes from another file.
    Copy,
    /// Sets a length, or has room made.
    Length,
    /// Gives a name.
    Link,
    /// Gives another name.
    Rename,
    /// Takes a name away.
    Unlink,
    /// Makes a directory.
    MakeDir,
    /// Makes a symlink; its target is in an argument.
    Symlink(usize),
    /// Makes a special file.
    MakeNode,
    /// Sets mode, owner, times or attributes.
    Attributes,
    /// Brings a file or directory to the disk.
    Sync,
    /// Brings the whole file system to the disk.
    SyncAll,
}

const FICLONE: u64 = 0x4004_9409;
const OPENS: u32 = (libc::O_CREAT | libc::O_TRUNC) as u32;

const CALLS: &[(c_long, &str, Act, About)] = {
    use About::{At, Fd, How, Path, Two, TwoAt};
    &[
        (libc::SYS_open, "open", Act::Open, Path(0)),
        (libc::SYS_creat, "creat", Act::Open, Path(0)),
        (libc::SYS_openat, "openat", Act::Open, At(0, 1)),
        (libc::SYS_openat2, "openat2", Act::Open, How(0, 1, 2)),
        (libc::SYS_write, "write", Act::Write, Fd(0)),
        (libc::SYS_writev, "writev", Act::Write, Fd(0)),
        (libc::SYS_pwrite64, "pwrite64", Act::WriteAt(3), Fd(0)),
        (libc::SYS_pwritev, "pwritev", Act::WriteAt(3), Fd(0)),
        (libc::SYS_pwritev2, "pwritev2", Act::WriteAt(3), Fd(0)),
        (libc::SYS_copy_file_range, "copy_file_range", Act::Copy, Fd(2)),
        (libc::SYS_sendfile, "sendfile", Act::Copy, Fd(0)),
        (libc::SYS_splice, "splice", Act::Copy, Fd(2)),
        (libc::SYS_ioctl, "ioctl", Act::Copy, Fd(0)),
        (libc::SYS_ftruncate, "ftruncate", Act::Length, Fd(0)),
        (libc::SYS_truncate, "truncate", Act::Length, Path(0)),
        (libc::SYS_fallocate, "fallocate", Act::Length, Fd(0)),
        (libc::SYS_rename, "rename", Act::Rename, Two(0, 1)),
        (libc::SYS_renameat, "renameat", Act::Rename, TwoAt(0, 1, 2, 3)),
        (libc::SYS_renameat2, "renameat2", Act::Rename, TwoAt(0, 1, 2, 3)),
        (libc::SYS_link, "link", Act::Link, Two(0, 1)),
        (libc::SYS_linkat, "linkat", Act::Link, TwoAt(0, 1, 2, 3)),
        (libc::SYS_unlink, "unlink", Act::Unlink, Path(0)),
        (libc::SYS_unlinkat, "unlinkat", Act::Unlink, At(0, 1)),
        (libc::SYS_rmdir, "rmdir", Act::Unlink, Path(0)),
        (libc::SYS_mkdir, "mkdir", Act::MakeDir, Path(0)),
        (libc::SYS_mkdirat, "mkdirat", Act::MakeDir, At(0, 1)),
        (libc::SYS_symlink, "symlink", Act::Symlink(0), Path(1)),
        (libc::SYS_symlinkat, "symlinkat", Act::Symlink(0), At(1, 2)),
        (libc::SYS_mknod, "mknod", Act::MakeNode, Path(0)),
        (libc::SYS_mknodat, "mknodat", Act::MakeNode, At(0, 1)),
        (libc::SYS_chmod, "chmod", Act::Attributes, Path(0)),
        (libc::SYS_fchmod, "fchmod", Act::Attributes, Fd(0)),
        (libc::SYS_fchmodat, "fchmodat", Act::Attributes, At(0, 1)),
        (libc::SYS_fchmodat2, "fchmodat2", Act::Attributes, At(0, 1)),
        (libc::SYS_chown, "chown", Act::Attributes, Path(0)),
        (libc::SYS_lchown, "lchown", Act::Attributes, Path(0)),
        (libc::SYS_fchown, "fchown", Act::Attributes, Fd(0)),
        (libc::SYS_fchownat, "fchownat", Act::Attributes, At(0, 1)),
        (libc::SYS_utimensat, "utimensat", Act::Attributes, At(0, 1)),
        (libc::SYS_setxattr, "setxattr", Act::Attributes, Path(0)),
        (libc::SYS_lsetxattr, "lsetxattr", Act::Attributes, Path(0)),
        (libc::SYS_fsetxattr, "fsetxattr", Act::Attributes, Fd(0)),
        (libc::SYS_removexattr, "removexattr", Act::Attributes, Path(0)),
        (libc::SYS_lremovexattr, "lremovexattr", Act::Attributes, Path(0)),
        (libc::SYS_fremovexattr, "fremovexattr", Act::Attributes, Fd(0)),
        (libc::SYS_fsync, "fsync", Act::Sync, Fd(0)),
        (libc::SYS_fdatasync, "fdatasync", Act::Sync, Fd(0)),
        (libc::SYS_sync_file_range, "sync_file_range", Act::Sync, Fd(0)),
        (libc::SYS_syncfs, "syncfs", Act::SyncAll, Fd(0)),
    ]
};

/// The calls at which a tracee stops. Nearly every `openat` is one for reading, so its flags are looked at before.
pub(super) fn stops() -> Vec<(c_long, Option<u32>)> {
    CALLS.iter().map(|(number, ..)| (*number, (*number == libc::SYS_openat).then_some(OPENS))).collect()
}

/// A call that is about something below the store.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Its name.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) act: Act,
    /// What it is about; of two paths the new one.
    pub(super) path: PathBuf,
    /// Of two paths the old one.
    pub(super) from: Option<PathBuf>,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// The call at which a process stands; `None` when it is not about the store.
pub(super) fn at(pid: pid_t, registers: &Registers, store: &Path) -> Option<Call> {
    let number = registers.orig_rax.cast_signed();
    let (_, name, act, about) = CALLS.iter().find(|(known, ..)| *known == number)?;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
    let flags = match number {
        libc::SYS_open => arguments[1],
        libc::SYS_openat2 => u64::from_ne_bytes(memory(pid, arguments[2], 8)?.try_into().ok()?),
        _ => u64::MAX,
    };
    if flags & u64::from(OPENS) == 0 || number == libc::SYS_ioctl && arguments[1] != FICLONE {
        return None;
    }
    let resolve = |dir: Option<u64>, path: usize| resolve(pid, dir, arguments[path]);
    let (path, from) = match *about {
        About::Fd(fd) => (opened(pid, arguments[fd] as i32)?, None),
        About::Path(path) => (resolve(None, path)?, None),
        About::At(dir, path) | About::How(dir, path, _) => (resolve(Some(arguments[dir]), path)?, None),
        About::Two(from, to) => (resolve(None, to)?, Some(resolve(None, from)?)),
        About::TwoAt(from_dir, from, to_dir, to) => {
            (resolve(Some(arguments[to_dir]), to)?, Some(resolve(Some(arguments[from_dir]), from)?))
        }
    };
    let concerns = path.starts_with(store) || from.as_ref().is_some_and(|from| from.starts_with(store));
    concerns.then_some(Call { name, act: *act, path, from, arguments })
}

/// Bytes of a process's memory.
pub(super) fn memory(pid: pid_t, at: u64, len: usize) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; len];
    let file = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let read = file.read_at(&mut bytes, at).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// A text in a process's memory, which ends with NUL.
pub(super) fn text(pid: pid_t, at: u64) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    // A page at a time: what follows the text's own page may not be there.
    let mut bytes = Vec::new();
    while bytes.len() < 8192 {
        let from = at + bytes.len() as u64;
        let part = memory(pid, from, 4096 - (from % 4096) as usize)?;
        let end = part.iter().position(|byte| *byte == 0);
        bytes.extend_from_slice(&part[..end.unwrap_or(part.len())]);
        if end.is_some() {
            break;
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

fn opened(pid: pid_t, fd: i32) -> Option<PathBuf> {
    let name = match fd {
        libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
        _ => format!("/proc/{pid}/fd/{fd}"),
    };
    std::fs::read_link(name).ok()
}

fn resolve(pid: pid_t, dir: Option<u64>, path: u64) -> Option<PathBuf> {
    let base = || opened(pid, dir.map_or(libc::AT_FDCWD, |dir| dir as i32));
    if path == 0 {
        return base();
    }
    let path = text(pid, path)?;
    let joined = if path.is_absolute() { path } else { base()?.join(path) };
    let mut clean = PathBuf::new();
    for part in joined.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    // The worker reaches files by `/proc/self/fd/N`.
    if let Ok(rest) = clean.strip_prefix("/proc/self/fd") {
        let mut parts = rest.iter();
        let fd = parts.next()?.to_str()?.parse().ok()?;
        return Some(parts.fold(opened(pid, fd)?, |path, part| path.join(part)));
    }
    Some(clean)
}
