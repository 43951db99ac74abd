//! Merging which paths are one file.
//!
//! Three partitions of paths into files are merged pair by pair: two paths are one file in the result when both sides have it so, or when
//! one side made it so since the base. What follows from that for further paths follows: one file is one file.
//!
//! # Invariants
//! - A path is looked at when the two sides know it under different groups. A group's name tells all its paths, so then every path of
//!   both groups that is left is looked at too, and no other path can become part of these files.

use std::collections::{BTreeMap, HashMap};

use super::{Conflict, ConflictKind, Merging, Settled, Side, Three, link_of};
use crate::object::{BlobId, DraftError, Entry, LinkGroup, LinkKey, Meta, NewNode, Node, TreePath};

/// What a regular file is: attributes, content, size.
type Value = (Meta, BlobId, u64);

/// A regular file of the result that has further names on one of the sides.
pub(super) struct Linked {
    path: TreePath,
    sides: [Option<Entry>; 3],
    value: Value,
}

impl Linked {
    pub(super) fn new(path: TreePath, sides: Three<'_>, value: Value) -> Self {
        Self { path, sides: sides.map(|side| side.cloned()), value }
    }

    fn group(&self, side: usize) -> Option<LinkGroup> {
        link_of(self.sides[side].as_ref())
    }

    fn side_value(&self, side: usize) -> Option<Value> {
        let entry = self.sides[side].as_ref()?;
        match entry.node {
            Node::File { blob, size, .. } => Some((entry.meta.clone(), blob, size)),
            _ => None,
        }
    }
}

impl Merging<'_, '_> {
    /// Makes the files of the result out of the paths that were noted.
    pub(super) fn settle_links(&mut self) -> Result<(), DraftError> {
        let mut noted = std::mem::take(&mut self.linked);
        // A path that was merged may have gone with a directory afterwards.
        let mut linked = Vec::with_capacity(noted.len());
        for file in noted.drain(..) {
            if matches!(self.draft.leaf(&file.path)?, Some((_, NewNode::File { .. }))) {
                linked.push(file);
            }
        }
        linked.sort_by(|a, b| a.path.cmp(&b.path));
        for class in classes(&linked) {
            let files: Vec<&Linked> = class.iter().map(|at| &linked[*at]).collect();
            let Some(value) = self.one_value(&files)? else { continue };
            let first = files[0].group(1);
            let ours = files.iter().all(|file| file.group(1) == first)
                && linked.iter().filter(|file| file.group(1) == first).count() == files.len();
            let key = match first {
                _ if files.len() == 1 && files[0].group(1) != files[0].group(2) => None,
                Some(group) if ours => Some(LinkKey::Stored(group)),
                _ => Some(self.draft.new_link()),
            };
            for file in files {
                let (meta, blob, size) = value.clone();
                let node = NewNode::File { blob, size, link: key };
                if self.draft.leaf(&file.path)? != Some((&meta, &node)) {
                    self.draft.put(&file.path, meta, node)?;
                }
            }
        }
        Ok(())
    }

    /// The one value that all paths of a file are to have; a conflict when there are several new ones.
    fn one_value(&mut self, files: &[&Linked]) -> Result<Option<Value>, DraftError> {
        let mut values: Vec<&Value> = files.iter().map(|file| &file.value).collect();
        values.dedup();
        if let [only] = values.as_slice() {
            return Ok(Some((*only).clone()));
        }
        // A path that one side added still has the old value, where the other side changed the file.
        let old: Vec<Value> = files.iter().filter_map(|file| file.side_value(0)).collect();
        let mut new: Vec<&Value> = values.iter().copied().filter(|value| !old.contains(value)).collect();
        if new.is_empty() {
            new = values;
        }
        // Times never conflict: the latest counts.
        new.sort_by_key(|(meta, _, _)| std::cmp::Reverse(meta.mtime));
        let first = new[0];
        let same = |value: &&Value| {
            value.1 == first.1 && Meta { mtime: first.0.mtime, ..value.0.clone() } == first.0
        };
        if new.iter().all(same) {
            return Ok(Some(first.clone()));
        }
        let shown = files.iter().find(|file| file.value != *first).unwrap_or(&files[0]);
        let [base, ours, theirs] = shown.sides.clone();
        let conflict =
            Conflict { path: shown.path.clone(), kind: ConflictKind::HardLinks, base, ours, theirs };
        match (self.settle)(&conflict) {
            Some(Settled::By(side)) => {
                let side = if side == Side::Ours { 1 } else { 2 };
                let value = files.iter().find_map(|file| file.side_value(side));
                Ok(Some(value.unwrap_or_else(|| first.clone())))
            }
            Some(Settled::Neither) => Ok(Some(first.clone())),
            None => {
                self.conflicts.push(conflict);
                Ok(None)
            }
        }
    }
}

/// The paths of each file of the result, by their place in the list.
fn classes(linked: &[Linked]) -> Vec<Vec<usize>> {
    let mut parents: Vec<usize> = (0..linked.len()).collect();
    fn root(parents: &mut [usize], mut at: usize) -> usize {
        while parents[at] != at {
            parents[at] = parents[parents[at]];
            at = parents[at];
        }
        at
    }
    let mut join = |members: &[usize]| {
        for pair in members.windows(2) {
            let (a, b) = (root(&mut parents, pair[0]), root(&mut parents, pair[1]));
            parents[a.max(b)] = a.min(b);
        }
    };
    let mut both: HashMap<(LinkGroup, LinkGroup), Vec<usize>> = HashMap::new();
    let mut by_side: [HashMap<LinkGroup, Vec<usize>>; 2] = Default::default();
    for (at, file) in linked.iter().enumerate() {
        let (ours, theirs) = (file.group(1), file.group(2));
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            both.entry((ours, theirs)).or_default().push(at);
        }
        for (groups, group) in by_side.iter_mut().zip([ours, theirs]) {
            if let Some(group) = group {
                groups.entry(group).or_default().push(at);
            }
        }
    }
    both.values().for_each(|members| join(members));
    for members in by_side.iter().flat_map(HashMap::values) {
        // Where all were one file before, the side did not link them. Otherwise it linked some of each two.
        let before = linked[members[0]].group(0);
        if before.is_none() || members.iter().any(|at| linked[*at].group(0) != before) {
            join(members);
        }
    }
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for at in 0..linked.len() {
        classes.entry(root(&mut parents, at)).or_default().push(at);
    }
    classes.into_values().collect()
}
