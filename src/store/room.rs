//! Room on disk, where a store may only grow so far: it is asked for before anything is written.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Lease, StoreError};

/// Asked for at a time: asking costs a file lock, and what was asked for and not used others do not get meanwhile.
const PIECE_BYTES: u64 = 4 << 20;
/// A file takes whole blocks.
const BLOCK_BYTES: u64 = 4096;

/// Gives room, and makes some when there is none.
pub trait Room: Send + Sync + Debug {
    /// Keeps so many bytes free for the holder of what it gives.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`] when that is not possible. Whoever keeps deleters away must not call this.
    fn reserve(&self, bytes: u64) -> Result<Lease, StoreError>;

    /// Hears that so many bytes are in the store now.
    fn spent(&self, bytes: u64);
}

/// What one piece of work has filled, and what it may still fill.
#[derive(Debug, Clone)]
pub(super) struct Filling {
    room: Arc<dyn Room>,
    filled: Arc<Mutex<Filled>>,
}

#[derive(Debug, Default)]
struct Filled {
    granted: u64,
    taken: u64,
    leases: Vec<Lease>,
}

impl Filling {
    pub(super) fn new(room: Arc<dyn Room>) -> Self {
        Self { room, filled: Arc::default() }
    }

    /// Takes room for so many bytes that are about to be written.
    pub(super) fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = filled.taken + bytes.next_multiple_of(BLOCK_BYTES);
        let least = taken.saturating_sub(filled.granted);
        if least > 0 {
            let mut more = least.max(PIECE_BYTES);
            let lease = match self.room.reserve(more) {
                // The last bit may fit all the same.
                Err(error) if error.is_no_room() && more > least => {
                    more = least;
                    self.room.reserve(least)?
                }
                lease => lease?,
            };
            filled.granted += more;
            filled.leases.push(lease);
        }
        filled.taken = taken;
        Ok(())
    }

    pub(super) fn taken(&self) -> u64 {
        self.filled.lock().unwrap_or_else(PoisonError::into_inner).taken
    }
}
