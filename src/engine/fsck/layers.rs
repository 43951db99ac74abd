//! Layers: does each show the tree that its row says, together with those below it?

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::facts::Facts;
use super::objects::Found;
use super::{DamageKind, Pass};
use crate::engine::core::{mapped_ids, start_worker};
use crate::index::LayerRecord;
use crate::object::{BlobId, Entry, Meta, Name, Node, Tree, TreeId};
use crate::store::Layout;
use crate::worker::{Session, Worker};
use crate::worktree::layer::{LayerError, Seen, SeenNode, hash_below, look};

/// How many files of one layer are told of.
const MAX_TOLD: usize = 5;

/// What reads layers: this process, or where it may not the worker.
#[derive(Default)]
pub(super) struct Reader {
    worker: Option<Option<(Arc<Worker>, Session)>>,
}

/// A layer as it lies on disk.
struct Looked {
    entries: Vec<Seen>,
    /// How many ids were mapped for who looked; `None` when it was this process.
    mapped_ids: Option<u32>,
}

impl Pass<'_> {
    pub(super) fn layers(&mut self, facts: &Facts, found: &Found) {
        let names = self.names(&self.layout.layers());
        self.checked.layers = names.len() as u64;
        let rows: HashMap<&str, &LayerRecord> =
            facts.layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
        for name in names.iter().filter(|name| facts.known && !rows.contains_key(name.as_str())) {
            self.tell(DamageKind::LayerExtra, format!("layers/{name}"), "no row names it");
        }
        if !self.options.full {
            return;
        }
        let mut reader = Reader::default();
        let mut linked: HashMap<u64, u64> = HashMap::new();
        let mut all_read = true;
        let mut wrong = Vec::new();
        for (at, name) in names.iter().enumerate() {
            self.hear("layers", at as u64, names.len() as u64);
            if self.known.again && !self.known.links && !self.known.layers.contains(name) {
                continue;
            }
            let looked = match self.look_at(&mut reader, name) {
                Ok(Some(looked)) => looked,
                // It was removed meanwhile.
                Ok(None) => continue,
                Err(reason) => {
                    all_read = false;
                    self.tell(DamageKind::LayerUnreadable, format!("layers/{name}"), reason);
                    continue;
                }
            };
            for seen in &looked.entries {
                if let SeenNode::File { inode, redirect: None, .. } = &seen.node {
                    *linked.entry(*inode).or_default() += 1;
                }
            }
            if let Some(row) = rows.get(name.as_str())
                && self.compare_layer(&mut reader, row, &rows, looked, found)
            {
                wrong.push(name.clone());
            }
        }
        self.known.layers = wrong;
        if all_read && (!self.known.again || self.known.links) {
            self.link_counts(found, &linked);
        }
    }

    /// Whether blobs have names that are no layer's.
    fn link_counts(&mut self, found: &Found, linked: &HashMap<u64, u64>) {
        self.known.links = false;
        // What runs, and what is being made, has links of its own.
        if !self.names(&self.layout.tmp()).is_empty() {
            return;
        }
        let mut blobs: Vec<_> = found.blobs.blobs.iter().collect();
        blobs.sort_by_key(|(id, _)| **id);
        for (id, file) in blobs {
            let known = 1 + linked.get(&file.inode).copied().unwrap_or(0);
            if file.links > known {
                let detail = format!("its file has {} names, and {known} are known", file.links);
                self.tell(DamageKind::LinkCount, id.to_string(), detail);
                self.known.links = true;
            }
        }
    }

    /// What is in a layer's directory; `None` when it is gone.
    fn look_at(&self, reader: &mut Reader, name: &str) -> Result<Option<Looked>, String> {
        let dir = self.layout.layers().join(name);
        let mut entries = Vec::new();
        let error = match look(&dir, &mut |seen| entries.push(seen)) {
            Ok(()) => return Ok(Some(Looked { entries, mapped_ids: None })),
            Err(error) => error,
        };
        if !dir.exists() {
            return Ok(None);
        }
        if !is_denied(&error) {
            return Err(error.to_string());
        }
        let Some((worker, session)) = reader.session(self) else { return Err(error.to_string()) };
        match session.look_at_layer(&dir) {
            Ok(entries) => Ok(Some(Looked { entries, mapped_ids: Some(mapped_ids(worker.identity())) })),
            Err(_) if !dir.exists() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Compares a layer with the tree that its row says; whether something is wrong.
    fn compare_layer(
        &mut self,
        reader: &mut Reader,
        row: &LayerRecord,
        rows: &HashMap<&str, &LayerRecord>,
        looked: Looked,
        found: &Found,
    ) -> bool {
        let below = match row.below.first().map(|below| rows.get(below.as_str())) {
            Some(Some(below)) => Some(below.tree),
            // What lies below is no longer known, so the stack is not used any more.
            Some(None) => return false,
            None => None,
        };
        let tree = |root: TreeId| match found.store.root(&root).ok()?.node {
            Node::Directory { tree, .. } => found.store.directory(&tree).ok(),
            _ => None,
        };
        // Of a tree that cannot be read it was told already.
        let Some(new) = tree(row.tree) else { return false };
        let below = match below.map(tree) {
            Some(None) => return false,
            Some(below) => below,
            None => None,
        };
        let is_mapped = row.identity.starts_with("mapped");
        let mut compare = Compare {
            found,
            owners: match looked.mapped_ids {
                Some(count) if is_mapped => Owners::Below(count),
                None if is_mapped && nix::unistd::geteuid().is_root() => Owners::Below(u32::MAX),
                _ => Owners::Any,
            },
            is_lowest: row.below.is_empty(),
            children: children_of(&looked.entries),
            wrong: Vec::new(),
            to_hash: Vec::new(),
        };
        compare.directory(b"", &new, below.as_ref());
        let (mut wrong, to_hash) = (compare.wrong, compare.to_hash);
        let dir = self.layout.layers().join(&row.name);
        for (path, blob) in to_hash {
            let hashed = match hash_below(&dir, &path) {
                Err(error) if is_denied(&error) => match reader.session(self) {
                    Some((_, session)) => {
                        session.hash_of_layer(&dir, &path).map_err(|error| error.to_string())
                    }
                    None => continue,
                },
                other => other.map_err(|error| error.to_string()),
            };
            match hashed {
                Ok(id) if id == blob => {}
                Ok(_) => wrong.push((DamageKind::LayerFileChanged, path, "its bytes".to_owned())),
                Err(reason) => wrong.push((DamageKind::LayerFileChanged, path, reason)),
            }
        }
        // Gone or replaced meanwhile.
        if !dir.is_dir() {
            return false;
        }
        let mut kinds: BTreeMap<DamageKind, Vec<String>> = BTreeMap::new();
        for (kind, path, what) in &wrong {
            kinds.entry(*kind).or_default().push(format!("/{} ({what})", String::from_utf8_lossy(path)));
        }
        for (kind, mut paths) in kinds {
            let more = paths.len().saturating_sub(MAX_TOLD);
            paths.truncate(MAX_TOLD);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.tell(kind, format!("layers/{}", row.name), format!("{}{more}", paths.join(", ")));
        }
        !wrong.is_empty()
    }
}

impl Reader {
    /// The worker, started when it is first needed; `None` where it cannot be.
    fn session(&mut self, pass: &Pass<'_>) -> Option<&(Arc<Worker>, Session)> {
        let start = || {
            let worker = start_worker(pass.engine).ok()?;
            let session = worker.session().ok()?;
            Some((worker, session))
        };
        self.worker.get_or_insert_with(start).as_ref()
    }
}

fn is_denied(error: &LayerError) -> bool {
    matches!(error, LayerError::Disk(error) if error.io().kind() == std::io::ErrorKind::PermissionDenied)
}

/// What is known of owners on disk.
enum Owners {
    /// Nothing: one id has everything.
    Any,
    /// Ids below that number are as in the tree, others are 0.
    Below(u32),
}

struct Compare<'c> {
    found: &'c Found,
    owners: Owners,
    is_lowest: bool,
    /// Entries by the directory that they are in.
    children: HashMap<&'c [u8], Vec<(&'c [u8], &'c Seen)>>,
    wrong: Vec<(DamageKind, Vec<u8>, String)>,
    to_hash: Vec<(Vec<u8>, BlobId)>,
}

fn children_of(entries: &[Seen]) -> HashMap<&[u8], Vec<(&[u8], &Seen)>> {
    let mut children: HashMap<&[u8], Vec<(&[u8], &Seen)>> = HashMap::new();
    for seen in entries.iter().filter(|seen| !seen.path.is_empty()) {
        let (parent, name) = match seen.path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&seen.path[..at], &seen.path[at + 1..]),
            None => (&b""[..], &seen.path[..]),
        };
        children.entry(parent).or_default().push((name, seen));
    }
    children
}

/// Directories that a sandbox mounts on: a layer has them when the tree lacks them.
fn is_mount_point(parent: &[u8], name: &[u8]) -> bool {
    parent.is_empty() && crate::engine::layers::MOUNT_POINTS.contains(&name)
}

impl Compare<'_> {
    /// Compares what the layer has in a directory with the tree; `below` is what the layers below show there.
    fn directory(&mut self, path: &[u8], new: &Tree, below: Option<&Tree>) {
        let seen = self.children.remove(path).unwrap_or_default();
        let mut names: HashSet<&[u8]> = HashSet::new();
        for (name, seen) in seen {
            names.insert(name);
            let name = Name::new(name).ok();
            let expected = name.as_ref().and_then(|name| new.get(name));
            let under = name.as_ref().and_then(|name| below?.get(name));
            self.entry(path, seen, expected, under);
        }
        for (name, entry) in new.entries() {
            let is_device = matches!(entry.node, Node::Char { .. } | Node::Block { .. });
            let shown = below.and_then(|below| below.get(name)) == Some(entry);
            if !names.contains(name.as_bytes()) && !shown && !is_device {
                self.wrong.push((
                    DamageKind::LayerFileMissing,
                    join(path, name.as_bytes()),
                    "it is not there".into(),
                ));
            }
        }
        for (name, _) in below.map_or(&[][..], Tree::entries) {
            let hidden = names.contains(name.as_bytes()) || new.get(name).is_some();
            if !hidden && !is_mount_point(path, name.as_bytes()) {
                let what = "its whiteout is not there".to_owned();
                self.wrong.push((DamageKind::LayerFileMissing, join(path, name.as_bytes()), what));
            }
        }
    }

    fn entry(&mut self, parent: &[u8], seen: &Seen, expected: Option<&Entry>, under: Option<&Entry>) {
        let name = seen.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let Some(expected) = expected else {
            let allowed = match seen.node {
                SeenNode::Whiteout => true,
                SeenNode::Directory { .. } => is_mount_point(parent, name),
                _ => false,
            };
            if !allowed {
                self.wrong.push((DamageKind::LayerFileExtra, seen.path.clone(), "the tree lacks it".into()));
            }
            return;
        };
        let changed = |what: &str| (DamageKind::LayerFileChanged, seen.path.clone(), what.to_owned());
        let is_device = matches!(expected.node, Node::Char { .. } | Node::Block { .. });
        match (&seen.node, &expected.node) {
            (SeenNode::Whiteout, _) if !is_device => {
                self.wrong.push((DamageKind::LayerFileMissing, seen.path.clone(), "it is hidden".into()));
                return;
            }
            (SeenNode::Socket | SeenNode::Whiteout | SeenNode::Device, _) if is_device => return,
            (SeenNode::Directory { opaque }, Node::Directory { tree, .. }) => {
                let store = &self.found.store;
                let below = match under.map(|under| &under.node) {
                    Some(Node::Directory { tree, .. }) if !opaque => store.directory(tree).ok(),
                    _ => None,
                };
                match store.directory(tree) {
                    Ok(new) => self.directory(&seen.path, &new, below.as_ref()),
                    Err(_) => return,
                }
            }
            (SeenNode::File { size, inode, redirect }, Node::File { blob, size: expected_size, .. }) => {
                if size != expected_size {
                    return self.wrong.push(changed("its size"));
                }
                let own = self.found.blobs.blobs.get(blob).is_some_and(|file| file.inode == *inode);
                match redirect {
                    Some(to) if to[..] != *format!("/{}", Layout::blob_below_objects(blob)).as_bytes() => {
                        return self.wrong.push(changed("whose bytes it shows"));
                    }
                    Some(_) => {}
                    None if *size == 0 => {}
                    None if own && !self.found.bad_blobs.contains_key(blob) => {}
                    None => self.to_hash.push((seen.path.clone(), *blob)),
                }
            }
            (SeenNode::Symlink { target }, Node::Symlink { target: expected }) if target == expected => {}
            (SeenNode::Symlink { .. }, Node::Symlink { .. }) => {
                return self.wrong.push(changed("where it points"));
            }
            (SeenNode::Fifo, Node::Fifo) | (SeenNode::Socket, Node::Socket) => {}
            _ => return self.wrong.push(changed("its kind")),
        }
        if let Some(what) = self.meta(&seen.meta, &expected.meta, &expected.node) {
            self.wrong.push(changed(what));
        }
    }

    /// What differs of attributes that the disk can hold.
    fn meta(&self, seen: &Meta, expected: &Meta, node: &Node) -> Option<&'static str> {
        let is_symlink = matches!(node, Node::Symlink { .. });
        if seen.mode != expected.mode && !is_symlink {
            return Some("its mode");
        }
        if let Owners::Below(count) = self.owners {
            let owner = |id: u32| if id < count { id } else { 0 };
            if (seen.uid, seen.gid) != (owner(expected.uid), owner(expected.gid)) {
                return Some("its owner");
            }
        }
        // A run's own layer may have other times: a result that differs in these alone is the known one.
        let has_time = self.is_lowest && matches!(node, Node::File { .. } | Node::Symlink { .. });
        (has_time && seen.mtime != expected.mtime).then_some("its time")
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}
