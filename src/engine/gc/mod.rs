//! Garbage collection: what goes is a plan first, which is printed or carried out.
//!
//! # Invariants
//! - What a ref, a log, an operation on record, a lease, a replay or a checkout leads to never goes, whatever the size of the store is to be.
//! - At every moment everything that the catalog knows is whole: states and trees leave it at once, and only then blobs go.
//!
//! # Locking
//! Others are kept out for one slice of deleting at a time. Each slice begins with a look at what came about since the one before.
//!
//! # Durability
//! A process that is killed in between leaves garbage, which the next one takes. What a power cut brings back is garbage too.

mod execute;
mod marks;
mod plan;
mod roots;
mod size;

pub use plan::Stays;
pub use roots::Why;
pub use size::StoreSize;

pub(super) use marks::Thing;
pub(super) use roots::Roots;

use super::blocking::Engine;
use super::cancel::Cancel;
use super::error::Result;
use crate::object::{StateId, TreeId};

/// For how many days logs, remembered runs, layers and caches stay that nothing needs, unless told otherwise: as long as Git's logs.
pub const DEFAULT_KEEP_DAYS: u32 = 90;

/// What garbage collection is to do.
#[derive(Debug, Clone)]
pub struct GcOptions {
    pub(super) max_bytes: Option<u64>,
    pub(super) keep_days: u32,
    pub(super) dry_run: bool,
    pub(super) cancel: Cancel,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { max_bytes: None, keep_days: DEFAULT_KEEP_DAYS, dry_run: false, cancel: Cancel::new() }
    }
}

impl GcOptions {
    /// Keeps what was used in the last [`DEFAULT_KEEP_DAYS`] days.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the store no larger than that, if what must stay lets it.
    #[must_use]
    pub fn max_bytes(mut self, bytes: Option<u64>) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Keeps what was used in the last so many days; with 0 only what is needed.
    #[must_use]
    pub fn keep_days(mut self, days: u32) -> Self {
        self.keep_days = days;
        self
    }

    /// Only says what would go.
    #[must_use]
    pub fn dry_run(mut self, on: bool) -> Self {
        self.dry_run = on;
        self
    }

    /// Stops when this is cancelled. What was removed until then was garbage, and the next call goes on.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}

/// What garbage collection did, or would do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Whether nothing was touched.
    pub dry_run: bool,
    /// What the store took before.
    pub before: StoreSize,
    /// What it takes now; `None` when nothing was touched.
    pub after: Option<StoreSize>,
    /// Layers, least recently used first.
    pub layers: Vec<GoneLayer>,
    /// Originals of images.
    pub originals: Vec<GoneOriginal>,
    /// Caches that commands mounted.
    pub caches: Vec<GoneCache>,
    /// How many remembered runs.
    pub runs: u64,
    /// How many lines of logs.
    pub log_lines: u64,
    /// States.
    pub states: Vec<StateId>,
    /// How many trees.
    pub trees: u64,
    /// What states and trees took in segments, in bytes.
    pub packed_bytes: u64,
    /// How many blobs.
    pub blobs: u64,
    /// What they took on disk, in bytes.
    pub blob_bytes: u64,
    /// How many objects of history; 0 when nothing was touched.
    pub history_objects: u64,
    /// What stays, and why.
    pub stays: Stays,
    /// What could not be removed, and why.
    pub left: Vec<String>,
    /// By how much the store is larger than it was to be, in bytes.
    pub over_bytes: u64,
}

/// A layer that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneLayer {
    /// The name of its directory.
    pub name: String,
    /// The tree it shows, when that is known.
    pub tree: Option<TreeId>,
    /// What it takes on disk besides blobs, in bytes.
    pub bytes: u64,
    /// When it was last used, in milliseconds since 1970.
    pub used_ms: i64,
    /// Why it goes.
    pub why: &'static str,
}

/// An original that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneOriginal {
    /// Its digest.
    pub digest: String,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
}

/// A cache that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneCache {
    /// What commands call it.
    pub id: String,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
}

impl Engine {
    /// Removes what nothing needs; or, as a dry run, says what that would be.
    ///
    /// It may be done at any time, beside whatever others do in the store.
    pub fn gc(&self, options: &GcOptions) -> Result<Collected> {
        self.core.gc(options)
    }
}
