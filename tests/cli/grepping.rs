//! `grep` over a state.

use crate::support::TestEnv;

fn with_files() -> TestEnv {
    let env = TestEnv::empty();
    for (name, content) in [
        ("d/etc/hosts", "127.0.0.1 localhost\n::1 LOCALHOST\n"),
        ("d/etc/conf", "# local settings\nlocal = yes\nremote = no"),
        ("d/usr/data", "\0\0localhost\0"),
        ("d/usr/other", "nothing here\n"),
    ] {
        env.file(name, content);
    }
    std::os::unix::fs::symlink("hosts", env.path("d/etc/link")).unwrap();
    std::fs::hard_link(env.path("d/etc/conf"), env.path("d/etc/zconf")).unwrap();
    env.ok(&["import", "-q", "dir:d", "--name", "d"]);
    env.ok(&["switch", "-c", "main", "d"]);
    env
}

#[test]
fn lines_come_as_grep_r_prints_them() {
    let env = with_files();
    assert_eq!(
        env.ok(&["grep", "local"]),
        "/etc/conf:# local settings\n/etc/conf:local = yes\n/etc/hosts:127.0.0.1 localhost\nBinary file /usr/data matches\n"
    );
    assert_eq!(
        env.ok(&["grep", "-n", "^[a-z]+ =", "main:/etc"]),
        "/etc/conf:2:local = yes\n/etc/conf:3:remote = no\n"
    );
    assert_eq!(env.ok(&["grep", "-I", "localhost"]), "/etc/hosts:127.0.0.1 localhost\n");
    assert_eq!(env.ok(&["grep", "-il", "localhost"]), "/etc/hosts\n/usr/data\n");
    assert_eq!(env.ok(&["grep", "-c", "local", ":/etc"]), "/etc/conf:2\n/etc/hosts:1\n");
}

#[test]
fn options_choose_lines_as_greps_do() {
    let env = with_files();
    assert_eq!(env.ok(&["grep", "-w", "local"]), "/etc/conf:# local settings\n/etc/conf:local = yes\n");
    assert_eq!(env.ok(&["grep", "-vn", "local", ":/etc/conf"]), "/etc/conf:3:remote = no\n");
    assert_eq!(env.ok(&["grep", "-F", "0.0.1"]), "/etc/hosts:127.0.0.1 localhost\n");
    assert_eq!(env.ok(&["grep", "-m1", "local", "d:/etc/conf"]), "/etc/conf:# local settings\n");
    let none = env.run(&["grep", "not there"]);
    assert_eq!((none.code, none.stdout.len(), none.stderr.as_str()), (1, 0, ""));
    let quiet = env.run(&["grep", "-q", "local"]);
    assert_eq!((quiet.code, quiet.stdout.len()), (0, 0));
    assert!(env.fails(125, &["grep", "a(b"]).contains("`a(b` is no regular expression: "));
    env.fails(125, &["grep", "x", ":/none"]);
    env.fails(2, &["grep", "-l", "-c", "x"]);
}

#[test]
fn names_choose_files_and_directories() {
    let env = with_files();
    assert_eq!(
        env.ok(&["grep", "-l", "local", "--include", "h*", "--include", "z*"]),
        "/etc/hosts\n/etc/zconf\n"
    );
    assert_eq!(env.ok(&["grep", "-l", "local", "--exclude", "*conf", "--exclude-dir=usr"]), "/etc/hosts\n");
    assert_eq!(env.run(&["grep", "local", "--exclude-dir", "[eu]*"]).code, 1);
}

#[test]
fn what_grep_says() {
    let env = with_files();
    insta::assert_snapshot!(env.transcript(&[
        &["grep", "-n", "local"],
        &["grep", "-n", "local", "--json"],
        &["grep", "-l", "local", "--json"],
        &["grep", "-c", "local", "--json"],
        &["grep", "none"],
        &["grep", "(", "main:/etc"],
    ]), @r##"
    $ treebox grep -n local
    /etc/conf:1:# local settings
    /etc/conf:2:local = yes
    /etc/hosts:1:127.0.0.1 localhost
    Binary file /usr/data matches
    $ treebox grep -n local --json
    {"line":1,"path":"/etc/conf","text":"# local settings"}
    {"line":2,"path":"/etc/conf","text":"local = yes"}
    {"line":1,"path":"/etc/hosts","text":"127.0.0.1 localhost"}
    {"binary":true,"path":"/usr/data"}
    $ treebox grep -l local --json
    {"path":"/etc/conf"}
    {"path":"/etc/hosts"}
    {"binary":true,"path":"/usr/data"}
    $ treebox grep -c local --json
    {"count":2,"path":"/etc/conf"}
    {"count":1,"path":"/etc/hosts"}
    {"binary":true,"count":1,"path":"/usr/data"}
    $ treebox grep none
    (exit 1)
    $ treebox grep ( main:/etc
    ! treebox: `(` is no regular expression: unclosed group
    (exit 125)
    "##);
}

#[test]
fn json_gives_path_line_and_text() {
    let env = with_files();
    let lines = env.json_lines(&["grep", "localhost"]);
    assert_eq!(lines[0], serde_json::json!({"path": "/etc/hosts", "line": 1, "text": "127.0.0.1 localhost"}));
    assert_eq!(lines[1], serde_json::json!({"path": "/usr/data", "binary": true}));
    assert_eq!(env.json(&["grep", "-c", "local", ":/etc/conf"])["count"], 2);
}

#[test]
fn matches_are_marked_where_there_are_colours() {
    let env = with_files();
    let text = env.ok(&["--color=always", "grep", "yes"]);
    assert!(text.contains("local = \x1b[1m\x1b[31myes\x1b[0m\n"), "{text:?}");
}

#[test]
fn long_lines_are_cut_and_long_files_searched_to_their_end() {
    let env = TestEnv::empty();
    let long = "x".repeat(treebox::MAX_GREP_SHOWN_BYTES + 10);
    let filler = "filler\n".repeat(treebox::MAX_GREP_LINE_BYTES / 7 + 1000);
    env.file("d/long", format!("{long}\n"));
    env.file("d/many", format!("{filler}needle\n"));
    env.ok(&["import", "-q", "dir:d", "--name", "d"]);
    let lines = env.json_lines(&["grep", "xx|needle", "d"]);
    assert_eq!(
        (&lines[0]["truncated"], lines[0]["text"].as_str().unwrap().len()),
        (&true.into(), long.len() - 10)
    );
    assert_eq!((&lines[1]["text"], lines[1]["line"].as_u64()), (&"needle".into(), Some(600_187)));
    assert!(env.ok(&["grep", "xx", "d"]).ends_with("x … (longer)\n"));
}
