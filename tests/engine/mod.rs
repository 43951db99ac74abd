//! The library as a program uses it.

mod again;
mod asynchronous;
mod capture;
mod collecting;
mod copying;
mod emulated;
mod exploring;
mod layers;
mod live;
mod merging;
mod open;
mod remembering;
mod replay;
mod scale;

use std::sync::OnceLock;

use treebox::blocking::{Engine, State};
use treebox::{Command, EngineOptions, ImportSource, Outcome};

struct Shared {
    engine: Engine,
    base: State,
    _dir: tempfile::TempDir,
}

/// One engine for all tests of this module: they run at once, as a program's threads do.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
        Shared { engine, base, _dir: dir }
    })
}

fn open(dir: &std::path::Path) -> Engine {
    Engine::open(EngineOptions::at(dir.join("store")).worker(crate::support::treebox())).unwrap()
}

fn engine() -> &'static Engine {
    &shared().engine
}

fn base() -> State {
    shared().base.clone()
}

/// Runs shell text that must succeed.
fn run(state: &State, text: &str) -> Outcome {
    let outcome = state.run(&Command::shell(text)).unwrap();
    assert!(
        outcome.success(),
        "{text}: {:?} {}",
        outcome.exit_code,
        String::from_utf8_lossy(&outcome.stderr)
    );
    outcome
}

fn step(state: &State, text: &str) -> State {
    run(state, text).state().clone()
}

fn stdout(state: &State, text: &str) -> String {
    let outcome = state.run(&Command::shell(text).disposable(true)).unwrap();
    assert!(outcome.success(), "{text}: {}", String::from_utf8_lossy(&outcome.stderr));
    String::from_utf8(outcome.stdout).unwrap()
}

fn changes(old: &State, new: &State) -> Vec<String> {
    let changes = engine().diff(old, new, &[]).unwrap();
    changes.iter().map(|change| format!("{} {}", change.kind().letter(), change.path)).collect()
}
