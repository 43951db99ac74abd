//! Which entries of a tree the supervisor of emulated root must know: those that one id cannot hold.

use super::core::Core;
use super::error::Result;
use crate::object::{Entry, Meta, Node, TreeId, TreeSource};
use crate::sandbox::{Device, Owned, Recorded};

/// Permission bit of a directory that gives its group to what is made in it.
const SETGID: u16 = 0o2000;

impl Core {
    /// Every entry at and below a root that is not 0:0, is a device, or has attributes that only real root could set.
    pub(super) fn owned(&self, root: &TreeId) -> Result<Vec<Owned>> {
        let mut owned = Vec::new();
        self.collect_owned(&mut Vec::new(), &self.store.root(root)?, &mut owned)?;
        Ok(owned)
    }

    fn collect_owned(&self, path: &mut Vec<u8>, entry: &Entry, owned: &mut Vec<Owned>) -> Result<()> {
        owned.extend(owned_entry(path, entry));
        let Node::Directory { tree, .. } = &entry.node else { return Ok(()) };
        for (name, entry) in self.store.tree(tree)?.entries() {
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            self.collect_owned(path, entry, owned)?;
            path.truncate(length);
        }
        Ok(())
    }
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
