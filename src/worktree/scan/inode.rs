//! Reading what an inode has besides its bytes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::io::Errno;

use crate::object::{Kind, MAX_XATTR_VALUE_BYTES, Meta, NewNode, Timestamp, Xattrs};

/// The longest list of attribute names that Linux gives, in bytes (`XATTR_LIST_MAX`).
const MAX_XATTR_LIST_BYTES: usize = 65_536;
/// Enough for the attribute names of nearly every file, so that one call lists them.
const USUAL_XATTR_LIST_BYTES: usize = 1024;

/// Whose files the entries of a tree become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// The ids as the disk has them.
    #[default]
    AsOnDisk,
    /// What this user id owns becomes root's, user and group; everything else keeps both ids.
    ///
    /// For an unprivileged user, whose own files are what root's files will be inside.
    UserIsRoot(u32),
    /// Everything becomes root's.
    AllRoot,
}

impl Owners {
    /// What suits the calling user: root's ids are meant as they are, another user's own files become root's.
    pub fn for_caller() -> Self {
        match rustix::process::geteuid().as_raw() {
            0 => Self::AsOnDisk,
            uid => Self::UserIsRoot(uid),
        }
    }

    /// The ids that an entry gets.
    pub const fn map(self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::AsOnDisk => (uid, gid),
            Self::UserIsRoot(user) if user != uid => (uid, gid),
            Self::UserIsRoot(_) | Self::AllRoot => (0, 0),
        }
    }
}

/// What one `statx` tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner on disk.
    pub uid: u32,
    /// Group on disk.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Size in bytes.
    pub size: u64,
    /// The file system it is on: major and minor number.
    pub device: (u32, u32),
    /// Its number there.
    pub number: u64,
    /// How many names it has.
    pub links: u32,
    /// Major and minor number, when it is itself a device.
    pub special: (u32, u32),
}

impl Inode {
    /// The inode of a name in an open directory; a symlink is not followed.
    pub fn at(directory: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::of(&rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)?)
    }

    /// The inode of a path; a symlink at its end is not followed.
    pub fn at_path(path: &Path) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::of(&rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::BASIC_STATS)?)
    }

    /// The inode of an open file or directory.
    pub fn of_open(file: impl AsFd) -> Result<Self, Errno> {
        Self::of(&rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?)
    }

    fn of(stat: &Statx) -> Result<Self, Errno> {
        let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Unknown => return Err(Errno::NOTSUP),
        };
        let mtime = Timestamp::new(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        Ok(Self {
            kind,
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            // A broken file system may hold a nanosecond count above a second; the second still says most.
            mtime: mtime.unwrap_or(Timestamp::from_seconds(stat.stx_mtime.tv_sec)),
            size: stat.stx_size,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            number: stat.stx_ino,
            links: stat.stx_nlink,
            special: (stat.stx_rdev_major, stat.stx_rdev_minor),
        })
    }

    /// The attributes of the entry that this inode becomes.
    pub fn meta(&self, owners: Owners, xattrs: Xattrs) -> Meta {
        let (uid, gid) = owners.map(self.uid, self.gid);
        Meta { mode: self.mode, uid, gid, mtime: self.mtime, xattrs }
    }

    /// The entry of a FIFO, socket or device, which is all metadata; `None` for the other kinds.
    pub fn special_node(&self) -> Option<NewNode> {
        let (major, minor) = self.special;
        match self.kind {
            Kind::Fifo => Some(NewNode::Fifo),
            Kind::Socket => Some(NewNode::Socket),
            Kind::Char => Some(NewNode::Char { major, minor }),
            Kind::Block => Some(NewNode::Block { major, minor }),
            Kind::File | Kind::Directory | Kind::Symlink => None,
        }
    }

    /// Whether this is the same file on disk.
    pub fn same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.number == other.number
    }

    /// Whether the bytes may have changed between the two looks.
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.size == other.size && self.mtime == other.mtime
    }
}

/// Where extended attributes are read.
#[derive(Debug, Clone, Copy)]
pub enum XattrSource<'a> {
    /// An open file or directory; not one opened with `O_PATH`.
    Open(BorrowedFd<'a>),
    /// A path; a symlink at its end is not followed.
    Path(&'a Path),
}

/// How often attributes of each name were left out.
pub type LeftOut = BTreeMap<String, u64>;

/// Whether an attribute belongs to the file and not to the machine it happens to lie on.
///
/// Labels of security modules (`security.selinux`, `security.ima`) and `trusted.*` mean nothing elsewhere.
pub fn is_portable(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

/// The portable extended attributes; those that are not, or cannot be read, are counted in `left_out`.
///
/// A file system without attributes has none. Errors are those of listing.
pub fn read_xattrs(source: XattrSource<'_>, left_out: &mut LeftOut) -> Result<Xattrs, Errno> {
    let mut names = vec![0; USUAL_XATTR_LIST_BYTES];
    let len = match list(source, &mut names) {
        Err(Errno::RANGE) => {
            names.resize(MAX_XATTR_LIST_BYTES, 0);
            list(source, &mut names)
        }
        other => other,
    };
    let len = match len {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::none()),
        Ok(len) => len,
        Err(errno) => return Err(errno),
    };
    let mut xattrs = Xattrs::none();
    let mut value = Vec::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let kept = is_portable(name) && {
            value.resize(MAX_XATTR_VALUE_BYTES, 0);
            match get(source, name, &mut value) {
                Ok(len) => xattrs.set(name.to_vec(), value[..len].to_vec()).is_ok(),
                // Gone since the listing.
                Err(Errno::NODATA) => true,
                Err(_) => false,
            }
        };
        if !kept {
            *left_out.entry(String::from_utf8_lossy(name).into_owned()).or_default() += 1;
        }
    }
    Ok(xattrs)
}

fn list(source: XattrSource<'_>, names: &mut [u8]) -> Result<usize, Errno> {
    match source {
        XattrSource::Open(file) => rustix::fs::flistxattr(file, names),
        XattrSource::Path(path) => rustix::fs::llistxattr(path, names),
    }
}

fn get(source: XattrSource<'_>, name: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
    match source {
        XattrSource::Open(file) => rustix::fs::fgetxattr(file, name, value),
        XattrSource::Path(path) => rustix::fs::lgetxattr(path, name, value),
    }
}
