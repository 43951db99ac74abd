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

/// An archive could not be put together.
#[derive(Debug)]
pub(super) enum AssembleError {
    /// The skeleton is no skeleton, or not all of one.
    Damaged,
    /// A blob could not be read, the skeleton's file failed, or the output took nothing more.
    Io(io::Error),
}

impl From<io::Error> for AssembleError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Puts an archive together again. The caller checks its digest: nothing else here says that it is the same.
pub(super) fn assemble(skeleton: impl BufRead, store: &Store, out: impl Write) -> Result<(), AssembleError> {
    put_together(skeleton, |id| store.open_blob(id).map_err(io::Error::other), out)
}

/// What a fuzz target does with a skeleton: puts it together where every blob has no bytes, up to a length.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(skeleton: &[u8]) {
    struct Short(usize);
    impl Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(bytes.len() <= LITERAL_BYTES, "a literal is bounded");
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let _ = put_together(skeleton, |_| Ok(io::empty()), Short(1 << 20));
}

fn put_together<B: Read>(
    mut skeleton: impl BufRead,
    open_blob: impl Fn(&BlobId) -> io::Result<B>,
    mut out: impl Write,
) -> Result<(), AssembleError> {
    if array(&mut skeleton)? != *MAGIC {
        return Err(AssembleError::Damaged);
    }
    let mut records = zstd::Decoder::with_buffer(skeleton)?;
    let mut literal = Vec::new();
    loop {
        match array::<1>(&mut records)?[0] {
            END => return Ok(()),
            LITERAL => {
                let len = u32::from_le_bytes(array(&mut records)?) as usize;
                if len > LITERAL_BYTES {
                    return Err(AssembleError::Damaged);
                }
                literal.resize(len, 0);
                fill(&mut records, &mut literal)?;
                out.write_all(&literal)?;
            }
            BLOB => {
                let id = BlobId::from_bytes(array(&mut records)?);
                let size = u64::from_le_bytes(array(&mut records)?);
                let mut blob = open_blob(&id)?;
                if io::copy(&mut blob, &mut out)? != size {
                    return Err(AssembleError::Damaged);
                }
            }
            _ => return Err(AssembleError::Damaged),
        }
    }
}

/// The blobs that a skeleton names.
pub(super) fn blobs_of(path: &Path) -> Result<Vec<BlobId>, AssembleError> {
    let mut skeleton = io::BufReader::new(File::open(path)?);
    if array(&mut skeleton)? != *MAGIC {
        return Err(AssembleError::Damaged);
    }
    let mut records = zstd::Decoder::with_buffer(skeleton)?;
    let mut blobs = Vec::new();
    loop {
        match array::<1>(&mut records)?[0] {
            END => return Ok(blobs),
            LITERAL => {
                let len = u64::from(u32::from_le_bytes(array(&mut records)?));
                io::copy(&mut Read::by_ref(&mut records).take(len), &mut io::sink())?;
            }
            BLOB => {
                blobs.push(BlobId::from_bytes(array(&mut records)?));
                array::<8>(&mut records)?;
            }
            _ => return Err(AssembleError::Damaged),
        }
    }
}

fn array<const N: usize>(skeleton: &mut impl Read) -> Result<[u8; N], AssembleError> {
    let mut bytes = [0; N];
    fill(skeleton, &mut bytes)?;
    Ok(bytes)
}

/// What the system has to say about the file is no damage of it; an early end and what zstd says are.
fn fill(skeleton: &mut impl Read, bytes: &mut [u8]) -> Result<(), AssembleError> {
    skeleton.read_exact(bytes).map_err(|error| match error.raw_os_error() {
        Some(_) => AssembleError::Io(error),
        None => AssembleError::Damaged,
    })
}
