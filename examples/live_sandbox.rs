//! Several commands in one live sandbox: a server that one starts answers the next; the result is kept as one state.
//!
//! `cargo run --example live_sandbox` makes a base of the host's own programs: no network and no image is needed.

use treebox::blocking::Engine;
use treebox::{Command, EngineOptions, ImportSource, SandboxOptions, Stdin};

fn main() -> treebox::Result<()> {
    // The library starts its helper process from this program's own executable.
    treebox::worker::hook();
    let store = std::env::temp_dir().join(format!("treebox-live-{}", std::process::id()));
    let engine = Engine::open(EngineOptions::at(&store))?;
    let base = engine.import(&ImportSource::parse("host")?, None)?.state;

    let live = base.open(&SandboxOptions::new().env("ANSWER", "42"))?;
    // It goes on when the command that started it has ended.
    live.run(&Command::shell(
        "mkfifo /ask /say; (while read -r question < /ask; do echo \"$question? $ANSWER\" > /say; done) &",
    ))?;
    for question in ["six times seven", "and now"] {
        let answer =
            live.run(&Command::shell(format!("echo {question} > /ask; read -r a < /say; echo $a")))?;
        print!("{}", String::from_utf8_lossy(&answer.stdout));
        assert_eq!(answer.stdout, format!("{question}? 42\n").into_bytes());
    }

    // A handle: write, read, look whether it has ended.
    let mut upper = live.spawn(&Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdin::Piped))?;
    upper.write(b"written while it runs\n")?;
    println!("ended: {:?}", upper.try_wait()?);
    upper.close_stdin();
    print!("{}", String::from_utf8_lossy(&upper.wait()?.stdout));

    live.run(&Command::shell("echo kept > /result"))?;
    let kept = live.keep()?;
    let read = kept.state().run(&Command::shell("cat /result").disposable(true))?;
    println!("{} says: {}", kept.state().id().short(), String::from_utf8_lossy(&read.stdout).trim_end());

    // Another one, whose changes nobody wants.
    let live = kept.state().open(&SandboxOptions::new())?;
    live.run(&Command::shell("rm /result"))?;
    drop(live);

    drop(engine);
    std::fs::remove_dir_all(&store).ok();
    Ok(())
}
