//! Durable file verbs: atomic writes, batched syncs, locks, scratch directories, extended attributes.
//!
//! Every error of this room names the verb and the path. Nothing here knows what a blob or a tree is.
//!
//! # Durability
//! A name is given to bytes only after the bytes are on disk: write to a scratch directory, sync, rename, sync the
//! directory. Syncs are batched by [`SyncSet`]: one per file while they are few, one `syncfs` when they are many.

mod error;
mod features;
mod file;
mod lock;
mod remove;
mod scratch;
mod sparse;
mod sync;
mod turn;
mod xattr;

pub use error::DiskError;
pub use features::{Features, features, file_system};
pub use file::{create_dir_all_private, create_new, exists, read_limited, remove_file, rename, write_atomic};
pub use lock::{FileLock, LockMode};
pub use remove::remove_tree;
pub use scratch::{Scratch, dead_scratches, sweep};
pub use sparse::{SparseWriter, copy_sparse};
pub use sync::{Durability, SyncSet, sync_file_system};
pub use turn::{Asked, Look, Turn, Waiting, sweep_turns};
pub use xattr::{XattrRead, read_xattrs, set_xattr};
