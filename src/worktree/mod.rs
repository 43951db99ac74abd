//! Between trees and directories: what is on a disk becomes a tree, and a tree becomes what is on a disk.
//!
//! This room never decides what is kept, never moves a ref and never executes anything.

pub mod host;
pub mod scan;
