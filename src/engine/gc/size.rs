//! What a store takes on disk, as `du` counts it: blocks, each file once however many names it has.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::engine::core::Core;
use crate::engine::error::{Error, Result};

/// The parts of a store and what each takes on disk, in bytes. A file that several share counts for the first that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreSize {
    /// Blobs.
    pub blobs: u64,
    /// Trees and states.
    pub segments: u64,
    /// Commits, refs and logs.
    pub history: u64,
    /// The index.
    pub index: u64,
    /// Originals of images.
    pub originals: u64,
    /// Layers, as far as their files are no blobs.
    pub layers: u64,
    /// Caches that commands mount.
    pub caches: u64,
    /// What is being made, or was left by a dead process.
    pub tmp: u64,
    /// Everything else.
    pub other: u64,
    /// Directories that could not be read, for instance since another user owns them: what is in them is not counted.
    pub unreadable: u64,
}

impl StoreSize {
    /// All together.
    pub fn total(&self) -> u64 {
        let Self { blobs, segments, history, index, originals, layers, caches, tmp, other, unreadable: _ } =
            self;
        blobs + segments + history + index + originals + layers + caches + tmp + other
    }
}

/// Files with several names that have been counted.
pub(super) type Counted = HashSet<(u64, u64)>;

/// What a path and all below it take, as far as it was not counted before.
pub(super) fn disk_bytes(path: &Path, counted: &mut Counted, unreadable: &mut u64) -> u64 {
    let Ok(stat) = std::fs::symlink_metadata(path) else { return 0 };
    if stat.nlink() > 1 && !stat.is_dir() && !counted.insert((stat.dev(), stat.ino())) {
        return 0;
    }
    let mut sum = stat.blocks() * 512;
    if stat.is_dir() {
        match std::fs::read_dir(path) {
            Ok(listing) => {
                sum += listing
                    .filter_map(Result::ok)
                    .map(|entry| disk_bytes(&entry.path(), counted, unreadable))
                    .sum::<u64>();
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => *unreadable += 1,
        }
    }
    sum
}

impl Core {
    /// What a directory and all below it take, but for files that have other names.
    pub(in crate::engine) fn held_alone_by(&self, path: &Path) -> u64 {
        let Ok(stat) = std::fs::symlink_metadata(path) else { return 0 };
        if stat.nlink() > 1 && !stat.is_dir() {
            return 0;
        }
        let below = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        stat.blocks() * 512 + below.map(|entry| self.held_alone_by(&entry.path())).sum::<u64>()
    }

    /// What a directory and all below it take.
    pub(in crate::engine) fn held_by(&self, path: &Path) -> u64 {
        disk_bytes(path, &mut Counted::default(), &mut 0)
    }

    /// Measures the whole store.
    pub(in crate::engine) fn size(&self) -> Result<StoreSize> {
        self.size_counting(&mut Counted::default())
    }

    pub(super) fn size_counting(&self, counted: &mut Counted) -> Result<StoreSize> {
        let root = self.layout().root();
        let failed = |error| Error::disk("list", root, error);
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What links to blobs comes after them.
            let order = ["objects", "originals", "layers"].iter().position(|first| **first == *name);
            names.insert((order.unwrap_or(usize::MAX), name), entry.path());
        }
        let mut size = StoreSize::default();
        if let Ok(stat) = std::fs::metadata(root) {
            size.other += stat.blocks() * 512;
        }
        for ((_, name), path) in names {
            let mut unreadable = 0;
            if name == "objects" {
                size.segments = disk_bytes(&self.store.pack_dir(), counted, &mut unreadable);
                let all = disk_bytes(&path, counted, &mut unreadable);
                size.blobs = all.saturating_sub(size.segments);
                continue;
            }
            let bytes = disk_bytes(&path, counted, &mut unreadable);
            let part = match name.as_str() {
                "history.git" => &mut size.history,
                "originals" => &mut size.originals,
                "layers" => &mut size.layers,
                "caches" => &mut size.caches,
                "tmp" => &mut size.tmp,
                name if name.starts_with("index.db") => &mut size.index,
                _ => &mut size.other,
            };
            *part += bytes;
            size.unreadable += unreadable;
        }
        Ok(size)
    }
}
