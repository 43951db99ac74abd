//! Looking, before anything is touched, whether what is there may be replaced.

use std::collections::HashSet;
use std::io::Read as _;

use rustix::fs::{FileType, Stat};

use super::{Ground, PlannedChange, UpdateOptions, open_below, split};
use crate::disk::DiskError;
use crate::object::{BlobHasher, BlobId};
use crate::worktree::layer::entry::{LayerEntry, LayerNode};
use crate::worktree::layer::inode::{Dir, kind_of, mtime_of};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) conflicts: Vec<(Vec<u8>, String)>,
    /// Planned directories that are there.
    pub(super) standing: HashSet<Vec<u8>>,
}

const READ_BYTES: usize = 128 * 1024;

impl Check {
    pub(super) fn of(
        root: &Dir,
        options: &UpdateOptions,
        changes: &[PlannedChange],
    ) -> Result<Self, DiskError> {
        let mut check = Self::default();
        check.standing.insert(Vec::new());
        if root.names()?.is_empty() {
            return Ok(check);
        }
        let known: HashSet<&[u8]> = changes
            .iter()
            .filter(|change| !change.known.is_empty())
            .map(|change| change.path.as_slice())
            .collect();
        let mut parent: Option<(&[u8], Option<Dir>)> = None;
        for change in changes.iter().filter(|change| !change.path.is_empty()) {
            let (above, name) = split(&change.path);
            let dir = match parent.take() {
                Some((path, dir)) if path == above => dir,
                _ => open_below(root, above)?,
            };
            if let Some(dir) = &dir
                && let Some(stat) = look(dir, name)?
                && let Some(reason) = check.refuse(dir, name, &stat, change, options, &known)?
            {
                check.conflicts.push((change.path.clone(), reason.to_owned()));
            }
            parent = Some((above, dir));
        }
        Ok(check)
    }

    /// Why what is there may not be replaced; `None` when it may.
    fn refuse(
        &mut self,
        dir: &Dir,
        name: &[u8],
        stat: &Stat,
        change: &PlannedChange,
        options: &UpdateOptions,
        known: &HashSet<&[u8]>,
    ) -> Result<Option<&'static str>, DiskError> {
        let is_directory = kind_of(stat) == FileType::Directory;
        if is_directory && change.becomes_directory() {
            self.standing.insert(change.path.clone());
            return Ok(None);
        }
        let replaced = change.new.is_some();
        if options.ground == Ground::Foreign {
            return Ok((is_directory || change.becomes_directory())
                .then_some("a directory and something else cannot take each other's place"));
        }
        if is_directory && replaced && holds_others(&dir.open_child(name)?, &change.path, known)? {
            return Ok(Some("it is a directory with files that treebox did not write"));
        }
        let entries = change.known.iter().chain(&change.new);
        for entry in entries {
            if same(dir, name, stat, entry)? {
                return Ok(None);
            }
        }
        // A directory of somebody else's in the place of a file that goes just stays.
        if options.force || (is_directory && !replaced) {
            return Ok(None);
        }
        Ok(Some(if change.known.is_empty() { "it is in the way" } else { "it was changed by hand" }))
    }
}

/// What a name is, if it is there.
pub(super) fn look(dir: &Dir, name: &[u8]) -> Result<Option<Stat>, DiskError> {
    match dir.stat(name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is anything at or below a directory that was not written by treebox, as far as the plan knows.
fn holds_others(dir: &Dir, path: &[u8], known: &HashSet<&[u8]>) -> Result<bool, DiskError> {
    for name in dir.names()? {
        let below = [path, b"/", &name].concat();
        if !known.contains(below.as_slice()) {
            return Ok(true);
        }
        if kind_of(&dir.stat(&name)?) == FileType::Directory
            && holds_others(&dir.open_child(&name)?, &below, known)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what is on disk is what an entry says. Times do not count, since nothing is lost with them.
fn same(dir: &Dir, name: &[u8], stat: &Stat, entry: &LayerEntry) -> Result<bool, DiskError> {
    let kind = kind_of(stat);
    Ok(match &entry.node {
        LayerNode::Directory { .. } => kind == FileType::Directory,
        LayerNode::Symlink { target } => kind == FileType::Symlink && dir.read_link(name)? == *target,
        LayerNode::Fifo => kind == FileType::Fifo,
        LayerNode::Socket => kind == FileType::Socket,
        LayerNode::Device { char: true, .. } => kind == FileType::CharacterDevice,
        LayerNode::Device { .. } => kind == FileType::BlockDevice,
        LayerNode::Whiteout => false,
        LayerNode::File { blob, size, .. } => {
            kind == FileType::RegularFile
                && u64::try_from(stat.st_size) == Ok(*size)
                && stat.st_mode & 0o7777 == u32::from(entry.meta.mode)
                && match content(dir, name)? {
                    Some(found) => found == *blob,
                    // Its mode lets nobody read it: the time has to do.
                    None => mtime_of(stat) == entry.meta.mtime,
                }
        }
    })
}

/// The id of a file's bytes; `None` when it may not be read.
fn content(dir: &Dir, name: &[u8]) -> Result<Option<BlobId>, DiskError> {
    let mut file = match dir.open_file(name) {
        Ok(file) => file,
        Err(error) if error.io().kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut hasher, mut buffer) = (BlobHasher::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finish())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DiskError::new("read", dir.join(name), error)),
        }
    }
}
