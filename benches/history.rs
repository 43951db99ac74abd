//! History at scale: 10 000 commits and 1 000 branches, two states of 25 000 files. `cargo bench --bench history`
//!
//! Every figure is printed with its bound; the program fails when one is missed by more than `TREEBOX_BENCH_SLACK` times (default 1, a busy machine
//! needs more). `TREEBOX_BENCH_DIR` is an empty directory to use and to keep. Whole processes are the release build of the command line, found as `target/release/treebox` or named by `TREEBOX_BIN`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use treebox::blocking::{Engine, State};
use treebox::{CopySource, Durability, EngineOptions, ImportSource, MergeHow, MergeOptions, TreePath};

const COMMITS: usize = 10_000;
const BRANCHES: usize = 1_000;
const FILES: usize = 25_000;
const ROUNDS: usize = 21;

fn main() {
    treebox::worker::hook();
    let temporary = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("TREEBOX_BENCH_DIR").map_or_else(|| temporary.path().to_owned(), Into::into);
    let options = EngineOptions::at(dir.join("store")).durability(Durability::Batch);
    let engine = Engine::open(options).unwrap();
    let mut figures = Figures::default();
    deep(&engine, &dir, &mut figures);
    wide(&engine, &dir, &mut figures);
    figures.end();
}

#[derive(Default)]
struct Figures {
    missed: bool,
}

impl Figures {
    fn time(&mut self, name: &str, bound: Duration, work: impl FnMut()) {
        self.time_after(name, bound, || (), work);
    }

    /// Times work that something has to be prepared for each time.
    fn time_after(&mut self, name: &str, bound: Duration, mut prepare: impl FnMut(), mut work: impl FnMut()) {
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                prepare();
                let start = Instant::now();
                work();
                start.elapsed()
            })
            .collect();
        times.sort();
        let (median, most) = (times[ROUNDS / 2], times[ROUNDS - 1]);
        self.tell(
            name,
            median.as_secs_f64() * 1e3,
            bound.as_secs_f64() * 1e3,
            "ms",
            most.as_secs_f64() * 1e3,
        );
    }

    fn tell(&mut self, name: &str, value: f64, bound: f64, unit: &str, most: f64) {
        let slack =
            std::env::var("TREEBOX_BENCH_SLACK").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
        let verdict = if value <= bound { "" } else { "  MISSED" };
        self.missed |= value > bound * slack;
        println!("{name:<44} {value:>9.2} {unit}  (at most {most:.2}; bound {bound}){verdict}");
    }

    fn end(self) {
        assert!(!self.missed, "a bound was missed");
    }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A tar archive of these files.
fn archive(files: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn copy(engine: &Engine, branch: &str, files: impl Iterator<Item = (String, Vec<u8>)>) {
    let bytes = archive(files);
    let root = TreePath::root();
    engine.copy_in(CopySource::Tar(&mut bytes.as_slice()), branch, &root).unwrap();
}

fn import(engine: &Engine, dir: &Path, name: &str, files: impl Iterator<Item = (String, Vec<u8>)>) -> State {
    let file = dir.join(format!("{name}.tar"));
    std::fs::write(&file, archive(files)).unwrap();
    let source = ImportSource::parse(&format!("tar:{}", file.display())).unwrap();
    engine.import(&source, Some(name)).unwrap().state
}

fn du(path: &Path) -> f64 {
    let du = Process::new("du").arg("-sk").arg(path).output().unwrap();
    String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}

/// 10 000 commits, 9 000 of them on `main` and 1 000 on a branch of their own each.
fn deep(engine: &Engine, dir: &Path, figures: &mut Figures) {
    let one = |text: String| std::iter::once(("number".to_owned(), text.into_bytes()));
    let base = import(engine, dir, "base", one("0".into()));
    engine.switch_new("main", Some(&base)).unwrap();
    let store = engine.store().to_owned();
    let before = (du(&store.join("history.git")), du(&store));
    let start = Instant::now();
    let mut states = Vec::new();
    for number in 1..COMMITS - BRANCHES {
        copy(engine, "main", one(number.to_string()));
        if number % 9 == 1 {
            states.push(engine.head_state().unwrap());
        }
    }
    for (number, state) in states.iter().take(BRANCHES).enumerate() {
        let name = format!("branch-{number:04}");
        engine.create_branch(&name, state, false).unwrap();
        copy(engine, &name, one(format!("b{number}")));
    }
    let made = COMMITS as f64;
    println!("made {COMMITS} commits and {BRANCHES} branches in {:.1} s", start.elapsed().as_secs_f64());
    let (history, all) = (du(&store.join("history.git")), du(&store));
    figures.tell("disk per commit, history.git", (history - before.0) / made, 2048.0, "B", 0.0);
    println!(
        "disk per commit, whole store: {:.0} B (a file, a tree and a state of its own each)",
        (all - before.1) / made
    );

    let program = std::env::var_os("TREEBOX_BIN").unwrap_or_else(|| "target/release/treebox".into());
    assert!(Path::new(&program).exists(), "build it first: cargo build --release");
    let run = |args: &[&str]| {
        let mut process = Process::new(&program);
        let output = process.args(args).env("TREEBOX_STORE", &store).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    figures.time("treebox --version", ms(20), || drop(run(&["--version"])));
    figures.time("treebox log -n 20", ms(20), || {
        assert_eq!(run(&["log", "--oneline", "-n", "20"]).split(|byte| *byte == b'\n').count(), 21);
    });
    figures.time("treebox branch", ms(20), || {
        assert_eq!(run(&["branch"]).split(|byte| *byte == b'\n').count(), BRANCHES + 2);
    });
    let mut turn = 0;
    figures.time("treebox switch", ms(20), || {
        turn += 1;
        run(&["switch", "-q", &format!("branch-{turn:04}")]);
    });
    run(&["switch", "-q", "main"]);
    figures.time("treebox ls main~5000:/", ms(20), || drop(run(&["ls", "main~5000:/"])));
    figures.time("treebox ls main@{100}:/", ms(20), || drop(run(&["ls", "main@{100}:/"])));
    let history = treebox::history::History::open(&store.join("history.git"), Default::default()).unwrap();
    let commit = |rev: &str| history.resolve(rev).unwrap();
    let (early, late) = (commit("branch-0001"), commit("main"));
    figures.time("merge base of main and branch-0001", ms(50), || {
        assert_eq!(history.merge_base(&early, &late).unwrap(), Some(commit("branch-0001~1")));
    });
    let pairs = (commit("branch-0500"), commit("branch-0999"));
    figures.time("merge base of two branches", ms(50), || {
        assert!(history.merge_base(&pairs.0, &pairs.1).unwrap().is_some());
    });
}

/// Two states of 25 000 files that differ in 10.
fn wide(engine: &Engine, dir: &Path, figures: &mut Figures) {
    let files = |changed: usize, with: &str| {
        let with = with.to_owned();
        (0..FILES).map(move |number| {
            let is_changed = number % (FILES / 10) == changed;
            let content = if is_changed { format!("{with} {number}\n") } else { format!("file {number}\n") };
            (format!("d{:02}/e{:02}/f{number:05}", number % 50, number / 50 % 20), content.into_bytes())
        })
    };
    let base = import(engine, dir, "wide", files(0, "file"));
    let changed =
        |turn: usize, with: &str| files(turn, with).filter(move |(_, content)| !content.starts_with(b"file"));
    for (name, turn) in [("left", 7), ("right", 11)] {
        engine.create_branch(name, &base, false).unwrap();
        copy(engine, name, changed(turn, name));
    }
    engine.switch("left").unwrap();
    let (left, right) = (engine.resolve("left").unwrap(), engine.resolve("right").unwrap());
    figures.time("diff of 25 000 files, 10 differ", ms(5), || {
        assert_eq!(engine.diff(&base, &left, &[]).unwrap().len(), 10);
    });
    // From the states to the merge commit and the moved branch; another message makes another commit.
    let mut turn = 0;
    figures.time_after(
        "merge of 25 000 files, 10 changed on each side",
        ms(5),
        || drop(engine.create_branch("left", &left, true).unwrap()),
        || {
            turn += 1;
            let options = MergeOptions { message: Some(format!("merge {turn}")), ..MergeOptions::default() };
            assert_eq!(engine.merge("right", &options).unwrap().how, MergeHow::Merged);
        },
    );
    assert_eq!(engine.diff(&right, &engine.head_state().unwrap(), &[]).unwrap().len(), 10);
}
