//! `log`, `show`, `diff`.

use crate::support::{TestEnv, masked};

fn with_two_branches() -> TestEnv {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /one"]);
    env.ok(&["run", "--branch", "dev", "--from", "main~1", "-q", "-c", "echo 2 > /two"]);
    env.ok(&["run", "-q", "-c", "echo 3 > /three"]);
    env
}

#[test]
fn log_shows_commands_newest_first() {
    let env = with_two_branches();
    let text = masked(&env.ok(&["log", "-n", "1"]));
    assert_eq!(
        text,
        "commit [ID] (HEAD -> main)\nstate:   [ID]\ndate:    [DATE]\nresult:  exit 0 in [TIME] (+1 ~0 -0)\n\n    echo 3 > /three\n"
    );
    let lines = env.ok(&["log", "--oneline"]);
    assert_eq!(
        masked(&lines),
        "[ID] (HEAD -> main) echo 3 > /three\n[ID] echo 1 > /one\n[ID] (host:latest) import host:latest\n"
    );
}

#[test]
fn the_graph_is_drawn_as_git_draws_it() {
    let env = with_two_branches();
    let text = env.ok(&["log", "--graph", "--oneline", "main", "dev"]);
    let drawing: Vec<String> =
        text.lines().map(|line| line.chars().take_while(|c| " *|\\/".contains(*c)).collect()).collect();
    let git = std::process::Command::new("git")
        .arg("--git-dir")
        .arg(env.store().join("history.git"))
        .args(["log", "--graph", "--oneline", "main", "dev"])
        .output();
    assert_eq!(drawing.iter().filter(|line| line.contains('*')).count(), 4, "{text}");
    assert!(drawing.iter().any(|line| line.contains("|/")), "{text}");
    let Ok(git) = git else { panic!("git is needed for the comparison") };
    let git = String::from_utf8(git.stdout).unwrap();
    let theirs: Vec<String> =
        git.lines().map(|line| line.chars().take_while(|c| " *|\\/".contains(*c)).collect()).collect();
    let trimmed = |lines: &[String]| lines.iter().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(&drawing), trimmed(&theirs), "{text}\n{git}");
}

#[test]
fn ranges_limits_and_paths_choose_commits() {
    let env = with_two_branches();
    let commands = |args: &[&str]| {
        let lines = env.json_lines(&[&["log"], args].concat());
        lines.iter().map(|line| line["command"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(commands(&["dev..main"]), ["echo 3 > /three", "echo 1 > /one"]);
    assert_eq!(commands(&["-n2"]), ["echo 3 > /three", "echo 1 > /one"]);
    assert_eq!(commands(&["--", "/one"]), ["echo 1 > /one"]);
    assert_eq!(commands(&["main", "dev", "--", "one", "/two"]).len(), 2);
    assert!(commands(&["--", "/nothing"]).is_empty());
}

#[test]
fn log_as_json_has_the_fields_of_the_contract() {
    let env = with_two_branches();
    let line = &env.json_lines(&["log", "-n1"])[0];
    for field in
        ["commit", "state", "tree", "parents", "command", "exit_code", "duration_ms", "changes", "refs"]
    {
        assert!(!line[field].is_null(), "{field}");
    }
    assert_eq!(line["changes"], serde_json::json!({"added": 1, "modified": 0, "deleted": 0}));
}

#[test]
fn show_tells_everything_of_one_commit() {
    let env = TestEnv::on_main();
    env.ok(&[
        "run",
        "-q",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-c",
        "echo out; echo err >&2; echo x > /x; rmdir /opt",
    ]);
    let json = env.json(&["show"]);
    assert_eq!((&json["workdir"], &json["user"]), (&"/tmp".into(), &"0:0".into()));
    assert!(json["env"].as_array().unwrap().contains(&"A=1".into()));
    assert_eq!((&json["stdout"], &json["stderr"]), (&"out\n".into(), &"err\n".into()));
    let paths: Vec<_> =
        json["paths"].as_array().unwrap().iter().map(|one| (&one["status"], &one["path"])).collect();
    assert_eq!(paths, [(&"D".into(), &"/opt".into()), (&"A".into(), &"/x".into())]);
    let text = env.ok(&["show", "main"]);
    for part in ["env:     A=1\n", "\nD\t/opt\nA\t/x\n", "\nstdout:\n    out\n", "\nstderr:\n    err\n"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn diff_names_what_differs() {
    let env = TestEnv::on_main();
    let before = env.json(&["status"])["state"].as_str().unwrap().to_owned();
    env.ok(&["run", "-q", "-c", "mkdir /d; echo x > /d/x; rmdir /opt; chmod 700 /var"]);
    assert_eq!(env.ok(&["diff", &before, "main"]), "A\t/d\nA\t/d/x\nD\t/opt\nM\t/var\n");
    assert_eq!(env.ok(&["diff", &before]), env.ok(&["diff", &format!("{before}..main"), "--name-status"]));
    assert_eq!(env.ok(&["diff", "main~1", "main", "--", "/d"]), "A\t/d\nA\t/d/x\n");
    assert_eq!(env.ok(&["diff", "main", "main~1", "--", "d/x"]), "D\t/d/x\n");
    let json = env.json_lines(&["diff", "main~1", "main"]);
    assert_eq!(
        (&json[1]["path"], &json[1]["kind"], &json[1]["size"]),
        (&"/d/x".into(), &"file".into(), &2.into())
    );
    assert_eq!((&json[3]["mode"], &json[3]["old"]["mode"]), (&"0700".into(), &"0755".into()));
}

#[test]
fn diff_stat_gives_sizes_and_a_summary() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "printf 12345 > /a; printf 1 > /bb"]);
    env.ok(&["run", "-q", "-c", "printf 123 > /a; rm /bb; printf 12 > /c"]);
    let text = env.ok(&["diff", "--stat", "HEAD~1"]);
    let expected = [
        " /a  | 2 +-",
        " /bb | 1 -",
        " /c  | 1 +",
        " 3 paths changed: 1 added, 1 modified, 1 deleted; 2 insertions(+), 2 deletions(-); -1 B",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn diff_exit_code_says_whether_there_are_differences() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo x > /x"]);
    assert_eq!(env.run(&["diff", "--exit-code", "main~1", "main"]).code, 1);
    assert_eq!(env.run(&["diff", "--exit-code", "main", "main"]).code, 0);
    assert_eq!(env.run(&["diff", "main~1", "main"]).code, 0);
    assert_eq!(env.run(&["diff", "--exit-code", "main~1", "main", "--", "/etc"]).code, 0);
}
