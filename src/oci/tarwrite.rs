//! Entries of a tree as entries of a tar archive.
//!
//! The archive is ustar with pax records for whatever ustar cannot say, as GNU tar, bsdtar and Go read it. It depends on nothing but the
//! tree: the first name of a hard-linked file has its bytes and the others are links to it.

use std::collections::HashMap;
use std::io::{self, Write};

use super::entry::root_capability;
use super::pax;
use crate::object::{Entry, LinkGroup, Meta, Node, SourceError, Timestamp, TreePath, TreeSource, Xattr};
use crate::store::{Store, StoreError};

/// How many bytes the name and link fields of a header hold.
const NAME_BYTES: usize = 100;
/// The first number that seven octal digits, as header fields have for ids, cannot say.
const OCTAL_7_END: u64 = 1 << 21;
/// The first number that eleven octal digits, as header fields have for sizes and times, cannot say.
const OCTAL_11_END: u64 = 1 << 33;

/// What a stream holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TarWritten {
    /// Entries written.
    pub entries: u64,
    /// Sizes of the files written, in bytes.
    pub bytes: u64,
    /// What a tar stream cannot hold, with the reason.
    pub skipped: Vec<(TreePath, &'static str)>,
}

/// A tar stream could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is no such path.
    #[error("no such file or directory: {0}")]
    NotFound(TreePath),
    /// A directory could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file's bytes could not be read.
    #[error("{path}: {source}")]
    Blob {
        /// The file.
        path: TreePath,
        /// What is wrong.
        source: StoreError,
    },
    /// The blob has not as many bytes as the tree says.
    #[error("{path} is damaged: it has {found} bytes instead of {expected}")]
    Size {
        /// The file.
        path: TreePath,
        /// What the tree says.
        expected: u64,
        /// What the blob has.
        found: u64,
    },
    /// The stream did not take the bytes, or a file's bytes could not be read.
    #[error("cannot write the tar stream: {0}")]
    Io(#[from] io::Error),
    /// A name that means something else in an image's layer.
    #[error(
        "{0} cannot be part of an image: in a layer, names that begin with `.wh.` say what is deleted; rename or remove it"
    )]
    Reserved(TreePath),
}

/// Where the stream goes. The builder ends its archive even when it is dropped after a failure, and then a reader would take the part
/// that was written for the whole: a stopped output takes nothing more.
struct Output<W> {
    out: W,
    stopped: bool,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopped { Err(io::ErrorKind::BrokenPipe.into()) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A tar archive being written from a tree.
pub(super) struct TarWriter<'s, W: Write> {
    store: &'s Store,
    builder: tar::Builder<Output<W>>,
    /// The name in the stream that holds the bytes of each group.
    links: HashMap<LinkGroup, Vec<u8>>,
    /// Later modification times are set to this many seconds since 1970.
    epoch: Option<i64>,
    pub(super) written: TarWritten,
}

impl<'s, W: Write> TarWriter<'s, W> {
    pub(super) fn new(store: &'s Store, out: W) -> Self {
        Self {
            store,
            builder: tar::Builder::new(Output { out, stopped: false }),
            links: HashMap::new(),
            epoch: None,
            written: TarWritten::default(),
        }
    }

    pub(super) fn clamped(mut self, epoch: Option<i64>) -> Self {
        self.epoch = epoch;
        self
    }

    /// Ends the archive when all went well; else cuts it off.
    pub(super) fn conclude(mut self, result: Result<(), ExportError>) -> Result<TarWritten, ExportError> {
        if let Err(error) = result {
            self.builder.get_mut().stopped = true;
            return Err(error);
        }
        self.builder.into_inner()?.flush()?;
        Ok(self.written)
    }

    /// An entry with everything below it.
    pub(super) fn with_all_below(
        &mut self,
        path: &TreePath,
        name: Vec<u8>,
        entry: &Entry,
    ) -> Result<(), ExportError> {
        self.entry(path, &name, entry)?;
        if let Node::Directory { tree, .. } = &entry.node {
            for (child, entry) in self.store.tree(tree)?.entries() {
                let name = [&name[..], b"/", child.as_bytes()].concat();
                self.with_all_below(&path.join(child), name, entry)?;
            }
        }
        Ok(())
    }

    /// An entry alone.
    pub(super) fn entry(&mut self, path: &TreePath, name: &[u8], entry: &Entry) -> Result<(), ExportError> {
        let clamped;
        let mut meta = &entry.meta;
        if let Some(epoch) = self.epoch
            && meta.mtime > Timestamp::from_seconds(epoch)
        {
            clamped = Meta { mtime: Timestamp::from_seconds(epoch), ..meta.clone() };
            meta = &clamped;
        }
        let none: &[u8] = b"";
        match &entry.node {
            Node::Directory { .. } => {
                let slashed = [name, b"/"].concat();
                self.header(tar::EntryType::Directory, &slashed, none, meta, 0, None)?;
            }
            Node::File { blob, size, link } => {
                if let Some(first) = link.and_then(|group| self.links.get(&group)).cloned() {
                    return self.header(tar::EntryType::Link, name, &first, meta, 0, None);
                }
                let failed = |source| ExportError::Blob { path: path.clone(), source };
                let bytes = self.store.open_blob(blob).map_err(failed)?.met_at(path.to_string());
                // The stream would be out of step from here on.
                if bytes.len() != *size {
                    let (expected, found) = (*size, bytes.len());
                    return Err(ExportError::Size { path: path.clone(), expected, found });
                }
                self.header(tar::EntryType::Regular, name, none, meta, *size, Some(bytes))?;
                self.written.bytes += size;
                if let Some(group) = link {
                    self.links.insert(*group, name.to_vec());
                }
            }
            Node::Symlink { target } => {
                self.header(tar::EntryType::Symlink, name, target, meta, 0, None)?;
            }
            Node::Fifo => self.header(tar::EntryType::Fifo, name, none, meta, 0, None)?,
            Node::Char { major, minor } => self.device(tar::EntryType::Char, name, meta, *major, *minor)?,
            Node::Block { major, minor } => self.device(tar::EntryType::Block, name, meta, *major, *minor)?,
            Node::Socket => self.written.skipped.push((path.clone(), "a tar stream cannot hold a socket")),
        }
        Ok(())
    }

    /// A file without bytes that says that the layers below have a name which is gone.
    pub(super) fn whiteout(&mut self, name: &[u8]) -> Result<(), ExportError> {
        // No mode and no time, as nothing but the name means anything.
        let meta = Meta::root_owned(0, Timestamp::from_seconds(0));
        self.header(tar::EntryType::Regular, name, b"", &meta, 0, None)
    }

    fn device(
        &mut self,
        kind: tar::EntryType,
        name: &[u8],
        meta: &Meta,
        major: u32,
        minor: u32,
    ) -> Result<(), ExportError> {
        let (mut header, mut records) = described(kind, name, b"", meta, 0);
        let mut number = |key: &str, number: u32| {
            let fits = u64::from(number) < OCTAL_7_END;
            if !fits {
                records.push((key.to_owned(), number.to_string().into_bytes()));
            }
            if fits { number } else { 0 }
        };
        header.set_device_major(number("SCHILY.devmajor", major))?;
        header.set_device_minor(number("SCHILY.devminor", minor))?;
        self.append(header, &records, io::empty())
    }

    fn header(
        &mut self,
        kind: tar::EntryType,
        name: &[u8],
        link: &[u8],
        meta: &Meta,
        size: u64,
        body: Option<crate::store::BlobReader>,
    ) -> Result<(), ExportError> {
        let (header, records) = described(kind, name, link, meta, size);
        match body {
            Some(body) => self.append(header, &records, body),
            None => self.append(header, &records, io::empty()),
        }
    }

    fn append(
        &mut self,
        mut header: tar::Header,
        records: &[(String, Vec<u8>)],
        body: impl io::Read,
    ) -> Result<(), ExportError> {
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)?;
        header.set_cksum();
        self.builder.append(&header, body)?;
        self.written.entries += 1;
        Ok(())
    }
}

/// The header of an entry, and the pax records that say what it cannot.
fn described(
    kind: tar::EntryType,
    name: &[u8],
    link: &[u8],
    meta: &Meta,
    size: u64,
) -> (tar::Header, Vec<(String, Vec<u8>)>) {
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(u32::from(meta.mode));
    header.set_uid(u64::from(meta.uid));
    header.set_gid(u64::from(meta.gid));
    header.set_size(size);
    header.set_mtime(u64::try_from(meta.mtime.seconds()).unwrap_or(0));
    // Only a reader that knows no pax sees the shortened ones.
    if let Some(fields) = header.as_ustar_mut() {
        fill(&mut fields.name, name);
        fill(&mut fields.linkname, link);
    }
    let mut record = |key: &str, value: &[u8]| records.push((key.to_owned(), value.to_vec()));
    let (long_name, long_link) = (name.len() > NAME_BYTES, link.len() > NAME_BYTES);
    if long_name {
        record("path", name);
    }
    if long_link {
        record("linkpath", link);
    }
    if meta.mtime.nanoseconds() != 0 || !(0..OCTAL_11_END as i64).contains(&meta.mtime.seconds()) {
        record("mtime", time(meta.mtime).as_bytes());
    }
    for (key, number, end) in [
        ("uid", u64::from(meta.uid), OCTAL_7_END),
        ("gid", u64::from(meta.gid), OCTAL_7_END),
        ("size", size, OCTAL_11_END),
    ] {
        if number >= end {
            record(key, number.to_string().as_bytes());
        }
    }
    // A hard link's attributes are those of the entry it links to.
    if kind != tar::EntryType::Link {
        records.extend(meta.xattrs.iter().map(xattr));
    }
    (header, records)
}

/// An attribute as star and GNU tar write it; as libarchive does when its name could not be told from its value.
fn xattr(xattr: &Xattr) -> (String, Vec<u8>) {
    let value = match xattr.name.as_slice() {
        b"security.capability" => root_capability(xattr.value.clone()),
        _ => xattr.value.clone(),
    };
    match std::str::from_utf8(&xattr.name) {
        Ok(name) if !name.contains(['=', '%', '\n']) => (format!("SCHILY.xattr.{name}"), value),
        _ => {
            let name = pax::percent_encode(&xattr.name);
            (format!("LIBARCHIVE.xattr.{name}"), pax::to_base64(&value).into_bytes())
        }
    }
}

/// Seconds with a fraction, as pax writes times.
fn time(time: Timestamp) -> String {
    let (seconds, nanoseconds) = (time.seconds(), time.nanoseconds());
    match (seconds < 0, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
    }
}

fn fill(field: &mut [u8; NAME_BYTES], text: &[u8]) {
    let len = text.len().min(NAME_BYTES);
    field[..len].copy_from_slice(&text[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for (seconds, nanoseconds) in [
            (0, 0),
            (1, 5),
            (-1, 0),
            (-1, 1),
            (-1, 999_999_999),
            (-2, 750_000_000),
            (1 << 40, 1),
            (i64::MIN + 1, 7),
        ] {
            let at = Timestamp::new(seconds, nanoseconds).unwrap();
            assert_eq!(pax::time(time(at).as_bytes()), Some(at), "{}", time(at));
        }
    }
}
