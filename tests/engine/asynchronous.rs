//! The async face gives the same as the blocking one.

use treebox::{Command, Engine, EngineOptions, ImportSource, Stdin, Target};

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
