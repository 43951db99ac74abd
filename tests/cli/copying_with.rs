//! `cp` with options: what is left out, whose files they become, what is deleted.

use serde_json::Value;

use crate::support::{TestEnv, names};

/// A store with a small tree as `main`, and a directory `src` on the host.
fn small() -> TestEnv {
    let env = TestEnv::empty();
    env.file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nbuilder:x:1000:1001::/:/bin/sh\n");
    env.file("root/etc/group", "root:x:0:\nbuilder:x:1001:\nstaff:x:50:\n");
    env.ok(&["import", "-q", "dir:root", "--name", "small"]);
    env.ok(&["switch", "-c", "main", "small"]);
    for (name, text) in [
        ("src/main.c", "int main;\n"),
        ("src/notes.log", "log\n"),
        ("src/build/out.o", "o\n"),
        ("src/doc/build", "a file of that name\n"),
        ("src/doc/a.log", "log\n"),
    ] {
        env.file(name, text);
    }
    env
}

fn below(env: &TestEnv, path: &str) -> Vec<String> {
    env.ok(&["ls", "-R", path]).lines().map(str::to_owned).collect()
}

fn owner_and_mode(env: &TestEnv, path: &str) -> (u64, u64, String) {
    let entry = env.json(&["ls", path]);
    let number = |key: &str| entry[key].as_u64().unwrap();
    (number("uid"), number("gid"), entry["mode"].as_str().unwrap().to_owned())
}

#[test]
fn patterns_and_the_ignore_file_leave_paths_out() {
    let env = small();
    env.file("src/.treeboxignore", "# made\nbuild/\n*.log\n");
    let ran = env.run(&["cp", "--exclude", "!notes.log", "src", ":/app"]);
    assert!(ran.stderr.ends_with("; 2 excluded\n"), "{}", ran.stderr);
    assert_eq!(below(&env, ":/app"), [".treeboxignore", "doc", "doc/build", "main.c", "notes.log"]);
    env.ok(&["cp", "--no-ignore", "--exclude=/doc", "src/.", ":/all"]);
    assert_eq!(below(&env, ":/all"), [".treeboxignore", "build", "build/out.o", "main.c", "notes.log"]);
    // From state to state too, and out of one.
    env.ok(&["cp", "--exclude", "*.c", "main:/all/.", ":/some"]);
    assert_eq!(below(&env, ":/some"), [".treeboxignore", "build", "build/out.o", "notes.log"]);
    let out = env.json(&["cp", "--exclude", "build", "main:/all", "out"]);
    assert_eq!((&out["excluded"], &out["entries"]), (&1.into(), &3.into()));
    assert_eq!(names(&env.path("out")), [".treeboxignore", "main.c", "notes.log"]);
    // A link is no list of what to leave out.
    std::fs::remove_file(env.path("src/.treeboxignore")).unwrap();
    std::os::unix::fs::symlink("main.c", env.path("src/.treeboxignore")).unwrap();
    env.ok(&["cp", "src", ":/linked"]);
    assert!(below(&env, ":/linked").contains(&"build/out.o".to_owned()));
}

#[test]
fn owners_and_permissions_are_set_as_chown_and_chmod_would() {
    let env = small();
    let copy =
        |owner: &str, mode: &str, to: &str| env.ok(&["cp", "--chown", owner, "--chmod", mode, "src/.", to]);
    copy("builder:staff", "D750,F640", ":/a");
    assert_eq!(owner_and_mode(&env, ":/a/main.c"), (1000, 50, "0640".to_owned()));
    assert_eq!(env.json_lines(&["ls", ":/"])[0]["mode"], "0750");
    copy("7", "755", ":/b");
    assert_eq!(owner_and_mode(&env, ":/b/doc/build").0, 7);
    copy("builder:", "u=rwX,go=rX", ":/c");
    assert_eq!(owner_and_mode(&env, ":/c/main.c"), (1000, 1001, "0644".to_owned()));
    copy(":staff", "go-rwx", ":/d");
    assert_eq!(owner_and_mode(&env, ":/d/main.c").1, 50);
    env.fails(125, &["cp", "--chown", "nobody-here", "src", ":/e"]);
    env.fails(125, &["cp", "--chown", ":", "src", ":/e"]);
    env.fails(2, &["cp", "--chmod", "rwx", "src", ":/e"]);
    env.fails(125, &["cp", "--chown", "0", "main:/a", "out"]);
    assert!(!env.path("out").exists());
}

#[test]
fn delete_takes_away_what_the_source_lacks_but_not_what_is_excluded() {
    let env = small();
    env.ok(&["cp", "src/.", ":/app"]);
    std::fs::remove_file(env.path("src/main.c")).unwrap();
    std::fs::remove_dir_all(env.path("src/build")).unwrap();
    std::fs::remove_file(env.path("src/doc/a.log")).unwrap();
    env.file("src/new", "new\n");
    let listed = env.ok(&["cp", "-n", "--delete", "--exclude", "*.log", "src/.", ":/app"]);
    assert_eq!(listed, "D\t/app/build\nD\t/app/build/out.o\nD\t/app/main.c\nA\t/app/new\n");
    let json = env.json(&["cp", "-n", "--delete", "--exclude", "*.log", "src/.", ":/app"]);
    assert_eq!((json["paths"].as_array().unwrap().len(), &json["changed"]), (4, &true.into()));
    assert!(below(&env, ":/app").contains(&"main.c".to_owned()), "a dry run changes nothing");
    assert_eq!(env.json_lines(&["log"]).len(), 2);
    env.ok(&["cp", "--delete", "--exclude", "*.log", "-m", "sync the sources\n\nlonger", "src/.", ":/app"]);
    assert_eq!(below(&env, ":/app"), ["doc", "doc/a.log", "doc/build", "new", "notes.log"]);
    let log = env.json_lines(&["log"]);
    assert_eq!(log[0]["command"], "sync the sources\n\nlonger");
    assert!(env.ok(&["reflog", "main"]).lines().next().unwrap().ends_with(": sync the sources"));
    env.ok(&["cp", "--delete", "--delete-excluded", "--exclude", "*.log", "src/.", ":/app"]);
    assert_eq!(below(&env, ":/app"), ["doc", "doc/build", "new"]);
    // What is excluded deep down keeps the way to it.
    env.ok(&["cp", "root/etc/group", ":/app/doc/keep.me"]);
    env.ok(&["cp", "--delete", "--exclude", "keep.*", "root/etc/.", ":/app"]);
    assert_eq!(below(&env, ":/app"), ["doc", "doc/keep.me", "group", "passwd"]);
    let again = env.json(&["cp", "--delete", "--exclude", "keep.*", "root/etc/.", ":/app"]);
    assert_eq!(again["changed"], false);
    // Two sources into one directory keep each other's.
    env.ok(&["cp", "--delete", "root/etc/.", "main:/etc/.", "src/.", ":/app"]);
    assert_eq!(below(&env, ":/app"), ["doc", "doc/build", "group", "new", "notes.log", "passwd"]);
    env.fails(2, &["cp", "--delete-excluded", "src/.", ":/app"]);
    let refused = env.fails(125, &["cp", "--delete", "main:/app/.", "out"]);
    assert!(refused.contains("checkout REV --to out"), "{refused}");
}

#[test]
fn several_sources_go_into_a_directory_that_is_there() {
    let env = small();
    env.ok(&["cp", "src/main.c", "root/etc/group", "small:/etc/passwd", ":/etc"]);
    assert_eq!(below(&env, ":/etc"), ["group", "main.c", "passwd"]);
    assert_eq!(env.json_lines(&["log"]).len(), 2, "one commit");
    env.fails(125, &["cp", "src/main.c", "root/etc/group", ":/nowhere"]);
    env.fails(125, &["cp", "main:/etc/group", "main:/etc/passwd", "nowhere"]);
    std::fs::create_dir(env.path("into")).unwrap();
    env.ok(&["cp", "main:/etc/group", "small:/etc", "into"]);
    assert_eq!(
        (names(&env.path("into")), names(&env.path("into/etc"))),
        (vec!["etc".to_owned(), "group".to_owned()], vec!["group".to_owned(), "passwd".to_owned()])
    );
    env.fails(2, &["cp", "-", "src", ":/etc"]);
    env.fails(2, &["cp", "src", "root", "into"]);
    env.fails(2, &["cp", "only"]);
}

#[test]
fn copies_out_merge_into_directories_and_list_what_they_would_write() {
    let env = small();
    env.file("out/etc/mine", "mine");
    env.file("out/etc/group", "old");
    let listed = env.ok(&["cp", "-n", "main:/etc", "out"]);
    assert_eq!(listed, "M\tout/etc/group\nA\tout/etc/passwd\n");
    assert_eq!(env.ok(&["cp", "-n", "main:/etc/group", "out/etc"]), "M\tout/etc/group\n");
    assert_eq!(std::fs::read(env.path("out/etc/group")).unwrap(), b"old");
    env.ok(&["cp", "main:/etc", "out"]);
    env.ok(&["cp", "main:/etc/.", "out"]);
    assert_eq!(names(&env.path("out/etc")), ["group", "mine", "passwd"]);
    assert_eq!(names(&env.path("out")), ["etc", "group", "passwd"]);
    assert!(std::fs::read_to_string(env.path("out/etc/group")).unwrap().contains("staff"));
    // Neither a file nor a link on the host makes room for a directory, nor is a link written through.
    env.file("victim/group", "untouched");
    std::fs::remove_dir_all(env.path("out/etc")).unwrap();
    std::os::unix::fs::symlink(env.path("victim"), env.path("out/etc")).unwrap();
    env.fails(125, &["cp", "main:/etc", "out"]);
    assert_eq!(std::fs::read(env.path("victim/group")).unwrap(), b"untouched");
    env.fails(125, &["cp", "main:/etc/group/.", "out"]);
}

#[test]
fn a_tar_stream_is_picked_from_and_owned_as_asked() {
    let env = small();
    env.ok(&["cp", "src/.", ":/app"]);
    let stream = env.run(&["cp", "main:/app", "-"]).stdout;
    let args = ["cp", "--exclude", "build/", "--exclude=*.log", "--chown", "builder", "-", ":/etc"];
    let ran = env.run_with_input(&args, &stream);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(below(&env, ":/etc/app"), ["doc", "doc/build", "main.c"]);
    assert_eq!(owner_and_mode(&env, ":/etc/app/main.c").0, 1000);
    env.fails(2, &["cp", "--exclude", "x", "main:/app", "-"]);
}

#[test]
fn the_json_of_a_copy_has_these_fields() {
    let env = small();
    let mut json = env.json(&["cp", "-n", "--exclude", "*", "src", "root/etc/group", ":/etc"]);
    for key in ["state", "commit"] {
        json[key] = Value::from("[ID]");
    }
    for path in json["paths"].as_array_mut().unwrap() {
        for key in ["mtime", "mode", "uid", "gid"] {
            path[key] = Value::from("[META]");
        }
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "branch": "main",
      "changed": true,
      "changes": {
        "added": 1,
        "deleted": 0,
        "modified": 0
      },
      "commit": "[ID]",
      "excluded": 4,
      "paths": [
        {
          "gid": "[META]",
          "kind": "directory",
          "mode": "[META]",
          "mtime": "[META]",
          "path": "/etc/src",
          "size": 0,
          "status": "A",
          "uid": "[META]"
        }
      ],
      "state": "[ID]"
    }
    "#);
    let mut json = env.json(&["cp", "-n", "--exclude", "group", "main:/etc", "new"]);
    json["state"] = Value::from("[ID]");
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "entries": 0,
      "excluded": 1,
      "path": "/etc",
      "planned": [
        {
          "path": "new/passwd",
          "status": "A"
        }
      ],
      "skipped": [],
      "state": "[ID]",
      "to": "new"
    }
    "#);
}
