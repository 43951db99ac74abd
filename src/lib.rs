//! treebox: run a command once, branch from that exact file system as often as you like.
//!
//! A store keeps container file systems the way Git keeps source. Every command that changes a file system makes a new [`State`]; a state can
//! be run on, read, compared and written out again, and the same command on the same state is not run twice. There is no server, no
//! daemon and no real root.
//!
//! ```no_run
//! use treebox::{Command, Engine, EngineOptions, ImportSource};
//!
//! fn main() -> treebox::Result<()> {
//!     // First thing in `main`: the library starts its helper process from this program's own executable.
//!     treebox::worker::hook();
//!     let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio starts");
//!     runtime.block_on(async {
//!         let engine = Engine::open(EngineOptions::at("/tmp/my-store")).await?;
//!         let base = engine.import(&ImportSource::parse("host")?, None).await?.state;
//!         let child = base.run(Command::shell("date +%N > /number")).await?;
//!         for letter in ["A", "B", "C"] {
//!             let outcome = child.state().run(Command::shell(format!("echo {letter} >> /number; cat /number"))).await?;
//!             print!("{}", String::from_utf8_lossy(&outcome.stdout));
//!         }
//!         engine.branch("experiment").create_at(child.state()).await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Programs without an async runtime use [`blocking`], which has the same verbs.
//!
//! # The map of the house
//!
//! | room | what it does | may name |
//! |---|---|---|
//! | [`object`] | pure values: ids, names, trees, states, command specs and their canonical bytes | nothing |
//! | [`disk`] | durable file verbs: atomic writes, batched syncs, locks, scratch directories | object |
//! | [`store`] | blobs, trees and states at rest | object, disk |
//! | [`index`] | facts in SQLite, the run cache among them | object |
//! | [`history`] | commits, refs, reflogs: a real Git repository, through gix in one file | object, disk |
//! | [`worktree`] | trees to directories and back: layers, scans, a base of the host's programs | object, disk, store |
//! | [`oci`] | images and tar streams, in and out | object, disk, store |
//! | [`sandbox`] | a plan as a value, then ordered steps; all system calls and all `unsafe` | nothing |
//! | [`worker`] | the helper process that is root of a user namespace, and the protocol with it | object, disk, store, worktree, sandbox |
//! | [`engine`] | the public API; the only room that joins the others | all above |
//! | `cli` | the command line; sees the public API alone | engine, object |
//!
//! # Who owns which path of a store
//!
//! | path | room |
//! |---|---|
//! | `format`, `objects/`, `objects/pack/` | [`store`] |
//! | `index.db` | [`index`] |
//! | `history.git/`, `history.lock` | [`history`] |
//! | `layers/` | [`engine`] names them, [`worktree`] makes and reads them |
//! | `originals/` | [`oci`] |
//! | `caches/`, `checkouts/`, `flights/`, `replay` | [`engine`] |
//! | `tmp/` | [`disk`] |
//!
//! `store-format.md` is the normative text on every byte of it.

pub mod disk;
pub mod engine;
pub mod history;
pub mod index;
pub mod object;
pub mod oci;
pub mod sandbox;
pub mod store;
pub mod worker;
pub mod worktree;

pub use engine::*;
