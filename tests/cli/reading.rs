//! `ls`, `cat`, `checkout --to`.

use std::os::unix::fs::PermissionsExt;

use crate::support::TestEnv;

fn with_files() -> TestEnv {
    let env = TestEnv::on_main();
    env.ok(&[
        "run",
        "-q",
        "--epoch",
        "86400",
        "-c",
        "mkdir -p /d/sub; printf 123 > /d/file; ln /d/file /d/hard; ln -s file /d/link; mkfifo /d/fifo; \
         chmod 4755 /d/file; touch /d/sub/deep; printf 'a\\033b' > /d/sub/bytes",
    ]);
    env
}

#[test]
fn ls_lists_names_and_long_lines() {
    let env = with_files();
    assert_eq!(env.ok(&["ls", ":/d"]), "fifo\nfile\nhard\nlink\nsub\n");
    assert_eq!(env.ok(&["ls", "main:/d/file"]), "/d/file\n");
    assert_eq!(env.ok(&["ls", "-R", "main:/d/sub"]), "bytes\ndeep\n");
    let long = env.ok(&["ls", "-l", "main:/d"]);
    let lines: Vec<_> = long.lines().collect();
    assert!(lines[0].starts_with("prw-r--r-- 1 0 0 "), "{long}");
    assert!(lines[1].starts_with("-rwsr-xr-x 2 0 0 3 1970-01-02T00:00:00Z file"), "{long}");
    assert!(lines[3].ends_with(" link -> file"), "{long}");
    assert!(env.ok(&["ls"]).lines().any(|name| name == "d"));
    assert!(env.ok(&["ls", "-R", "/d"]).contains("sub/deep\n"));
}

#[test]
fn ls_as_json_has_the_fields_of_the_contract() {
    let env = with_files();
    let lines = env.json_lines(&["ls", "-R", "main:/d"]);
    let at = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    assert_eq!(
        *at("/d/file"),
        serde_json::json!({
            "path": "/d/file", "kind": "file", "mode": "4755", "uid": 0, "gid": 0, "size": 3,
            "mtime": "1970-01-02T00:00:00.000000000Z",
        })
    );
    assert_eq!((&at("/d/link")["kind"], &at("/d/link")["target"]), (&"symlink".into(), &"file".into()));
    assert_eq!(at("/d/fifo")["kind"], "fifo");
    assert_eq!(at("/d/sub")["kind"], "directory");
}

#[test]
fn names_are_raw_when_piped_and_base64_in_json_when_they_are_no_text() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "mkdir /n; touch \"$(printf '/n/x\\377y')\" \"$(printf '/n/a\\033b')\""]);
    assert_eq!(env.run(&["ls", ":/n"]).stdout, b"a\x1bb\nx\xffy\n");
    let json = env.json_lines(&["ls", ":/n"]);
    assert_eq!((&json[0]["path"], json[0].get("path_base64")), (&"/n/a\u{1b}b".into(), None));
    assert_eq!(json[1]["path_base64"], "L24veP95");
}

#[test]
fn cat_gives_bytes_as_they_are_and_follows_links_inside() {
    let env = with_files();
    assert_eq!(env.ok(&["cat", "main:/d/link"]), "123");
    assert_eq!(env.ok(&["cat", ":/d/file", "/d/hard"]), "123123");
    assert_eq!(env.run(&["cat", ":/d/sub/bytes"]).stdout, b"a\x1bb");
    let json = env.json(&["cat", ":/d/file"]);
    assert_eq!((&json["content"], &json["size"]), (&"123".into(), &3.into()));
    env.fails(125, &["cat", ":/d"]);
    env.fails(125, &["cat", ":/d/fifo"]);
    env.fails(125, &["cat", ":/d/none"]);
}

#[test]
fn checkout_to_writes_a_new_directory_and_leaves_head_alone() {
    let env = with_files();
    let before = env.json(&["status"]);
    let json = env.json(&["checkout", "main", "--to", "out", "--path", "/d"]);
    assert_eq!(json["path"], "/d");
    assert_eq!(std::fs::read(env.path("out/file")).unwrap(), b"123");
    assert_eq!(std::fs::read_link(env.path("out/link")).unwrap().to_str(), Some("file"));
    assert_eq!(std::fs::metadata(env.path("out/file")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(env.json(&["status"]), before);
    env.ok(&["checkout", "main", "--to", "whole"]);
    assert!(env.path("whole/usr/bin/sh").exists());
    env.file("full/file", "mine");
    env.fails(125, &["checkout", "main", "--to", "full"]);
    assert_eq!(crate::support::names(&env.path("full")), ["file"]);
    env.fails(2, &["checkout", "main", "--path", "/d"]);
}
