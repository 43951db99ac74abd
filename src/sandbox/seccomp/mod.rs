//! Seccomp filters: which system calls a payload may make, said as rules and compiled to the kernel's BPF.
//!
//! A [`Filter`] is a value with one list of rules per system call convention ([`Abi`]); what no rule matches is allowed,
//! and a convention that the filter does not list kills the process. Compiling and printing need no kernel.
//!
//! Filters stack: of all verdicts on one call the strictest wins, an error before a question to the supervisor
//! (seccomp(2)). Calls with one verdict whatever their arguments cost nothing: the kernel remembers those it allows
//! (Linux ≥ 5.11).

mod bpf;
mod deny;

pub(crate) use bpf::{Abi, Filter, Rule, Test, Verdict};
pub(crate) use deny::seal;
pub use deny::{Denial, Feature, denials};
