//! Run once, branch from that exact state: without an async runtime.
//!
//! `cargo run --example branching_simple_blocking` makes a base of the host's own programs: no network and no image is needed.

use treebox::blocking::Engine;
use treebox::{Command, EngineOptions, ImportSource, Reuse};

fn main() -> treebox::Result<()> {
    // The library starts its helper process from this program's own executable.
    treebox::worker::hook();
    let store = std::env::temp_dir().join(format!("treebox-simple-blocking-{}", std::process::id()));
    let engine = Engine::open(EngineOptions::at(&store))?;
    let base = engine.import(&ImportSource::parse("host")?, None)?.state;
    println!("base {}", base.id().short());

    println!("\nA command that writes a random number, twice on one parent: it runs once.");
    let roll = Command::new("bash").args(["-c", "echo $RANDOM > /random.txt"]);
    let (first, again) = (base.run(&roll)?, base.run(&roll)?);
    println!(
        "  {} then {} (reused: {})",
        first.state().id().short(),
        again.state().id().short(),
        again.reused
    );
    assert_eq!(first.state, again.state);

    println!("\nThree commands on that child see the same number, and not each other.");
    for letter in ["A", "B", "C"] {
        let outcome =
            first.state().run(&Command::shell(format!("echo {letter} >> /random.txt; cat /random.txt")))?;
        let seen = String::from_utf8_lossy(&outcome.stdout).replace('\n', " ");
        println!("  {} sees {seen}", outcome.state().id().short());
    }

    println!("\nA command that only prints random bytes is run each time, and its state is its parent's.");
    let look = Command::shell("od -An -N6 -tx1 /dev/urandom");
    for _ in 0..2 {
        let outcome = base.run(&look)?;
        println!(
            "  {} printed{}",
            outcome.state().id().short(),
            String::from_utf8_lossy(&outcome.stdout).trim_end()
        );
        assert_eq!(outcome.state(), &base);
    }

    println!("\nThe same echo gives the same state, also when it is run afresh.");
    let echo = Command::shell("echo hello > /hello.txt");
    let (first, fresh) = (base.run(&echo)?, base.run(&echo.clone().reuse(Reuse::Never))?);
    println!(
        "  {} and {} (reused: {})",
        first.state().id().short(),
        fresh.state().id().short(),
        fresh.reused
    );
    assert_eq!(first.state, fresh.state);

    drop(engine);
    std::fs::remove_dir_all(&store).ok();
    Ok(())
}
