//! A disk that remembers: what a trace did to a store, call by call, and what of it a power cut could leave.
//!
//! # The model
//! A step is one change: bytes or a length of a file, or names in directories. A step lasts once a later sync covers it: of the file for its bytes
//! and length, of the directory for its names, of the file system for everything. That a file's name lasts when the file is synced, as on ext4, is
//! not counted on. Any of the other steps may be on the disk and any may not, in whatever order they were made; only that steps about the same
//! bytes or the same name come in order is kept, and that a rename is one step. It lasts with its new directory. Of bytes that do not last a part
//! may be there, in pieces of 512. So the model holds for every journal mode of ext4, for XFS, btrfs and F2FS, and is harder than each.
//!
//! Not modelled: what the kernel writes by itself below an overlay. `layers/` is empty in an image, as if it had been removed; blobs that a run
//! made are read when they are linked or renamed, and count as not synced.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::libc::{self, pid_t};
use treebox::history::STALE_LOCK_AGE;

use super::calls::{self, Act, Call};

/// A file, directory or symlink, whatever its names.
type NodeId = usize;

/// What a node is, and what it held when the recording began.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Directory(BTreeMap<String, NodeId>),
    Symlink(PathBuf),
}

/// One change of the disk.
#[derive(Debug, Clone)]
enum Step {
    Names(Vec<(NodeId, String, Option<NodeId>)>),
    Bytes { node: NodeId, at: usize, bytes: Vec<u8> },
    Length { node: NodeId, len: usize },
    Sync(NodeId),
    SyncAll,
}

/// What happens to a step that does not last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Lost,
    /// Of bytes only this many pieces of 512 are there.
    Torn(usize),
    /// Of bytes only the room is there.
    Zeros,
}

/// What a step changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Names,
    Bytes,
}

const ROOT: NodeId = 0;

/// A recording.
pub(super) struct Disk {
    store: PathBuf,
    /// As they were when the recording began; what is made later is empty here.
    nodes: Vec<Node>,
    /// The names now.
    names: HashMap<NodeId, BTreeMap<String, NodeId>>,
    steps: Vec<Step>,
}

impl Disk {
    /// Begins with what is in a store, all of which lasts.
    pub(super) fn of(store: &Path) -> Self {
        let nodes = vec![Node::Directory(BTreeMap::new())];
        let mut disk = Self { store: store.to_owned(), nodes, names: HashMap::new(), steps: Vec::new() };
        let mut known = HashMap::new();
        disk.load(ROOT, store, &mut known);
        disk
    }

    fn load(&mut self, directory: NodeId, path: &Path, known: &mut HashMap<u64, NodeId>) {
        use std::os::unix::fs::MetadataExt;
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let node = match known.get(&metadata.ino()) {
                Some(node) => *node,
                None => {
                    self.nodes.push(read(&path));
                    known.insert(metadata.ino(), self.nodes.len() - 1);
                    self.nodes.len() - 1
                }
            };
            if metadata.is_dir() {
                self.load(node, &path, known);
            }
            names.insert(entry.file_name().into_string().unwrap(), node);
        }
        self.nodes[directory] = Node::Directory(names.clone());
        self.names.insert(directory, names);
    }

    /// How many steps there are so far.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Takes down a call that has been made.
    pub(super) fn record(&mut self, call: &Call, pid: pid_t, result: i64, existed: bool) {
        let Ok(path) = call.path.strip_prefix(&self.store).map(Path::to_owned) else { return };
        let from =
            call.from.as_ref().and_then(|from| from.strip_prefix(&self.store).ok()).map(Path::to_owned);
        match call.act {
            Act::Open => self.open(&path, existed, call),
            Act::Write => {
                let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", call.arguments[0]));
                let info = info.unwrap_or_default();
                let position = info.lines().find_map(|line| line.strip_prefix("pos:"));
                let end: usize = position.unwrap().trim().parse().unwrap();
                self.wrote(&path, end - result as usize, result as usize);
            }
            Act::WriteAt(offset) => self.wrote(&path, call.arguments[offset] as usize, result as usize),
            Act::Copy => {
                let len = std::fs::metadata(&call.path).map_or(0, |metadata| metadata.len());
                self.wrote(&path, 0, len as usize);
            }
            Act::Length => {
                let len = std::fs::metadata(&call.path).map_or(0, |metadata| metadata.len()) as usize;
                if let Some(node) = self.find(&path) {
                    self.steps.push(Step::Length { node, len });
                }
            }
            Act::Link => {
                let node = from.and_then(|from| self.find(&from)).unwrap_or_else(|| self.adopt(&call.path));
                self.name(&path, Some(node), None);
            }
            Act::Rename => {
                let node = from.as_ref().and_then(|from| self.find(from));
                let node = node.unwrap_or_else(|| self.adopt(&call.path));
                self.name(&path, Some(node), from.as_deref());
            }
            Act::Unlink => self.name(&path, None, None),
            Act::MakeDir => {
                let node = self.make(Node::Directory(BTreeMap::new()));
                self.name(&path, Some(node), None);
            }
            Act::Symlink(target) => {
                let target = calls::text(pid, call.arguments[target]).unwrap_or_default();
                let node = self.make(Node::Symlink(target));
                self.name(&path, Some(node), None);
            }
            Act::Sync => {
                let node = self.find(&path);
                self.steps.extend(node.map(Step::Sync));
            }
            Act::SyncAll => self.steps.push(Step::SyncAll),
            Act::MakeNode | Act::Attributes => {}
        }
    }

    fn open(&mut self, path: &Path, existed: bool, call: &Call) {
        let flags = match call.name {
            "open" => call.arguments[1],
            "creat" => (libc::O_CREAT | libc::O_TRUNC) as u64,
            _ => call.arguments[2],
        } as i32;
        if flags & libc::O_TMPFILE == libc::O_TMPFILE {
            return;
        }
        if !existed {
            let node = self.make(Node::File(Vec::new()));
            self.name(path, Some(node), None);
        } else if flags & libc::O_TRUNC != 0
            && let Some(node) = self.find(path)
        {
            self.steps.push(Step::Length { node, len: 0 });
        }
    }

    fn wrote(&mut self, path: &Path, at: usize, len: usize) {
        let Some(node) = self.find(path) else { return };
        let mut bytes = vec![0; len];
        let file = std::fs::File::open(self.store.join(path)).unwrap();
        // Another process may have cut it meanwhile.
        let read = file.read_at(&mut bytes, at as u64).unwrap();
        bytes.truncate(read);
        self.steps.push(Step::Bytes { node, at, bytes });
    }

    fn make(&mut self, node: Node) -> NodeId {
        let is_directory = matches!(node, Node::Directory(_));
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        if is_directory {
            self.names.insert(id, BTreeMap::new());
        }
        id
    }

    /// A node that something else made, the kernel for one: its bytes are as if they had been written just now.
    fn adopt(&mut self, path: &Path) -> NodeId {
        match read(path) {
            Node::File(bytes) => {
                let node = self.make(Node::File(Vec::new()));
                self.steps.push(Step::Bytes { node, at: 0, bytes });
                node
            }
            other => self.make(other),
        }
    }

    fn find(&self, path: &Path) -> Option<NodeId> {
        path.iter().try_fold(ROOT, |at, part| self.names.get(&at)?.get(part.to_str()?).copied())
    }

    /// Sets one name and takes another away, at once.
    fn name(&mut self, path: &Path, node: Option<NodeId>, gone: Option<&Path>) {
        let place = |disk: &Self, path: &Path| {
            let directory = disk.find(path.parent()?)?;
            Some((directory, path.file_name()?.to_str()?.to_owned()))
        };
        // The new name comes first: the step lasts with its directory.
        let mut names = Vec::new();
        names.extend(place(self, path).map(|(directory, name)| (directory, name, node)));
        names
            .extend(gone.and_then(|gone| place(self, gone)).map(|(directory, name)| (directory, name, None)));
        for (directory, name, node) in &names {
            let entries = self.names.entry(*directory).or_default();
            match node {
                Some(node) => drop(entries.insert(name.clone(), *node)),
                None => drop(entries.remove(name)),
            }
        }
        if !names.is_empty() {
            self.steps.push(Step::Names(names));
        }
    }

    /// The steps before a cut that nothing made last, with what they change.
    pub(super) fn unsynced(&self, cut: usize) -> Vec<(usize, About)> {
        let (mut all, mut synced) = (false, std::collections::HashSet::new());
        let mut open = Vec::new();
        for (at, step) in self.steps[..cut].iter().enumerate().rev() {
            let (node, about) = match step {
                Step::SyncAll => {
                    all = true;
                    continue;
                }
                Step::Sync(node) => {
                    synced.insert(*node);
                    continue;
                }
                Step::Names(names) => (names[0].0, About::Names),
                Step::Bytes { node, .. } | Step::Length { node, .. } => (*node, About::Bytes),
            };
            if !all && !synced.contains(&node) {
                open.push((at, about));
            }
        }
        open.reverse();
        open
    }

    /// Whether a step is a sync: before one, the most is open.
    pub(super) fn is_sync(&self, at: usize) -> bool {
        matches!(self.steps.get(at), Some(Step::Sync(_) | Step::SyncAll))
    }

    /// The files of the store after a power cut behind so many steps, with what became of those that did not last.
    pub(super) fn image(&self, cut: usize, fates: &HashMap<usize, Fate>) -> Image {
        let mut nodes = self.nodes.clone();
        for (at, step) in self.steps[..cut].iter().enumerate() {
            let fate = fates.get(&at).copied().unwrap_or(Fate::Kept);
            if fate == Fate::Lost {
                continue;
            }
            match step {
                Step::Names(names) => {
                    for (directory, name, node) in names {
                        let Node::Directory(entries) = &mut nodes[*directory] else { unreachable!() };
                        match node {
                            Some(node) => drop(entries.insert(name.clone(), *node)),
                            None => drop(entries.remove(name)),
                        }
                    }
                }
                Step::Bytes { node, at, bytes } => {
                    let Node::File(content) = &mut nodes[*node] else { continue };
                    let len = match fate {
                        Fate::Torn(pieces) => bytes.len().min(pieces * 512),
                        _ => bytes.len(),
                    };
                    content.resize(content.len().max(at + len), 0);
                    match fate {
                        Fate::Zeros => content[*at..at + len].fill(0),
                        _ => content[*at..at + len].copy_from_slice(&bytes[..len]),
                    }
                }
                Step::Length { node, len } => {
                    let Node::File(content) = &mut nodes[*node] else { continue };
                    content.resize(*len, 0);
                }
                Step::Sync(_) | Step::SyncAll => {}
            }
        }
        Image { nodes }
    }
}

/// What a disk holds.
pub(super) struct Image {
    nodes: Vec<Node>,
}

impl Image {
    /// The same for equal images.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.visit(ROOT, Path::new(""), &mut |path, node| {
            hasher.update(path.as_os_str().as_encoded_bytes()).update(&[0]);
            if let Node::File(bytes) = node {
                hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
            }
        });
        *hasher.finalize().as_bytes()
    }

    /// Writes it to a directory that is not there yet.
    pub(super) fn write(&self, store: &Path) {
        use std::os::unix::fs::DirBuilderExt;
        let mut names: HashMap<*const Node, PathBuf> = HashMap::new();
        let directory = |path: &Path| std::fs::DirBuilder::new().mode(0o700).create(path).unwrap();
        directory(store);
        self.visit(ROOT, store, &mut |path, node| {
            if let Some(other) = names.get(&std::ptr::from_ref(node)) {
                std::fs::hard_link(other, path).unwrap();
                return;
            }
            match node {
                Node::Directory(_) => directory(path),
                Node::Symlink(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                Node::File(bytes) => {
                    std::fs::write(path, bytes).unwrap();
                    // A machine takes longer to start than a lock file takes to be stale.
                    let file = std::fs::File::options().write(true).open(path).unwrap();
                    file.set_modified(SystemTime::now() - 2 * STALE_LOCK_AGE).unwrap();
                    names.insert(node, path.to_owned());
                }
            }
        });
    }

    fn visit(&self, directory: NodeId, path: &Path, seen: &mut dyn FnMut(&Path, &Node)) {
        let Node::Directory(entries) = &self.nodes[directory] else { unreachable!() };
        for (name, node) in entries {
            let path = path.join(name);
            // SQLite makes its shared memory anew.
            if name == "index.db-shm" {
                continue;
            }
            seen(&path, &self.nodes[*node]);
            if matches!(self.nodes[*node], Node::Directory(_)) && !(directory == ROOT && name == "layers") {
                self.visit(*node, &path, seen);
            }
        }
    }
}

fn read(path: &Path) -> Node {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() {
        Node::Directory(BTreeMap::new())
    } else if metadata.is_symlink() {
        Node::Symlink(std::fs::read_link(path).unwrap())
    } else if metadata.is_file() {
        Node::File(std::fs::read(path).unwrap())
    } else {
        Node::File(Vec::new())
    }
}
