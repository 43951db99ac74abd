//! A store in a temporary directory, for this room's tests.

use std::path::Path;
use std::sync::Arc;

use crate::disk::Durability;
use crate::object::{Draft, Entry, Meta, Timestamp, TreeId, TreePath, entry_at};
use crate::store::testing::MemoryCatalog;
use crate::store::{Batch, Layout, Store};

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
