//! One entry of a tar archive: its header and extended headers put together.

use super::error::LayerError;
use super::header::{Fields, Region};
use super::limits::{Limits, within};
use super::pax::{self, Record};
use super::sparse::check_map;
use super::tarball::{Input, Pending, Tar};
use crate::object::{Meta, Timestamp, Xattrs};

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

impl TarEntry {
    /// How many bytes of memory its path, target and attributes take.
    pub(super) fn metadata_bytes(&self) -> u64 {
        let target = match &self.kind {
            TarKind::HardLink { target } | TarKind::Symlink { target } => target.len(),
            _ => 0,
        };
        let xattrs: usize = self.meta.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        (self.path.len() + target + xattrs) as u64
    }
}

/// All that the headers of one entry say.
struct Told<'a> {
    fields: &'a Fields<'a>,
    /// Pax records, global ones first: the last record of a key counts.
    records: Vec<Record<'a>>,
    path: Vec<u8>,
}

impl<R: Input> Tar<'_, R> {
    /// Puts an entry together and says how many bytes of body follow.
    pub(super) fn entry(
        &mut self,
        fields: &Fields<'_>,
        size: u64,
        pending: &Pending,
    ) -> Result<TarEntry, LayerError> {
        let globals = self.globals.clone();
        let mut records: Vec<Record<'_>> =
            globals.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        if let Some(data) = &pending.pax {
            let reason = "its pax records are malformed";
            let offset = self.offset;
            records.extend(pax::records(data).ok_or(LayerError::Header { offset, reason })?);
        }
        let mut told = Told { fields, records, path: Vec::new() };
        told.path = told.path(pending);
        within("path_bytes", self.limits.path_bytes, told.path.len() as u64, || {
            format!("the length of the path `{}…`", told.path[..told.path.len().min(64)].escape_ascii())
        })?;
        if told.path.is_empty() {
            return Err(told.bad("its path is empty"));
        }
        let size = told.decimal(b"size", "its pax size is no number")?.unwrap_or(size);
        let meta = told.meta(self.limits)?;
        let kind = self.kind(&told, size, pending)?;
        if let TarKind::File { size: real, regions } = &kind {
            within("file_bytes", self.limits.file_bytes, *real, || {
                format!("the size of `{}`", told.path.escape_ascii())
            })?;
            // The map of a pax 1.0 file is a part of the body that was read by now.
            if let Some(regions) = regions {
                check_map(regions, *real, self.body).ok_or_else(|| told.bad("its sparse map is damaged"))?;
            }
        }
        Ok(TarEntry { path: told.path, meta, kind })
    }

    /// What the entry is; sets the body that follows.
    fn kind(&mut self, told: &Told<'_>, size: u64, pending: &Pending) -> Result<TarKind, LayerError> {
        let code = told.fields.type_code();
        let kind = match code {
            // Before ustar a directory was a file whose name ends with a slash.
            b'\0' if told.path.ends_with(b"/") => TarKind::Directory,
            b'0' | b'\0' | b'7' => {
                self.set_body(size)?;
                return Ok(match self.pax_sparse(&told.path, &told.records)? {
                    None => TarKind::File { size, regions: None },
                    Some((real, regions)) => TarKind::File { size: real, regions: Some(regions) },
                });
            }
            b'S' => {
                let (real, regions) = self.gnu_sparse(&told.path, told.fields)?;
                self.set_body(size)?;
                return Ok(TarKind::File { size: real, regions: Some(regions) });
            }
            b'1' => TarKind::HardLink { target: told.link(pending) },
            b'2' => TarKind::Symlink { target: told.link(pending) },
            b'3' => told.device().map(|(major, minor)| TarKind::Char { major, minor })?,
            b'4' => told.device().map(|(major, minor)| TarKind::Block { major, minor })?,
            b'5' => TarKind::Directory,
            // GNU's directory with a listing as its body, which tells nothing new.
            b'D' => {
                self.set_body(size)?;
                return Ok(TarKind::Directory);
            }
            b'6' => TarKind::Fifo,
            _ => return Err(LayerError::UnknownType { path: told.path.clone(), code }),
        };
        if size > 0 {
            self.set_doubtful_body(size)?;
        }
        Ok(kind)
    }
}

impl Told<'_> {
    /// The value that counts; an empty one gives the header its word back.
    fn last(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.records.iter().rev().find(|(have, _)| *have == key);
        found.map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    fn bad(&self, reason: &str) -> LayerError {
        LayerError::Entry { path: self.path.clone(), reason: reason.to_owned() }
    }

    fn decimal(&self, key: &[u8], reason: &str) -> Result<Option<u64>, LayerError> {
        self.last(key).map(|text| pax::decimal(text).ok_or_else(|| self.bad(reason))).transpose()
    }

    fn path(&self, pending: &Pending) -> Vec<u8> {
        let pax = self.last(b"GNU.sparse.name").or_else(|| self.last(b"path"));
        let path = pax.map(<[u8]>::to_vec).or_else(|| pending.long_name.clone());
        path.unwrap_or_else(|| self.fields.path())
    }

    fn link(&self, pending: &Pending) -> Vec<u8> {
        let link = self.last(b"linkpath").map(<[u8]>::to_vec).or_else(|| pending.long_link.clone());
        link.unwrap_or_else(|| self.fields.link())
    }

    fn meta(&self, limits: &Limits) -> Result<Meta, LayerError> {
        if self.last(b"SCHILY.realsize").is_some() {
            return Err(self.bad("it is a sparse file as the star program writes them: pack it without"));
        }
        let mtime = match self.last(b"mtime") {
            Some(text) => pax::time(text),
            None => self.fields.mtime().map(Timestamp::from_seconds),
        };
        Ok(Meta {
            mode: self.fields.mode().ok_or_else(|| self.bad("its mode is no number"))?,
            uid: self.id(b"uid", self.fields.uid(), "its owner is no user id")?,
            gid: self.id(b"gid", self.fields.gid(), "its group is no group id")?,
            mtime: mtime.ok_or_else(|| self.bad("its modification time is no number"))?,
            xattrs: xattrs(&self.path, &self.records, limits)?,
        })
    }

    fn id(&self, key: &[u8], plain: Option<u64>, reason: &str) -> Result<u32, LayerError> {
        let id = self.decimal(key, reason)?.or(plain).and_then(|id| u32::try_from(id).ok());
        // The highest id means "none" to the kernel.
        id.filter(|id| *id != u32::MAX).ok_or_else(|| self.bad(reason))
    }

    fn device(&self) -> Result<(u32, u32), LayerError> {
        let reason = "its device number is none";
        let plain = self.fields.device();
        let number = |key: &[u8], plain: Option<u64>| {
            let number = self.decimal(key, reason)?.or(plain).and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| self.bad(reason))
        };
        let major = number(b"SCHILY.devmajor", plain.map(|(major, _)| major))?;
        Ok((major, number(b"SCHILY.devminor", plain.map(|(_, minor)| minor))?))
    }
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
pub(super) fn root_capability(mut value: Vec<u8>) -> Vec<u8> {
    const VERSION_2_BYTES: usize = 20;
    const VERSION_3_BYTES: usize = 24;
    if value.len() == VERSION_3_BYTES && value[3] == 3 {
        value[3] = 2;
        value.truncate(VERSION_2_BYTES);
    }
    value
}
