use super::*;

/// Loose objects, and packs.
fn files(fixture: &Fixture) -> (usize, usize) {
    let count = fixture.git(&["count-objects", "-v"]);
    let value = |key: &str| {
        count.lines().find_map(|line| line.strip_prefix(&format!("{key}: "))).unwrap().parse().unwrap()
    };
    (value("count"), value("packs"))
}

#[test]
fn a_history_that_grows_is_packed_by_itself() {
    let fixture = Fixture::with(Durability::Commit);
    let other = fixture.again();
    let ids = fixture.chain(900);
    assert_eq!(files(&fixture).1, 0);
    fixture.set(branch("main"), ids[899]);
    let (loose, packs) = files(&fixture);
    assert!(loose < 10 && packs == 1, "{loose} loose objects, {packs} packs");
    for id in &ids {
        assert!(other.has_commit(id), "a handle from before finds what was packed");
    }
    assert_eq!(other.read_commit(&ids[7]).unwrap().message, "step 7");
    // What is packed is not written again, and new commits on it move refs as ever.
    assert_eq!(fixture.chain(900), ids);
    assert_eq!(files(&fixture).0, loose);
    let next = fixture.commit("next", &[ids[899]]);
    fixture.set(branch("main"), next);
    assert_eq!(fixture.git(&["rev-list", "--count", "main"]), "901");
    fixture.fsck();
}

#[test]
fn many_packs_become_one_and_nothing_is_lost() {
    let fixture = Fixture::new();
    let mut ids = vec![fixture.commit("first", &[])];
    for n in 0..5 {
        ids.push(fixture.commit(&format!("{n}"), &ids[n..]));
        fixture.set(branch("main"), ids[n + 1]);
        let packed = fixture.history.pack().unwrap();
        assert_eq!(packed.packs, usize::from(n > 0), "the one from before is joined");
        assert_eq!(files(&fixture), (0, 1));
    }
    assert_eq!(fixture.history.pack().unwrap(), Packed::default(), "there is nothing to do");
    for id in &ids {
        fixture.again().read_commit(id).unwrap();
    }
    // One that somebody wants kept stays as it is.
    let pack = std::fs::read_dir(fixture.history.directory().join("objects/pack")).unwrap();
    let index =
        pack.map(|entry| entry.unwrap().path()).find(|path| path.extension().unwrap() == "idx").unwrap();
    std::fs::write(index.with_extension("keep"), "").unwrap();
    let more = fixture.commit("more", &ids[5..]);
    fixture.set(branch("main"), more);
    assert_eq!(fixture.history.pack().unwrap().packs, 0);
    assert!(index.exists());
    assert_eq!(files(&fixture), (0, 2));
    fixture.fsck();
}

#[test]
fn packing_while_others_read_and_write_loses_nothing() {
    let fixture = Fixture::new();
    let start = fixture.commit("start", &[]);
    fixture.set(branch("main"), start);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let own = fixture.again();
            scope.spawn(move || {
                let mut before = start;
                for n in 0..60 {
                    before = own.write_commit(&new_commit(&format!("{thread}/{n}"), &[before])).unwrap();
                    own.edit(&[set(&format!("b{thread}"), Expected::Any, before)], "step", &who(1)).unwrap();
                    assert_eq!(own.read_commit(&before).unwrap().message, format!("{thread}/{n}"));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                fixture.again().pack().unwrap();
            }
        });
    });
    for thread in 0..3 {
        assert_eq!(fixture.git(&["rev-list", "--count", &format!("b{thread}")]), "61");
    }
    fixture.fsck();
}

#[test]
fn refs_are_packed_when_they_are_many_and_move_and_go_as_ever() {
    let fixture = Fixture::with(Durability::Commit);
    let ids = fixture.chain(2);
    let loose = || std::fs::read_dir(fixture.history.directory().join("refs/heads")).unwrap().count();
    fixture.git(&["tag", "-a", "-m", "annotated", "v1", &ids[1].to_string()]);
    let tag = fixture.git(&["rev-parse", "v1"]);
    for n in 0..200 {
        fixture.set(branch(&format!("b{n}")), ids[0]);
        fixture.set(branch(&format!("dir/b{n}")), ids[1]);
    }
    assert!(loose() < 130, "{} loose refs", loose());
    assert_eq!(fixture.history.refs(RefKind::Branch).unwrap().len(), 400);
    assert_eq!(fixture.git(&["for-each-ref", "refs/heads"]).lines().count(), 400);
    assert_eq!(fixture.git(&["rev-parse", "v1"]), tag, "an annotated tag stays one");
    fixture.history.pack().unwrap();
    assert_eq!(loose(), 0);
    let other = fixture.again();
    other.edit(&[set("b7", Expected::Is(ids[0]), ids[1])], "move", &who(1)).unwrap();
    other.delete(&branch("dir/b3").into(), Expected::Is(ids[1]), &who(1)).unwrap();
    assert_eq!(fixture.history.read_ref(&branch("b7").into()).unwrap(), Some(ids[1]));
    assert_eq!(fixture.history.refs(RefKind::Branch).unwrap().len(), 399);
    assert_eq!(fixture.history.reflog(&branch("b7").into()).unwrap().len(), 2, "packing leaves no line");
    assert_eq!(fixture.history.operations().unwrap().len(), 402, "nor a record");
    assert!(lock_files(fixture.history.directory()).is_empty());
    fixture.fsck();
}
