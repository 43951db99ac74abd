//! A store in a temporary directory, for this room's tests.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::disk::Durability;
use crate::object::{Draft, Entry, Meta, SourceError, Timestamp, TreeId, TreePath, entry_at};
use crate::store::{Batch, Catalog, Layout, Located, Placed, Store};

#[derive(Default)]
struct Known {
    places: HashMap<[u8; 32], Located>,
    ends: HashMap<u32, u64>,
}

#[derive(Default)]
struct MemoryCatalog(Mutex<Known>);

impl Catalog for MemoryCatalog {
    fn locate(&self, id: &[u8; 32]) -> Result<Option<Located>, SourceError> {
        Ok(self.0.lock().unwrap().places.get(id).copied())
    }

    fn record(&self, segment: u32, end: u64, placed: &[Placed]) -> Result<(), SourceError> {
        let mut known = self.0.lock().unwrap();
        known.places.extend(placed.iter().map(|placed| (placed.id, placed.located)));
        known.ends.insert(segment, end);
        Ok(())
    }

    fn known_until(&self, segment: u32) -> Result<u64, SourceError> {
        Ok(self.0.lock().unwrap().ends.get(&segment).copied().unwrap_or(0))
    }
}

pub(in crate::worktree) struct TestStore {
    pub(in crate::worktree) store: Store,
    pub(in crate::worktree) dir: tempfile::TempDir,
}

impl TestStore {
    pub(in crate::worktree) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(&dir.path().join("store")).unwrap();
        let store = Store::open(layout, Arc::new(MemoryCatalog::default()), Durability::Batch).unwrap();
        Self { store, dir }
    }

    /// A place for host files, beside the store.
    pub(in crate::worktree) fn host(&self) -> std::path::PathBuf {
        self.dir.path().join("host")
    }

    /// Fills an empty draft and keeps the result.
    pub(in crate::worktree) fn keep<T, E: std::fmt::Debug>(
        &self,
        fill: impl FnOnce(&Batch<'_>, &mut Draft<'_>) -> Result<T, E>,
    ) -> (T, TreeId, Entry) {
        let mut batch = self.store.batch().unwrap();
        let root = Meta::root_owned(0o755, Timestamp::default());
        let mut draft = Draft::empty(&self.store, root);
        let report = fill(&batch, &mut draft).unwrap();
        let (id, root) = draft.finish(&mut batch).unwrap();
        batch.commit().unwrap();
        (report, id, root)
    }

    /// The entry at a path, which must be there.
    pub(in crate::worktree) fn entry(&self, root: &Entry, path: impl AsRef<Path>) -> Entry {
        let path = path.as_ref();
        let tree_path = TreePath::parse(path.as_os_str().as_encoded_bytes()).unwrap();
        entry_at(&self.store, root, &tree_path).unwrap().unwrap_or_else(|| panic!("no {path:?}"))
    }
}
