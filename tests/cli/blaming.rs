//! `blame`.

use crate::support::{TestEnv, masked};

/// The numbers of lines by the command that wrote them.
fn by_command(env: &TestEnv, args: &[&str]) -> Vec<(u64, String)> {
    let lines = env.json_lines(&[&["blame"], args].concat());
    let one = |line: &serde_json::Value| {
        (line["line"].as_u64().unwrap(), line["command"].as_str().unwrap().to_owned())
    };
    lines.iter().map(one).collect()
}

fn with_a_text() -> TestEnv {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "mkdir /d; printf 'a\\nb\\nc\\n' > /d/text"]);
    env.ok(&["run", "-q", "-c", "echo else > /other"]);
    env.ok(&["run", "-q", "-c", "sed -i 's/b/B/; 1i first' /d/text"]);
    env.ok(&["run", "-q", "-c", "touch -d @9 /d/text; chmod 600 /d/text"]);
    env
}

#[test]
fn every_line_is_the_commits_that_last_wrote_it() {
    let env = with_a_text();
    insta::assert_snapshot!(masked(&env.ok(&["blame", "main:/d/text"])), @r#"
[ID] (sed -i 's/b/B/; 1i first' /… 1) first
[ID] (mkdir /d; printf 'a\nb\nc\n… 2) a
[ID] (sed -i 's/b/B/; 1i first' /… 3) B
[ID] (mkdir /d; printf 'a\nb\nc\n… 4) c
"#);
    assert_eq!(env.ok(&["blame", "-L", "2,+2", ":/d/text"]).lines().count(), 2);
    let json = env.json_lines(&["blame", "-L", "3", "/d/text"]);
    assert_eq!((json.len(), &json[0]["line"], &json[0]["text"]), (2, &3.into(), &"B".into()));
    assert_eq!((&json[1]["original_line"], &json[1]["original_path"]), (&3.into(), &"/d/text".into()));
    for field in ["commit", "state", "command", "path"] {
        assert!(json[0][field].is_string(), "{field}");
    }
    env.fails(125, &["blame", "-L", "9", ":/d/text"]);
    env.fails(2, &["blame", "-L", "3,2", ":/d/text"]);
    env.fails(125, &["blame", ":/d/none"]);
}

#[test]
fn an_older_revision_is_blamed_on_what_came_before_it() {
    let env = with_a_text();
    let first = "mkdir /d; printf 'a\\nb\\nc\\n' > /d/text";
    let lines = by_command(&env, &["main~2:/d/text"]);
    assert!(lines.len() == 3 && lines.iter().all(|(_, command)| command == first), "{lines:?}");
}

#[test]
fn a_directory_is_blamed_entry_by_entry() {
    let env = with_a_text();
    env.ok(&["run", "-q", "-c", "mkdir /d/sub; echo 1 > /d/sub/f; ln -s text /d/link"]);
    env.ok(&["run", "-q", "-c", "touch /d/x; rm /d/x; echo 2 > /d/sub/f"]);
    insta::assert_snapshot!(masked(&env.ok(&["blame", "main:/d"])), @"
[ID] /d/link  mkdir /d/sub; echo 1 > /d/sub/f; ln -s text /d/link
[ID] /d/sub   touch /d/x; rm /d/x; echo 2 > /d/sub/f
[ID] /d/text  touch -d @9 /d/text; chmod 600 /d/text
");
    let root = env.json_lines(&["blame", ":/"]);
    let command = |path: &str| {
        root.iter().find(|line| line["path"] == path).map(|line| line["command"].clone()).unwrap()
    };
    assert_eq!(command("/other"), "echo else > /other");
    assert_eq!(command("/usr"), "import host:latest");
    assert_eq!(root.iter().find(|line| line["path"] == "/d").unwrap()["kind"], "directory");
    env.fails(125, &["blame", "-L", "1", ":/d"]);
}

#[test]
fn a_file_that_is_no_text_is_blamed_as_one() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "printf 'a\\0b' > /bin1; : > /empty"]);
    env.ok(&["run", "-q", "-c", "chmod 700 /bin1; echo > /x"]);
    insta::assert_snapshot!(masked(&env.ok(&["blame", ":/bin1"])), @r#"[ID] /bin1  printf 'a\0b' > /bin1; : > /empty"#);
    let json = env.json(&["blame", ":/empty"]);
    assert_eq!((&json["kind"], json.get("line")), (&"file".into(), None));
    assert_eq!(json["command"], "printf 'a\\0b' > /bin1; : > /empty");
    env.ok(&["run", "-q", "-c", "mkfifo /fifo"]);
    env.fails(125, &["blame", ":/fifo"]);
}

#[test]
fn a_file_that_was_moved_is_followed() {
    let env = with_a_text();
    env.ok(&["run", "-q", "-c", "mv /d/text /moved"]);
    env.ok(&["run", "-q", "-c", "echo last >> /moved"]);
    insta::assert_snapshot!(masked(&env.ok(&["blame", ":/moved"])), @r#"
[ID] /d/text (sed -i 's/b/B/; 1i first' /… 1) first
[ID] /d/text (mkdir /d; printf 'a\nb\nc\n… 2) a
[ID] /d/text (sed -i 's/b/B/; 1i first' /… 3) B
[ID] /d/text (mkdir /d; printf 'a\nb\nc\n… 4) c
[ID] /moved  (echo last >> /moved          5) last
"#);
    env.ok(&["run", "-q", "-c", "printf 'a\\0' > /b; echo x > /y"]);
    env.ok(&["run", "-q", "-c", "mv /b /c"]);
    assert_eq!(env.json(&["blame", ":/c"])["original_path"], "/b");
}

#[test]
fn a_symlink_is_followed_to_the_file() {
    let env = with_a_text();
    env.ok(&["run", "-q", "-c", "ln -s d/text /link"]);
    assert_eq!(env.json_lines(&["blame", ":/link"])[0]["path"], "/d/text");
}

#[test]
fn through_a_merge_every_line_and_entry_goes_to_the_side_that_wrote_it() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "mkdir /d; seq 1 9 > /d/text; echo > /d/old"]);
    env.ok(&["branch", "side"]);
    env.ok(&["run", "-q", "-c", "sed -i 's/2/two/' /d/text; echo > /d/ours"]);
    env.ok(&["run", "-q", "--branch", "side", "-c", "sed -i 's/8/eight/' /d/text; echo > /d/theirs"]);
    env.ok(&["merge", "side"]);
    assert_eq!(env.json(&["show"])["parents"].as_array().unwrap().len(), 2);
    let base = "mkdir /d; seq 1 9 > /d/text; echo > /d/old";
    let by_line = by_command(&env, &[":/d/text"]);
    for (line, command) in &by_line {
        let wrote = match line {
            2 => "sed -i 's/2/two/' /d/text; echo > /d/ours",
            8 => "sed -i 's/8/eight/' /d/text; echo > /d/theirs",
            _ => base,
        };
        assert_eq!(command, wrote, "line {line}: {by_line:?}");
    }
    let entries = env.json_lines(&["blame", ":/d"]);
    let command = |name: &str| {
        entries.iter().find(|entry| entry["path"] == name).unwrap()["command"].as_str().unwrap().to_owned()
    };
    assert_eq!(command("/d/old"), base);
    assert!(command("/d/ours").ends_with("/d/ours") && command("/d/theirs").ends_with("/d/theirs"));
    assert!(
        command("/d/text").starts_with("merge"),
        "neither side has the joined text: {}",
        command("/d/text")
    );
}

#[test]
fn stock_git_blames_the_same_lines_on_the_same_texts() {
    let env = TestEnv::on_main();
    let texts = [
        "one\ntwo\nthree\nfour\nfive\n",
        "zero\none\ntwo\nTHREE\nfour\nfive\n",
        "zero\none\nfour\nfive\nsix\nseven",
        "ZERO\none\nhalf\nfour\nfive\nsix\nseven\neight\n",
    ];
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        env.isolate(&mut command);
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-C", "repo"];
        let output = command.args(identity).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::create_dir(env.path("repo")).unwrap();
    git(&["init", "-q"]);
    for (number, text) in texts.iter().enumerate() {
        env.file("repo/text", text);
        git(&["add", "text"]);
        git(&["commit", "-q", "-m", &format!("version {number}")]);
        env.ok(&[
            "run",
            "-q",
            "-c",
            &format!("printf '{}' > /text # version {number}", text.replace('\n', "\\n")),
        ]);
    }
    let theirs: Vec<String> = git(&["blame", "--line-porcelain", "text"])
        .lines()
        .filter_map(|line| line.strip_prefix("summary ").map(str::to_owned))
        .collect();
    let ours: Vec<String> = by_command(&env, &[":/text"])
        .into_iter()
        .map(|(_, command)| command.split_once("# ").unwrap().1.to_owned())
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn what_blame_says_in_json() {
    let env = with_a_text();
    insta::assert_snapshot!(env.transcript(&[
        &["blame", "-L3,3", "main:/d/text", "--json"],
        &["blame", "main:/d", "--json"],
        &["blame", "main:/usr/bin/true", "--json"],
        &["blame", "main:/dev"],
    ]), @r#"
    $ treebox blame -L3,3 main:/d/text --json
    {"command":"sed -i 's/b/B/; 1i first' /d/text","commit":"[ID]","line":3,"original_line":3,"original_path":"/d/text","path":"/d/text","state":"[ID]","text":"B"}
    $ treebox blame main:/d --json
    {"command":"touch -d @9 /d/text; chmod 600 /d/text","commit":"[ID]","kind":"file","path":"/d/text","state":"[ID]"}
    $ treebox blame main:/usr/bin/true --json
    {"command":"import host:latest","commit":"[ID]","kind":"file","original_path":"/usr/bin/true","path":"/usr/bin/true","state":"[ID]"}
    $ treebox blame main:/dev
    "#);
}
