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
//! Appends to segments hold `objects/pack/lock`. Blobs need no lock: giving one name to equal bytes twice is harmless. Against whoever deletes,
//! makers share `gc.lock` ([`Store::undeleted`]) and say what they use ([`Store::lease`]).

mod batch;
mod blob;
pub mod check;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gc_lock;
mod layout;
mod lease;
pub mod mend;
mod recover;
mod room;
mod scan;
mod segment;
mod store_error;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;

pub use batch::{Batch, BlobWriter, HashedBytes};
pub use blob::BlobReader;
pub use gc_lock::{Deleting, GcLock, Undeleted};
pub use layout::{FORMAT_VERSION, FormatError, Layout, MAX_STORE_PATH_BYTES, NAMES};
pub use lease::{Lease, Leased};
pub use room::Room;
pub use segment::{Catalog, EMPTY_SEGMENT_BYTES, Located, ObjectKind, Placed, record_bytes};
pub use store_error::StoreError;
pub use sweep::{BlobFile, Compacted, PackEnd};

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
    gc_lock: Arc<GcLock>,
    leases: Arc<lease::Leases>,
    room: Option<Arc<dyn Room>>,
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
        let (gc_lock, leases) = (GcLock::new(layout.gc_lock()), lease::Leases::new(layout.leases()));
        let store = Self { layout, catalog, durability, gc_lock, leases, room: None };
        segment::catch_up(&store.layout, store.catalog.as_ref())?;
        Ok(store)
    }

    /// The same store, whose long batches ask for room before they write.
    #[must_use]
    pub fn with_room(mut self, room: Arc<dyn Room>) -> Self {
        self.room = Some(room);
        self
    }

    /// The same without a look at the segments, for who has read them anew and writes nothing.
    pub fn found_by(layout: Layout, catalog: Arc<dyn Catalog>) -> Self {
        let (gc_lock, leases) = (GcLock::never_taken(layout.gc_lock()), lease::Leases::new(layout.leases()));
        Self { layout, catalog, durability: Durability::Batch, gc_lock, leases, room: None }
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether writes wait for the disk.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Fails when the store may only be read.
    pub fn writable(&self) -> Result<(), StoreError> {
        self.layout.writable()
    }

    /// A new set of objects that become visible together. Nothing is deleted from the store while it lives.
    pub fn batch(&self) -> Result<Batch<'_>, StoreError> {
        Batch::new(self, true)
    }

    /// The same for work that takes long: what it relies on may be deleted meanwhile. Then its commit fails with [`StoreError::Vanished`], and the
    /// work is to be done again.
    pub fn long_batch(&self) -> Result<Batch<'_>, StoreError> {
        Batch::new(self, false)
    }

    /// Keeps everything from being deleted while it lives: for moments.
    pub fn undeleted(&self) -> Result<Undeleted, StoreError> {
        Ok(self.gc_lock.share()?)
    }

    /// Keeps one thing from being deleted while it lives.
    ///
    /// What was there before is to be looked at after that and before [`Store::undeleted`] ends: it may have been deleted already.
    pub fn lease(&self, what: Leased) -> Result<Lease, StoreError> {
        let _undeleted = self.undeleted()?;
        Ok(self.leases.take(what)?)
    }

    /// What living processes use. Complete only under the deleters' lock.
    pub fn leased(&self) -> Result<Vec<Leased>, StoreError> {
        Ok(lease::all(self.layout.leases().as_path())?)
    }

    /// The lock of those who delete.
    pub fn gc_lock(&self) -> &Arc<GcLock> {
        &self.gc_lock
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
        let mut before = None;
        loop {
            let located = self.catalog.locate(id).map_err(StoreError::Catalog)?;
            let located = located.ok_or_else(|| StoreError::missing(kind, &TreeId::from_bytes(*id)))?;
            match segment::read(&self.layout, kind, id, located) {
                // The segment may have been compacted between the look and the read: then it lies elsewhere now.
                Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) if before != Some(located) => {
                    before = Some(located);
                }
                read => return read,
            }
        }
    }
}

impl TreeSource for Store {
    fn tree(&self, id: &TreeId) -> Result<Tree, SourceError> {
        self.directory(id).map_err(|error| SourceError(Box::new(error)))
    }
}
