//! `run`: streams, exit codes, what moves.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{TestEnv, masked, names};

#[test]
fn output_passes_through_and_one_line_says_what_came_of_it() {
    let env = TestEnv::on_main();
    let ran = env.run(&["run", "-c", "echo out; echo err >&2; echo hi > /f"]);
    assert_eq!((ran.code, ran.text().as_str()), (0, "out\n"));
    assert_eq!(masked(&ran.stderr), "err\ntreebox: main [ID] (+1 ~0 -0) [TIME]\n");
    let again = env.run(&["run", "--from", "HEAD~1", "-c", "echo out; echo err >&2; echo hi > /f"]);
    assert_eq!(again.text(), "out\n", "what was remembered of the output is printed");
    assert_eq!(masked(&again.stderr), "err\ntreebox: [ID] (+1 ~0 -0) reused\n");
    let quiet = env.run(&["run", "-q", "-c", "echo out; echo err >&2"]);
    assert_eq!((quiet.text().as_str(), quiet.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn json_has_every_field_of_the_contract() {
    let env = TestEnv::on_main();
    let ran = env.json(&["run", "-c", "printf 'a\\377'; echo err >&2; echo hi > /f; rm -r /opt"]);
    let fields: Vec<_> = ran.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "state",
        "commit",
        "parent",
        "tree",
        "branch",
        "changed",
        "reused",
        "exit_code",
        "signal",
        "timed_out",
        "stdout_base64",
        "stderr",
        "truncated",
        "duration_ms",
        "resources",
        "changes",
    ];
    expected.sort_unstable();
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!((&ran["stdout_base64"], &ran["stderr"]), (&"Yf8=".into(), &"err\n".into()));
    assert_eq!(ran["branch"], "main");
    assert_eq!(ran["changes"], serde_json::json!({"added": 1, "modified": 0, "deleted": 1}));
    assert!(ran["duration_ms"].as_f64().unwrap() > 0.0);
    for number in ["user_ms", "system_ms", "max_rss_kib", "read_bytes", "written_bytes"] {
        assert!(ran["resources"][number].is_number(), "{number}");
    }
    assert_eq!(ran["commit"], env.json(&["status"])["commit"]);
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let env = TestEnv::new();
    for (text, code) in
        [("exit 0", 0), ("exit 1", 1), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        assert_eq!(env.run(&["run", "--from", "host", "-c", text]).code, code, "{text}");
    }
    let ran = env.shell("host", "kill -TERM $$");
    assert_eq!((&ran["exit_code"], &ran["signal"]), (&serde_json::Value::Null, &15.into()));
}

#[test]
fn what_is_not_there_is_127_and_what_cannot_be_executed_126() {
    let env = TestEnv::new();
    assert!(env.fails(127, &["run", "--from", "host", "--", "no-such-program"]).contains("no-such-program"));
    env.fails(126, &["run", "--from", "host", "--", "/etc"]);
}

#[test]
fn a_timeout_kills_everything_and_is_124() {
    let env = TestEnv::new();
    let start = Instant::now();
    let ran = env.run(&["run", "--from", "host", "--timeout", "300ms", "-c", "sleep 60 & sleep 60"]);
    assert_eq!(ran.code, 124, "{}", ran.stderr);
    assert!(masked(&ran.stderr).starts_with("treebox: timed out; "), "{}", ran.stderr);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(
        env.json(&["run", "--from", "host", "--timeout", "300ms", "-c", "sleep 60"])["timed_out"],
        true
    );
}

#[test]
fn without_from_the_current_branch_advances_and_a_failure_leaves_it() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-c", "echo 1 > /f"]);
    let at = env.json(&["status"]);
    let failed = env.run(&["run", "-c", "echo 2 > /f; exit 5"]);
    assert_eq!(failed.code, 5);
    assert!(masked(&failed.stderr).contains("kept, the branch stays"), "{}", failed.stderr);
    assert_eq!(env.json(&["status"]), at);
    assert_eq!(env.run(&["run", "--keep-failed", "-c", "echo 2 > /f; exit 5"]).code, 5);
    assert_eq!(env.ok(&["cat", ":/f"]), "2\n");
}

#[test]
fn with_from_alone_no_ref_moves_and_the_state_is_usable_by_its_id() {
    let env = TestEnv::on_main();
    let before = (env.json_lines(&["branch"]), env.json(&["status"]));
    let ran = env.shell("main", "echo x > /x");
    assert_eq!((&ran["branch"], &ran["commit"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!((env.json_lines(&["branch"]), env.json(&["status"])), before);
    let short = &ran["state"].as_str().unwrap()[..12];
    assert_eq!(env.ok(&["cat", &format!("{short}:/x")]), "x\n");
}

#[test]
fn from_and_branch_make_the_branch_at_the_result_and_an_existing_one_must_be_there_already() {
    let env = TestEnv::new();
    let make = ["run", "--from", "host", "--branch", "dev", "-q", "-c", "echo x > /x"];
    env.ok(&make);
    env.ok(&make);
    assert_eq!(env.ok(&["cat", "dev:/x"]), "x\n");
    env.ok(&["run", "--branch", "dev", "-q", "-c", "echo y > /y"]);
    env.fails(125, &make);
    env.fails(125, &["run", "--from", "host", "--branch", "dev", "-q", "-c", "true"]);
    assert_eq!(env.ok(&["cat", "dev:/y"]), "y\n");
    env.ok(&["run", "--from", "host", "--branch", "dev", "--force", "-q", "-c", "echo x > /x"]);
    env.fails(125, &["cat", "dev:/y"]);
}

#[test]
fn a_disposable_run_leaves_nothing() {
    let env = TestEnv::on_main();
    let before = (env.json(&["status"]), names(&env.store().join("objects")));
    let ran = env.json(&["run", "--disposable", "-c", "echo out; echo x > /x; exit 3"]);
    assert_eq!((&ran["state"], &ran["commit"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!((&ran["stdout"], &ran["exit_code"]), (&"out\n".into(), &3.into()));
    assert_eq!((env.json(&["status"]), names(&env.store().join("objects"))), before);
    let told = env.run(&["run", "--disposable", "-c", "true"]);
    assert_eq!(masked(&told.stderr), "treebox: nothing kept [TIME]\n");
}

#[test]
fn a_tag_names_the_result() {
    let env = TestEnv::new();
    env.ok(&["run", "--from", "host", "--tag", "v1", "-q", "-c", "echo x > /x"]);
    assert_eq!(env.ok(&["cat", "v1:/x"]), "x\n");
}

#[test]
fn one_interrupt_goes_to_the_command_and_a_second_kills_it() {
    let env = TestEnv::new();
    let interrupted = |text: &str, times: u32| {
        let mut command = env.command(&["run", "--from", "host", "-c", text]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        for _ in 0..times {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        child.wait().unwrap().code()
    };
    assert_eq!(interrupted("echo ready; exec sleep 60", 1), Some(130));
    assert_eq!(interrupted("trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done", 1), Some(9));
    assert_eq!(interrupted("trap '' INT; echo ready; exec sleep 60", 2), Some(137));
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_command() {
    let env = TestEnv::on_main();
    let mut command = env.command(&["run", "-q", "-c", "yes | head -n 200000; echo done > /done"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(env.ok(&["cat", ":/done"]), "done\n");
}
