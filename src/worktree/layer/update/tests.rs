//! Directories brought from any tree to any other.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use proptest::prelude::*;

use super::{Ground, PlannedChange, UpdateOptions, Updated, update};
use crate::object::{Entry, Meta, NewNode, Node, SourceError, Timestamp, TreePath, TreeSource};
use crate::store::Batch;
use crate::worktree::layer::{BuildOptions, Linking, plan_update};
use crate::worktree::scan::fixture::TestStore;
use crate::worktree::scan::{Owners, ScanOptions, scan};

/// What a path of a made tree is.
#[derive(Debug, Clone)]
enum What {
    File { text: String, mode: u16, second: i64 },
    Directory { mode: u16 },
    Symlink(String),
    SameAs(String),
    Fifo,
}

type Made = Vec<(String, What)>;

fn made() -> impl Strategy<Value = Made> {
    let path = prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"));
    let what = prop_oneof![
        4 => ("[xy]{0,3}", prop::sample::select(vec![0o644, 0o600, 0o444, 0o755]), 0..3i64)
            .prop_map(|(text, mode, second)| What::File { text, mode, second }),
        2 => prop::sample::select(vec![0o755, 0o555, 0o700]).prop_map(|mode| What::Directory { mode }),
        1 => "[abc/]{1,3}".prop_map(What::Symlink),
        1 => path.clone().prop_map(What::SameAs),
        1 => Just(What::Fifo),
    ];
    prop::collection::vec((path, what), 0..10)
}

fn parsed(path: &str) -> TreePath {
    TreePath::parse(path.as_bytes()).unwrap()
}

fn blob(batch: &Batch<'_>, text: &str) -> NewNode {
    let blob = batch.put_blob(text.as_bytes(), None).unwrap();
    NewNode::File { blob, size: text.len() as u64, link: None }
}

/// A tree of what was made; what does not fit is passed over.
fn tree(store: &TestStore, made: &Made) -> Entry {
    let (_, _, root) = store.keep(|batch, draft| {
        for (path, what) in made {
            let path = parsed(path);
            let meta = |mode, second| Meta::root_owned(mode, Timestamp::from_seconds(second));
            draft.make_parents(&path, &meta(0o755, 7))?;
            match what {
                What::File { text, mode, second } => {
                    draft.put(&path, meta(*mode, *second), blob(batch, text))?;
                }
                What::Directory { mode } => draft.put_directory(&path, meta(*mode, 8))?,
                What::Symlink(target) => {
                    let target = target.clone().into_bytes();
                    draft.put(&path, meta(0o777, 9), NewNode::Symlink { target })?;
                }
                What::SameAs(other) => {
                    let is_file = matches!(draft.leaf(&parsed(other))?, Some((_, NewNode::File { .. })));
                    if is_file && !parsed(other).starts_with(&path) {
                        draft.hard_link(&path, &parsed(other))?;
                    }
                }
                What::Fifo => draft.put(&path, meta(0o600, 10), NewNode::Fifo)?,
            }
        }
        Ok::<_, crate::object::DraftError>(())
    });
    root
}

fn bring(store: &TestStore, dir: &Path, known: &[&Entry], new: &Entry, force: bool) -> Updated {
    let known: Vec<Entry> = known.iter().map(|known| (*known).clone()).collect();
    let mut changes: Vec<PlannedChange> = Vec::new();
    plan_update(&store.store, &known, new, &|_, _| false, &mut |change| {
        changes.push(change);
        Ok::<_, SourceError>(())
    })
    .unwrap();
    let build = BuildOptions {
        objects: store.store.layout().objects(),
        mapped_ids: if nix::unistd::geteuid().is_root() { u32::MAX } else { 1 },
        stand_ins: false,
        redirects: false,
        linking: Linking::Never,
        exact: true,
    };
    let options = UpdateOptions { build, ground: Ground::Written, force };
    let updated = update(dir, &options, &changes).unwrap();
    assert_eq!(updated.skipped, []);
    updated
}

/// The tree of what is on disk.
fn read(store: &TestStore, dir: &Path) -> Entry {
    let options = ScanOptions::with_owners(Owners::for_caller());
    store.keep(|batch, draft| scan(dir, batch, draft, &TreePath::root(), &options)).2
}

/// Every path with what is there.
fn listed(store: &TestStore, root: &Entry) -> HashMap<String, Entry> {
    let mut all = HashMap::new();
    let mut todo = vec![(String::new(), root.clone())];
    while let Some((path, entry)) = todo.pop() {
        if let Node::Directory { tree, .. } = &entry.node {
            for (name, child) in store.store.tree(tree).unwrap().into_entries() {
                todo.push((format!("{path}/{}", name.as_os_str().to_str().unwrap()), child));
            }
        }
        all.insert(path, entry);
    }
    all
}

fn stamp(dir: &Path, path: &str) -> (u64, i64, i64) {
    let meta = std::fs::symlink_metadata(dir.join(path.trim_start_matches('/'))).unwrap();
    (meta.ino(), meta.ctime(), meta.ctime_nsec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_directory_becomes_any_other_and_what_is_the_same_is_not_touched(one in made(), two in made(), three in made()) {
        let store = TestStore::new();
        let dir = store.dir.path().join("out");
        std::fs::create_dir(&dir).unwrap();
        let (one, two, three) = (tree(&store, &one), tree(&store, &two), tree(&store, &three));
        prop_assert_eq!(bring(&store, &dir, &[], &one, false).conflicts, []);
        prop_assert_eq!(&read(&store, &dir), &one);
        let (before, after) = (listed(&store, &one), listed(&store, &two));
        let same: Vec<_> = before
            .iter()
            .filter(|(path, entry)| after.get(*path) == Some(entry) && !path.is_empty())
            .map(|(path, _)| (path.clone(), stamp(&dir, path)))
            .collect();
        let updated = bring(&store, &dir, &[&one], &two, false);
        prop_assert_eq!(&updated.conflicts, &[]);
        prop_assert_eq!(&read(&store, &dir), &two);
        for (path, before) in same {
            prop_assert_eq!(stamp(&dir, &path), before, "{} was touched", path);
        }
        let gone = before.keys().filter(|path| !after.contains_key(*path)).count() as u64;
        prop_assert_eq!(updated.removed, gone);
        prop_assert_eq!(updated.left, Vec::<Vec<u8>>::new());
        // As after an update that was killed at its very end: both may be there.
        prop_assert_eq!(bring(&store, &dir, &[&one, &two], &three, false).conflicts, []);
        prop_assert_eq!(&read(&store, &dir), &three);
        // Nothing to do is nothing done.
        let (again, before) = (bring(&store, &dir, &[&three], &three, false), stamp(&dir, ""));
        prop_assert_eq!((again.written, again.removed), (0, 0));
        prop_assert_eq!(&read(&store, &dir), &three);
        prop_assert!(before.0 == stamp(&dir, "").0);
    }
}

#[test]
fn what_one_of_several_known_trees_lacks_is_made() {
    let store = TestStore::new();
    let dir = store.dir.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    let one = tree(&store, &vec![("c/a/c".into(), What::Directory { mode: 0o555 })]);
    let two = tree(&store, &Vec::new());
    bring(&store, &dir, &[], &one, false);
    bring(&store, &dir, &[&one], &two, false);
    // As after an update from one to two that was killed when it was all but over.
    bring(&store, &dir, &[&one, &two], &one, false);
    assert_eq!(read(&store, &dir), one);
}

#[test]
fn what_others_put_in_the_way_is_told_before_anything_is_touched() {
    let store = TestStore::new();
    let dir = store.dir.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    let file = |text: &str| What::File { text: text.to_owned(), mode: 0o644, second: 1 };
    let one =
        tree(&store, &vec![("a/x".into(), file("x")), ("b".into(), file("b")), ("c".into(), file("c"))]);
    let two = tree(
        &store,
        &vec![("a".into(), file("now a file")), ("b".into(), file("b2")), ("n".into(), file("n"))],
    );
    bring(&store, &dir, &[], &one, false);
    std::fs::write(dir.join("a/mine"), "mine").unwrap();
    std::fs::write(dir.join("b"), "by hand").unwrap();
    std::fs::write(dir.join("n"), "mine too").unwrap();
    std::fs::write(dir.join("c"), "edited, and to go").unwrap();
    let told = bring(&store, &dir, &[&one], &two, false);
    let paths: Vec<_> =
        told.conflicts.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(paths, ["a", "b", "c", "n"]);
    assert_eq!((told.written, told.removed), (0, 0));
    assert_eq!(std::fs::read(dir.join("b")).unwrap(), b"by hand");
    // Force does not reach into directories with files of others.
    let forced = bring(&store, &dir, &[&one], &two, true);
    assert_eq!(forced.conflicts.len(), 1, "{:?}", forced.conflicts);
    std::fs::remove_file(dir.join("a/mine")).unwrap();
    assert_eq!(bring(&store, &dir, &[&one], &two, true).conflicts, []);
    assert_eq!(read(&store, &dir), two);
}

#[test]
fn a_link_that_took_a_directorys_place_is_not_gone_through() {
    let store = TestStore::new();
    let dir = store.dir.path().join("out");
    let victim = store.dir.path().join("victim");
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("x"), "x").unwrap();
    let file = |text: &str| What::File { text: text.to_owned(), mode: 0o644, second: 1 };
    let one = tree(&store, &vec![("a/x".into(), file("x"))]);
    let two = tree(&store, &vec![("a/x".into(), file("changed")), ("a/new".into(), file("new"))]);
    let none = tree(&store, &Vec::new());
    bring(&store, &dir, &[], &one, false);
    std::fs::rename(dir.join("a"), store.dir.path().join("aside")).unwrap();
    std::os::unix::fs::symlink(&victim, dir.join("a")).unwrap();
    for (new, force) in [(&two, false), (&none, false), (&none, true)] {
        let updated = bring(&store, &dir, &[&one], new, force);
        assert_eq!(updated.conflicts.is_empty(), force, "{:?}", updated.conflicts);
        assert_eq!(std::fs::read(victim.join("x")).unwrap(), b"x");
    }
    std::os::unix::fs::symlink(&victim, dir.join("a")).unwrap();
    bring(&store, &dir, &[&one], &two, true);
    assert_eq!(std::fs::read(victim.join("x")).unwrap(), b"x");
    assert_eq!(std::fs::read(dir.join("a/new")).unwrap(), b"new");
    assert!(!victim.join("new").exists());
}
