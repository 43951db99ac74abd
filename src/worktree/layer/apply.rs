//! Editing a parent's tree with what a run left.

use std::collections::{BTreeMap, HashMap};

use super::capture::{Captured, CapturedNode};
use super::inode::{OVERLAY_PRIVATE, can_hold};
use crate::object::{
    Draft, DraftError, InvalidPath, Kind, LinkGroup, LinkKey, Meta, NewNode, Timestamp, TreePath,
};
use rustix::fs::FileType;

/// The ids that the disk could keep apart during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// Ids from 0 up to here, without it, are mapped; 1 when owners on disk mean nothing.
    pub mapped: u32,
    /// With one id: a supervisor recorded what the run made of owners, so what is new and has no record is 0:0.
    pub recorded: bool,
}

/// What applying found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Entries read from the upper directory.
    pub entries: u64,
    /// Whether the upper directory, over its lowers, shows exactly the edited tree: not when times were clamped, nor when a new name joined
    /// hard links that lie in a lower.
    pub upper_is_exact: bool,
}

/// Why a captured upper directory does not fit its parent's tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A captured path is none.
    #[error("captured path: {0}")]
    Path(#[from] InvalidPath),
    /// The tree refused the edit.
    #[error(transparent)]
    Draft(#[from] DraftError),
}

/// Edits a draft of the parent's tree with what was captured; `epoch` clamps modification times to that many seconds since 1970.
///
/// Owners that were not mapped and attributes that the disk could not hold are as recorded, else taken from the parent's entry. A directory's time changes
/// only when names in it came or went. A file that was copied up and is the same is left as it was, with its hard links.
pub fn apply(
    draft: &mut Draft<'_>,
    captured: &[Captured],
    ids: IdRange,
    epoch: Option<i64>,
) -> Result<Applied, ApplyError> {
    let links = link_keys(draft, captured, ids)?;
    let mut upper_is_exact = !links.values().any(|key| matches!(key, LinkKey::Stored(_)));
    // Directories with their time on disk, and whether names in them came or went.
    let mut times: BTreeMap<TreePath, (Timestamp, bool)> = BTreeMap::new();
    let renamed = |times: &mut BTreeMap<TreePath, (Timestamp, bool)>, path: &TreePath| {
        if let Some((parent, _)) = path.split_last()
            && let Some(time) = times.get_mut(&parent)
        {
            time.1 = true;
        }
    };
    for entry in captured {
        let path = TreePath::parse(&entry.path)?;
        let before = draft.get(&path).map_err(DraftError::from)?.map(|(meta, kind)| (meta.clone(), kind));
        let mut meta = inherited(entry, before.as_ref(), ids);
        match &entry.node {
            CapturedNode::Whiteout => {
                if draft.remove(&path)? {
                    renamed(&mut times, &path);
                }
            }
            CapturedNode::Directory { opaque } => {
                times.insert(path.clone(), (meta.mtime, false));
                match before {
                    Some((before, Kind::Directory)) => {
                        if *opaque
                            && !draft.names(&path).map_err(DraftError::from)?.unwrap_or_default().is_empty()
                        {
                            draft.clear(&path)?;
                            times.insert(path.clone(), (meta.mtime, true));
                        }
                        meta.mtime = before.mtime;
                        if meta != before {
                            draft.set_meta(&path, meta)?;
                        }
                    }
                    _ => {
                        renamed(&mut times, &path);
                        upper_is_exact &= !clamp(&mut meta.mtime, epoch);
                        draft.put_directory(&path, meta)?;
                    }
                }
            }
            node => {
                let node = new_node(node, &links);
                let same = draft.leaf(&path).map_err(DraftError::from)?.is_some_and(|(have, old)| {
                    *have == meta && same_content(old, &node) && !gains_link(old, &node)
                });
                if !same {
                    if before.is_none_or(|(_, kind)| kind == Kind::Directory) {
                        renamed(&mut times, &path);
                    }
                    upper_is_exact &= !clamp(&mut meta.mtime, epoch);
                    draft.put(&path, meta, node)?;
                }
            }
        }
    }
    for (path, (mut mtime, changed)) in times {
        upper_is_exact &= !(changed && clamp(&mut mtime, epoch));
        if let (true, Some((meta, Kind::Directory))) = (changed, draft.get(&path).map_err(DraftError::from)?)
        {
            let meta = Meta { mtime, ..meta.clone() };
            draft.set_meta(&path, meta)?;
        }
    }
    Ok(Applied { entries: captured.len() as u64, upper_is_exact })
}

/// Takes a time back to the epoch; whether it was later.
fn clamp(mtime: &mut Timestamp, epoch: Option<i64>) -> bool {
    let Some(limit) = epoch.map(Timestamp::from_seconds) else { return false };
    let later = *mtime > limit;
    *mtime = (*mtime).min(limit);
    later
}

/// The key of every hard-linked inode: the group in the parent when a member is there and unchanged, else a new one.
///
/// With `index=off` a copy-up takes a file out of its group on disk; an unchanged member says which group it was.
fn link_keys(
    draft: &mut Draft<'_>,
    captured: &[Captured],
    ids: IdRange,
) -> Result<HashMap<u64, LinkKey>, ApplyError> {
    let mut counts: HashMap<u64, (usize, Option<LinkGroup>)> = HashMap::new();
    for entry in captured {
        let CapturedNode::File { blob, inode: Some(inode), .. } = &entry.node else { continue };
        let path = TreePath::parse(&entry.path)?;
        let before = draft.leaf(&path).map_err(DraftError::from)?;
        let group = before.and_then(|(meta, node)| match node {
            NewNode::File { blob: old, link: Some(LinkKey::Stored(group)), .. } if old == blob => {
                let known = (meta.clone(), Kind::File);
                (inherited(entry, Some(&known), ids) == *meta).then_some(*group)
            }
            _ => None,
        });
        let count = counts.entry(*inode).or_default();
        count.0 += 1;
        count.1 = count.1.or(group);
    }
    // A link count above one with a single path here: the store's blob is the other name.
    let keys = counts.into_iter().filter(|(_, (paths, _))| *paths > 1).map(|(inode, (_, group))| {
        let key = group.map_or_else(|| draft.new_link(), LinkKey::Stored);
        (inode, key)
    });
    Ok(keys.collect())
}

/// The attributes of an entry: as on disk, but for what the disk could not hold. That is as it was recorded, or, where nothing is
/// recorded, as the parent's entry of the same kind has it.
fn inherited(entry: &Captured, before: Option<&(Meta, Kind)>, ids: IdRange) -> Meta {
    let mut meta = entry.meta.clone();
    if ids.mapped == 1 {
        (meta.uid, meta.gid) = (0, 0);
    }
    if let Some(recorded) = &entry.recorded {
        (meta.uid, meta.gid) = (recorded.uid, recorded.gid);
        for (name, value) in &recorded.xattrs {
            let kept = meta.xattrs.set(name.clone(), value.clone());
            debug_assert!(kept.is_ok(), "the supervisor keeps the kernel's limits");
        }
        return meta;
    }
    let Some((before, kind)) = before else { return meta };
    let disk_kind = type_of(&entry.node);
    if ids.recorded || file_type(*kind) != disk_kind {
        return meta;
    }
    if before.uid >= ids.mapped {
        meta.uid = before.uid;
    }
    if before.gid >= ids.mapped {
        meta.gid = before.gid;
    }
    for xattr in before.xattrs.iter() {
        let holdable = xattr.name.starts_with(OVERLAY_PRIVATE) || can_hold(&xattr.name, disk_kind);
        if !holdable {
            let kept = meta.xattrs.set(xattr.name.clone(), xattr.value.clone());
            debug_assert!(kept.is_ok(), "an attribute of a stored tree is valid");
        }
    }
    meta
}

fn type_of(node: &CapturedNode) -> FileType {
    match node {
        CapturedNode::Directory { .. } => FileType::Directory,
        CapturedNode::File { .. } => FileType::RegularFile,
        CapturedNode::Symlink { .. } => FileType::Symlink,
        CapturedNode::Fifo => FileType::Fifo,
        CapturedNode::Socket => FileType::Socket,
        CapturedNode::Device { char: true, .. } => FileType::CharacterDevice,
        CapturedNode::Device { char: false, .. } => FileType::BlockDevice,
        CapturedNode::Whiteout => FileType::Unknown,
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

fn new_node(node: &CapturedNode, links: &HashMap<u64, LinkKey>) -> NewNode {
    match node {
        CapturedNode::File { blob, size, inode, .. } => {
            let link = inode.and_then(|inode| links.get(&inode).copied());
            NewNode::File { blob: *blob, size: *size, link }
        }
        CapturedNode::Symlink { target } => NewNode::Symlink { target: target.clone() },
        CapturedNode::Fifo => NewNode::Fifo,
        CapturedNode::Socket => NewNode::Socket,
        CapturedNode::Device { char: true, major, minor } => NewNode::Char { major: *major, minor: *minor },
        CapturedNode::Device { char: false, major, minor } => NewNode::Block { major: *major, minor: *minor },
        CapturedNode::Directory { .. } | CapturedNode::Whiteout => {
            unreachable!("directories and whiteouts are handled before")
        }
    }
}

fn same_content(old: &NewNode, new: &NewNode) -> bool {
    match (old, new) {
        (NewNode::File { blob: old, .. }, NewNode::File { blob: new, .. }) => old == new,
        _ => old == new,
    }
}

/// Whether the new node is in a group of links and the old one was in another or none.
fn gains_link(old: &NewNode, new: &NewNode) -> bool {
    match (old, new) {
        (NewNode::File { link: old, .. }, NewNode::File { link: Some(new), .. }) => *old != Some(*new),
        _ => false,
    }
}
