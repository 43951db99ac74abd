//! The host's file system as the programs in it see it, from a root directory down.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use rustix::io::Errno;

use super::HostError;
use crate::object::{Kind, MAX_SYMLINKS, Name, TreePath};
use crate::worktree::scan::{Inode, ScanErrorContext};

/// A symlink on the way to a file.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Where it is, no symlink above it.
    pub(super) path: TreePath,
    /// What it says.
    pub(super) target: Vec<u8>,
    /// Its own inode.
    pub(super) inode: Inode,
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Every symlink on the way, in the order they were met.
    pub(super) links: Vec<Link>,
    /// The path without symlinks.
    pub(super) real: TreePath,
    /// What is there.
    pub(super) inode: Inode,
}

/// A root directory whose symlinks never lead out of it.
#[derive(Debug)]
pub(super) struct HostRoot {
    root: PathBuf,
    /// Looks at entries are remembered: the same directories are on the way to everything.
    looks: RefCell<HashMap<TreePath, Option<Inode>>>,
}

impl HostRoot {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), looks: RefCell::default() }
    }

    /// The path outside, for file calls and messages.
    pub(super) fn outside(&self, path: &TreePath) -> PathBuf {
        self.root.join(OsStr::from_bytes(&path.to_relative_bytes()))
    }

    /// Follows a path; `None` when it leads nowhere.
    pub(super) fn find(&self, path: &TreePath) -> Result<Option<Found>, HostError> {
        let mut todo: Vec<Vec<u8>> = path.names().iter().rev().map(|name| name.as_bytes().to_vec()).collect();
        let mut real = TreePath::root();
        let mut links = Vec::new();
        while let Some(component) = todo.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    real.pop();
                    continue;
                }
                _ => {}
            }
            let Ok(name) = Name::new(&component) else { return Ok(None) };
            real.push(name);
            let Some(inode) = self.look(&real)? else { return Ok(None) };
            if inode.kind == Kind::Symlink {
                if links.len() == MAX_SYMLINKS {
                    return Ok(None);
                }
                let target = self.read_link(&real)?;
                todo.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                let path = real.clone();
                match target.starts_with(b"/") {
                    true => real = TreePath::root(),
                    false => drop(real.pop()),
                }
                links.push(Link { path, target, inode });
            } else if inode.kind != Kind::Directory && !todo.is_empty() {
                return Ok(None);
            }
        }
        Ok(self.look(&real)?.map(|inode| Found { links, real, inode }))
    }

    /// Follows a path to a regular file; `None` when there is none.
    pub(super) fn find_file(&self, path: &TreePath) -> Result<Option<Found>, HostError> {
        Ok(self.find(path)?.filter(|found| found.inode.kind == Kind::File))
    }

    /// What a symlink says.
    pub(super) fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, HostError> {
        let outside = self.outside(path);
        Ok(rustix::fs::readlink(&outside, Vec::new()).context("read", &outside)?.into_bytes())
    }

    /// Opens a regular file whose path has no symlinks.
    pub(super) fn open(&self, real: &TreePath) -> Result<File, HostError> {
        let outside = self.outside(real);
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags.bits()).open(&outside);
        Ok(file.context("open", &outside)?)
    }

    /// The first bytes of a file, at most `limit`; `None` when there is no such file.
    pub(super) fn read(&self, path: &TreePath, limit: u64) -> Result<Option<Vec<u8>>, HostError> {
        let Some(found) = self.find_file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let file = self.open(&found.real)?;
        file.take(limit).read_to_end(&mut bytes).context("read", &self.outside(&found.real))?;
        Ok(Some(bytes))
    }

    /// The names in a directory, sorted; none when there is no such directory.
    pub(super) fn list(&self, path: &TreePath) -> Result<Vec<Name>, HostError> {
        let Some(found) = self.find(path)?.filter(|found| found.inode.kind == Kind::Directory) else {
            return Ok(Vec::new());
        };
        let outside = self.outside(&found.real);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&outside).context("list", &outside)? {
            let name = entry.context("list", &outside)?.file_name();
            names.extend(Name::new(name.as_bytes()).ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What is at a path whose directories are no symlinks; `None` when there is nothing.
    pub(super) fn look(&self, path: &TreePath) -> Result<Option<Inode>, HostError> {
        if let Some(known) = self.looks.borrow().get(path) {
            return Ok(*known);
        }
        let outside = self.outside(path);
        let inode = match Inode::at_path(&outside) {
            Ok(inode) => Some(inode),
            // A directory that the caller may not enter holds nothing that could be copied.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => None,
            Err(errno) => return Err(errno).context("look at", &outside).map_err(HostError::from),
        };
        self.looks.borrow_mut().insert(path.clone(), inode);
        Ok(inode)
    }
}
