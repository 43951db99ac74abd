//! Bringing a host directory that a person has from one tree to another.
//!
//! Only what differs is touched. What is new is made in a directory of its own beside the rest, by the same builder that makes layers, and then
//! renamed into place: a file is the old one or the new one at any time, never half of one.
//!
//! # Invariants
//! - Nothing is removed or replaced that is neither what was written there before nor what is to be there, unless that is forced. Directories
//!   that somebody put something into are never removed.
//! - Every name is looked up in an open directory; no symlink is followed, wherever it came from.

mod check;
mod settle;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::build::BuildOptions;
use super::entry::{LayerEntry, LayerError, LayerNode};
use super::inode::Dir;
use check::Check;
use settle::Settling;

/// A path that differs. Parents come before what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// Path below the directory, without a leading slash; empty for the directory itself.
    pub path: Vec<u8>,
    /// What may be there because it was written before: several after an update that was interrupted.
    pub known: Vec<LayerEntry>,
    /// What is to be there; `None` for nothing.
    pub new: Option<LayerEntry>,
}

/// How a directory is brought up to date.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateOptions {
    /// How files are made.
    pub build: BuildOptions,
    /// What is there already.
    pub ground: Ground,
    /// Whether what was changed by hand is replaced.
    pub force: bool,
}

/// What a directory holds before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ground {
    /// What treebox wrote, and what somebody may have made of it.
    Written,
    /// A person's own files: files are replaced, as `cp` does, and directories keep their attributes.
    Foreign,
}

/// What bringing up to date did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// Entries made or changed.
    pub written: u64,
    /// Entries removed.
    pub removed: u64,
    /// What the disk could not hold, with the reason.
    pub skipped: Vec<(Vec<u8>, String)>,
    /// What stands in the way, with the reason. When there is any, nothing was done.
    pub conflicts: Vec<(Vec<u8>, String)>,
    /// Directories that had to stay since others' files are in them.
    pub left: Vec<Vec<u8>>,
}

/// Names of the directories in which what is new is made begin like this.
pub const STAGING_PREFIX: &str = ".treebox-writing-";

/// Brings a directory up to date.
pub fn update(dir: &Path, options: &UpdateOptions, changes: &[PlannedChange]) -> Result<Updated, LayerError> {
    let root = Dir::open(dir)?;
    let check = Check::of(&root, options, changes)?;
    if !check.conflicts.is_empty() {
        return Ok(Updated { conflicts: check.conflicts, ..Updated::default() });
    }
    Settling::new(root, options, check).perform(changes)
}

impl PlannedChange {
    /// Whether it is only here for what is below it.
    fn is_on_the_way(&self) -> bool {
        self.new.as_ref().is_some_and(|new| {
            is_directory(new) && !self.known.is_empty() && self.known.iter().all(|known| known == new)
        })
    }

    fn was_directory(&self) -> bool {
        self.known.iter().any(is_directory)
    }

    fn becomes_directory(&self) -> bool {
        self.new.as_ref().is_some_and(is_directory)
    }
}

fn is_directory(entry: &LayerEntry) -> bool {
    matches!(entry.node, LayerNode::Directory { .. })
}

/// The directory of a path and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Opens a directory below the root; `None` when there is none there, or something else on the way.
fn open_below(root: &Dir, path: &[u8]) -> Result<Option<Dir>, crate::disk::DiskError> {
    let mut here = root.open_child(b".")?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        use rustix::io::Errno;
        here = match here.open_child(name) {
            Ok(next) => next,
            Err(error)
                if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
                    .iter()
                    .any(|errno| error.io().raw_os_error() == Some(errno.raw_os_error())) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
    }
    Ok(Some(here))
}
