//! The walk through a host directory.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::pool::{Done, Job, Pool};
use super::{
    Inode, MAX_OPEN_DIRECTORIES, ScanError, ScanErrorContext, ScanOptions, ScanReport, SkipReason,
    XattrSource, read_xattrs,
};
use crate::object::{Draft, DraftError, Kind, LinkKey, Name, NewNode, TreePath, Xattrs};

const LISTING_BUFFER_BYTES: usize = 32 * 1024;

/// The named source, opened: for a directory a listable one, else a handle that only names it.
pub(super) struct Source {
    pub(super) inode: Inode,
    fd: OwnedFd,
}

/// A directory on the way from the source down.
struct Frame {
    fd: Option<OwnedFd>,
    inode: Inode,
    pending: Vec<Name>,
}

/// The names seen of one file with several.
struct Links {
    key: LinkKey,
    first: TreePath,
    others: Vec<TreePath>,
}

pub(super) struct Walk<'a, 's> {
    source: &'a Path,
    draft: &'a mut Draft<'s>,
    options: &'a ScanOptions,
    pool: Pool,
    excluded: HashSet<((u32, u32), u64)>,
    links: HashMap<((u32, u32), u64), Links>,
    /// The directory the walk is in, in the draft; its first `depth` names are those of the source.
    here: TreePath,
    depth: usize,
    report: ScanReport,
}

/// Opens the named source.
pub(super) fn open_source(path: &Path, follow: bool) -> Result<Source, ScanError> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).context("open", path)?;
    let inode = Inode::of_open(&fd).context("look at", path)?;
    Ok(Source { inode, fd })
}

/// Opens for reading what a handle names, or what a name in it names; never through a symlink, never waiting for a FIFO's other end.
fn open_at(at: impl AsFd, name: &[u8], directory: bool) -> Result<OwnedFd, Errno> {
    let kind = if directory { OFlags::DIRECTORY } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind, Mode::empty())
}

impl<'a, 's> Walk<'a, 's> {
    pub(super) fn new(
        source: &'a Path,
        draft: &'a mut Draft<'s>,
        at: &TreePath,
        options: &'a ScanOptions,
        pool: Pool,
    ) -> Result<Self, ScanError> {
        let mut excluded = HashSet::new();
        for path in &options.exclude_directories {
            match open_source(path, true) {
                Ok(Source { inode, .. }) => excluded.insert((inode.device, inode.number)),
                Err(ScanError::Disk(error)) if error.is_not_found() => false,
                Err(error) => return Err(error),
            };
        }
        let (here, depth) = (at.clone(), at.names().len());
        let (links, report) = (HashMap::new(), ScanReport::default());
        Ok(Self { source, draft, options, pool, excluded, links, here, depth, report })
    }

    /// Places a directory with everything below it.
    pub(super) fn directory(mut self, source: Source) -> Result<ScanReport, ScanError> {
        let fd = open_at(&source.fd, b".", true).context("open", self.source)?;
        let mut stack = vec![self.enter(fd, source.inode)?];
        while let Some(frame) = stack.last_mut() {
            let Some(name) = frame.pending.pop() else {
                self.leave(&mut stack)?;
                continue;
            };
            let above = frame.fd.as_ref().expect("the last directory is open");
            let root = source.inode.device;
            self.here.push(name.clone());
            let Some((fd, inode)) = self.subdirectory(above.as_fd(), &name, root)? else {
                self.here.pop();
                continue;
            };
            stack.push(self.enter(fd, inode)?);
            if stack.len() > MAX_OPEN_DIRECTORIES {
                let far = stack.len() - 1 - MAX_OPEN_DIRECTORIES;
                stack[far].fd = None;
            }
        }
        self.finish()
    }

    /// Places a source that is not a directory.
    pub(super) fn single(mut self, source: &Source) -> Result<ScanReport, ScanError> {
        if source.inode.kind == Kind::File {
            // The handle's own file and no other is read: its name may lead elsewhere by now.
            let path = format!("/proc/self/fd/{}", source.fd.as_raw_fd());
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(CWD, &path, flags, Mode::empty());
            let opened = opened.or_else(|errno| match errno {
                // No /proc here.
                Errno::NOENT => rustix::fs::openat(CWD, self.source, flags, Mode::empty()),
                _ => Err(errno),
            });
            self.file(opened.context("open", self.source)?, &source.inode, self.here.clone())?;
        } else if source.inode.kind == Kind::Symlink {
            let target = rustix::fs::readlinkat(&source.fd, "", Vec::new()).context("read", self.source)?;
            self.link(&source.inode, target.into_bytes(), self.here.clone())?;
        } else {
            self.special(self.source, &source.inode, self.here.clone())?;
        }
        self.finish()
    }

    /// Opens a directory below; `None` when it is skipped or placed without its entries.
    fn subdirectory(
        &mut self,
        above: impl AsFd,
        name: &Name,
        source_device: (u32, u32),
    ) -> Result<Option<(OwnedFd, Inode)>, ScanError> {
        let host_path = self.host_path(&self.here);
        let opened = open_at(above, name.as_bytes(), true);
        let Some(fd) = self.seen(opened, "open", &host_path)? else { return Ok(None) };
        let inode = Inode::of_open(&fd).context("look at", &host_path)?;
        if self.excluded.contains(&(inode.device, inode.number)) {
            self.skip(host_path, SkipReason::Excluded);
            return Ok(None);
        }
        if self.options.one_file_system && inode.device != source_device {
            self.place_directory(&fd, &inode, &host_path)?;
            self.skip(host_path, SkipReason::OtherFileSystem);
            return Ok(None);
        }
        Ok(Some((fd, inode)))
    }

    /// Places a directory and everything in it that is not a directory.
    fn enter(&mut self, fd: OwnedFd, inode: Inode) -> Result<Frame, ScanError> {
        let host_path = self.host_path(&self.here);
        self.place_directory(&fd, &inode, &host_path)?;
        let mut pending = Vec::new();
        for name in list(&fd, &host_path)? {
            let path = self.here.join(&name);
            if self.is_excluded(&path) {
                let host_path = self.host_path(&path);
                self.skip(host_path, SkipReason::Excluded);
            } else if self.entry(&fd, &name, path)? {
                pending.push(name);
            }
            while let Some(done) = self.pool.ready() {
                place_file(self.draft, &mut self.report, done?)?;
            }
        }
        Ok(Frame { fd: Some(fd), inode, pending })
    }

    /// Goes back up; a directory that was closed on the way down is opened again and must still be the same.
    fn leave(&mut self, stack: &mut Vec<Frame>) -> Result<(), ScanError> {
        let below = stack.pop().expect("the caller looked at the last directory");
        let Some(above) = stack.last_mut() else { return Ok(()) };
        self.here.pop();
        if above.fd.is_none() {
            let host_path = self.host_path(&self.here);
            let below = below.fd.expect("the last directory is open");
            let fd = open_at(&below, b"..", true).context("open", &host_path)?;
            if !Inode::of_open(&fd).context("look at", &host_path)?.same_file(&above.inode) {
                return Err(ScanError::Replaced { path: host_path });
            }
            above.fd = Some(fd);
        }
        Ok(())
    }

    /// Places one entry of a directory; true when it is a directory itself, which the caller enters later.
    fn entry(&mut self, above: &OwnedFd, name: &Name, path: TreePath) -> Result<bool, ScanError> {
        let host_path = self.host_path(&path);
        let Some(inode) = self.seen(Inode::at(above, name.as_bytes()), "look at", &host_path)? else {
            return Ok(false);
        };
        if self.matches_pattern(&path, inode.kind) {
            self.skip(host_path, SkipReason::Excluded);
            return Ok(false);
        }
        match inode.kind {
            Kind::Directory => return Ok(true),
            Kind::File => {
                let opened = open_at(above, name.as_bytes(), false);
                if let Some(fd) = self.seen(opened, "open", &host_path)? {
                    self.file(fd, &inode, path)?;
                }
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(above, name.as_bytes(), Vec::new());
                if let Some(target) = self.seen(target, "read", &host_path)? {
                    self.link(&inode, target.into_bytes(), path)?;
                }
            }
            _ => {
                // Opening a device or a FIFO does things, so its attributes are read by a path that begins at the open directory.
                let mut proc = PathBuf::from(format!("/proc/self/fd/{}", above.as_raw_fd()));
                proc.push(name.as_os_str());
                self.special(&proc, &inode, path)?;
            }
        }
        Ok(false)
    }

    /// What a look at a listed name gave: `None` when it has vanished, an error when it has become something else.
    fn seen<T>(
        &mut self,
        looked: Result<T, Errno>,
        verb: &'static str,
        host_path: &Path,
    ) -> Result<Option<T>, ScanError> {
        match looked {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => {
                self.skip(host_path.to_owned(), SkipReason::Vanished);
                Ok(None)
            }
            // A symlink that must not be followed, no directory, a FIFO or socket, no symlink.
            Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::INVAL) => {
                Err(ScanError::Replaced { path: host_path.to_owned() })
            }
            Err(errno) => Err(errno).context(verb, host_path),
        }
    }

    fn file(&mut self, fd: OwnedFd, seen: &Inode, path: TreePath) -> Result<(), ScanError> {
        let host_path = self.host_path(&path);
        let inode = Inode::of_open(&fd).context("look at", &host_path)?;
        if inode.kind != Kind::File || !inode.same_file(seen) {
            return Err(ScanError::Replaced { path: host_path });
        }
        let mut link = None;
        if inode.links > 1 {
            let id = (inode.device, inode.number);
            if let Some(links) = self.links.get_mut(&id) {
                links.others.push(path);
                return Ok(());
            }
            let key = self.draft.new_link();
            self.links.insert(id, Links { key, first: path.clone(), others: Vec::new() });
            link = Some(key);
        }
        let xattrs = read_xattrs(XattrSource::Open(fd.as_fd()), &mut self.report.xattrs_left_out);
        let xattrs = xattrs.context("list the extended attributes of", &host_path)?;
        self.pool.read(Job { file: File::from(fd), host_path, path, xattrs, link });
        Ok(())
    }

    fn link(&mut self, inode: &Inode, target: Vec<u8>, path: TreePath) -> Result<(), ScanError> {
        // No attribute that would be kept can be on a symlink.
        let meta = inode.meta(self.options.owners, Xattrs::none());
        self.draft.put(&path, meta, NewNode::Symlink { target })?;
        self.report.entries += 1;
        Ok(())
    }

    fn special(&mut self, at: &Path, inode: &Inode, path: TreePath) -> Result<(), ScanError> {
        let xattrs = match read_xattrs(XattrSource::Path(at), &mut self.report.xattrs_left_out) {
            Ok(xattrs) => xattrs,
            // No /proc here, or the entry has vanished: its kind and mode are known already.
            Err(Errno::NOENT) => Xattrs::none(),
            Err(errno) => {
                return Err(errno).context("list the extended attributes of", &self.host_path(&path));
            }
        };
        let node = inode.special_node().expect("the other kinds are handled before");
        self.draft.put(&path, inode.meta(self.options.owners, xattrs), node)?;
        self.report.entries += 1;
        Ok(())
    }

    fn place_directory(&mut self, fd: &OwnedFd, inode: &Inode, host_path: &Path) -> Result<(), ScanError> {
        let xattrs = read_xattrs(XattrSource::Open(fd.as_fd()), &mut self.report.xattrs_left_out);
        let xattrs = xattrs.context("list the extended attributes of", host_path)?;
        self.draft.put_directory(&self.here, inode.meta(self.options.owners, xattrs))?;
        self.report.entries += 1;
        Ok(())
    }

    fn finish(self) -> Result<ScanReport, ScanError> {
        let Self { draft, pool, links, mut report, .. } = self;
        for done in pool.finish() {
            place_file(draft, &mut report, done?)?;
        }
        for Links { key, first, others } in links.into_values() {
            let placed = draft.leaf(&first).map_err(DraftError::from)?.expect("the readers were waited for");
            let (meta, node) = (placed.0.clone(), placed.1.clone());
            debug_assert!(matches!(&node, NewNode::File { link, .. } if *link == Some(key)));
            for other in others {
                draft.put(&other, meta.clone(), node.clone())?;
                report.entries += 1;
            }
        }
        report.skipped.sort();
        Ok(report)
    }

    fn is_excluded(&self, path: &TreePath) -> bool {
        self.options.exclude.iter().any(|exclude| exclude.names() == &path.names()[self.depth..])
    }

    fn matches_pattern(&self, path: &TreePath, kind: Kind) -> bool {
        let patterns = &self.options.patterns;
        if patterns.is_empty() {
            return false;
        }
        let below: TreePath = path.names()[self.depth..].to_vec().into();
        patterns.excludes(&below.to_relative_bytes(), kind == Kind::Directory)
    }

    fn skip(&mut self, host_path: PathBuf, reason: SkipReason) {
        self.report.skipped.push((host_path, reason));
    }

    /// Where on the host an entry of the draft comes from.
    fn host_path(&self, path: &TreePath) -> PathBuf {
        let below: TreePath = path.names()[self.depth..].to_vec().into();
        if below.is_root() {
            return self.source.to_owned();
        }
        self.source.join(OsStr::from_bytes(&below.to_relative_bytes()))
    }
}

fn place_file(draft: &mut Draft<'_>, report: &mut ScanReport, done: Done) -> Result<(), ScanError> {
    let Done { path, link, stored } = done;
    draft.put(&path, stored.meta, NewNode::File { blob: stored.blob, size: stored.size, link })?;
    report.entries += 1;
    report.bytes += stored.size;
    Ok(())
}

/// The names in a directory, the last first: the walk takes them from the end.
fn list(fd: &OwnedFd, host_path: &Path) -> Result<Vec<Name>, ScanError> {
    let mut buffer = [const { MaybeUninit::uninit() }; LISTING_BUFFER_BYTES];
    let mut listing = RawDir::new(fd, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry.context("list", host_path)?;
        let bytes = entry.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            let name = Name::new(bytes);
            names.push(name.map_err(|source| ScanError::Name { path: host_path.to_owned(), source })?);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}
