//! A tree in treebox against a root file system that another tool unpacked, entry by entry.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use treebox::blocking::{Engine, State};
use treebox::object::{BlobId, Node};
use treebox::{Listed, TreePath};

use super::tools::is_root;

/// How many differences are told.
const SHOWN: usize = 40;

/// What one path is, all of it, as lines of text.
type Facts = BTreeMap<Vec<u8>, String>;

/// What an unpacker can do that works without privileges: no owners, no devices, no attributes outside of `user.`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Exactness {
    Whole,
    Unprivileged,
}

impl Exactness {
    pub(super) fn of_this_user() -> Self {
        if is_root() {
            return Self::Whole;
        }
        eprintln!(
            "NOT COMPARED: owners, devices, capabilities with umoci's, which only root can have it make"
        );
        Self::Unprivileged
    }
}

/// Panics with the differences if there are any. `root` is a root file system.
pub(super) fn assert_same(engine: &Engine, state: &State, root: &Path, exact: Exactness) {
    let listed = engine.list(state, &TreePath::root(), true).unwrap();
    let top = engine.entry(state, &TreePath::root()).unwrap();
    let (ours, theirs) = (in_treebox(engine, state, listed, top, exact), on_disk(root, exact));
    let mut differences: Vec<String> = Vec::new();
    let paths: std::collections::BTreeSet<&Vec<u8>> = ours.keys().chain(theirs.keys()).collect();
    for path in paths {
        let (ours, theirs) = (ours.get(path), theirs.get(path));
        if ours != theirs {
            let shown = |facts: Option<&String>| facts.map_or("not there".to_owned(), String::clone);
            let path = path.escape_ascii();
            differences.push(format!("{path}\n   treebox {}\n   umoci   {}", shown(ours), shown(theirs)));
        }
    }
    let count = differences.len();
    differences.truncate(SHOWN);
    assert!(count == 0, "{count} paths differ:\n{}", differences.join("\n"));
    assert!(!ours.is_empty());
}

fn in_treebox(engine: &Engine, state: &State, listed: Vec<Listed>, top: Listed, exact: Exactness) -> Facts {
    let mut groups = Groups::default();
    for one in &listed {
        if let Node::File { link: Some(link), .. } = &one.entry.node {
            groups.add(link.to_string(), &one.path.to_relative_bytes());
        }
    }
    let mut facts = Facts::new();
    for one in std::iter::once(top).chain(listed) {
        let (meta, path) = (&one.entry.meta, one.path.to_relative_bytes());
        let mut line = match &one.entry.node {
            Node::File { blob, size, link } => {
                let bytes = engine.read_file(state, &one.path).unwrap();
                assert_eq!(BlobId::of(&bytes), *blob, "{}", one.path);
                let first = link.as_ref().map_or_else(String::new, |link| groups.first(&link.to_string()));
                assert_eq!(one.links, link.as_ref().map_or(1, |link| groups.count(&link.to_string())));
                format!("file {size} bytes {blob}{first}")
            }
            Node::Directory { .. } => "directory".to_owned(),
            Node::Symlink { target } => format!("symlink {}", target.escape_ascii()),
            Node::Fifo => "fifo".to_owned(),
            Node::Socket => "socket".to_owned(),
            // In their place it puts empty files.
            Node::Char { .. } | Node::Block { .. } if exact == Exactness::Unprivileged => {
                format!("file 0 bytes {}", BlobId::of(b""))
            }
            Node::Char { major, minor } => format!("char {major}:{minor}"),
            Node::Block { major, minor } => format!("block {major}:{minor}"),
        };
        // A symlink has no mode of its own on Linux.
        let mode = if matches!(one.entry.node, Node::Symlink { .. }) { 0o777 } else { meta.mode };
        let time = (meta.mtime.seconds(), meta.mtime.nanoseconds());
        let xattrs = meta.xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone()));
        describe(&mut line, mode.into(), (meta.uid, meta.gid), time, xattrs.collect(), exact);
        facts.insert(path, line);
    }
    facts
}

fn on_disk(root: &Path, exact: Exactness) -> Facts {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    let mut groups = Groups::default();
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let below = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_file() && meta.nlink() > 1 {
            groups.add(meta.ino().to_string(), &below);
        }
        found.push((path, below, meta));
    }
    let mut facts = Facts::new();
    for (path, below, meta) in found {
        let kind = meta.file_type();
        let device = || (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let mut line = if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let first = if meta.nlink() > 1 { groups.first(&meta.ino().to_string()) } else { String::new() };
            format!("file {} bytes {}{first}", bytes.len(), BlobId::of(&bytes))
        } else if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("symlink {}", std::fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_socket() {
            "socket".to_owned()
        } else if kind.is_char_device() {
            format!("char {}:{}", device().0, device().1)
        } else {
            format!("block {}:{}", device().0, device().1)
        };
        let time = (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap());
        describe(&mut line, meta.mode() & 0o7777, (meta.uid(), meta.gid()), time, xattrs_of(&path), exact);
        facts.insert(below, line);
    }
    facts
}

fn describe(
    line: &mut String,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    exact: Exactness,
) {
    write!(line, " {mode:04o} {}.{:09}", time.0, time.1).unwrap();
    if exact == Exactness::Whole {
        write!(line, " {}:{}", owner.0, owner.1).unwrap();
    }
    for (name, value) in xattrs {
        let kept = exact == Exactness::Whole || name.starts_with(b"user.");
        // There umoci keeps the owners that it could not set.
        if kept && name != b"user.rootlesscontainers" {
            write!(line, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
        }
    }
}

fn xattrs_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        // Not every file system has them.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Hard links, by whatever names the file: who is the first, and how many there are.
#[derive(Default)]
struct Groups(BTreeMap<String, (Vec<u8>, u64)>);

impl Groups {
    fn add(&mut self, key: String, path: &[u8]) {
        let group = self.0.entry(key).or_insert_with(|| (path.to_vec(), 0));
        group.1 += 1;
        if path < group.0.as_slice() {
            group.0 = path.to_vec();
        }
    }

    fn count(&self, key: &str) -> u64 {
        self.0[key].1
    }

    fn first(&self, key: &str) -> String {
        let (first, count) = &self.0[key];
        format!(" one of {count} links with {}", first.escape_ascii())
    }
}
