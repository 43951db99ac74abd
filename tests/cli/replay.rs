//! The commands of a branch, run again on another base or with changes.

use crate::support::{Ran, TestEnv, masked};

/// `new`, which goes on from `old`, and `main` on the old one with a run, a copied file and a run.
fn work() -> TestEnv {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo old > /version"]);
    env.ok(&["branch", "old"]);
    env.ok(&["run", "-q", "--from", "old", "--branch", "new", "-c", "echo new > /version"]);
    env.ok(&["run", "-q", "-c", "cat /version > /a"]);
    env.file("brought", "brought\n");
    env.ok(&["cp", "-q", "brought", ":/b"]);
    env.ok(&["run", "-q", "-e", "WORD=c", "-c", "cat /a /b > /$WORD"]);
    env
}

fn told(ran: &Ran) -> String {
    format!("{} {}{}", ran.code, masked(&ran.text()), masked(&ran.stderr))
}

fn commit(env: &TestEnv, rev: &str) -> String {
    env.json(&["log", "-n", "1", rev])["commit"].as_str().unwrap().to_owned()
}

fn commands(env: &TestEnv, rev: &str) -> Vec<String> {
    let log = env.json_lines(&["log", rev]);
    log.iter().rev().map(|commit| commit["command"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_branch_is_run_again_on_another_base() {
    let env = work();
    let before = commit(&env, "main");
    insta::assert_snapshot!(told(&env.run(&["replay", "--onto", "new", "--plan"])), @r"
    0   1  run       runs     [ID]  cat /version > /a
      2  change    merges   [ID]  cp brought /b
      3  run       depends  [ID]  cat /a /b > /$WORD
    treebox: main on [ID]
    ");
    assert_eq!(commit(&env, "main"), before, "a plan moves nothing");
    insta::assert_snapshot!(told(&env.run(&["replay", "--onto", "new"])), @r"
    0   1  ran       [TIME]  [ID]  (+1 ~0 -0)  cat /version > /a
      2  applied   [TIME]  [ID]  (+1 ~0 -0)  cp brought /b
      3  ran       [TIME]  [ID]  (+1 ~0 -0)  cat /a /b > /$WORD
    treebox: main [ID]
    ");
    assert_eq!(env.ok(&["cat", ":/c"]), "new\nbrought\n");
    assert_eq!(
        commands(&env, "main")[2..],
        ["echo new > /version", "cat /version > /a", "cp brought /b", "cat /a /b > /$WORD"]
    );
    assert!(env.ok(&["reflog", "main"]).contains("replay: onto new"));
    let (after, tip) = (commit(&env, "main"), env.json(&["status"])["branch"].clone());
    assert_eq!(tip, "main", "HEAD follows");
    env.ok(&["undo"]);
    assert_eq!(commit(&env, "main"), before, "a replay is one operation");
    let lines = env.json_lines(&["replay", "main", "--onto", "new"]);
    let how: Vec<_> = lines.iter().filter_map(|line| line["how"].as_str()).collect();
    assert_eq!(how, ["reused", "applied", "reused"], "nothing runs twice");
    assert_eq!((lines.len(), lines[3]["commit"].as_str()), (4, Some(after.as_str())));
    assert_eq!(lines[3]["was"].as_str(), Some(before.as_str()));
}

#[test]
fn on_the_same_base_nothing_changes() {
    let env = work();
    let before = commit(&env, "main");
    insta::assert_snapshot!(told(&env.run(&["replay", "--onto", "old"])), @r"
    0   1  reused    [TIME]  [ID]  (+1 ~0 -0)  cat /version > /a
      2  applied   [TIME]  [ID]  (+1 ~0 -0)  cp brought /b
      3  reused    [TIME]  [ID]  (+1 ~0 -0)  cat /a /b > /$WORD
    treebox: main [ID] as before
    ");
    assert_eq!(commit(&env, "main"), before);
    env.ok(&["replay", "old", "--onto", "main"]);
    assert_eq!(commit(&env, "old"), before, "a branch without steps of its own moves on");
}

#[test]
fn a_replay_stops_at_a_step_that_fails_and_goes_on_as_it_is_told() {
    let env = work();
    env.ok(&["run", "-q", "-c", "echo tried > /tried; grep -q old /version && echo d > /d"]);
    env.ok(&["run", "-q", "-c", "echo e > /e"]);
    let before = commit(&env, "main");
    assert!(env.fails(125, &["replay", "--continue"]).contains("no replay is under way"));
    assert_eq!(env.run(&["replay", "--status"]).code, 1);
    let ran = env.run(&["replay", "--onto", "new"]);
    insta::assert_snapshot!(told(&ran), @r"
    1   1  ran       [TIME]  [ID]  (+1 ~0 -0)  cat /version > /a
      2  applied   [TIME]  [ID]  (+1 ~0 -0)  cp brought /b
      3  ran       [TIME]  [ID]  (+1 ~0 -0)  cat /a /b > /$WORD
    treebox: step 4 failed: echo tried > /tried; grep -q old /version && echo d > /d: exit 1; what it left is [ID]
    treebox: main has not moved; go on with `treebox replay --continue` or `--skip`, or give up with `--abort`
    ");
    assert_eq!(commit(&env, "main"), before);
    insta::assert_snapshot!(told(&env.run(&["replay", "--status"])), @r"
    0   1  run       done     [ID]  cat /version > /a
      2  change    done     [ID]  cp brought /b
      3  run       done     [ID]  cat /a /b > /$WORD
      4  run       failed   [ID]  echo tried > /tried; grep -q old /version && echo d > /d
      5  run       to do    [ID]  echo e > /e
    treebox: main on [ID] is now at [ID] (failed: exit 1; what it left is [ID])
    ");
    let status = env.json(&["replay", "--status"]);
    assert_eq!((&status["done"], &status["running"]), (&3.into(), &false.into()));
    let left = status["failed_state"].as_str().unwrap();
    assert_eq!(env.ok(&["cat", &format!("{left}:/tried")]), "tried\n", "what it left can be looked at");
    assert_eq!(env.ok(&["cat", &format!("{}:/c", status["state"].as_str().unwrap())]), "new\nbrought\n");
    let refused = env.fails(125, &["replay", "old", "--onto", "new"]);
    assert!(refused.contains("a replay of main is not finished"), "{refused}");
    let lines = env.json_lines(&["replay", "--continue"]);
    assert_eq!((lines.len(), &lines[0]["how"], &lines[0]["exit_code"]), (1, &"failed".into(), &1.into()));
    let ran = env.run(&["replay", "--skip"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(env.ok(&["cat", ":/e", ":/a"]), "e\nnew\n");
    assert_eq!(commands(&env, "main").len(), 7);
    assert_eq!(env.run(&["replay", "--status"]).code, 1);
    env.ok(&["reset", "-q", &before]);
    assert_eq!(env.run(&["replay", "--onto", "new"]).code, 1);
    assert_eq!(env.json(&["replay", "--abort"])["branch"], "main");
    assert_eq!(commit(&env, "main"), before);
    env.fails(125, &["replay", "--abort"]);
    env.fails(2, &["replay", "--abort", "--onto", "new"]);
}

#[test]
fn a_branch_that_moved_meanwhile_is_left_alone() {
    let env = work();
    env.ok(&["run", "-q", "-c", "grep -q old /version && echo d > /d"]);
    assert_eq!(env.run(&["replay", "--onto", "new"]).code, 1);
    env.ok(&["run", "-q", "-c", "echo more > /more"]);
    let moved = commit(&env, "main");
    let ran = env.run(&["replay", "--skip"]);
    assert_eq!(ran.code, 125);
    assert!(ran.stderr.contains("the branch moved while it was replayed"), "{}", ran.stderr);
    assert_eq!(commit(&env, "main"), moved);
    let result = ran.stderr.split("commit ").nth(1).unwrap().split(';').next().unwrap();
    assert_eq!(env.ok(&["cat", &format!("{result}:/c")]), "new\nbrought\n", "the result has a name");
    env.ok(&["replay", "--abort"]);
}

#[test]
fn steps_in_the_middle_are_changed_dropped_and_added() {
    let env = work();
    let before = commit(&env, "main");
    let plan = env.ok(&["replay", "--plan"]);
    assert_eq!(plan.lines().count(), 4, "all steps of the branch: {plan}");
    let second = commit(&env, "main~2");
    let change = [
        "replay",
        "--edit",
        &second,
        "echo $WORD other > /a",
        "--drop",
        "3",
        "--insert",
        "4",
        "echo i > /i",
        "--insert",
        "5",
        "echo last > /l",
    ];
    let plan = env.json_lines(&[&change[..], &["--plan"]].concat());
    let kinds: Vec<_> =
        plan.iter().map(|step| (step["step"].as_u64().unwrap(), step["kind"].as_str().unwrap())).collect();
    assert_eq!(kinds, [(2, "edited"), (3, "dropped"), (4, "inserted"), (4, "run"), (5, "inserted")]);
    let ran = env.run(&change);
    assert_eq!(ran.code, 1, "the file that was copied is missing");
    assert!(ran.stderr.contains("step 4 failed"), "{}", ran.stderr);
    env.ok(&["replay", "--abort"]);
    env.ok(&[
        "replay",
        "--edit",
        "2",
        "echo other > /a",
        "--insert",
        "4",
        "echo i > /i",
        "--insert",
        "5",
        "echo last > /l",
    ]);
    assert_eq!(env.ok(&["cat", ":/a", ":/c", ":/i", ":/l"]), "other\nother\nbrought\ni\nlast\n");
    assert_eq!(
        commands(&env, "main")[2..],
        ["echo other > /a", "cp brought /b", "echo i > /i", "cat /a /b > /$WORD", "echo last > /l"]
    );
    env.ok(&["reset", "-q", &before]);
    env.ok(&["replay", "--edit", "4", "echo $WORD > /w"]);
    assert_eq!(env.ok(&["cat", ":/w"]), "c\n", "what it was given stays");
    env.ok(&["reset", "-q", &before]);
    env.ok(&["replay", "--drop", "main"]);
    assert_eq!(commit(&env, "main"), commit(&env, &format!("{before}~1")));
    for (wrong, why) in [
        (&["replay"][..], "give --onto REV"),
        (&["replay", "--drop", "9"], "`treebox replay --plan` lists them"),
        (&["replay", "--edit", "3", "x"], "ran no command that could be changed"),
        (&["replay", "--drop", "2", "--edit", "2", "x"], "changed twice"),
        (&["replay", "nothing", "--onto", "new"], "no branch is called"),
    ] {
        let line = env.fails(125, wrong);
        assert!(line.contains(why), "{wrong:?}: {line}");
    }
}

#[test]
fn a_change_that_does_not_join_stops_a_replay_and_can_be_settled() {
    let env = work();
    env.ok(&["cp", "-q", "brought", "new:/b"]);
    env.file("brought", "other\n");
    env.ok(&["cp", "-q", "brought", "new:/b"]);
    let ran = env.run(&["replay", "--onto", "new"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(masked(ran.text().lines().nth(1).unwrap()), @"add-add  /b  base -  ours file 0644 0:0 6 B [ID]  theirs file 0644 0:0 8 B [ID]");
    assert!(ran.stderr.contains("step 2 failed: cp brought /b: 1 conflict\n"), "{}", ran.stderr);
    env.ok(&["replay", "--continue", "--theirs"]);
    assert_eq!(env.ok(&["cat", ":/c"]), "new\nbrought\n");
}

#[test]
fn a_merge_is_one_step_and_keeps_its_other_parent() {
    let env = work();
    env.ok(&["run", "-q", "--from", "old", "--branch", "side", "-c", "echo side > /side"]);
    env.ok(&["merge", "-q", "side"]);
    env.ok(&["replay", "--onto", "new"]);
    let log = env.json_lines(&["log", "-n", "1"]).remove(0);
    assert_eq!(log["command"], "merge side");
    assert_eq!(log["parents"][1].as_str(), Some(commit(&env, "side").as_str()));
    assert_eq!(env.ok(&["cat", ":/side", ":/a"]), "side\nnew\n");
    assert!(env.run(&["merge", "side"]).stderr.contains("already has it"));
}

#[test]
fn a_commit_is_picked_onto_head() {
    let env = work();
    env.ok(&["switch", "-q", "new"]);
    insta::assert_snapshot!(told(&env.run(&["cherry-pick", "main~2"])), @"0 treebox: new [ID] (+1 ~0 -0) ran");
    assert_eq!(env.ok(&["cat", ":/a"]), "new\n");
    let json = env.json(&["cherry-pick", "main~1"]);
    assert_eq!(
        (&json["how"], &json["branch"], &json["changes"]["added"]),
        (&"applied".into(), &"new".into(), &1.into())
    );
    assert_eq!(env.ok(&["cat", ":/b"]), "brought\n");
    assert!(env.ok(&["reflog"]).contains("cherry-pick: cp brought /b"));
    insta::assert_snapshot!(told(&env.run(&["cherry-pick", "main~1"])), @"0 treebox: new [ID] unchanged applied");
    env.ok(&["run", "-q", "--from", "host", "--branch", "fails", "-c", "test ! -e /b && echo x > /x"]);
    let before = commit(&env, "new");
    let ran = env.run(&["cherry-pick", "fails"]);
    assert_eq!((ran.code, ran.text().as_str()), (1, ""));
    assert!(ran.stderr.contains("step 1 failed: test ! -e /b && echo x > /x: exit 1"), "{}", ran.stderr);
    assert_eq!(commit(&env, "new"), before);
    env.ok(&["checkout", "-q", "new"]);
    env.ok(&["checkout", "-q", &before]);
    env.ok(&["cherry-pick", "main"]);
    assert_eq!((commit(&env, "new"), env.ok(&["cat", ":/c"])), (before, "new\nbrought\n".to_owned()));
}

#[test]
fn a_base_without_a_common_commit_takes_all_steps() {
    let env = work();
    env.ok(&["import", "-q", "host:sh,cat,grep", "--name", "other"]);
    let lines = env.json_lines(&["replay", "--onto", "other"]);
    assert_eq!(lines.len(), 5, "four steps and the result: {lines:?}");
    assert_eq!(env.ok(&["cat", ":/c"]), "old\nbrought\n");
    assert_eq!(commands(&env, "main")[0], "import other:latest");
}

#[test]
fn what_came_through_a_pipe_cannot_be_run_again_and_says_so() {
    let env = work();
    assert_eq!(env.run_with_input(&["run", "-q", "-i", "-c", "cat > /piped"], b"typed").code, 0);
    let ran = env.run(&["replay", "--onto", "new"]);
    assert_eq!(ran.code, 1);
    let why =
        "step 4 failed: cat > /piped: cannot run `cat > /piped` again: what it read from a pipe or terminal";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    env.ok(&["replay", "--abort"]);
    env.ok(&["replay", "--onto", "new", "--edit", "4", "echo typed > /piped"]);
    assert_eq!(env.ok(&["cat", ":/piped"]), "typed\n");
}

#[test]
fn a_replay_that_was_killed_goes_on_where_it_was() {
    let env = work();
    env.ok(&["run", "-q", "-c", "test -e /quick || grep -q old /version || sleep 60; echo s > /s"]);
    let mut killed = env.command(&["replay", "--onto", "new"]);
    let mut killed =
        killed.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(killed.stdout.take().unwrap()));
    for _ in 0..3 {
        lines.next().unwrap().unwrap();
    }
    let refused = env.fails(125, &["replay", "--abort"]);
    assert!(refused.contains("another process is at a replay"), "{refused}");
    assert_eq!(env.json(&["replay", "--status"])["running"], true);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let status = env.json(&["replay", "--status"]);
    assert_eq!(
        (&status["done"], &status["failed"], &status["running"]),
        (&3.into(), &serde_json::Value::Null, &false.into())
    );
    let refused = env.fails(125, &["replay", "--skip"]);
    assert!(refused.contains("no step has failed"), "{refused}");
    env.ok(&["replay", "--abort"]);
    // What it ran is remembered, so beginning anew costs nothing.
    let lines = env.json_lines(&["replay", "--onto", "new", "--insert", "4", "touch /quick"]);
    let how: Vec<_> = lines.iter().filter_map(|line| line["how"].as_str()).collect();
    assert_eq!(how, ["reused", "applied", "reused", "ran", "ran"]);
    assert_eq!(env.ok(&["cat", ":/s"]), "s\n");
}

#[test]
fn a_step_whose_failure_was_kept_may_fail_again_in_the_same_way() {
    let env = work();
    env.ok(&["branch", "-q", "kept", "old"]);
    assert_eq!(
        env.run(&["run", "-q", "--branch", "kept", "--keep-failed", "-c", "echo x > /x; exit 3"]).code,
        3
    );
    env.ok(&["replay", "kept", "--onto", "new"]);
    assert_eq!(env.ok(&["cat", "kept:/x", "kept:/version"]), "x\nnew\n");
}
