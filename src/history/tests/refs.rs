use super::*;

#[test]
fn an_edit_moves_all_refs_or_none() {
    let fixture = Fixture::with(Durability::Commit);
    let history = &fixture.history;
    let [a, b] = [fixture.commit("a", &[]), fixture.commit("b", &[])];
    let image = RefName::from(ImageName::new("busybox").unwrap());
    let edits = [
        set("main", Expected::Absent, a),
        RefEdit { name: image.clone(), expected: Expected::Absent, new: Some(a) },
    ];
    history.edit(&edits, "first", &who(5)).unwrap();
    assert_eq!(history.read_ref(&image).unwrap(), Some(a));

    let edits = [set("main", Expected::Is(a), b), set("other", Expected::Is(a), b)];
    let error = history.edit(&edits, "second", &who(6)).unwrap_err();
    assert!(
        matches!(&error, EditError::Conflict { name, expected: Expected::Is(_), found: None } if name.short() == "other")
    );
    assert_eq!(error.to_string(), format!("branch `other` does not exist, expected {}", a.short()));
    assert_eq!(history.read_ref(&branch("main").into()).unwrap(), Some(a));

    let absent = history.edit(&[set("main", Expected::Absent, a)], "", &who(6));
    assert!(
        matches!(absent, Err(EditError::Conflict { expected: Expected::Absent, found: Some(found), .. }) if found == a)
    );
    let twice = [set("main", Expected::Any, b), set("main", Expected::Any, b)];
    assert!(matches!(history.edit(&twice, "", &who(6)), Err(EditError::Twice(_))));
    let missing = CommitId::from_bytes([9; 20]);
    let dangling = history.edit(&[set("main", Expected::Any, missing)], "", &who(6));
    assert!(matches!(dangling, Err(EditError::History(HistoryError::MissingCommit(_)))));

    history.edit(&[set("main", Expected::Is(a), b)], "third\nline", &who(7)).unwrap();
    history.edit(&[set("main", Expected::Is(b), b)], "nothing", &who(8)).unwrap();
    let entries = history.reflog(&branch("main").into()).unwrap();
    let second =
        ReflogEntry { old: Some(a), new: Some(b), time_seconds: 7, message: "third line".to_owned() };
    let first = ReflogEntry { old: None, new: Some(a), time_seconds: 5, message: "first".to_owned() };
    assert_eq!(entries, [second, first]);
    assert_eq!(history.head_reflog().unwrap(), entries, "HEAD follows its branch");
    assert!(lock_files(history.directory()).is_empty());
    fixture.fsck();
}

#[test]
fn names_that_cannot_exist_beside_each_other_are_a_typed_conflict() {
    let fixture = Fixture::new();
    let a = fixture.commit("a", &[]);
    fixture.set(branch("one/two"), a);
    for pack in [false, true] {
        if pack {
            fixture.git(&["pack-refs", "--all"]);
        }
        for name in ["one", "one/two/three"] {
            let error = fixture.history.edit(&[set(name, Expected::Any, a)], "", &who(1)).unwrap_err();
            assert!(matches!(&error, EditError::DirectoryConflict { .. }), "{error}");
            assert!(error.to_string().contains("beside branch `one/two`"), "{error}");
        }
        let rename = fixture.history.rename_branch(&branch("one/two"), &branch("one"), &who(1));
        assert!(matches!(rename, Err(EditError::DirectoryConflict { .. })));
    }
    fixture.history.delete(&branch("one/two").into(), Expected::Any, &who(1)).unwrap();
    fixture.set(branch("one"), a);
    fixture.fsck();
}

#[test]
fn refs_are_listed_by_name_from_loose_and_packed_files() {
    let fixture = Fixture::new();
    let [a, b] = [fixture.commit("a", &[]), fixture.commit("b", &[])];
    fixture.set(branch("z"), a);
    fixture.set(branch("m"), a);
    fixture.set(TagName::new("v1").unwrap(), a);
    fixture.set(ImageName::new("registry.example/x").unwrap(), a);
    fixture.git(&["pack-refs", "--all"]);
    fixture.set(branch("m"), b);
    fixture.git(&["tag", "-a", "-m", "annotated", "v2", &b.to_string()]);
    let names = |kind| {
        let refs = fixture.history.refs(kind).unwrap();
        refs.into_iter().map(|(name, commit)| (name.short().to_owned(), commit)).collect::<Vec<_>>()
    };
    assert_eq!(names(RefKind::Branch), [("m".to_owned(), b), ("z".to_owned(), a)]);
    assert_eq!(names(RefKind::Tag), [("v1".to_owned(), a), ("v2".to_owned(), b)]);
    assert_eq!(names(RefKind::Image), [("registry.example/x:latest".to_owned(), a)]);
    let v2 = RefName::from(TagName::new("v2").unwrap());
    fixture
        .history
        .edit(&[RefEdit { name: v2.clone(), expected: Expected::Is(b), new: Some(a) }], "", &who(1))
        .unwrap();
    assert_eq!(fixture.history.read_ref(&v2).unwrap(), Some(a), "an annotated tag counts as its commit");
}

#[test]
fn a_deleted_ref_takes_its_log_along() {
    let fixture = Fixture::with(Durability::Commit);
    let [a, b] = [fixture.commit("a", &[]), fixture.commit("b", &[])];
    let name = RefName::from(branch("x/y"));
    for pack in [false, true] {
        fixture.set(branch("x/y"), a);
        if pack {
            fixture.git(&["pack-refs", "--all"]);
        }
        let wrong = fixture.history.delete(&name, Expected::Is(b), &who(1));
        assert!(matches!(wrong, Err(EditError::Conflict { .. })));
        assert_eq!(fixture.history.delete(&name, Expected::Is(a), &who(1)).unwrap(), a);
        assert_eq!(fixture.history.read_ref(&name).unwrap(), None);
        assert!(fixture.history.reflog(&name).unwrap().is_empty());
        assert_eq!(fixture.git(&["for-each-ref", "refs/heads"]), "");
    }
    assert!(matches!(fixture.history.delete(&name, Expected::Any, &who(1)), Err(EditError::NoSuchRef(_))));
    fixture.set(branch("main"), a);
    fixture.history.delete(&branch("main").into(), Expected::Any, &who(9)).unwrap();
    let gone = &fixture.history.head_reflog().unwrap()[0];
    assert_eq!((gone.old, gone.new), (Some(a), None), "HEAD's log says that its branch went");
    fixture.fsck();
    let nothing = RefEdit { name, expected: Expected::Absent, new: None };
    fixture.history.edit(&[nothing], "", &who(1)).unwrap();
}

#[test]
fn head_moves_between_branches_and_commits_with_a_log_that_git_reads() {
    let fixture = Fixture::with(Durability::Commit);
    let history = &fixture.history;
    assert_eq!(history.head().unwrap(), Head::Branch { name: branch("main"), commit: None });
    let ids = fixture.chain(3);
    fixture.set(branch("main"), ids[2]);
    fixture.set(branch("side"), ids[1]);
    history.attach_head(&branch("side"), &who(10)).unwrap();
    assert_eq!(history.head().unwrap(), Head::Branch { name: branch("side"), commit: Some(ids[1]) });
    history.detach_head(&ids[0], &who(11)).unwrap();
    assert_eq!(history.head().unwrap(), Head::Detached(ids[0]));
    assert_eq!(history.head().unwrap().commit(), Some(ids[0]));
    for (text, id) in [
        ("@{-1}", ids[1]),
        ("@{-2}", ids[2]),
        ("HEAD@{0}", ids[0]),
        ("HEAD@{1}", ids[1]),
        ("HEAD@{2}", ids[2]),
    ] {
        assert_eq!(history.resolve(text).unwrap(), id, "{text}");
        assert_eq!(fixture.git(&["rev-parse", text]), id.to_string(), "{text}");
    }
    let log = history.head_reflog().unwrap();
    assert_eq!(log[0].message, format!("checkout: moving from side to {}", ids[0]));
    assert_eq!((log[0].old, log[0].new), (Some(ids[1]), Some(ids[0])));
    assert_eq!(fixture.git(&["reflog", "HEAD"]).lines().count(), 3);
    // A branch that does not exist yet is attached without a line.
    history.attach_head(&branch("new"), &who(12)).unwrap();
    assert_eq!(history.head().unwrap(), Head::Branch { name: branch("new"), commit: None });
    assert_eq!(history.head_reflog().unwrap().len(), 3);
    let missing = history.detach_head(&CommitId::from_bytes([9; 20]), &who(1));
    assert!(matches!(missing, Err(EditError::History(HistoryError::MissingCommit(_)))));
    fixture.fsck();
}

#[test]
fn a_renamed_branch_keeps_its_log_and_head_follows() {
    let fixture = Fixture::with(Durability::Commit);
    let ids = fixture.chain(2);
    fixture.set(branch("main"), ids[0]);
    fixture.set(branch("main"), ids[1]);
    fixture.set(branch("taken"), ids[1]);
    let history = &fixture.history;
    let taken = history.rename_branch(&branch("main"), &branch("taken"), &who(2));
    assert!(matches!(taken, Err(EditError::Conflict { .. })));
    let missing = history.rename_branch(&branch("none"), &branch("x"), &who(2));
    assert!(matches!(missing, Err(EditError::NoSuchRef(_))));
    history.rename_branch(&branch("main"), &branch("dir/trunk"), &who(2)).unwrap();
    history.rename_branch(&branch("taken"), &branch("taken"), &who(2)).unwrap();
    assert_eq!(history.head().unwrap(), Head::Branch { name: branch("dir/trunk"), commit: Some(ids[1]) });
    assert_eq!(history.read_ref(&branch("main").into()).unwrap(), None);
    let log = history.reflog(&branch("dir/trunk").into()).unwrap();
    assert_eq!(log.len(), 3);
    assert_eq!(log[0].message, "Branch: renamed refs/heads/main to refs/heads/dir/trunk");
    assert_eq!(fixture.git(&["rev-parse", "dir/trunk@{2}"]), ids[0].to_string());
    assert!(!history.directory().join("logs/refs/heads/main").exists());
    fixture.fsck();
}

#[test]
fn racing_threads_and_stock_git_lose_nothing() {
    let fixture = Fixture::new();
    let start = fixture.commit("start", &[]);
    fixture.set(branch("main"), start);
    let advance = |history: &History, name: String| {
        loop {
            let old = history.read_ref(&branch("main").into()).unwrap().unwrap();
            let new = history.write_commit(&new_commit(&name, &[old])).unwrap();
            match history.edit(&[set("main", Expected::Is(old), new)], "race", &who(3)) {
                Ok(()) => return,
                Err(EditError::Conflict { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let own = fixture.again();
            let (fixture, advance) = (&fixture, &advance);
            scope.spawn(move || {
                for n in 0..20 {
                    advance(if n % 2 == 0 { &own } else { &fixture.history }, format!("{thread}/{n}"));
                }
            });
        }
        scope.spawn(|| {
            let mut done = 0;
            while done < 20 {
                let old = fixture.git(&["rev-parse", "main"]);
                let tree = format!("{old}^{{tree}}");
                let new = fixture.git(&["commit-tree", &tree, "-p", &old, "-m", &format!("git {done}")]);
                let mut update = git_command(fixture.history.directory());
                let moved = update.args(["update-ref", "refs/heads/main", &new, &old]).output().unwrap();
                done += usize::from(moved.status.success());
            }
        });
    });
    assert_eq!(fixture.git(&["rev-list", "--count", "main"]), "181");
    assert_eq!(fixture.history.reflog(&branch("main").into()).unwrap().len(), 181);
    fixture.fsck();
}
