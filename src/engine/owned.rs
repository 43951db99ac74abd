//! Which entries of a tree the supervisor of emulated root must know: those that one id cannot hold.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use super::core::Core;
use super::error::Result;
use crate::disk::{Durability, create_dir_all_private, read_limited, write_atomic};
use crate::object::{Entry, Meta, Node, TreeId, TreeSource, diff};
use crate::sandbox::{Device, Owned, Recorded};
use crate::store::Store;

/// How many lists are kept; when there are more the older half goes.
const MAX_KEPT: usize = 64;

/// What a list begins with. Its last byte grows when the encoding of what follows changes: then the list is made again.
const MAGIC: &[u8; 8] = b"tbowns\0\x01";

/// The longest list that is kept.
pub(super) const MAX_KEPT_BYTES: u64 = 1 << 20;

/// Permission bit of a directory that gives its group to what is made in it.
const SETGID: u16 = 0o2000;

impl Core {
    /// Every entry at and below a root that is not 0:0, is a device, or has attributes that only real root could set.
    ///
    /// A whole tree is walked for it once; afterwards the list is kept in the store, from where it may vanish at any time.
    pub(super) fn owned(&self, root: &TreeId) -> Result<Vec<Owned>> {
        if let Some(kept) = self.kept_owned(root) {
            return Ok(kept);
        }
        let mut owned = Vec::new();
        collect_owned(&self.store, &mut Vec::new(), &self.store.root(root)?, &mut owned)?;
        self.keep_owned(root, &owned);
        Ok(owned)
    }

    /// Makes the list of a tree from that of the one it was made from, at the cost of what differs.
    pub(super) fn carry_owned(&self, from: &TreeId, to: &TreeId) -> Result<()> {
        let Some(kept) = self.kept_owned(from) else { return Ok(()) };
        let mut owned: BTreeMap<Vec<u8>, Owned> =
            kept.into_iter().map(|one| (one.path.clone(), one)).collect();
        let (old, new) = (self.store.root(from)?, self.store.root(to)?);
        diff(&self.store, &old, &new, &mut |change| {
            let path = change.path.to_bytes();
            let path = path.strip_prefix(b"/").unwrap_or(&path);
            owned.remove(path);
            if let Some(one) = change.new.as_ref().and_then(|entry| owned_entry(path, entry)) {
                owned.insert(path.to_vec(), one);
            }
            Ok(())
        })?;
        self.keep_owned(to, &owned.into_values().collect::<Vec<_>>());
        Ok(())
    }

    fn kept_owned(&self, root: &TreeId) -> Option<Vec<Owned>> {
        let bytes = read_limited(&self.layout().owners().join(root.to_string()), MAX_KEPT_BYTES).ok()?;
        read_list(&bytes)
    }

    /// Keeps a list, and lets older ones go. It can be made again, so a failure is none.
    fn keep_owned(&self, root: &TreeId, owned: &[Owned]) {
        let dir = self.layout().owners();
        let Some(bytes) = write_list(owned) else { return };
        if bytes.len() as u64 > MAX_KEPT_BYTES || create_dir_all_private(&dir).is_err() {
            return;
        }
        let _ = write_atomic(&dir.join(root.to_string()), &bytes, Durability::Batch);
        let Ok(entries) = std::fs::read_dir(&dir) else { return };
        let mut lists: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        if lists.len() > MAX_KEPT {
            lists.sort();
            for (_, list) in &lists[..lists.len() - MAX_KEPT / 2] {
                let _ = std::fs::remove_file(list);
            }
        }
    }
}

/// What is wrong with a list that is kept under a name; with `full` it is compared with a new one.
pub(super) fn owned_flaw(store: &Store, name: &str, bytes: &[u8], full: bool) -> Option<String> {
    let Ok(root) = name.parse::<TreeId>() else { return Some("its name is no tree's id".to_owned()) };
    let kept = bytes.strip_prefix(MAGIC).and_then(|rest| postcard::from_bytes::<Vec<Owned>>(rest).ok());
    let Some(kept) = kept else { return Some("it cannot be read".to_owned()) };
    if !full {
        return None;
    }
    let mut owned = Vec::new();
    // Of a tree that is gone nobody asks for the list.
    let entry = store.root(&root).ok()?;
    collect_owned(store, &mut Vec::new(), &entry, &mut owned).ok()?;
    let sorted = |mut list: Vec<Owned>| {
        list.sort_by(|a, b| a.path.cmp(&b.path));
        list
    };
    (sorted(kept) != sorted(owned)).then(|| "it does not say what its tree says".to_owned())
}

fn collect_owned(store: &Store, path: &mut Vec<u8>, entry: &Entry, owned: &mut Vec<Owned>) -> Result<()> {
    owned.extend(owned_entry(path, entry));
    let Node::Directory { tree, .. } = &entry.node else { return Ok(()) };
    for (name, entry) in store.tree(tree)?.entries() {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        collect_owned(store, path, entry, owned)?;
        path.truncate(length);
    }
    Ok(())
}

/// A list that was kept; `None` for what is none, or one of another version.
pub(super) fn read_list(bytes: &[u8]) -> Option<Vec<Owned>> {
    postcard::from_bytes(bytes.strip_prefix(MAGIC)?).ok()
}

/// A list as it is kept.
pub(super) fn write_list(owned: &[Owned]) -> Option<Vec<u8>> {
    postcard::to_extend(owned, MAGIC.to_vec()).ok()
}

fn owned_entry(path: &[u8], entry: &Entry) -> Option<Owned> {
    let Meta { uid, gid, mode, xattrs, .. } = &entry.meta;
    let device = match &entry.node {
        Node::Char { major, minor } => Some(Device { char: true, major: *major, minor: *minor }),
        Node::Block { major, minor } => Some(Device { char: false, major: *major, minor: *minor }),
        _ => None,
    };
    let refused = |name: &[u8]| {
        name.starts_with(b"trusted.") || (name.starts_with(b"security.") && name != b"security.capability")
    };
    let xattrs: Vec<_> = xattrs
        .iter()
        .filter(|xattr| refused(&xattr.name))
        .map(|xattr| (xattr.name.clone(), xattr.value.clone()))
        .collect();
    if *uid == 0 && *gid == 0 && device.is_none() && xattrs.is_empty() {
        return None;
    }
    let directory = matches!(entry.node, Node::Directory { .. });
    Some(Owned {
        path: path.to_vec(),
        recorded: Recorded { uid: *uid, gid: *gid, device, xattrs },
        gives_group: directory && mode & SETGID != 0 && *gid != 0,
    })
}
