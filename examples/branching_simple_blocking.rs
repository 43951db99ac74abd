//! A first look, without an async runtime: run once, branch from that exact state.
//!
//! `cargo run --example branching_simple_blocking` makes a base of the host's own programs; no network and no image is needed.

use treebox::blocking::Engine;
use treebox::{Command, EngineOptions, ImportSource};

fn main() -> treebox::Result<()> {
    // The library starts its helper process from this program's own executable.
    treebox::worker::hook();
    let store = std::env::temp_dir().join(format!("treebox-example-{}", std::process::id()));
    let engine = Engine::open(EngineOptions::at(&store))?;
    let base = engine.import(&ImportSource::parse("host")?, None)?.state;
    println!("base    {}", base.id().short());

    // A command that writes a random number, twice on one parent: it runs once, and both times give the same child.
    let roll = Command::new("bash").arg("-c").arg("echo $RANDOM > /random.txt");
    let first = base.run(&roll)?;
    let again = base.run(&roll)?;
    let child = first.state.clone().expect("the run was not disposable");
    println!("child   {} reused: {} then {}", child.id().short(), first.reused, again.reused);
    assert_eq!(first.state, again.state);

    // Three different commands on that child see the same number, and not each other.
    for letter in ["A", "B", "C"] {
        let outcome = child
            .run(&Command::shell(format!("echo {letter} >> /random.txt; tr '\\n' ' ' < /random.txt")))?;
        println!(
            "{letter}       {} sees {}",
            outcome.state.expect("kept").id().short(),
            String::from_utf8_lossy(&outcome.stdout)
        );
    }
    std::fs::remove_dir_all(&store).ok();
    Ok(())
}
