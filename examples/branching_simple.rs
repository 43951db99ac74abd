//! Run once, branch from that exact state.
//!
//! `cargo run --example branching_simple` makes a base of the host's own programs: no network and no image is needed.

use treebox::{Command, Engine, EngineOptions, ImportSource, Reuse};

fn main() -> treebox::Result<()> {
    // Before any thread is started: the library starts its helper process from this program's own executable.
    treebox::worker::hook();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("tokio starts").block_on(demo())
}

async fn demo() -> treebox::Result<()> {
    let store = std::env::temp_dir().join(format!("treebox-simple-{}", std::process::id()));
    let engine = Engine::open(EngineOptions::at(&store)).await?;
    let base = engine.import(&ImportSource::parse("host")?, None).await?.state;
    println!("base {}", base.id().short());

    println!("\nA command that writes a random number, twice on one parent: it runs once.");
    let roll = Command::new("bash").args(["-c", "echo $RANDOM > /random.txt"]);
    let first = base.run(roll.clone()).await?;
    let again = base.run(roll).await?;
    println!(
        "  {} then {} (reused: {})",
        first.state().id().short(),
        again.state().id().short(),
        again.reused
    );
    assert_eq!(first.state, again.state);

    println!("\nThree commands on that child, at once, see the same number, and not each other.");
    let runs = ["A", "B", "C"].map(|letter| {
        let child = first.state().clone();
        tokio::spawn(async move {
            child.run(Command::shell(format!("echo {letter} >> /random.txt; cat /random.txt"))).await
        })
    });
    for run in runs {
        let outcome = run.await.expect("the task does not panic")?;
        let seen = String::from_utf8_lossy(&outcome.stdout).replace('\n', " ");
        println!("  {} sees {seen}", outcome.state().id().short());
    }

    println!("\nA command that only prints random bytes is run each time, and its state is its parent's.");
    for _ in 0..2 {
        let outcome = base.run(Command::shell("od -An -N6 -tx1 /dev/urandom")).await?;
        println!(
            "  {} printed{}",
            outcome.state().id().short(),
            String::from_utf8_lossy(&outcome.stdout).trim_end()
        );
        assert_eq!(outcome.state(), &base);
    }

    println!("\nThe same echo gives the same state, also when it is run afresh.");
    let echo = Command::shell("echo hello > /hello.txt");
    let first = base.run(echo.clone()).await?;
    let fresh = base.run(echo.reuse(Reuse::Never)).await?;
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
