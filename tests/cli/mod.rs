//! The command line, as a person or a script sees it.

mod bad_input;
mod blaming;
mod copying;
mod differing;
mod export;
mod grepping;
mod history;
mod limits;
mod memory;
mod merge;
mod mounts;
mod network;
mod operations;
mod paging;
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
mod why;
