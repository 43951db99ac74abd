//! Files between the host, states and tar streams.
//!
//! `into.rs` copies into a branch, `out.rs` to the host, `options.rs` says how, `mode.rs` reads what `--chmod` takes.

mod into;
mod mode;
mod options;
mod out;

pub use into::CopiedIn;
pub use mode::{InvalidMode, ModeChange};
pub use options::{CopyOptions, IGNORE_FILE};
pub use out::CopiedOut;
