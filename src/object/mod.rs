//! Pure values: ids, names, trees, states, command specs and their canonical bytes.
//!
//! Everything that is named by a hash is encoded here, by hand, and nowhere else: no serializer's output is
//! ever hashed. The byte layouts are normative in `store-format.md`.
//!
//! This room never does I/O, never looks at a clock and never reads the environment. Where an edit needs
//! stored trees it asks a [`TreeSource`], which the caller supplies.
//!
//! # Invariants
//! - A value that decodes is canonical: encoding it again gives the same bytes, so equal values have equal ids.
//! - Decoding never panics and never allocates more than the input could justify.

mod codec;
mod diff;
mod draft;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod lines;
mod lookup;
mod merge;
mod meta;
mod mount;
mod name;
mod passing;
mod path;
mod pattern;
mod placing;
mod renames;
mod spec;
mod state;
mod time;
mod tree;

pub use codec::DecodeError;
pub use diff::{Change, ChangeKind, diff};
pub(crate) use draft::group_of;
pub use draft::{Draft, DraftError, LinkKey, NewNode};
pub use id::{
    BlobHasher, BlobId, CommitId, IdPrefix, LinkGroup, OperationId, ParseIdError, RunKey, StateId, TreeId,
};
pub use lines::{Hunk, MAX_TEXT_BYTES, TEXT_PROBE_BYTES, is_text, line_hunks, lines};
pub use lookup::{LookupError, MAX_SYMLINKS, entry_at, resolve};
pub use merge::{
    ConfigConflict, Conflict, ConflictKind, Contents, Settled, Side, merge, merge_configs, merge_texts,
};
pub use meta::{
    MAX_XATTR_COUNT, MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES, Meta, MetaError, Xattr, Xattrs,
};
pub use mount::{MountContent, MountSpec};
pub use name::{InvalidName, Name};
pub use passing::{LineRun, pass_lines};
pub use path::{InvalidPath, TreePath};
pub use pattern::{Glob, Patterns, Slashes};
pub use placing::{Existing, Placing, PlacingError};
pub use renames::{Difference, Moved, find_renames};
pub use spec::{CommandSpec, Feature, Injected, InjectedNode, Network, Program, RootMode};
pub use state::{Config, InvalidPlatform, Platform, State};
pub use time::Timestamp;
pub use tree::{
    Entry, Kind, MAX_DEPTH, MAX_ENTRIES, MAX_SYMLINK_TARGET_BYTES, Node, SourceError, Summary, Tree,
    TreeError, TreeSink, TreeSource,
};
