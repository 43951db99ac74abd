//! Which entries a layer of a tree has.

use super::entry::{LayerEntry, LayerNode};
use crate::object::{Entry, Meta, Name, Node, SourceError, Timestamp, Tree, TreeSource};

type Emit<'e> = &'e mut dyn FnMut(LayerEntry) -> Result<(), SourceError>;

/// Gives every entry of a whole file system, parents first.
pub fn plan_whole(source: &dyn TreeSource, root: &Entry, emit: Emit<'_>) -> Result<(), SourceError> {
    whole(source, &mut Vec::new(), root, false, emit)
}

/// Gives the entries that turn the lower layers of `old` into `new`: what differs, whiteouts, and the directories on the way.
pub fn plan_delta(
    source: &dyn TreeSource,
    old: &Entry,
    new: &Entry,
    emit: Emit<'_>,
) -> Result<(), SourceError> {
    delta(source, &mut Vec::new(), old, new, emit)
}

fn whole(
    source: &dyn TreeSource,
    path: &mut Vec<u8>,
    entry: &Entry,
    opaque: bool,
    emit: Emit<'_>,
) -> Result<(), SourceError> {
    emit(layer_entry(path, entry, opaque))?;
    if let Node::Directory { tree, .. } = &entry.node {
        for (name, child) in source.tree(tree)?.entries() {
            below(path, name, |path| whole(source, path, child, false, emit))?;
        }
    }
    Ok(())
}

fn delta(
    source: &dyn TreeSource,
    path: &mut Vec<u8>,
    old: &Entry,
    new: &Entry,
    emit: Emit<'_>,
) -> Result<(), SourceError> {
    let (Node::Directory { tree: old_tree, .. }, Node::Directory { tree: new_tree, .. }) =
        (&old.node, &new.node)
    else {
        return whole(source, path, new, false, emit);
    };
    emit(layer_entry(path, new, false))?;
    if old_tree == new_tree {
        return Ok(());
    }
    let (old, new): (Tree, Tree) = (source.tree(old_tree)?, source.tree(new_tree)?);
    for (name, entry) in new.entries() {
        below(path, name, |path| match old.get(name) {
            Some(before) if before == entry => Ok(()),
            Some(before) => delta(source, path, before, entry, emit),
            None => whole(source, path, entry, false, emit),
        })?;
    }
    for (name, _) in old.entries().iter().filter(|(name, _)| new.get(name).is_none()) {
        below(path, name, |path| {
            let meta = Meta::root_owned(0, Timestamp::default());
            emit(LayerEntry { path: path.clone(), meta, node: LayerNode::Whiteout })
        })?;
    }
    Ok(())
}

fn below<T>(path: &mut Vec<u8>, name: &Name, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let len = path.len();
    if len > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    let done = act(path);
    path.truncate(len);
    done
}

fn layer_entry(path: &[u8], entry: &Entry, opaque: bool) -> LayerEntry {
    let node = match &entry.node {
        Node::Directory { .. } => LayerNode::Directory { opaque },
        Node::File { blob, size, link } => LayerNode::File { blob: *blob, size: *size, link: *link },
        Node::Symlink { target } => LayerNode::Symlink { target: target.clone() },
        Node::Fifo => LayerNode::Fifo,
        Node::Socket => LayerNode::Socket,
        Node::Char { .. } | Node::Block { .. } => LayerNode::Device,
    };
    LayerEntry { path: path.to_vec(), meta: entry.meta.clone(), node }
}
