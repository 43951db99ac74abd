//! Layers: directories that overlayfs can use as lowers, made from trees and turned back into trees.
//!
//! - [`plan_whole`] and [`plan_delta`] say which entries a layer has (host side, reads trees);
//! - [`LayerBuilder`] makes the directory from such entries (in the worker, as root of the user namespace);
//! - [`capture`] reads what a run left in its upper directory and takes new bytes into the store (in the worker);
//! - [`Applied`] edits the parent's tree with what was captured (host side);
//! - [`merge_layers`] joins several layers into one by hard links (in the worker);
//! - [`update`] brings a directory that a person has from one tree to another, of which [`plan_update`] says what differs.
//!
//! # Invariants
//! - A layer shows exactly the tree it was made from, except for what the caller's ids cannot own or make: those entries are reported, and
//!   [`Applied`] takes what the disk could not hold from the parent's tree again.
//! - Within one layer a blob's own file stands in for at most one path, so that two paths never share an inode unless the tree says so.
//!
//! # Compatibility
//! Whiteouts are character devices 0/0 (Linux ≥ 5.8 for users), private attributes are `user.overlay.*` (≥ 5.11), redirects into
//! `objects/` need data-only lowers with `userxattr` (≥ 6.16).

mod apply;
mod build;
mod capture;
mod check;
mod entry;
mod inode;
mod merge;
mod plan;
mod update;

pub use apply::{Applied, ApplyError, IdRange, apply};
pub use build::{BuildOptions, Built, LayerBuilder, Linking};
pub use capture::{Capture, CaptureOptions, Captured, CapturedNode, RecordOf, Recorded, capture};
pub use check::{Seen, SeenNode, hash_below, look};
pub use entry::{LayerEntry, LayerError, LayerNode};
pub use merge::merge_layers;
pub use plan::{plan_delta, plan_update, plan_whole};
pub use update::{Ground, PlannedChange, STAGING_PREFIX, UpdateOptions, Updated, update};
