//! One entry of a layer, as it travels between the engine and the worker.

use std::path::PathBuf;

use crate::disk::DiskError;
use crate::object::{BlobId, Entry, LinkGroup, Meta, Node};
use serde::{Deserialize, Serialize};

/// One entry of a layer; parents come before what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEntry {
    /// Path below the layer's root, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// Attributes as in the tree; of a whiteout they do not matter.
    pub meta: Meta,
    /// What it is.
    pub node: LayerNode,
}

impl LayerEntry {
    /// The entry of a tree at a path; of a directory without what is in it.
    pub fn of(path: Vec<u8>, entry: &Entry) -> Self {
        let node = match &entry.node {
            Node::Directory { .. } => LayerNode::Directory { opaque: false },
            Node::File { blob, size, link } => LayerNode::File { blob: *blob, size: *size, link: *link },
            Node::Symlink { target } => LayerNode::Symlink { target: target.clone() },
            Node::Fifo => LayerNode::Fifo,
            Node::Socket => LayerNode::Socket,
            Node::Char { major, minor } => LayerNode::Device { char: true, major: *major, minor: *minor },
            Node::Block { major, minor } => LayerNode::Device { char: false, major: *major, minor: *minor },
        };
        Self { path, meta: entry.meta.clone(), node }
    }
}

/// What a layer's entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerNode {
    /// A directory; an opaque one hides what lower layers have in it.
    Directory {
        /// Whether it hides lower layers.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Its bytes.
        blob: BlobId,
        /// How many.
        size: u64,
        /// The paths of one group are one file.
        link: Option<LinkGroup>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A device, which only real root can make.
    Device {
        /// Whether it is one of characters, not of blocks.
        char: bool,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A name that lower layers have and this one hides.
    Whiteout,
}

/// Making, reading or joining layers failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A file verb failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A blob that the layer needs is not in the store.
    #[error("blob {blob} of /{} is missing", path.escape_ascii())]
    MissingBlob {
        /// The blob.
        blob: BlobId,
        /// The path that needs it.
        path: Vec<u8>,
    },
    /// A blob has other bytes, or another number of them, than the tree says.
    #[error("blob {blob} of /{} is damaged: its bytes are others than the tree says", path.escape_ascii())]
    DamagedBlob {
        /// The blob.
        blob: BlobId,
        /// The path that needs it.
        path: Vec<u8>,
    },
    /// An entry does not follow its parent directory.
    #[error("layer entry /{} does not come after its parent directory", .0.escape_ascii())]
    Order(Vec<u8>),
    /// A file changed while it was read, which nothing should do once the run is over.
    #[error("{} changed while it was captured", .0.display())]
    Changed(PathBuf),
}

impl LayerError {
    /// Whether the text of an error is about a blob that is missing or damaged: the worker's errors arrive as texts.
    pub fn is_of_a_blob(text: &str) -> bool {
        text.starts_with("blob ") && (text.ends_with(" is missing") || text.contains(" is damaged: "))
    }
}
