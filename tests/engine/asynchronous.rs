//! The async face gives the same as the blocking one.

use std::time::Duration;

use treebox::{Command, Engine, EngineOptions, ImportSource, SandboxOptions, Stdin, Target, TerminalSize};

#[test]
fn the_main_job_works_on_tokio() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = EngineOptions::at(dir.path().join("store")).worker(crate::support::treebox());
        let engine = Engine::open(options).await.unwrap();
        let base = engine.import(&ImportSource::parse("host").unwrap(), None).await.unwrap().state;
        let child = base.run(Command::shell("date +%N > /n")).await.unwrap();
        let number = child.state().read_file("/n").await.unwrap();
        let runs = ["A", "B", "C"].map(|letter| {
            let state = child.state().clone();
            tokio::spawn(
                async move { state.run(Command::shell(format!("echo {letter} >> /n; cat /n"))).await },
            )
        });
        for (run, letter) in runs.into_iter().zip(["A", "B", "C"]) {
            let outcome = run.await.unwrap().unwrap();
            assert_eq!(outcome.stdout, [number.as_slice(), letter.as_bytes(), b"\n"].concat());
        }
        engine.branch("experiment").create_at(child.state()).await.unwrap();
        assert_eq!(engine.resolve("experiment").await.unwrap(), *child.state());
        let target = Target { branch: Some("experiment".into()), ..Target::default() };
        let step = engine.step(target, Command::shell("echo more > /more")).await.unwrap();
        assert_eq!(engine.resolve("experiment").await.unwrap(), *step.outcome.state());

        let mut live =
            base.spawn(Command::shell("cat; echo done > /done").stdin(Stdin::Piped)).await.unwrap();
        live.write(b"hello").await.unwrap();
        assert_eq!(live.read().await.unwrap().1, b"hello");
        live.close_stdin();
        assert_eq!(live.read().await, None);
        assert!(live.wait().await.unwrap().changed);
    });
}

#[test]
fn a_live_sandbox_works_on_tokio() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = EngineOptions::at(dir.path().join("store")).worker(crate::support::treebox());
        let engine = Engine::open(options).await.unwrap();
        let base = engine.import(&ImportSource::parse("host").unwrap(), None).await.unwrap().state;
        let live = base.open(SandboxOptions::new().env("A", "a")).await.unwrap();
        let one = live.run(Command::shell("echo $A > /one; echo said")).await.unwrap();
        assert_eq!((one.stdout.as_slice(), one.success()), (&b"said\n"[..], true));
        let mut cat = live.spawn(Command::new("cat").stdin(Stdin::Piped)).await.unwrap();
        let size = TerminalSize { rows: 7, columns: 9 };
        let shell = Command::new("sh").terminal(size).stdin(Stdin::Piped);
        let mut shell = live.spawn(shell).await.unwrap();
        // Both at once.
        cat.write(b"to cat").await.unwrap();
        shell.write(b"stty size; exit 3\n").await.unwrap();
        assert_eq!(cat.read().await.unwrap().1, b"to cat");
        let ended = shell.wait_timeout(Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!(ended.exit_code, Some(3));
        let shell = shell.wait().await.unwrap();
        assert!(String::from_utf8_lossy(&shell.stdout).contains("7 9\r\n"));
        assert_eq!(cat.wait_timeout(Duration::from_millis(20)).await.unwrap(), None);
        cat.close_stdin();
        assert_eq!(cat.read().await, None);
        assert!(cat.wait().await.unwrap().success());
        let sleeper = live.spawn(Command::new("sleep").arg("1046")).await.unwrap();
        let kept = live.keep().await.unwrap();
        assert_eq!(sleeper.wait().await.unwrap().signal, Some(9));
        assert_eq!(kept.state().read_file("/one").await.unwrap(), b"a\n");
        drop(base.open(SandboxOptions::new()).await.unwrap());
    });
    assert_eq!(crate::support::names(&dir.path().join("store/tmp")), Vec::<String>::new());
}
