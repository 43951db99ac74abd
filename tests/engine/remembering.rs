//! The same command on the same parent is never run twice; an observation is made anew.

use treebox::{Reuse, Stdin};

use super::*;

fn random() -> Command {
    Command::new("sh").args(["-c", "od -An -N8 -tx8 /dev/urandom > /random.txt"])
}

#[test]
fn a_build_step_runs_once_and_its_children_do_not_see_each_other() {
    let (first, again) = (base().run(&random()).unwrap(), base().run(&random()).unwrap());
    assert!(first.changed && again.reused);
    assert_eq!(first.state, again.state);
    let child = first.state().clone();
    let number = stdout(&child, "cat /random.txt");
    for letter in ["A", "B", "C"] {
        let outcome = run(&child, &format!("echo {letter} >> /random.txt; cat /random.txt"));
        assert_eq!(String::from_utf8(outcome.stdout).unwrap(), format!("{number}{letter}\n"));
    }
}

#[test]
fn an_observation_runs_again_unless_replay_is_asked_for() {
    let look = Command::shell("od -An -N8 -tx8 /dev/urandom");
    let (first, second) = (base().run(&look).unwrap(), base().run(&look).unwrap());
    assert_ne!(first.stdout, second.stdout);
    assert!(!second.reused);
    assert_eq!(second.state, Some(base()));
    let replayed = base().run(&look.clone().reuse(Reuse::Always)).unwrap();
    assert!(replayed.reused);
    assert_eq!(replayed.stdout, second.stdout);
}

#[test]
fn the_same_step_run_afresh_gives_the_same_state() {
    for text in ["echo hello", "echo hello > /hello", "mkdir -p /made/by; echo x > /made/by/step"] {
        let first = run(&base(), text);
        let fresh = base().run(&Command::shell(text).reuse(Reuse::Never)).unwrap();
        assert!(!fresh.reused, "{text}");
        assert_eq!(first.state, fresh.state, "{text}");
    }
    // What differs in more than times is another state, and remembered from now on.
    let fresh = base().run(&random().arg("other").reuse(Reuse::Never)).unwrap();
    let fresher = base().run(&random().arg("other").reuse(Reuse::Never)).unwrap();
    assert_ne!(fresh.state, fresher.state);
    assert_eq!(base().run(&random().arg("other")).unwrap().state, fresher.state);
}

#[test]
fn a_chain_sorts_both_ways_from_one_parent() {
    let list = step(&base(), "printf 'b\\nc\\na\\n' > /list");
    assert_eq!(stdout(&step(&list, "sort /list > /sorted"), "cat /sorted"), "a\nb\nc\n");
    assert_eq!(stdout(&step(&list, "sort -r /list > /sorted"), "cat /sorted"), "c\nb\na\n");
}

#[test]
fn every_part_of_the_key_counts_and_limits_do_not() {
    let plain = Command::shell("date +%N > /key; id -u >> /key; umask >> /key; pwd >> /key; env >> /key");
    let key = |command: &Command| base().prepare(command).unwrap().key();
    let others = [
        plain.clone().env("A", "1"),
        plain.clone().workdir("/tmp"),
        plain.clone().user("65534"),
        plain.clone().hostname("other"),
        plain.clone().umask(0o77),
        plain.clone().stdin(Stdin::Bytes(b"in".to_vec())),
        plain.clone().network(treebox::Network::Host),
        plain.clone().read_only(true),
        plain.clone().epoch(1),
        plain.clone().keep_env(true),
        plain.clone().copy("/etc/passwd", "/copied"),
    ];
    for (number, other) in others.iter().enumerate() {
        assert_ne!(key(&plain), key(other), "{number}");
    }
    let same = plain.clone().timeout(std::time::Duration::from_secs(9)).max_output(10).reuse(Reuse::Always);
    assert_eq!(key(&plain), key(&same));
}

#[test]
fn copied_files_count_by_content_and_mode_not_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.txt");
    std::fs::write(&file, "one").unwrap();
    let build =
        Command::shell("tr a-z A-Z < /src/in.txt > /out; date +%N >> /out").copy(&file, "/src/in.txt");
    let first = base().run(&build).unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let again = base().run(&build).unwrap();
    assert!(again.reused);
    assert_eq!(first.state, again.state);
    std::fs::write(&file, "two").unwrap();
    let changed = base().run(&build).unwrap();
    assert!(!changed.reused);
    assert!(stdout(changed.state(), "cat /out").starts_with("TWO"));
}

#[test]
fn a_failed_run_is_kept_but_never_replayed() {
    let fails = Command::shell("echo partial > /partial; exit 7");
    let first = base().run(&fails).unwrap();
    assert_eq!(first.exit_code, Some(7));
    assert_eq!(stdout(first.state(), "cat /partial"), "partial\n");
    assert!(!base().run(&fails.clone().reuse(Reuse::Always)).unwrap().reused);
}

#[test]
fn a_disposable_run_leaves_nothing() {
    let outcome = base().run(&Command::shell("echo x > /x; cat /x").disposable(true)).unwrap();
    assert_eq!((outcome.state, outcome.stdout.as_slice()), (None, &b"x\n"[..]));
    assert!(!base().run(&Command::shell("echo x > /x; cat /x").reuse(Reuse::Always)).unwrap().reused);
}

#[test]
fn an_epoch_clamps_the_times_of_what_was_written_and_of_nothing_else() {
    let state = base().run(&Command::shell("echo x > /clamped; mkdir /cd").epoch(86_400)).unwrap();
    assert_eq!(stdout(state.state(), "stat -c %Y /clamped /cd"), "86400\n86400\n");
    assert_eq!(changes(&base(), state.state()), ["A /cd", "A /clamped"]);
}

#[test]
fn environment_and_directory_are_kept_only_when_asked() {
    let command = Command::shell("mkdir -p /w").env("KEPT", "yes");
    let without = base().run(&command.clone()).unwrap();
    assert_eq!(stdout(without.state(), "echo ${KEPT:-no} $PWD"), "no /\n");
    let with = without
        .state()
        .run(&Command::shell("touch /w/t").env("KEPT", "yes").workdir("/w").keep_env(true).keep_workdir(true))
        .unwrap();
    assert_eq!(stdout(with.state(), "echo ${KEPT:-no} $PWD"), "yes /w\n");
}

#[test]
fn nothing_of_the_hosts_environment_is_inside() {
    let seen = stdout(&base(), "env | sort | cut -d= -f1 | tr '\\n' ' '");
    assert_eq!(seen, "HOME PATH PWD ");
}
