//! A tar archive without the bytes of its files: what an uncompressed layer is kept as.
//!
//! The bytes of the files are blobs already. Everything else, down to the padding, is written here, so the archive can be put together
//! again bit by bit and has its old digest.
//!
//! # Compatibility
//! The magic, then one zstd frame of records; `store-format.md` describes them.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use crate::disk::{DiskError, create_new};
use crate::object::BlobId;
use crate::store::Store;

const MAGIC: &[u8; 8] = b"tbskel\0\x01";
const END: u8 = 0;
const LITERAL: u8 = 1;
const BLOB: u8 = 2;
/// The longest literal of one record; a longer run takes several.
const LITERAL_BYTES: usize = 64 * 1024;
/// Headers are mostly zeros: the fastest level takes nearly all that there is to gain.
const LEVEL: i32 = 1;

/// Writes a skeleton while its archive is being read.
pub(super) struct SkeletonWriter {
    out: zstd::Encoder<'static, File>,
    literal: Vec<u8>,
}

impl SkeletonWriter {
    pub(super) fn create(path: &Path) -> Result<Self, DiskError> {
        let mut file = create_new(path)?;
        let started = file.write_all(MAGIC).and_then(|()| zstd::Encoder::new(file, LEVEL));
        let out = started.map_err(|error| DiskError::new("write to", path, error))?;
        Ok(Self { out, literal: Vec::new() })
    }

    /// Bytes that stand in the archive as they are.
    pub(super) fn literal(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = LITERAL_BYTES - self.literal.len();
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.literal.extend_from_slice(now);
            if self.literal.len() == LITERAL_BYTES {
                self.flush_literal()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// A file's bytes, all of them.
    pub(super) fn blob(&mut self, id: &BlobId, size: u64) -> io::Result<()> {
        self.flush_literal()?;
        self.out.write_all(&[BLOB])?;
        self.out.write_all(id.as_bytes())?;
        self.out.write_all(&size.to_le_bytes())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush_literal()?;
        self.out.write_all(&[END])?;
        self.out.finish().map(drop)
    }

    fn flush_literal(&mut self) -> io::Result<()> {
        if self.literal.is_empty() {
            return Ok(());
        }
        let len = u32::try_from(self.literal.len()).expect("a literal is bounded");
        self.out.write_all(&[LITERAL])?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&self.literal)?;
        self.literal.clear();
        Ok(())
    }
}

/// Puts an archive together again. The caller checks its digest: nothing else here says that it is the same.
pub(super) fn assemble(skeleton: impl BufRead, store: &Store, mut out: impl Write) -> io::Result<()> {
    let mut file = skeleton;
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged("it has an unknown magic"));
    }
    let mut records = zstd::Decoder::with_buffer(file)?;
    let mut literal = Vec::new();
    loop {
        match array::<1>(&mut records)?[0] {
            END => return Ok(()),
            LITERAL => {
                let len = u32::from_le_bytes(array(&mut records)?) as usize;
                if len > LITERAL_BYTES {
                    return Err(damaged("a literal is too long"));
                }
                literal.resize(len, 0);
                records.read_exact(&mut literal)?;
                out.write_all(&literal)?;
            }
            BLOB => {
                let id = BlobId::from_bytes(array(&mut records)?);
                let size = u64::from_le_bytes(array(&mut records)?);
                let mut blob = store.open_blob(&id).map_err(io::Error::other)?;
                if io::copy(&mut blob, &mut out)? != size {
                    return Err(damaged("a file has another size than its blob"));
                }
            }
            _ => return Err(damaged("a record is of an unknown kind")),
        }
    }
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the layer's skeleton is damaged: {reason}"))
}
