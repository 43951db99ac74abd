//! `run --commands`: several commands on one state.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{TestEnv, masked, nap, sleepers, wait_for_sleepers};

/// Lines in the order of their numbers: the order in which commands end is theirs.
fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn every_command_of_a_file_runs_on_the_same_state_and_moves_nothing() {
    let env = TestEnv::on_main();
    let before = env.ok(&["branch", "--json"]);
    env.file(
        "commands",
        "# comment\n\necho a > /a\n\"echo two\\necho lines\"\n[\"sh\", \"-c\", \"exit 3\"]\nnothing-there\n[ -e /a ]\n[\"/nothing\"]\n",
    );
    let ran = env.run(&["run", "--jobs", "2", "--commands", "commands"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    insta::assert_snapshot!(masked(&sorted(&ran.text())), @r#"
    0 succeeded [ID] (+1 ~0 -0) [TIME]: echo a > /a
    1 succeeded [ID] unchanged [TIME]: echo two …
    2 failed exit 3; [ID] unchanged [TIME]: sh -c 'exit 3'
    3 failed exit 127; [ID] unchanged [TIME]: nothing-there
    4 failed exit 1; [ID] unchanged [TIME]: [ -e /a ]
    5 error /nothing: not found in the sandbox: /nothing
    "#);
    let ran = env.run(&["run", "--commands", "commands", "-v"]);
    assert!(ran.text().contains(": echo two …\ntwo\nlines\n"), "{}", ran.text());
    assert_eq!(env.ok(&["branch", "--json"]), before);

    let good = env.run_with_input(&["run", "--from", "host", "--commands", "-"], b"true\ntrue\n");
    assert_eq!((good.code, good.text().lines().count()), (0, 2), "{}", good.stderr);
}

#[test]
fn json_gives_one_object_a_command_in_the_shape_of_a_run() {
    let env = TestEnv::on_main();
    env.file("commands", "echo a > /a; echo said\nexit 3\n[\"/nothing\"]\n");
    let mut lines = env.json_lines(&["run", "--jobs", "1", "--commands", "commands", "--env", "A=1"]);
    let single = env.json(&["run", "--from", "main", "-c", "echo a > /a; echo said", "--env", "A=1"]);
    assert_eq!(single["reused"], true);
    for line in &mut lines[..2] {
        for key in single.as_object().unwrap().keys() {
            assert!(line.get(key).is_some(), "{key} is missing in {line}");
        }
        assert_eq!(line["parent"], single["parent"]);
    }
    assert_eq!((&lines[0]["state"], &lines[0]["stdout"]), (&single["state"], &"said\n".into()));
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            serde_json::json!([
                line["index"],
                line["fate"],
                line["command"],
                line["exit_code"],
                line["error"]
            ])
            .to_string()
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    [0,"succeeded","echo a > /a; echo said",0,null]
    [1,"failed","exit 3",3,null]
    [2,"error","/nothing",null,"/nothing: not found in the sandbox"]
    "#);
}

#[test]
fn the_winner_of_a_race_moves_the_branch_as_a_run_does() {
    let env = TestEnv::on_main();
    env.file("commands", "exit 1\nsleep 0.8; echo won > /won\nsleep 1081.1\n");
    let ran = env.run(&["run", "--jobs", "3", "--race", "--commands", "commands"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(masked(&sorted(&ran.text())), @r#"
    0 failed exit 1; [ID] unchanged [TIME]: exit 1
    1 won main [ID] (+1 ~0 -0) [TIME]: sleep 0.8; echo won > /won
    2 cancelled: sleep 1081.1
    "#);
    assert_eq!(env.ok(&["cat", "main:/won"]), "won\n");

    let lines = env.json_lines(&[
        "run",
        "--from",
        "host",
        "--branch",
        "new",
        "--race",
        "--commands",
        "commands",
        "--jobs",
        "3",
    ]);
    let won = lines.iter().find(|line| line["fate"] == "won").unwrap();
    assert_eq!((&won["branch"], &won["index"]), (&"new".into(), &1.into()));
    assert_eq!(env.json(&["show", "new"])["commit"], won["commit"]);
    assert!(
        lines.iter().filter(|line| line["fate"] == "never-started").count() >= 1,
        "remembered, it wins at once: {lines:?}"
    );

    env.file("hopeless", "exit 1\nexit 2\n");
    let before = env.ok(&["branch", "--json"]);
    assert_eq!(env.run(&["run", "--race", "--commands", "hopeless"]).code, 1);
    assert_eq!(env.ok(&["branch", "--json"]), before);
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let env = TestEnv::on_main();
    env.file("commands", "true\n");
    env.file("empty", "# nothing\n");
    env.file("broken", "true\n[\"a\"\n");
    env.fails(2, &["run", "--jobs", "2", "-c", "true"]);
    env.fails(2, &["run", "--race", "-c", "true"]);
    env.fails(2, &["run", "--commands", "commands", "-c", "true"]);
    env.fails(2, &["run", "--commands", "commands", "-i"]);
    env.fails(2, &["run", "--commands", "commands", "--branch", "b"]);
    env.fails(2, &["run", "--commands", "commands", "--jobs", "0"]);
    env.fails(2, &["run", "--commands", "commands", "--race", "--disposable", "--branch", "b"]);
    assert!(env.fails(2, &["run", "--commands", "empty"]).contains("empty holds no command"));
    assert!(env.fails(2, &["run", "--commands", "broken"]).contains("broken: line 2: is no JSON array"));
    assert!(env.fails(125, &["run", "--commands", "missing"]).contains("missing"));
}

#[test]
fn an_interrupt_kills_every_command_and_leaves_nothing() {
    let env = TestEnv::on_main();
    let nap = nap(1082);
    env.file("commands", format!("touch /x; sleep {nap}\ntouch /y; sleep {nap}\ntouch /z; sleep {nap}\n"));
    let mut command = env.command(&["run", "--jobs", "2", "--commands", "commands"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    wait_for_sleepers(&nap, 2);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), sleepers(&nap)), (Some(130), 0));
    let text = sorted(&String::from_utf8(output.stdout).unwrap());
    insta::assert_snapshot!(text.replace(&nap, "[NAP]"), @r#"
    0 cancelled: touch /x; sleep [NAP]
    1 cancelled: touch /y; sleep [NAP]
    2 never-started: touch /z; sleep [NAP]
    "#);
}
