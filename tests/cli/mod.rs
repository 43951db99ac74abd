//! The command line, as a person or a script sees it.

mod bad_input;
mod copying;
mod history;
mod memory;
mod reading;
mod recorded;
mod refs;
mod restricted;
mod run;
mod run_options;
mod surface;
