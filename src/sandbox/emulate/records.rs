//! What a run wanted files to be that the kernel would not make them: owners, devices, attributes.
//!
//! A record belongs to the inode in the directory that receives the changes, named by its file handle: that has the inode's
//! number and generation, so a record goes along with renames and hard links, and a new file in a deleted one's place has none.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::target::{Stop, path_of};

/// Most bytes of a file handle (`MAX_HANDLE_SZ`).
const MAX_HANDLE_BYTES: usize = 128;
/// How often a path that changed while it was looked at is looked at again.
const TRIES: usize = 8;

/// A device that is no device on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Whether it is a character device.
    pub char: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What a file is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The device that a socket on disk stands for.
    pub device: Option<Device>,
    /// Extended attributes that the kernel takes from real root only, by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Recorded {
    /// Whether it is what the disk says anyhow.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// An inode of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Handle(Vec<u8>),
    /// Where the file system gives no handles: number and, lest a new file inherits, the time it was made.
    Number(u64, i64, u32),
    /// Not where the changes go: mount, number, time of making.
    Elsewhere(u64, u64, i64, u32),
}

/// The records of one sandbox.
#[derive(Debug, Default)]
pub struct Records {
    by_inode: HashMap<Key, Recorded>,
    /// The inodes as the sandbox numbers them: a question about any other file is answered at once.
    numbers: HashSet<u64>,
    /// What the image says, by path; a path that was removed or got another file is not in it any more.
    image: HashMap<Vec<u8>, Recorded>,
    /// Every name that something of the above has had: a path that ends in another one, not followed, leads to none of it.
    names: HashSet<Vec<u8>>,
    /// Whether there may be attributes.
    xattrs: bool,
}

impl Records {
    pub(super) fn new(owned: &[Owned]) -> Self {
        let image = owned.iter().map(|one| (one.path.clone(), one.recorded.clone())).collect();
        let names = owned.iter().map(|one| last_name(&one.path).to_vec()).collect();
        let xattrs = owned.iter().any(|one| !one.recorded.xattrs.is_empty());
        Self { image, names, xattrs, ..Self::default() }
    }

    /// Whether every file is what the disk says.
    pub(super) fn is_empty(&self) -> bool {
        self.by_inode.is_empty() && self.image.is_empty()
    }

    /// Whether a path may lead to something of this, when its last name is not followed.
    pub(super) fn may_know(&self, path: &[u8]) -> bool {
        let name = last_name(path);
        // What was deleted while it is open has this behind its name in /proc.
        matches!(name, b"" | b"." | b"..")
            || self.names.contains(name.strip_suffix(b" (deleted)").unwrap_or(name))
    }

    /// Something of this may have got another name.
    pub(super) fn also_named(&mut self, path: &[u8]) {
        self.names.insert(last_name(path).to_vec());
    }

    /// Whether no file has attributes.
    pub(super) fn without_xattrs(&self) -> bool {
        !self.xattrs
    }

    /// Whether the image has nothing to say any more.
    pub(super) fn image_is_empty(&self) -> bool {
        self.image.is_empty()
    }

    /// Whether the image says something of the path.
    pub(super) fn image_has(&self, path: &[u8]) -> bool {
        self.image.contains_key(path)
    }

    /// The path is no longer what it was in the image.
    pub(super) fn image_lost(&mut self, path: &[u8]) {
        self.image.remove(path);
    }

    /// What is to be said of a path where the changes went; its name in a directory is given too, and not followed. An empty name
    /// is the directory.
    pub fn find(&self, path: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> Option<&Recorded> {
        let own = || {
            let key = match handle(dir, name) {
                Some(handle) => Key::Handle(handle),
                None => {
                    let stat = statx(dir, name, libc::STATX_BASIC_STATS | libc::STATX_BTIME).ok()?;
                    Key::Number(stat.stx_ino, stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
                }
            };
            self.by_inode.get(&key)
        };
        let own = if self.by_inode.is_empty() { None } else { own() };
        own.or_else(|| self.image.get(path))
    }
}

/// A file of the image that is not 0:0, or not what it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Path below the root, without a leading slash.
    pub path: Vec<u8>,
    /// What it is to be.
    pub recorded: Recorded,
    /// Whether it is a directory that gives its group to what is made in it.
    pub gives_group: bool,
}

impl Owned {
    /// Whether it has attributes that only real root could set.
    pub(crate) fn has_xattrs(&self) -> bool {
        !self.recorded.xattrs.is_empty()
    }
}

/// Where the root of the sandbox is, and where changes to it go.
#[derive(Debug)]
pub(super) struct Origin {
    /// The directory that receives the changes; none when the root is read-only.
    upper: Option<OwnedFd>,
    /// The root and its mount, known from the first question on.
    root: Option<(Rc<OwnedFd>, u64)>,
}

impl Origin {
    pub(super) fn new(upper: Option<OwnedFd>) -> Self {
        Self { upper, root: None }
    }

    /// Learns what the root is.
    pub(super) fn learn_root(&mut self, root: impl FnOnce() -> Result<OwnedFd, Stop>) -> Result<(), Stop> {
        if self.root.is_none() {
            let root = root()?;
            let mount = look(&root)?.stx_mnt_id;
            self.root = Some((Rc::new(root), mount));
        }
        Ok(())
    }

    /// The root of every process that has not changed its own.
    pub(super) fn root(&self) -> Option<Rc<OwnedFd>> {
        self.root.as_ref().map(|(root, _)| Rc::clone(root))
    }

    /// The path below the root of something that lies there.
    fn path(&self, fd: &OwnedFd, stat: &libc::statx) -> Result<Option<Vec<u8>>, Stop> {
        // What was deleted has no path any more, and nobody will ask for it later.
        if self.root.as_ref().is_none_or(|(_, mount)| *mount != stat.stx_mnt_id) || stat.stx_nlink == 0 {
            return Ok(None);
        }
        let path = path_of(fd)?;
        Ok(path.strip_prefix(b"/").map(<[u8]>::to_vec))
    }

    /// The path below the root of a name in a directory that lies there.
    pub(super) fn path_in(&self, parent: &OwnedFd, name: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        let Some(mut path) = self.path(parent, &look(parent)?)? else { return Ok(None) };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(Some(path))
    }

    /// The inode that a file has where the changes go; `None` when it has none there.
    fn upper_of(&self, path: &[u8]) -> Option<OwnedFd> {
        let upper = self.upper.as_ref()?;
        if path.is_empty() {
            return upper.try_clone().ok();
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(upper, path, flags, Mode::empty(), resolve).ok()
    }

    fn key(&self, fd: &OwnedFd, stat: &libc::statx) -> Result<Key, Stop> {
        for _ in 0..TRIES {
            let Some(path) = self.path(fd, stat)? else { break };
            let Some(upper) = self.upper_of(&path) else { break };
            let key = match handle(upper.as_fd(), b"") {
                Some(handle) => Key::Handle(handle),
                None => {
                    let stat = look(&upper)?;
                    Key::Number(stat.stx_ino, stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
                }
            };
            if self.path(fd, &look(fd)?)?.as_ref() == Some(&path) {
                return Ok(key);
            }
        }
        let born = &stat.stx_btime;
        Ok(Key::Elsewhere(stat.stx_mnt_id, stat.stx_ino, born.tv_sec, born.tv_nsec))
    }
}

impl Records {
    /// What a file is to be, when that is not what the disk says.
    pub(super) fn shown<'r>(
        &'r self,
        origin: &Origin,
        fd: &OwnedFd,
        stat: &libc::statx,
    ) -> Result<Option<&'r Recorded>, Stop> {
        if self.numbers.contains(&stat.stx_ino)
            && let Some(recorded) = self.by_inode.get(&origin.key(fd, stat)?)
        {
            return Ok(Some(recorded));
        }
        if self.image.is_empty() {
            return Ok(None);
        }
        Ok(origin.path(fd, stat)?.and_then(|path| self.image.get(&path)))
    }

    /// Records what a file is to be. It must have an inode where the changes go by now, if it can.
    pub(super) fn note(&mut self, origin: &Origin, fd: &OwnedFd, recorded: Recorded) -> Result<(), Stop> {
        let stat = look(fd)?;
        let key = origin.key(fd, &stat)?;
        self.numbers.insert(stat.stx_ino);
        self.also_named(&path_of(fd)?);
        self.xattrs |= !recorded.xattrs.is_empty();
        self.by_inode.insert(key, recorded);
        Ok(())
    }

    /// Whether a file has a record of its own.
    pub(super) fn has(&self, origin: &Origin, fd: &OwnedFd, stat: &libc::statx) -> Result<bool, Stop> {
        Ok(self.numbers.contains(&stat.stx_ino) && self.by_inode.contains_key(&origin.key(fd, stat)?))
    }
}

/// What stands behind the last slash.
fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Everything about an open file.
pub(super) fn look(fd: &OwnedFd) -> Result<libc::statx, Errno> {
    statx(fd.as_fd(), b"", libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID)
}

/// statx(2) of a name in a directory, not followed; an empty name is the descriptor itself.
pub(super) fn statx(dir: BorrowedFd<'_>, name: &[u8], mask: u32) -> Result<libc::statx, Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    // SAFETY: plain numbers, for which zeroes are valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is zero-terminated, and name and buffer outlive the call.
    let done =
        unsafe { libc::syscall(libc::SYS_statx, dir.as_raw_fd(), name.as_ptr(), flags, mask, &raw mut stat) };
    if done == 0 { Ok(stat) } else { Err(last_errno()) }
}

#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; MAX_HANDLE_BYTES],
}

/// The file handle of a name in a directory, not followed; `None` where the file system gives none.
fn handle(dir: BorrowedFd<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let name = CString::new(name).ok()?;
    let mut found = FileHandle { bytes: MAX_HANDLE_BYTES as u32, kind: 0, handle: [0; MAX_HANDLE_BYTES] };
    let mut mount: libc::c_int = 0;
    let fd = dir.as_raw_fd();
    // SAFETY: the structure says how large it is, the name is zero-terminated, and all of them outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd,
            name.as_ptr(),
            &raw mut found,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if done != 0 {
        return None;
    }
    let mut key = found.kind.to_ne_bytes().to_vec();
    key.extend_from_slice(&found.handle[..(found.bytes as usize).min(MAX_HANDLE_BYTES)]);
    Some(key)
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Opens the directory that receives the changes.
pub(super) fn open_upper(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn origin(dir: &std::path::Path) -> Origin {
        let mut origin = Origin::new(open_upper(dir).ok());
        origin.learn_root(|| Ok(open_upper("/".as_ref())?)).unwrap();
        origin
    }

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap()
    }

    /// A tree in which `/` is the upper directory: then paths are the same on both sides.
    #[test]
    fn a_record_follows_its_inode_and_dies_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let origin = origin("/".as_ref());
        let mut records = Records::default();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&first, "x").unwrap();
        let owner = Recorded { uid: 5, gid: 6, ..Recorded::default() };
        records.note(&origin, &open(&first), owner.clone()).unwrap();
        fs::rename(&first, &second).unwrap();
        fs::hard_link(&second, dir.path().join("c")).unwrap();
        let there = open(dir.path());
        assert_eq!(records.find(b"b", there.as_fd(), b"b"), Some(&owner));
        assert_eq!(records.find(b"c", there.as_fd(), b"c"), Some(&owner));
        for name in ["b", "c"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        // ext4 gives the next file the same inode number.
        fs::write(&first, "y").unwrap();
        assert_eq!(records.find(b"a", there.as_fd(), b"a"), None);
    }
}
