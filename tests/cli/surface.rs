//! Help, completions, global options, colours, broken pipes.

use std::process::Stdio;

use crate::support::TestEnv;

const VERBS: &[&str] = &[
    "import",
    "pull",
    "push",
    "images",
    "run",
    "shell",
    "branch",
    "tag",
    "note",
    "describe",
    "lineage",
    "switch",
    "checkout",
    "status",
    "log",
    "show",
    "diff",
    "blame",
    "why",
    "ls",
    "cat",
    "grep",
    "cp",
    "merge",
    "replay",
    "cherry-pick",
    "reset",
    "reflog",
    "undo",
    "op",
    "doctor",
    "completions",
];

#[test]
fn help_names_every_verb_and_opens_no_store() {
    let env = TestEnv::empty();
    let help = env.ok(&["--help"]);
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} in {help}");
        assert!(env.ok(&[verb, "--help"]).contains("Usage: treebox "), "{verb}");
    }
    env.ok(&["--version"]);
    assert!(!env.store().exists());
    assert_eq!(env.run::<&str>(&[]).code, 2);
}

#[test]
fn completions_come_for_every_shell_and_open_no_store() {
    let env = TestEnv::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = env.ok(&["completions", shell]);
        assert!(script.contains("treebox") && script.contains("disposable"), "{shell}");
    }
    assert!(!env.store().exists());
}

#[test]
fn global_options_stand_before_or_after_the_verb() {
    let env = TestEnv::on_main();
    let before = env.ok(&["--json", "status"]);
    assert_eq!(env.ok(&["status", "--json"]), before);
    let other = env.path("other");
    env.ok(&["--store", other.to_str().unwrap(), "images"]);
    assert!(other.join("format").exists());
    assert_eq!(env.ok(&["images", "--json", "--store", other.to_str().unwrap()]), "");
    let verbose = env.ok(&["-v", "branch"]);
    assert_ne!(verbose, env.ok(&["branch"]));
    assert_eq!(env.ok(&["branch", "--verbose"]), verbose);
    // Behind `grep` the letter is grep's own.
    env.ok(&["run", "-c", "printf 'one\\ntwo\\n' > /lines"]);
    for (args, line) in [
        (["-v", "grep", "one", ":/lines"], "one"),
        (["grep", "--verbose", "one", ":/lines"], "one"),
        (["grep", "-v", "one", ":/lines"], "two"),
    ] {
        assert_eq!(env.ok(&args), format!("/lines:{line}\n"));
    }
}

#[test]
fn without_treebox_store_the_data_directory_is_used() {
    let env = TestEnv::empty();
    let mut command = env.command(&["images"]);
    assert!(command.env_remove("TREEBOX_STORE").status().unwrap().success());
    assert!(env.path(".local/share/treebox/format").exists());
    let mut command = env.command(&["images"]);
    let status = command.env_remove("TREEBOX_STORE").env("XDG_DATA_HOME", env.path("data")).status().unwrap();
    assert!(status.success());
    assert!(env.path("data/treebox/format").exists());
}

#[test]
fn there_are_no_colours_in_a_pipe_unless_they_are_asked_for() {
    let env = TestEnv::on_main();
    assert!(!env.ok(&["log"]).contains('\x1b'));
    assert!(env.ok(&["log", "--color", "always"]).contains("\x1b[33m"));
    assert!(!env.ok(&["--color=never", "log"]).contains('\x1b'));
    assert!(!env.ok(&["--color=always", "--json", "log"]).contains('\x1b'));
}

#[test]
fn a_broken_pipe_is_quiet() {
    let env = TestEnv::on_main();
    for args in [&["ls", "-R"][..], &["cat", ":/usr/bin/sh"], &["--help"]] {
        let mut child = env.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_under_stdout_is_a_failure() {
    let env = TestEnv::on_main();
    for args in [
        &["log"][..],
        &["cat", ":/usr/bin/sh"],
        &["run", "-q", "--", "echo", "x"],
        &["run", "--json", "-c", "true"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = env.command(args).stdout(Stdio::from(full)).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), stderr.lines().count()), (Some(125), 1), "{args:?}: {stderr}");
    }
}

#[test]
fn doctor_lists_what_it_tried_and_is_1_only_if_commands_cannot_run() {
    let env = TestEnv::new();
    let findings = env.json_lines(&["doctor"]);
    assert!(!findings.is_empty());
    for finding in &findings {
        assert!(["ok", "degraded", "failed"].contains(&finding["outcome"].as_str().unwrap()), "{finding}");
        assert!(finding["name"].is_string() && finding["detail"].is_string(), "{finding}");
    }
    let failed = findings.iter().any(|finding| finding["outcome"] == "failed");
    assert_eq!(env.run(&["doctor"]).code, i32::from(failed));
}
