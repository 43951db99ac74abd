//! Where mounts go, and what stands in for mount points that the tree lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::engine::error::{Error, Result};
use crate::object::{BlobId, Entry, Kind, MAX_SYMLINKS, Meta, Name, Node, Timestamp, TreePath, TreeSource};
use crate::sandbox::Mount;
use crate::worktree::layer::{Captured, CapturedNode, LayerEntry, LayerNode};

/// Collects the mounts of one run and the places they need.
///
/// Targets are looked up in the tree that the command runs on, symbolic links followed as inside it.
pub(in crate::engine) struct Points<'s> {
    source: &'s dyn TreeSource,
    root: Entry,
    wanted: Vec<Wanted>,
}

struct Wanted {
    target: TreePath,
    /// What the target needs to be.
    directory: bool,
    mount: Mount,
    /// Whether mount points may be made in it.
    own: bool,
}

/// Where a target leads to.
struct Spot {
    path: Vec<Name>,
    /// The entries of the tree on the way; shorter than the path where the tree ends.
    existing: Vec<Entry>,
    /// The mount that covers the rest of the way, with how many names lead to it.
    within: Option<(usize, usize)>,
}

struct Placed {
    path: Vec<Name>,
    directory: bool,
    /// Whether mount points may be made in it.
    own: bool,
}

/// The mounts of a run, in order, and the layer that they need below the upper directory.
#[derive(Debug, Default)]
pub(in crate::engine) struct Stubs {
    /// The entries of the layer by path, parents first; empty when every mount point is there.
    pub(in crate::engine) layer: Vec<LayerEntry>,
    /// The paths in it that the tree does not have.
    made: BTreeSet<Vec<u8>>,
}

impl<'s> Points<'s> {
    pub(in crate::engine) fn new(source: &'s dyn TreeSource, root: Entry) -> Self {
        Self { source, root, wanted: Vec::new() }
    }

    /// Adds a mount at a path, whatever target it has so far.
    pub(in crate::engine) fn add(&mut self, target: &TreePath, directory: bool, mount: Mount) {
        let own = matches!(mount, Mount::Tmpfs { read_only: false, .. });
        self.wanted.push(Wanted { target: target.clone(), directory, mount, own });
    }

    /// Adds a directory of ours, in which mount points that other mounts need may be made and stay.
    pub(in crate::engine) fn add_own(&mut self, target: &TreePath, mount: Mount) {
        self.wanted.push(Wanted { target: target.clone(), directory: true, mount, own: true });
    }

    /// Adds a mount of a file that gives way: where another mount goes there or covers the place, where none may be, and where a directory
    /// is.
    pub(in crate::engine) fn add_unless_covered(&mut self, target: &TreePath, mount: Mount) {
        let Ok(spot) = self.spot(target, &[]) else { return };
        let there = spot.existing.last().filter(|_| spot.existing.len() == spot.path.len());
        let directory = there.is_some_and(|entry| matches!(entry.node, Node::Directory { .. }));
        let covers = |wanted: &Wanted| {
            self.spot(&wanted.target, &[]).is_ok_and(|other| spot.path.starts_with(&other.path))
        };
        let real: TreePath = spot.path.clone().into();
        if !directory && check_allowed(target, &real).is_ok() && !self.wanted.iter().any(covers) {
            self.add(target, false, mount);
        }
    }

    /// Gives the mounts with their real targets, parents before what is in them, and the stubs.
    pub(in crate::engine) fn finish(mut self) -> Result<(Vec<Mount>, Stubs)> {
        // Where they lead without each other, to know which lies in which; then in that order and for good.
        let mut waiting = Vec::with_capacity(self.wanted.len());
        for wanted in std::mem::take(&mut self.wanted) {
            waiting.push((self.spot(&wanted.target, &[])?.path, wanted));
        }
        waiting.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut mounts, mut placed, mut stubs) = (Vec::new(), Vec::<Placed>::new(), BTreeMap::new());
        let mut made = BTreeSet::new();
        while !waiting.is_empty() {
            let Wanted { target, directory, mount, own } = take_outermost(&mut waiting)?;
            let spot = self.spot(&target, &placed)?;
            let real: TreePath = spot.path.clone().into();
            check_allowed(&target, &real)?;
            if placed.iter().any(|other| other.path == spot.path) {
                return Err(refused(&target, "two mounts are to go there"));
            }
            match spot.within {
                Some((number, names)) if placed[number].own => {
                    for end in names + 1..=spot.path.len() {
                        let directory = directory || end < spot.path.len();
                        mounts.push(Mount::Point { target: host_path(&spot.path[..end]), directory });
                    }
                }
                Some(_) => {}
                None => self.stub(&spot, directory, &mut stubs, &mut made),
            }
            mounts.push(mount.aimed_at(host_path(&spot.path)));
            placed.push(Placed { path: spot.path, directory, own });
        }
        Ok((mounts, Stubs { layer: stubs.into_values().collect(), made }))
    }

    /// Follows a target as far as the tree goes, and takes the rest as it is written.
    fn spot(&self, target: &TreePath, placed: &[Placed]) -> Result<Spot> {
        let mut todo: Vec<Vec<u8>> =
            target.names().iter().rev().map(|name| name.as_bytes().to_vec()).collect();
        let mut spot = Spot { path: Vec::new(), existing: Vec::new(), within: None };
        let mut links = 0;
        while let Some(component) = todo.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    spot.path.pop();
                    spot.existing.truncate(spot.path.len());
                    spot.within = spot.within.filter(|(_, names)| *names <= spot.path.len());
                    continue;
                }
                _ => {}
            }
            let name = Name::new(&component).map_err(|error| refused(target, &error.to_string()))?;
            let entry = match spot.existing.last().unwrap_or(&self.root) {
                // The tree has ended already, or something else is seen from here on.
                _ if spot.existing.len() < spot.path.len() || spot.within.is_some() => None,
                Entry { node: Node::Directory { tree, .. }, .. } => {
                    self.source.tree(tree)?.get(&name).cloned()
                }
                _ => {
                    let path: TreePath = spot.path.clone().into();
                    return Err(refused(target, &format!("{path} is not a directory in the state")));
                }
            };
            match entry {
                Some(Entry { node: Node::Symlink { target: to }, .. }) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(refused(target, "too many symbolic links are on the way"));
                    }
                    if to.starts_with(b"/") {
                        spot = Spot { path: Vec::new(), existing: Vec::new(), within: None };
                    }
                    todo.extend(to.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                    continue;
                }
                Some(entry) => spot.existing.push(entry),
                None => {}
            }
            spot.path.push(name);
            let rest = todo.iter().any(|component| !matches!(component.as_slice(), b"" | b"."));
            if let Some(number) = placed.iter().position(|other| rest && other.path == spot.path) {
                if !placed[number].directory {
                    let path: TreePath = spot.path.clone().into();
                    return Err(refused(target, &format!("a file is mounted at {path}")));
                }
                spot.within = Some((number, spot.path.len()));
            }
        }
        Ok(spot)
    }

    /// Adds what a spot lacks, with the directories on the way as the tree has them: a layer's directory shows its own attributes.
    fn stub(
        &self,
        spot: &Spot,
        directory: bool,
        stubs: &mut BTreeMap<Vec<Name>, LayerEntry>,
        made: &mut BTreeSet<Vec<u8>>,
    ) {
        let there = spot.existing.last().map(|entry| entry.node.kind());
        // Layers hold no devices, so a device of the tree is no mount point.
        let fits = spot.existing.len() == spot.path.len()
            && match there {
                Some(Kind::Directory) | None => directory,
                Some(Kind::Char | Kind::Block) => false,
                Some(_) => !directory,
            };
        if fits || is_shared_memory(&spot.path) {
            return;
        }
        let root = (Vec::new(), &self.root);
        let parents = spot.existing.iter().take(spot.path.len() - 1).enumerate();
        let parents = parents.map(|(at, entry)| (spot.path[..=at].to_vec(), entry));
        let mut mtime = Timestamp::default();
        for (path, entry) in std::iter::once(root).chain(parents) {
            mtime = entry.meta.mtime;
            let node = LayerNode::Directory { opaque: false };
            let relative = relative(&path);
            stubs.entry(path).or_insert(LayerEntry { path: relative, meta: entry.meta.clone(), node });
        }
        let first_missing = spot.existing.len().min(spot.path.len() - 1);
        for end in first_missing + 1..=spot.path.len() {
            let path = spot.path[..end].to_vec();
            let (mode, node) = if end < spot.path.len() || directory {
                (0o755, LayerNode::Directory { opaque: false })
            } else {
                (0o644, LayerNode::File { blob: BlobId::of(b""), size: 0, link: None })
            };
            let relative = relative(&path);
            if spot.existing.len() < end {
                made.insert(relative.clone());
            }
            let meta = Meta::root_owned(mode, mtime);
            stubs.entry(path).or_insert(LayerEntry { path: relative, meta, node });
        }
    }
}

impl Stubs {
    /// Takes out of a capture what is there only because a stub was copied up: such a directory, unchanged and with nothing in it.
    ///
    /// Whether there was any: then the upper directory shows more than the tree that comes of it.
    pub(in crate::engine) fn forgive(&self, captured: &mut Vec<Captured>, owners: bool) -> bool {
        if self.made.is_empty() {
            return false;
        }
        let before = captured.len();
        let mut kept_parents: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut kept = Vec::with_capacity(before);
        // What is in a directory comes after it.
        while let Some(entry) = captured.pop() {
            if self.is_stub(&entry, owners) && !kept_parents.contains(&entry.path) {
                continue;
            }
            if let Some(at) = entry.path.iter().rposition(|byte| *byte == b'/') {
                kept_parents.insert(entry.path[..at].to_vec());
            }
            kept.push(entry);
        }
        kept.reverse();
        *captured = kept;
        captured.len() < before
    }

    fn is_stub(&self, entry: &Captured, owners: bool) -> bool {
        if !self.made.contains(&entry.path) {
            return false;
        }
        let Some(stub) = self.layer.iter().find(|stub| stub.path == entry.path) else { return false };
        let same_kind = match (&stub.node, &entry.node) {
            (LayerNode::Directory { .. }, CapturedNode::Directory { .. }) => true,
            (LayerNode::File { .. }, CapturedNode::File { size, .. }) => *size == 0,
            _ => false,
        };
        let (meta, left) = (&stub.meta, &entry.meta);
        let same_owner = !owners || (meta.uid, meta.gid) == (left.uid, left.gid);
        same_kind && same_owner && meta.mode == left.mode && meta.xattrs == left.xattrs
    }
}

/// Takes a mount that lies in none of the others, neither as typed nor where the tree leads.
fn take_outermost(waiting: &mut Vec<(Vec<Name>, Wanted)>) -> Result<Wanted> {
    let within = |inner: &[Name], outer: &[Name]| inner.len() > outer.len() && inner.starts_with(outer);
    let outermost = waiting.iter().position(|(real, wanted)| {
        !waiting.iter().any(|(other_real, other)| {
            within(real, other_real) || within(wanted.target.names(), other.target.names())
        })
    });
    match outermost {
        Some(at) => Ok(waiting.remove(at).1),
        None => Err(refused(
            &waiting[0].1.target,
            "through links of the state it lies in another mount, and that one in it",
        )),
    }
}

/// Refuses the places that the sandbox itself is made of.
fn check_allowed(target: &TreePath, real: &TreePath) -> Result<()> {
    let why = match real.names().first().map(Name::as_bytes) {
        None => "nothing can be mounted on the root directory",
        Some(b"proc") => "nothing can be mounted in /proc",
        Some(b"sys") => "nothing can be mounted in /sys",
        Some(b"dev") if !is_shared_memory(real.names()) => "of /dev only /dev/shm can be mounted on",
        _ => return Ok(()),
    };
    Err(refused(target, why))
}

fn is_shared_memory(path: &[Name]) -> bool {
    path.iter().map(Name::as_bytes).eq([&b"dev"[..], b"shm"])
}

fn refused(target: &TreePath, why: &str) -> Error {
    Error::invalid(format!("cannot mount at {target}: {why}"))
}

fn relative(path: &[Name]) -> Vec<u8> {
    path.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
}

fn host_path(path: &[Name]) -> PathBuf {
    PathBuf::from("/").join(OsStr::from_bytes(&relative(path)))
}
