//! treebox: run a command once, branch from that exact file system as often as you like.

pub mod disk;
pub mod engine;
pub mod history;
pub mod index;
pub mod object;
pub mod oci;
pub mod sandbox;
pub mod store;
pub mod worker;
pub mod worktree;

pub use engine::*;
