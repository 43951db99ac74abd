use super::*;

#[test]
fn a_commit_reads_back_and_equal_commits_have_equal_ids() {
    let (one, two) = (Fixture::new(), Fixture::with(Durability::Commit));
    let given = NewCommit { message: "apk add git\n\nTreebox-Exit: 0\n".to_owned(), ..new_commit("x", &[]) };
    let ids = [&one, &two].map(|fixture| fixture.history.write_commit(&given).unwrap());
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0].to_string(), one.git(&["rev-parse", &ids[0].to_string()]));
    let read = one.history.read_commit(&ids[0]).unwrap();
    assert_eq!(read.message, "apk add git\n\nTreebox-Exit: 0");
    assert_eq!((read.record, read.time_seconds), (given.record.clone(), 1_000));
    let child = two.commit("child", &ids);
    assert_eq!(two.history.read_commit(&child).unwrap().parents, ids);
    assert!(two.history.has_commit(&child) && !one.history.has_commit(&child));
    // Older versions of Git write the zone as `+00:00`, newer ones as `Z`.
    let shown = two.git(&["show", "-s", "--format=%an %ae %cn %ce %at %cI", &child.to_string()]);
    assert_eq!(
        shown.replace("+00:00", "Z"),
        "treebox treebox@localhost treebox treebox@localhost 1000 1970-01-01T00:16:40Z"
    );
}

#[test]
fn one_commit_is_three_loose_objects_and_is_written_once() {
    let fixture = Fixture::new();
    let count = || fixture.git(&["count-objects"]).split(' ').next().unwrap().parse::<usize>().unwrap();
    fixture.commit("a", &[]);
    assert_eq!(count(), 3);
    fixture.commit("a", &[]);
    assert_eq!(count(), 3);
}

#[test]
fn what_cannot_be_a_commit_is_refused() {
    let fixture = Fixture::new();
    let nul = NewCommit { message: "a\0b".to_owned(), ..new_commit("x", &[]) };
    assert!(matches!(fixture.history.write_commit(&nul), Err(HistoryError::NulInMessage)));
    let large = NewCommit { record: vec![0; MAX_RECORD_BYTES + 1], ..new_commit("x", &[]) };
    assert!(matches!(fixture.history.write_commit(&large), Err(HistoryError::RecordTooLarge { .. })));
    let missing = CommitId::from_bytes([9; 20]);
    assert!(
        matches!(fixture.history.read_commit(&missing), Err(HistoryError::MissingCommit(id)) if id == missing)
    );
    assert!(!fixture.history.has_commit(&missing));
}

#[test]
fn a_commit_made_by_git_has_no_record() {
    let fixture = Fixture::new();
    let tree = fixture.git(&["mktree"]);
    let commit = fixture.git(&["commit-tree", &tree, "-m", "foreign"]).parse().unwrap();
    assert!(matches!(fixture.history.read_commit(&commit), Err(HistoryError::NoRecord(id)) if id == commit));
}

#[test]
fn a_walk_agrees_with_git() {
    let fixture = Fixture::new();
    let main = fixture.chain(6);
    let side: Vec<_> = (0..3).fold(vec![main[2]], |mut side, n| {
        let commit = NewCommit {
            time_seconds: 1_003 + n,
            ..new_commit(&format!("side {n}"), &[*side.last().unwrap()])
        };
        side.push(fixture.history.write_commit(&commit).unwrap());
        side
    });
    let merge = NewCommit { time_seconds: 2_000, ..new_commit("merge", &[main[5], side[3]]) };
    let merge = fixture.history.write_commit(&merge).unwrap();
    fixture.set(branch("main"), merge);
    let walk = |options: WalkOptions| {
        let walk = fixture.history.walk(&options).unwrap();
        walk.map(|commit| commit.unwrap().id.to_string()).collect::<Vec<_>>().join("\n")
    };
    let from = |tips: &[CommitId]| WalkOptions { tips: tips.to_vec(), ..WalkOptions::default() };
    assert_eq!(walk(from(&[merge])), fixture.git(&["rev-list", "main"]));
    let topological = WalkOptions { order: Order::Topological, ..from(&[merge]) };
    assert_eq!(walk(topological), fixture.git(&["rev-list", "--topo-order", "main"]));
    for order in [Order::Time, Order::Topological] {
        let first = WalkOptions { first_parent: true, order, ..from(&[merge]) };
        assert_eq!(walk(first), fixture.git(&["rev-list", "--first-parent", "main"]));
        let hidden = WalkOptions { hidden: vec![main[4]], order, ..from(&[merge]) };
        assert_eq!(walk(hidden).lines().count(), 5);
    }
    let first = fixture.history.walk(&from(&[merge])).unwrap().next().unwrap().unwrap();
    assert_eq!(first, Walked { id: merge, parents: vec![main[5], side[3]], time_seconds: 2_000 });
    assert_eq!(fixture.history.merge_base(&main[5], &side[3]).unwrap(), Some(main[2]));
    assert!(fixture.history.is_ancestor(&main[2], &side[3]).unwrap());
    assert!(!fixture.history.is_ancestor(&main[3], &side[3]).unwrap());
    let other = fixture.commit("unrelated", &[]);
    assert_eq!(fixture.history.merge_base(&other, &merge).unwrap(), None);
    let missing = CommitId::from_bytes([9; 20]);
    assert!(matches!(fixture.history.walk(&from(&[missing])), Err(HistoryError::MissingCommit(_))));
    assert!(matches!(fixture.history.merge_base(&merge, &missing), Err(HistoryError::MissingCommit(_))));
}
