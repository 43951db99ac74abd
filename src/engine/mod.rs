//! The public API: one engine over one store.
//!
//! Two faces share everything: [`Engine`] is async, [`blocking::Engine`] waits. Both give the same values.
//!
//! This room is the only one that joins the others. It never touches the terminal; what a person reads is made elsewhere.

pub mod blocking;

mod catalog;
mod command;
mod copy;
mod core;
mod doctor;
mod error;
mod execute;
mod face;
mod images;
mod layers;
mod live;
mod log;
mod naming;
mod outcome;
mod owned;
mod prepared;
mod read;
mod refs;
mod revision;
mod run;
mod spec;
mod state;
mod step;
mod types;
mod user;

pub use crate::disk::Durability;
pub use crate::object::{
    CommitId, Config, Entry, Kind, Meta, Network, Node, Platform, RunKey, StateId, Timestamp, TreeId,
    TreePath,
};
pub use crate::sandbox::IdentityChoice;
pub use crate::store::BlobReader;
pub use command::{Command, DEFAULT_MAX_OUTPUT_BYTES, Reuse, Stdin};
pub use error::{Error, ErrorKind, Result};
pub use face::{Branch, Engine, Prepared, Running, State};
pub use live::Killer;
pub use outcome::{ChangeCounts, Outcome, Resources};
pub use types::{
    Change, ChangeKind, CommitDetail, CommitInfo, Committed, CopySource, EngineOptions, Finding, Head, Image,
    ImportSource, Imported, Listed, LiveInput, LogQuery, Ref, ReflogLine, Sink, Step, Stream, Target,
    Verdict, Written,
};
