//! `why`: what of the key made a command run again.

use serde_json::Value;

use crate::support::{TestEnv, masked};

/// The parts that differ of the state that a run made.
fn parts(env: &TestEnv, ran: &Value) -> Vec<String> {
    let why = env.json(&["why", ran["state"].as_str().unwrap()]);
    let parts = why["differences"].as_array().unwrap().iter();
    parts.map(|part| part["part"].as_str().unwrap().to_owned()).collect()
}

fn answer(env: &TestEnv, rev: &str) -> String {
    env.json(&["why", rev])["answer"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_run_of_a_command_has_nothing_before_it() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /one"]);
    insta::assert_snapshot!(masked(&env.ok(&["why"])), @"
[ID] echo 1 > /one
ran because no older run of this command is remembered
");
    assert_eq!(answer(&env, "main"), "first");
    assert!(env.fails(125, &["why", "host"]).contains("no run that is known here made `host`"));
}

#[test]
fn the_parents_files_that_differ_are_named() {
    let env = TestEnv::on_main();
    let command = "cat /in* > /out";
    env.ok(&["run", "-q", "-c", "echo 1 > /in"]);
    env.ok(&["run", "-q", "-c", command]);
    env.ok(&["run", "-q", "-c", "echo 2 > /in; rm /out; seq 20 | while read n; do echo > /in$n; done"]);
    env.ok(&["run", "-q", "-c", command]);
    insta::assert_snapshot!(masked(&env.ok(&["why"])), @"
[ID] cat /in* > /out
ran because it differs from [ID] of [DATE], the only remembered run of this command
parent's files: 21 paths differ
  M /in
  A /in1
  A /in10
  A /in11
  A /in12
  A /in13
  A /in14
  A /in15
  A /in16
  A /in17
  … and 11 more (-v)
");
    assert_eq!(
        env.ok(&["why", "-v"]).lines().filter(|line| line.starts_with("  ") && line.contains(" /in")).count(),
        21
    );
    let why = env.json(&["why"]);
    assert_eq!((&why["answer"], &why["compared"]), (&"differs".into(), &1.into()));
    let part = &why["differences"][0];
    assert_eq!(
        (&part["part"], &part["total"], part.get("values")),
        (&"parent_tree".into(), &21.into(), None)
    );
    assert_eq!((&part["paths"][0]["status"], &part["paths"][0]["path"]), (&"M".into(), &"/in".into()));
    insta::assert_snapshot!(env.transcript(&[&["why", "main~1", "--json"], &["why", "--json"]]), @r#"
    $ treebox why main~1 --json
    {"answer":"first","command":"echo 2 > /in; rm /out; seq 20 | while read n; do echo > /in$n; done","commit":"[ID]","differences":[],"exit_code":0,"key":"[ID]","parent":"[ID]","started":"[DATE]","state":"[ID]"}
    $ treebox why --json
    {"answer":"differs","command":"cat /in* > /out","commit":"[ID]","compared":1,"differences":[{"part":"parent_tree","paths":[{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in","size":2,"status":"M","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in1","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in10","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in11","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in12","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in13","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in14","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in15","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in16","size":1,"status":"A","uid":0},{"gid":0,"kind":"file","mode":"0644","mtime":"[DATE]","path":"/in17","size":1,"status":"A","uid":0}],"total":21}],"exit_code":0,"key":"[ID]","nearest":{"command":"cat /in* > /out","commit":"[ID]","exit_code":0,"key":"[ID]","parent":"[ID]","started":"[DATE]","state":"[ID]"},"parent":"[ID]","started":"[DATE]","state":"[ID]"}
    "#);
    assert_eq!(why["nearest"]["commit"], env.json(&["show", "main~2"])["commit"]);
}

#[test]
fn every_part_of_the_key_is_told_with_its_values() {
    let env = TestEnv::on_main();
    env.file("in", "one");
    let run = |more: &[&str]| {
        let args = [&["run", "--from", "host"], more, &["-c", "echo > /made"]].concat();
        let ran = env.json(&args);
        assert_eq!((&ran["exit_code"], &ran["reused"]), (&0.into(), &false.into()), "{more:?}: {ran}");
        ran
    };
    run(&["-e", "A=1", "--copy", "in:/in"]);
    for (options, part) in [
        (&["-e", "A=2", "--copy", "in:/in"][..], "env"),
        (&["-e", "A=1", "--copy", "in:/in", "-w", "/tmp"], "workdir"),
        (&["-e", "A=1", "--copy", "in:/in", "--hostname", "other"], "hostname"),
        (&["-e", "A=1", "--copy", "in:/in", "--epoch", "5"], "epoch"),
        (&["-e", "A=1", "--copy", "in:/in", "--allow", "keyring"], "allow"),
        (&["-e", "A=1", "--copy", "in:/in", "--tmpfs", "/var"], "mounts"),
        (&["-e", "A=1", "--copy", "in:/in", "--keep-env"], "keep"),
        (&["-e", "A=1"], "copied"),
    ] {
        assert_eq!(parts(&env, &run(options)), [part], "{options:?}");
    }
    env.file("in", "two");
    let ran = run(&["-e", "A=1", "-e", "B=x y", "--copy", "in:/in"]);
    assert_eq!(parts(&env, &ran), ["env", "copied"]);
    let text = env.ok(&["why", ran["state"].as_str().unwrap()]);
    assert!(text.contains("\nenvironment:\n  B: (none) -> \"x y\"\n"), "{text}");
    assert!(text.contains("\ncopied files:\n  /in: (none) -> \"file "), "{text}");
}

#[test]
fn the_nearest_is_the_one_with_the_fewest_differences_then_the_smallest_then_the_newest() {
    let env = TestEnv::on_main();
    let made = |from: &str, more: &[&str]| {
        let args = [&["run", "--from", from], more, &["-c", "echo > /made"]].concat();
        env.json(&args)["state"].as_str().unwrap().to_owned()
    };
    let two = env.step("host", "echo > /x; echo > /y");
    let one = env.step("host", "echo > /x");
    let near = made(&one, &[]);
    made(&two, &[]);
    made(&one, &["-e", "A=1", "-w", "/tmp"]);
    let asked = made("host", &[]);
    let why = env.json(&["why", &asked]);
    assert_eq!((&why["nearest"]["state"], &why["compared"]), (&near.into(), &3.into()));
}

#[test]
fn where_nothing_differs_the_rule_is_told() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "od -An -N8 /dev/urandom > /r"]);
    let again = env.json(&["run", "--from", "main~1", "--fresh", "-c", "od -An -N8 /dev/urandom > /r"]);
    let state = again["state"].as_str().unwrap().to_owned();
    assert_ne!(env.json(&["status"])["state"], state.as_str(), "two random numbers alike");
    assert_eq!(answer(&env, &state), "fresh");
    assert!(env.ok(&["why", &state]).contains("this one was to run in any case (--fresh)"));

    let typed = env.run_with_input(&["run", "--json", "-i", "--from", "host", "-c", "cat > /typed"], b"x");
    let typed: Value = serde_json::from_slice(&typed.stdout).unwrap();
    assert_eq!(answer(&env, typed["state"].as_str().unwrap()), "unkeyed");
}

#[test]
fn failures_are_not_used_again_and_why_says_so() {
    let env = TestEnv::on_main();
    let failed = env.json(&["run", "-c", "echo x > /x; exit 3"]);
    let again = env.json(&["run", "-c", "echo x > /x; exit 3"]);
    assert_eq!((&failed["exit_code"], &again["reused"]), (&3.into(), &false.into()));
    assert_eq!(answer(&env, again["state"].as_str().unwrap()), "failed");
}
