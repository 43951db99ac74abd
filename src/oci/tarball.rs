//! Reading a tar archive as a stream: v7, ustar, GNU, pax, sparse files of every kind.
//!
//! Headers are read with `tar-core`'s field access; the walk over headers is our own, because `tar-core` 0.1 knows no
//! times before 1970, stops silently at a malformed pax record, and loses its place in a pax 1.0 sparse file with a `size` record.
//!
//! # Invariants
//! - A size given by pax always wins over the header's (CVE-2025-62518 and CVE-2026-33055 are the two ways to get this wrong).
//! - A damaged archive is an error, never a panic, and no allocation follows a number in it unchecked.

use std::io::BufRead;

use super::entry::TarEntry;
use super::error::LayerError;
use super::header::{BLOCK_BYTES, Block, Fields, Region};
use super::limits::{Limits, within};
use super::pax;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Where an archive's bytes come from.
pub(super) trait Input: BufRead {
    /// Passes over bytes; gives how many there were.
    fn skip(&mut self, count: u64) -> std::io::Result<u64> {
        let mut left = count;
        while left > 0 {
            let have = self.fill_buf()?.len();
            if have == 0 {
                break;
            }
            let step = have.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.consume(step);
            left -= step as u64;
        }
        Ok(count - left)
    }

    /// Says whether what is taken from now on is a file's bytes.
    fn body(&mut self, _begins: bool) {}
}

/// Reads what a buffered reader has at hand: the one way to be a reader for those that are buffered by themselves.
pub(super) fn read_buffered(input: &mut impl BufRead, to: &mut [u8]) -> std::io::Result<usize> {
    let have = input.fill_buf()?;
    let count = have.len().min(to.len());
    to[..count].copy_from_slice(&have[..count]);
    input.consume(count);
    Ok(count)
}

impl Input for &[u8] {}

impl<I: Input + ?Sized> Input for &mut I {
    fn skip(&mut self, count: u64) -> std::io::Result<u64> {
        (**self).skip(count)
    }

    fn body(&mut self, begins: bool) {
        (**self).body(begins);
    }
}

/// A tar archive being read.
pub(super) struct Tar<'l, R> {
    input: R,
    pub(super) limits: &'l Limits,
    pub(super) offset: u64,
    /// Bytes of the current body, and of its padding, that were not read yet.
    pub(super) body: u64,
    padding: u64,
    peeked: Option<Box<Block>>,
    /// The records of global headers that count.
    pub(super) globals: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extended headers that wait for their entry.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) pax: Option<Vec<u8>>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    bytes: u64,
}

impl<'l, R: Input> Tar<'l, R> {
    pub(super) fn new(input: R, limits: &'l Limits) -> Self {
        Self { input, limits, offset: 0, body: 0, padding: 0, peeked: None, globals: Vec::new() }
    }

    /// How many bytes of the archive were passed: right after [`Tar::next`] gave a file, where its bytes begin.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The input, which stands right behind what was read last.
    pub(super) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// The next entry; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<TarEntry>, LayerError> {
        let mut pending = Pending::default();
        loop {
            self.pass_body()?;
            let start = self.offset;
            let header_error = |reason| LayerError::Header { offset: start, reason };
            let block = match self.block()? {
                Some(block) if is_zero(&block) => match self.block()? {
                    Some(second) if !is_zero(&second) => {
                        return Err(header_error("a lone block of zeros stands between entries"));
                    }
                    _ => None,
                },
                other => other,
            };
            let Some(block) = block else {
                if pending.bytes > 0 {
                    return Err(header_error("an extended header has no entry"));
                }
                return Ok(None);
            };
            let fields = Fields::new(&block).ok_or_else(|| header_error("its check sum is wrong"))?;
            let size = fields.size().ok_or_else(|| header_error("its size is no number"))?;
            match fields.type_code() {
                b'x' | b'X' => pending.pax = Some(self.metadata(size, &mut pending.bytes)?),
                b'L' => pending.long_name = Some(without_nuls(self.metadata(size, &mut pending.bytes)?)),
                b'K' => pending.long_link = Some(without_nuls(self.metadata(size, &mut pending.bytes)?)),
                b'g' => {
                    let mut bytes = 0;
                    let data = self.metadata(size, &mut bytes)?;
                    self.take_globals(&data).map_err(header_error)?;
                }
                // A volume label names the archive, not a file.
                b'V' => self.set_body(size)?,
                _ => return self.entry(&fields, size, &pending).map(Some),
            }
        }
    }

    /// Gives the bytes of a file just returned by [`Tar::next`], holes as zeros, piece by piece.
    pub(super) fn copy_body(
        &mut self,
        size: u64,
        regions: Option<&[Region]>,
        mut sink: impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let Some(regions) = regions else {
            self.input.body(true);
            let copied = self.copy_data(size, &mut sink);
            self.input.body(false);
            return copied;
        };
        let mut at = 0;
        for region in regions {
            copy_zeros(region.offset - at, &mut sink)?;
            self.copy_data(region.len, &mut sink)?;
            at = region.offset + region.len;
        }
        copy_zeros(size - at, &mut sink)
    }

    fn copy_data(
        &mut self,
        count: u64,
        sink: &mut impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut left = count;
        while left > 0 {
            let have = self.input.fill_buf().map_err(from_io)?;
            if have.is_empty() {
                return Err(LayerError::Truncated { offset: self.offset });
            }
            let step = have.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&have[..step])?;
            self.input.consume(step);
            left -= step as u64;
            self.offset += step as u64;
            self.body = self.body.saturating_sub(step as u64);
        }
        Ok(())
    }

    fn take_globals(&mut self, data: &[u8]) -> Result<(), &'static str> {
        for (key, value) in pax::records(data).ok_or("its pax records are malformed")? {
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                return Err("a global header gives every entry one path or size");
            }
            let wanted = matches!(key, b"uid" | b"gid" | b"mtime")
                || key.starts_with(b"SCHILY.xattr.")
                || key.starts_with(b"LIBARCHIVE.xattr.");
            if wanted {
                self.globals.retain(|(have, _)| have != key);
                self.globals.push((key.to_vec(), value.to_vec()));
            }
        }
        let bytes: usize = self.globals.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes as u64 > self.limits.header_bytes {
            return Err("the global headers are too large together");
        }
        Ok(())
    }

    /// The body of an extended header.
    fn metadata(&mut self, size: u64, total: &mut u64) -> Result<Vec<u8>, LayerError> {
        // The block itself counts too, so that empty headers come to an end.
        *total = total.saturating_add(size).saturating_add(BLOCK_BYTES as u64);
        within("header_bytes", self.limits.header_bytes, *total, || {
            format!("the extended header at byte {}", self.offset)
        })?;
        self.set_body(size)?;
        let mut data = Vec::new();
        self.copy_data(size, &mut |bytes| {
            data.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(data)
    }

    /// Says how many bytes of body follow.
    pub(super) fn set_body(&mut self, size: u64) -> Result<(), LayerError> {
        let padded = size.checked_next_multiple_of(BLOCK_BYTES as u64);
        let padded =
            padded.ok_or(LayerError::Header { offset: self.offset, reason: "its size is beyond 64 bits" })?;
        (self.body, self.padding) = (size, padded - size);
        Ok(())
    }

    /// For an entry that needs no body but gives a size: old writers leave the body out, POSIX 2001 lets a hard link
    /// repeat the file's bytes. Go, GNU tar and Python leave it out, so a header right behind the entry decides for that.
    pub(super) fn set_doubtful_body(&mut self, size: u64) -> Result<(), LayerError> {
        let start = self.offset;
        match self.block()? {
            None => return Ok(()),
            Some(block) => {
                let no_body = is_zero(&block) || Fields::new(&block).is_some();
                self.peeked = Some(block);
                self.offset = start;
                if no_body {
                    return Ok(());
                }
            }
        }
        self.set_body(size)?;
        // The peeked block is the body's first.
        self.peeked = None;
        self.offset += BLOCK_BYTES as u64;
        let padded = self.body + self.padding;
        (self.body, self.padding) = (padded.saturating_sub(BLOCK_BYTES as u64), 0);
        Ok(())
    }

    fn pass_body(&mut self) -> Result<(), LayerError> {
        let left = self.body.saturating_add(self.padding);
        if left > 0 {
            let passed = self.input.skip(left).map_err(from_io)?;
            self.offset += passed;
            // As Go does, and so every engine in it: `umoci insert` ends archives right behind the last file's bytes.
            let lacks_padding_alone = passed == self.body;
            if passed < left && !lacks_padding_alone {
                return Err(LayerError::Truncated { offset: self.offset });
            }
        }
        (self.body, self.padding) = (0, 0);
        Ok(())
    }

    /// The next block; `None` at the very end of the input.
    pub(super) fn block(&mut self) -> Result<Option<Box<Block>>, LayerError> {
        if let Some(block) = self.peeked.take() {
            self.offset += BLOCK_BYTES as u64;
            return Ok(Some(block));
        }
        let mut block = Box::new([0; BLOCK_BYTES]);
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let have = self.input.fill_buf().map_err(from_io)?;
            if have.is_empty() {
                break;
            }
            let step = have.len().min(BLOCK_BYTES - filled);
            block[filled..filled + step].copy_from_slice(&have[..step]);
            self.input.consume(step);
            filled += step;
            self.offset += step as u64;
        }
        match filled {
            0 => Ok(None),
            BLOCK_BYTES => Ok(Some(block)),
            _ => Err(LayerError::Truncated { offset: self.offset }),
        }
    }
}

/// An input that carries its own reason gives it back.
pub(super) fn from_io(error: std::io::Error) -> LayerError {
    error.downcast::<LayerError>().unwrap_or_else(LayerError::Io)
}

fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn without_nuls(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn copy_zeros(
    mut count: u64,
    sink: &mut impl FnMut(&[u8]) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    while count > 0 {
        let step = ZEROS.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        sink(&ZEROS[..step])?;
        count -= step as u64;
    }
    Ok(())
}
