//! Blobs, trees and states at rest.
//!
//! Blobs are files of their own below `objects/`, raw, so that a layer can link to them. Trees and states are small and many: they are
//! appended to segment files in `objects/pack/`. The segments are the truth; where an object lies in them is kept by a [`Catalog`], which
//! can be lost and is filled again by reading the segments.
//!
//! This room never decides what is worth keeping and never touches history.
//!
//! # Invariants
//! - What is under an object's name has that hash: it was synced before it got the name, and reads check it.
//! - Nothing is ever changed in place.
//!
//! # Locking
//! Appends to segments hold `objects/pack/lock`. Blobs need no lock: giving one name to equal bytes twice is harmless.

mod batch;
mod blob;
mod layout;
mod recover;
mod segment;
mod store_error;
#[cfg(test)]
pub(crate) mod testing;

pub use batch::{Batch, BlobWriter, HashedBytes};
pub use blob::BlobReader;
pub use layout::{FORMAT_VERSION, FormatError, Layout};
pub use segment::{Catalog, Located, ObjectKind, Placed};
pub use store_error::StoreError;

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::Durability;
use crate::object::{Entry, SourceError, State, StateId, Tree, TreeId, TreeSource};

/// The objects of one store.
#[derive(Clone)]
pub struct Store {
    layout: Layout,
    catalog: Arc<dyn Catalog>,
    durability: Durability,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Store {
    /// The objects below a layout, found through a catalog.
    ///
    /// Objects that a segment holds and the catalog does not know yet (their writer died, or the catalog was lost) are entered now.
    pub fn open(
        layout: Layout,
        catalog: Arc<dyn Catalog>,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let store = Self { layout, catalog, durability };
        segment::catch_up(&store.layout, store.catalog.as_ref())?;
        Ok(store)
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether writes wait for the disk.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// A new set of objects that become visible together.
    pub fn batch(&self) -> Result<Batch<'_>, StoreError> {
        Batch::new(self)
    }

    /// The state of that name.
    pub fn state(&self, id: &StateId) -> Result<State, StoreError> {
        let bytes = self.packed(ObjectKind::State, id.as_bytes())?;
        State::decode(&bytes).map_err(|error| StoreError::damaged(ObjectKind::State, id, error))
    }

    /// The root directory's entry of that root tree.
    pub fn root(&self, id: &TreeId) -> Result<Entry, StoreError> {
        let bytes = self.packed(ObjectKind::Tree, id.as_bytes())?;
        Tree::decode_root(&bytes).map_err(|error| StoreError::damaged(ObjectKind::Tree, id, error))
    }

    /// The directory of that name.
    pub fn directory(&self, id: &TreeId) -> Result<Tree, StoreError> {
        let bytes = self.packed(ObjectKind::Tree, id.as_bytes())?;
        Tree::decode(&bytes).map_err(|error| StoreError::damaged(ObjectKind::Tree, id, error))
    }

    /// Whether a tree or state is known; its bytes are not read.
    pub fn has_packed(&self, id: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self.catalog.locate(id).map_err(StoreError::Catalog)?.is_some())
    }

    /// Where the bytes of a blob lie.
    pub fn blob_path(&self, id: &crate::object::BlobId) -> PathBuf {
        self.layout.blob(id)
    }

    fn packed(&self, kind: ObjectKind, id: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        let located = self.catalog.locate(id).map_err(StoreError::Catalog)?;
        let located = located.ok_or_else(|| StoreError::missing(kind, &TreeId::from_bytes(*id)))?;
        segment::read(&self.layout, kind, id, located)
    }
}

impl TreeSource for Store {
    fn tree(&self, id: &TreeId) -> Result<Tree, SourceError> {
        self.directory(id).map_err(|error| SourceError(Box::new(error)))
    }
}
