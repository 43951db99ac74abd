//! Getting bytes to the disk with as few syncs as possible.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::error::{Context, DiskError};

/// What a finished command may lose in a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing that it reported.
    #[default]
    Commit,
    /// The newest commits; what is left is whole.
    Batch,
}

/// Above this many files one `syncfs` is cheaper than a sync of each (measured on ext4: 0.4 ms a file).
const MAX_SINGLE_SYNCS: usize = 24;

/// Files and directories that must be on disk before the next step. All are on one file system: that of a store.
#[derive(Debug)]
pub struct SyncSet {
    durability: Durability,
    paths: BTreeSet<PathBuf>,
}

impl SyncSet {
    /// An empty set; with [`Durability::Batch`] it never syncs.
    pub fn new(durability: Durability) -> Self {
        Self { durability, paths: BTreeSet::new() }
    }

    /// A file whose bytes must be on disk.
    pub fn file(&mut self, path: &Path) {
        self.add(path);
    }

    /// A directory whose names must be on disk.
    pub fn directory(&mut self, path: &Path) {
        self.add(path);
    }

    fn add(&mut self, path: &Path) {
        // Above that number it is the file system that is synced, and more paths would only be sorted for nothing.
        if self.durability == Durability::Commit && self.paths.len() <= MAX_SINGLE_SYNCS {
            self.paths.insert(path.to_owned());
        }
    }

    /// Syncs everything in the set.
    pub fn finish(self) -> Result<(), DiskError> {
        if self.paths.len() > MAX_SINGLE_SYNCS {
            return sync_file_system(self.paths.first().expect("the set is not empty"), self.durability);
        }
        for path in &self.paths {
            open(path)?.sync_all().context("sync", path)?;
        }
        Ok(())
    }
}

/// Syncs the file system on which `path` is; with [`Durability::Batch`] it does not.
pub fn sync_file_system(path: &Path, durability: Durability) -> Result<(), DiskError> {
    match durability {
        Durability::Commit => rustix::fs::syncfs(&open(path)?).context("sync the file system of", path),
        Durability::Batch => Ok(()),
    }
}

fn open(path: &Path) -> Result<File, DiskError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).context("open for sync", path)
}
