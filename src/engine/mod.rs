//! The public API: one engine over one store.
//!
//! Two faces share everything: [`Engine`] is async, [`blocking::Engine`] waits. Both give the same values.
//!
//! This room is the only one that joins the others. It never touches the terminal; what a person reads is made elsewhere.

pub mod blocking;

mod again;
mod ancestry;
mod bisect;
mod blame;
mod cancel;
mod catalog;
mod checkout;
mod child;
mod command;
mod compare;
mod copy;
mod core;
mod describe;
mod doctor;
mod du;
mod error;
mod execute;
mod explore;
mod export;
mod face;
mod flight;
mod foreign;
mod fsck;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gc;
mod grep;
mod hold;
mod image_record;
mod images;
mod join;
mod layers;
mod limits;
mod lineage;
mod listing;
mod live;
mod log;
mod merge;
mod mounts;
mod naming;
mod network;
mod notes;
mod open;
mod operations;
mod outcome;
mod owned;
mod pick;
mod place;
mod prepared;
mod pull;
mod push;
mod read;
mod recall;
mod recover;
mod refs;
mod replay;
mod revision;
mod room;
mod run;
mod spec;
mod state;
mod step;
mod types;
mod user;
mod verify;
mod why;

pub use crate::disk::Durability;
pub use crate::history::{HeadMove, HeadTo, Operation, Purpose, RefMove, Undone};
pub use crate::object::{
    CommitId, Config, ConfigConflict, Conflict, ConflictKind, Difference, Entry, Feature, Hunk,
    InvalidPlatform, Kind, Meta, Moved, Network, Node, OperationId, Platform, RunKey, Side, StateId,
    Timestamp, TreeId, TreePath,
};
pub use crate::oci::registry::{Credentials, Listener, RegistryOptions, Transfer};
pub use crate::oci::{Compression, InvalidCompression, Layering, Limits};
pub use crate::sandbox::{IdentityChoice, TerminalSize};
pub use crate::store::BlobReader;
pub use ancestry::{Ancestry, Child};
pub use bisect::{BisectPart, BisectQuery, BisectStep, BisectVerdict, Bisected};
pub use blame::{Blame, Blamed, BlamedEntry, BlamedLine};
pub use cancel::Cancel;
pub use checkout::{CheckedOut, CheckoutOptions};
pub use command::{Command, DEFAULT_MAX_OUTPUT_BYTES, Reuse, Stdin};
pub use compare::{CompareOptions, Contents};
pub use copy::{CopiedIn, CopiedOut, CopyOptions, IGNORE_FILE, InvalidMode, ModeChange};
pub use describe::{DescribeQuery, Described};
pub use du::{DiskUse, Holder, HolderKind, Kept, KeptThing};
pub use error::{Error, ErrorKind, Result};
pub use explore::{ExploreOptions, Explored, Fate, FateSink, Race};
pub use export::{ExportOptions, ExportTarget, Exported};
pub use face::{Branch, Engine, Live, Prepared, Process, Running, State};
pub use fsck::{Checked, Damage, DamageKind, FsckOptions, FsckProgress, Severity};
pub use gc::{
    Collected, DEFAULT_KEEP_DAYS, GcOptions, GoneCache, GoneLayer, GoneOriginal, Stays, StoreSize,
    Why as KeptBy,
};
pub use grep::{GrepFile, GrepLine, GrepOptions, GrepVisit, MAX_GREP_LINE_BYTES, MAX_GREP_SHOWN_BYTES};
pub use limits::{Limit, LimitKind, Mechanism};
pub use listing::{RefListed, RefQuery, RefSort};
pub use live::Killer;
pub use merge::{Merge, MergeHow, MergeOptions, MergedStates};
pub use mounts::{DEFAULT_TMPFS_BYTES, MAX_SECRET_BYTES, Mount, SecretSource, Sharing};
pub use notes::Note;
pub use open::SandboxOptions;
pub use outcome::{ChangeCounts, Exited, Finished, Outcome, Resources};
pub use pick::Picked;
pub use pull::{PullOptions, Pulled, PulledHow};
pub use push::{PushOptions, Pushed};
pub use replay::{
    PlannedStep, ReplayOptions, ReplayPlan, ReplayStatus, Replayed, ReplayedStep, StepEdit, StepHow,
    StepKind, StepListener, StoppedStep,
};
pub use types::{
    Change, ChangeKind, CommitDetail, CommitInfo, Committed, CopySource, EngineOptions, Finding, Head, Image,
    ImportOptions, ImportSource, Imported, Listed, LiveInput, LogQuery, Ref, ReflogLine, Sink, Step, Stream,
    Target, Terminal, Verdict, Written,
};
pub use verify::{Deviation, DiffersIn, Verified, VerifiedSink, VerifyOptions};
pub use why::{KeyDifference, KeyPart, ValueChange, Why, WhyAnswer, WhyRule, WhyRun};
