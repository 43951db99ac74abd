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
