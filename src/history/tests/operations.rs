use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::object::OperationId;

/// Everything that can be taken back: all refs and HEAD.
pub(super) type View = (BTreeMap<String, CommitId>, Option<HeadTo>);

pub(super) fn view(history: &History) -> View {
    let refs = RefKind::ALL.into_iter().flat_map(|kind| history.refs(kind).unwrap());
    let refs = refs.map(|(name, commit)| (name.full(), commit)).collect();
    (refs, history.head().ok().map(|head| head.to()))
}

/// The same from the record alone.
pub(super) fn view_by_record(history: &History) -> View {
    let mut refs = BTreeMap::new();
    let mut head = Some(HeadTo::Branch(branch("main")));
    for operation in history.operations().unwrap() {
        for moved in &operation.refs {
            assert_eq!(refs.get(&moved.full).copied(), moved.old, "{operation:?}");
            match moved.new {
                Some(new) => refs.insert(moved.full.clone(), new),
                None => refs.remove(&moved.full),
            };
        }
        if let Some(moved) = &operation.head {
            assert_eq!(moved.old, head, "{operation:?}");
            head.clone_from(&moved.new);
        }
    }
    (refs, head)
}

fn messages(history: &History) -> Vec<String> {
    history.operations().unwrap().into_iter().map(|operation| operation.message).collect()
}

#[test]
fn every_change_of_refs_is_one_record() {
    let fixture = Fixture::with(Durability::Commit);
    let history = &fixture.history;
    let ids = fixture.chain(3);
    let image = RefName::from(ImageName::new("busybox").unwrap());
    let make = RefEdit { name: image.clone(), expected: Expected::Absent, new: Some(ids[0]) };
    history.edit(&[make, set("main", Expected::Absent, ids[0])], "import\nbusybox", &who(5)).unwrap();
    let new = HeadTo::Branch(branch("side")).into();
    history.edit_with_head(&[set("side", Expected::Absent, ids[1])], &new, "", &who(6)).unwrap();
    history.edit(&[set("side", Expected::Is(ids[1]), ids[1])], "nothing", &who(7)).unwrap();
    history.attach_head(&branch("side"), &who(7)).unwrap();
    history.rename_branch(&branch("side"), &branch("feature"), &who(8)).unwrap();
    history.delete(&image, Expected::Any, &who(9)).unwrap();
    history.detach_head(&ids[2], &who(10)).unwrap();
    let conflict = history.edit(&[set("main", Expected::Absent, ids[2])], "no", &who(11));
    assert!(matches!(conflict, Err(EditError::Conflict { .. })));

    let operations = history.operations().unwrap();
    let names = |operation: &Operation| {
        operation.refs.iter().map(|moved| moved.full.clone()).collect::<Vec<_>>().join(" ")
    };
    let told: Vec<_> = operations
        .iter()
        .map(|operation| (operation.time_seconds, operation.message.as_str(), names(operation)))
        .collect();
    let moving = format!("checkout: moving from feature to {}", ids[2]);
    let renamed = "Branch: renamed refs/heads/side to refs/heads/feature";
    let expected = [
        (5, "import busybox", "refs/images/busybox%3alatest refs/heads/main"),
        (6, "checkout: moving from main to side", "refs/heads/side"),
        (8, renamed, "refs/heads/feature refs/heads/side"),
        (9, "image: deleted busybox:latest", "refs/images/busybox%3alatest"),
        (10, &moving, ""),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(time, text, names)| (time, text, names.to_owned())).collect();
    assert_eq!(told, expected);
    assert_eq!(operations[1].head.as_ref().unwrap().old, Some(HeadTo::Branch(branch("main"))));
    assert_eq!(operations[1].head.as_ref().unwrap().new_commit, Some(ids[1]));
    assert_eq!(history.newest_operation().unwrap().as_ref(), operations.last());
    assert_eq!(view_by_record(history), view(history));
    assert!(lock_files(history.directory()).is_empty());
    // Stock git reads it as a log, and shows no commit more for it.
    assert_eq!(
        fixture.git(&["reflog", "refs/treebox/operations"]).lines().count(),
        7,
        "Git passes deletions over"
    );
    assert_eq!(fixture.git(&["rev-list", "--all", "--count"]), "3");
    fixture.fsck();
}

#[test]
fn undo_goes_back_one_by_one_and_back_again_by_name() {
    let fixture = Fixture::new();
    let history = &fixture.history;
    let ids = fixture.chain(3);
    let mut views = vec![view(history)];
    let side = HeadTo::Branch(branch("side")).into();
    fixture.set(branch("main"), ids[0]);
    views.push(view(history));
    history.edit_with_head(&[set("side", Expected::Absent, ids[1])], &side, "", &who(2)).unwrap();
    views.push(view(history));
    history.rename_branch(&branch("main"), &branch("trunk"), &who(3)).unwrap();
    views.push(view(history));
    history.delete(&branch("trunk").into(), Expected::Any, &who(4)).unwrap();
    let ids_of: Vec<_> = history.operations().unwrap().iter().map(|operation| operation.id).collect();
    let last = view(history);

    for expected in views.iter().rev() {
        let undone = history.undo(&who(9)).unwrap();
        assert_eq!(&view(history), expected);
        assert_eq!(undone.operation.unwrap().purpose, Purpose::Undo(undone.taken_back[0].id));
    }
    assert!(matches!(history.undo(&who(9)), Err(EditError::NothingToUndo)));
    assert_eq!(view_by_record(history), view(history));

    // What was taken back comes again by name, and that can be taken back as well.
    let again = history.undo_to(&ids_of[3], &who(10)).unwrap();
    assert_eq!((again.taken_back.len(), view(history)), (4, last.clone()));
    history.undo(&who(11)).unwrap();
    assert_eq!(view(history), views[0]);
    history.undo_to(&ids_of[1], &who(12)).unwrap();
    assert_eq!(view(history), views[2]);
    let nothing = history.undo_to(&history.newest_operation().unwrap().unwrap().id, &who(13)).unwrap();
    assert!(nothing.operation.is_none() && nothing.taken_back.is_empty());
    let unknown = history.undo_to(&OperationId::from_bytes([7; 16]), &who(13));
    assert!(matches!(unknown, Err(EditError::NoOperation(_))));
    fixture.fsck();
}

#[test]
fn a_deleted_branch_comes_back_after_git_has_collected() {
    let fixture = Fixture::new();
    let history = &fixture.history;
    let ids = fixture.chain(2);
    fixture.set(branch("main"), ids[0]);
    fixture.set(branch("gone"), ids[1]);
    history.delete(&branch("gone").into(), Expected::Any, &who(2)).unwrap();
    fixture.git(&["gc", "--quiet", "--prune=now"]);
    history.undo(&who(3)).unwrap();
    assert_eq!(fixture.git(&["rev-parse", "gone"]), ids[1].to_string());
    assert_eq!(fixture.again().read_commit(&ids[1]).unwrap().message, "step 1");
    fixture.fsck();
}

#[test]
fn what_another_program_moved_is_not_taken_back_over_it() {
    let fixture = Fixture::new();
    let history = &fixture.history;
    let ids = fixture.chain(3);
    fixture.set(branch("main"), ids[0]);
    fixture.set(branch("main"), ids[1]);
    fixture.git(&["update-ref", "refs/heads/main", &ids[2].to_string()]);
    let refused = history.undo(&who(2));
    assert!(matches!(refused, Err(EditError::Conflict { found: Some(found), .. }) if found == ids[2]));
    assert_eq!(messages(history).len(), 2, "what was refused is not on record");
    history.detach_head(&ids[0], &who(3)).unwrap();
    fixture.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
    // It is back already: nothing is left to take back of that, and the one before is refused as it was.
    assert!(matches!(history.undo(&who(4)), Err(EditError::Conflict { .. })));
    history.detach_head(&ids[0], &who(3)).unwrap();
    fixture.git(&["symbolic-ref", "HEAD", "refs/heads/other"]);
    assert!(matches!(history.undo(&who(4)), Err(EditError::HeadMoved)));
    let from = HeadEdit { to: HeadTo::Detached(ids[1]), expected: Some(HeadTo::Detached(ids[0])) };
    assert!(matches!(history.edit_with_head(&[], &from, "", &who(5)), Err(EditError::HeadMoved)));
}

#[test]
fn a_torn_record_is_passed_over_and_the_next_is_whole() {
    let fixture = Fixture::with(Durability::Commit);
    let history = &fixture.history;
    let ids = fixture.chain(2);
    fixture.set(branch("main"), ids[0]);
    let path = history.directory().join("logs/refs/treebox/operations");
    let whole = std::fs::read_to_string(&path).unwrap();
    let two = whole.replace(" 1/1 ", " 1/2 ");
    for torn in [two.as_str(), &whole[..90], "\0\0\0\0"] {
        std::fs::write(&path, format!("{whole}{torn}")).unwrap();
        assert_eq!(messages(history), ["set"], "{torn:?}");
        fixture.set(branch("main"), ids[1]);
        assert_eq!(messages(history), ["set", "set"], "{torn:?}");
        history.undo(&who(1)).unwrap();
    }
    fixture.git(&["update-ref", "-d", "refs/treebox/operations"]);
    assert!(messages(history).is_empty());
    fixture.set(branch("main"), ids[1]);
    assert_eq!(messages(history), ["set"]);
    fixture.fsck();
}

#[test]
fn processes_and_threads_that_race_lose_no_record() {
    let fixture = Fixture::new();
    let ids = fixture.chain(2);
    fixture.set(branch("main"), ids[0]);
    let done = std::sync::atomic::AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (own, done, ids) = (fixture.again(), &done, &ids);
            scope.spawn(move || {
                for n in 0..15 {
                    let name = format!("b{}", (thread * n) % 7);
                    let result = match n % 3 {
                        0 => own.edit(&[set(&name, Expected::Absent, ids[0])], "make", &who(n + 1)),
                        1 => own.edit(&[set(&name, Expected::Is(ids[0]), ids[1])], "move", &who(n + 1)),
                        _ => own.delete(&branch(&name).into(), Expected::Any, &who(n + 1)).map(|_| ()),
                    };
                    match result {
                        Ok(()) => _ = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
                        Err(EditError::Conflict { .. } | EditError::NoSuchRef(_)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        // Stock git rewrites logs meanwhile.
        scope.spawn(|| {
            for _ in 0..5 {
                let mut gc = git_command(fixture.history.directory());
                gc.args(["reflog", "expire", "--all"]).output().unwrap();
            }
        });
    });
    let history = &fixture.history;
    assert_eq!(history.operations().unwrap().len(), done.into_inner());
    assert_eq!(view_by_record(history), view(history));
    let mut ids: Vec<_> = history.operations().unwrap().iter().map(|operation| operation.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), history.operations().unwrap().len(), "ids differ");
    fixture.fsck();
}

/// Something that a user does to refs.
fn deed(history: &History, ids: &[CommitId], (kind, name, commit): (u8, u8, usize)) {
    let names = ["main", "a", "b", "c"].map(branch);
    let (name, other) = (names[usize::from(name % 4)].clone(), names[usize::from((name / 4) % 4)].clone());
    let edit = RefEdit { name: name.clone().into(), expected: Expected::Any, new: Some(ids[commit]) };
    let tag = RefName::from(TagName::new(other.as_str()).unwrap());
    // Some of it is refused, as for a user.
    let _ = match kind % 7 {
        0 => history.edit(&[edit], "move", &who(1)),
        1 => history.delete(&name.into(), Expected::Any, &who(1)).map(|_| ()),
        2 => history.rename_branch(&name, &other, &who(1)),
        3 => history.attach_head(&name, &who(1)),
        4 => history.detach_head(&ids[commit], &who(1)),
        5 => history.edit_with_head(&[edit], &HeadTo::Branch(name).into(), "both", &who(1)),
        _ => history.edit(
            &[edit, RefEdit { name: tag, expected: Expected::Absent, new: Some(ids[0]) }],
            "two",
            &who(1),
        ),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Taking back is the inverse, of one operation and of many, and the record tells every view there ever was.
    #[test]
    fn undo_after_an_operation_changes_nothing(deeds in prop::collection::vec((0u8..7, 0u8..16, 0usize..3), 1..12)) {
        let fixture = Fixture::new();
        let history = &fixture.history;
        let ids = fixture.chain(3);
        let mut views = Vec::new();
        for one in deeds {
            let (before, count) = (view(history), history.operations().unwrap().len());
            deed(history, &ids, one);
            let operations = history.operations().unwrap();
            if operations.len() == count {
                prop_assert_eq!(&view(history), &before, "what is not on record did not happen");
                continue;
            }
            let after = view(history);
            history.undo(&who(2)).unwrap();
            prop_assert_eq!(view(history), before);
            history.undo_to(&operations[count].id, &who(3)).unwrap();
            prop_assert_eq!(&view(history), &after);
            views.push((operations[count].id, after));
        }
        for (id, expected) in views.iter().rev().chain(&views) {
            history.undo_to(id, &who(4)).unwrap();
            prop_assert_eq!(&view(history), expected);
        }
        prop_assert_eq!(view_by_record(history), view(history));
        fixture.fsck();
    }
}
