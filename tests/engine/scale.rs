//! Many at once.

use super::*;

#[test]
fn many_threads_run_on_one_state_at_once() {
    let base = base();
    let states: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..12)
            .map(|number| {
                let base = base.clone();
                scope.spawn(move || {
                    let child = step(&base, &format!("echo {number} > /mine"));
                    (number, stdout(&child, "cat /mine; ls / | grep -c mine"))
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    for (number, seen) in states {
        assert_eq!(seen, format!("{number}\n1\n"));
    }
}

#[test]
fn a_prepared_command_runs_once_however_many_ask() {
    let prepared = base().prepare(&Command::shell("date +%N > /prepared")).unwrap();
    let first = prepared.run().unwrap();
    let all: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..8).map(|_| scope.spawn(|| prepared.run().unwrap())).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(all.iter().all(|outcome| outcome.reused && outcome.state == first.state));
}

#[test]
fn several_engines_share_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let base = first.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    let second = open(dir.path());
    let child = step(&base, "echo from-first > /x");
    let seen = second.state(child.id()).unwrap();
    assert_eq!(stdout(&seen, "cat /x"), "from-first\n");
    assert!(second.resolve("host").unwrap().run(&Command::shell("echo from-first > /x")).unwrap().reused);
}

#[test]
fn a_thousand_anonymous_results_leave_history_alone_until_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let mut state = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    for number in 0..30 {
        state = step(&state, &format!("echo {number} > /n"));
    }
    let commits =
        |engine: &Engine| engine.log(&treebox::LogQuery { revs: vec!["main".into()], ..Default::default() });
    assert!(commits(&engine).is_err());
    engine.create_branch("main", &state, false).unwrap();
    let log = commits(&engine).unwrap();
    assert_eq!(log.len(), 31);
    assert_eq!(log[0].command, "echo 29 > /n");
    assert!(log[30].command.starts_with("import host"));
}
