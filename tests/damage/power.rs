//! A power cut while layers are made: their rows may be there and their files empty.

use std::path::Path;

use crate::support::TestEnv;

fn sql(store: &Path, text: &str) {
    rusqlite::Connection::open(store.join("index.db")).unwrap().execute_batch(text).unwrap();
}

/// Lets the store believe that the machine has been started since.
fn reboot(store: &Path) {
    let path = store.join("history.boot");
    let text = std::fs::read_to_string(&path).unwrap();
    let boot = text.lines().nth(1).unwrap();
    std::fs::write(&path, text.replace(boot, "boot 00000000-0000-0000-0000-000000000000")).unwrap();
}

/// Empties every file of every layer but those that are links to blobs, as if it had never been written.
fn empty_files(directory: &Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let mut emptied = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            emptied += empty_files(&path);
        } else if meta.is_file() && meta.len() > 0 && meta.nlink() == 1 {
            std::fs::write(&path, b"").unwrap();
            emptied += 1;
        }
    }
    emptied
}

#[test]
fn layers_that_were_not_on_disk_before_the_machine_started_are_made_again() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo kept > /kept; cp /kept /copy"]);
    assert_eq!(env.ok(&["run", "-q", "-c", "cat /kept /copy"]), "kept\nkept\n");
    let layers = || crate::support::names(&env.store().join("layers")).len();
    let before = layers();
    // The same boot: nothing is made again.
    env.ok(&["run", "-q", "-c", "cat /kept"]);
    assert_eq!(layers(), before);
    // Another boot, of a disk on which the layers had not arrived.
    reboot(&env.store());
    empty_files(&env.store().join("layers"));
    assert_eq!(env.ok(&["run", "-q", "-c", "cat /kept /copy"]), "kept\nkept\n");
    assert!(layers() > before);
}

#[test]
fn layers_that_must_have_reached_the_disk_stay_after_the_machine_started() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo kept > /kept"]);
    let old = crate::support::names(&env.store().join("layers"));
    // Two minutes pass, and another layer is made.
    sql(&env.store(), "UPDATE layer SET made_ms = made_ms - 121000");
    env.ok(&["run", "-q", "-c", "echo more > /more"]);
    reboot(&env.store());
    assert_eq!(env.ok(&["run", "-q", "--from", "main~1", "-c", "cat /kept"]), "kept\n");
    assert_eq!(env.ok(&["run", "-q", "-c", "cat /more"]), "more\n");
    let known: Vec<String> = rusqlite::Connection::open(env.store().join("index.db"))
        .unwrap()
        .prepare("SELECT name FROM layer")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(old.iter().all(|name| known.contains(name)), "{old:?} {known:?}");
}
