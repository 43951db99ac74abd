//! A power cut while layers are made: their rows may be there and their files empty.

use std::path::Path;

use crate::support::TestEnv;

fn sql(store: &Path, text: &str) {
    rusqlite::Connection::open(store.join("index.db")).unwrap().execute_batch(text).unwrap();
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
    sql(&env.store(), "UPDATE meta SET value = 'another' WHERE key = 'layers.boot'");
    empty_files(&env.store().join("layers"));
    assert_eq!(env.ok(&["run", "-q", "-c", "cat /kept /copy"]), "kept\nkept\n");
    assert!(layers() > before);
}

#[test]
fn layers_that_are_known_to_be_on_disk_stay_after_the_machine_started() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo kept > /kept"]);
    // A minute passes.
    sql(&env.store(), "UPDATE layer SET made_ms = made_ms - 120000");
    env.ok(&["run", "-q", "-c", "cat /kept"]);
    let layers = crate::support::names(&env.store().join("layers"));
    sql(&env.store(), "UPDATE meta SET value = 'another' WHERE key = 'layers.boot'");
    assert_eq!(env.ok(&["run", "-q", "-c", "cat /kept"]), "kept\n");
    assert_eq!(crate::support::names(&env.store().join("layers")), layers);
}
