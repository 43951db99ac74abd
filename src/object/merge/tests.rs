use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::object::{Change, Kind, Name, Timestamp, Tree, TreeSink, diff};

/// Trees and contents in memory.
#[derive(Default)]
struct Memory {
    trees: RefCell<HashMap<TreeId, Vec<u8>>>,
    contents: RefCell<HashMap<BlobId, Vec<u8>>>,
}

impl TreeSource for Memory {
    fn tree(&self, id: &TreeId) -> Result<Tree, SourceError> {
        Tree::decode(&self.trees.borrow()[id]).map_err(|error| SourceError(error.into()))
    }
}

impl TreeSink for &Memory {
    fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.trees.borrow_mut().insert(id, bytes);
        Ok(())
    }
}

impl Contents for &Memory {
    fn read(&mut self, blob: &BlobId) -> Result<Vec<u8>, SourceError> {
        Ok(self.contents.borrow()[blob].clone())
    }

    fn write(&mut self, content: Vec<u8>) -> Result<BlobId, SourceError> {
        let blob = BlobId::of(&content);
        self.contents.borrow_mut().insert(blob, content);
        Ok(blob)
    }
}

type Root = (TreeId, Entry);

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn meta(mode: u16, seconds: i64) -> Meta {
    Meta::root_owned(mode, Timestamp::new(seconds, 0).unwrap())
}

/// One change of a file system, as a line: `w PATH TEXT`, `l PATH TARGET` (symlink), `h PATH TARGET` (hard link), `d PATH`, `m PATH MODE`, `r PATH`.
/// What cannot be done is left out. The number of the line is the time of what it makes.
fn edited(memory: &Memory, from: &Root, lines: &str, since: i64) -> Root {
    let mut draft = Draft::from_root(memory, from.0, from.1.clone());
    for (now, line) in lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let now = since + now as i64;
        let words: Vec<&str> = line.split(' ').collect();
        let at = path(words[1]);
        let parent = at.split_last().unwrap().0;
        let fits = matches!(draft.get(&parent).unwrap(), Some((_, Kind::Directory)));
        let there = draft.get(&at).unwrap().map(|(meta, kind)| (meta.clone(), kind));
        match (words[0], there) {
            ("w", there) if fits => {
                let text = words[2].replace(',', "\n") + "\n";
                let (blob, size) =
                    ((&mut &*memory).write(text.clone().into_bytes()).unwrap(), text.len() as u64);
                // Written in place: every name of the file changes.
                let group = match draft.leaf(&at).unwrap() {
                    Some((_, NewNode::File { link, .. })) => *link,
                    _ => None,
                };
                let mode = there.filter(|(_, kind)| *kind == Kind::File).map_or(0o644, |(meta, _)| meta.mode);
                for member in members(&mut draft, group, &at) {
                    draft.put(&member, meta(mode, now), NewNode::File { blob, size, link: group }).unwrap();
                }
            }
            ("l", _) if fits => {
                draft.put(&at, meta(0o777, now), NewNode::Symlink { target: words[2].into() }).unwrap();
            }
            ("h", _) if fits => {
                let target = path(words[2]);
                if matches!(draft.leaf(&target).unwrap(), Some((_, NewNode::File { .. }))) {
                    draft.hard_link(&at, &target).unwrap();
                }
            }
            ("d", None) if fits => draft.put_directory(&at, meta(0o755, now)).unwrap(),
            ("m", Some((old, kind))) => {
                let mode = u16::from_str_radix(words[2], 8).unwrap();
                let group = match draft.leaf(&at).unwrap() {
                    Some((_, NewNode::File { link, .. })) if kind == Kind::File => *link,
                    _ => None,
                };
                for member in members(&mut draft, group, &at) {
                    draft.set_meta(&member, Meta { mode, ..old.clone() }).unwrap();
                }
            }
            ("r", Some(_)) => drop(draft.remove(&at).unwrap()),
            _ => {}
        }
    }
    draft.finish(&mut &*memory).unwrap()
}

fn members(draft: &mut Draft<'_>, group: Option<LinkKey>, at: &TreePath) -> Vec<TreePath> {
    let mut found = vec![at.clone()];
    let mut todo = vec![TreePath::root()];
    while let Some(directory) = todo.pop().filter(|_| group.is_some()) {
        for name in draft.names(&directory).unwrap().unwrap() {
            let path = directory.join(&name);
            match draft.leaf(&path).unwrap() {
                Some((_, NewNode::File { link, .. })) if *link == group && path != *at => found.push(path),
                Some(_) => {}
                None => todo.push(path),
            }
        }
    }
    found
}

fn empty(memory: &Memory) -> Root {
    Draft::empty(memory, meta(0o755, 0)).finish(&mut &*memory).unwrap()
}

fn merged(
    memory: &Memory,
    base: &Root,
    ours: &Root,
    theirs: &Root,
    settled: Option<Settled>,
) -> Result<Root, Vec<Conflict>> {
    let mut contents = memory;
    let (draft, conflicts) =
        merge(memory, Some(&base.1), (ours.0, &ours.1), &theirs.1, &mut contents, &|_| settled).unwrap();
    if conflicts.is_empty() { Ok(draft.finish(&mut &*memory).unwrap()) } else { Err(conflicts) }
}

/// Every path with what it is, links as the first path of the file.
fn listed(memory: &Memory, root: &Root) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut first: HashMap<LinkGroup, String> = HashMap::new();
    let mut all = Vec::new();
    walk(memory, &root.1, &mut TreePath::root(), &mut all);
    for (path, entry) in all {
        let shown = match &entry.node {
            Node::File { blob, link, .. } => {
                let text = String::from_utf8(memory.contents.borrow()[blob].clone()).unwrap();
                let text = text.trim_end().replace('\n', ",");
                let link = link.map(|link| first.entry(link).or_insert_with(|| path.to_string()).clone());
                link.map_or(text.clone(), |link| format!("{text} = {link}"))
            }
            Node::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
            node => node.kind().as_str().to_owned(),
        };
        found.insert(path.to_string(), format!("{:o} {shown}", entry.meta.mode));
    }
    found
}

fn walk(memory: &Memory, entry: &Entry, path: &mut TreePath, found: &mut Vec<(TreePath, Entry)>) {
    let Node::Directory { tree, .. } = &entry.node else { return };
    for (name, entry) in memory.tree(tree).unwrap().into_entries() {
        path.push(name);
        found.push((path.clone(), entry.clone()));
        walk(memory, &entry, path, found);
        path.pop();
    }
}

/// Makes the same tree anew, so that its links get the names that they should have.
fn remade(memory: &Memory, root: &Root) -> TreeId {
    let mut all = Vec::new();
    walk(memory, &root.1, &mut TreePath::root(), &mut all);
    let mut draft = Draft::empty(memory, root.1.meta.clone());
    let mut keys: HashMap<LinkGroup, LinkKey> = HashMap::new();
    for (path, entry) in all {
        match entry.node {
            Node::Directory { .. } => draft.put_directory(&path, entry.meta).unwrap(),
            Node::File { blob, size, link } => {
                let link = link.map(|link| *keys.entry(link).or_insert_with(|| draft.new_link()));
                draft.put(&path, entry.meta, NewNode::File { blob, size, link }).unwrap();
            }
            node => draft.put_entry(&path, Entry { meta: entry.meta, node }).unwrap(),
        }
    }
    draft.finish(&mut &*memory).unwrap().0
}

/// What comes of three lists of changes: the paths of the result, or the conflicts.
fn outcome(base: &str, ours: &str, theirs: &str) -> Result<Vec<String>, Vec<String>> {
    let memory = Memory::default();
    let base = edited(&memory, &empty(&memory), base, 1);
    let (ours, theirs) = (edited(&memory, &base, ours, 100), edited(&memory, &base, theirs, 200));
    match merged(&memory, &base, &ours, &theirs, None) {
        Ok(root) => {
            assert_eq!(remade(&memory, &root), root.0, "links are canonical");
            Ok(listed(&memory, &root).into_iter().map(|(path, what)| format!("{path} {what}")).collect())
        }
        Err(conflicts) => Err(conflicts
            .iter()
            .map(|conflict| format!("{} {}", conflict.path, conflict.kind.as_str()))
            .collect()),
    }
}

#[test]
fn changes_apart_from_each_other_join() {
    let base = "d /d\nw /d/a 1,2,3,4,5\nw /b x\nw /gone x";
    let result =
        outcome(base, "w /d/a one,2,3,4,5\nm /b 600\nw /d/new o", "w /d/a 1,2,3,4,five\nw /b y\nr /gone");
    assert_eq!(result.unwrap(), ["/b 600 y", "/d 755 directory", "/d/a 644 one,2,3,4,five", "/d/new 644 o"]);
}

#[test]
fn what_does_not_join_is_listed_with_the_reason() {
    let base = "d /d\nw /d/a 1\nw /b x\nw /m x\nl /l 1\nw /k x\nd /e\nw /e/f 1";
    let ours = "w /d/a 2\nw /b y\nm /m 600\nl /l 2\nw /new a\nr /k\nd /k\nr /e/f\nw /e/g 1";
    let theirs = "w /d/a 3\nr /b\nm /m 640\nl /l 3\nw /new b\nw /k y\nr /e\nw /e now";
    assert_eq!(
        outcome(base, ours, theirs).unwrap_err(),
        [
            "/b modify-delete",
            "/d/a both-modified",
            "/e file-directory",
            "/k file-directory",
            "/l both-modified",
            "/m attributes",
            "/new add-add"
        ]
    );
}

#[test]
fn a_directory_stays_as_long_as_something_is_left_in_it() {
    let base = "d /d\nw /d/a 1\nw /d/b 1";
    assert_eq!(outcome(base, "w /d/new n", "r /d").unwrap(), ["/d 755 directory", "/d/new 644 n"]);
    assert_eq!(outcome(base, "r /d", "w /d/new n").unwrap(), ["/d 755 directory", "/d/new 644 n"]);
    assert_eq!(outcome(base, "r /d/a", "r /d").unwrap(), Vec::<String>::new());
    assert_eq!(outcome(base, "w /d/a 2", "r /d").unwrap_err(), ["/d/a modify-delete"]);
    assert_eq!(outcome(base, "r /d", "m /d 700").unwrap_err(), ["/d modify-delete"]);
    assert_eq!(outcome(base, "r /d\nw /d f", "w /b 1").unwrap(), ["/b 644 1", "/d 644 f"]);
}

#[test]
fn hard_links_of_both_sides_join() {
    let base = "w /a 1\nh /b /a\nw /c 3";
    assert_eq!(
        outcome(base, "w /a 2", "h /d /a").unwrap(),
        ["/a 644 2 = /a", "/b 644 2 = /a", "/c 644 3", "/d 644 2 = /a"],
        "a new name has the new content"
    );
    assert_eq!(outcome(base, "h /x /a", "r /b").unwrap(), ["/a 644 1 = /a", "/c 644 3", "/x 644 1 = /a"],);
    assert_eq!(
        outcome("w /a 1\nw /c 1", "h /b /a", "h /d /a").unwrap(),
        ["/a 644 1 = /a", "/b 644 1 = /a", "/c 644 1", "/d 644 1 = /a"],
    );
    assert_eq!(outcome(base, "r /b\nw /b 9", "w /c 4").unwrap(), ["/a 644 1", "/b 644 9", "/c 644 4"]);
    assert_eq!(outcome(base, "r /b\nw /b 9", "w /a 4").unwrap_err(), ["/b both-modified"]);
    assert_eq!(
        outcome("d /x\nd /y\nw /x/a 1", "h /y/a /x/a", "w /y/z 1").unwrap(),
        ["/x 755 directory", "/x/a 644 1 = /x/a", "/y 755 directory", "/y/a 644 1 = /x/a", "/y/z 644 1"],
        "a member in a directory that the other side left alone"
    );
}

#[test]
fn a_settled_conflict_is_as_the_side_has_it_and_what_joined_stays_joined() {
    let memory = Memory::default();
    let base = edited(&memory, &empty(&memory), "w /a 1\nw /b 1\nw /c 1", 1);
    let ours = edited(&memory, &base, "w /a o\nm /a 600\nr /b\nw /only o", 100);
    let theirs = edited(&memory, &base, "w /a t\nw /b t\nw /c t", 200);
    let all =
        |side| listed(&memory, &merged(&memory, &base, &ours, &theirs, Some(Settled::By(side))).unwrap());
    let text = |list: BTreeMap<String, String>| {
        list.into_iter().map(|(path, what)| format!("{path} {what}")).collect::<Vec<_>>()
    };
    assert_eq!(text(all(Side::Ours)), ["/a 600 o", "/c 644 t", "/only 644 o"]);
    assert_eq!(text(all(Side::Theirs)), ["/a 600 t", "/b 644 t", "/c 644 t", "/only 644 o"]);
}

#[test]
fn times_follow_the_content_and_never_conflict() {
    let memory = Memory::default();
    let base = edited(&memory, &empty(&memory), "d /d\nw /d/a 1,2,3\nw /d/b 1", 1);
    let ours = edited(&memory, &base, "w /d/a o,2,3\nw /d/b 2", 300);
    let theirs = edited(&memory, &base, "w /d/a 1,2,t\nw /d/b 2", 200);
    let root = merged(&memory, &base, &ours, &theirs, None).unwrap();
    let mut all = Vec::new();
    walk(&memory, &root.1, &mut TreePath::root(), &mut all);
    let times: Vec<i64> = all.iter().map(|(_, entry)| entry.meta.mtime.seconds()).collect();
    assert_eq!(times, [1, 300, 301]);
}

#[test]
fn without_a_base_only_what_is_the_same_joins() {
    let memory = Memory::default();
    let ours = edited(&memory, &empty(&memory), "w /a 1\nw /b 1\nd /d\nw /d/x 1", 1);
    let theirs = edited(&memory, &empty(&memory), "w /a 1\nw /b 2\nd /d\nw /d/y 1", 1);
    let mut contents = &memory;
    let (_, conflicts) =
        merge(&memory, None, (ours.0, &ours.1), &theirs.1, &mut contents, &|_| None).unwrap();
    assert_eq!(conflicts.iter().map(|conflict| conflict.path.to_string()).collect::<Vec<_>>(), ["/b"]);
}

#[test]
fn deep_trees_merge() {
    let memory = Memory::default();
    let deep = |leaf: &str| {
        let mut draft = Draft::empty(&memory, meta(0o755, 0));
        let mut at = TreePath::root();
        for _ in 1..500 {
            at.push(Name::new(b"d").unwrap());
            draft.put_directory(&at, meta(0o755, 1)).unwrap();
        }
        at.push(Name::new(leaf.as_bytes()).unwrap());
        draft.put(&at, meta(0o644, 1), NewNode::Fifo).unwrap();
        (draft.finish(&mut &memory).unwrap(), at)
    };
    let ((base, _), (ours, _), (theirs, _)) = (deep("x"), deep("y"), deep("z"));
    let root = merged(&memory, &base, &ours, &theirs, None).unwrap();
    let mut all = Vec::new();
    walk(&memory, &root.1, &mut TreePath::root(), &mut all);
    let leaves: Vec<_> =
        all.iter().filter(|(_, entry)| entry.node == Node::Fifo).map(|(path, _)| path.clone()).collect();
    assert_eq!(leaves, [deep("y").1, deep("z").1]);
}

/// Does to a tree what a list of changes says.
fn applied(memory: &Memory, old: &Root, changes: &[Change]) -> TreeId {
    let mut draft = Draft::from_root(memory, old.0, old.1.clone());
    let mut keys: HashMap<LinkGroup, LinkKey> = HashMap::new();
    for change in changes {
        match change.new.clone() {
            None => drop(draft.remove(&change.path).unwrap()),
            Some(Entry { meta, node: Node::Directory { .. } }) => {
                draft.put_directory(&change.path, meta).unwrap();
            }
            Some(Entry { meta, node: Node::File { blob, size, link } }) => {
                let link = link.map(|link| *keys.entry(link).or_insert_with(|| draft.new_link()));
                draft.put(&change.path, meta, NewNode::File { blob, size, link }).unwrap();
            }
            Some(entry) => draft.put_entry(&change.path, entry).unwrap(),
        }
    }
    draft.finish(&mut &*memory).unwrap().0
}

fn changes(max: usize) -> impl Strategy<Value = String> {
    let names = ["a", "b", "d", "e"];
    let path = prop::collection::vec(prop::sample::select(names.to_vec()), 1..3)
        .prop_map(|names| format!("/{}", names.join("/")));
    let text = prop::collection::vec(prop::sample::select(vec!["1", "2", "3"]), 3)
        .prop_map(|lines| lines.join(",-,"));
    let change = prop_oneof![
        4 => (path.clone(), text).prop_map(|(path, text)| format!("w {path} {text}")),
        2 => path.clone().prop_map(|path| format!("d {path}")),
        2 => path.clone().prop_map(|path| format!("r {path}")),
        1 => (path.clone(), "[67][0-7]0").prop_map(|(path, mode)| format!("m {path} {mode}")),
        1 => (path.clone(), "[xy]").prop_map(|(path, target)| format!("l {path} {target}")),
        3 => (path.clone(), path).prop_map(|(link, target)| format!("h {link} {target}")),
    ];
    prop::collection::vec(change, 0..max).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_diff_tells_makes_the_second_tree_of_the_first(base in changes(10), one in changes(8), other in changes(8)) {
        let memory = Memory::default();
        let base = edited(&memory, &empty(&memory), &base, 1);
        let (one, other) = (edited(&memory, &base, &one, 100), edited(&memory, &base, &other, 200));
        for (old, new) in [(&one, &other), (&other, &one), (&base, &one), (&one, &base), (&one, &one)] {
            let mut changes = Vec::new();
            diff(&memory, &old.1, &new.1, &mut |change| {
                changes.push(change);
                Ok(())
            }).unwrap();
            prop_assert_eq!(applied(&memory, old, &changes), new.0);
            prop_assert_eq!(changes.is_empty(), old.0 == new.0);
        }
    }

    #[test]
    fn merging_keeps_its_promises(base in changes(10), ours in changes(6), theirs in changes(6)) {
        let memory = Memory::default();
        let base = edited(&memory, &empty(&memory), &base, 1);
        let (ours, theirs) = (edited(&memory, &base, &ours, 100), edited(&memory, &base, &theirs, 200));
        let id = |result: Result<Root, Vec<Conflict>>| result.map(|root| root.0);
        prop_assert_eq!(id(merged(&memory, &base, &ours, &ours, None)), Ok(ours.0), "with itself");
        prop_assert_eq!(id(merged(&memory, &base, &ours, &base, None)), Ok(ours.0), "with its base");
        prop_assert_eq!(id(merged(&memory, &base, &base, &theirs, None)), Ok(theirs.0), "the base with a side");
        let forth = merged(&memory, &base, &ours, &theirs, None);
        let back = merged(&memory, &base, &theirs, &ours, None);
        let paths = |conflicts: &[Conflict]| conflicts.iter().map(|conflict| conflict.path.clone()).collect::<Vec<_>>();
        match (forth, back) {
            (Ok(forth), Ok(back)) => {
                prop_assert_eq!(listed(&memory, &forth), listed(&memory, &back));
                prop_assert_eq!(forth.0, back.0);
                prop_assert_eq!(remade(&memory, &forth), forth.0, "links are canonical");
            }
            (Err(forth), Err(back)) => prop_assert_eq!(paths(&forth), paths(&back)),
            (forth, back) => prop_assert!(false, "{:?} {:?}", forth.map(|_| ()), back.map(|_| ())),
        }
        for side in [Side::Ours, Side::Theirs] {
            let settled = merged(&memory, &base, &ours, &theirs, Some(Settled::By(side)));
            let settled = settled.map_err(|conflicts| TestCaseError::fail(format!("{conflicts:?}")))?;
            prop_assert_eq!(remade(&memory, &settled), settled.0, "links are canonical");
            let (left, right) = (listed(&memory, &ours), listed(&memory, &theirs));
            for path in listed(&memory, &settled).keys() {
                prop_assert!(left.contains_key(path) || right.contains_key(path), "{path} is nobody's");
            }
        }
        let marked = merged(&memory, &base, &ours, &theirs, Some(Settled::Neither));
        prop_assert!(marked.is_ok());
    }
}
