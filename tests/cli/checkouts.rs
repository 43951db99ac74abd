//! `checkout --to`: a state's files in a directory, and that directory brought to another state.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::Value;

use crate::support::{TestEnv, masked, names};

/// A store with three states of a small tree: tags `one`, `two`, `three`.
fn states() -> TestEnv {
    let env = TestEnv::empty();
    env.file("root/etc/conf", "conf\n");
    env.file("root/bin/tool", "tool\n");
    env.ok(&["import", "-q", "dir:root", "--name", "small"]);
    env.ok(&["switch", "-c", "main", "small"]);
    env.ok(&["tag", "one"]);
    env.file("more/etc/conf", "changed\n");
    env.file("more/srv/deep/f", "f\n");
    env.ok(&["cp", "more/.", ":/"]);
    env.ok(&["tag", "two"]);
    env.file("empty/etc/conf", "third\n");
    env.ok(&["cp", "--delete", "--exclude", "bin", "empty/.", ":/"]);
    env.ok(&["tag", "three"]);
    env
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_checkout_of_an_update_touches_only_what_differs() {
    let env = states();
    let ran = env.run(&["checkout", "one", "--to", "out"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, "treebox: 4 entries to out\n"));
    let stamp = || {
        let meta = std::fs::metadata(env.path("out/bin/tool")).unwrap();
        (meta.ino(), meta.ctime(), meta.ctime_nsec())
    };
    let before = stamp();
    // A file of a person's own is neither in the way nor taken away.
    env.file("out/mine", "mine");
    let ran = env.run(&["checkout", "two", "--to", "out"]);
    assert_eq!(ran.stderr, "treebox: 4 written, 0 removed, 3 kept to out\n");
    assert_eq!(
        (read(env.path("out/etc/conf")), read(env.path("out/srv/deep/f"))),
        ("changed\n".into(), "f\n".into())
    );
    let ran = env.run(&["checkout", "three", "--to", "out"]);
    assert_eq!(ran.stderr, "treebox: 1 written, 3 removed, 3 kept to out\n");
    assert_eq!(names(&env.path("out")), ["bin", "etc", "mine"]);
    assert_eq!(stamp(), before, "what stays the same keeps its inode and its time of change");
    let mut json = env.json(&["checkout", "one", "--to", "out"]);
    for key in ["state", "from"] {
        json[key] = Value::from("[ID]");
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "entries": 1,
      "from": "[ID]",
      "kept": 3,
      "left": [],
      "path": "/",
      "removed": 0,
      "skipped": [],
      "state": "[ID]",
      "to": "out",
      "written": 1
    }
    "#);
    let nothing = env.json(&["checkout", "one", "--to", "out"]);
    assert_eq!(
        (&nothing["written"], &nothing["removed"], &nothing["kept"]),
        (&0.into(), &0.into(), &4.into())
    );
}

#[test]
fn what_was_changed_by_hand_is_replaced_only_by_force() {
    let env = states();
    env.ok(&["checkout", "two", "--to", "out"]);
    env.file("out/etc/conf", "by hand\n");
    env.file("out/srv/deep/mine", "mine\n");
    // What a change does not concern may be changed.
    env.file("out/bin/tool", "sharpened\n");
    let refused = env.fails(125, &["checkout", "three", "--to", "out"]);
    assert!(
        refused.contains("nothing was written") && refused.contains("etc/conf (it was changed by hand)"),
        "{refused}"
    );
    assert_eq!(read(env.path("out/etc/conf")), "by hand\n");
    assert!(env.path("out/srv/deep/f").exists(), "all or nothing");
    let ran = env.run(&["checkout", "-f", "three", "--to", "out"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("srv/deep stays, since files of others are in it"), "{}", ran.stderr);
    assert_eq!(
        (read(env.path("out/etc/conf")), names(&env.path("out/srv/deep"))),
        ("third\n".into(), vec!["mine".to_owned()])
    );
    assert_eq!(read(env.path("out/bin/tool")), "sharpened\n");
    // One that is back as it was is no change by hand.
    env.file("out/etc/conf", "third\n");
    env.ok(&["checkout", "two", "--to", "out"]);
    assert_eq!(read(env.path("out/etc/conf")), "changed\n");
    env.fails(2, &["checkout", "--force", "main"]);
}

#[test]
fn only_directories_that_a_checkout_wrote_are_brought_up_to_date() {
    let env = states();
    env.file("out/mine", "mine");
    let refused = env.fails(125, &["checkout", "one", "--to", "out"]);
    assert!(refused.contains("is not empty and no checkout of this store wrote it"), "{refused}");
    env.fails(125, &["checkout", "-f", "one", "--to", "out"]);
    env.ok(&["checkout", "one", "--to", "known"]);
    // Another directory of the same name is another directory.
    std::fs::rename(env.path("known"), env.path("moved")).unwrap();
    env.file("known/mine", "mine");
    env.fails(125, &["checkout", "two", "--to", "known"]);
    env.fails(125, &["checkout", "two", "--to", "moved"]);
    // A directory that was emptied is new; exports never update.
    std::fs::remove_file(env.path("known/mine")).unwrap();
    env.ok(&["checkout", "two", "--to", "known"]);
    env.fails(125, &["export", "one", "dir:known"]);
    // A part of a state, and another part of another.
    env.ok(&["checkout", "one", "--to", "part", "--path", "/etc"]);
    env.ok(&["checkout", "two", "--to", "part", "--path", "/srv/deep"]);
    assert_eq!(names(&env.path("part")), ["f"]);
    env.fails(125, &["checkout", "two", "--to", "part", "--path", "/etc/conf"]);
}

#[test]
fn an_update_that_was_killed_is_finished_by_the_next() {
    let env = states();
    env.ok(&["checkout", "one", "--to", "out"]);
    let records = names(&env.store().join("checkouts"));
    let record = records.iter().find(|name| !name.ends_with(".lock")).unwrap();
    let record = env.store().join("checkouts").join(record);
    let one: Value = serde_json::from_str(&read(&record)).unwrap();
    env.ok(&["checkout", "two", "--to", "out"]);
    let two: Value = serde_json::from_str(&read(&record)).unwrap();
    // As if the last one had been killed when some files were new and others not, with what it was making beside them.
    let mut killed = one.clone();
    killed["next"] = Value::from(vec![two["shows"].clone()]);
    std::fs::write(&record, serde_json::to_vec(&killed).unwrap()).unwrap();
    std::fs::remove_file(env.path("out/srv/deep/f")).unwrap();
    env.file("out/.treebox-writing-1-0/srv/half", "half");
    env.ok(&["checkout", "three", "--to", "out"]);
    assert_eq!(
        (names(&env.path("out")), read(env.path("out/etc/conf"))),
        (vec!["bin".to_owned(), "etc".to_owned()], "third\n".into())
    );
    let after: Value = serde_json::from_str(&read(&record)).unwrap();
    assert_eq!((&after["next"], &after["shows"]["path"]), (&Value::Array(Vec::new()), &"/".into()));
}

#[test]
fn owners_are_set_where_ids_allow_it_and_told_where_not() {
    let env = states();
    env.ok(&["cp", "--chown", "1000:1000", "--chmod", "4750", "root/bin/tool", ":/bin/owned"]);
    let json = env.json(&["checkout", "main", "--to", "out", "--path", "/bin"]);
    let meta = std::fs::metadata(env.path("out/owned")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o4750);
    let me = nix::unistd::geteuid().as_raw();
    let skipped = json["skipped"].as_array().unwrap();
    let mapped = env.run(&["--identity", "mapped", "doctor"]).code == 0;
    match (me, skipped.len()) {
        (0, _) => assert_eq!((meta.uid(), meta.gid(), skipped.len()), (1000, 1000, 0)),
        (_, 0) => assert!(mapped && meta.uid() != me, "uid {}", meta.uid()),
        _ => assert!(!mapped && skipped[0]["path"] == "owned" && meta.uid() == me, "{json}"),
    }
    // Up to date, by whoever can.
    env.ok(&["cp", "--chown", "7:7", "root/bin/tool", ":/bin/owned"]);
    env.ok(&["checkout", "main", "--to", "out", "--path", "/bin"]);
    let after = std::fs::metadata(env.path("out/owned")).unwrap();
    assert!(skipped.len() == 1 || after.uid() != meta.uid());
    // All of it the caller's own, which is told in one line by reason.
    if me != 0 {
        let ran = env.run(&["--identity", "plain", "checkout", "main", "--to", "plain", "--path", "/bin"]);
        assert_eq!(
            masked(&ran.stderr),
            "treebox: 2 entries to plain; 1 entry: its owner is not set: no id here stands for it; -v lists them\n"
        );
        assert_eq!(std::fs::metadata(env.path("plain/owned")).unwrap().uid(), me);
    }
}
