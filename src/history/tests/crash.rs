use std::time::Duration;

use super::operations::{view, view_by_record};
use super::*;

const VICTIM: &str = "TREEBOX_TEST_CRASH_STORE";

/// What a process does until it is killed: both branches always move together.
#[test]
#[ignore = "run by `a_process_killed_at_any_instant_leaves_the_old_or_the_new_state`"]
fn victim() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let history = History::open_or_init(Path::new(&path), Options { durability: Durability::Batch }).unwrap();
    for n in 0.. {
        let old = history.read_ref(&branch("one").into()).unwrap();
        let new = history
            .write_commit(&new_commit(&format!("{n} {}", std::process::id()), old.as_slice()))
            .unwrap();
        let expected = old.map_or(Expected::Absent, Expected::Is);
        history.edit(&[set("one", expected, new), set("two", expected, new)], "both", &who(n)).unwrap();
        let branches = ["one", "two"].map(branch);
        history.attach_head(&branches[n as usize % 2], &who(n)).unwrap();
    }
}

#[test]
fn a_process_killed_at_any_instant_leaves_the_old_or_the_new_state() {
    let fixture = Fixture::new();
    for round in 0..30 {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim
            .args(["--exact", "history::tests::crash::victim", "--ignored"])
            .env(VICTIM, fixture.history.directory());
        let mut victim =
            victim.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(20_000 + round * 1_700));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let history = fixture.again();
        let [one, two] = ["one", "two"].map(|name| history.read_ref(&branch(name).into()).unwrap());
        assert_eq!(one, two, "round {round}");
        if let Some(id) = one {
            history.read_commit(&id).unwrap();
        }
        history.head().unwrap();
        // The record says what happened, no more and no less.
        assert_eq!(view_by_record(&history), view(&history), "round {round}");
    }
    assert!(fixture.history.read_ref(&branch("one").into()).unwrap().is_some());
    fixture.fsck();
}

/// The note of a dead process, as if it had been killed between the two refs.
fn leave_note(fixture: &Fixture, lines: &str) {
    let version = if lines.contains("log ") { 2 } else { 1 };
    let text =
        format!("treebox history edit {version}\nwho treebox <treebox@localhost> 7 +0000\nwhy half\n{lines}");
    std::fs::write(fixture.root.path().join("history.lock"), text).unwrap();
}

#[test]
fn a_half_done_edit_is_finished_by_the_next_process() {
    let fixture = Fixture::with(Durability::Commit);
    let [a, b] = [fixture.commit("a", &[]), fixture.commit("b", &[])];
    for name in ["one", "two", "gone"] {
        fixture.set(branch(name), a);
    }
    let none = CommitId::from_bytes([0; 20]);
    let refs =
        format!("ref {a} {b} refs/heads/one\nref {a} {b} refs/heads/two\nref {a} {none} refs/heads/gone\n");
    let directory = fixture.history.directory();
    let lock = directory.join("refs/heads/two.lock");
    let read = |name: &str| fixture.history.read_ref(&branch(name).into()).unwrap();

    // Nothing had moved: only the lock goes.
    std::fs::write(&lock, format!("{b}\n")).unwrap();
    leave_note(&fixture, &format!("{refs}file packed-refs\nend\n"));
    fixture.again();
    assert_eq!((read("one"), read("two"), read("gone")), (Some(a), Some(a), Some(a)));
    assert!(!lock.exists());

    // A note that does not end was never acted on.
    fixture.set(branch("one"), b);
    leave_note(&fixture, &refs);
    fixture.again();
    assert_eq!(read("two"), Some(a));

    // One had moved: the others follow.
    std::fs::write(&lock, format!("{b}\n")).unwrap();
    leave_note(&fixture, &format!("{refs}file packed-refs\nend\n"));
    fixture.again();
    assert_eq!((read("one"), read("two"), read("gone")), (Some(b), Some(b), None));
    assert_eq!(fixture.history.reflog(&branch("two").into()).unwrap()[0].message, "half");
    assert!(lock_files(directory).is_empty());
    assert_eq!(std::fs::metadata(fixture.root.path().join("history.lock")).unwrap().len(), 0);

    // HEAD follows too, and the record of what had not begun goes.
    let len = std::fs::metadata(directory.join("logs/refs/treebox/operations")).unwrap().len();
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(directory.join("logs/refs/treebox/operations"))
        .unwrap();
    std::io::Write::write_all(&mut log, b"half a record").unwrap();
    let begun = |text: &str| leave_note(&fixture, text);
    begun(&format!(
        "ref {a} {none} refs/heads/one\nhead refs/heads/x refs/heads/two\nfile HEAD\nlog {len}\nend\n"
    ));
    fixture.again();
    assert_eq!(std::fs::metadata(directory.join("logs/refs/treebox/operations")).unwrap().len(), len);
    let operations = fixture.again().operations().unwrap();
    begun(&format!(
        "ref {a} {b} refs/heads/one\nhead refs/heads/main refs/heads/two\nfile HEAD\nlog {len}\nend\n"
    ));
    assert_eq!(fixture.again().head().unwrap(), Head::Branch { name: branch("two"), commit: Some(b) });
    assert_eq!(fixture.again().operations().unwrap(), operations, "it was on record");

    // A note cannot name other files.
    std::fs::write(directory.join("config.lock"), "").unwrap();
    leave_note(&fixture, "file config\nfile HEAD\nend\n");
    std::fs::write(directory.join("HEAD.lock"), "").unwrap();
    fixture.again();
    assert!(directory.join("config.lock").exists() && !directory.join("HEAD.lock").exists());
    fixture.fsck();
}
