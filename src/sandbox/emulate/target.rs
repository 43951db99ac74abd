//! The thread that made a call: its memory, its descriptors, and what its paths mean.
//!
//! # Invariants
//! - Nothing is opened but with O_PATH, so nothing blocks and no device, FIFO or socket notices.
//! - A path is resolved below the thread's own root or from a descriptor of its own, and never through a link of /proc: the
//!   supervisor's own root and its own /proc/self are out of reach.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Longest path with its end (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;
/// What is read of a path at first: nearly all are shorter.
const PATH_PIECE_BYTES: u64 = 512;
const PAGE_BYTES: u64 = 4096;
/// How often a resolution that a rename disturbed is tried again.
const TRIES: usize = 8;

/// Why a call is not answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The kernel knows better: it makes the call, and gives the error that is to be given.
    Continue,
    /// The call fails.
    Error(Errno),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

/// A thread in the middle of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'r> {
    pub(super) tid: u32,
    /// Its root, where that is known without asking.
    pub(super) root: Option<&'r OwnedFd>,
}

/// A root that is borrowed where it is known.
enum Root<'r> {
    Known(&'r OwnedFd),
    Own(OwnedFd),
}

impl std::ops::Deref for Root<'_> {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        match self {
            Self::Known(root) => root,
            Self::Own(root) => root,
        }
    }
}

impl<'r> Target<'r> {
    /// Reads memory; fewer bytes than asked for is a failure.
    pub(super) fn read(self, address: u64, buffer: &mut [u8]) -> Result<(), Stop> {
        let length = buffer.len();
        if self.transfer(libc::SYS_process_vm_readv, address, buffer.as_mut_ptr(), length)? == length {
            Ok(())
        } else {
            Err(Stop::Continue)
        }
    }

    /// Writes memory; a place that cannot be written is the caller's error.
    pub(super) fn write(self, address: u64, bytes: &[u8]) -> Result<(), Stop> {
        let from = bytes.as_ptr().cast_mut();
        match self.transfer(libc::SYS_process_vm_writev, address, from, bytes.len()) {
            Ok(length) if length == bytes.len() => Ok(()),
            _ => Err(Errno::FAULT.into()),
        }
    }

    fn transfer(
        self,
        call: libc::c_long,
        address: u64,
        local: *mut u8,
        length: usize,
    ) -> Result<usize, Stop> {
        if length == 0 {
            return Ok(0);
        }
        let local = libc::iovec { iov_base: local.cast(), iov_len: length };
        let there = std::ptr::without_provenance_mut(address as usize);
        let remote = libc::iovec { iov_base: there, iov_len: length };
        // SAFETY: the local part is a live slice of that length, written to by readv only, which is given a mutable one;
        // the remote part is checked by the kernel.
        let done = unsafe {
            libc::syscall(call, self.tid, &raw const local, 1usize, &raw const remote, 1usize, 0usize)
        };
        // Not permitted, gone, or no memory there: the kernel says which when it makes the call.
        usize::try_from(done).map_err(|_| Stop::Continue)
    }

    /// Reads a path.
    pub(super) fn path(self, address: u64) -> Result<Vec<u8>, Stop> {
        let mut path = Vec::new();
        let mut at = address;
        while path.len() < MAX_PATH_BYTES {
            // A page at a time at most: the next one may not be there.
            let length = (PAGE_BYTES - at % PAGE_BYTES).min(PATH_PIECE_BYTES) as usize;
            let start = path.len();
            path.resize(start + length, 0);
            self.read(at, &mut path[start..])?;
            if let Some(end) = path[start..].iter().position(|byte| *byte == 0) {
                path.truncate(start + end);
                return Ok(path);
            }
            at += length as u64;
        }
        Err(Stop::Continue)
    }

    fn proc(self, name: &str, flags: OFlags) -> Result<OwnedFd, Stop> {
        let path = format!("/proc/{}/{name}", self.tid);
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty())
            .map_err(|_| Stop::Continue)
    }

    /// The root directory, asked for.
    pub(super) fn own_root(self) -> Result<OwnedFd, Stop> {
        self.proc("root", OFlags::DIRECTORY)
    }

    fn root(self) -> Result<Root<'r>, Stop> {
        match self.root {
            Some(root) => Ok(Root::Known(root)),
            None => self.own_root().map(Root::Own),
        }
    }

    /// What one of its descriptors stands for.
    pub(super) fn descriptor(self, fd: i32) -> Result<OwnedFd, Stop> {
        if fd < 0 {
            return Err(Stop::Continue);
        }
        self.proc(&format!("fd/{fd}"), OFlags::empty())
    }

    /// The mode of the directory that relative paths begin at.
    pub(super) fn directory_mode(self, dirfd: i32) -> Result<u32, Stop> {
        let link = match dirfd {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.tid),
            fd => format!("/proc/{}/fd/{fd}", self.tid),
        };
        let stat = rustix::fs::stat(link).map_err(|_| Stop::Continue)?;
        Ok(stat.st_mode)
    }

    /// The path of what one of its descriptors stands for, as [`path_of`] gives it.
    pub(super) fn descriptor_path(self, fd: i32) -> Result<Vec<u8>, Stop> {
        let link = format!("/proc/{}/fd/{fd}", self.tid);
        let path = rustix::fs::readlinkat(CWD, link, Vec::with_capacity(256)).map_err(|_| Stop::Continue)?;
        Ok(path.into_bytes())
    }

    /// What a path means from a directory descriptor on; `None` when the path is empty.
    pub(super) fn resolve(self, dirfd: i32, path: &[u8], follow: bool) -> Result<OwnedFd, Stop> {
        if path.is_empty() {
            return Err(Stop::Continue);
        }
        if follow && let Some(fd) = magic_descriptor(path) {
            return self.descriptor(fd);
        }
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        if path[0] == b'/' {
            return below(&*self.root()?, path, flags, ResolveFlags::IN_ROOT);
        }
        let base = match dirfd {
            libc::AT_FDCWD => self.proc("cwd", OFlags::DIRECTORY)?,
            fd => self.descriptor(fd)?,
        };
        match below(&base, path, flags, ResolveFlags::NO_SYMLINKS) {
            Err(Stop::Error(Errno::LOOP)) => {}
            other => return other,
        }
        // An absolute link must end below the thread's root, which only a resolution that begins there does.
        let root = self.root()?;
        let (from, base) = (path_of(&root)?, path_of(&base)?);
        let from: &[u8] = if from == b"/" { b"" } else { &from };
        let base = base.strip_prefix(from).ok_or(Stop::Continue)?;
        below(&root, &[base, b"/", path].concat(), flags, ResolveFlags::IN_ROOT)
    }

    /// The directory in which a call would make a name, and that name.
    pub(super) fn resolve_parent(self, dirfd: i32, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), Stop> {
        let end = path.iter().rposition(|byte| *byte != b'/').ok_or(Stop::Continue)? + 1;
        let (parent, name) = match path[..end].iter().rposition(|byte| *byte == b'/') {
            Some(0) => (&b"/"[..], &path[1..end]),
            Some(at) => (&path[..at], &path[at + 1..end]),
            None => (&b"."[..], &path[..end]),
        };
        if name == b"." || name == b".." {
            return Err(Stop::Continue);
        }
        let parent = self.resolve(dirfd, &[parent, b"/."].concat(), true)?;
        Ok((parent, name.to_vec()))
    }

    /// The file creation mask.
    pub(super) fn umask(self) -> Result<u32, Stop> {
        let status = std::fs::read(format!("/proc/{}/status", self.tid)).map_err(|_| Stop::Continue)?;
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Umask:\t"));
        let text = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Stop::Continue)?;
        u32::from_str_radix(text.trim(), 8).map_err(|_| Stop::Continue)
    }
}

fn below(base: &OwnedFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Stop> {
    for _ in 0..TRIES {
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(base, path, flags, Mode::empty(), resolve) {
            Ok(fd) => return Ok(fd),
            // A rename somewhere on the way.
            Err(Errno::AGAIN) => {}
            Err(Errno::LOOP) if resolve.contains(ResolveFlags::NO_SYMLINKS) => {
                return Err(Errno::LOOP.into());
            }
            Err(_) => return Err(Stop::Continue),
        }
    }
    Err(Stop::Continue)
}

/// The path of a descriptor in its own mount namespace, from the root of that.
pub(super) fn path_of(fd: &OwnedFd) -> Result<Vec<u8>, Stop> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, link, Vec::with_capacity(256)).map_err(|_| Stop::Continue)?;
    Ok(path.into_bytes())
}

/// The descriptor that a path through /proc or /dev names, as far as it is the caller's own.
fn magic_descriptor(path: &[u8]) -> Option<i32> {
    let number = match path {
        b"/dev/stdin" => b"0",
        b"/dev/stdout" => b"1",
        b"/dev/stderr" => b"2",
        _ => ["/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"]
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix.as_bytes()))?,
    };
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_name_a_descriptor() {
        assert_eq!(magic_descriptor(b"/proc/self/fd/7"), Some(7));
        assert_eq!(magic_descriptor(b"/dev/stdout"), Some(1));
        assert_eq!(magic_descriptor(b"/dev/fd/12"), Some(12));
        assert_eq!(magic_descriptor(b"/proc/self/fd/7/x"), None);
        assert_eq!(magic_descriptor(b"/proc/1/fd/7"), None);
        assert_eq!(magic_descriptor(b"/etc/passwd"), None);
    }

    #[test]
    fn memory_and_paths_of_a_thread_are_read_as_it_sees_them() {
        let me = Target { tid: std::process::id(), root: None };
        let text = std::ffi::CString::new("/etc/passwd").unwrap();
        assert_eq!(me.path(text.as_ptr() as u64).unwrap(), b"/etc/passwd");
        assert_eq!(me.path(8), Err(Stop::Continue));
        let mut number = 0u32;
        me.write(&raw mut number as u64, &7u32.to_ne_bytes()).unwrap();
        assert_eq!(number, 7);
        assert_eq!(me.write(8, b"x"), Err(Stop::Error(Errno::FAULT)));
    }

    #[test]
    fn the_parent_of_a_path_is_found_whatever_slashes_it_has() {
        let me = Target { tid: std::process::id(), root: None };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new//").into_os_string().into_encoded_bytes();
        let (parent, name) = me.resolve_parent(libc::AT_FDCWD, &path).unwrap();
        assert_eq!(name, b"new");
        assert_eq!(path_of(&parent).unwrap(), dir.path().as_os_str().as_encoded_bytes());
        assert_eq!(me.resolve_parent(libc::AT_FDCWD, b"/").unwrap_err(), Stop::Continue);
        assert_eq!(me.resolve_parent(libc::AT_FDCWD, b"/tmp/..").unwrap_err(), Stop::Continue);
    }
}
