//! Chains, named branches and history: without an async runtime.
//!
//! `cargo run --example branching_basic_blocking`

use treebox::blocking::Engine;
use treebox::{Command, EngineOptions, ImportSource, LogQuery, Target, TreePath};

fn main() -> treebox::Result<()> {
    treebox::worker::hook();
    let store = std::env::temp_dir().join(format!("treebox-basic-blocking-{}", std::process::id()));
    let engine = Engine::open(EngineOptions::at(&store))?;
    let base = engine.import(&ImportSource::parse("host")?, None)?.state;

    println!("A chain: write a list, then sort it both ways from the same parent.");
    let list = base.run(&Command::shell("printf 'pear\\napple\\nfig\\n' > /list"))?;
    let path = TreePath::parse(b"/sorted").expect("a constant path is valid");
    for sort in ["sort", "sort -r"] {
        let sorted = list.state().run(&Command::shell(format!("{sort} /list > /sorted")))?;
        let text = engine.read_file(sorted.state(), &path)?;
        println!(
            "  {sort:<8} {}  {}",
            sorted.state().id().short(),
            String::from_utf8_lossy(&text).replace('\n', " ")
        );
    }

    println!("\nNamed branches: each step of a branch is a Git commit.");
    engine.switch_new("main", Some(list.state()))?;
    let target = Target::default();
    let step = engine.step(&target, &Command::shell("sort /list > /sorted"), None)?;
    println!("  main is at {}", step.commit.expect("a branch names it").short());
    let other = Target { from: Some("main~1".into()), branch: Some("reverse".into()), ..Target::default() };
    engine.step(&other, &Command::shell("sort -r /list > /sorted"), None)?;
    for branch in engine.branches()? {
        println!("  {} {:<8} {}", if branch.current { '*' } else { ' ' }, branch.name, branch.state.short());
    }
    let (main, reverse) = (engine.resolve("main")?, engine.resolve("reverse")?);
    for change in engine.diff(&main, &reverse, &[])? {
        println!("  they differ in {} {}", change.kind().letter(), change.path);
    }

    println!("\nThe second time a step is asked for it is not run.");
    let again = engine.resolve("main~1")?.run(&Command::shell("sort /list > /sorted"))?;
    println!("  reused: {}, the same state as main: {}", again.reused, again.state() == &main);
    assert!(again.reused && again.state() == &main);

    println!("\nHistory:");
    let log = engine.log(&LogQuery { revs: vec!["main".into(), "reverse".into()], ..LogQuery::default() })?;
    for commit in log {
        println!("  {} {}", commit.commit.short(), commit.command);
    }
    drop(engine);
    std::fs::remove_dir_all(&store).ok();
    Ok(())
}
