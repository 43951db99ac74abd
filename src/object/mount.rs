//! What a command's mounts add to the key of its run.

use super::codec::{DecodeError, Reader, Writer};
use super::id::{BlobId, TreeId};

/// One mount of a command: where, and what of it a result may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MountSpec {
    /// Where it is seen, as an absolute path's bytes.
    pub path: Vec<u8>,
    /// What of it counts.
    pub content: MountContent,
}

/// What of a mount counts in the run key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MountContent {
    /// A read-only directory of the host: a root tree in which every time and owner is 0 and no extended attribute or hard link counts.
    Directory(TreeId),
    /// A read-only file of the host.
    File {
        /// Permission bits.
        mode: u16,
        /// Its bytes.
        blob: BlobId,
    },
    /// A socket or FIFO of the host: that it is there.
    Special,
    /// A file or directory of the host whose content does not count, because the command may change it.
    Host,
    /// An empty file system in memory.
    Tmpfs {
        /// Permission bits of its root directory.
        mode: u16,
    },
    /// A directory that is kept between runs; what is in it does not count.
    Cache,
    /// A secret file; its bytes never count.
    Secret {
        /// What the caller calls its version, if a new one is to give a new key.
        version: Option<String>,
    },
}

impl MountContent {
    /// The word for it that `--mount` has: bind, tmpfs, cache or secret.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Directory(_) | Self::File { .. } | Self::Special | Self::Host => "bind",
            Self::Tmpfs { .. } => "tmpfs",
            Self::Cache => "cache",
            Self::Secret { .. } => "secret",
        }
    }
}

impl MountSpec {
    /// The fewest bytes an encoded one has: path length and kind.
    pub(super) const MIN_BYTES: usize = 5;

    pub(super) fn encode(&self, out: &mut Writer) {
        out.bytes32(&self.path);
        match &self.content {
            MountContent::Directory(tree) => {
                out.u8(1);
                out.raw(tree.as_bytes());
            }
            MountContent::File { mode, blob } => {
                out.u8(2);
                out.u16(*mode);
                out.raw(blob.as_bytes());
            }
            MountContent::Special => out.u8(3),
            MountContent::Host => out.u8(4),
            MountContent::Tmpfs { mode } => {
                out.u8(5);
                out.u16(*mode);
            }
            MountContent::Cache => out.u8(6),
            MountContent::Secret { version } => {
                out.u8(7);
                out.option(version.as_ref(), |out, version| out.bytes32(version.as_bytes()));
            }
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let path = input.bytes32()?.to_vec();
        let content = match input.u8()? {
            1 => MountContent::Directory(TreeId::from_bytes(input.array()?)),
            2 => MountContent::File { mode: input.u16()?, blob: BlobId::from_bytes(input.array()?) },
            3 => MountContent::Special,
            4 => MountContent::Host,
            5 => MountContent::Tmpfs { mode: input.u16()? },
            6 => MountContent::Cache,
            7 => MountContent::Secret { version: input.option(Reader::text)? },
            _ => return Err(input.error("an unknown kind of mount")),
        };
        Ok(Self { path, content })
    }
}
