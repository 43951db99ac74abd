//! Which of the paths that differ between two trees were moved.
//!
//! A file was moved when it is gone from one path and the very same bytes came at another; a directory when all that is in it did. Empty
//! files are all alike and are never taken for moved by themselves.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::diff::Change;
use super::id::{BlobId, TreeId};
use super::path::TreePath;
use super::tree::Node;

/// A path that differs, or that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs; of what was moved the old entry is the one that was at the other path.
    pub change: Change,
    /// Where it was before, when it was moved.
    pub renamed_from: Option<TreePath>,
}

/// What stands for a directory that was moved as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Moved {
    /// The directory itself, and nothing below it.
    #[default]
    Whole,
    /// Every path in it, as a patch needs it.
    Each,
}

/// Among how many paths of the same content one of the same name is looked for: there may be thousands of copies of one licence.
const MAX_ALIKE: usize = 64;

/// The gone paths by what was there, each queue in order of the paths.
struct Gone {
    directories: HashMap<TreeId, VecDeque<usize>>,
    files: HashMap<BlobId, VecDeque<usize>>,
}

/// Joins what is gone from one path and came at another. The changes are those of [`super::diff()`], in its order; so is what comes out.
///
/// Where several paths fit, one with the same last name is taken if it is among the first of them, else the first.
pub fn find_renames(changes: Vec<Change>, moved: Moved) -> Vec<Difference> {
    let mut gone = Gone::among(&changes);
    let mut from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut settled: HashSet<usize> = HashSet::new();
    let mut at = 0;
    while at < changes.len() {
        let change = &changes[at];
        let tree = match (&change.old, &change.new) {
            (None, Some(new)) => moved_tree(&new.node),
            _ => None,
        };
        let old = tree.and_then(|tree| take(gone.directories.get_mut(&tree)?, &changes, change, &settled));
        let Some(old) = old else {
            at += 1;
            continue;
        };
        // Equal trees are listed alike, so what lies below both is the same number of paths in the same order.
        let (here, there) = (below(&changes, at), below(&changes, old));
        for step in 0..here.min(there) {
            settled.extend([at + step, old + step]);
            if step == 0 || moved == Moved::Each {
                from.insert(at + step, old + step);
            }
        }
        at += here;
    }
    for (at, change) in changes.iter().enumerate().filter(|(at, _)| !settled.contains(at)) {
        if let (None, Some(Node::File { blob, size: 1.., .. })) =
            (&change.old, change.new.as_ref().map(|new| &new.node))
            && let Some(old) =
                gone.files.get_mut(blob).and_then(|queue| take(queue, &changes, change, &settled))
        {
            from.insert(at, old);
        }
    }
    joined(changes, &from, &settled)
}

impl Gone {
    fn among(changes: &[Change]) -> Self {
        let mut gone = Self { directories: HashMap::new(), files: HashMap::new() };
        for (at, change) in changes.iter().enumerate() {
            let (Some(old), None) = (&change.old, &change.new) else { continue };
            match &old.node {
                Node::File { blob, size: 1.., .. } => gone.files.entry(*blob).or_default().push_back(at),
                node => {
                    if let Some(tree) = moved_tree(node) {
                        gone.directories.entry(tree).or_default().push_back(at);
                    }
                }
            }
        }
        gone
    }
}

/// The tree of a directory that can be recognised: one that holds some bytes.
fn moved_tree(node: &Node) -> Option<TreeId> {
    match node {
        Node::Directory { tree, below } if below.bytes > 0 => Some(*tree),
        _ => None,
    }
}

/// Takes the gone path that fits best out of a queue.
fn take(
    queue: &mut VecDeque<usize>,
    changes: &[Change],
    new: &Change,
    settled: &HashSet<usize>,
) -> Option<usize> {
    while queue.front().is_some_and(|at| settled.contains(at)) {
        queue.pop_front();
    }
    let name = new.path.names().last();
    let fits = |at: &usize| !settled.contains(at) && changes[*at].path.names().last() == name;
    let place = queue.iter().take(MAX_ALIKE).position(fits).unwrap_or(0);
    queue.remove(place)
}

/// How many changes in a row are at or below the path of one.
fn below(changes: &[Change], at: usize) -> usize {
    let path = &changes[at].path;
    changes[at..].iter().take_while(|change| change.path.starts_with(path)).count()
}

fn joined(changes: Vec<Change>, from: &BTreeMap<usize, usize>, settled: &HashSet<usize>) -> Vec<Difference> {
    let taken: HashSet<usize> = from.values().copied().collect();
    let sources: HashMap<usize, (TreePath, Option<_>)> =
        from.values().map(|at| (*at, (changes[*at].path.clone(), changes[*at].old.clone()))).collect();
    let mut all = Vec::with_capacity(changes.len());
    for (at, mut change) in changes.into_iter().enumerate() {
        let source = from.get(&at).and_then(|old| sources.get(old));
        if let Some((path, old)) = source {
            change.old.clone_from(old);
            all.push(Difference { change, renamed_from: Some(path.clone()) });
        } else if !taken.contains(&at) && !settled.contains(&at) {
            all.push(Difference { change, renamed_from: None });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::draft::{Draft, NewNode};
    use super::super::meta::Meta;
    use super::super::tree::{Entry, SourceError, Tree, TreeSink, TreeSource};
    use super::*;
    use crate::object::{Timestamp, diff};

    #[derive(Default)]
    struct Trees(HashMap<TreeId, Vec<u8>>);

    impl TreeSource for Trees {
        fn tree(&self, id: &TreeId) -> Result<Tree, SourceError> {
            Ok(Tree::decode(&self.0[id]).unwrap())
        }
    }

    impl TreeSink for Trees {
        fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError> {
            self.0.insert(id, bytes);
            Ok(())
        }
    }

    /// A root of files given as path and content.
    fn root(trees: &mut Trees, files: &[(&str, &str)]) -> Entry {
        let meta = || Meta::root_owned(0o755, Timestamp::default());
        let empty = Trees::default();
        let mut draft = Draft::empty(&empty, meta());
        for (path, content) in files {
            let path = TreePath::parse(path.as_bytes()).unwrap();
            draft.make_parents(&path, &meta()).unwrap();
            let blob = BlobId::of(content.as_bytes());
            draft.put(&path, meta(), NewNode::File { blob, size: content.len() as u64, link: None }).unwrap();
        }
        let (id, _) = draft.finish(trees).unwrap();
        Tree::decode_root(&trees.0[&id]).unwrap()
    }

    fn renames(old: &[(&str, &str)], new: &[(&str, &str)], moved: Moved) -> Vec<String> {
        let mut trees = Trees::default();
        let (old, new) = (root(&mut trees, old), root(&mut trees, new));
        let mut changes = Vec::new();
        diff(&trees, &old, &new, &mut |change| {
            changes.push(change);
            Ok(())
        })
        .unwrap();
        let shown = |one: &Difference| match &one.renamed_from {
            Some(from) => format!("{from} => {}", one.change.path),
            None => format!("{} {}", one.change.kind().letter(), one.change.path),
        };
        find_renames(changes, moved).iter().map(shown).collect()
    }

    #[test]
    fn the_same_bytes_at_another_path_are_a_rename() {
        let shown = renames(&[("/a", "x"), ("/b", "y")], &[("/b", "y"), ("/c", "x")], Moved::Whole);
        assert_eq!(shown, ["/a => /c"]);
    }

    #[test]
    fn a_copy_and_a_changed_file_are_no_renames() {
        assert_eq!(renames(&[("/a", "x")], &[("/a", "x"), ("/b", "x")], Moved::Whole), ["A /b"]);
        assert_eq!(renames(&[("/a", "x")], &[("/b", "y")], Moved::Whole), ["D /a", "A /b"]);
    }

    #[test]
    fn empty_files_are_never_taken_for_moved() {
        assert_eq!(renames(&[("/a", "")], &[("/b", "")], Moved::Whole), ["D /a", "A /b"]);
    }

    #[test]
    fn of_several_that_fit_the_one_of_the_same_name_is_taken_and_each_only_once() {
        let old = [("/d/a", "x"), ("/d/b", "x"), ("/k", "k")];
        let new = [("/e/b", "x"), ("/k", "k"), ("/z", "x"), ("/zz", "x")];
        assert_eq!(
            renames(&old, &new, Moved::Whole),
            ["D /d", "A /e", "/d/b => /e/b", "/d/a => /z", "A /zz"]
        );
    }

    #[test]
    fn a_directory_moves_as_a_whole_or_path_by_path() {
        let old = [("/d/a", "x"), ("/d/s/empty", ""), ("/d/s/f", "y")];
        let new = [("/e/a", "x"), ("/e/s/empty", ""), ("/e/s/f", "y")];
        assert_eq!(renames(&old, &new, Moved::Whole), ["/d => /e"]);
        assert_eq!(
            renames(&old, &new, Moved::Each),
            ["/d => /e", "/d/a => /e/a", "/d/s => /e/s", "/d/s/empty => /e/s/empty", "/d/s/f => /e/s/f"]
        );
    }

    #[test]
    fn a_directory_below_one_that_was_deleted_can_move_alone() {
        let old = [("/d/s/f", "y"), ("/d/x", "1")];
        assert_eq!(renames(&old, &[("/t/f", "y")], Moved::Whole), ["D /d", "D /d/x", "/d/s => /t"]);
    }

    proptest::proptest! {
        /// Nothing is lost and nothing is invented: with the renames taken apart again the changes are those that were given.
        #[test]
        fn renames_taken_apart_are_the_changes(
            old in proptest::collection::btree_map("/[ab]/[ab]", "[xy]?", 0..4),
            new in proptest::collection::btree_map("/[abc]/[abc]", "[xy]?", 0..4),
        ) {
            let mut trees = Trees::default();
            let left: Vec<_> = old.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let right: Vec<_> = new.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let (old, new) = (root(&mut trees, &left), root(&mut trees, &right));
            let mut changes = Vec::new();
            diff(&trees, &old, &new, &mut |change| { changes.push(change); Ok(()) }).unwrap();
            let mut apart = Vec::new();
            for one in find_renames(changes.clone(), Moved::Each) {
                match one.renamed_from {
                    Some(from) => {
                        apart.push(Change { path: from, old: one.change.old, new: None });
                        apart.push(Change { path: one.change.path, old: None, new: one.change.new });
                    }
                    None => apart.push(one.change),
                }
            }
            let by_path = |changes: &mut Vec<Change>| changes.sort_by(|a, b| (&a.path, a.new.is_some()).cmp(&(&b.path, b.new.is_some())));
            by_path(&mut apart);
            by_path(&mut changes);
            proptest::prop_assert_eq!(apart, changes);
        }
    }
}
