//! Commands that are run again from their record.

use treebox::blocking::State;
use treebox::{Command, ErrorKind, Mount, Reuse, Stdin};

use super::{base, engine, stdout, step};

/// Runs a command and gives the commit of its result.
fn commit(state: &State, command: &Command, branch: &str) -> (State, String) {
    let outcome = state.run(command).unwrap();
    assert!(outcome.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    let made = outcome.state().clone();
    let at = engine().create_branch(branch, &made, true).unwrap();
    (made, at.commit.to_string())
}

fn again(rev: &str, on: &State, reuse: Reuse) -> State {
    let outcome = engine().run_again(rev, on, reuse).unwrap();
    assert!(outcome.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    outcome.state().clone()
}

#[test]
fn a_recorded_command_keeps_all_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let brought = dir.path().join("brought");
    std::fs::write(&brought, "brought\n").unwrap();
    let command =
        Command::shell("{ cat; cat /brought; env; pwd; id -u; umask; hostname; ls -d /m; } > /tmp/told")
            .env("GIVEN", "yes")
            .workdir("/etc")
            .user("7:8")
            .hostname("elsewhere")
            .umask(0o027)
            .stdin(Stdin::Bytes(b"typed\n".to_vec()))
            .copy(&brought, "/brought")
            .mount(Mount::tmpfs("/m"));
    let start = step(&base(), "echo again-a > /a");
    let (made, rev) = commit(&start, &command, "again-all");
    let told = stdout(&made, "cat /tmp/told");
    for part in ["typed\n", "brought\n", "GIVEN=yes\n", "/etc\n", "7\n", "elsewhere\n", "0027\n", "/m\n"] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    assert_eq!(again(&rev, &start, Reuse::Never), made, "the same command on the same state");
    assert!(engine().run_again(&rev, &start, Reuse::Auto).unwrap().reused);
    std::fs::remove_file(&brought).unwrap();
    let other = step(&start, "echo again-b > /a");
    let moved = again(&rev, &other, Reuse::Auto);
    assert_eq!(stdout(&moved, "cat /tmp/told /a"), format!("{told}again-b\n"));
    assert!(engine().run_again(&rev, &other, Reuse::Auto).unwrap().reused, "the key is found again");
}

#[test]
fn what_came_from_the_old_state_comes_from_the_new_one() {
    let command =
        Command::shell("echo $WORLD $OWN > /world; pwd >> /world").env("OWN", "mine").keep_env(true);
    let with = |world: &str, dir: &str| {
        let set = Command::shell(format!("echo {world} > /set"));
        let set = set.env("WORLD", world).keep_env(true).workdir(dir).keep_workdir(true);
        base().run(&set).unwrap().state().clone()
    };
    let (old, new) = (with("old", "/etc"), with("new", "/tmp"));
    let (made, rev) = commit(&old, &command, "again-world");
    assert_eq!(stdout(&made, "cat /world"), "old mine\n/etc\n");
    let moved = again(&rev, &new, Reuse::Auto);
    assert_eq!(stdout(&moved, "cat /world"), "new mine\n/tmp\n");
    assert_eq!(moved.config().env.last().unwrap(), "OWN=mine");
    assert_eq!(moved.config().env.len(), new.config().env.len() + 1);
}

#[test]
fn what_was_not_kept_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let bound = Command::shell("cat /bound/f > /lack-bound").mount(Mount::bind(dir.path(), "/bound"));
    let (made, rev) = commit(&base(), &bound, "again-lack");
    assert_eq!(again(&rev, &base(), Reuse::Auto), made, "what is remembered needs nothing");
    let error = engine().run_again(&rev, &base(), Reuse::Never).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("mounted at /bound is not kept"), "{error}");
    let error = engine().run_again(&base().id().to_string(), &base(), Reuse::Auto).unwrap_err();
    assert!(error.to_string().contains("no command made commit"), "{error}");
}

#[test]
fn a_command_is_read_from_its_commit_when_the_index_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let open = || super::open(dir.path());
    let engine = open();
    std::fs::write(dir.path().join("brought"), "brought\n").unwrap();
    let base =
        engine.import(&treebox::ImportSource::parse("host:sh,cat,env,touch").unwrap(), None).unwrap().state;
    let (base_id, made) = {
        let command = Command::new("sh").args(["-c", "cat /brought > /kept; env >> /kept"]);
        let command = command.copy(dir.path().join("brought"), "/brought").env("A", "1").keep_env(true);
        let made = base.run(&command).unwrap().state().clone();
        engine.create_branch("kept", &made, false).unwrap();
        (base.id(), made.id())
    };
    drop((base, engine));
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("store/index.db{suffix}")));
    }
    let engine = open();
    let base = engine.state(base_id).unwrap();
    let outcome = engine.run_again("kept", &base, Reuse::Never).unwrap();
    assert!(!outcome.reused && outcome.success());
    assert_eq!(
        engine
            .diff(&engine.state(made).unwrap(), outcome.state(), &[])
            .unwrap()
            .iter()
            .filter(|change| {
                let (old, new) = (change.old.as_ref().unwrap(), change.new.as_ref().unwrap());
                old.node != new.node
            })
            .count(),
        0
    );
    assert_eq!(outcome.state().config(), engine.state(made).unwrap().config());
}
