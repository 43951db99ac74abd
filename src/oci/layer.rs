//! One layer's changes, applied to the tree so far.
//!
//! # Invariants
//! - Whiteouts and opaque markers hide what lower layers have and nothing of their own layer, wherever in the archive they stand:
//!   they are collected and applied first. The lowest layer has nothing below it, so its entries are applied as they come.
//! - A hard link is resolved in the tree, in the archive's order, never on a disk.

use std::collections::HashMap;

use super::error::LayerError;
use crate::object::{Draft, Meta, Name, NewNode, Timestamp, TreePath};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that aufs kept for itself; old layers hold them.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const AUFS_LINKS: &[u8] = b".wh..wh.plnk";

/// What an entry does to the tree.
#[derive(Debug)]
pub(super) enum Change {
    Directory(Meta),
    Leaf(Meta, NewNode),
    HardLink(Vec<u8>),
}

/// Where an entry goes and what it means there.
#[derive(Debug)]
pub(super) struct Place {
    path: TreePath,
    role: Role,
}

impl Place {
    /// Somewhere that means nothing but itself.
    pub(super) const fn plain(path: TreePath) -> Self {
        Self { path, role: Role::Plain }
    }

    pub(super) fn into_path(self) -> TreePath {
        self.path
    }

    /// Whether a file's bytes are wanted: those of a whiteout mean nothing.
    pub(super) const fn wants_bytes(&self) -> bool {
        matches!(self.role, Role::Plain | Role::AufsLink)
    }
}

#[derive(Debug)]
enum Role {
    Plain,
    Whiteout(TreePath),
    Opaque(TreePath),
    /// A file that aufs kept only as the target of hard links.
    AufsLink,
    /// Other bookkeeping of aufs, which is no part of the file system.
    Aufs,
}

/// Takes in the entries of one archive.
pub(super) trait Changes {
    /// Finds out where an entry goes and what it means there.
    fn place(&self, written: &[u8]) -> Result<Place, LayerError>;
    /// Takes in the next entry.
    fn add(&mut self, place: Place, change: Change) -> Result<(), LayerError>;
    /// Applies what waited.
    fn finish(self) -> Result<(), LayerError>;
}

/// Applies the entries of one layer.
pub(super) struct LayerChanges<'d, 's> {
    draft: &'d mut Draft<'s>,
    /// Whether whiteout names have their meaning; in a plain root archive they are names like others.
    whiteouts: bool,
    /// Changes that wait for the whiteouts; `None` while there is nothing below that these could hide.
    waiting: Option<Vec<(TreePath, Change)>>,
    hidden: Vec<TreePath>,
    opaque: Vec<TreePath>,
    aufs_links: HashMap<TreePath, (Meta, NewNode)>,
}

impl<'d, 's> LayerChanges<'d, 's> {
    pub(super) fn new(draft: &'d mut Draft<'s>, lowest: bool, whiteouts: bool) -> Self {
        Self {
            draft,
            whiteouts,
            waiting: (!lowest).then(Vec::new),
            hidden: Vec::new(),
            opaque: Vec::new(),
            aufs_links: HashMap::new(),
        }
    }

    fn role(&self, path: &TreePath, written: &[u8]) -> Result<Role, LayerError> {
        let Some((parent, last)) = path.split_last() else { return Ok(Role::Plain) };
        if !self.whiteouts {
            return Ok(Role::Plain);
        }
        let marked = |name: &Name| name.as_bytes().starts_with(PREFIX);
        if let Some(first) = parent.names().iter().find(|name| marked(name)) {
            return match first.as_bytes() {
                AUFS_LINKS => Ok(Role::AufsLink),
                name if name.starts_with(AUFS_PREFIX) => Ok(Role::Aufs),
                _ => Err(LayerError::Whiteout(written.to_vec())),
            };
        }
        match last.as_bytes() {
            OPAQUE => Ok(Role::Opaque(parent)),
            name if name.starts_with(AUFS_PREFIX) => Ok(Role::Aufs),
            name => match name.strip_prefix(PREFIX) {
                None => Ok(Role::Plain),
                Some(hidden) => match Name::new(hidden) {
                    Ok(hidden) => Ok(Role::Whiteout(parent.join(&hidden))),
                    Err(_) => Err(LayerError::Whiteout(written.to_vec())),
                },
            },
        }
    }
}

impl Changes for LayerChanges<'_, '_> {
    fn place(&self, written: &[u8]) -> Result<Place, LayerError> {
        let path = TreePath::parse(written)?;
        let role = self.role(&path, written)?;
        Ok(Place { path, role })
    }

    fn add(&mut self, place: Place, change: Change) -> Result<(), LayerError> {
        let Place { path, role } = place;
        match role {
            Role::Whiteout(hidden) => self.hidden.push(hidden),
            Role::Opaque(directory) => self.opaque.push(directory),
            Role::Aufs => {}
            Role::AufsLink => {
                if let Change::Leaf(meta, mut node) = change {
                    if let NewNode::File { link, .. } = &mut node {
                        *link = Some(self.draft.new_link());
                    }
                    self.aufs_links.insert(path, (meta, node));
                }
            }
            Role::Plain => {
                if path.is_root() && !matches!(change, Change::Directory(_)) {
                    return Err(LayerError::Root);
                }
                match &mut self.waiting {
                    Some(waiting) => waiting.push((path, change)),
                    None => apply(self.draft, &self.aufs_links, &path, change)?,
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), LayerError> {
        let Some(waiting) = self.waiting else { return Ok(()) };
        for directory in &self.opaque {
            self.draft.clear(directory)?;
        }
        for path in &self.hidden {
            self.draft.remove(path)?;
        }
        for (path, change) in waiting {
            apply(self.draft, &self.aufs_links, &path, change)?;
        }
        Ok(())
    }
}

fn apply(
    draft: &mut Draft<'_>,
    aufs_links: &HashMap<TreePath, (Meta, NewNode)>,
    path: &TreePath,
    change: Change,
) -> Result<(), LayerError> {
    // A directory that no layer describes is root's, as umoci and containerd make it; its time is fixed so that ids are.
    const IMPLIED: Meta = Meta::root_owned(0o755, Timestamp::from_seconds(0));
    draft.make_parents(path, &IMPLIED)?;
    match change {
        Change::Directory(meta) => draft.put_directory(path, meta)?,
        Change::Leaf(meta, node) => draft.put(path, meta, node)?,
        Change::HardLink(target) => {
            let target = TreePath::parse(&target)?;
            match aufs_links.get(&target) {
                Some((meta, node)) => draft.put(path, meta.clone(), node.clone())?,
                None => draft.hard_link(path, &target)?,
            }
        }
    }
    Ok(())
}
