//! Making a layer's directory from its entries.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, Stat};

use super::check::hash_file;
use super::entry::{LayerEntry, LayerError, LayerNode};
use super::inode::{self, Dir, dress, mtime_of, read_attributes, set_mode, set_time};
use crate::disk::{DiskError, copy_sparse};
use crate::object::{BlobId, LinkGroup, Meta, Timestamp};
use crate::store::Layout;
use serde::{Deserialize, Serialize};

/// Files up to this size are copied when they cannot be linked: a redirect's attribute would take a disk block as well.
const COPY_INSTEAD_OF_REDIRECT_BYTES: u64 = 4096;

/// How a layer is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildOptions {
    /// Where blobs lie.
    pub objects: PathBuf,
    /// How many ids from 0 up are mapped: 1 means that owners are not set.
    pub mapped_ids: u32,
    /// Whether a socket is made in the place of a device, for a supervisor that shows it as one; else it is left out.
    pub stand_ins: bool,
    /// Whether overlayfs follows redirects into a data-only lower (Linux ≥ 6.16).
    pub redirects: bool,
    /// When a file may be the blob's own inode.
    pub linking: Linking,
    /// Whether a person is given the directory: devices are made where the system lets them be, and every owner that is not set is told.
    pub exact: bool,
}

impl BuildOptions {
    /// The owner that an entry gets on disk; `None` when owners are not set.
    pub(super) fn owner(&self, meta: &Meta) -> Option<(u32, u32)> {
        let mapped = |id: u32| if id < self.mapped_ids { id } else { 0 };
        (self.mapped_ids > 1).then(|| (mapped(meta.uid), mapped(meta.gid)))
    }
}

/// When a layer's file may be the blob's own inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Linking {
    /// Never: a person is given the directory and may write to it.
    Never,
    /// When no other layer links to it: in one stack two paths must not be the same file unless the tree says so.
    Unshared,
    /// Whenever its attributes fit: for the lowest layer, below which there is none.
    Always,
}

/// What a finished layer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Entries made.
    pub entries: u64,
    /// Bytes copied, not linked.
    pub bytes: u64,
    /// What the disk could not hold, with the reason.
    pub skipped: Vec<(Vec<u8>, String)>,
}

/// Makes a layer entry by entry.
#[derive(Debug)]
pub struct LayerBuilder {
    options: BuildOptions,
    objects: Dir,
    root: Dir,
    /// The directories from the layer's root down to where the last entry went.
    open: Vec<(Vec<u8>, Dir)>,
    /// Directories whose time and mode are set at the end.
    directories: Vec<(Vec<u8>, Timestamp, u16)>,
    groups: HashMap<LinkGroup, Vec<u8>>,
    linked: HashSet<BlobId>,
    built: Built,
}

/// What the owner of a directory needs to make entries in it.
const OWNER_BITS: u16 = 0o700;

/// The attributes of a directory that is still being filled: a plain user cannot write into one of mode 0555.
fn open(meta: &Meta) -> Meta {
    Meta { mode: meta.mode | OWNER_BITS, ..meta.clone() }
}

impl LayerBuilder {
    /// Starts a layer in a directory that exists and is empty.
    pub fn new(dir: &Path, options: BuildOptions) -> Result<Self, LayerError> {
        Ok(Self {
            objects: Dir::open(&options.objects)?,
            root: Dir::open(dir)?,
            options,
            open: Vec::new(),
            directories: Vec::new(),
            groups: HashMap::new(),
            linked: HashSet::new(),
            built: Built::default(),
        })
    }

    /// Makes one entry. Its parent directory was made before.
    pub fn add(&mut self, entry: &LayerEntry) -> Result<(), LayerError> {
        if entry.path.is_empty() {
            self.dress(
                &Dir::open(&self.root.path)?,
                b"",
                &entry.path,
                FileType::Directory,
                &open(&entry.meta),
            )?;
            self.directories.push((Vec::new(), entry.meta.mtime, entry.meta.mode));
            return Ok(());
        }
        let (parent, name) = match entry.path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&entry.path[..at], &entry.path[at + 1..]),
            None => (&b""[..], &entry.path[..]),
        };
        let dir = self.enter(parent).ok_or_else(|| LayerError::Order(entry.path.clone()))?;
        self.built.entries += 1;
        match &entry.node {
            LayerNode::Directory { opaque } => {
                rustix::fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o700))
                    .map_err(|errno| dir.error("create directory", name, errno))?;
                if *opaque && !crate::disk::set_xattr(&dir.proc_path(name), inode::OPAQUE, b"y")? {
                    return Err(dir.error("mark as opaque", name, rustix::io::Errno::NOTSUP).into());
                }
                self.dress(&dir, name, &entry.path, FileType::Directory, &open(&entry.meta))?;
                // Its time changes with what is made in it, so it is set again at the end.
                self.directories.push((entry.path.clone(), entry.meta.mtime, entry.meta.mode));
                let child = dir.open_child(name)?;
                self.leave(dir);
                self.open.push((entry.path.clone(), child));
                return Ok(());
            }
            LayerNode::File { blob, size, link } => self.file(&dir, name, entry, *blob, *size, *link)?,
            LayerNode::Symlink { target } => {
                rustix::fs::symlinkat(target.as_slice(), &dir.fd, name)
                    .map_err(|errno| dir.error("create symlink", name, errno))?;
                self.dress(&dir, name, &entry.path, FileType::Symlink, &entry.meta)?;
            }
            LayerNode::Device { .. } if self.options.stand_ins => {
                self.special(&dir, name, entry, FileType::Socket)?
            }
            LayerNode::Device { char, major, minor } if self.options.exact => {
                let kind = if *char { FileType::CharacterDevice } else { FileType::BlockDevice };
                let number = rustix::fs::makedev(*major, *minor);
                match rustix::fs::mknodat(&dir.fd, name, kind, Mode::from_raw_mode(0o600), number) {
                    Ok(()) => self.dress(&dir, name, &entry.path, kind, &entry.meta)?,
                    Err(rustix::io::Errno::PERM) => self.without_device(entry),
                    Err(errno) => return Err(dir.error("create", name, errno).into()),
                }
            }
            LayerNode::Fifo | LayerNode::Socket => {
                let kind = if entry.node == LayerNode::Fifo { FileType::Fifo } else { FileType::Socket };
                self.special(&dir, name, entry, kind)?;
            }
            LayerNode::Device { .. } => self.without_device(entry),
            LayerNode::Whiteout => dir.make_whiteout(name)?,
        }
        self.leave(dir);
        Ok(())
    }

    fn without_device(&mut self, entry: &LayerEntry) {
        self.built.skipped.push((entry.path.clone(), "only real root can make a device".to_owned()));
    }

    /// Gives what was made, with directories as they are while they are filled: for a caller who moves them first.
    pub(super) fn leave_open(self) -> Built {
        self.built
    }

    /// Sets the directories' times and modes and gives what was made.
    pub fn finish(mut self) -> Result<Built, LayerError> {
        self.open.clear();
        // The deepest first: a directory may shut its owner out from then on.
        for (path, mtime, mode) in std::mem::take(&mut self.directories).into_iter().rev() {
            self.root.at_path(&path, |dir, rest| {
                set_time(dir, rest, mtime)?;
                if mode & OWNER_BITS != OWNER_BITS { set_mode(dir, rest, mode) } else { Ok(()) }
            })??;
        }
        Ok(self.built)
    }

    /// Takes the open directory of that path off the stack, closing the deeper ones.
    fn enter(&mut self, parent: &[u8]) -> Option<Dir> {
        if parent.is_empty() {
            self.open.clear();
            let fd = self.root.fd.try_clone().ok()?;
            return Some(Dir { fd, path: self.root.path.clone() });
        }
        while let Some((path, _)) = self.open.last() {
            if path == parent {
                return self.open.pop().map(|(_, dir)| dir);
            }
            self.open.pop();
        }
        None
    }

    /// Puts a directory taken by [`Self::enter`] back.
    fn leave(&mut self, dir: Dir) {
        use std::os::unix::ffi::OsStrExt;
        let path = dir.path.strip_prefix(&self.root.path).map(|path| path.as_os_str().as_bytes().to_vec());
        if let Ok(path) = path
            && !path.is_empty()
        {
            self.open.push((path, dir));
        }
    }

    fn dress(
        &mut self,
        dir: &Dir,
        name: &[u8],
        path: &[u8],
        kind: FileType,
        meta: &Meta,
    ) -> Result<(), LayerError> {
        let mapped_ids = self.options.mapped_ids;
        if self.options.exact && (meta.uid >= mapped_ids || meta.gid >= mapped_ids) {
            let reason = "its owner is not set: no id here stands for it";
            self.built.skipped.push((path.to_vec(), reason.to_owned()));
        }
        for missing in dress(dir, name, kind, meta, self.options.owner(meta))? {
            self.built.skipped.push((path.to_vec(), Self::reason_of_attribute(&missing)));
        }
        Ok(())
    }

    /// What is said of an extended attribute that could not be set.
    pub(super) fn reason_of_attribute(name: &[u8]) -> String {
        format!("the disk does not take the attribute {}", name.escape_ascii())
    }

    fn special(
        &mut self,
        dir: &Dir,
        name: &[u8],
        entry: &LayerEntry,
        kind: FileType,
    ) -> Result<(), LayerError> {
        rustix::fs::mknodat(&dir.fd, name, kind, Mode::from_raw_mode(0o600), 0)
            .map_err(|errno| dir.error("create", name, errno))?;
        self.dress(dir, name, &entry.path, kind, &entry.meta)
    }

    fn file(
        &mut self,
        dir: &Dir,
        name: &[u8],
        entry: &LayerEntry,
        blob: BlobId,
        size: u64,
        link: Option<LinkGroup>,
    ) -> Result<(), LayerError> {
        if let Some(first) = link.and_then(|group| self.groups.get(&group)) {
            let linked = self.root.at_path(first, |from, rest| dir.link(from.fd.as_fd(), rest, name))?;
            match linked {
                Ok(()) => return Ok(()),
                // The group is larger than the file system's limit: the next members are another file.
                Err(rustix::io::Errno::MLINK) => {}
                Err(errno) => return Err(dir.error("link", name, errno).into()),
            }
        }
        self.fresh_file(dir, name, entry, blob, size)?;
        if let Some(group) = link {
            self.groups.insert(group, entry.path.clone());
        }
        Ok(())
    }

    /// Makes a file by the cheapest means that is exact: the blob's own inode, a redirect, a reflink, a copy.
    fn fresh_file(
        &mut self,
        dir: &Dir,
        name: &[u8],
        entry: &LayerEntry,
        blob: BlobId,
        size: u64,
    ) -> Result<(), LayerError> {
        let below = Layout::blob_below_objects(&blob);
        if size == 0 {
            drop(dir.create_file(name)?);
            return self.dress(dir, name, &entry.path, FileType::RegularFile, &entry.meta);
        }
        let stat = match self.objects.stat(below.as_bytes()) {
            Err(error) if error.is_not_found() => {
                return Err(LayerError::MissingBlob { blob, path: entry.path.clone() });
            }
            other => other?,
        };
        if u64::try_from(stat.st_size) != Ok(size) {
            return Err(LayerError::DamagedBlob { blob, path: entry.path.clone() });
        }
        if self.options.linking != Linking::Never
            && !self.linked.contains(&blob)
            && self.fits(&below, &stat, &entry.meta)?
        {
            match dir.link(self.objects.fd.as_fd(), below.as_bytes(), name) {
                Ok(()) => {
                    self.linked.insert(blob);
                    return Ok(());
                }
                // ext4 takes 65 000 links to one inode; other file systems have none at all.
                Err(rustix::io::Errno::MLINK | rustix::io::Errno::PERM | rustix::io::Errno::XDEV) => {}
                Err(errno) => return Err(dir.error("link", name, errno).into()),
            }
        }
        let file = dir.create_file(name)?;
        if size > COPY_INSTEAD_OF_REDIRECT_BYTES && self.options.redirects {
            self.redirect(dir, name, &file, &below, size)?;
        } else {
            self.copy(dir, name, &file, &below)?;
            // Whoever reads a copy cannot tell any more that the blob was not what its name says.
            if self.hash_of(&below)? != blob {
                // Wrong bytes are worse than none.
                let _ = rustix::fs::unlinkat(&dir.fd, name, rustix::fs::AtFlags::empty());
                return Err(LayerError::DamagedBlob { blob, path: entry.path.clone() });
            }
        }
        drop(file);
        self.dress(dir, name, &entry.path, FileType::RegularFile, &entry.meta)
    }

    /// Whether a blob's inode has exactly these attributes.
    fn fits(&self, below: &str, stat: &Stat, meta: &Meta) -> Result<bool, LayerError> {
        if !meta.xattrs.is_empty() {
            return Ok(false);
        }
        let (uid, gid) = self.options.owner(meta).unwrap_or((0, 0));
        let same = stat.st_mode & 0o7777 == u32::from(meta.mode)
            && stat.st_uid == uid
            && stat.st_gid == gid
            && mtime_of(stat) == meta.mtime;
        let shared = self.options.linking == Linking::Unshared && stat.st_nlink > 1;
        Ok(same
            && !shared
            && read_attributes(&self.objects, below.as_bytes(), FileType::RegularFile)?.is_empty())
    }

    /// Makes an empty file whose data overlayfs takes from `objects/`.
    fn redirect(
        &self,
        dir: &Dir,
        name: &[u8],
        file: &std::fs::File,
        below: &str,
        size: u64,
    ) -> Result<(), LayerError> {
        file.set_len(size).map_err(|error| DiskError::new("set the size of", dir.join(name), error))?;
        let path = dir.proc_path(name);
        let target = format!("/{below}");
        let marked = crate::disk::set_xattr(&path, b"user.overlay.metacopy", b"")?
            && crate::disk::set_xattr(&path, b"user.overlay.redirect", target.as_bytes())?;
        if marked { Ok(()) } else { Err(dir.error("redirect", name, rustix::io::Errno::NOTSUP).into()) }
    }

    /// What a blob's bytes are.
    fn hash_of(&self, below: &str) -> Result<BlobId, LayerError> {
        let mut file = self.objects.open_file(below.as_bytes())?;
        let hash = hash_file(&mut file);
        Ok(hash.map_err(|error| DiskError::new("read", self.objects.join(below.as_bytes()), error))?)
    }

    fn copy(&mut self, dir: &Dir, name: &[u8], file: &std::fs::File, below: &str) -> Result<(), LayerError> {
        let from = self.objects.open_file(below.as_bytes())?;
        if rustix::fs::ioctl_ficlone(file, &from).is_ok() {
            return Ok(());
        }
        self.built.bytes += copy_sparse(&from, file)
            .map_err(|error| DiskError::new("copy a blob to", dir.join(name), error))?;
        Ok(())
    }
}
