use super::*;

#[test]
fn a_missing_or_unusable_repository_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("history.git");
    let missing = History::open(&path, Options::default()).unwrap_err();
    assert!(matches!(&missing, HistoryError::Missing(found) if *found == path), "{missing}");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    std::fs::write(path.join("config"), "[core\nnonsense").unwrap();
    let broken = History::open_or_init(&path, Options::default()).unwrap_err();
    assert!(matches!(&broken, HistoryError::NotARepository { .. }), "{broken:?}");
    let nowhere = root.path().join("no/such/history.git");
    assert!(matches!(History::open_or_init(&nowhere, Options::default()), Err(HistoryError::Io { .. })));
}

#[test]
fn many_may_make_it_at_once() {
    for durability in [Durability::Batch, Durability::Commit] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("history.git");
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let history = History::open_or_init(path, Options { durability }).unwrap();
                    let id = history.write_commit(&new_commit(&n.to_string(), &[])).unwrap();
                    history.edit(&[set(&format!("b{n}"), Expected::Absent, id)], "", &who(1)).unwrap();
                });
            }
        });
        let history = History::open(&path, Options { durability }).unwrap();
        assert_eq!(history.refs(RefKind::Branch).unwrap().len(), 8);
        let names: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "the lock, the boot and the repository: {names:?}");
    }
}

#[test]
fn locks_of_the_dead_are_removed_and_those_of_the_living_respected() {
    let fixture = Fixture::new();
    let [a, b] = [fixture.commit("a", &[]), fixture.commit("b", &[])];
    fixture.set(branch("main"), a);
    let locks = ["refs/heads/main.lock", "HEAD.lock"].map(|name| fixture.history.directory().join(name));
    for lock in &locks {
        std::fs::write(lock, "").unwrap();
    }
    let held = fixture.history.edit(&[set("main", Expected::Any, b)], "", &who(1)).unwrap_err();
    assert!(
        matches!(&held, EditError::History(HistoryError::Locked(path)) if locks.contains(path)),
        "{held:?}"
    );
    let held = fixture.history.attach_head(&branch("side"), &who(1)).unwrap_err();
    assert_eq!(fixture.history.operations().unwrap().len(), 1, "what did not happen is not on record");
    assert!(matches!(&held, EditError::History(HistoryError::Locked(path)) if *path == locks[1]), "{held:?}");
    assert_eq!(fixture.history.read_ref(&branch("main").into()).unwrap(), Some(a));
    assert!(locks.iter().all(|lock| lock.exists()));
    for lock in &locks {
        age(lock);
    }
    fixture.history.edit(&[set("main", Expected::Any, b)], "", &who(1)).unwrap();
    std::fs::write(&locks[1], "").unwrap();
    age(&locks[1]);
    fixture.history.attach_head(&branch("side"), &who(1)).unwrap();
    assert!(lock_files(fixture.history.directory()).is_empty());
}

#[test]
fn a_sweep_takes_only_what_is_old() {
    let fixture = Fixture::new();
    let id = fixture.commit("a", &[]);
    fixture.set(branch("deep/er/x"), id);
    let directory = fixture.history.directory();
    let shard = directory.join("objects").join(&id.to_string()[..2]);
    let unfinished = fixture.root.path().join("history.git.new-1-1");
    std::fs::create_dir(&unfinished).unwrap();
    let old = [
        directory.join("refs/heads/deep/er/x.lock"),
        directory.join("config.lock"),
        directory.join("objects/.tmpAbC"),
        shard.join(".tmpXyZ"),
    ];
    for path in &old {
        std::fs::write(path, "").unwrap();
    }
    assert!(fixture.history.sweep().unwrap().is_empty());
    for path in old.iter().chain([&unfinished]) {
        age(path);
    }
    std::fs::write(directory.join("refs/heads/young.lock"), "").unwrap();
    let mut removed = fixture.history.sweep().unwrap();
    let mut expected: Vec<_> = old.into_iter().chain([unfinished]).collect();
    removed.sort();
    expected.sort();
    assert_eq!(removed, expected);
    assert_eq!(fixture.history.read_ref(&branch("deep/er/x").into()).unwrap(), Some(id));
}

#[test]
fn what_a_power_cut_leaves_is_repaired_by_the_next_write() {
    let fixture = Fixture::new();
    let ids = fixture.chain(2);
    fixture.set(branch("main"), ids[0]);
    fixture.set(branch("other"), ids[0]);
    let directory = fixture.history.directory();
    std::fs::write(directory.join("refs/heads/main"), "").unwrap();
    let broken = fixture.history.edit(&[set("main", Expected::Is(ids[0]), ids[1])], "", &who(1));
    assert!(matches!(broken, Err(EditError::History(HistoryError::Git { .. }))));
    assert!(matches!(fixture.history.read_ref(&branch("main").into()), Err(HistoryError::Git { .. })));
    assert_eq!(fixture.history.refs(RefKind::Branch).unwrap().len(), 1, "one broken ref hides no other");
    fixture.history.edit(&[set("main", Expected::Any, ids[1])], "", &who(1)).unwrap();
    assert_eq!(fixture.history.read_ref(&branch("main").into()).unwrap(), Some(ids[1]));

    let hex = ids[1].to_string();
    let object = directory.join("objects").join(&hex[..2]).join(&hex[2..]);
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, "").unwrap();
    assert!(matches!(
        fixture.again().read_commit(&ids[1]),
        Err(HistoryError::Git { .. } | HistoryError::MissingCommit(_))
    ));
    let again = NewCommit { time_seconds: 1_001, ..new_commit("step 1", &[ids[0]]) };
    assert_eq!(fixture.history.write_commit(&again).unwrap(), ids[1]);
    assert_eq!(fixture.again().read_commit(&ids[1]).unwrap().message, "step 1");

    let log = directory.join("logs/refs/heads/other");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.extend(b"0123 torn");
    std::fs::write(&log, bytes).unwrap();
    assert_eq!(fixture.history.reflog(&branch("other").into()).unwrap().len(), 1);

    std::fs::write(directory.join("HEAD"), "").unwrap();
    assert!(fixture.history.head().is_err());
    fixture.history.attach_head(&branch("main"), &who(1)).unwrap();
    assert_eq!(fixture.history.head().unwrap().commit(), Some(ids[1]));
}

#[test]
fn after_a_failed_sync_no_ref_moves() {
    let fixture = Fixture::with(Durability::Commit);
    let id = fixture.commit("a", &[]);
    let failed = fixture.history.synced(Err(std::io::Error::other("disk gone")), Path::new("x"));
    assert!(matches!(failed, Err(HistoryError::Io { doing: "syncing", .. })));
    let refused = fixture.history.edit(&[set("main", Expected::Any, id)], "", &who(1));
    assert!(matches!(refused, Err(EditError::History(HistoryError::SyncFailed))));
    assert!(fixture.again().read_ref(&branch("main").into()).unwrap().is_none());
}

#[test]
fn an_edit_that_fails_half_way_is_finished_later() {
    let fixture = Fixture::new();
    let [a, b] = [fixture.commit("a", &[]), fixture.commit("b", &[])];
    fixture.set(branch("one"), a);
    fixture.set(branch("two"), a);
    // A directory where the second ref's file should be: the library moves the first ref before it finds out.
    fixture.git(&["pack-refs", "--all"]);
    let two = fixture.history.directory().join("refs/heads/two");
    std::fs::create_dir_all(two.join("in/the/way")).unwrap();
    std::fs::write(two.join("in/the/way/file"), "").unwrap();
    let edits = [set("one", Expected::Is(a), b), set("two", Expected::Is(a), b)];
    let failed = fixture.history.edit(&edits, "both", &who(1));
    assert!(
        matches!(failed, Err(EditError::History(HistoryError::Git { doing: "moving refs", .. }))),
        "{failed:?}"
    );
    std::fs::remove_dir_all(&two).unwrap();
    let history = fixture.again();
    let [one, two] = ["one", "two"].map(|name| history.read_ref(&branch(name).into()).unwrap());
    assert_eq!(one, two);
    fixture.fsck();
}

#[test]
fn a_torn_ref_that_is_packed_too_is_repaired_even_to_the_packed_value() {
    let fixture = Fixture::new();
    let [first, second] = fixture.chain(2)[..] else { panic!("two commits") };
    fixture.history.edit(&[set("main", Expected::Absent, first)], "", &who(1)).unwrap();
    fixture.git(&["pack-refs", "--all"]);
    let loose = fixture.history.directory().join("refs/heads/main");
    for (turn, to) in [first, second, first].into_iter().enumerate() {
        std::fs::write(&loose, "b3a1c0ff").unwrap();
        assert!(fixture.history.read_ref(&branch("main").into()).is_err());
        fixture.history.edit(&[set("main", Expected::Any, to)], "", &who(2)).unwrap();
        assert_eq!(fixture.history.read_ref(&branch("main").into()).unwrap(), Some(to), "turn {turn}");
    }
}
