//! Chains, named branches and history.
//!
//! `cargo run --example branching_basic`

use treebox::{Command, Engine, EngineOptions, ImportSource, LogQuery, Target};

fn main() -> treebox::Result<()> {
    treebox::worker::hook();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("tokio starts").block_on(demo())
}

async fn demo() -> treebox::Result<()> {
    let store = std::env::temp_dir().join(format!("treebox-basic-{}", std::process::id()));
    let engine = Engine::open(EngineOptions::at(&store)).await?;
    let base = engine.import(&ImportSource::parse("host")?, None).await?.state;

    println!("A chain: write a list, then sort it both ways from the same parent.");
    let list = base.run(Command::shell("printf 'pear\\napple\\nfig\\n' > /list")).await?;
    for sort in ["sort", "sort -r"] {
        let sorted = list.state().run(Command::shell(format!("{sort} /list > /sorted"))).await?;
        let text = sorted.state().read_file("/sorted").await?;
        println!(
            "  {sort:<8} {}  {}",
            sorted.state().id().short(),
            String::from_utf8_lossy(&text).replace('\n', " ")
        );
    }

    println!("\nNamed branches: each step of a branch is a Git commit.");
    engine.branch("main").create_at(list.state()).await?;
    let on_main = Target { branch: Some("main".into()), ..Target::default() };
    let step = engine.step(on_main, Command::shell("sort /list > /sorted")).await?;
    println!("  main is at {}", step.commit.expect("a branch names it").short());
    let other = Target { from: Some("main~1".into()), branch: Some("reverse".into()), ..Target::default() };
    engine.step(other, Command::shell("sort -r /list > /sorted")).await?;
    for branch in engine.branches().await? {
        println!("  {} {:<8} {}", if branch.current { '*' } else { ' ' }, branch.name, branch.state.short());
    }
    let (main, reverse) = (engine.resolve("main").await?, engine.resolve("reverse").await?);
    for change in main.diff(&reverse).await? {
        println!("  they differ in {} {}", change.kind().letter(), change.path);
    }

    println!("\nThe second time a step is asked for it is not run.");
    let again = engine.resolve("main~1").await?.run(Command::shell("sort /list > /sorted")).await?;
    println!("  reused: {}, the same state as main: {}", again.reused, again.state() == &main);
    assert!(again.reused && again.state() == &main);

    println!("\nHistory:");
    let query = LogQuery { revs: vec!["main".into(), "reverse".into()], ..LogQuery::default() };
    for commit in engine.log(query).await? {
        println!("  {} {}", commit.commit.short(), commit.command);
    }
    drop(engine);
    std::fs::remove_dir_all(&store).ok();
    Ok(())
}
