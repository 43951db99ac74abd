//! Several who move the same refs: one is first, and who comes second loses nothing.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use treebox::blocking::Engine;
use treebox::{
    Command, CopySource, Durability, EngineOptions, Error, ErrorKind, LogQuery, MergeOptions, TreePath,
};

use crate::support::{TestEnv, nap, treebox, wait_for_sleepers};

fn engine(env: &TestEnv) -> Engine {
    let options = EngineOptions::at(env.store()).durability(Durability::Batch);
    Engine::open(options.worker(treebox())).unwrap()
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// The state that a conflict says is kept.
fn kept(message: &str) -> String {
    let (_, id) = message.trim_end().rsplit_once(". The result is kept: state ").expect(message);
    assert_eq!(id.len(), 12, "{message}");
    id.to_owned()
}

#[test]
fn the_loser_of_two_runs_on_a_branch_hears_where_its_result_is() {
    let env = TestEnv::on_main();
    let nap = format!("{}7", nap(1));
    let start = |text: String| {
        let mut command = env.command(&["run", "-q", "--branch", "main", "-c", &text]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = ["first", "second"].map(|name| start(format!("echo {name} > /who; sleep {nap}")));
    wait_for_sleepers(&nap, 2);
    let ended = both.map(|child| child.wait_with_output().unwrap());
    let mut codes = ended.each_ref().map(|output| output.status.code().unwrap());
    codes.sort_unstable();
    assert_eq!(codes, [0, 125]);
    let at = ended.iter().position(|output| output.status.code() == Some(125)).unwrap();
    let lost = kept(std::str::from_utf8(&ended[at].stderr).unwrap());
    assert_eq!(env.ok(&["cat", &format!("{lost}:/who")]), ["first\n", "second\n"][at]);
    assert_eq!(env.ok(&["cat", "main:/who"]), ["second\n", "first\n"][at]);
    // Nothing has to run to have it on a branch.
    env.ok(&["branch", "other", &lost]);
    let again = env.shell("host", &format!("echo {} > /who; sleep {nap}", ["first", "second"][at]));
    assert_eq!(again["reused"], true);
}

#[test]
fn of_two_equal_runs_on_a_branch_the_second_finds_it_where_it_wants_it() {
    let env = TestEnv::on_main();
    let nap = format!("{}8", nap(1));
    let text = format!("head -c 8 /dev/urandom | od > /random; sleep {nap}");
    let start = |more: &[&str]| {
        let args = [&["--json", "run", "--branch", "main", "-c", &text], more].concat();
        env.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = [start(&[]), start(&["--tag", "mine"]), start(&[])];
    let results = children.map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    assert_eq!(results.iter().filter(|result| result["reused"] == false).count(), 1);
    assert!(results.iter().all(|result| result["commit"] == results[0]["commit"]), "{results:?}");
    assert!(results.iter().all(|result| result["branch"] == "main"), "{results:?}");
    assert_eq!(env.ok(&["log", "--oneline", "main"]).lines().count(), 2);
    assert_eq!(env.ok(&["cat", "mine:/random"]), env.ok(&["cat", "main:/random"]));
}

/// What may go wrong when others do the same: who is told so has lost nothing.
fn lost_to_others(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound)
}

#[test]
fn copies_into_one_branch_are_all_in_its_history_or_kept_beside_it() {
    let env = TestEnv::on_main();
    let engines: Vec<Engine> = (0..4).map(|_| engine(&env)).collect();
    let file = env.file("file", "x");
    let done: Vec<Vec<Result<_, Error>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = engines
            .iter()
            .enumerate()
            .map(|(number, engine)| {
                let file = &file;
                scope.spawn(move || {
                    let dest = |at: i32| path(&format!("/from-{number}-{at}"));
                    (0..12).map(|at| engine.copy_in(CopySource::Path(file), "main", &dest(at))).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (mut moved, mut beside) = (0, 0);
    for (number, at, done) in done
        .iter()
        .enumerate()
        .flat_map(|(number, all)| all.iter().enumerate().map(move |(at, done)| (number, at, done)))
    {
        let name = format!("/from-{number}-{at}");
        match done {
            Ok(_) => {
                moved += 1;
                assert_eq!(env.ok(&["cat", &format!("main:{name}")]), "x");
            }
            Err(error) => {
                beside += 1;
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert_eq!(env.ok(&["cat", &format!("{}:{name}", kept(&error.to_string()))]), "x");
            }
        }
    }
    assert!(moved > 0 && moved + beside == 48);
    let log = engines[0].log(&LogQuery { revs: vec!["main".into()], ..LogQuery::default() }).unwrap();
    assert_eq!(log.len(), 1 + moved, "a commit for each that succeeded, and the import");
    assert_eq!(engines[0].reflog(Some("main")).unwrap().len(), 1 + moved);
}

/// Says that it is over when it is dropped, also by a test that fails.
struct Ends<'o>(&'o AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn head_is_never_on_a_branch_that_another_process_has_deleted() {
    let env = TestEnv::on_main();
    let (switching, deleting) = (engine(&env), engine(&env));
    let main = switching.head_state().unwrap();
    let over = AtomicBool::new(false);
    let (mut switched, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let deleter = scope.spawn(|| {
            let (mut deleted, mut kept) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                match deleting.create_branch("side", &main, false) {
                    Ok(_) => {}
                    Err(error) => assert!(lost_to_others(&error), "{error}"),
                }
                std::thread::sleep(Duration::from_millis(1));
                match deleting.delete_branch("side") {
                    Ok(_) => deleted += 1,
                    Err(error) => {
                        assert!(lost_to_others(&error), "{error}");
                        kept += 1;
                    }
                }
            }
            (deleted, kept)
        });
        let (begun, ends) = (Instant::now(), Ends(&over));
        while begun.elapsed() < Duration::from_secs(2) || switched == 0 {
            match switching.switch("side") {
                Ok(head) => {
                    switched += 1;
                    assert!(head.commit.is_some(), "HEAD is on a branch that is not there");
                    assert!(switching.head().unwrap().commit.is_some());
                    switching.switch("main").unwrap();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                    refused += 1;
                }
            }
        }
        drop(ends);
        let (deleted, kept) = deleter.join().unwrap();
        println!("{switched} switches and {refused} refused, {deleted} deletions and {kept} refused");
        assert!(deleted > 0);
    });
    assert!(switching.head().unwrap().commit.is_some());
}

#[test]
fn verbs_that_move_refs_at_once_succeed_or_say_that_others_were_first() {
    let env = TestEnv::on_main();
    let first = engine(&env);
    let base = first.head_state().unwrap();
    let states: Vec<_> = (0..4)
        .map(|at| base.run(&Command::shell(format!("echo {at} > /file-{at}"))).unwrap().state().clone())
        .collect();
    for (at, state) in states.iter().enumerate() {
        first.create_branch(&format!("side-{at}"), state, false).unwrap();
    }
    let engines: Vec<Engine> = (0..6).map(|_| engine(&env)).collect();
    let mut counts = [0, 0];
    std::thread::scope(|scope| {
        let threads: Vec<_> = engines
            .iter()
            .enumerate()
            .map(|(number, engine)| {
                let states = &states;
                scope.spawn(move || {
                    let mut counts = [0, 0];
                    for round in 0..16 {
                        let state = &states[(number + round) % states.len()];
                        let (from, to) =
                            (format!("moving-{}", round % 3), format!("moving-{}", (round + 1) % 3));
                        let options = MergeOptions::default();
                        let results: [Result<(), Error>; 8] = [
                            engine.create_branch(&from, state, false).map(drop),
                            engine.create_tag("tag", state, round % 2 == 0).map(drop),
                            engine.rename_branch(&from, &to),
                            engine.reset(state).map(drop),
                            engine
                                .merge(&format!("side-{}", (number + 1) % states.len()), &options)
                                .map(drop),
                            engine.undo().map(drop),
                            engine.delete_branch(&to).map(drop),
                            engine.delete_tag("tag").map(drop),
                        ];
                        for result in results {
                            counts[usize::from(result.is_err())] += 1;
                            if let Err(error) = result {
                                assert!(lost_to_others(&error), "{:?}: {error}", error.kind());
                            }
                        }
                    }
                    counts
                })
            })
            .collect();
        for thread in threads {
            let [done, refused] = thread.join().unwrap();
            counts = [counts[0] + done, counts[1] + refused];
        }
    });
    println!("{} done, {} refused", counts[0], counts[1]);
    assert!(counts[0] > 0);
    // A store opened now sees the same: every ref leads to a state, and Git finds nothing wrong.
    let last = engine(&env);
    assert!(last.head().unwrap().commit.is_some());
    for found in last.branches().unwrap().into_iter().chain(last.tags().unwrap()) {
        last.list(&last.state(found.state).unwrap(), &TreePath::root(), true).unwrap();
    }
    last.operations(None).unwrap();
    super::git_finds_nothing_wrong(&env);
}
