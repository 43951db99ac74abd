//! The command line, as a person or a script sees it.

mod bad_input;
mod checkouts;
mod copying;
mod copying_with;
mod exploring;
mod export;
mod history;
mod limits;
mod memory;
mod merge;
mod mounts;
mod naming;
mod network;
mod operations;
mod reading;
mod recorded;
mod refs;
mod restricted;
mod run;
mod run_options;
mod secrets;
mod streaming;
mod surface;
mod terminal;
