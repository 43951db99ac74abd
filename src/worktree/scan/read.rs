//! The bytes of one file, as they go into the store.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::inode::Inode;
use super::{ScanError, ScanErrorContext};
use crate::object::{BlobId, Meta};
use crate::store::{Batch, BlobWriter};

/// Files up to this size are read whole; larger ones pass through a buffer of this size.
const BUFFER_BYTES: usize = 1024 * 1024;
/// How often a file is read when it changes meanwhile.
const ATTEMPTS: u32 = 2;

/// A file whose bytes are in the batch.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Its bytes.
    pub blob: BlobId,
    /// How many bytes.
    pub size: u64,
    /// Its attributes when the bytes were read.
    pub meta: Meta,
}

/// Reads files into a batch, one after the other, with one buffer.
#[derive(Debug)]
pub struct FileReader<'b, 's> {
    batch: &'b Batch<'s>,
    buffer: Vec<u8>,
}

enum Bytes {
    /// The first so many bytes of the buffer.
    Whole(usize),
    Stream(Box<BlobWriter>),
}

impl<'b, 's> FileReader<'b, 's> {
    /// A reader with its own buffer.
    pub fn new(batch: &'b Batch<'s>) -> Self {
        Self { batch, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Reads an open regular file from its beginning; `path` is for messages.
    ///
    /// `meta` makes the entry's attributes from what the file has on disk. A file that changes while it is read is read once more; if
    /// it changes again, that is an error. A file of `/proc` whose size is no size is taken as it reads.
    pub fn store(
        &mut self,
        file: &mut File,
        path: &Path,
        meta: impl Fn(&Inode) -> Meta,
    ) -> Result<StoredFile, ScanError> {
        for _ in 0..ATTEMPTS {
            file.rewind().context("read", path)?;
            let before = Inode::of_open(&*file).context("look at", path)?;
            let bytes = self.read(file, path)?;
            let after = Inode::of_open(&*file).context("look at", path)?;
            if !before.same_bytes(&after) {
                continue;
            }
            let meta = meta(&before);
            let (blob, size) = match bytes {
                Bytes::Whole(len) => (self.batch.put_blob(&self.buffer[..len], Some(&meta))?, len as u64),
                Bytes::Stream(writer) => self.batch.put_stream(*writer, Some(&meta))?,
            };
            return Ok(StoredFile { blob, size, meta });
        }
        Err(ScanError::Changed { path: path.to_owned() })
    }

    fn read(&mut self, file: &mut File, path: &Path) -> Result<Bytes, ScanError> {
        let len = fill(file, &mut self.buffer).context("read", path)?;
        if len < self.buffer.len() {
            return Ok(Bytes::Whole(len));
        }
        let mut writer = self.batch.blob_writer()?;
        let mut filled = len;
        while filled > 0 {
            writer.write_all(&self.buffer[..filled]).context("copy into the store", path)?;
            filled = fill(file, &mut self.buffer).context("read", path)?;
        }
        Ok(Bytes::Stream(Box::new(writer)))
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
