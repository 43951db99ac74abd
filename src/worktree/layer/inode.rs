//! Making and reading single inodes below an open directory.
//!
//! Everything goes through a directory descriptor and a single name, so no path is ever walked twice and no symlink is followed.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

use crate::disk::{DiskError, XattrRead, read_xattrs, set_xattr};
use crate::object::{Meta, Timestamp, Xattrs};

/// Prefix of the attributes that overlayfs keeps for itself.
pub(super) const OVERLAY_PRIVATE: &[u8] = b"user.overlay.";
/// An attribute of that prefix that belongs to the user is stored one level deeper (Linux ≥ 6.7).
const OVERLAY_ESCAPED: &[u8] = b"user.overlay.overlay.";
/// Marks a directory that hides lower ones.
pub(super) const OPAQUE: &[u8] = b"user.overlay.opaque";

/// Longer paths are gone in several steps.
const MAX_CALL_PATH: usize = 4000;

/// A directory open for work, with its path for messages.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
}

impl Dir {
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let fd = rustix::fs::open(path, dir_flags(), Mode::empty())
            .map_err(|errno| DiskError::new("open directory", path, errno))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(super) fn open_child(&self, name: &[u8]) -> Result<Self, DiskError> {
        let path = self.join(name);
        let fd = rustix::fs::openat(&self.fd, name, dir_flags(), Mode::empty())
            .map_err(|errno| DiskError::new("open directory", &path, errno))?;
        Ok(Self { fd, path })
    }

    /// Does something at a path below, which may be longer than one system call takes: 4095 bytes (`PATH_MAX`).
    pub(super) fn at_path<T>(
        &self,
        path: &[u8],
        act: impl FnOnce(&Self, &[u8]) -> T,
    ) -> Result<T, DiskError> {
        if path.len() <= MAX_CALL_PATH {
            return Ok(act(self, path));
        }
        // A name has at most 255 bytes, so there is a slash.
        let slash = path[..MAX_CALL_PATH].iter().rposition(|byte| *byte == b'/').unwrap_or(path.len());
        self.open_child(&path[..slash])?.at_path(path.get(slash + 1..).unwrap_or_default(), act)
    }

    pub(super) fn join(&self, name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        if name.is_empty() { self.path.clone() } else { self.path.join(std::ffi::OsStr::from_bytes(name)) }
    }

    pub(super) fn error(&self, verb: &'static str, name: &[u8], errno: rustix::io::Errno) -> DiskError {
        DiskError::new(verb, self.join(name), errno)
    }

    /// A path that leads to a name here however deep it lies: calls without an `at` form need one.
    pub(super) fn proc_path(&self, name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let here = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        if name.is_empty() { here } else { here.join(std::ffi::OsStr::from_bytes(name)) }
    }

    pub(super) fn stat(&self, name: &[u8]) -> Result<Stat, DiskError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        rustix::fs::statat(&self.fd, name, flags).map_err(|errno| self.error("look at", name, errno))
    }

    /// The names in this directory, sorted by bytes.
    pub(super) fn names(&self) -> Result<Vec<Vec<u8>>, DiskError> {
        let read = rustix::fs::Dir::read_from(&self.fd).map_err(|errno| self.error("list", b"", errno))?;
        let mut names = Vec::new();
        for entry in read {
            let entry = entry.map_err(|errno| self.error("list", b"", errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn open_file(&self, name: &[u8]) -> Result<File, DiskError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|errno| self.error("open", name, errno))?;
        Ok(File::from(fd))
    }

    pub(super) fn create_file(&self, name: &[u8]) -> Result<File, DiskError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| self.error("create", name, errno))?;
        Ok(File::from(fd))
    }

    pub(super) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, DiskError> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new())
            .map_err(|errno| self.error("read symlink", name, errno))?;
        Ok(target.into_bytes())
    }

    pub(super) fn make_whiteout(&self, name: &[u8]) -> Result<(), DiskError> {
        rustix::fs::mknodat(&self.fd, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|errno| self.error("make whiteout", name, errno))
    }

    /// Makes `name` another name of what is at `from` in `from_dir`.
    pub(super) fn link(&self, from_dir: BorrowedFd<'_>, from: &[u8], name: &[u8]) -> rustix::io::Result<()> {
        rustix::fs::linkat(from_dir, from, &self.fd, name, AtFlags::empty())
    }
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

pub(super) fn mtime_of(stat: &Stat) -> Timestamp {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or_default()
}

pub(super) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind_of(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Attributes of an inode as the tree keeps them, and whether overlayfs marked it as opaque.
pub(super) fn read_meta(dir: &Dir, name: &[u8], stat: &Stat) -> Result<(Meta, bool), DiskError> {
    let kind = kind_of(stat);
    let mut xattrs = Xattrs::none();
    let mut opaque = false;
    for (key, value) in read_attributes(dir, name, kind)? {
        if key == OPAQUE {
            opaque = value == b"y" || value == b"x";
        } else if let Some(rest) = key.strip_prefix(OVERLAY_ESCAPED) {
            // Names and values come from the kernel, which has the same limits.
            let _ = xattrs.set([OVERLAY_PRIVATE, rest].concat(), value);
        } else if !key.starts_with(OVERLAY_PRIVATE) && is_content(&key) {
            let _ = xattrs.set(key, value);
        }
    }
    let meta = Meta {
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime_of(stat),
        xattrs,
    };
    Ok((meta, opaque))
}

/// The attributes of a name, without opening what must not be opened.
pub(super) fn read_attributes(dir: &Dir, name: &[u8], kind: FileType) -> Result<XattrRead, DiskError> {
    if matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink) {
        // A path through /proc/self/fd: xattr calls have no `at` form before Linux 6.13. The last name is not followed; for
        // the directory itself the magic link must be, which the added slash-dot does.
        let name = if name.is_empty() { b".".as_slice() } else { name };
        return read_xattrs(&dir.proc_path(name));
    }
    Ok(Vec::new())
}

/// Whether an attribute is part of a file's content, not of the host's security module.
fn is_content(name: &[u8]) -> bool {
    name == b"security.capability" || !name.starts_with(b"security.")
}

/// Whether an attribute could be set on disk by root of a user namespace on this kind of file.
pub(super) fn can_hold(name: &[u8], kind: FileType) -> bool {
    let file_or_dir = matches!(kind, FileType::RegularFile | FileType::Directory);
    match name {
        _ if name.starts_with(b"user.") => file_or_dir,
        _ if name.starts_with(b"system.posix_acl_") => file_or_dir,
        b"security.capability" => kind == FileType::RegularFile,
        _ => false,
    }
}

/// Sets owner, extended attributes, mode and time of a name, in the order that keeps each.
///
/// A change of owner clears setuid bits and capabilities, so it comes first; the time comes last. `owner` is `None` when only one id is
/// mapped. Gives the names of attributes that could not be set.
pub(super) fn dress(
    dir: &Dir,
    name: &[u8],
    kind: FileType,
    meta: &Meta,
    owner: Option<(u32, u32)>,
) -> Result<Vec<Vec<u8>>, DiskError> {
    let mut missing = Vec::new();
    if let Some((uid, gid)) = owner {
        let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        rustix::fs::chownat(&dir.fd, name, Some(owner.0), Some(owner.1), flags)
            .map_err(|errno| dir.error("change the owner of", name, errno))?;
    }
    for xattr in meta.xattrs.iter() {
        let key = match xattr.name.strip_prefix(OVERLAY_PRIVATE) {
            Some(rest) => [OVERLAY_ESCAPED, rest].concat(),
            None => xattr.name.clone(),
        };
        let at = if name.is_empty() { b".".as_slice() } else { name };
        if !can_hold(&key, kind) || !set_xattr(&dir.proc_path(at), &key, &xattr.value)? {
            missing.push(xattr.name.clone());
        }
    }
    if kind != FileType::Symlink {
        set_mode(dir, name, meta.mode)?;
    }
    set_time(dir, name, meta.mtime)?;
    Ok(missing)
}

/// Sets a mode; the name is no symlink's.
pub(super) fn set_mode(dir: &Dir, name: &[u8], mode: u16) -> Result<(), DiskError> {
    let mode = Mode::from_raw_mode(u32::from(mode));
    let done = match name.is_empty() {
        true => rustix::fs::fchmod(&dir.fd, mode),
        false => rustix::fs::chmodat(&dir.fd, name, mode, AtFlags::empty()),
    };
    done.map_err(|errno| dir.error("change the mode of", name, errno))
}

pub(super) fn set_time(dir: &Dir, name: &[u8], mtime: Timestamp) -> Result<(), DiskError> {
    let time = Timespec { tv_sec: mtime.seconds(), tv_nsec: i64::from(mtime.nanoseconds()) };
    let times = Timestamps { last_access: time, last_modification: time };
    if name.is_empty() {
        rustix::fs::futimens(dir.fd.as_fd(), &times)
    } else {
        rustix::fs::utimensat(&dir.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
    .map_err(|errno| dir.error("set the time of", name, errno))
}
