//! The project's integration tests: one binary, one module per room. Add a `mod` line; the code stands in the module.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

mod cli;
mod support;
