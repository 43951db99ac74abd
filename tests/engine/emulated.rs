//! Root over one id with several commands, many processes, and ends that come in the middle.

use std::time::Duration;

use treebox::{IdentityChoice, SandboxOptions, TreePath};

use super::*;

/// An engine of which every run has one id and an emulated root, whoever runs the tests.
fn emulated() -> (Engine, State, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions::at(dir.path().join("store"))
        .worker(crate::support::treebox())
        .identity(IdentityChoice::Recorded);
    let engine = Engine::open(options).unwrap();
    let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    (engine, base, dir)
}

fn owner(engine: &Engine, state: &State, path: &str) -> (u32, u32) {
    let found = engine.entry(state, &TreePath::parse(path.as_bytes()).unwrap()).unwrap();
    (found.entry.meta.uid, found.entry.meta.gid)
}

/// A probe's first process executes nothing. What it has of another thread's probe it keeps, and two waited for each other for ever.
#[test]
fn engines_of_one_program_find_out_at_once_what_the_machine_allows() {
    let engines: Vec<_> = (0..6).map(|_| emulated()).collect();
    let all = std::sync::Barrier::new(engines.len());
    std::thread::scope(|scope| {
        for (_, base, _) in &engines {
            scope.spawn(|| {
                all.wait();
                assert!(base.run(&Command::shell("chown 3:4 /etc")).unwrap().success());
            });
        }
    });
}

#[test]
fn commands_of_a_live_sandbox_see_what_another_one_recorded() {
    let (engine, base, _dir) = emulated();
    let live = base.open(&SandboxOptions::new()).unwrap();
    let done = live.run(&Command::shell("mkdir /x && touch /x/f /x/g && chown 33:44 /x/f")).unwrap();
    assert!(done.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let seen = live.run(&Command::shell("ls -ln /x/f && mv /x/f /x/h && chown 5 /x/h")).unwrap();
    let line = String::from_utf8(seen.stdout).unwrap();
    assert_eq!(line.split_whitespace().skip(2).take(2).collect::<Vec<_>>(), ["33", "44"], "{line}");
    // One that is somebody else from its start.
    let other = live.run(&Command::shell("id -u; touch /tmp/mine").user("7:8")).unwrap();
    assert_eq!(String::from_utf8_lossy(&other.stdout), "7\n", "{}", String::from_utf8_lossy(&other.stderr));
    let state = live.keep().unwrap().state.unwrap();
    assert_eq!(owner(&engine, &state, "/x/h"), (5, 44));
    assert_eq!(owner(&engine, &state, "/x/g"), (0, 0));
    assert_eq!(owner(&engine, &state, "/tmp/mine"), (7, 8));
}

#[test]
fn many_processes_at_once_each_get_their_own_answer() {
    let (engine, base, _dir) = emulated();
    let text = "mkdir /x; for p in 1 2 3 4 5 6 7 8; do (
            i=0; while [ $i -lt 40 ]; do : >/x/$p.$i; chown $p:$i /x/$p.$i; i=$((i+1)); done
        ) & done; wait; ls -ln /x | wc -l";
    let outcome = base.run(&Command::shell(text)).unwrap();
    assert!(outcome.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    for p in 1..=8 {
        for i in 0..40 {
            assert_eq!(owner(&engine, outcome.state(), &format!("/x/{p}.{i}")), (p, i));
        }
    }
}

#[test]
fn a_command_that_is_killed_while_it_asks_leaves_a_session_that_works() {
    let (engine, base, _dir) = emulated();
    let asking = "i=0; while :; do : >/f$i; chown 1:2 /f$i; ls -l / >/dev/null; i=$((i+1)); done";
    for round in 0..10 {
        let command = Command::shell(asking).timeout(Duration::from_millis(40 + 13 * round)).disposable(true);
        assert!(base.run(&command).unwrap().timed_out);
    }
    // Some of the processes die, the others go on asking.
    let text = "for n in 1 2 3 4; do (while :; do chown 9 /tmp; done) & k=\"$k $!\"; done
        sleep 0.2; kill -9 $k; wait 2>/dev/null; touch /after && chown 3:4 /after";
    let outcome = base.run(&Command::shell(text)).unwrap();
    assert!(outcome.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    assert_eq!(owner(&engine, outcome.state(), "/after"), (3, 4));
    assert_eq!(owner(&engine, outcome.state(), "/tmp"), (9, 0));
}
