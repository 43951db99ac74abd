//! Reading a tar archive as a stream: v7, ustar, GNU, pax, sparse files of every kind.
//!
//! Headers are read with `tar-core`'s field access; the walk over headers is our own, because `tar-core` 0.1 knows no
//! times before 1970, stops silently at a malformed pax record, and loses its place in a pax 1.0 sparse file with a `size` record.
//!
//! # Invariants
//! - A size given by pax always wins over the header's (CVE-2025-62518 and CVE-2026-33055 are the two ways to get this wrong).
//! - A damaged archive is an error, never a panic, and no allocation follows a number in it unchecked.

use std::io::BufRead;

use super::error::LayerError;
use super::header::{BLOCK_BYTES, Block, Fields, Region, gnu_sparse_extension};
use super::limits::{Limits, within};
use super::pax::{self, Record};
use crate::object::{Meta, Timestamp, Xattrs};

const ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

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
}

impl Input for &[u8] {}

impl<I: Input + ?Sized> Input for &mut I {
    fn skip(&mut self, count: u64) -> std::io::Result<u64> {
        (**self).skip(count)
    }
}

/// One entry; a file's bytes follow through [`Tar::copy_body`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarEntry {
    /// As written.
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) kind: TarKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TarKind {
    File { size: u64, regions: Option<Vec<Region>> },
    HardLink { target: Vec<u8> },
    Symlink { target: Vec<u8> },
    Directory,
    Fifo,
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
}

/// A tar archive being read.
pub(super) struct Tar<'l, R> {
    input: R,
    limits: &'l Limits,
    offset: u64,
    /// Bytes of the current body, and of its padding, that were not read yet.
    body: u64,
    padding: u64,
    peeked: Option<Box<Block>>,
    globals: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extended headers that wait for their entry.
#[derive(Default)]
struct Pending {
    pax: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
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

    /// The input, for what follows the archive.
    pub(super) fn into_input(self) -> R {
        self.input
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
        let Some(regions) = regions else { return self.copy_data(size, &mut sink) };
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

    fn entry(&mut self, fields: &Fields<'_>, size: u64, pending: &Pending) -> Result<TarEntry, LayerError> {
        let start = self.offset;
        let records = match &pending.pax {
            None => Vec::new(),
            Some(data) => pax::records(data)
                .ok_or(LayerError::Header { offset: start, reason: "its pax records are malformed" })?,
        };
        let globals: Vec<_> = self.globals.clone();
        let globals = globals.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let records: Vec<Record<'_>> = globals.chain(records).collect();
        // The last record of a key counts; an empty value takes the key away again.
        let last = |key: &[u8]| {
            let found = records.iter().rev().find(|(have, _)| *have == key);
            found.map(|(_, value)| *value).filter(|value| !value.is_empty())
        };

        let path = last(b"GNU.sparse.name").or_else(|| last(b"path")).map(<[u8]>::to_vec);
        let path = path.or_else(|| pending.long_name.clone()).unwrap_or_else(|| fields.path());
        within("path_bytes", self.limits.path_bytes, path.len() as u64, || {
            format!("the length of the path `{}…`", path[..path.len().min(64)].escape_ascii())
        })?;
        let bad = |reason: &str| LayerError::Entry { path: path.clone(), reason: reason.to_owned() };
        if path.is_empty() {
            return Err(bad("its path is empty"));
        }
        let decimal = |key: &[u8], what: &str| {
            last(key).map(|text| pax::decimal(text).ok_or_else(|| bad(what))).transpose()
        };
        let size = decimal(b"size", "its pax size is no number")?.unwrap_or(size);
        let id = |pax: Option<u64>, plain: Option<u64>, reason: &str| {
            // The highest id means "none" to the kernel.
            let id = pax.or(plain).and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
            id.ok_or_else(|| bad(reason))
        };
        let uid = id(decimal(b"uid", "its pax uid is no number")?, fields.uid(), "its owner is no user id")?;
        let gid = id(decimal(b"gid", "its pax gid is no number")?, fields.gid(), "its group is no group id")?;
        let mtime = match last(b"mtime") {
            Some(text) => pax::time(text),
            None => fields.mtime().map(Timestamp::from_seconds),
        };
        let mtime = mtime.ok_or_else(|| bad("its modification time is no number"))?;
        let mode = fields.mode().ok_or_else(|| bad("its mode is no number"))?;
        let xattrs = xattrs(&path, &records, self.limits)?;
        let link = last(b"linkpath").map(<[u8]>::to_vec).or_else(|| pending.long_link.clone());
        let link = link.unwrap_or_else(|| fields.link());
        let device = || {
            let (major, minor) = fields.device().unwrap_or((u64::MAX, u64::MAX));
            let major = decimal(b"SCHILY.devmajor", "its device number is none")?.unwrap_or(major);
            let minor = decimal(b"SCHILY.devminor", "its device number is none")?.unwrap_or(minor);
            let short = |number| u32::try_from(number).map_err(|_| bad("its device number is none"));
            Ok::<_, LayerError>((short(major)?, short(minor)?))
        };

        let code = fields.type_code();
        let is_file = matches!(code, b'0' | b'\0' | b'7' | b'S');
        if last(b"SCHILY.realsize").is_some() {
            return Err(bad("it is a sparse file as the star program writes them, which is not supported"));
        }
        let kind = match code {
            // Before ustar a directory was a file whose name ends with a slash.
            b'\0' if path.ends_with(b"/") => TarKind::Directory,
            b'S' => {
                let (mut regions, mut more, real) =
                    fields.gnu_sparse().ok_or_else(|| bad("its sparse map is damaged"))?;
                while more {
                    let block = self.block()?.ok_or(LayerError::Truncated { offset: self.offset })?;
                    let (next, again) =
                        gnu_sparse_extension(&block).ok_or_else(|| bad("its sparse map is damaged"))?;
                    regions.extend(next);
                    more = again;
                    self.check_regions(&path, regions.len() as u64)?;
                }
                self.set_body(size)?;
                TarKind::File { size: real, regions: Some(regions) }
            }
            _ if is_file => {
                self.set_body(size)?;
                let sparse = self.pax_sparse(&path, &records)?;
                let (size, regions) = sparse.map_or((size, None), |(real, regions)| (real, Some(regions)));
                TarKind::File { size, regions }
            }
            b'1' => TarKind::HardLink { target: link },
            b'2' => TarKind::Symlink { target: link },
            b'3' => device().map(|(major, minor)| TarKind::Char { major, minor })?,
            b'4' => device().map(|(major, minor)| TarKind::Block { major, minor })?,
            // `D` is GNU's directory with a listing as its body, which tells nothing new.
            b'5' | b'D' => TarKind::Directory,
            b'6' => TarKind::Fifo,
            _ => return Err(LayerError::UnknownType { path, code }),
        };
        if let TarKind::File { size: real, regions } = &kind {
            within("file_bytes", self.limits.file_bytes, *real, || {
                format!("the size of `{}`", path.escape_ascii())
            })?;
            // The map of a pax 1.0 file is a part of the body that was read by now.
            if let Some(regions) = regions {
                check_map(regions, *real, self.body).ok_or_else(|| bad("its sparse map is damaged"))?;
            }
        } else if size > 0 && code != b'D' {
            self.set_doubtful_body(size)?;
        } else {
            self.set_body(size)?;
        }
        let meta = Meta { mode, uid, gid, mtime, xattrs };
        Ok(TarEntry { path, meta, kind })
    }

    /// The map of a pax sparse file (0.0, 0.1, 1.0), and the file's real size.
    fn pax_sparse(
        &mut self,
        path: &[u8],
        records: &[Record<'_>],
    ) -> Result<Option<(u64, Vec<Region>)>, LayerError> {
        let bad = || LayerError::Entry { path: path.to_vec(), reason: "its sparse map is damaged".into() };
        let last = |key: &[u8]| records.iter().rev().find(|(have, _)| *have == key).map(|(_, value)| *value);
        let real = last(b"GNU.sparse.realsize").or_else(|| last(b"GNU.sparse.size"));
        let real = real.map(|text| pax::decimal(text).ok_or_else(bad)).transpose()?;
        let version = (last(b"GNU.sparse.major"), last(b"GNU.sparse.minor"));
        let numbers: Vec<u64> = if version == (Some(b"1"), Some(b"0")) {
            self.sparse_map_in_body(path)?
        } else if let Some(map) = last(b"GNU.sparse.map") {
            let numbers = map.split(|byte| *byte == b',').filter(|number| !number.is_empty());
            numbers.map(pax::decimal).collect::<Option<_>>().ok_or_else(bad)?
        } else {
            let pairs = records
                .iter()
                .filter(|(key, _)| matches!(*key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes"));
            pairs.map(|(_, value)| pax::decimal(value)).collect::<Option<_>>().ok_or_else(bad)?
        };
        let Some(real) = real else { return if numbers.is_empty() { Ok(None) } else { Err(bad()) } };
        self.check_regions(path, numbers.len() as u64 / 2)?;
        if numbers.len() % 2 != 0 {
            return Err(bad());
        }
        let regions = numbers.chunks_exact(2).map(|pair| Region { offset: pair[0], len: pair[1] }).collect();
        Ok(Some((real, regions)))
    }

    /// The numbers at the head of a pax 1.0 sparse file's body, their count taken off.
    fn sparse_map_in_body(&mut self, path: &[u8]) -> Result<Vec<u64>, LayerError> {
        let bad = || LayerError::Entry { path: path.to_vec(), reason: "its sparse map is damaged".into() };
        let mut numbers = Vec::new();
        let mut line = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
            if self.body < BLOCK_BYTES as u64 {
                return Err(bad());
            }
            let block = self.block()?.ok_or(LayerError::Truncated { offset: self.offset })?;
            self.body -= BLOCK_BYTES as u64;
            for byte in *block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(bad());
                    }
                    continue;
                }
                let number = pax::decimal(&std::mem::take(&mut line)).ok_or_else(bad)?;
                match wanted {
                    None => {
                        self.check_regions(path, number)?;
                        wanted = Some(number.saturating_mul(2));
                    }
                    Some(_) => numbers.push(number),
                }
                if wanted == Some(numbers.len() as u64) {
                    break;
                }
            }
        }
        Ok(numbers)
    }

    fn check_regions(&self, path: &[u8], count: u64) -> Result<(), LayerError> {
        let what = || format!("the number of regions of the sparse file `{}`", path.escape_ascii());
        Ok(within("sparse_regions", self.limits.sparse_regions, count, what)?)
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
    fn set_body(&mut self, size: u64) -> Result<(), LayerError> {
        let padded = size.checked_next_multiple_of(BLOCK_BYTES as u64);
        let padded =
            padded.ok_or(LayerError::Header { offset: self.offset, reason: "its size is beyond 64 bits" })?;
        (self.body, self.padding) = (size, padded - size);
        Ok(())
    }

    /// For an entry that needs no body but gives a size: old writers leave the body out, POSIX 2001 lets a hard link
    /// repeat the file's bytes. Go, GNU tar and Python leave it out, so a header right behind the entry decides for that.
    fn set_doubtful_body(&mut self, size: u64) -> Result<(), LayerError> {
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
            if passed < left {
                return Err(LayerError::Truncated { offset: self.offset });
            }
        }
        (self.body, self.padding) = (0, 0);
        Ok(())
    }

    /// The next block; `None` at the very end of the input.
    fn block(&mut self) -> Result<Option<Box<Block>>, LayerError> {
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

/// Checks that regions ascend, end within the file and hold exactly the data there is.
fn check_map(regions: &[Region], real: u64, data: u64) -> Option<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for region in regions {
        if region.offset < end {
            return None;
        }
        end = region.offset.checked_add(region.len)?;
        sum = sum.checked_add(region.len)?;
    }
    (end <= real && sum == data).then_some(())
}

/// The extended attributes in pax records; SCHILY's own bytes win over libarchive's base64 of the same.
fn xattrs(path: &[u8], records: &[Record<'_>], limits: &Limits) -> Result<Xattrs, LayerError> {
    let mut xattrs = Xattrs::none();
    let mut bytes = 0u64;
    let mut set = |name: Vec<u8>, value: Vec<u8>| {
        bytes += (name.len() + value.len()) as u64;
        within("xattr_bytes", limits.xattr_bytes, bytes, || {
            format!("the extended attributes of `{}`", path.escape_ascii())
        })?;
        let value = if name == b"security.capability" { root_capability(value) } else { value };
        xattrs.set(name, value).map_err(|source| LayerError::Xattr { path: path.to_vec(), source })
    };
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let value = pax::base64(value).ok_or_else(|| LayerError::Entry {
                path: path.to_vec(),
                reason: format!("its extended attribute `{}` is not base64", name.escape_ascii()),
            })?;
            set(pax::percent_decode(name), value)?;
        }
    }
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            set(name.to_vec(), value.to_vec())?;
        }
    }
    Ok(xattrs)
}

/// File capabilities of version 3 carry the root id of the user namespace they were set in, which means nothing in an image:
/// they become version 2. Layout: `vfs_ns_cap_data` in linux/capability.h.
fn root_capability(mut value: Vec<u8>) -> Vec<u8> {
    const VERSION_2_BYTES: usize = 20;
    const VERSION_3_BYTES: usize = 24;
    if value.len() == VERSION_3_BYTES && value[3] == 3 {
        value[3] = 2;
        value.truncate(VERSION_2_BYTES);
    }
    value
}
