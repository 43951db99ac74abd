//! Names and notes: lists of branches and tags, describe, notes, lineage.

use crate::support::{TestEnv, masked};

/// `main` at a row of steps, each of which writes a file.
fn steps(env: &TestEnv, names: &[&str]) {
    for name in names {
        env.ok(&["run", "-q", "-c", &format!("echo {name} > /{name}")]);
    }
}

/// The words of a list, without stars.
fn listed(env: &TestEnv, args: &[&str]) -> Vec<String> {
    env.ok(args).replace('*', " ").split_whitespace().map(str::to_owned).collect()
}

#[test]
fn branches_and_tags_are_picked_by_pattern_and_by_what_they_contain() {
    let env = TestEnv::on_main();
    steps(&env, &["a"]);
    for name in ["feature/one", "feature/two/deep", "fix"] {
        env.ok(&["branch", name]);
    }
    env.ok(&["tag", "v1.0"]);
    steps(&env, &["b"]);
    env.ok(&["tag", "v2.0"]);
    env.ok(&["branch", "ahead"]);
    assert_eq!(listed(&env, &["branch", "--list", "feature/*"]), ["feature/one", "feature/two/deep"]);
    assert_eq!(listed(&env, &["branch", "-l", "f*x", "a?ead"]), ["ahead", "fix"]);
    assert_eq!(listed(&env, &["tag", "--list", "v[2-9]*"]), ["v2.0"]);
    assert_eq!(
        listed(&env, &["branch", "--contains", "main~1", "f*"]),
        ["feature/one", "feature/two/deep", "fix"]
    );
    assert_eq!(listed(&env, &["branch", "--contains"]), ["ahead", "main"]);
    assert_eq!(listed(&env, &["branch", "--merged", "fix"]), ["feature/one", "feature/two/deep", "fix"]);
    assert_eq!(listed(&env, &["branch", "--no-merged", "fix"]), ["ahead", "main"]);
    assert_eq!(listed(&env, &["tag", "--contains", "v2.0"]), ["v2.0"]);
    assert_eq!(env.ok(&["branch", "--list", "main"]), "* main\n");
    assert_eq!(env.ok(&["branch", "--list", "nothing"]), "");
    env.fails(2, &["branch", "-d", "--list", "fix"]);
    env.fails(2, &["branch", "--sort", "colour"]);
    env.fails(125, &["branch", "--contains", "nothing"]);
    let verbose = masked(&env.ok(&["branch", "-v", "--list", "fix", "main"]));
    assert_eq!(verbose, "  fix   [ID]  echo a > /a\n* main  [ID]  echo b > /b\n");
}

#[test]
fn branches_are_sorted_by_name_by_their_last_move_and_by_depth() {
    let env = TestEnv::on_main();
    env.ok(&["branch", "z"]);
    steps(&env, &["a", "b"]);
    env.ok(&["branch", "m", "main~1"]);
    // Reflogs have whole seconds: made older by hand rather than by waiting.
    for (name, age) in [("z", 300), ("m", 100), ("main", 200)] {
        let log = env.store().join("history.git/logs/refs/heads").join(name);
        let text = std::fs::read_to_string(&log).unwrap();
        let older = text.lines().map(|line| {
            let (head, message) = line.split_once('\t').unwrap();
            let (who, _) = head.rsplit_once("> ").unwrap();
            format!("{who}> {} +0000\t{message}\n", 1_000_000_000 - age)
        });
        std::fs::write(&log, older.collect::<String>()).unwrap();
    }
    assert_eq!(listed(&env, &["branch", "--sort", "-name"]), ["z", "main", "m"]);
    assert_eq!(listed(&env, &["branch", "--sort", "date"]), ["z", "main", "m"]);
    assert_eq!(listed(&env, &["branch", "--sort=-committerdate"]), ["m", "main", "z"]);
    assert_eq!(listed(&env, &["branch", "--sort", "depth"]), ["z", "m", "main"]);
    let deep = env.json_lines(&["branch", "--sort", "-depth"]);
    let depths: Vec<_> = deep.iter().map(|branch| branch["depth"].as_u64().unwrap()).collect();
    assert_eq!(depths, [2, 1, 0]);
    let moved = env.json_lines(&["branch", "--sort", "date", "--list", "m"]);
    assert_eq!(moved[0]["moved"], "2001-09-09T01:45:00Z");
    assert!(!moved[0]["state"].is_null());
}

#[test]
fn describe_names_a_commit_by_the_nearest_tag() {
    let env = TestEnv::on_main();
    steps(&env, &["a"]);
    let none = env.run(&["describe"]);
    assert_eq!((none.code, none.text().as_str()), (1, ""));
    assert!(none.stderr.starts_with("treebox: no tag leads to HEAD: "), "{}", none.stderr);
    assert_eq!(masked(&env.ok(&["describe", "--always"])), "[ID]\n");
    env.ok(&["tag", "v1"]);
    assert_eq!(env.ok(&["describe"]), "v1\n");
    steps(&env, &["b", "c", "d"]);
    let commit = env.json(&["status"])["commit"].as_str().unwrap().to_owned();
    let name = format!("v1-3-g{}", &commit[..12]);
    assert_eq!(env.ok(&["describe", "--tags"]).trim(), name);
    // What it prints is a revision.
    assert_eq!(env.json(&["show", &name])["commit"], commit.as_str());
    env.ok(&["tag", "other", "main~1"]);
    assert!(env.ok(&["describe"]).starts_with("other-1-g"));
    assert_eq!(env.ok(&["describe", "--match", "v*"]).trim(), name);
    assert_eq!(env.run(&["describe", "--exact-match"]).code, 1);
    assert_eq!(env.ok(&["describe", "--exact-match", "main~1"]), "other\n");
    assert!(env.ok(&["describe", "--long", "v1"]).starts_with("v1-0-g"));
    let json = env.json(&["describe"]);
    assert_eq!((&json["tag"], &json["ahead"], &json["commit"]), (&"other".into(), &1.into(), &commit.into()));
}

#[test]
fn notes_are_written_shown_and_removed_and_are_those_of_git() {
    let env = TestEnv::on_main();
    steps(&env, &["a"]);
    let before = env.json(&["status"])["commit"].clone();
    assert_eq!(env.run(&["note", "main"]).code, 1);
    env.ok(&["note", "main", "works on arm64  \n\n"]);
    assert_eq!(env.ok(&["note", "HEAD"]), "works on arm64\n");
    env.fails(125, &["note", "main", "again"]);
    env.ok(&["note", "--append", "main", "and on riscv"]);
    let piped = env.run_with_input(&["note", "main~1", "-"], b"the base\n");
    assert_eq!(piped.code, 0, "{}", piped.stderr);
    assert_eq!(env.json(&["status"])["commit"], before, "notes change no id");
    let log = masked(&env.ok(&["log", "-n", "1"]));
    let tail: Vec<_> = log.lines().skip_while(|line| !line.starts_with("    ")).collect();
    assert_eq!(tail, ["    echo a > /a", "", "Notes:", "    works on arm64", "    ", "    and on riscv"]);
    assert!(env.ok(&["show", "main~1"]).contains("\nNotes:\n    the base\n"));
    assert_eq!(env.json_lines(&["log"])[0]["note"], "works on arm64\n\nand on riscv");
    assert_eq!(env.json(&["show", "main~1"])["note"], "the base");
    assert!(env.json(&["show", "host"])["note"].is_string(), "the base is where the image is");
    let mut git = std::process::Command::new("git");
    env.isolate(&mut git);
    let shown = git.arg("--git-dir").arg(env.store().join("history.git")).args(["notes", "show", "main"]);
    assert_eq!(
        String::from_utf8(shown.output().unwrap().stdout).unwrap(),
        "works on arm64\n\nand on riscv\n"
    );
    let listed = masked(&env.ok(&["note"]));
    let mut lines: Vec<_> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[ID]  the base", "[ID]  works on arm64 …"]);
    env.ok(&["note", "-f", "main", "short"]);
    assert_eq!(env.json(&["note", "main"])["note"], "short");
    env.ok(&["note", "-d", "main", "main~1"]);
    env.fails(125, &["note", "-d", "main"]);
    assert_eq!(env.ok(&["note"]), "");
    // Notes are refs, so what was done to them is taken back as everything else.
    env.ok(&["undo"]);
    assert_eq!(env.ok(&["note", "main~1"]), "the base\n");
    env.fails(2, &["note", "main", "two", "words"]);
    env.fails(2, &["note", "--append", "main"]);
    env.fails(125, &["note", "main", " \n"]);
}

#[test]
fn lineage_shows_the_way_from_the_image_and_what_was_made() {
    let env = TestEnv::on_main();
    steps(&env, &["a", "b"]);
    env.ok(&["run", "-q", "--from", "main~1", "--branch", "side", "-c", "echo s > /s"]);
    env.ok(&["run", "-q", "--from", "main~1", "-c", "echo anonymous > /x"]);
    let failed = env.run(&["run", "-q", "--from", "main~1", "-c", "echo bad > /y; exit 3"]);
    assert_eq!(failed.code, 3);
    let json = env.json(&["lineage", "main~1"]);
    assert_eq!((&json["depth"], &json["command"]), (&1.into(), &"echo a > /a".into()));
    assert_eq!(json["root"]["commit"], env.json(&["show", "host"])["commit"]);
    assert_eq!(json["chain"].as_array().unwrap().len(), 1);
    assert_eq!(json["parent_commits"][0]["commit"], json["parents"][0]);
    let children: Vec<_> = json["children"].as_array().unwrap().iter().collect();
    let of = |command: &str| *children.iter().find(|child| child["command"] == command).unwrap();
    assert_eq!(children.len(), 4, "{children:?}");
    assert_eq!(of("echo s > /s")["commit"], env.json(&["show", "side"])["commit"]);
    assert_eq!(
        (&of("echo b > /b")["named"], &of("echo anonymous > /x")["named"]),
        (&true.into(), &false.into())
    );
    assert!(of("echo anonymous > /x")["commit"].is_null());
    assert_eq!(of("echo bad > /y; exit 3")["exit_code"], 3);
    // A branch that is gone leaves a commit that nothing leads to.
    env.ok(&["branch", "-d", "side"]);
    let text = masked(&env.ok(&["lineage", "main~1"]));
    let (chain, made) = text.split_at(text.find("  ├─").unwrap());
    let chain = chain.replace("host:latest", "IMAGE");
    assert!(chain.starts_with("  [ID] (IMAGE) import IMAGE"), "{chain}");
    assert!(chain.ends_with("* [ID] echo a > /a\n"), "{chain}");
    insta::assert_snapshot!(made, @r"
      ├─ [ID] echo b > /b
      ├─ [ID] echo s > /s (no ref leads to it)
      ├─ [ID] echo anonymous > /x (remembered run)
      └─ [ID] echo bad > /y; exit 3 [exit 3] (remembered run)
    ");
    steps(&env, &["c", "d"]);
    let short = masked(&env.ok(&["lineage", "-n", "1"]));
    assert_eq!(
        short.lines().skip(1).collect::<Vec<_>>(),
        ["  … 2 commits", "  [ID] echo c > /c", "* [ID] (HEAD -> main) echo d > /d"]
    );
    assert_eq!(env.json(&["lineage", "host"])["depth"], 0);
}
