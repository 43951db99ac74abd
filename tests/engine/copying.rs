//! Files between the host, states and tar streams.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use treebox::{CopySource, ErrorKind, Node, TreePath};

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// A branch of its own at a state that shell text makes.
fn branch(name: &str, text: &str) -> State {
    let state = step(&base(), text);
    engine().create_branch(name, &state, false).unwrap();
    state
}

fn at(name: &str) -> State {
    engine().resolve(name).unwrap()
}

fn copy_in(source: &Path, name: &str, dest: &str) -> treebox::Result<treebox::Committed<State>> {
    engine().copy_in(CopySource::Path(source), name, &path(dest))
}

fn tar_in(mut bytes: &[u8], name: &str, dest: &str) -> treebox::Result<treebox::Committed<State>> {
    engine().copy_in(CopySource::Tar(&mut bytes), name, &path(dest))
}

fn tar_out(state: &State, from: &str) -> Vec<u8> {
    let mut out = Vec::new();
    engine().write_tar(state, &path(from), &mut out).unwrap();
    out
}

fn read(state: &State, file: &str) -> String {
    String::from_utf8(engine().read_file(state, &path(file)).unwrap()).unwrap()
}

fn node(state: &State, file: &str) -> Node {
    engine().entry(state, &path(file)).unwrap().entry.node
}

fn mode(state: &State, file: &str) -> u16 {
    engine().entry(state, &path(file)).unwrap().entry.meta.mode
}

/// A host directory `d` with a file, a link to it, a symlink, and a directory of mode 0555.
fn host_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path().join("d");
    std::fs::create_dir_all(d.join("sub")).unwrap();
    std::fs::write(d.join("f"), "file").unwrap();
    std::fs::hard_link(d.join("f"), d.join("sub/same")).unwrap();
    symlink("f", d.join("s")).unwrap();
    std::fs::set_permissions(d.join("sub"), std::fs::Permissions::from_mode(0o555)).unwrap();
    dir
}

#[test]
fn a_file_and_a_directory_into_a_branch_are_one_commit_each_and_the_same_again_is_none() {
    let before = branch("copy/in", "mkdir -m 700 /there; echo old > /old");
    let host = host_tree();
    let d = host.path().join("d");
    let first = copy_in(&d.join("f"), "copy/in", "/new").unwrap();
    assert!(first.changed && first.changes.added == 1);
    assert_eq!(changes(&before, &first.state), ["A /new"]);
    assert_eq!(engine().resolve("copy/in~1").unwrap(), before);
    let second = copy_in(&d, "copy/in", "/there").unwrap();
    assert_eq!(read(&second.state, "/there/d/f"), "file");
    assert_eq!(engine().resolve("copy/in~2").unwrap(), before);
    assert_eq!((mode(&second.state, "/there"), mode(&second.state, "/there/d/sub")), (0o700, 0o555));
    assert_eq!(node(&second.state, "/there/d/s"), Node::Symlink { target: b"f".to_vec() });
    // Names of one file stay names of one file, and it is the caller's, who is root inside.
    let (Node::File { link: Some(one), .. }, Node::File { link: Some(two), .. }) =
        (node(&second.state, "/there/d/f"), node(&second.state, "/there/d/sub/same"))
    else {
        panic!("no links")
    };
    assert_eq!(one, two);
    let meta = engine().entry(&second.state, &path("/there/d/f")).unwrap().entry.meta;
    assert_eq!((meta.uid, meta.gid), (0, 0));
    for (from, to) in [(d.join("f"), "/new"), (d.clone(), "/there"), (d.join("."), "/there/d")] {
        let again = copy_in(&from, "copy/in", to).unwrap();
        assert!(!again.changed && again.commit == second.commit, "{to}");
    }
    assert_eq!(stdout(&second.state, "cat /there/d/sub/same; stat -c %h /there/d/f"), "file2\n");
}

#[test]
fn a_destination_is_a_directory_a_file_or_new_as_with_cp() {
    branch(
        "copy/dest",
        "mkdir -p /dir/keep /real/deep; echo old > /old; ln -s ../real/deep /dir/link; ln -s /old /oldlink; ln -s /real /r",
    );
    let host = host_tree();
    let d = host.path().join("d");
    let copy = |from: &Path, to: &str| copy_in(from, "copy/dest", to).unwrap().state;
    // A single file replaces a file, also through a link, which stays.
    assert_eq!(read(&copy(&d.join("f"), "/old"), "/old"), "file");
    std::fs::write(host.path().join("g"), "other").unwrap();
    let state = copy(&host.path().join("g"), "/oldlink");
    assert_eq!(read(&state, "/old"), "other");
    assert!(matches!(node(&state, "/oldlink"), Node::Symlink { .. }));
    // A link to a directory leads there, within the state.
    assert_eq!(read(&copy(&d.join("f"), "/dir/link"), "/real/deep/f"), "file");
    assert_eq!(read(&copy(&d.join("f"), "/r/new"), "/real/new"), "file");
    // The contents of a directory; a directory that is linked to is gone into, not replaced.
    std::fs::create_dir_all(host.path().join("e/r")).unwrap();
    std::fs::write(host.path().join("e/r/merged"), "m").unwrap();
    let state = copy(&host.path().join("e/."), "/");
    assert_eq!(read(&state, "/real/merged"), "m");
    assert!(matches!(node(&state, "/r"), Node::Symlink { .. }));
    assert_eq!(read(&copy(&d, "/as/new/name"), "/as/new/name/f"), "file");
    // A symlink is copied as one; with a slash it means the directory.
    symlink("d", host.path().join("l")).unwrap();
    assert_eq!(
        node(&copy(&host.path().join("l"), "/dir"), "/dir/l"),
        Node::Symlink { target: b"d".to_vec() }
    );
    assert_eq!(read(&copy(&host.path().join("l/"), "/dir/viaslash"), "/dir/viaslash/f"), "file");
    // Neither takes the other's place.
    let tip = at("copy/dest");
    std::fs::write(host.path().join("keep"), "").unwrap();
    assert_eq!(
        copy_in(&host.path().join("keep"), "copy/dest", "/dir").unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(copy_in(&d, "copy/dest", "/old").unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(at("copy/dest"), tip);
}

#[test]
fn only_a_branch_takes_files() {
    let state = branch("copy/only", "echo x > /x");
    let host = host_tree();
    let id = state.id().to_string();
    for target in [id.as_str(), "copy/only~1", "no-such-branch"] {
        let error = copy_in(&host.path().join("d/f"), target, "/f").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{target}: {error}");
    }
    assert_eq!(at("copy/only"), state);
}

#[test]
fn a_path_of_a_state_is_copied_with_its_links() {
    let from = step(&base(), "mkdir /p; echo x > /p/a; ln /p/a /p/b; mkfifo /p/q");
    branch("copy/state", "mkdir /into");
    let copied =
        engine().copy_in(CopySource::State(&from, &path("/p")), "copy/state", &path("/into")).unwrap();
    assert_eq!(
        stdout(&copied.state, "cd /into/p; stat -c %F a q; test a -ef b && cat b"),
        "regular file\nfifo\nx\n"
    );
    let again =
        engine().copy_in(CopySource::State(&from, &path("/p")), "copy/state", &path("/into")).unwrap();
    assert!(!again.changed);
}

#[test]
fn files_leave_a_state_to_a_new_path_into_a_directory_or_in_a_files_place() {
    let state = step(&base(), "mkdir -p /o/sub; echo one > /o/f; ln -s f /o/s; chmod 640 /o/f");
    let host = tempfile::tempdir().unwrap();
    let to = |name: &str| host.path().join(name);
    let out = |from: &str, to: &Path| engine().copy_out(&state, &path(from), to);
    out("/o/f", &to("new")).unwrap();
    assert_eq!(std::fs::read(to("new")).unwrap(), b"one\n");
    assert_eq!(std::fs::metadata(to("new")).unwrap().mode() & 0o7777, 0o640);
    std::fs::create_dir(to("dir")).unwrap();
    out("/o/f", &to("dir")).unwrap();
    out("/o", &to("dir")).unwrap();
    assert_eq!(std::fs::read(to("dir/f")).unwrap(), std::fs::read(to("dir/o/s")).unwrap());
    // Replaced as a whole, and never through a link.
    std::fs::write(to("victim"), "untouched").unwrap();
    symlink(to("victim"), to("link")).unwrap();
    std::fs::write(to("file"), "longer than what comes").unwrap();
    for name in ["file", "link"] {
        out("/o/f", &to(name)).unwrap();
        assert_eq!(std::fs::read(to(name)).unwrap(), b"one\n");
    }
    assert_eq!(std::fs::read(to("victim")).unwrap(), b"untouched");
    assert_eq!(
        std::fs::read_link({
            out("/o/s", &to("s")).unwrap();
            to("s")
        })
        .unwrap(),
        Path::new("f")
    );
    // Into a directory of that name as with cp -a: what is there besides stays.
    std::fs::write(to("dir/o/mine"), "mine").unwrap();
    out("/o", &to("dir")).unwrap();
    assert_eq!(crate::support::names(&to("dir/o")), ["f", "mine", "s", "sub"]);
    std::fs::write(to("dir/o/sub/f"), "").unwrap();
    symlink("/", to("dir/p")).unwrap();
    let up = step(&state, "mkdir -p /o2/sub/f; ln -s x /p");
    let conflict = engine().copy_out(&up, &path("/o2/sub"), &to("dir/o")).unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::Conflict, "{conflict}");
    engine().copy_out(&up, &path("/p"), &to("dir")).unwrap();
    assert_eq!(std::fs::read_link(to("dir/p")).unwrap(), Path::new("x"));
    assert_eq!(out("/o/none", &to("x")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(crate::support::names(host.path()), ["dir", "file", "link", "new", "s", "victim"]);
}

#[test]
fn a_checkout_gives_back_what_the_state_has() {
    let state = step(
        &base(),
        "mkdir -p /c/ro /c/t; echo a > /c/ro/f; ln /c/ro/f /c/t/same; ln -s nowhere /c/s; mkfifo /c/q; chmod 4711 /c/ro/f; chmod 1777 /c/t; \
         touch -d '2001-02-03 04:05:06.789 UTC' /c/ro/f /c/t; chmod 555 /c/ro; touch -hd '1999-01-01 UTC' /c/s",
    );
    let host = tempfile::tempdir().unwrap();
    let dest = host.path().join("out/er");
    engine().checkout_to(&state, &path("/c"), &dest).unwrap();
    let stat = |name: &str| std::fs::symlink_metadata(dest.join(name)).unwrap();
    assert_eq!(std::fs::read(dest.join("ro/f")).unwrap(), b"a\n");
    assert_eq!((stat("ro/f").ino(), stat("ro/f").mode() & 0o7777), (stat("t/same").ino(), 0o4711));
    assert_eq!((stat("ro").mode() & 0o7777, stat("t").mode() & 0o7777), (0o555, 0o1777));
    for name in ["ro/f", "t"] {
        assert_eq!((stat(name).mtime(), stat(name).mtime_nsec()), (981_173_106, 789_000_000));
    }
    assert_eq!(
        (stat("s").mtime(), std::fs::read_link(dest.join("s")).unwrap()),
        (915_148_800, "nowhere".into())
    );
    // And back again: the same tree.
    branch("copy/back", "true");
    let back = copy_in(&dest, "copy/back", "/c").unwrap().state;
    assert_eq!(engine().diff(&state, &back, &[]).unwrap(), []);
    // Again is nothing to do; a directory that nobody knows is not written to.
    assert_eq!(engine().checkout_to(&state, &path("/c"), &dest).unwrap().entries, 0);
    let other = host.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("mine"), "mine").unwrap();
    let error = engine().checkout_to(&state, &path("/c"), &other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn a_tar_stream_goes_out_and_in() {
    let state = step(
        &base(),
        "mkdir -p /t/d; echo x > /t/d/f; ln /t/d/f /t/g; mkfifo /t/.wh.q; chmod 2750 /t/d; ln -s d /t/s",
    );
    branch("copy/tar", "mkdir /u; ln -s u /v; echo f > /file");
    let stream = tar_out(&state, "/t");
    let into = tar_in(&stream, "copy/tar", "/v").unwrap();
    assert!(into.changed);
    assert_eq!(
        stdout(&into.state, "cd /u/t; cat d/f; stat -c %a d; test d/f -ef g; stat -c %F .wh.q; readlink s"),
        "x\n2750\nfifo\nd\n"
    );
    assert_eq!(tar_out(&into.state, "/u/t"), stream);
    assert!(!tar_in(&stream, "copy/tar", "/u").unwrap().changed);
    // The whole of a state, onto a branch at another one.
    let whole = tar_out(&state, "/");
    assert_eq!(tar_in(&whole, "copy/tar", "/").map(|done| read(&done.state, "/t/g")).unwrap(), "x\n");
    // A link is written as one: a header, its time in a pax header and record block, and the end of the archive.
    assert_eq!(tar_out(&state, "/t/s").len(), 5 * 512);
    let tip = at("copy/tar");
    assert_eq!(tar_in(&stream, "copy/tar", "/nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tar_in(&stream, "copy/tar", "/file").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(tar_in(b"no tar at all", "copy/tar", "/u").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(
        tar_in(&stream[..stream.len() / 2], "copy/tar", "/u").unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(at("copy/tar"), tip);
}
