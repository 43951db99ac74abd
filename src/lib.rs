//! treebox: run a command once, branch from that exact file system as often as you like.

pub mod disk;
pub mod object;
pub mod oci;
pub mod store;
