//! What is in a layer's directory, for who compares it with a tree.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::entry::LayerError;
use super::inode::{Dir, is_whiteout, kind_of, read_attributes, read_meta};
use crate::disk::DiskError;
use crate::object::{BlobHasher, BlobId, Meta};

/// The attribute that names the file whose bytes overlayfs shows instead.
const REDIRECT: &[u8] = b"user.overlay.redirect";

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// One entry of a layer as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Path below the layer's root, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// Its attributes.
    pub meta: Meta,
    /// What it is.
    pub node: SeenNode,
}

/// What an entry of a layer is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeenNode {
    /// A directory.
    Directory {
        /// Whether it hides lower layers.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// How many bytes.
        size: u64,
        /// Its inode.
        inode: u64,
        /// Whose bytes are shown instead: a path below `objects/`, with a slash before it.
        redirect: Option<Vec<u8>>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name, or what stands for a device.
    Socket,
    /// A device.
    Device,
    /// A name that lower layers have and this one hides.
    Whiteout,
}

/// Gives every entry of a layer, parents first, names in order. Reads no file.
pub fn look(layer: &Path, emit: &mut dyn FnMut(Seen)) -> Result<(), LayerError> {
    walk(&Dir::open(layer)?, &mut Vec::new(), emit)
}

fn walk(dir: &Dir, path: &mut Vec<u8>, emit: &mut dyn FnMut(Seen)) -> Result<(), LayerError> {
    let (meta, opaque) = read_meta(dir, b"", &dir.stat(b"")?)?;
    emit(Seen { path: path.clone(), meta, node: SeenNode::Directory { opaque } });
    for name in dir.names()? {
        let len = path.len();
        if len > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let stat = dir.stat(&name)?;
        let kind = kind_of(&stat);
        if kind == FileType::Directory {
            walk(&dir.open_child(&name)?, path, emit)?;
        } else {
            let node = match kind {
                FileType::RegularFile => SeenNode::File {
                    size: u64::try_from(stat.st_size).unwrap_or(0),
                    inode: stat.st_ino,
                    redirect: read_attributes(dir, &name, kind)?
                        .into_iter()
                        .find_map(|(key, value)| (key == REDIRECT).then_some(value)),
                },
                FileType::Symlink => SeenNode::Symlink { target: dir.read_link(&name)? },
                FileType::Fifo => SeenNode::Fifo,
                FileType::Socket => SeenNode::Socket,
                _ if is_whiteout(&stat) => SeenNode::Whiteout,
                _ => SeenNode::Device,
            };
            let (meta, _) = read_meta(dir, &name, &stat)?;
            emit(Seen { path: path.clone(), meta, node });
        }
        path.truncate(len);
    }
    Ok(())
}

/// Hashes a file of a layer.
pub fn hash_below(layer: &Path, path: &[u8]) -> Result<BlobId, LayerError> {
    let mut dir = Dir::open(layer)?;
    let mut names = path.split(|byte| *byte == b'/').peekable();
    let name = loop {
        let name = names.next().expect("splitting gives at least one name");
        if names.peek().is_none() {
            break name;
        }
        dir = dir.open_child(name)?;
    };
    let mut file = dir.open_file(name)?;
    Ok(hash_file(&mut file).map_err(|error| DiskError::new("read", dir.join(name), error))?)
}

/// Hashes a file from where it stands.
pub(super) fn hash_file(file: &mut File) -> std::io::Result<BlobId> {
    let mut hasher = BlobHasher::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        };
    }
}
