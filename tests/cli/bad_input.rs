//! What is wrong gives one line and the right exit code, and leaves nothing behind.

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::SystemTime;

use treebox::object::{BlobId, Config, Entry, Meta, Name, Node, State, Timestamp, Tree};

use crate::support::{TestEnv, treebox};

#[test]
fn names_that_are_not_there_fail_in_every_verb() {
    let env = TestEnv::on_main();
    for args in [
        &["run", "--from", "nothing", "-c", "true"][..],
        &["run", "--branch", "nothing", "-c", "true"],
        &["log", "nothing"],
        &["show", "nothing"],
        &["diff", "main", "nothing"],
        &["ls", "nothing:/"],
        &["cat", "nothing:/f"],
        &["checkout", "nothing"],
        &["reset", "nothing"],
        &["reflog", "nothing"],
        &["branch", "x", "nothing"],
        &["tag", "x", "nothing"],
        &["cp", "nothing:/f", "here"],
        &["cat", "0123456789abcdef:/f"],
        &["log", "main~99"],
    ] {
        let line = env.fails(125, args);
        assert!(
            line.contains("nothing") || line.contains("0123456789abcdef") || line.contains("main~99"),
            "{line}"
        );
    }
}

/// The id of the state whose only file holds that text, computed without a store.
fn id_of_one_file(text: &str) -> String {
    let meta = |mode| Meta::root_owned(mode, Timestamp::default());
    let node = Node::File { blob: BlobId::of(text.as_bytes()), size: text.len() as u64, link: None };
    let tree = Tree::from_sorted(vec![(Name::new(b"f").unwrap(), Entry { meta: meta(0o644), node })]);
    let node = Node::Directory { tree: tree.encode().unwrap().0, below: tree.summary().unwrap() };
    let (root, _) = Tree::encode_root(&Entry { meta: meta(0o755), node });
    State { root, config: Config::default() }.id().to_string()
}

#[test]
fn a_short_id_that_fits_several_states_is_ambiguous() {
    let env = TestEnv::empty();
    let mut seen = HashMap::new();
    let twins = (0..).find_map(|number: u32| {
        let id = id_of_one_file(&number.to_string());
        Some([seen.insert(id[..4].to_owned(), number)?, number])
    });
    let ids = twins.unwrap().map(|number| {
        let file = env.file("root/f", number.to_string());
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        for path in [file, env.path("root")] {
            std::fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        std::fs::set_permissions(env.path("root"), Permissions::from_mode(0o755)).unwrap();
        let id = env.ok(&["import", "-q", "dir:root", "--name", &format!("n{number}")]).trim().to_owned();
        assert_eq!(id, id_of_one_file(&number.to_string()));
        id
    });
    assert_eq!(ids[0][..4], ids[1][..4]);
    let line = env.fails(125, &["ls", &format!("{}:/", &ids[0][..4])]);
    assert!(line.contains("type more digits"), "{line}");
    for id in ids {
        assert!(line.contains(&id[..12]), "{line}");
        assert_eq!(env.ok(&["ls", &format!("{}:/", &id[..20])]), "f\n");
    }
}

#[test]
fn what_is_no_image_is_told_so() {
    let env = TestEnv::empty();
    let text = env.file("text", "hello");
    let text = text.to_str().unwrap();
    env.fails(125, &["import", text]);
    env.fails(125, &["import", &format!("oci-archive:{text}")]);
    env.fails(125, &["import", &format!("docker-archive:{text}")]);
    env.fails(125, &["import", &format!("tar:{text}")]);
    env.fails(125, &["import", "tar:no-such-file"]);
    env.fails(125, &["import", "oci:no-such-dir"]);
    env.fails(125, &["import", "no-such-file"]);
    env.fails(125, &["import", "host:no-such-program"]);
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let env = TestEnv::new();
    std::fs::write(env.store().join("format"), "treebox store 999\n").unwrap();
    let line = env.fails(125, &["images"]);
    assert!(line.contains("999") || line.contains("newer"), "{line}");
    env.fails(125, &["run", "--from", "host", "-c", "true"]);
}

#[test]
fn what_is_no_store_is_refused() {
    let env = TestEnv::empty();
    let file = env.file("file", "hello");
    env.fails(125, &["--store", file.to_str().unwrap(), "images"]);
    env.file("full/of/things", "hello");
    env.fails(125, &["--store", "full", "images"]);
}

#[test]
fn a_store_that_cannot_be_written_is_told_so() {
    let env = TestEnv::new();
    // Root may write whatever the mode says, so the store is mounted read-only in a namespace of its own.
    let script =
        "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && exec \"$2\" import -q host:sh";
    let mut command = Command::new("unshare");
    env.isolate(&mut command);
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(env.store())
        .arg(treebox());
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(125), 1), "{stderr}");
    assert!(stderr.starts_with("treebox: ") && stderr.contains("ead-only"), "{stderr}");
}

#[test]
fn options_that_contradict_each_other_are_usage_errors() {
    let env = TestEnv::on_main();
    for args in [
        &["run"][..],
        &["run", "-c", "true", "--", "true"],
        &["run", "--fresh", "--reuse", "always", "-c", "true"],
        &["run", "--disposable", "--tag", "x", "-c", "true"],
        &["run", "--disposable", "--from", "host", "--branch", "x", "-c", "true"],
        &["run", "--reuse", "sometimes", "-c", "true"],
        &["run", "--timeout", "soon", "-c", "true"],
        &["run", "--timeout", "0", "-c", "true"],
        &["run", "--max-output", "much", "-c", "true"],
        &["run", "--epoch", "today", "-c", "true"],
        &["run", "-e", "=x", "-c", "true"],
        &["run", "--force", "-c", "true"],
        &["run", "--unknown", "-c", "true"],
        &["branch", "-d"],
        &["branch", "a", "b", "c"],
        &["branch", "-d", "-m", "a"],
        &["tag", "a", "b", "c"],
        &["diff"],
        &["diff", "--stat", "--name-status", "main"],
        &["log", "-n", "many"],
        &["cat"],
        &["cp", "a"],
        &["ls", "--", "main:/", "b"],
        &["frobnicate"],
        &["images", "rm"],
        &["completions", "nosh"],
        &["--color", "sometimes", "status"],
    ] {
        env.fails(2, args);
    }
}

#[test]
fn a_workdir_or_user_that_is_not_there_is_told() {
    let env = TestEnv::new();
    assert!(
        env.fails(125, &["run", "--from", "host", "-u", "nobody-knows", "-c", "true"])
            .contains("nobody-knows")
    );
    assert!(env.fails(125, &["run", "--from", "host", "-w", "/no/such", "-c", "true"]).contains("/no/such"));
}

#[test]
fn bad_ref_names_are_refused() {
    let env = TestEnv::on_main();
    for name in ["a..b", "a b", "-x", "a~1", "", ".a", "a.lock", "HEAD", "a\nb"] {
        let ran = env.run(&["branch", "--", name]);
        assert!(ran.code == 125 || ran.code == 2, "{name:?}: {} {}", ran.code, ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{name:?}: {}", ran.stderr);
    }
    assert_eq!(env.ok(&["branch"]), "* main\n");
}
