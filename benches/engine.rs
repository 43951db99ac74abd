//! What the library costs by itself: `cargo bench`.
//!
//! The base is made of the host's own programs; with `TREEBOX_BENCH_TAR=FILE` it is that root file system instead.
//! Whole processes are measured, side by side with other tools, by `benches/compare.sh`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use treebox::blocking::{Engine, State};
use treebox::{Command, EngineOptions, ImportSource, LogQuery, Reuse};

fn base(engine: &Engine) -> State {
    let source = match std::env::var("TREEBOX_BENCH_TAR") {
        Ok(file) => ImportSource::parse(&format!("tar:{file}")).unwrap(),
        Err(_) => ImportSource::parse("host").unwrap(),
    };
    engine.import(&source, Some("base")).unwrap().state
}

fn main() {
    // The worker is this very executable.
    treebox::worker::hook();
    let mut criterion = Criterion::default().configure_from_args().sample_size(40);
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineOptions::at(dir.path().join("store"))).unwrap();
    let base = base(&engine);
    let build = Command::shell("echo built > /built");
    let built = base.run(&build).unwrap().state().clone();

    let hit = |bench: &mut criterion::Bencher<'_>, state: &State, command: &Command| {
        bench.iter(|| {
            let outcome = state.run(command).unwrap();
            assert!(outcome.reused);
            black_box(outcome)
        });
    };
    criterion.bench_function("cache hit", |bench| hit(bench, &base, &build));
    let prepared = base.prepare(&build).unwrap();
    criterion.bench_function("cache hit, prepared", |bench| {
        bench.iter(|| black_box(prepared.run().unwrap().reused));
    });
    criterion.bench_function("disposable run", |bench| {
        let look = Command::new("true").disposable(true);
        bench.iter(|| black_box(base.run(&look).unwrap().exit_code));
    });
    for (name, jobs) in
        [("20 disposable runs one after the other", 1), ("20 disposable runs, two at once", 2)]
    {
        let looks = vec![Command::new("true").disposable(true); 20];
        criterion.bench_function(name, |bench| {
            bench.iter(|| assert!(base.all(&looks, jobs).iter().all(|run| run.as_ref().unwrap().success())));
        });
    }
    let mut number = 0;
    criterion.bench_function("step of one small file", |bench| {
        bench.iter(|| {
            number += 1;
            let step = Command::shell(format!("echo {number} > /n")).reuse(Reuse::Never);
            black_box(base.run(&step).unwrap().changed)
        });
    });
    criterion.bench_function("diff of two states", |bench| {
        bench.iter(|| black_box(engine.diff(&base, &built, &[]).unwrap().len()));
    });

    let mut tip = base.clone();
    for step in 0..200 {
        tip = tip.run(&Command::shell(format!("echo {step} > /chain"))).unwrap().state().clone();
    }
    criterion.bench_function("step 201 of a chain", |bench| {
        bench.iter(|| {
            number += 1;
            black_box(
                tip.run(&Command::shell(format!("echo {number} > /n")).reuse(Reuse::Never)).unwrap().changed,
            )
        });
    });
    engine.create_branch("chain", &tip, false).unwrap();
    criterion.bench_function("log of 20 commits out of 200", |bench| {
        let query = LogQuery { revs: vec!["chain".into()], limit: Some(20), ..LogQuery::default() };
        bench.iter(|| black_box(engine.log(&query).unwrap().len()));
    });
    criterion.bench_function("branch made and deleted", |bench| {
        bench.iter_batched(
            || (),
            |()| {
                engine.create_branch("other", &built, false).unwrap();
                engine.delete_branch("other").unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    criterion.final_summary();
}
