//! Reading what is damaged: an error that names the path and where it was read from, never wrong bytes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::TestEnv;

const SOUND: &str = "no bit of this is flipped\n";
const WRONG: &str = "no bit of this is flappe";

/// How a blob is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    Flipped,
    Truncated,
    Missing,
}

const DEFECTS: [Defect; 3] = [Defect::Flipped, Defect::Truncated, Defect::Missing];

fn blob_of(store: &Path, text: &str) -> PathBuf {
    let id = blake3::hash(text.as_bytes()).to_string();
    store.join("objects").join(&id[..2]).join(&id[2..])
}

/// A store whose branch `main` has `/etc/motd`, and `old` another one; the blob is damaged.
fn damaged(env: &TestEnv, defect: Defect) {
    env.file("old/etc/motd", "something else\n");
    env.ok(&["import", "-q", "dir:old", "--name", "small"]);
    env.ok(&["switch", "-c", "main", "small"]);
    env.ok(&["tag", "old"]);
    env.file("new/etc/motd", SOUND);
    env.ok(&["cp", "new/.", ":/"]);
    damage(env, defect);
}

fn damage(env: &TestEnv, defect: Defect) {
    let blob = blob_of(&env.store(), SOUND);
    std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o644)).unwrap();
    match defect {
        Defect::Flipped => std::fs::write(&blob, format!("{WRONG}d\n")).unwrap(),
        Defect::Truncated => std::fs::write(&blob, &SOUND[..7]).unwrap(),
        Defect::Missing => std::fs::remove_file(&blob).unwrap(),
    }
}

/// The call fails, says what and where, and gives none of the wrong bytes.
fn refuses(env: &TestEnv, defect: Defect, args: &[&str]) {
    let ran = env.run(args);
    let what = format!("{defect:?} {args:?}: {} {}", ran.stderr, String::from_utf8_lossy(&ran.stdout));
    assert_eq!(ran.code, 125, "{what}");
    assert!(
        ran.stderr.contains("/etc") && ran.stderr.contains("motd") && ran.stderr.contains("main"),
        "{what}"
    );
    let word = if defect == Defect::Missing { "missing" } else { "damaged" };
    assert!(ran.stderr.contains(word), "{what}");
    assert!(ran.stderr.contains("\nhint: `treebox fsck --full`"), "{what}");
}

#[test]
fn every_verb_that_reads_names_the_path_and_the_revision_of_damaged_bytes_and_gives_none_of_them() {
    for defect in DEFECTS {
        let env = TestEnv::empty();
        damaged(&env, defect);
        for args in [
            &["cat", "main:/etc/motd"][..],
            &["cat", "--json", "main:/etc/motd"],
            &["show", "main:/etc/motd"],
            &["grep", "flipped", "main:/etc"],
            &["diff", "--patch", "old", "main"],
            &["diff", "--stat", "old", "main"],
            &["blame", "main:/etc/motd"],
            &["export", "main", "tar:out.tar"],
            &["export", "main", "oci:out"],
            &["export", "main", "docker-archive:out.tar"],
            &["checkout", "main", "--to", "checked-out"],
            &["cp", "main:/etc", "copied"],
            &["cp", "main:/etc/motd", "copied-file"],
            &["cp", "main:/etc", "-"],
        ] {
            if args[0] == "blame" && defect != Defect::Missing {
                // It names the commit, and the path that it was asked for.
                assert_eq!(env.run(args).code, 125, "{defect:?} {args:?}");
                continue;
            }
            if args[0] == "blame" {
                continue;
            }
            refuses(&env, defect, args);
        }
        for left in ["out.tar", "checked-out/etc/motd", "copied/motd", "copied-file"] {
            let found = std::fs::read(env.path(left));
            assert!(found.is_err(), "{defect:?}: {left} was written: {found:?}");
        }
    }
}

#[test]
fn a_run_on_a_state_that_lost_a_file_names_it() {
    for defect in [Defect::Truncated, Defect::Missing] {
        let env = TestEnv::on_main();
        env.file("new/motd", SOUND);
        env.ok(&["cp", "new/motd", "main:/etc/motd"]);
        damage(&env, defect);
        let error = env.fails(125, &["run", "--branch", "main", "-c", "cat /etc/motd"]);
        let commit = env.json_lines(&["log", "-n", "1", "main"])[0]["commit"].as_str().unwrap().to_owned();
        assert!(error.starts_with(&format!("treebox: {}: blob ", &commit[..12])), "{error}");
        assert!(error.contains(" of /etc/motd is "), "{error}");
    }
}
