//! `treebox bisect`.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{TestEnv, masked, nap, sleepers, wait_for_sleepers};

/// A branch `main` of that many steps; each adds its number as a line to `/log`, and from the culprit on `/broken` is there.
fn steps(env: &TestEnv, count: usize, culprit: usize) {
    for number in 1..=count {
        let broken = if number == culprit { "; touch /broken" } else { "" };
        env.ok(&["run", "-q", "-c", &format!("echo {number} >> /log{broken}")]);
    }
}

fn git(env: &TestEnv, args: &[&str]) -> String {
    let mut command = Command::new("git");
    env.isolate(&mut command);
    command.arg("--git-dir").arg(env.store().join("history.git")).args(args);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@a");
        command.env(format!("GIT_{who}_DATE"), "4000000000 +0000");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_first_bad_commit_is_found_in_log2_steps_and_shown() {
    let env = TestEnv::on_main();
    steps(&env, 8, 6);
    let before = (env.ok(&["branch", "--json"]), env.ok(&["reflog"]));
    let ran = env.run(&["bisect", "--good", "host", "--bad", "main", "-c", "! test -e /broken"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(masked(&ran.stderr), @r#"
    treebox: good [ID] import host:latest; 8 left, about 3 steps
    treebox: bad (exit 1) [ID] echo 8 >> /log; 8 left, about 3 steps
    treebox: good [ID] echo 4 >> /log; 4 left, about 2 steps
    treebox: bad (exit 1) [ID] echo 6 >> /log; touch /broken; 2 left, about 1 step
    treebox: good [ID] echo 5 >> /log; 1 left
    treebox: [ID] is the first bad commit
    "#);
    let text = masked(&ran.text());
    // What else is known of a commit is for `show` to test.
    let told: Vec<_> = text.lines().filter(|line| line.starts_with([' ', 'c'])).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    commit [ID]
        echo 6 >> /log; touch /broken
     /broken | 0
     /log    | 1 +
     2 paths changed: 1 added, 1 modified; 1 insertion(+); +2 B
    ");
    assert_eq!((env.ok(&["branch", "--json"]), env.ok(&["reflog"])), before);
}

#[test]
fn json_tells_every_step() {
    let env = TestEnv::on_main();
    steps(&env, 3, 2);
    let args = ["bisect", "--good", "host", "-e", "WORD=broken", "--", "sh", "-c", "! test -e /$WORD"];
    let found = env.json(&args);
    assert_eq!(found["result"], "found");
    assert_eq!(found["first_bad"]["command"], "echo 2 >> /log; touch /broken");
    assert_eq!(found["first_bad"]["paths"][0]["path"], "/broken");
    let told: Vec<_> = found["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            let keys = ["command", "part", "verdict", "exit_code", "known", "left", "steps_left"];
            serde_json::Value::from(keys.map(|key| step[key].clone()).to_vec()).to_string()
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    ["import host:latest","good end","good",0,false,3,2]
    ["echo 3 >> /log","bad end","bad",1,false,3,2]
    ["echo 1 >> /log","middle","good",0,false,2,1]
    ["echo 2 >> /log; touch /broken","middle","bad",1,false,1,0]
    "#);
}

#[test]
fn a_culprit_behind_a_merge_is_found_and_equal_states_are_tested_once() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo base > /base"]);
    for (branch, culprit) in [("left", 0), ("right", 3)] {
        env.ok(&["switch", "-q", "-c", branch, "main"]);
        for number in 1..=4 {
            let broken = if number == culprit { "; touch /broken" } else { "" };
            env.ok(&["run", "-q", "-c", &format!("echo {branch} > /{branch}-{number}{broken}")]);
        }
    }
    // A merge as another tool might write it: the files of one side.
    let merge = |tree: &str, parents: [&str; 2]| {
        let tree = format!("{tree}^{{tree}}");
        git(&env, &["commit-tree", &tree, "-p", parents[0], "-p", parents[1], "-m", "merge"])
    };
    let merged = merge("right", ["left", "right"]);
    let again = merge("right", [&merged, "left~1"]);
    let found = env.json(&["bisect", "--good", "main", "--bad", &again, "-c", "! test -e /broken"]);
    assert_eq!(found["first_bad"]["command"], "echo right > /right-3; touch /broken", "{found}");
    let steps = found["steps"].as_array().unwrap();
    for (at, step) in steps.iter().enumerate() {
        let seen = steps[..at].iter().any(|other| other["state"] == step["state"]);
        assert_eq!(step["known"], seen, "{step}");
    }

    // So is one behind a merge that treebox made, which has the files of both.
    env.ok(&["switch", "-q", "left"]);
    env.ok(&["merge", "-q", "right"]);
    env.ok(&["run", "-q", "-c", "echo after > /after"]);
    let joined = env.json(&["bisect", "--good", "main", "--bad", "left", "-c", "! test -e /broken"]);
    assert_eq!(joined["first_bad"]["commit"], found["first_bad"]["commit"], "{joined}");
    let joined = env.json(&[
        "bisect",
        "--good",
        "left~1^1",
        "--good",
        "right",
        "--bad",
        "left",
        "-c",
        "! test -e /left-4 || ! test -e /right-4",
    ]);
    assert_eq!(
        joined["first_bad"]["parents"].as_array().unwrap().len(),
        2,
        "it came with the merge: {joined}"
    );
    env.ok(&["switch", "-q", "main"]);
    env.ok(&["branch", "-q", "-d", "left"]);
    env.ok(&["branch", "left", &format!("{merged}^1")]);

    // What passes need not be an ancestor: where the histories parted is tested as well.
    let beside = env.json(&["bisect", "--good", "left", "--bad", "right", "-c", "! test -e /broken"]);
    assert_eq!(beside["first_bad"]["command"], "echo right > /right-3; touch /broken");
    assert!(beside["steps"].as_array().unwrap().iter().any(|step| step["part"] == "merge base"));
    let mended = env.run(&["bisect", "--good", "left", "--bad", "right", "-c", "test -e /left-1"]);
    assert_eq!(mended.code, 1);
    assert!(mended.stderr.contains("bad (exit 1) merge base"), "{}", mended.stderr);
}

#[test]
fn ends_that_are_not_what_they_were_said_to_be_are_told() {
    let env = TestEnv::on_main();
    steps(&env, 2, 1);
    let told = |args: &[&str]| {
        let ran = env.run(&[&["bisect"], args].concat());
        assert_eq!(ran.text(), "");
        (ran.code, masked(ran.stderr.lines().last().unwrap()))
    };
    let (code, line) = told(&["--good", "host", "-c", "true"]);
    assert_eq!((code, line.as_str()), (1, "treebox: [ID] does not fail: exit 0"));
    let (code, line) = told(&["--good", "main~1", "-c", "! test -e /broken"]);
    assert_eq!((code, line.as_str()), (1, "treebox: [ID] does not pass: exit 1"));
    let (code, line) = told(&["--good", "main", "--bad", "main~1", "-c", "true"]);
    assert_eq!(
        (code, line.as_str()),
        (1, "treebox: nothing lies between: what is good has everything that is bad")
    );
    let (code, line) = told(&["--good", "host", "-c", "test ! -e /broken || exit 200"]);
    assert_eq!(
        (code, line.as_str()),
        (125, "treebox: the command ended with 200 at [ID]: that is no test's answer")
    );
    let (code, line) = told(&["--good", "host", "-c", "exit 125"]);
    assert_eq!((code, line.as_str()), (1, "treebox: [ID] cannot be tested: exit 125"));
    let (code, line) = told(&["--good", "host", "--", "/not/there"]);
    assert_eq!((code, line.as_str()), (1, "treebox: [ID] does not pass: exit 127"));
    env.fails(2, &["bisect", "--good", "host"]);
    env.fails(2, &["bisect", "-c", "true"]);
    env.fails(125, &["bisect", "--good", "nowhere", "-c", "true"]);
}

#[test]
fn commits_that_cannot_be_tested_are_gone_around_or_named() {
    let env = TestEnv::on_main();
    steps(&env, 9, 8);
    let test = "n=$(wc -l 2>/dev/null < /log || echo 0); [ $n -ge 3 ] && [ $n -le 5 ] && exit 125; test $n -lt $LIMIT";
    let around = env.json(&["bisect", "--good", "host", "-e", "LIMIT=8", "-c", test]);
    assert_eq!(around["first_bad"]["command"], "echo 8 >> /log; touch /broken");
    let ran = env.run(&["bisect", "--good", "host", "-e", "LIMIT=5", "-c", test]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr
            .ends_with("treebox: the first bad commit is one of these; all but the last cannot be tested\n")
    );
    insta::assert_snapshot!(masked(&ran.text()), @r#"
    [ID] echo 3 >> /log
    [ID] echo 4 >> /log
    [ID] echo 5 >> /log
    [ID] echo 6 >> /log
    "#);
    let named = env.json(&["bisect", "--good", "host", "-e", "LIMIT=5", "-c", test]);
    assert_eq!((&named["result"], named["candidates"].as_array().unwrap().len()), (&"undecided".into(), 4));
}

#[test]
fn an_interrupt_ends_the_search_and_what_runs() {
    let env = TestEnv::on_main();
    steps(&env, 2, 1);
    let nap = nap(1084);
    let args = ["bisect", "--good", "host", "--", "sleep", &nap];
    let child = env.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_sleepers(&nap, 1);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), sleepers(&nap)), (Some(130), 0, 0));
}
