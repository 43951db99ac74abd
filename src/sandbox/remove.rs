//! Removal of a directory tree whose files may belong to any mapped id.
//!
//! # Invariants
//! - Every name is taken relative to an open directory; a symbolic link is removed, never followed.
//! - What vanishes meanwhile was to vanish anyway: that is no error.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// Directories deeper than this are moved up first: each level holds a descriptor, and the usual limit is 1024.
const MAX_DEPTH: usize = 200;

/// How much of a directory listing is read at once.
const LISTING_BYTES: usize = 32 << 10;

/// How often a directory is read again because something was put into it meanwhile.
const MAX_ROUNDS: usize = 64;

/// Why a tree could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {}: {source}", path.display())]
#[non_exhaustive]
pub struct RemoveError {
    /// The tree, or the part of it that resisted.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// Removes whatever is at `path`; nothing there is success.
pub fn remove_tree(path: &Path) -> Result<(), RemoveError> {
    let failed = |errno: Errno| RemoveError { path: path.to_owned(), source: errno.into() };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(Errno::INVAL));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::openat(CWD, parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed)?,
    };
    let name = CString::new(name.as_bytes()).map_err(|_| failed(Errno::INVAL))?;
    match unlink(parent.as_fd(), &name) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let mut removal = Removal { top: None, moved: 0, buffer: Vec::with_capacity(LISTING_BYTES) };
            removal.directory(parent.as_fd(), &name, 0, path)
        }
        Err(errno) => Err(failed(errno)),
    }
}

struct Removal {
    /// The tree's own directory, which takes in what lies too deep.
    top: Option<OwnedFd>,
    moved: u64,
    buffer: Vec<u8>,
}

impl Removal {
    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        depth: usize,
        path: &Path,
    ) -> Result<(), RemoveError> {
        let failed = |errno: Errno| RemoveError { path: path.to_owned(), source: errno.into() };
        let dir = match open_directory(parent, name) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed)?,
        };
        if depth == 0 {
            self.top = Some(dir.try_clone().map_err(|source| RemoveError { path: path.to_owned(), source })?);
        }
        for _ in 0..MAX_ROUNDS {
            self.contents(&dir, depth, path)?;
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // Something was added meanwhile, or moved up from below: look again.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0)).map(drop).map_err(failed)?
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
        Err(failed(Errno::NOTEMPTY))
    }

    fn contents(&mut self, dir: &OwnedFd, depth: usize, path: &Path) -> Result<(), RemoveError> {
        let failed = |errno: Errno| RemoveError { path: path.to_owned(), source: errno.into() };
        // One buffer serves all levels, since each has read its listing before it goes deeper. On the stack they would
        // be too many.
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        // Names are copied out only for directories: plain files go while the listing is read.
        let mut below = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let is_file = entry.file_type() != FileType::Directory;
            if !is_file || !unlink(dir.as_fd(), name).map_err(failed)? {
                below.push(name.to_owned());
            }
        }
        self.buffer = buffer;
        for name in below {
            if depth + 1 < MAX_DEPTH || !self.move_up(dir, &name).map_err(failed)? {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                self.directory(dir.as_fd(), &name, depth + 1, &path)?;
            }
        }
        Ok(())
    }

    /// Moves a directory to the top of the tree, where a later round finds it.
    fn move_up(&mut self, dir: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
        let Some(top) = &self.top else { return Ok(false) };
        loop {
            self.moved += 1;
            let fresh = format!(".treebox-removing-{}", self.moved);
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(dir, name, top, fresh.as_str(), flags) {
                Ok(()) | Err(Errno::NOENT) => return Ok(true),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Unlinks what is no directory; says whether the name is gone.
fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        // Linux says EISDIR; POSIX allows EPERM, which then shows when the name is opened as a directory.
        Err(Errno::ISDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        // Without the privileges of a namespace's root (or with a group that is not mapped) the mode counts.
        Err(Errno::ACCESS) => {
            let handle = rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
            // A mode cannot be changed through an O_PATH descriptor itself, but through its name in /proc.
            let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
            rustix::fs::chmod(link.as_str(), Mode::RWXU)?;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_goes_with_links_unfollowed_and_closed_directories() {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        let kept = scratch.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        symlink(&kept, tree.join("a/link")).unwrap();
        std::fs::set_permissions(tree.join("a/b"), std::fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && kept.join("file").exists());
        remove_tree(&tree).unwrap();
        symlink(&kept, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(kept.join("file").exists());
    }

    #[test]
    fn depth_is_no_obstacle() {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let mut dir = rustix::fs::open(&tree, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, "d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
