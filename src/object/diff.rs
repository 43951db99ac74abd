//! What differs between two trees.

use super::name::Name;
use super::path::TreePath;
use super::tree::{Entry, Node, SourceError, Tree, TreeSource};

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// Only the newer tree has it.
    Added,
    /// Both have it, with other content or attributes.
    Modified,
    /// Only the older tree has it.
    Deleted,
}

impl ChangeKind {
    /// The letter Git uses: A, M or D.
    pub const fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Modified => 'M',
            Self::Deleted => 'D',
        }
    }
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// The entry in the older tree.
    pub old: Option<Entry>,
    /// The entry in the newer tree.
    pub new: Option<Entry>,
}

impl Change {
    /// How the path differs.
    pub fn kind(&self) -> ChangeKind {
        match (&self.old, &self.new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Modified,
        }
    }

    /// Whether the path is a directory on both sides whose own attributes, modification time aside, agree.
    pub fn is_directory_time_only(&self) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => same_directory_attributes(old, new),
            _ => false,
        }
    }
}

fn same_directory_attributes(old: &Entry, new: &Entry) -> bool {
    let both = matches!((&old.node, &new.node), (Node::Directory { .. }, Node::Directory { .. }));
    both && old.meta.same_but_time(&new.meta)
}

/// Calls `visit` for every path that differs between two roots, parents before children, names in order.
///
/// Equal subtrees are passed by their id, so the cost follows the difference, not the trees. A directory that was added or
/// deleted is reported with everything below it. A directory of which only what lies below differs is not reported itself; one whose
/// modification time differs is, see [`Change::is_directory_time_only`].
pub fn diff(
    source: &dyn TreeSource,
    old: &Entry,
    new: &Entry,
    visit: &mut dyn FnMut(Change) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let mut path = TreePath::root();
    pair(source, &mut path, Some(old), Some(new), visit)
}

fn pair(
    source: &dyn TreeSource,
    path: &mut TreePath,
    old: Option<&Entry>,
    new: Option<&Entry>,
    visit: &mut dyn FnMut(Change) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    if old == new {
        return Ok(());
    }
    let differs = match (old, new) {
        (Some(old), Some(new)) if same_directory_attributes(old, new) => old.meta.mtime != new.meta.mtime,
        _ => true,
    };
    if differs {
        visit(Change { path: path.clone(), old: old.cloned(), new: new.cloned() })?;
    }
    if let (Some(Node::Directory { tree: left, .. }), Some(Node::Directory { tree: right, .. })) =
        (old.map(|entry| &entry.node), new.map(|entry| &entry.node))
        && left == right
    {
        return Ok(());
    }
    let (old, new) = (children(source, old)?, children(source, new)?);
    let (mut old, mut new) = (old.entries().iter().peekable(), new.entries().iter().peekable());
    loop {
        let step = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => left.0.cmp(&right.0),
        };
        let left = if step.is_le() { old.next() } else { None };
        let right = if step.is_ge() { new.next() } else { None };
        let name: &Name = left.or(right).map(|(name, _)| name).expect("one side has an entry");
        path.push(name.clone());
        pair(source, path, left.map(|(_, entry)| entry), right.map(|(_, entry)| entry), visit)?;
        path.pop();
    }
}

fn children(source: &dyn TreeSource, entry: Option<&Entry>) -> Result<Tree, SourceError> {
    match entry.map(|entry| &entry.node) {
        Some(Node::Directory { tree, .. }) => source.tree(tree),
        _ => Ok(Tree::default()),
    }
}
