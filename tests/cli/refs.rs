//! Branches, tags, HEAD, images.

use crate::support::{TestEnv, masked};

#[test]
fn import_prints_the_state_and_tells_the_rest_on_stderr() {
    let env = TestEnv::empty();
    let ran = env.run(&["import", "host"]);
    let id = ran.text();
    assert_eq!((id.trim().len(), id.lines().count()), (64, 1));
    assert!(ran.stderr.starts_with("treebox: host:latest: "), "{}", ran.stderr);
    let quiet = env.run(&["import", "-q", "host", "--name", "mine"]);
    assert_eq!((quiet.text(), quiet.stderr.as_str()), (id.clone(), ""));
    let json = env.json(&["import", "host:sh,cat"]);
    for field in ["state", "commit", "name", "entries", "size", "skipped"] {
        assert!(!json[field].is_null(), "{field}");
    }
}

#[test]
fn a_directory_is_imported_as_it_is() {
    let env = TestEnv::empty();
    env.file("root/etc/greeting", "hello\n");
    let json = env.json(&["import", "dir:root", "--name", "small"]);
    assert_eq!((&json["entries"], &json["size"]), (&2.into(), &6.into()));
    assert_eq!(env.ok(&["cat", "small:/etc/greeting"]), "hello\n");
    assert_eq!(env.ok(&["import", "-q", "root", "--name", "again"]).trim(), json["state"].as_str().unwrap());
}

#[test]
fn images_lists_names_and_rm_forgets_them() {
    let env = TestEnv::new();
    let images = env.json_lines(&["images"]);
    assert_eq!((images.len(), &images[0]["name"]), (1, &"host:latest".into()));
    for field in ["state", "commit", "size", "entries", "source", "imported"] {
        assert!(!images[0][field].is_null(), "{field}");
    }
    let text = env.ok(&["images"]);
    assert!(text.starts_with("NAME "), "{text}");
    assert!(text.lines().nth(1).unwrap().starts_with("host:latest  "), "{text}");
    env.ok(&["images", "rm", "host"]);
    assert!(env.json_lines(&["images"]).is_empty());
    env.fails(125, &["images", "rm", "host"]);
    let state = images[0]["state"].as_str().unwrap();
    assert!(env.ok(&["ls", state]).contains("bin"), "states stay");
}

#[test]
fn an_unborn_head_says_how_to_begin() {
    let env = TestEnv::new();
    assert!(env.ok(&["status"]).contains("treebox switch -c main IMAGE"));
    for verb in [&["run", "-c", "true"][..], &["log"], &["ls"], &["branch", "x"], &["show"]] {
        let line = env.fails(125, verb);
        assert!(line.contains("treebox switch -c main") || line.contains("--from"), "{verb:?}: {line}");
    }
    assert_eq!(env.ok(&["branch"]), "");
}

#[test]
fn branches_are_made_listed_renamed_and_deleted() {
    let env = TestEnv::on_main();
    env.ok(&["branch", "dev"]);
    env.ok(&["branch", "old", "host"]);
    assert_eq!(env.ok(&["branch"]), "  dev\n* main\n  old\n");
    let listed = env.json_lines(&["branch"]);
    let main = listed.iter().find(|branch| branch["name"] == "main").unwrap();
    assert_eq!((&main["current"], &main["state"]), (&true.into(), &env.json(&["status"])["state"]));
    env.ok(&["branch", "-m", "dev", "development"]);
    env.ok(&["branch", "-m", "trunk"]);
    assert_eq!(env.ok(&["branch"]), "  development\n  old\n* trunk\n");
    env.ok(&["branch", "-d", "old", "development"]);
    assert_eq!(env.ok(&["branch"]), "* trunk\n");
    env.fails(125, &["branch", "-d", "trunk"]);
    env.fails(125, &["branch", "-d", "nothing"]);
}

#[test]
fn a_branch_that_exists_is_moved_only_by_force() {
    let env = TestEnv::on_main();
    env.ok(&["branch", "dev"]);
    env.ok(&["run", "-q", "-c", "echo 1 > /f"]);
    env.fails(125, &["branch", "dev", "main"]);
    env.ok(&["branch", "-f", "dev", "main"]);
    assert_eq!(env.ok(&["cat", "dev:/f"]), "1\n");
}

#[test]
fn tags_are_made_listed_and_deleted() {
    let env = TestEnv::on_main();
    env.ok(&["tag", "v1"]);
    env.ok(&["run", "-q", "-c", "echo 1 > /f"]);
    env.ok(&["tag", "v2", "main"]);
    assert_eq!(env.ok(&["tag"]), "v1\nv2\n");
    env.fails(125, &["tag", "v1"]);
    env.ok(&["tag", "-f", "v1"]);
    let tags = env.json_lines(&["tag"]);
    assert_eq!(tags[0]["state"], tags[1]["state"]);
    env.ok(&["tag", "-d", "v1"]);
    assert_eq!(env.ok(&["tag"]), "v2\n");
}

#[test]
fn switch_and_checkout_move_head() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /f"]);
    env.ok(&["switch", "-c", "dev", "HEAD~1"]);
    assert_eq!(env.json(&["status"])["branch"], "dev");
    env.fails(125, &["cat", ":/f"]);
    env.ok(&["switch", "main"]);
    assert_eq!(env.ok(&["cat", ":/f"]), "1\n");
    env.fails(125, &["switch", "nothing"]);
    env.fails(2, &["switch", "main", "dev"]);
    let ran = env.run(&["checkout", "main~1"]);
    assert_eq!(masked(&ran.stderr), "treebox: HEAD is detached at [ID]\n");
    assert_eq!(env.json(&["status"])["branch"], serde_json::Value::Null);
    assert!(env.ok(&["branch"]).starts_with("* (HEAD detached at "));
    assert_eq!(env.json(&["checkout", "main"])["branch"], "main");
}

#[test]
fn reset_moves_the_branch_and_the_reflog_knows_where_it_was() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /f"]);
    let was = env.json(&["status"])["commit"].clone();
    env.ok(&["reset", "HEAD~1"]);
    env.fails(125, &["cat", ":/f"]);
    let log = env.json_lines(&["reflog", "main"]);
    assert_eq!((&log[0]["name"], &log[0]["old"]), (&"main@{0}".into(), &was));
    assert_eq!(log[1]["commit"], was);
    env.ok(&["reset", "main@{1}"]);
    assert_eq!(env.json(&["status"])["commit"], was);
    let text = env.ok(&["reflog"]);
    assert!(text.lines().next().unwrap().contains(" HEAD@{0}: "), "{text}");
}

#[test]
fn status_says_where_head_is_and_what_it_came_from() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo 1 > /f"]);
    let text = masked(&env.ok(&["status"]));
    assert_eq!(text, "on branch main\nstate   [ID]\ncommit  [ID]\nfrom    echo 1 > /f  (on [ID])\n");
    let json = env.json(&["status"]);
    assert_eq!((&json["command"], json["parents"].as_array().unwrap().len()), (&"echo 1 > /f".into(), 1));
}
