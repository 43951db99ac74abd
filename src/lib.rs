//! treebox: run a command once, branch from that exact file system as often as you like.

pub mod object;

pub mod history;
pub mod index;
