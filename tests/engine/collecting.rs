//! Garbage collection: exactly what nothing leads to goes, at any moment, whatever others do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command as Program;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use treebox::{Entry, GcOptions, Kind, LogQuery, Node, StateId, TreePath};

use super::*;

fn everything() -> GcOptions {
    GcOptions::new().keep_days(0)
}

/// Reads every file of a state; each is checked while it is read.
fn read_all(engine: &Engine, state: &State) -> BTreeSet<String> {
    let mut blobs = BTreeSet::new();
    for listed in engine.list(state, &TreePath::root(), true).unwrap() {
        let entry: &Entry = &listed.entry;
        if let (Kind::File, Node::File { blob, .. }) = (entry.node.kind(), &entry.node) {
            engine.read_file(state, &listed.path).unwrap();
            blobs.insert(blob.to_string());
        }
    }
    blobs
}

/// The blobs that lie in a store.
fn blobs_of(store: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for shard in crate::support::names(&store.join("objects")).iter().filter(|name| name.len() == 2) {
        let names = crate::support::names(&store.join("objects").join(shard));
        found.extend(names.iter().map(|name| format!("{shard}{name}")));
    }
    found
}

fn import(engine: &Engine, dir: &Path, name: &str, content: &str) -> State {
    let from = dir.join("from");
    std::fs::create_dir_all(from.join("below")).unwrap();
    std::fs::write(from.join("one"), content).unwrap();
    std::fs::write(from.join("below/two"), format!("{content} too")).unwrap();
    std::fs::write(from.join("same"), "the same in all").unwrap();
    engine.import(&ImportSource::Directory(from), Some(name)).unwrap().state
}

#[test]
fn what_a_handle_holds_stays_and_goes_with_it_also_when_another_process_collects() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let other = open(dir.path());
    let held = import(&engine, dir.path(), "a", "first");
    engine.remove_image("a").unwrap();
    let second = import(&engine, dir.path(), "a", "second");
    let clone = held.clone();
    drop(held);
    other.gc(&everything()).unwrap();
    read_all(&other, &clone);
    let branch = engine.create_branch("kept", &clone, false).unwrap();
    assert_eq!(branch.state, clone.id());
    engine.delete_branch("kept").unwrap();
    let id = clone.id();
    drop(clone);
    let collected = other.gc(&everything()).unwrap();
    assert_eq!(collected.states, [id]);
    assert_eq!(other.state(id).unwrap_err().kind(), treebox::ErrorKind::Damaged);
    assert_eq!(blobs_of(engine.store()), read_all(&engine, &second));
}

#[test]
fn a_dry_run_says_what_the_real_one_then_does() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for number in 0..3 {
        import(&engine, dir.path(), "a", &format!("{number}").repeat(10_000));
    }
    let said = engine.gc(&everything().dry_run(true)).unwrap();
    assert!(said.after.is_none());
    assert_eq!((said.states.len(), said.blobs), (2, 4));
    assert_eq!(
        engine.log(&LogQuery { revs: vec!["a:latest@{1}".into()], ..LogQuery::default() }).unwrap().len(),
        1
    );
    let done = engine.gc(&everything()).unwrap();
    assert_eq!(done.states, said.states);
    assert_eq!((done.trees, done.blobs, done.blob_bytes), (said.trees, said.blobs, said.blob_bytes));
    assert_eq!((done.runs, done.log_lines), (said.runs, said.log_lines));
    let freed = done.before.total() - done.after.unwrap().total();
    assert!(freed >= said.blob_bytes, "{freed} {}", said.blob_bytes);
    let again = engine.gc(&everything()).unwrap();
    assert_eq!((again.states.len(), again.blobs, again.log_lines), (0, 0, 0));
}

/// What can be done with a store.
#[derive(Debug, Clone)]
enum Act {
    Import { image: u8, content: u8 },
    Branch { name: u8, of: u8 },
    Forget { name: u8 },
    Merge { a: u8, b: u8 },
    Hold { of: u8 },
    LetGo { of: u8 },
    Collect,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3u8, 0..6u8).prop_map(|(image, content)| Act::Import { image, content }),
        3 => (0..4u8, any::<u8>()).prop_map(|(name, of)| Act::Branch { name, of }),
        2 => (0..4u8).prop_map(|name| Act::Forget { name }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Act::Merge { a, b }),
        2 => any::<u8>().prop_map(|of| Act::Hold { of }),
        2 => any::<u8>().prop_map(|of| Act::LetGo { of }),
        1 => Just(Act::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_collection_there_is_exactly_what_refs_and_handles_lead_to(
        acts in proptest::collection::vec(act(), 4..20)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        let mut all: BTreeSet<StateId> = BTreeSet::new();
        let mut images: BTreeMap<u8, StateId> = BTreeMap::new();
        let mut branches: BTreeMap<u8, StateId> = BTreeMap::new();
        let mut held: BTreeMap<StateId, State> = BTreeMap::new();
        let pick = |all: &BTreeSet<StateId>, of: u8| all.iter().nth(usize::from(of) % all.len().max(1)).copied();
        for act in acts.into_iter().chain([Act::Collect]) {
            match act {
                Act::Import { image, content } => {
                    let state = import(&engine, dir.path(), &format!("i{image}"), &format!("content {content}"));
                    images.insert(image, state.id());
                    all.insert(state.id());
                }
                Act::Branch { name, of } => {
                    let Some(id) = pick(&all, of) else { continue };
                    engine.create_branch(&format!("b{name}"), &engine.state(id).unwrap(), true).unwrap();
                    branches.insert(name, id);
                }
                Act::Forget { name } => {
                    if name < 2 && branches.remove(&name).is_some() {
                        engine.delete_branch(&format!("b{name}")).unwrap();
                    } else if images.remove(&name).is_some() {
                        engine.remove_image(&format!("i{name}")).unwrap();
                    }
                }
                Act::Merge { a, b } => {
                    let (Some(a), Some(b)) = (pick(&all, a), pick(&all, b)) else { continue };
                    let (a, b) = (engine.state(a).unwrap(), engine.state(b).unwrap());
                    let ours = [(TreePath::root(), treebox::Side::Ours)];
                    let merged = engine.merge_states(None, &a, &b, &ours).unwrap().state.unwrap();
                    all.insert(merged.id());
                }
                Act::Hold { of } => {
                    let Some(id) = pick(&all, of) else { continue };
                    held.insert(id, engine.state(id).unwrap());
                }
                Act::LetGo { of } => {
                    let Some(id) = pick(&held.keys().copied().collect(), of) else { continue };
                    held.remove(&id);
                }
                Act::Collect => {
                    engine.gc(&everything()).unwrap();
                    let stays: BTreeSet<StateId> =
                        images.values().chain(branches.values()).chain(held.keys()).copied().collect();
                    let mut blobs = BTreeSet::new();
                    for id in &all {
                        match engine.state(*id) {
                            Ok(state) => {
                                prop_assert!(stays.contains(id), "{} is still there", id);
                                blobs.extend(read_all(&engine, &state));
                            }
                            Err(error) => prop_assert!(!stays.contains(id), "{}", error),
                        }
                    }
                    prop_assert_eq!(&blobs_of(engine.store()), &blobs);
                    all = stays;
                }
            }
        }
    }
}

/// How long the tests of several processes last; longer with `TREEBOX_STRESS_SECONDS`.
fn stress_time() -> Duration {
    let seconds = std::env::var("TREEBOX_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// Does something again and again until the time is up; says how often.
fn until<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    over: &'s AtomicBool,
    mut work: impl FnMut(u32) + Send + 's,
) -> std::thread::ScopedJoinHandle<'s, u32> {
    scope.spawn(move || {
        let mut rounds = 0;
        while !over.load(Ordering::Relaxed) {
            work(rounds);
            rounds += 1;
        }
        rounds
    })
}

#[test]
fn collecting_all_the_time_harms_nobody_who_imports_runs_and_moves_branches() {
    let env = crate::support::TestEnv::on_main();
    env.ok(&["branch", "-q", "b0", "main"]);
    env.ok(&["branch", "-q", "b1", "main"]);
    let over = AtomicBool::new(false);
    let collected = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let collect = |days: &'static str| {
            let (env, collected) = (&env, &collected);
            move |_| {
                env.ok(&["gc", "-q", "--keep-days", days]);
                collected.fetch_add(1, Ordering::Relaxed);
            }
        };
        let mut workers = vec![until(scope, &over, collect("0")), until(scope, &over, collect("0"))];
        for number in 0..2 {
            let env = &env;
            workers.push(until(scope, &over, move |round| {
                // Every other step gives again what an earlier one gave: it meets what is just being removed.
                let text =
                    format!("echo {} > /f{number}; head -c 20000 /dev/zero > /z{}", round % 3, round % 2);
                env.ok(&["run", "-q", "--fresh", "--branch", &format!("b{number}"), "-c", &text]);
                env.ok(&["reset", "-q", "host"]);
                env.ok(&["branch", "-q", "-f", &format!("b{number}"), "host"]);
            }));
            workers.push(until(scope, &over, move |round| {
                let from = env.path(&format!("from{number}"));
                for file in 0..50 {
                    env.file(&format!("from{number}/f{file}"), format!("{} {file}", round % 2));
                }
                let from = format!("dir:{}", from.display());
                env.ok(&["import", "-q", &from, "--name", &format!("i{number}")]);
                env.ok(&["images", "rm", "-q", &format!("i{number}:latest")]);
                env.ok(&["import", "-q", &from, "--name", &format!("k{number}")]);
            }));
        }
        let began = Instant::now();
        while began.elapsed() < stress_time() {
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
        for worker in workers {
            assert!(worker.join().unwrap() > 0);
        }
    });
    assert!(collected.load(Ordering::Relaxed) > 1);
    check_all_refs(&env);
}

/// Every state that a ref leads to can be read to its last byte, and history is whole.
fn check_all_refs(env: &crate::support::TestEnv) {
    let engine = Engine::open(EngineOptions::at(env.store())).unwrap();
    let branches = engine.branches().unwrap().into_iter().map(|branch| branch.name);
    let images = engine.images().unwrap().into_iter().map(|image| image.name);
    let names: Vec<String> = branches.chain(images).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        for commit in engine.log(&LogQuery { revs: vec![name.clone()], ..LogQuery::default() }).unwrap() {
            read_all(&engine, &engine.state(commit.state).unwrap());
        }
    }
    let whole = env.run(&["fsck", "--full"]);
    assert_eq!(whole.code, 0, "{}{}", whole.text(), whole.stderr);
    let mut git = Program::new("git");
    git.arg("--git-dir").arg(env.store().join("history.git")).args(["fsck", "--full", "--no-dangling"]);
    let checked = git.output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_collection_that_is_killed_at_any_moment_loses_nothing_and_the_next_goes_on() {
    let env = crate::support::TestEnv::on_main();
    for name in ["b0", "b1", "b2"] {
        env.ok(&["branch", "-q", name, "main"]);
    }
    for round in 0..16 {
        let branch = format!("b{}", round % 3);
        env.ok(&[
            "run",
            "-q",
            "--branch",
            &branch,
            "-c",
            &format!("seq {round} 3000 > /f{round}; cp /f{round} /g"),
        ]);
        env.ok(&["branch", "-q", "-f", "b0", "host"]);
        let mut collect = env.command(&["gc", "--keep-days", "0"]);
        let mut collect =
            collect.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + 7 * round));
        collect.kill().unwrap();
        collect.wait().unwrap();
    }
    // What the killed ones left in tmp/ goes with the next that has a worker.
    env.ok(&["run", "-q", "-c", "echo on > /on"]);
    let done = env.json(&["gc", "--keep-days", "0"]);
    assert_eq!(done["left"].as_array().unwrap().len(), 0, "{done}");
    check_all_refs(&env);
    let again = env.json(&["gc", "--keep-days", "0"]);
    assert_eq!((&again["blobs"], &again["trees"]), (&0.into(), &0.into()));
}

#[test]
fn a_git_gc_that_a_user_starts_at_any_moment_harms_nobody() {
    let env = crate::support::TestEnv::on_main();
    env.ok(&["branch", "-q", "b0", "main"]);
    env.ok(&["branch", "-q", "b1", "main"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let env = &env;
        let mut workers = vec![until(scope, &over, move |_| {
            let mut git = Program::new("git");
            git.arg("--git-dir").arg(env.store().join("history.git")).args(["gc", "--quiet", "--prune=now"]);
            // That it finds a lock or a ref that moves is its own trouble.
            git.output().unwrap();
        })];
        for number in 0..2 {
            workers.push(until(scope, &over, move |round| {
                let text = format!("echo {round} > /f{number}");
                env.ok(&["run", "-q", "--branch", &format!("b{number}"), "-c", &text]);
                env.ok(&["branch", "-q", "-f", &format!("x{number}"), &format!("b{number}")]);
            }));
        }
        std::thread::sleep(stress_time());
        over.store(true, Ordering::Relaxed);
        for worker in workers {
            assert!(worker.join().unwrap() > 0);
        }
    });
    check_all_refs(&env);
}
