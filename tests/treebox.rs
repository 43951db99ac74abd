//! Every integration test of treebox, in one program.

#![allow(clippy::unwrap_used, missing_docs)]

mod cli;
mod concurrency;
#[cfg(target_arch = "x86_64")]
mod crash;
mod damage;
mod engine;
mod escape;
mod format;
mod house;
mod images;
mod neighbours;
mod sandbox;
mod support;

#[cfg(not(target_arch = "x86_64"))]
#[test]
#[ignore = "the supervisor of crash points reads the registers of x86-64"]
fn every_call_that_changes_a_store_may_fail_or_be_the_last() {}
