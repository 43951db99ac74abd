//! Merges as a program makes them.

use std::time::{Duration, Instant};

use treebox::blocking::Engine;
use treebox::{ErrorKind, ImportSource, LogQuery, MergeHow, MergeOptions, Side, TreePath};

use super::{base, changes, engine, stdout, step};

#[test]
fn states_merge_without_any_ref() {
    let start = step(&base(), "mkdir /merging; seq 9 > /merging/text; ln /merging/text /merging/link");
    let ours = step(
        &start,
        "sed -i s/1/one/ /merging/text; ln -f /merging/text /merging/link; mkfifo /merging/pipe",
    );
    let theirs =
        step(&start, "echo ten >> /merging/text; ln -f /merging/text /merging/link; chmod 700 /merging");
    let merged = engine().merge_states(Some(&start), &ours, &theirs, &[]).unwrap().state.unwrap();
    assert_eq!(stdout(&merged, "head -n 1 /merging/text; tail -n 1 /merging/link"), "one\nten\n");
    assert_eq!(stdout(&merged, "stat -c '%a %h' /merging /merging/link | cut -d' ' -f1"), "700\n644\n");
    assert_eq!(
        stdout(&merged, "test /merging/text -ef /merging/link && test -p /merging/pipe && echo yes"),
        "yes\n"
    );
    assert_eq!(
        engine().merge_states(Some(&start), &theirs, &ours, &[]).unwrap().state.unwrap().tree(),
        merged.tree()
    );
    assert_eq!(engine().merge_states(Some(&start), &ours, &ours, &[]).unwrap().state.unwrap(), ours);
    assert_eq!(engine().merge_states(Some(&start), &start, &theirs, &[]).unwrap().state.unwrap(), theirs);
    let other = step(&start, "echo 10 >> /merging/text; ln -f /merging/text /merging/link");
    let open = engine().merge_states(Some(&start), &other, &theirs, &[]).unwrap();
    let paths: Vec<_> = open.conflicts.iter().map(|conflict| conflict.path.to_string()).collect();
    assert_eq!((open.state, paths), (None, vec!["/merging/link".to_owned(), "/merging/text".to_owned()]));
    let settle = [(TreePath::root(), Side::Theirs)];
    let settled = engine().merge_states(Some(&start), &other, &theirs, &settle).unwrap().state.unwrap();
    assert_eq!(changes(&theirs, &settled), Vec::<String>::new());
}

#[test]
fn merges_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    std::fs::write(dir.path().join("root/f"), "f").unwrap();
    let engine = super::open(dir.path());
    let source = ImportSource::parse(&format!("dir:{}", dir.path().join("root").display())).unwrap();
    let start = engine.import(&source, Some("start")).unwrap().state;
    engine.switch_new("main", Some(&start)).unwrap();
    for number in 0..4 {
        let branch = format!("side-{number}");
        engine.create_branch(&branch, &start, false).unwrap();
        let file = dir.path().join(&branch);
        std::fs::write(&file, &branch).unwrap();
        let dest = TreePath::parse(format!("/{branch}").as_bytes()).unwrap();
        engine.copy_in(treebox::CopySource::Path(&file), &branch, &dest).unwrap();
    }
    let merge = |engine: &Engine, branch: &str| {
        let options = MergeOptions { no_fast_forward: true, ..MergeOptions::default() };
        let until = Instant::now() + Duration::from_secs(60);
        let mut refused = 0;
        loop {
            match engine.merge(branch, &options) {
                Ok(merge) => break (merge.how, refused),
                Err(error) if error.kind() == ErrorKind::Conflict && Instant::now() < until => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    };
    std::thread::scope(|scope| {
        let merges: Vec<_> = (0..4)
            .map(|number| {
                // Engines of their own, as several processes have.
                let engine = super::open(dir.path());
                scope.spawn(move || merge(&engine, &format!("side-{number}")))
            })
            .collect();
        for merge in merges {
            assert_eq!(merge.join().unwrap().0, MergeHow::Merged);
        }
    });
    let listed = engine.list(&engine.head_state().unwrap(), &TreePath::root(), false).unwrap();
    assert_eq!(listed.len(), 5, "what every branch brought is there");
    let merges = engine.log(&LogQuery::default()).unwrap();
    assert_eq!(merges.iter().filter(|commit| commit.parents.len() == 2).count(), 4);
}
