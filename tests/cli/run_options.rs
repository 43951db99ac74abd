//! The options of `run`.

use std::process::Stdio;

use crate::support::TestEnv;

#[test]
fn environment_is_set_and_nothing_of_the_hosts_passes() {
    let env = TestEnv::new();
    let run = |more: &[&str], text: &str| {
        let args = [&["run", "--from", "host", "-q"], more, &["-c", text]].concat();
        let output = env.command(&args).env("FROM_HOST", "secret").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&[], "echo \"${FROM_HOST-none}\""), "none\n");
    assert_eq!(run(&["-e", "FROM_HOST"], "echo \"$FROM_HOST\""), "secret\n");
    assert_eq!(run(&["-e", "NOT_THERE"], "echo \"${NOT_THERE-none}\""), "none\n");
    assert_eq!(run(&["-e", "A=1=2", "--env", "B="], "echo \"$A,$B,\""), "1=2,,\n");
}

#[test]
fn workdir_user_and_hostname_are_what_was_asked_for() {
    let env = TestEnv::new();
    let out =
        env.ok(&["run", "--from", "host", "-q", "-w", "/tmp", "--hostname", "box", "-c", "pwd; uname -n"]);
    assert_eq!(out, "/tmp\nbox\n");
    assert_eq!(env.ok(&["run", "--from", "host", "-q", "-c", "uname -n; id -u; id -g"]), "treebox\n0\n0\n");
}

#[test]
fn standard_input_is_empty_unless_it_is_asked_for() {
    let env = TestEnv::new();
    let base = ["run", "--from", "host", "-q"];
    let without = env.run_with_input(&[&base[..], &["--", "cat"]].concat(), b"secret");
    assert_eq!(without.text(), "");
    let with = env.run_with_input(&[&base[..], &["-i", "--", "cat"]].concat(), b"hello");
    assert_eq!(with.text(), "hello");
    let much = vec![b'x'; 3 << 20];
    let counted = env.run_with_input(&[&base[..], &["-i", "-c", "wc -c"]].concat(), &much);
    assert_eq!(counted.text().trim(), much.len().to_string());
}

#[test]
fn a_file_on_standard_input_counts_in_the_key_and_a_pipe_is_never_used_again() {
    let env = TestEnv::new();
    let args = ["run", "--from", "host", "-i", "--json", "-c", "cat > /in"];
    let with_file = |content: &str| {
        let file = std::fs::File::open(env.file("input", content)).unwrap();
        let output = env.command(&args).stdin(Stdio::from(file)).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(with_file("one")["reused"], false);
    assert_eq!(with_file("two")["reused"], false);
    assert_eq!(with_file("one")["reused"], true);
    for _ in 0..2 {
        let ran = env.run_with_input(&args, b"one");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&ran.stdout).unwrap()["reused"], false);
    }
}

#[test]
fn host_files_are_placed_before_the_run() {
    let env = TestEnv::new();
    env.file("src/a/b.txt", "b\n");
    let state = env.json(&["run", "--from", "host", "--copy", "src:/placed", "-c", "cat /placed/a/b.txt"]);
    assert_eq!(state["stdout"], "b\n");
    assert_eq!(state["changed"], true);
    env.fails(125, &["run", "--from", "host", "--copy", "nowhere:/placed", "-c", "true"]);
    env.fails(2, &["run", "--from", "host", "--copy", "src:placed", "-c", "true"]);
}

#[test]
fn a_read_only_root_refuses_changes() {
    let env = TestEnv::new();
    let ran = env.json(&["run", "--from", "host", "--read-only", "-c", "echo x > /x"]);
    assert_ne!(ran["exit_code"], 0);
    assert_eq!(ran["changed"], false);
}

#[test]
fn environment_and_workdir_can_be_kept_in_the_state() {
    let env = TestEnv::new();
    let keep = [
        "run",
        "--from",
        "host",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "--keep-env",
        "--keep-workdir",
        "-c",
        "touch /x",
    ];
    let state = env.json(&keep)["state"].as_str().unwrap().to_owned();
    assert_eq!(env.shell(&state, "echo $A; pwd")["stdout"], "1\n/tmp\n");
}

#[test]
fn an_epoch_clamps_times_and_the_usual_variable_is_heard() {
    let env = TestEnv::new();
    let mtime = |state: &serde_json::Value| {
        env.json(&["ls", &format!("{}:/x", state["state"].as_str().unwrap())])["mtime"].clone()
    };
    let given = env.json(&["run", "--from", "host", "--epoch", "86400", "-c", "touch /x"]);
    assert_eq!(mtime(&given), "1970-01-02T00:00:00.000000000Z");
    let run = ["run", "--from", "host", "--json", "-c", "touch /x"];
    let output = env.command(&run).env("SOURCE_DATE_EPOCH", "172800").output().unwrap();
    let heard: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(mtime(&heard), "1970-01-03T00:00:00.000000000Z");
    let wrong = env.command(&run).env("SOURCE_DATE_EPOCH", "soon").output().unwrap();
    assert_eq!(wrong.status.code(), Some(125));
}

#[test]
fn kept_output_is_cut_and_passed_output_is_not() {
    let env = TestEnv::new();
    let run = ["run", "--from", "host", "-q", "--max-output", "4", "-c", "printf 123456789"];
    let ran = env.json(&run);
    assert_eq!((&ran["stdout"], &ran["truncated"]), (&"1234".into(), &true.into()));
    assert_eq!(env.ok(&run), "123456789");
}

#[test]
fn the_network_is_only_a_loopback_unless_the_hosts_is_asked_for() {
    let env = TestEnv::new();
    let links = |network: &str| {
        let ran = env.json(&["run", "--from", "host", "--network", network, "-c", "cat /proc/net/dev"]);
        ran["stdout"].as_str().unwrap().lines().filter(|line| line.contains(':')).count()
    };
    assert_eq!(links("none"), 1);
    let host = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert_eq!(links("host"), host.lines().filter(|line| line.contains(':')).count());
}

#[test]
fn arguments_behind_the_command_are_its_own() {
    let env = TestEnv::new();
    let out = env.ok(&["run", "--from", "host", "-q", "--", "printf", "%s\n", "-q", "--json", "a b"]);
    assert_eq!(out, "-q\n--json\na b\n");
    let out = env.ok(&["run", "--from", "host", "-q", "printf", "%s\n", "-q", "--from"]);
    assert_eq!(out, "-q\n--from\n");
}
