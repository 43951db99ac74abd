//! Which entries a layer of a tree has.

use std::collections::BTreeSet;

use super::entry::{LayerEntry, LayerNode};
use super::update::PlannedChange;
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

/// Gives what has to change for a directory to show `new`, which may show any of `known` or nothing of them; parents first. Subtrees that
/// are the same in all are not read. What `leaves_out` says of a path and whether it is a directory is left out of `new`.
pub fn plan_update(
    source: &dyn TreeSource,
    known: &[Entry],
    new: &Entry,
    leaves_out: &dyn Fn(&[u8], bool) -> bool,
    emit: &mut dyn FnMut(PlannedChange) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let known: Vec<_> = known.iter().map(Some).collect();
    update(source, &mut Vec::new(), &known, Some(new), leaves_out, emit)
}

/// `known` has as many places as there are known trees, all the way down: where one lacks a path, what is on disk may lack it too.
fn update(
    source: &dyn TreeSource,
    path: &mut Vec<u8>,
    known: &[Option<&Entry>],
    new: Option<&Entry>,
    leaves_out: &dyn Fn(&[u8], bool) -> bool,
    emit: &mut dyn FnMut(PlannedChange) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let mut entries: Vec<LayerEntry> = Vec::with_capacity(known.len());
    for entry in known.iter().flatten().map(|entry| layer_entry(path, entry, false)) {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    let planned = PlannedChange {
        path: path.clone(),
        known: entries,
        new: new.map(|new| layer_entry(path, new, false)),
    };
    emit(planned)?;
    let tree = |entry: &Entry| match &entry.node {
        Node::Directory { tree, .. } => source.tree(tree).map(Some),
        _ => Ok(None),
    };
    let tree = |entry: Option<&Entry>| entry.map_or(Ok(None), &tree);
    let trees = known.iter().map(|known| tree(*known)).collect::<Result<Vec<_>, _>>()?;
    let new = tree(new)?;
    let names: BTreeSet<&Name> = trees
        .iter()
        .flatten()
        .chain(&new)
        .flat_map(|tree| tree.entries().iter().map(|(name, _)| name))
        .collect();
    for name in names {
        let known: Vec<Option<&Entry>> =
            trees.iter().map(|tree| tree.as_ref().and_then(|tree| tree.get(name))).collect();
        let new = new.as_ref().and_then(|tree| tree.get(name));
        below(path, name, |path| {
            let new = new.filter(|new| !leaves_out(path, matches!(new.node, Node::Directory { .. })));
            if !known.is_empty() && known.iter().all(|known| *known == new) {
                return Ok(());
            }
            if known.iter().all(Option::is_none) && new.is_none() {
                return Ok(());
            }
            update(source, path, &known, new, leaves_out, emit)
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
    let mut layer = LayerEntry::of(path.to_vec(), entry);
    if opaque && let LayerNode::Directory { opaque } = &mut layer.node {
        *opaque = true;
    }
    layer
}
