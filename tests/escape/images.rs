//! Images that are made to mislead, and states that a command prepares for the next.

use std::os::unix::fs::symlink;

use super::libc::EPERM;
use super::*;
use treebox::{Kind, TreePath};

fn engine() -> &'static Engine {
    &shared().engine
}

fn kind(state: &State, path: &str) -> Kind {
    engine().entry(state, &TreePath::parse(path.as_bytes()).unwrap()).unwrap().entry.node.kind()
}

/// A state with nothing but busybox, and what `change` makes of its directory before it is imported.
fn image(change: impl Fn(&std::path::Path)) -> State {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for name in ["bin", "etc", "tmp", "elsewhere"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/sh")).expect("these tests need the package busybox-static");
    change(&root);
    let source = format!("dir:{}", root.display());
    engine().import(&ImportSource::parse(&source).unwrap(), None).unwrap().state
}

fn say(state: &State, script: &str) -> String {
    let outcome = state.run(&Command::shell(script).disposable(true)).unwrap();
    assert_eq!(outcome.exit_code, Some(0), "{script}: {}", String::from_utf8_lossy(&outcome.stderr));
    String::from_utf8(outcome.stdout).unwrap()
}

#[test]
fn an_image_whose_mount_points_are_links_or_files_runs_and_keeps_them() {
    // CVE-2026-41579 (/dev), CVE-2019-16884 and CVE-2019-19921 (/proc): what is mounted lands where the link says.
    for name in ["dev", "proc", "sys"] {
        for target in ["elsewhere", "/elsewhere", "../../../../tmp", "/nowhere", "."] {
            let state = image(|root| symlink(target, root.join(name)).unwrap());
            let script = "echo x > /dev/null && read line < /proc/self/stat && echo $line > /etc/seen; echo /elsewhere/*";
            let outcome = state.run(&Command::shell(script)).unwrap();
            assert_eq!(outcome.stdout, b"/elsewhere/*\n", "{name} -> {target}");
            let after = outcome.state().clone();
            assert_eq!(kind(&after, &format!("/{name}")), Kind::Symlink, "{name} -> {target}");
            let changes = engine().diff(&state, &after, &[]).unwrap();
            let paths: Vec<String> = changes.iter().map(|change| change.path.to_string()).collect();
            assert_eq!(paths, ["/etc/seen"], "{name} -> {target}");
            // The layer that the run left shows the link to the next one.
            assert_eq!(say(&after, "[ -c /dev/null ] && [ -d /proc/1 ] && echo there"), "there\n");
        }
    }
    let state = image(|root| std::fs::write(root.join("dev"), "a file").unwrap());
    let outcome = state.run(&Command::shell("echo > /dev/null; echo n > /new")).unwrap();
    assert_eq!(kind(outcome.state(), "/dev"), Kind::File);
    let command = Command::shell("[ -c /dev/null ] && echo there").read_only(true).disposable(true);
    assert_eq!(state.run(&command).unwrap().stdout, b"there\n");
}

#[test]
fn links_below_a_mount_point_are_the_images_own_and_not_followed() {
    // What lies in the image's /proc and /dev is covered whole.
    let state = image(|root| {
        std::fs::create_dir(root.join("proc")).unwrap();
        std::fs::create_dir(root.join("dev")).unwrap();
        symlink("/elsewhere", root.join("proc/sys")).unwrap();
        symlink("/elsewhere/null", root.join("dev/null")).unwrap();
        symlink("/elsewhere", root.join("dev/pts")).unwrap();
    });
    assert_eq!(
        say(&state, "[ -c /dev/null ] && [ -d /proc/sys/kernel ] && echo /elsewhere/*"),
        "/elsewhere/*\n"
    );
}

#[test]
fn what_overlayfs_keeps_for_itself_cannot_be_planted() {
    let base = &shared().base;
    // Read by the next mount, these would hide or replace files, or show any object of the store (facts of overlayfs.rst).
    let script = format!(
        "mkdir -p /o/d; echo lower > /o/d/f; echo mine > /o/file; attack() {{ /attack {} set-attribute \"$@\"; }}
         attack /o/d user.overlay.opaque y; attack /o/file user.overlay.metacopy x
         attack /o/file user.overlay.redirect /etc/passwd; attack /o/file user.overlay.whiteout y
         attack /o/d trusted.overlay.opaque y",
        attack::ARGUMENT
    );
    let outcome = base.run(&Command::shell(script)).unwrap();
    let said = String::from_utf8(outcome.stdout.clone()).unwrap();
    // They are ordinary attributes of the user; the kernel's own kind is refused, or, where root is emulated, put down in the tree
    // alone.
    let (ours, kernels) = said.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(ours, "ok\nok\nok\nok", "{}", String::from_utf8_lossy(&outcome.stderr));
    assert!(kernels == EPERM.to_string() || kernels == "ok", "{kernels}");
    let first = outcome.state().clone();
    assert_eq!(say(&first, "cat /o/file /o/d/f"), "mine\nlower\n");
    // And through a second layer, and from a fresh store of layers.
    let second = first.run(&Command::shell("echo more > /o/d/g")).unwrap().state().clone();
    assert_eq!(say(&second, "cat /o/file /o/d/f /o/d/g"), "mine\nlower\nmore\n");
}

#[test]
fn a_planted_whiteout_hides_nothing() {
    // A character device 0/0 in the upper directory is how a deletion is kept.
    let before = shared().base.run(&Command::shell("mkdir /w; echo kept > /w/f; echo kept > /w/g")).unwrap();
    let before = before.state().clone();
    let script = format!("/attack {} mknod /w/new c 0 0; mv /w/new /w/f 2>/dev/null; echo", attack::ARGUMENT);
    let outcome = before.run(&Command::shell(script)).unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout).trim_end().to_owned();
    if said == EPERM.to_string() {
        assert_eq!(outcome.state(), &before);
    } else {
        // Where root is emulated it is a device like any other: the name is there, as what was asked for.
        assert_eq!(said, "ok");
        assert_eq!(kind(outcome.state(), "/w/f"), Kind::Char);
    }
    assert_eq!(say(outcome.state(), "cat /w/g"), "kept\n");
    assert_eq!(say(&before, "cat /w/f"), "kept\n");
}

#[test]
fn a_child_never_writes_through_to_its_parent() {
    let base = &shared().base;
    let parent = base.run(&Command::shell("mkdir /w; echo parent > /w/f; echo parent > /w/g")).unwrap();
    let parent = parent.state().clone();
    // The parent's files are links to the store's own objects: by writing, truncating, another name, a mode, a time.
    let script = "echo child > /w/f; ln /w/g /w/h; echo child >> /w/h; : > /w/g; chmod 777 /w/f; touch -d @0 /w/f; \
                  echo x | dd of=/w/f conv=notrunc 2>/dev/null";
    let child = parent.run(&Command::shell(script)).unwrap().state().clone();
    assert_eq!(say(&parent, "cat /w/f /w/g; stat -c %a /w/f"), "parent\nparent\n644\n");
    assert_ne!(child, parent);
    // Another store opened on the same disk reads what it hashes to.
    let path = TreePath::parse(b"/w/f").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut engine().open_file(&parent, &path).unwrap(), &mut text).unwrap();
    assert_eq!(text, "parent\n");
}

#[test]
fn setuid_programs_of_an_image_give_nothing() {
    let base = &shared().base;
    let script =
        "cp /usr/bin/id /id 2>/dev/null || cp /bin/id /id; chmod 6755 /id; grep NoNewPrivs /proc/self/status";
    let outcome = base.run(&Command::shell(script)).unwrap();
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "NoNewPrivs:\t1\n");
    let state = outcome.state().clone();
    let other = Command::new("/id").arg("-u").user("1000").disposable(true);
    match state.run(&other) {
        Ok(outcome) => assert_eq!(outcome.stdout, b"1000\n"),
        // One id: there is no other user to become, so nothing to come back from.
        Err(error) => assert!(error.to_string().contains("1000"), "{error}"),
    }
}
