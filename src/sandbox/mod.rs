//! Sandboxes: a plan as a value, then ordered steps.
//!
//! A [`Plan`] says what a sandbox is to look like. It is turned into a list of steps (print the plan to see them), and a
//! new process in new namespaces performs them: mounts, the change of root, ids, capabilities, then the program. What
//! fails comes back as the number of a step and an error number, and becomes a [`LaunchError`] that names the cause
//! and the way out. Around that stand the id maps, a socket that passes descriptors, and removal of trees whose
//! files belong to mapped ids.
//!
//! This room never reads or writes the store, never talks to the network, never decides what to run, and never uses
//! the host's environment. It names no other room.
//!
//! # Invariants
//! - All of the project's `unsafe` is here, every block with its reason.
//! - Between clone and execve there are system calls only, on memory prepared beforehand.
//! - No symbolic link of an image is followed out of its root.
//! - A sandbox ends as a whole, with its pid namespace, when its init, its parent or its caller ends.
#![allow(unsafe_code)]

pub mod cgroup;
mod channel;
mod emulate;
mod error;
mod fault;
mod identity;
mod idmap;
mod init;
mod kernel;
mod launch;
pub mod meter;
mod plan;
mod prepare;
pub mod probe;
mod process;
mod remove;
mod scene;
mod seccomp;
mod step;
mod sys;
mod uplink;

pub use channel::{Channel, Frame, FrameError, MAX_FRAME_BYTES, MAX_FRAME_FDS};
pub use emulate::{Device, Emulation, Emulator, Owned, Recorded, Records};
pub use error::{LaunchError, namespace_hint};
pub use identity::{Identity, IdentityChoice, IdentityError, assign};
pub use idmap::{IdMap, IdRange};
pub use kernel::{follows_redirects, kernel_at_least};
pub use launch::{Ending, Joined, Sandbox, Usage, launch, launch_idle};
pub use plan::{
    Bounds, DEFAULT_PATH, Exceeded, FileIdentity, MAX_HOSTNAME_BYTES, Mount, Network, Plan, Resource, Rlimit,
    Rootfs, SecretBytes, TerminalSize, Upper,
};
pub use prepare::{DEFAULT_LIMITS, MAX_LOWERS, PlanError};
pub use process::{
    Forked, become_worker, die_with_parent, exit_now, fork, own_children, set_terminal_size,
    shield_executable, signals, unshare_user,
};
pub use remove::{RemoveError, remove_tree};
pub use seccomp::{Denial, Feature, denials};
pub use uplink::{Helper, Uplink};
