//! Thinning out: logs by age, objects by what leads to them.

use super::*;
use crate::history::operations::LOG_REF;

/// Commits that have one parent each, and a branch that was at each of them in turn, a second apart.
fn moved_through(fixture: &Fixture, name: &str, times: &[i64]) -> Vec<CommitId> {
    let mut commits: Vec<CommitId> = Vec::new();
    for (number, time) in times.iter().enumerate() {
        // Siblings: none keeps another.
        let commit = fixture.commit(&format!("{name} {number}"), &[]);
        let expected = commits.last().map_or(Expected::Absent, |last| Expected::Is(*last));
        fixture.history.edit(&[set(name, expected, commit)], &format!("move {number}"), &who(*time)).unwrap();
        commits.push(commit);
    }
    commits
}

#[test]
fn old_lines_go_and_with_them_the_objects_that_only_they_led_to() {
    let fixture = Fixture::new();
    let commits = moved_through(&fixture, "main", &[10, 20, 30]);
    let other = moved_through(&fixture, "other", &[5]);
    let history = &fixture.history;
    let tips = history.tips(20).unwrap();
    let logged = |tips: &Tips, full: &str| {
        let mut found: Vec<_> =
            tips.logged.iter().filter(|one| one.full == full).map(|one| one.commit).collect();
        found.sort();
        found
    };
    let mut wanted = commits[1..].to_vec();
    wanted.sort();
    assert_eq!(logged(&tips, "refs/heads/main"), wanted);
    // What the first operation that stays came from can be gone back to.
    assert_eq!(logged(&tips, LOG_REF).len(), 3);
    // Those of main, HEAD, and two of operations.
    assert_eq!(history.old_log_lines(20).unwrap(), 4);

    assert_eq!(history.expire_logs(25).unwrap(), 7);
    assert_eq!(history.expire_logs(25).unwrap(), 0, "the second time nothing is left to do");
    assert_eq!(history.operations().unwrap().len(), 1);
    let log = history.reflog(&branch("main").into()).unwrap();
    assert_eq!((log.len(), log[0].old, log[0].new), (1, None, Some(commits[2])));
    assert_eq!(
        history.reflog(&branch("other").into()).unwrap().len(),
        1,
        "the newest line stays, however old"
    );
    let pruned = history.prune(&[], || Some(((), Vec::new()))).unwrap();
    assert_eq!(pruned.objects, 3);
    assert!(!history.has_commit(&commits[0]));
    assert!([commits[1], commits[2], other[0]].iter().all(|commit| history.has_commit(commit)));
    history.undo(&who(40)).unwrap();
    assert_eq!(history.read_ref(&branch("main").into()).unwrap(), Some(commits[1]));
    assert!(matches!(history.undo(&who(41)), Err(EditError::NothingToUndo)));
    fixture.fsck();
}

#[test]
fn garbage_goes_out_of_packs_and_what_is_held_meanwhile_stays() {
    let fixture = Fixture::new();
    let commits = moved_through(&fixture, "main", &[10, 20, 30, 40]);
    let history = &fixture.history;
    history.pack().unwrap();
    let waiting = fixture.commit("about to be named", &[]);
    history.expire_logs(100).unwrap();
    assert_eq!(history.operations().unwrap().len(), 0);
    // Somebody takes hold of one at the last moment; and nothing at all happens when the deleters' lock is not to be had.
    assert_eq!(history.prune::<()>(&[waiting], || None).unwrap().objects, 0);
    let other = History::open(history.directory(), Options::default()).unwrap();
    assert!(other.has_commit(&commits[0]));
    let pruned = history.prune(&[waiting], || Some(((), vec![commits[1]]))).unwrap();
    assert_eq!(pruned.objects, 6);
    for handle in [history, &other] {
        assert!([commits[1], commits[3], waiting].iter().all(|commit| handle.has_commit(commit)));
        assert!(!handle.has_commit(&commits[0]) && !handle.has_commit(&commits[2]));
    }
    // A handle that had the old pack open writes what is gone again.
    let again = other.write_commit(&new_commit("main 0", &[])).unwrap();
    assert_eq!(again, commits[0]);
    other.edit(&[set("again", Expected::Absent, again)], "again", &who(50)).unwrap();
    fixture.fsck();
    assert!(fixture.git(&["log", "--format=%s", "again"]).contains("main 0"));
}

#[test]
fn the_operation_log_keeps_nothing_once_it_is_empty() {
    let fixture = Fixture::new();
    let commits = moved_through(&fixture, "main", &[10, 20]);
    let history = &fixture.history;
    history.expire_logs(100).unwrap();
    assert_eq!(history.prune(&[], || Some(((), Vec::new()))).unwrap().objects, 3);
    assert!(!history.has_commit(&commits[0]));
    let next = fixture.commit("next", &[]);
    history.edit(&[set("main", Expected::Is(commits[1]), next)], "go on", &who(200)).unwrap();
    assert_eq!(history.operations().unwrap().len(), 1);
    history.undo(&who(201)).unwrap();
    fixture.fsck();
}
