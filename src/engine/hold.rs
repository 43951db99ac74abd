//! Holding on to what is used: nobody deletes it meanwhile.
//!
//! # Locking
//! In this order: keep deleters away, take the lease, look whether the thing is there. A lease that is taken first and looked for later may be of
//! something that was just being deleted.

use std::io::ErrorKind;
use std::sync::Arc;

use super::core::Core;
use super::error::{Error, Result};
use crate::object::{StateId, TreeId};
use crate::store::{Lease, Leased, StoreError};

/// Something that is kept from being deleted. Cheap to clone; it lasts until the last clone goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(#[expect(dead_code, reason = "held for its drop")] Option<Arc<Lease>>);

impl Core {
    /// Holds a state.
    pub(super) fn hold_state(&self, id: StateId) -> Result<Held> {
        self.hold(Leased::State(id))
    }

    /// Holds a root tree that no state has.
    pub(super) fn hold_tree(&self, id: TreeId) -> Result<Held> {
        self.hold(Leased::Tree(id))
    }

    /// Holds a layer.
    pub(super) fn hold_layer(&self, name: &str) -> Result<Held> {
        self.hold(Leased::layer(name))
    }

    /// Holds what images bring from now on.
    pub(super) fn hold_originals(&self) -> Result<Held> {
        // A file system's clock may be a little behind.
        const CLOCK_TICK_MS: i64 = 50;
        let since = super::core::now_ms() - CLOCK_TICK_MS;
        self.hold(Leased::OriginalsSince(u64::try_from(since).unwrap_or(0)))
    }

    /// A full disk or one that cannot be written must not keep anybody from reading: then nothing is held.
    fn hold(&self, what: Leased) -> Result<Held> {
        if self.layout().read_only().is_some() {
            return Ok(Held(None));
        }
        match self.store.lease(what) {
            Ok(lease) => Ok(Held(Some(Arc::new(lease)))),
            Err(StoreError::Disk(error)) if is_unwritable(error.io().kind()) => Ok(Held(None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Does long work that makes objects; once more, with nothing deleted meanwhile, when something that it relied on was deleted.
    pub(super) fn in_long_batch<T>(
        &self,
        mut work: impl FnMut(crate::store::Batch<'_>) -> Result<T>,
    ) -> Result<T> {
        match work(self.store.long_batch()?) {
            Err(Error::Store(error)) if error.is_vanished() => work(self.store.batch()?),
            done => done,
        }
    }
}

fn is_unwritable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
}
