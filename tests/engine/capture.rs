//! What a run leaves is what the state has: nothing lost, nothing invented.

use treebox::{Kind, Node, TreePath};

use super::*;

fn entry(state: &State, path: &str) -> treebox::Entry {
    engine().entry(state, &TreePath::parse(path.as_bytes()).unwrap()).unwrap().entry
}

fn is_gone(state: &State, path: &str) -> bool {
    engine().entry(state, &TreePath::parse(path.as_bytes()).unwrap()).is_err()
}

#[test]
fn new_changed_and_deleted_files_are_told_apart() {
    let first = step(&base(), "mkdir /w; echo a > /w/keep; echo b > /w/change; echo c > /w/drop");
    let second = step(&first, "echo B > /w/change; rm /w/drop; echo n > /w/new");
    assert_eq!(changes(&first, &second), ["M /w/change", "D /w/drop", "A /w/new"]);
    assert_eq!(stdout(&second, "cat /w/change /w/new; ls /w"), "B\nn\nchange\nkeep\nnew\n");
}

#[test]
fn a_command_that_changes_nothing_gives_its_parent_back() {
    for text in [
        "true",
        "cat /etc/passwd",
        "touch /tmp/x; rm /tmp/x",
        "chmod 644 /etc/passwd; chmod 644 /etc/passwd",
        "cp -p /etc/passwd /tmp/p; cat /tmp/p > /etc/passwd; touch -r /tmp/p /etc/passwd; rm /tmp/p",
    ] {
        let outcome = run(&base(), text);
        assert!(!outcome.changed, "{text}: {:?}", changes(&base(), outcome.state()));
        assert_eq!(outcome.state(), &base(), "{text}");
    }
}

#[test]
fn a_replaced_directory_hides_what_it_had() {
    let first = step(&base(), "mkdir -p /o/sub; echo 1 > /o/one; echo 2 > /o/sub/two");
    let second = step(&first, "rm -r /o; mkdir /o; echo 3 > /o/three");
    assert_eq!(stdout(&second, "find /o | sort"), "/o\n/o/three\n");
    assert!(is_gone(&second, "/o/sub"));
    // And its layers say the same to the next run.
    let third = step(&second, "mkdir /o/sub");
    assert_eq!(stdout(&third, "find /o | sort"), "/o\n/o/sub\n/o/three\n");
}

#[test]
fn kinds_take_each_others_place() {
    let first =
        step(&base(), "mkdir /k; echo f > /k/file; mkdir /k/dir; echo i > /k/dir/in; ln -s file /k/link");
    let second = step(
        &first,
        "cd /k; rm -r file dir link; mkdir file; echo d > dir; mkdir link; echo x > link/y; echo z > file/z",
    );
    assert_eq!(entry(&second, "/k/file").node.kind(), Kind::Directory);
    assert_eq!(entry(&second, "/k/dir").node.kind(), Kind::File);
    assert_eq!(entry(&second, "/k/link").node.kind(), Kind::Directory);
    assert_eq!(
        stdout(&second, "cd /k; cat dir link/y file/z; find . | sort | tr '\\n' ' '"),
        "d\nx\nz\n. ./dir ./file ./file/z ./link ./link/y "
    );
}

#[test]
fn renames_across_layers_keep_the_content() {
    let first = step(&base(), "mkdir -p /r/a/b; echo deep > /r/a/b/f; echo top > /r/t");
    let second = step(&first, "mv /r/a /r/moved; mv /r/t /r/moved/t");
    assert_eq!(
        stdout(&second, "find /r | sort | tr '\\n' ' '; cat /r/moved/b/f /r/moved/t"),
        "/r /r/moved /r/moved/b /r/moved/b/f /r/moved/t deep\ntop\n"
    );
}

#[test]
fn modes_times_and_special_bits_are_kept() {
    let state = step(
        &base(),
        "echo x > /m; chmod 4751 /m; mkdir -m 1777 /d; touch -d '2001-02-03 04:05:06.789 UTC' /m; mkfifo -m 600 /pipe; ln -s /nowhere /dangling",
    );
    let file = entry(&state, "/m");
    assert_eq!(file.meta.mode, 0o4751);
    assert_eq!((file.meta.mtime.seconds(), file.meta.mtime.nanoseconds()), (981_173_106, 789_000_000));
    assert_eq!(entry(&state, "/d").meta.mode, 0o1777);
    assert_eq!(entry(&state, "/pipe").node, Node::Fifo);
    assert_eq!(entry(&state, "/dangling").node, Node::Symlink { target: b"/nowhere".to_vec() });
    let seen =
        stdout(&state, "stat -c '%a %y' /m | cut -c1-28; stat -c '%a %F' /d /pipe; readlink /dangling");
    assert_eq!(seen, "4751 2001-02-03 04:05:06.789\n1777 directory\n600 fifo\n/nowhere\n");
    // A mode alone is a change of the file, and only of it.
    let changed = step(&state, "chmod 600 /m");
    assert_eq!(changes(&state, &changed), ["M /m"]);
}

#[test]
fn hard_links_stay_links_and_a_lone_one_is_a_file() {
    let first = step(&base(), "mkdir /h; echo x > /h/a; ln /h/a /h/b; ln /h/a /h/c; echo s > /h/single");
    let link = |state: &State, path: &str| match entry(state, path).node {
        Node::File { link, .. } => link,
        other => panic!("{other:?}"),
    };
    assert!(link(&first, "/h/a").is_some());
    assert_eq!(link(&first, "/h/a"), link(&first, "/h/c"));
    assert_eq!(link(&first, "/h/single"), None);
    assert_eq!(
        stdout(
            &first,
            "test /h/a -ef /h/b && test /h/a -ef /h/c && echo same; test /h/a -ef /h/single || echo other"
        ),
        "same\nother\n"
    );
    // A new name for an unchanged file joins its group, though the copy-up took it out of it on disk.
    let joined = step(&first, "ln /h/b /h/d");
    assert_eq!(changes(&first, &joined), ["M /h/a", "M /h/b", "M /h/c", "A /h/d"]);
    assert_eq!(link(&joined, "/h/a"), link(&joined, "/h/d"));
    assert_eq!(stdout(&joined, "test /h/a -ef /h/d && test /h/c -ef /h/d && echo same"), "same\n");
    // Names that go leave the rest; the last one is a file by itself.
    let two = step(&first, "rm /h/c");
    assert_eq!(link(&two, "/h/a"), link(&two, "/h/b"));
    let one = step(&two, "rm /h/b");
    assert_eq!(link(&one, "/h/a"), None);
    let same = step(&base(), "mkdir /h; echo s > /h/single; echo x > /h/a");
    assert_eq!(stdout(&one, "ls /h"), stdout(&same, "ls /h"));
}

#[test]
fn a_written_name_of_a_linked_file_parts_from_the_others_as_the_run_saw_it() {
    let first = step(&base(), "mkdir /p; echo x > /p/a; ln /p/a /p/b; ln /p/a /p/c");
    let seen = run(&first, "echo y >> /p/a; cat /p/a /p/b");
    let state = seen.state().clone();
    assert_eq!(stdout(&state, "cat /p/a /p/b").into_bytes(), seen.stdout);
    assert!(matches!(entry(&state, "/p/b").node, Node::File { link: Some(_), .. }));
}

#[test]
fn names_that_are_no_text_and_very_long_ones_survive() {
    let state = step(
        &base(),
        "mkdir /n; cd /n; touch \"$(printf 'a\\377b')\" 'new\nline' ' ' -- '-rf'; touch $(head -c 255 /dev/zero | tr '\\0' x)",
    );
    let names = engine().list(&state, &TreePath::parse(b"/n").unwrap(), false).unwrap();
    let names: Vec<Vec<u8>> =
        names.iter().map(|listed| listed.path.names().last().unwrap().as_bytes().to_vec()).collect();
    assert_eq!(names.len(), 5);
    assert!(names.contains(&b"a\xffb".to_vec()) && names.contains(&b"new\nline".to_vec()));
    assert!(names.iter().any(|name| name.len() == 255));
    assert_eq!(stdout(&state, "ls /n | wc -l").trim(), "6");
}

#[test]
fn deep_directories_and_large_files_are_captured() {
    let state = step(
        &base(),
        "cd /tmp; for i in $(seq 60); do mkdir deep$i; cd deep$i; done; echo bottom > f; head -c 5000000 /dev/zero > /big; head -c 100000 /dev/urandom > /rnd; cp /rnd /rnd2",
    );
    assert_eq!(
        stdout(&state, "find /tmp -name f -exec cat {} +; stat -c %s /big; cmp /rnd /rnd2 && echo equal"),
        "bottom\n5000000\nequal\n"
    );
    let big = engine().read_file(&state, &TreePath::parse(b"/big").unwrap()).unwrap();
    assert!(big.len() == 5_000_000 && big.iter().all(|byte| *byte == 0));
}

#[test]
fn files_of_other_owners_are_kept_where_ids_are_mapped() {
    let outcome = base()
        .run(&Command::shell(
            "echo x > /owned; chown 12:34 /owned; chmod 000 /owned; mkdir /od; chown 12 /od",
        ))
        .unwrap();
    if !outcome.success() {
        let single = String::from_utf8_lossy(&outcome.stderr).contains("Invalid argument");
        assert!(
            single,
            "chown failed for another reason than a single id: {}",
            String::from_utf8_lossy(&outcome.stderr)
        );
        return;
    }
    let state = outcome.state().clone();
    let meta = entry(&state, "/owned").meta;
    assert_eq!((meta.uid, meta.gid, meta.mode), (12, 34, 0));
    assert_eq!(engine().read_file(&state, &TreePath::parse(b"/owned").unwrap()).unwrap(), b"x\n");
    // And through layers built again from the store alone.
    let state = step(&state, "echo y > /od/y; chown 12:34 /od/y");
    assert_eq!(
        stdout(&state, "stat -c '%u:%g %a %n' /owned /od /od/y; cat /owned"),
        "12:34 0 /owned\n12:0 755 /od\n12:34 644 /od/y\nx\n"
    );
}

#[test]
fn the_root_directory_itself_can_change() {
    let state = step(&base(), "chmod 711 /");
    assert_eq!(entry(&state, "/").meta.mode, 0o711);
    assert_eq!(changes(&base(), &state), ["M /"]);
    assert_eq!(stdout(&state, "stat -c %a /"), "711\n");
}

#[test]
fn nothing_of_the_sandbox_itself_is_in_the_state() {
    let state =
        step(&base(), "echo x > /x; ls /proc /sys /dev > /dev/null; echo t > /dev/shm/t; mknod /dev/none p");
    assert_eq!(changes(&base(), &state), ["A /x"]);
}
