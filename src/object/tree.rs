//! One directory, and by its root entry a whole file system.

use super::codec::{DecodeError, Reader, Writer};
use super::id::{BlobId, LinkGroup, TreeId};
use super::meta::Meta;
use super::name::Name;

const MAGIC: &[u8; 8] = b"tbtree\0\x01";
const ROOT_NAME: &[u8] = b"/";

/// The most entries that one directory may have.
pub const MAX_ENTRIES: usize = 16_000_000;
/// The longest symlink target, in bytes (Linux `PATH_MAX` less the NUL).
pub const MAX_SYMLINK_TARGET_BYTES: usize = 4095;
/// How many directories deep a tree may go.
pub const MAX_DEPTH: usize = 1024;

/// What a directory entry is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A regular file.
    File {
        /// Its bytes.
        blob: BlobId,
        /// How many bytes.
        size: u64,
        /// The other paths that are the same file, when there are any.
        link: Option<LinkGroup>,
    },
    /// A directory.
    Directory {
        /// Its entries.
        tree: TreeId,
        /// What lies below it.
        below: Summary,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// The kind of a directory entry, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

impl Kind {
    /// The word used in text and JSON: file, directory, symlink, fifo, socket, char or block.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Char => "char",
            Self::Block => "block",
        }
    }
}

impl Node {
    /// The kind of this node.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::File { .. } => Kind::File,
            Self::Directory { .. } => Kind::Directory,
            Self::Symlink { .. } => Kind::Symlink,
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::Char { .. } => Kind::Char,
            Self::Block { .. } => Kind::Block,
        }
    }
}

/// What lies below a directory, so that sizes are known without reading every tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Summary {
    /// Entries of every kind, at any depth.
    pub entries: u64,
    /// Sizes of regular files in bytes, each path of a hard-linked file counted.
    pub bytes: u64,
    /// Entries that belong to a hard-link group; 0 lets a walk for links pass by.
    pub links: u64,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Mode, owner, time, extended attributes.
    pub meta: Meta,
    /// What it is.
    pub node: Node,
}

/// The entries of one directory, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tree {
    entries: Vec<(Name, Entry)>,
}

/// Why bytes or entries are not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The bytes are damaged.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A directory has more entries than [`MAX_ENTRIES`].
    #[error("a directory with more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// Sizes below a directory do not fit 64 bits.
    #[error("the sizes below a directory add up to more than 64 bits")]
    SizeOverflow,
}

/// A failure to read or write a stored tree, as the source reports it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Where stored trees are read.
pub trait TreeSource {
    /// The tree of that name, verified.
    fn tree(&self, id: &TreeId) -> Result<Tree, SourceError>;
}

/// Where new trees are written.
pub trait TreeSink {
    /// Keeps a tree's canonical bytes; the name is their hash.
    fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError>;
}

impl Tree {
    /// A tree of entries given in strictly ascending order of their names.
    ///
    /// # Panics
    /// When the order is wrong: sorted maps are the only callers' source.
    pub fn from_sorted(entries: Vec<(Name, Entry)>) -> Self {
        assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "tree entries come from a sorted map");
        Self { entries }
    }

    /// The entries by name.
    pub fn entries(&self) -> &[(Name, Entry)] {
        &self.entries
    }

    /// The entries, taken out.
    pub fn into_entries(self) -> Vec<(Name, Entry)> {
        self.entries
    }

    /// The entry of that name.
    pub fn get(&self, name: &Name) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|(have, _)| have.cmp(name)).ok()?;
        Some(&self.entries[at].1)
    }

    /// What lies in and below this directory.
    pub fn summary(&self) -> Result<Summary, TreeError> {
        let mut sum = Summary::default();
        for (_, entry) in &self.entries {
            let (entries, bytes, links) = match &entry.node {
                Node::File { size, link, .. } => (0, *size, u64::from(link.is_some())),
                Node::Directory { below, .. } => (below.entries, below.bytes, below.links),
                _ => (0, 0, 0),
            };
            sum.entries = sum.entries.checked_add(entries + 1).ok_or(TreeError::SizeOverflow)?;
            sum.bytes = sum.bytes.checked_add(bytes).ok_or(TreeError::SizeOverflow)?;
            sum.links = sum.links.checked_add(links).ok_or(TreeError::SizeOverflow)?;
        }
        Ok(sum)
    }

    /// The canonical bytes of a directory and their name.
    pub fn encode(&self) -> Result<(TreeId, Vec<u8>), TreeError> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(TreeError::TooManyEntries);
        }
        let mut out = Writer::new(MAGIC);
        out.count32(self.entries.len());
        for (name, entry) in &self.entries {
            encode_entry(&mut out, name.as_bytes(), entry);
        }
        Ok(named(out))
    }

    /// The canonical bytes of a root: one entry named `/`, the root directory with its own attributes.
    pub fn encode_root(root: &Entry) -> (TreeId, Vec<u8>) {
        let mut out = Writer::new(MAGIC);
        out.count32(1);
        encode_entry(&mut out, ROOT_NAME, root);
        named(out)
    }

    /// Reads a directory's canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut input = Reader::new("tree", MAGIC, bytes)?;
        let count = input.count32(MIN_ENTRY_BYTES)?;
        if count > MAX_ENTRIES {
            return Err(TreeError::TooManyEntries);
        }
        let mut entries: Vec<(Name, Entry)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, entry) = decode_entry(&mut input)?;
            let name = Name::new(name).map_err(|_| input.error("an impossible file name"))?;
            if entries.last().is_some_and(|(before, _)| *before >= name) {
                return Err(input.error("entries out of order").into());
            }
            entries.push((name, entry));
        }
        input.end()?;
        Ok(Self { entries })
    }

    /// Reads a root's canonical bytes: the root directory's entry.
    pub fn decode_root(bytes: &[u8]) -> Result<Entry, TreeError> {
        let mut input = Reader::new("root tree", MAGIC, bytes)?;
        if input.u32()? != 1 {
            return Err(input.error("a root tree has one entry").into());
        }
        let (name, entry) = decode_entry(&mut input)?;
        if name != ROOT_NAME || entry.node.kind() != Kind::Directory {
            return Err(input.error("a root tree's entry is the directory `/`").into());
        }
        input.end()?;
        Ok(entry)
    }
}

/// The least bytes an entry takes: a name of one byte and a FIFO's attributes.
const MIN_ENTRY_BYTES: usize = 1 + 1 + 1 + 2 + 4 + 4 + 12 + 2;

fn named(out: Writer) -> (TreeId, Vec<u8>) {
    let bytes = out.finish();
    (TreeId::from_bytes(*blake3::hash(&bytes).as_bytes()), bytes)
}

const KIND_FILE: u8 = 1;
const KIND_DIRECTORY: u8 = 2;
const KIND_SYMLINK: u8 = 3;
const KIND_FIFO: u8 = 4;
const KIND_SOCKET: u8 = 5;
const KIND_CHAR: u8 = 6;
const KIND_BLOCK: u8 = 7;

fn encode_entry(out: &mut Writer, name: &[u8], entry: &Entry) {
    out.u8(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
    out.raw(name);
    let kind = match &entry.node {
        Node::File { .. } => KIND_FILE,
        Node::Directory { .. } => KIND_DIRECTORY,
        Node::Symlink { .. } => KIND_SYMLINK,
        Node::Fifo => KIND_FIFO,
        Node::Socket => KIND_SOCKET,
        Node::Char { .. } => KIND_CHAR,
        Node::Block { .. } => KIND_BLOCK,
    };
    out.u8(kind);
    entry.meta.encode(out);
    match &entry.node {
        Node::File { blob, size, link } => {
            out.u64(*size);
            out.raw(blob.as_bytes());
            out.option(link.as_ref(), |out, link| out.raw(link.as_bytes()));
        }
        Node::Directory { tree, below } => {
            out.raw(tree.as_bytes());
            out.u64(below.entries);
            out.u64(below.bytes);
            out.u64(below.links);
        }
        Node::Symlink { target } => out.bytes16(target),
        Node::Fifo | Node::Socket => {}
        Node::Char { major, minor } | Node::Block { major, minor } => {
            out.u32(*major);
            out.u32(*minor);
        }
    }
}

fn decode_entry<'b>(input: &mut Reader<'b>) -> Result<(&'b [u8], Entry), DecodeError> {
    let name_len = input.u8()?;
    let name = input.take(usize::from(name_len))?;
    let kind = input.u8()?;
    let meta = Meta::decode(input)?;
    let node = match kind {
        KIND_FILE => Node::File {
            size: input.u64()?,
            blob: BlobId::from_bytes(input.array()?),
            link: input.option(|input| input.array().map(LinkGroup::from_bytes))?,
        },
        KIND_DIRECTORY => Node::Directory {
            tree: TreeId::from_bytes(input.array()?),
            below: Summary { entries: input.u64()?, bytes: input.u64()?, links: input.u64()? },
        },
        KIND_SYMLINK => {
            let target = input.bytes16()?;
            if target.is_empty() || target.len() > MAX_SYMLINK_TARGET_BYTES || target.contains(&0) {
                return Err(input.error("an impossible symlink target"));
            }
            Node::Symlink { target: target.to_vec() }
        }
        KIND_FIFO => Node::Fifo,
        KIND_SOCKET => Node::Socket,
        KIND_CHAR => Node::Char { major: input.u32()?, minor: input.u32()? },
        KIND_BLOCK => Node::Block { major: input.u32()?, minor: input.u32()? },
        _ => return Err(input.error("an unknown kind of entry")),
    };
    Ok((name, Entry { meta, node }))
}
