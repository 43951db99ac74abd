//! Trees to directories and back: layers, scans of host directories, a base made of the host's own programs.
//!
//! This room reads and makes inodes. It never mounts, never starts a process, and never decides what is kept.

pub mod host;
pub mod layer;
pub mod leak;
pub mod scan;
pub mod survey;
