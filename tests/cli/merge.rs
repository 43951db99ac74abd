//! Joining two lines of history.

use crate::support::{Ran, TestEnv, masked};

/// A small file system of the test's own, without programs, as branch `main`.
fn small() -> TestEnv {
    let env = TestEnv::empty();
    env.file("root/etc/hosts", "one\ntwo\nthree\nfour\nfive\n");
    env.file("root/etc/motd", "hello\n");
    env.ok(&["import", "-q", "dir:root", "--name", "small"]);
    env.ok(&["switch", "-q", "-c", "main", "small"]);
    env
}

fn write(env: &TestEnv, branch: &str, path: &str, text: &str) {
    let file = env.file("brought", text);
    // Times of their own would make commits differ from run to run.
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).unwrap();
    env.ok(&["cp", "brought", &format!("{branch}:{path}")]);
}

fn head(env: &TestEnv) -> String {
    env.json(&["status"])["commit"].as_str().unwrap().to_owned()
}

fn told(ran: &Ran) -> String {
    format!("{} {}{}", ran.code, masked(&ran.text()), masked(&ran.stderr))
}

#[test]
fn changes_of_two_branches_join_in_a_commit_with_two_parents() {
    let env = small();
    env.ok(&["branch", "other"]);
    write(&env, "main", "/etc/hosts", "ONE\ntwo\nthree\nfour\nfive\n");
    write(&env, "other", "/etc/hosts", "one\ntwo\nthree\nfour\nFIVE\n");
    write(&env, "other", "/etc/new", "new\n");
    let (ours, theirs) = (head(&env), env.json(&["log", "-n", "1", "other"])["commit"].clone());
    insta::assert_snapshot!(told(&env.run(&["merge", "other"])), @"0 treebox: main [ID] (+1 ~1 -0) merged");
    assert_eq!(env.ok(&["cat", ":/etc/hosts"]), "ONE\ntwo\nthree\nfour\nFIVE\n");
    assert_eq!(env.ok(&["cat", ":/etc/new"]), "new\n");
    let merged = head(&env);
    let log = env.json_lines(&["log", "-n", "1"]).remove(0);
    assert_eq!(log["parents"], serde_json::json!([ours, theirs]));
    assert_eq!((&log["command"], &log["changes"]["added"]), (&"merge other".into(), &1.into()));
    let graph = std::process::Command::new("git")
        .args(["--git-dir"])
        .arg(env.store().join("history.git"))
        .args(["log", "--graph", "--format=%s"])
        .output()
        .unwrap();
    let graph = String::from_utf8(graph.stdout).unwrap();
    let graph: Vec<_> = graph.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(graph.join("\n"), @r"
    *   merge other
    |\
    | * cp brought /etc/new
    | * cp brought /etc/hosts
    * | cp brought /etc/hosts
    |/
    * import small:latest
    ");
    assert!(env.ok(&["reflog"]).contains("merge other: Merge made"));
    env.ok(&["undo"]);
    assert_eq!(head(&env), ours, "a merge is one operation");
    let json = env.json(&["merge", "other"]);
    assert_eq!(json["commit"].as_str(), Some(merged.as_str()), "the same merge is the same commit");
    assert_eq!((&json["how"], &json["branch"]), (&"merged".into(), &"main".into()));
    insta::assert_snapshot!(told(&env.run(&["merge", "other"])), @"0 treebox: main [ID] already has it");
}

#[test]
fn what_does_not_join_is_listed_and_nothing_moves() {
    let env = small();
    env.ok(&["branch", "other"]);
    write(&env, "main", "/etc/motd", "ours\n");
    write(&env, "main", "/etc/x", "mine\n");
    write(&env, "other", "/etc/motd", "theirs\n");
    write(&env, "other", "/etc/x", "yours\n");
    write(&env, "other", "/etc/y", "more\n");
    let before = head(&env);
    insta::assert_snapshot!(told(&env.run(&["merge", "other"])), @r"
    1 both-modified  /etc/motd  base file 0644 0:0 6 B [ID]  ours file 0644 0:0 5 B [ID]  theirs file 0644 0:0 7 B [ID]
    add-add  /etc/x  base -  ours file 0644 0:0 5 B [ID]  theirs file 0644 0:0 6 B [ID]
    treebox: 2 conflicts: nothing moved; settle with --ours or --theirs, for all or for the paths that follow it
    ");
    let lines = env.json_lines(&["merge", "other"]);
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["conflict"], &lines[0]["path"]), (&"both-modified".into(), &"/etc/motd".into()));
    assert_eq!((&lines[1]["base"], &lines[1]["theirs"]["size"]), (&serde_json::Value::Null, &6.into()));
    assert_eq!(lines[0]["ours"]["blob"].as_str().map(str::len), Some(64));
    assert_eq!(env.run(&["merge", "other", "--theirs", "/etc/motd"]).code, 1, "one is still open");
    assert_eq!(head(&env), before);
    env.ok(&["merge", "other", "--theirs", "/etc/motd", "--ours", "/etc/x"]);
    let cat = |path: &str| env.ok(&["cat", &format!(":{path}")]);
    assert_eq!(
        (cat("/etc/motd"), cat("/etc/x"), cat("/etc/y")),
        ("theirs\n".into(), "mine\n".into(), "more\n".into())
    );
    env.ok(&["reset", &before]);
    env.ok(&["merge", "other", "--ours", "--theirs", "/etc/x", "-m", "as it was said"]);
    assert_eq!(
        (cat("/etc/motd"), cat("/etc/x"), cat("/etc/y")),
        ("ours\n".into(), "yours\n".into(), "more\n".into())
    );
    assert_eq!(env.json_lines(&["log", "-n", "1"])[0]["command"], "as it was said");
    let usage = env.fails(2, &["merge", "other", "--ours", "etc"]);
    assert!(usage.contains("paths begin with /"), "{usage}");
    env.fails(2, &["merge", "other", "--ours", "--theirs"]);
}

#[test]
fn a_branch_that_is_behind_moves_on() {
    let env = small();
    env.ok(&["branch", "other"]);
    write(&env, "other", "/etc/new", "new\n");
    let theirs = env.json(&["log", "-n", "1", "other"])["commit"].as_str().unwrap().to_owned();
    let before = head(&env);
    insta::assert_snapshot!(told(&env.run(&["merge", "other"])), @"0 treebox: main [ID] (+1 ~0 -0) fast-forward");
    assert_eq!(head(&env), theirs);
    env.ok(&["reset", &before]);
    env.ok(&["merge", "--no-ff", "other"]);
    assert_eq!(env.json_lines(&["log", "-n", "1"])[0]["parents"], serde_json::json!([before, theirs]));
    env.ok(&["reset", &before]);
    env.ok(&["checkout", &before]);
    let json = env.json(&["merge", "other", "--ff-only"]);
    assert_eq!((&json["how"], &json["branch"]), (&"fast-forward".into(), &serde_json::Value::Null));
    assert_eq!(head(&env), theirs, "a detached HEAD moves too");
    env.ok(&["checkout", &before]);
    write(&env, "main", "/etc/own", "own\n");
    env.ok(&["switch", "main"]);
    let refused = env.fails(125, &["merge", "--ff-only", "other"]);
    assert!(refused.contains("both sides have commits of their own"), "{refused}");
}

#[test]
fn what_has_no_common_commit_is_merged_only_when_told_to() {
    let env = small();
    env.file("second/etc/motd", "hello\n");
    env.file("second/srv/x", "x\n");
    env.ok(&["import", "-q", "dir:second", "--name", "second"]);
    let refused = env.fails(125, &["merge", "second"]);
    assert!(refused.contains("--allow-unrelated-histories"), "{refused}");
    env.ok(&["merge", "second", "--allow-unrelated-histories"]);
    assert_eq!(env.ok(&["cat", ":/srv/x"]), "x\n");
    assert_eq!(env.ok(&["cat", ":/etc/hosts"]).lines().count(), 5);
}

#[test]
fn after_merges_both_ways_the_base_is_their_merge() {
    let env = small();
    let text = |a: &str, b: &str| format!("{a}\ntwo\nthree\nfour\n{b}\n");
    env.ok(&["branch", "other"]);
    write(&env, "main", "/etc/hosts", &text("1", "five"));
    write(&env, "other", "/etc/hosts", &text("one", "5"));
    env.ok(&["tag", "left"]);
    env.ok(&["tag", "right", "other"]);
    env.ok(&["merge", "right"]);
    env.ok(&["switch", "other"]);
    env.ok(&["merge", "left"]);
    // Each side now takes one change back. Against either of the two bases alone one of them would be no change.
    write(&env, "main", "/etc/hosts", &text("one", "5"));
    write(&env, "other", "/etc/hosts", &text("1", "five"));
    env.ok(&["merge", "main"]);
    assert_eq!(env.ok(&["cat", ":/etc/hosts"]), text("one", "five"));
}

#[test]
fn settings_merge_by_key_and_results_on_a_merge_are_remembered() {
    let env = TestEnv::on_main();
    env.ok(&["branch", "other"]);
    env.ok(&["run", "-e", "A=1", "--keep-env", "-c", "echo a > /a"]);
    env.ok(&["run", "--branch", "other", "-e", "B=2", "--keep-env", "-c", "echo b > /b"]);
    let before = head(&env);
    env.ok(&["merge", "other"]);
    assert_eq!(env.ok(&["run", "--disposable", "-c", "echo $A $B; cat /a /b"]), "1 2\na\nb\n");
    env.ok(&["run", "-c", "cat /a /b > /both"]);
    env.ok(&["reset", &before]);
    env.ok(&["merge", "other"]);
    assert_eq!(env.json(&["run", "-c", "cat /a /b > /both"])["reused"], true);
    env.ok(&["reset", &before]);
    env.ok(&["run", "--branch", "other", "-e", "A=3", "--keep-env", "-c", "echo c > /c"]);
    let ran = env.run(&["merge", "other"]);
    assert_eq!((ran.code, ran.text()), (1, "config  env A  base -  ours \"1\"  theirs \"3\"\n".to_owned()));
    assert_eq!(env.json(&["merge", "other"])["setting"], "env A");
    env.ok(&["merge", "other", "--theirs"]);
    assert_eq!(env.ok(&["run", "--disposable", "-c", "echo $A $B"]), "3 2\n");
}
