//! Taking objects away: listing blobs, removing them, and compacting segments. What is garbage is decided elsewhere.
//!
//! # Locking
//! Blobs are removed under the deleters' lock. Compacting holds `objects/pack/lock`; readers take no lock and look an object up again when the
//! segment they were told of is gone.
//!
//! # Durability
//! A compacted segment's records are on disk and in the catalog before the segment goes. What was taken away may come back when the power fails or
//! the catalog is lost: an object that nothing needs, which is taken away again.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::segment::{self, HEAD, ObjectKind, RECORD_HEAD_BYTES, segments};
use super::{Store, StoreError};
use crate::disk::{DiskError, Durability, SyncSet, remove_file};
use crate::object::BlobId;

/// Records that are copied at a time, in bytes.
const COPY_BYTES: usize = 8 << 20;

/// The file of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobFile {
    /// How many bytes it has.
    pub len: u64,
    /// What it takes on disk, in bytes.
    pub disk_bytes: u64,
    /// How many names the file has, in layers among others.
    pub links: u64,
    /// Its inode.
    pub inode: u64,
    /// When it last changed (`ctime`), in seconds since 1970.
    pub changed_seconds: i64,
}

impl BlobFile {
    pub(super) fn of(stat: &Metadata) -> Self {
        Self {
            len: stat.len(),
            disk_bytes: stat.blocks() * 512,
            links: stat.nlink(),
            inode: stat.ino(),
            changed_seconds: stat.ctime(),
        }
    }
}

/// Up to where the segments have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackEnd {
    segment: u32,
    offset: u64,
}

/// What compacting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// How many segments were replaced.
    pub segments: usize,
    /// How many bytes they had more than what replaces them.
    pub freed_bytes: u64,
}

impl Store {
    /// Visits every blob's file, directory by directory.
    pub fn each_blob(&self, visit: &mut dyn FnMut(BlobId, BlobFile)) -> Result<(), StoreError> {
        for first in 0..=u8::MAX {
            let shard = format!("{first:02x}");
            let dir = self.layout.objects().join(&shard);
            let listing = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                listing => listing.map_err(|error| DiskError::new("list", &dir, error))?,
            };
            for entry in listing {
                let entry = entry.map_err(|error| DiskError::new("list", &dir, error))?;
                let name = entry.file_name();
                let Some(id) = name.to_str().and_then(|rest| format!("{shard}{rest}").parse().ok()) else {
                    continue;
                };
                let stat = match entry.metadata() {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    stat => stat.map_err(|error| DiskError::new("look at", entry.path(), error))?,
                };
                if stat.is_file() {
                    visit(id, BlobFile::of(&stat));
                }
            }
        }
        Ok(())
    }

    /// Removes a blob; whether it was there. The caller holds the deleters' lock.
    pub fn remove_blob(&self, id: &BlobId) -> Result<bool, StoreError> {
        let path = self.layout.blob(id);
        let removed = remove_file(&path)?;
        if removed && let Some(dir) = path.parent() {
            // Only one that is empty now goes.
            let _ = std::fs::remove_dir(dir);
        }
        Ok(removed)
    }

    /// Where the segments end. Everything up to there is in the catalog.
    pub fn pack_end(&self) -> Result<PackEnd, StoreError> {
        // Whoever appends holds the lock until the catalog has it.
        let _lock = segment::lock(&self.layout)?;
        let Some(segment) = segments(&self.layout)?.pop() else { return Ok(PackEnd::default()) };
        let offset = segment::catch_up_segment(&self.layout, self.catalog.as_ref(), segment)?;
        Ok(PackEnd { segment, offset })
    }

    /// Visits what was appended to the segments since they ended there, and says where they end now.
    pub fn packed_since(
        &self,
        end: PackEnd,
        visit: &mut dyn FnMut(ObjectKind, [u8; 32]),
    ) -> Result<PackEnd, StoreError> {
        let mut now = end;
        for segment in segments(&self.layout)?.into_iter().filter(|segment| *segment >= end.segment) {
            let path = segment::path_of(&self.layout, segment);
            let file = File::open(&path).map_err(|error| DiskError::new("open", &path, error))?;
            let len = segment::len_of(&self.layout, segment)?;
            let mut at = if segment == end.segment { end.offset } else { 0 };
            at = at.max(HEAD.len() as u64);
            while let Some((kind, id, payload)) = segment::record_at(&file, at, len) {
                visit(kind, id);
                at += RECORD_HEAD_BYTES + payload.len() as u64;
            }
            now = PackEnd { segment, offset: at };
        }
        Ok(now)
    }

    /// The segments by number with their length in bytes.
    pub fn pack_sizes(&self) -> Result<Vec<(u32, u64)>, StoreError> {
        segments(&self.layout)?
            .into_iter()
            .map(|segment| Ok((segment, segment::len_of(&self.layout, segment)?)))
            .collect()
    }

    /// Copies what is found in a segment to a later one and removes it.
    ///
    /// Numbers of segments only ever grow: the one that is written to is the greatest.
    pub fn compact(&self, number: u32) -> Result<Compacted, StoreError> {
        let (layout, catalog) = (&self.layout, self.catalog.as_ref());
        let lock = segment::lock(layout)?;
        let path = segment::path_of(layout, number);
        let before = match segment::len_of(layout, number) {
            Err(StoreError::Disk(error)) if error.is_not_found() => return Ok(Compacted::default()),
            len => len?,
        };
        segment::catch_up_segment(layout, catalog, number)?;
        let found = catalog.found_in(number).map_err(StoreError::Catalog)?;
        let file = File::open(&path).map_err(|error| DiskError::new("open", &path, error))?;
        // It is synced whatever the durability of the store: the old record goes.
        let durability = Durability::Commit;
        // The greatest must stay the greatest.
        let mut anew = segments(layout)?.last() == Some(&number);
        let (mut objects, mut bytes, mut copied) = (Vec::new(), 0, 0);
        for placed in found {
            let end = placed.located.offset + RECORD_HEAD_BYTES + u64::from(placed.located.len);
            match segment::record_at(&file, placed.located.offset, end) {
                Some((kind, id, payload)) if id == placed.id => {
                    bytes += payload.len();
                    copied += RECORD_HEAD_BYTES + payload.len() as u64;
                    objects.push((kind, id, payload));
                }
                // A damaged segment stays as it is: it may be repaired.
                _ => {
                    let reason = "an object in it is damaged, so it is not compacted".into();
                    return Err(StoreError::Segment { segment: number, reason });
                }
            }
            if bytes >= COPY_BYTES {
                segment::append_locked(layout, catalog, durability, &objects, anew)?;
                anew = false;
                objects.clear();
                bytes = 0;
            }
        }
        if anew || !objects.is_empty() {
            segment::append_locked(layout, catalog, durability, &objects, anew)?;
        }
        remove_file(&path)?;
        let mut sync = SyncSet::new(self.durability);
        sync.directory(&layout.pack());
        sync.finish()?;
        catalog.forget(number).map_err(StoreError::Catalog)?;
        drop(lock);
        Ok(Compacted { segments: 1, freed_bytes: before.saturating_sub(copied) })
    }

    /// Where segments lie, for what is told of them.
    pub fn pack_dir(&self) -> PathBuf {
        self.layout.pack()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::MemoryCatalog;
    use super::super::{Layout, Store};
    use super::*;
    use crate::object::{Config, State, StateId, TreeId};

    fn put(store: &Store, numbers: std::ops::Range<u8>) -> Vec<StateId> {
        let mut batch = store.batch().unwrap();
        let state = |number| State { root: TreeId::from_bytes([number; 32]), config: Config::default() };
        let ids = numbers.map(|number| batch.put_state(&state(number)).unwrap()).collect();
        batch.commit().unwrap();
        ids
    }

    #[test]
    fn a_compacted_segment_is_gone_and_what_was_known_of_it_is_found_elsewhere_also_when_the_catalog_is_lost()
    {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(&dir.path().join("store")).unwrap();
        let open = || {
            let catalog = Arc::new(MemoryCatalog::default());
            (Store::open(layout.clone(), Arc::clone(&catalog) as _, Durability::Commit).unwrap(), catalog)
        };
        let (store, catalog) = open();
        let first = put(&store, 0..3);
        let end = store.pack_end().unwrap();
        let second = put(&store, 3..4);
        let mut seen = Vec::new();
        let after = store.packed_since(end, &mut |kind, id| seen.push((kind, id))).unwrap();
        assert_eq!(seen, [(ObjectKind::State, *second[0].as_bytes())]);
        assert_eq!(after, store.pack_end().unwrap());

        catalog.forget_one(first[1].as_bytes());
        let compacted = store.compact(1).unwrap();
        assert!(compacted.freed_bytes > 0, "{compacted:?}");
        assert_eq!(store.pack_sizes().unwrap().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
        for id in [&first[0], &first[2], &second[0]] {
            store.state(id).unwrap();
        }
        assert!(store.state(&first[1]).unwrap_err().is_missing());
        let (again, _) = open();
        again.state(&first[2]).unwrap();
        assert!(again.state(&first[1]).unwrap_err().is_missing());

        // All of it garbage: the number still grows.
        let (empty, catalog) = open();
        for id in [&first[0], &first[2], &second[0]] {
            catalog.forget_one(id.as_bytes());
        }
        empty.compact(2).unwrap();
        assert_eq!(empty.pack_sizes().unwrap(), [(3, HEAD.len() as u64)]);
        let third = put(&empty, 9..10);
        empty.state(&third[0]).unwrap();
    }
}
