//! A tree being edited in memory.
//!
//! A draft starts empty or from a stored root and reads only the directories that an edit passes through, so
//! an edit costs what it touches. [`Draft::finish`] writes the directories that changed and gives the new root.
//!
//! # Invariants
//! - Hard links are canonical when a draft is finished: a file is in a group exactly when another path is the
//!   same file, and the group's name is the hash of its sorted member paths. So two histories that reach the
//!   same file system reach the same tree.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::id::{BlobId, LinkGroup, TreeId};
use super::meta::Meta;
use super::name::Name;
use super::path::TreePath;
use super::tree::{
    Entry, Kind, MAX_DEPTH, MAX_SYMLINK_TARGET_BYTES, Node, SourceError, Summary, Tree, TreeError, TreeSink,
    TreeSource,
};

/// Why an edit or the writing of a draft failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The parent of a path is missing or no directory.
    #[error("{0}: its parent is not a directory")]
    NoParent(TreePath),
    /// The root itself cannot be replaced or removed.
    #[error("the root directory cannot be replaced or removed")]
    Root,
    /// A hard link needs a regular file, device, FIFO, socket or symlink to link to.
    #[error("hard link {link}: there is no file at {target}")]
    LinkTarget {
        /// The new path.
        link: TreePath,
        /// The path it should be the same file as.
        target: TreePath,
    },
    /// A symlink target that no file system could hold.
    #[error("{path}: a symlink target of {len} bytes, or one with a NUL byte")]
    SymlinkTarget {
        /// The link.
        path: TreePath,
        /// Its target's length.
        len: usize,
    },
    /// A path is deeper than [`MAX_DEPTH`].
    #[error("{0}: deeper than {MAX_DEPTH} directories")]
    TooDeep(TreePath),
    /// The result is no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A stored tree could not be read or written.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Says that several paths placed in one draft are the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkKey {
    /// A group that the stored tree already had.
    Stored(LinkGroup),
    /// A group made in this draft.
    Fresh(u64),
}

/// Something to place at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewNode {
    /// A regular file.
    File {
        /// Its bytes.
        blob: BlobId,
        /// How many bytes.
        size: u64,
        /// The same key for every path that is this file; see [`Draft::new_link`].
        link: Option<LinkKey>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl NewNode {
    /// What places a stored node as it is; `None` for a directory.
    pub fn of(node: Node) -> Option<Self> {
        Some(match node {
            Node::Directory { .. } => return None,
            Node::File { blob, size, link } => Self::File { blob, size, link: link.map(LinkKey::Stored) },
            Node::Symlink { target } => Self::Symlink { target },
            Node::Fifo => Self::Fifo,
            Node::Socket => Self::Socket,
            Node::Char { major, minor } => Self::Char { major, minor },
            Node::Block { major, minor } => Self::Block { major, minor },
        })
    }
}

struct Directory {
    meta: Meta,
    /// The tree as stored; `None` once an edit changed anything in or below it.
    stored: Option<(TreeId, Summary)>,
    /// The children, once read.
    children: Option<BTreeMap<Name, Child>>,
}

enum Child {
    Directory(Box<Directory>),
    Leaf(Box<(Meta, NewNode)>),
}

/// A tree being edited in memory.
pub struct Draft<'s> {
    source: &'s dyn TreeSource,
    root: Directory,
    base: Option<TreeId>,
    /// Groups of which a member was added, replaced or removed.
    touched: HashSet<LinkGroup>,
    fresh: u64,
}

impl Directory {
    fn empty(meta: Meta) -> Self {
        Self { meta, stored: None, children: Some(BTreeMap::new()) }
    }

    fn children(&mut self, source: &dyn TreeSource) -> Result<&mut BTreeMap<Name, Child>, SourceError> {
        if self.children.is_none() {
            let (tree, _) = self.stored.as_ref().expect("a directory is stored or loaded");
            let entries = source.tree(tree)?.into_entries();
            self.children = Some(entries.into_iter().map(|(name, entry)| (name, child_of(entry))).collect());
        }
        Ok(self.children.as_mut().expect("filled just above"))
    }

    fn may_hold_links(&self) -> bool {
        self.stored.is_none_or(|(_, below)| below.links > 0)
    }
}

fn child_of(entry: Entry) -> Child {
    let Entry { meta, node } = entry;
    match node {
        Node::Directory { tree, below } => {
            Child::Directory(Box::new(Directory { meta, stored: Some((tree, below)), children: None }))
        }
        node => {
            let leaf = NewNode::of(node).expect("only a directory is no leaf");
            Child::Leaf(Box::new((meta, leaf)))
        }
    }
}

impl<'s> Draft<'s> {
    /// An empty file system whose root directory has these attributes.
    pub fn empty(source: &'s dyn TreeSource, root: Meta) -> Self {
        Self { source, root: Directory::empty(root), base: None, touched: HashSet::new(), fresh: 0 }
    }

    /// A draft that starts as a stored file system: its root id and root entry.
    ///
    /// # Panics
    /// When `root` is not a directory's entry, which [`Tree::decode_root`] never gives.
    pub fn from_root(source: &'s dyn TreeSource, id: TreeId, root: Entry) -> Self {
        let Node::Directory { tree, below } = root.node else { panic!("a root entry is a directory") };
        let root = Directory { meta: root.meta, stored: Some((tree, below)), children: None };
        Self { source, root, base: Some(id), touched: HashSet::new(), fresh: 0 }
    }

    /// Whether there is nothing below the root.
    pub fn is_empty(&self) -> bool {
        match &self.root.children {
            Some(children) => children.is_empty(),
            None => self.root.stored.is_none_or(|(_, below)| below.entries == 0),
        }
    }

    /// A key for a new group of hard links.
    pub fn new_link(&mut self) -> LinkKey {
        self.fresh += 1;
        LinkKey::Fresh(self.fresh)
    }

    /// Attributes and kind of what is at a path; symlinks are not followed.
    pub fn get(&mut self, path: &TreePath) -> Result<Option<(&Meta, Kind)>, SourceError> {
        let Some((parent, name)) = path.split_last() else {
            return Ok(Some((&self.root.meta, Kind::Directory)));
        };
        let source = self.source;
        let Some(directory) = self.directory(&parent, false)? else { return Ok(None) };
        Ok(directory.children(source)?.get(name).map(|child| match child {
            Child::Directory(directory) => (&directory.meta, Kind::Directory),
            Child::Leaf(leaf) => (&leaf.0, leaf.1.kind()),
        }))
    }

    /// What is at a path, when it is not a directory; symlinks are not followed.
    pub fn leaf(&mut self, path: &TreePath) -> Result<Option<(&Meta, &NewNode)>, SourceError> {
        let Some((parent, name)) = path.split_last() else { return Ok(None) };
        let source = self.source;
        let Some(directory) = self.directory(&parent, false)? else { return Ok(None) };
        Ok(match directory.children(source)?.get(name) {
            Some(Child::Leaf(leaf)) => Some((&leaf.0, &leaf.1)),
            _ => None,
        })
    }

    /// The names in a directory, sorted; `None` when the path is no directory.
    pub fn names(&mut self, path: &TreePath) -> Result<Option<Vec<Name>>, SourceError> {
        let source = self.source;
        let Some(directory) = self.directory(path, false)? else { return Ok(None) };
        Ok(Some(directory.children(source)?.keys().cloned().collect()))
    }

    /// Places something that is not a directory; whatever was there is replaced, a directory with all below it.
    pub fn put(&mut self, path: &TreePath, meta: Meta, node: NewNode) -> Result<(), DraftError> {
        if let NewNode::Symlink { target } = &node
            && (target.is_empty() || target.len() > MAX_SYMLINK_TARGET_BYTES || target.contains(&0))
        {
            return Err(DraftError::SymlinkTarget { path: path.clone(), len: target.len() });
        }
        if let NewNode::File { link: Some(LinkKey::Stored(group)), .. } = &node {
            self.touched.insert(*group);
        }
        let child = Child::Leaf(Box::new((meta, node)));
        self.replace(path, child)
    }

    /// Places a directory: an existing directory keeps its entries and takes the attributes, anything else is replaced.
    pub fn put_directory(&mut self, path: &TreePath, meta: Meta) -> Result<(), DraftError> {
        if let Some((_, Kind::Directory)) = self.get(path)? {
            return self.set_meta(path, meta);
        }
        self.replace(path, Child::Directory(Box::new(Directory::empty(meta))))
    }

    /// Places an entry of a stored tree, a directory with everything in it; whatever was there is replaced.
    ///
    /// What is below a directory is not read, so it should hold no hard links: their groups would keep the names that they have.
    pub fn put_entry(&mut self, path: &TreePath, entry: Entry) -> Result<(), DraftError> {
        match child_of(entry) {
            Child::Leaf(leaf) => self.put(path, leaf.0, leaf.1),
            directory => self.replace(path, directory),
        }
    }

    /// Makes every missing directory on the way to `path`, which is not made itself, with these attributes.
    ///
    /// What is on the way and not a directory is replaced.
    pub fn make_parents(&mut self, path: &TreePath, meta: &Meta) -> Result<(), DraftError> {
        let Some((parent, _)) = path.split_last() else { return Ok(()) };
        if matches!(self.get(&parent)?, Some((_, Kind::Directory))) {
            return Ok(());
        }
        self.make_parents(&parent, meta)?;
        self.put_directory(&parent, meta.clone())
    }

    /// Sets the attributes of what is at a path; of a hard-linked file only of this path.
    pub fn set_meta(&mut self, path: &TreePath, meta: Meta) -> Result<(), DraftError> {
        let Some((parent, name)) = path.split_last() else {
            self.root.meta = meta;
            return Ok(());
        };
        let source = self.source;
        let directory = self.directory(&parent, true)?.ok_or_else(|| DraftError::NoParent(path.clone()))?;
        match directory.children(source)?.get_mut(name) {
            Some(Child::Directory(directory)) => directory.meta = meta,
            Some(Child::Leaf(leaf)) => leaf.0 = meta,
            None => return Err(DraftError::NoParent(path.clone())),
        }
        Ok(())
    }

    /// Makes `link` the same file as `target`; whatever was at `link` is replaced.
    pub fn hard_link(&mut self, link: &TreePath, target: &TreePath) -> Result<(), DraftError> {
        let missing = || DraftError::LinkTarget { link: link.clone(), target: target.clone() };
        if link == target {
            return self.leaf(target)?.map(|_| ()).ok_or_else(missing);
        }
        let (meta, node) =
            self.leaf(target)?.map(|(meta, node)| (meta.clone(), node.clone())).ok_or_else(missing)?;
        let node = match node {
            NewNode::File { blob, size, link: None } => {
                let key = self.new_link();
                let joined = NewNode::File { blob, size, link: Some(key) };
                self.put(target, meta.clone(), joined.clone())?;
                joined
            }
            // Only regular files can be told apart by their links; other kinds are equal copies.
            other => other,
        };
        self.put(link, meta, node)
    }

    /// Removes a path with everything below it; whether it was there.
    pub fn remove(&mut self, path: &TreePath) -> Result<bool, DraftError> {
        if self.get(path)?.is_none() {
            return Ok(false);
        }
        let (parent, name) = path.split_last().ok_or(DraftError::Root)?;
        let source = self.source;
        let directory = self.directory(&parent, true)?.ok_or(DraftError::Root)?;
        let gone = directory.children(source)?.remove(name);
        self.forget(gone)?;
        Ok(true)
    }

    /// Removes everything in a directory, which stays.
    pub fn clear(&mut self, path: &TreePath) -> Result<(), DraftError> {
        for name in self.names(path)?.unwrap_or_default() {
            self.remove(&path.join(&name))?;
        }
        Ok(())
    }

    /// Writes what changed and gives the new root's id and entry.
    pub fn finish(mut self, sink: &mut dyn TreeSink) -> Result<(TreeId, Entry), DraftError> {
        self.snapshot(sink)
    }

    /// Writes what changed since the last time and gives the root's id and entry as of now; the draft can be edited on.
    pub fn snapshot(&mut self, sink: &mut dyn TreeSink) -> Result<(TreeId, Entry), DraftError> {
        self.settle_links()?;
        let untouched = self.root.stored.is_some();
        let (tree, below) = write(&mut self.root, sink)?;
        let entry = Entry { meta: self.root.meta.clone(), node: Node::Directory { tree, below } };
        let (id, bytes) = Tree::encode_root(&entry);
        if !(untouched && self.base == Some(id)) {
            sink.put_tree(id, bytes)?;
        }
        Ok((id, entry))
    }

    fn replace(&mut self, path: &TreePath, child: Child) -> Result<(), DraftError> {
        if path.names().len() > MAX_DEPTH {
            return Err(DraftError::TooDeep(path.clone()));
        }
        let (parent, name) = path.split_last().ok_or(DraftError::Root)?;
        let source = self.source;
        let directory = self.directory(&parent, true)?.ok_or_else(|| DraftError::NoParent(path.clone()))?;
        let gone = directory.children(source)?.insert(name.clone(), child);
        Ok(self.forget(gone)?)
    }

    /// The directory at a path, loaded; with `edit` it and all above it no longer count as stored.
    fn directory(&mut self, path: &TreePath, edit: bool) -> Result<Option<&mut Directory>, SourceError> {
        let source = self.source;
        // Looked up before anything is marked, so that a failed edit leaves the draft as it was.
        if edit && self.directory(path, false)?.is_none() {
            return Ok(None);
        }
        let mut here = &mut self.root;
        for name in path.names() {
            here.children(source)?;
            if edit {
                here.stored = None;
            }
            match here.children.as_mut().expect("loaded just above").get_mut(name) {
                Some(Child::Directory(next)) => here = next,
                _ => return Ok(None),
            }
        }
        here.children(source)?;
        if edit {
            here.stored = None;
        }
        Ok(Some(here))
    }

    /// Notes the hard-link groups that lost a member.
    fn forget(&mut self, gone: Option<Child>) -> Result<(), SourceError> {
        match gone {
            None => Ok(()),
            Some(Child::Leaf(leaf)) => {
                if let NewNode::File { link: Some(LinkKey::Stored(group)), .. } = leaf.1 {
                    self.touched.insert(group);
                }
                Ok(())
            }
            Some(Child::Directory(mut directory)) => {
                if !directory.may_hold_links() {
                    return Ok(());
                }
                let children = std::mem::take(directory.children(self.source)?);
                children.into_values().try_for_each(|child| self.forget(Some(child)))
            }
        }
    }

    /// Gives every group that this draft touched its canonical name, and takes it off a file that stands alone.
    fn settle_links(&mut self) -> Result<(), DraftError> {
        if self.fresh == 0 && self.touched.is_empty() {
            return Ok(());
        }
        let mut members: HashMap<LinkKey, Vec<TreePath>> = HashMap::new();
        let touched = std::mem::take(&mut self.touched);
        collect_links(self.source, &mut self.root, &mut TreePath::root(), &touched, &mut members)?;
        for (key, mut paths) in members {
            paths.sort();
            let group = if paths.len() > 1 { Some(group_of(&paths)) } else { None };
            if group.map(LinkKey::Stored) == Some(key) {
                continue;
            }
            for path in paths {
                let (parent, name) = path.split_last().expect("the root is not a file");
                let source = self.source;
                let directory = self.directory(&parent, true)?.expect("the walk came through it");
                if let Some(Child::Leaf(leaf)) = directory.children(source)?.get_mut(name)
                    && let NewNode::File { link, .. } = &mut leaf.1
                {
                    *link = group.map(LinkKey::Stored);
                }
            }
        }
        Ok(())
    }
}

impl NewNode {
    /// The kind of this node.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::File { .. } => Kind::File,
            Self::Symlink { .. } => Kind::Symlink,
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::Char { .. } => Kind::Char,
            Self::Block { .. } => Kind::Block,
        }
    }
}

/// The name of a hard-link group: over each sorted member path, its length as 32 bits, then its bytes.
pub(crate) fn group_of(paths: &[TreePath]) -> LinkGroup {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let bytes = path.to_bytes();
        let len = u32::try_from(bytes.len()).expect("depth and name limits keep a path below 4 GiB");
        hasher.update(&len.to_le_bytes());
        hasher.update(&bytes);
    }
    let hash = hasher.finalize();
    LinkGroup::from_bytes(hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes"))
}

fn collect_links(
    source: &dyn TreeSource,
    directory: &mut Directory,
    path: &mut TreePath,
    touched: &HashSet<LinkGroup>,
    members: &mut HashMap<LinkKey, Vec<TreePath>>,
) -> Result<(), SourceError> {
    if !directory.may_hold_links() || (directory.stored.is_some() && touched.is_empty()) {
        return Ok(());
    }
    for (name, child) in directory.children(source)? {
        path.push(name.clone());
        match child {
            Child::Directory(below) => collect_links(source, below, path, touched, members)?,
            Child::Leaf(leaf) => {
                if let NewNode::File { link: Some(key), .. } = &leaf.1 {
                    let settled = matches!(key, LinkKey::Stored(group) if !touched.contains(group));
                    if !settled {
                        members.entry(*key).or_default().push(path.clone());
                    }
                }
            }
        }
        path.pop();
    }
    Ok(())
}

fn write(directory: &mut Directory, sink: &mut dyn TreeSink) -> Result<(TreeId, Summary), DraftError> {
    write_below(directory, sink).map_err(|error| *error)?;
    write_one(directory, sink)
}

/// Writes what is below a directory. Nothing else is in this function: it calls itself for each of up to [`MAX_DEPTH`] levels, and a thread's
/// stack must be enough for that in a program that nobody has optimised.
fn write_below(directory: &mut Directory, sink: &mut dyn TreeSink) -> Result<(), Box<DraftError>> {
    if directory.stored.is_some() {
        return Ok(());
    }
    for child in directory.children.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Child::Directory(below) = child {
            write_below(below, sink)?;
            write_one(below, sink).map_err(Box::new)?;
        }
    }
    Ok(())
}

/// Writes a directory; those below it are.
#[inline(never)]
fn write_one(directory: &mut Directory, sink: &mut dyn TreeSink) -> Result<(TreeId, Summary), DraftError> {
    if let Some(stored) = directory.stored {
        return Ok(stored);
    }
    let children = directory.children.as_ref().expect("what is not stored is loaded");
    let mut entries = Vec::with_capacity(children.len());
    for (name, child) in children {
        let entry = match child {
            Child::Directory(below) => {
                let (tree, summary) = below.stored.expect("what is below is written first");
                Entry { meta: below.meta.clone(), node: Node::Directory { tree, below: summary } }
            }
            Child::Leaf(leaf) => Entry { meta: leaf.0.clone(), node: stored_node(leaf.1.clone()) },
        };
        entries.push((name.clone(), entry));
    }
    let tree = Tree::from_sorted(entries);
    let summary = tree.summary()?;
    let (id, bytes) = tree.encode()?;
    sink.put_tree(id, bytes)?;
    directory.stored = Some((id, summary));
    Ok((id, summary))
}

fn stored_node(node: NewNode) -> Node {
    match node {
        NewNode::File { blob, size, link } => {
            let link = link.map(|key| match key {
                LinkKey::Stored(group) => group,
                LinkKey::Fresh(_) => unreachable!("settle_links names or drops every fresh group"),
            });
            Node::File { blob, size, link }
        }
        NewNode::Symlink { target } => Node::Symlink { target },
        NewNode::Fifo => Node::Fifo,
        NewNode::Socket => Node::Socket,
        NewNode::Char { major, minor } => Node::Char { major, minor },
        NewNode::Block { major, minor } => Node::Block { major, minor },
    }
}
