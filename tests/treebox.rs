//! Every integration test of treebox, in one program.

#![allow(clippy::unwrap_used, missing_docs)]

mod cli;
mod concurrency;
mod damage;
mod engine;
mod escape;
mod format;
mod house;
mod images;
mod neighbours;
mod sandbox;
mod support;
