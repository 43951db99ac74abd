//! Stores of later versions, and with features that are not known.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::archive;
use crate::support::TestEnv;

fn sound() -> TestEnv {
    let env = TestEnv::empty();
    archive::unpack_store(&env.store());
    env
}

fn format(env: &TestEnv, text: &str) {
    std::fs::write(env.store().join("format"), text).unwrap();
}

/// Every file with its length and time of change; SQLite's files of readers aside.
fn files(dir: &Path, found: &mut Vec<(PathBuf, u64, SystemTime)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            files(&path, found);
        } else if !path.to_string_lossy().contains("index.db-") {
            found.push((path, meta.len(), meta.modified().unwrap()));
        }
    }
    found.sort();
}

#[test]
fn a_later_store_and_a_later_index_are_refused_with_both_versions() {
    let env = sound();
    let db = rusqlite::Connection::open(env.store().join("index.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    for verb in [&["branch"][..], &["fsck"], &["fsck", "--repair"]] {
        let error = env.fails(125, verb);
        assert!(error.contains("has version 99, this treebox knows up to "), "{error}");
    }
    let env = sound();
    format(&env, "treebox store 2\n");
    for verb in [&["branch"][..], &["fsck"], &["fsck", "--repair"]] {
        let error = env.fails(125, verb);
        assert!(error.contains("has store format 2, this treebox knows 1"), "{error}");
    }
}

#[test]
fn features_are_ignored_read_only_or_refused_by_their_class() {
    let env = sound();
    format(&env, "treebox store 1\nignore later-idea\n");
    env.ok(&["tag", "v3", "main"]);
    format(&env, "treebox store 1\nrefuse packed-blobs\n");
    let error = env.fails(125, &["branch"]);
    assert!(error.contains("`packed-blobs`"), "{error}");

    let env = sound();
    env.file("mine", "mine\n");
    format(&env, "treebox store 1\nread-only packed-blobs\n");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    files(&env.store(), &mut before);
    assert_eq!(env.ok(&["cat", "main:/etc/motd"]), "be bold\n");
    for verb in [
        &["branch"][..],
        &["log"],
        &["show", "main~2"],
        &["ls", "main:/etc"],
        &["diff", "v1", "main"],
        &["op", "log"],
        &["cp", "main:/etc/motd", "copied"],
        &["fsck", "--full"],
    ] {
        env.ok(verb);
    }
    for verb in [
        &["tag", "v3", "main"][..],
        &["branch", "-d", "side"],
        &["undo"],
        &["switch", "side"],
        &["import", "dir:."],
        &["cp", "mine", "main:/x"],
        &["note", "main", "text"],
        &["checkout", "main", "--to", "checked-out"],
        &["gc"],
        &["fsck", "--repair"],
    ] {
        let error = env.fails(125, verb);
        assert!(error.contains("read-only"), "{verb:?}: {error}");
    }
    files(&env.store(), &mut after);
    assert_eq!(before, after, "something in the store was changed");
}
