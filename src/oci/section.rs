//! A run of bytes in a file: a whole file, or one member of an archive.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decompress::Format;
use super::digest::{Algorithm, Digest, Hasher};
use super::error::LayerError;
use super::tarball::{Input, read_buffered};
use crate::disk::{DiskError, create_new};

const BUFFER_BYTES: usize = 128 * 1024;

/// Where some bytes lie.
#[derive(Debug, Clone)]
pub(super) struct Section {
    file: Arc<File>,
    offset: u64,
    /// `None` for a pipe, which is read to its end.
    len: Option<u64>,
}

impl Section {
    /// All of a file, which may be a pipe.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let file = File::open(path).map_err(|error| DiskError::new("open", path, error))?;
        Self::of(file).map_err(|error| DiskError::new("read", path, error))
    }

    /// All of an open file, which may be a pipe.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let len = meta.is_file().then_some(meta.len());
        Ok(Self { file: Arc::new(file), offset: 0, len })
    }

    /// A part of this section.
    pub(super) fn part(&self, offset: u64, len: u64) -> Self {
        Self { file: Arc::clone(&self.file), offset: self.offset + offset, len: Some(len) }
    }

    /// How many bytes it has; `None` for a pipe.
    pub(super) const fn len(&self) -> Option<u64> {
        self.len
    }

    /// Reads it from its start.
    pub(super) fn reader(&self) -> SectionReader {
        SectionReader { section: self.clone(), at: 0, buffer: Vec::new(), used: 0, hasher: None, copy: None }
    }

    /// All its bytes; the caller has looked at the length.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A file that takes a copy of what goes by.
#[derive(Debug)]
pub(super) struct Copy {
    file: File,
    path: PathBuf,
}

impl Copy {
    pub(super) fn create(path: PathBuf) -> Result<Self, DiskError> {
        Ok(Self { file: create_new(&path)?, path })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The reader of what is copied would be blamed otherwise.
        let failed =
            |error| io::Error::other(LayerError::Store(DiskError::new("write to", &self.path, error).into()));
        self.file.write_all(bytes).map_err(failed)
    }
}

/// Reads a [`Section`], hashing what goes by when asked to.
pub(super) struct SectionReader {
    section: Section,
    /// Where the next read from the file goes, counted from the section's start.
    at: u64,
    buffer: Vec<u8>,
    used: usize,
    hasher: Option<Hasher>,
    /// Takes a copy of what is read.
    copy: Option<Copy>,
}

impl SectionReader {
    pub(super) fn hashed(mut self, algorithm: Algorithm) -> Self {
        self.hasher = Some(Hasher::new(algorithm));
        self
    }

    /// Has everything that is read written to a file as well.
    pub(super) fn copied(mut self, to: Option<Copy>) -> Self {
        self.copy = to;
        self
    }

    /// The digest of all bytes read, and their number.
    pub(super) fn finish(self) -> (Option<Digest>, u64) {
        (self.hasher.map(Hasher::finish), self.at)
    }

    /// How many bytes were taken from the file.
    pub(super) const fn taken(&self) -> u64 {
        self.at
    }

    fn read_file(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.section.len {
            Some(len) => {
                let want = buffer.len().min(usize::try_from(len - self.at).unwrap_or(usize::MAX));
                let count = loop {
                    match self.section.file.read_at(&mut buffer[..want], self.section.offset + self.at) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        other => break other?,
                    }
                };
                if count == 0 && want > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                count
            }
            None => (&*self.section.file).read(buffer)?,
        };
        self.at += count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        if let Some(copy) = &mut self.copy {
            copy.write(&buffer[..count])?;
        }
        Ok(count)
    }
}

impl Read for SectionReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() && to.len() >= BUFFER_BYTES {
            return self.read_file(to);
        }
        read_buffered(self, to)
    }
}

impl BufRead for SectionReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(BUFFER_BYTES, 0);
            let mut count = self.read_file(&mut buffer)?;
            // A pipe gives what it has; the first bytes have to be enough to tell the compression.
            while count > 0 && self.at < Format::SNIFF_BYTES as u64 {
                match self.read_file(&mut buffer[count..])? {
                    0 => break,
                    more => count += more,
                }
            }
            buffer.truncate(count);
            (self.buffer, self.used) = (buffer, 0);
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }
}

impl Input for SectionReader {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let buffered = (self.buffer.len() - self.used) as u64;
        if count <= buffered {
            self.used += usize::try_from(count).unwrap_or(usize::MAX);
            return Ok(count);
        }
        let (Some(len), None, None) = (self.section.len, &self.hasher, &self.copy) else {
            return skip_by_reading(self, count);
        };
        self.used = self.buffer.len();
        let beyond = (count - buffered).min(len - self.at);
        self.at += beyond;
        Ok(buffered + beyond)
    }
}

fn skip_by_reading(input: &mut SectionReader, count: u64) -> io::Result<u64> {
    let mut left = count;
    while left > 0 {
        let have = input.fill_buf()?.len();
        if have == 0 {
            break;
        }
        let step = have.min(usize::try_from(left).unwrap_or(usize::MAX));
        input.consume(step);
        left -= step as u64;
    }
    Ok(count - left)
}
