//! Trees and states packed into append-only files.
//!
//! A segment is `objects/pack/NNNNNNNN.seg`: a head of 8 bytes, then records. A record is its kind (1 byte), the payload's length
//! (4 bytes, little-endian), the payload's BLAKE3-256 (32 bytes) and the payload. The hash is the object's name and also the record's
//! check sum, so a torn tail is seen.
//!
//! # Durability
//! Appends happen under the pack lock and are synced before the catalog learns of them. A tail that a dead writer left torn is cut off by
//! the next writer.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use super::scan::{Piece, scan};
use super::{Layout, StoreError};
use crate::disk::{DiskError, Durability, FileLock, LockMode, SyncSet};
use crate::object::{SourceError, TreeId};

pub(super) const HEAD: &[u8; 8] = b"tbseg\0\0\x01";
pub(super) const RECORD_HEAD_BYTES: u64 = 1 + 4 + 32;
/// What a segment without a record takes, in bytes.
pub const EMPTY_SEGMENT_BYTES: u64 = HEAD.len() as u64;
/// A segment that has reached this size gets no more records.
const SEGMENT_FULL_BYTES: u64 = 256 * 1024 * 1024;

/// What an object of so many bytes takes in a segment.
pub fn record_bytes(len: u64) -> u64 {
    RECORD_HEAD_BYTES + len
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// The bytes of a file.
    Blob,
    /// A directory or root tree.
    Tree,
    /// A state.
    State,
}

impl ObjectKind {
    /// The kind's byte in a record.
    pub const fn code(self) -> u8 {
        match self {
            Self::Blob => 0,
            Self::Tree => 1,
            Self::State => 2,
        }
    }

    /// The kind of a packed object by its byte; `None` for a blob, which is never packed, and for what is no kind.
    pub fn packed_of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Tree),
            2 => Some(Self::State),
            _ => None,
        }
    }

    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
            Self::State => "state",
        }
    }
}

/// Where a packed object's payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The segment's number.
    pub segment: u32,
    /// Offset of the record in the segment, in bytes.
    pub offset: u64,
    /// Length of the payload, in bytes.
    pub len: u32,
}

/// An object that was appended, for the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The object's name.
    pub id: [u8; 32],
    /// The object's kind.
    pub kind: ObjectKind,
    /// Where it lies.
    pub located: Located,
}

/// Knows where packed objects lie. It can be lost: segments tell it again.
pub trait Catalog: Send + Sync {
    /// Where an object lies.
    fn locate(&self, id: &[u8; 32]) -> Result<Option<Located>, SourceError>;
    /// Enters objects of one segment, which is known up to `end` from now on.
    fn record(&self, segment: u32, end: u64, placed: &[Placed]) -> Result<(), SourceError>;
    /// Forgets every object of one segment.
    fn forget(&self, segment: u32) -> Result<(), SourceError>;
    /// Up to which offset a segment is known; 0 for one that is not.
    fn known_until(&self, segment: u32) -> Result<u64, SourceError>;
    /// Every object that is found in one segment.
    fn found_in(&self, segment: u32) -> Result<Vec<Placed>, SourceError>;
}

pub(super) fn path_of(layout: &Layout, segment: u32) -> PathBuf {
    layout.pack().join(format!("{segment:08}.seg"))
}

pub(super) fn lock(layout: &Layout) -> Result<FileLock, StoreError> {
    Ok(FileLock::acquire(&layout.pack().join("lock"), LockMode::Exclusive)?)
}

/// The numbers of all segments, ascending.
pub(super) fn segments(layout: &Layout) -> Result<Vec<u32>, StoreError> {
    let pack = layout.pack();
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(&pack).map_err(|error| DiskError::new("list", &pack, error))? {
        let path = entry.map_err(|error| DiskError::new("list", &pack, error))?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let (true, Some(Ok(number))) = (is_segment, stem.map(str::parse)) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Tells the catalog about records it does not know, and gives the last segment's number and sound length.
pub(super) fn catch_up(layout: &Layout, catalog: &dyn Catalog) -> Result<(), StoreError> {
    let mut behind = false;
    for segment in segments(layout)? {
        let len = match len_of(layout, segment) {
            // It was compacted just now.
            Err(StoreError::Disk(error)) if error.is_not_found() => continue,
            len => len?,
        };
        behind |= catalog.known_until(segment).map_err(StoreError::Catalog)? != len;
    }
    if behind {
        // Looked at again under the lock: a writer may have been in between.
        let _lock = lock(layout)?;
        for segment in segments(layout)? {
            if catalog.known_until(segment).map_err(StoreError::Catalog)? > len_of(layout, segment)? {
                // A power cut took a tail that was not synced and that the catalog had heard of.
                catalog.forget(segment).map_err(StoreError::Catalog)?;
            }
            catch_up_segment(layout, catalog, segment)?;
        }
    }
    Ok(())
}

/// Has the catalog forget the segments that were written to since that second, and reads them again: bytes that a power cut took may
/// lie in the middle.
pub(super) fn read_anew(layout: &Layout, catalog: &dyn Catalog, since: i64) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    let _lock = lock(layout)?;
    for segment in segments(layout)? {
        let path = path_of(layout, segment);
        let metadata = std::fs::metadata(&path).map_err(|error| DiskError::new("look at", &path, error))?;
        if metadata.mtime() >= since {
            catalog.forget(segment).map_err(StoreError::Catalog)?;
            catch_up_segment(layout, catalog, segment)?;
        }
    }
    Ok(())
}

pub(super) fn len_of(layout: &Layout, segment: u32) -> Result<u64, StoreError> {
    let path = path_of(layout, segment);
    Ok(std::fs::metadata(&path).map_err(|error| DiskError::new("look at", &path, error))?.len())
}

/// Reads the records past the known offset; gives the offset where the last sound one ends. The caller holds the lock.
pub(super) fn catch_up_segment(
    layout: &Layout,
    catalog: &dyn Catalog,
    segment: u32,
) -> Result<u64, StoreError> {
    let known = catalog.known_until(segment).map_err(StoreError::Catalog)?;
    let len = len_of(layout, segment)?;
    if known >= len {
        return Ok(len);
    }
    let path = path_of(layout, segment);
    let file = File::open(&path).map_err(|error| DiskError::new("open", &path, error))?;
    let start = match known {
        0 => records_begin(&file)
            .ok_or_else(|| StoreError::Segment { segment, reason: "unknown magic or version".into() })?,
        known => known,
    };
    let mut placed = Vec::new();
    let at = scan(&file, start, len, &mut |piece| {
        if let Piece::Record { kind, id, offset, len } = piece {
            placed.push(Placed { id, kind, located: Located { segment, offset, len } });
        }
    });
    if at == 0 {
        return Ok(0);
    }
    catalog.record(segment, at, &placed).map_err(StoreError::Catalog)?;
    Ok(at)
}

/// From where records are looked for; `None` when it does not begin as a segment does.
///
/// From 0 where a power cut took the head: it wrote the name and not the bytes, or kept room for them and filled it with zeros. Head and
/// first record are one write, so nothing of that was synced; what was written later may be there.
pub(super) fn records_begin(file: &File) -> Option<u64> {
    let mut head = [0; HEAD.len()];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) if &head == HEAD => Some(HEAD.len() as u64),
        Ok(()) if head == [0; HEAD.len()] => Some(0),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Some(0),
        _ => None,
    }
}

/// The head of the record at an offset, whatever its payload is like: kind, length of the payload, id.
pub(super) fn record_head_at(file: &File, at: u64) -> Option<(ObjectKind, u32, [u8; 32])> {
    let mut head = [0; RECORD_HEAD_BYTES as usize];
    file.read_exact_at(&mut head, at).ok()?;
    let kind = ObjectKind::packed_of(head[0])?;
    let len = u32::from_le_bytes(head[1..5].try_into().ok()?);
    Some((kind, len, head[5..].try_into().ok()?))
}

/// The record at an offset; `None` when there is no sound record.
pub(super) fn record_at(file: &File, at: u64, end: u64) -> Option<(ObjectKind, [u8; 32], Vec<u8>)> {
    let (kind, len, id) = record_head_at(file, at)?;
    if at + RECORD_HEAD_BYTES + u64::from(len) > end {
        return None;
    }
    let mut payload = vec![0; len as usize];
    file.read_exact_at(&mut payload, at + RECORD_HEAD_BYTES).ok()?;
    (*blake3::hash(&payload).as_bytes() == id).then_some((kind, id, payload))
}

/// Appends objects to the last segment, synced, and enters them in the catalog.
pub(super) fn append(
    layout: &Layout,
    catalog: &dyn Catalog,
    durability: Durability,
    objects: &[(ObjectKind, [u8; 32], Vec<u8>)],
) -> Result<(), StoreError> {
    if objects.is_empty() {
        return Ok(());
    }
    let _lock = lock(layout)?;
    append_locked(layout, catalog, durability, objects, false)
}

/// The same for a holder of the lock; `anew` in a segment that has nothing else yet.
pub(super) fn append_locked(
    layout: &Layout,
    catalog: &dyn Catalog,
    durability: Durability,
    objects: &[(ObjectKind, [u8; 32], Vec<u8>)],
    anew: bool,
) -> Result<(), StoreError> {
    let mut segment = segments(layout)?.last().copied().unwrap_or(1);
    let mut start = match std::fs::exists(path_of(layout, segment)) {
        Ok(true) => catch_up_segment(layout, catalog, segment)?,
        _ => 0,
    };
    if start >= SEGMENT_FULL_BYTES || anew && start > 0 {
        segment += 1;
        start = 0;
    }
    let path = path_of(layout, segment);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(|error| DiskError::new("open", &path, error))?;
    let write_error = |error| DiskError::new("append to", &path, error);
    // Cuts off what a dead writer left behind the last sound record.
    file.set_len(start).map_err(write_error)?;
    let mut bytes = Vec::new();
    if start == 0 {
        bytes.extend_from_slice(HEAD);
    }
    let mut placed = Vec::with_capacity(objects.len());
    for (kind, id, payload) in objects {
        let len = u32::try_from(payload.len()).map_err(|_| StoreError::Segment {
            segment,
            reason: format!("{} {} has 4 GiB or more", kind.word(), TreeId::from_bytes(*id)),
        })?;
        let offset = start + bytes.len() as u64;
        placed.push(Placed { id: *id, kind: *kind, located: Located { segment, offset, len } });
        bytes.push(kind.code());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(payload);
    }
    let mut writer = &file;
    std::io::Seek::seek(&mut writer, std::io::SeekFrom::Start(start)).map_err(write_error)?;
    writer.write_all(&bytes).map_err(write_error)?;
    if durability == Durability::Commit {
        file.sync_data().map_err(write_error)?;
        if start == 0 {
            let mut sync = SyncSet::new(durability);
            sync.directory(&layout.pack());
            sync.finish()?;
        }
    }
    catalog.record(segment, start + bytes.len() as u64, &placed).map_err(StoreError::Catalog)
}

/// Reads one object and checks it.
pub(super) fn read(
    layout: &Layout,
    kind: ObjectKind,
    id: &[u8; 32],
    located: Located,
) -> Result<Vec<u8>, StoreError> {
    let name = TreeId::from_bytes(*id);
    let path = path_of(layout, located.segment);
    let file = File::open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::missing(kind, &name),
        _ => DiskError::new("open", &path, error).into(),
    })?;
    let end = located.offset + RECORD_HEAD_BYTES + u64::from(located.len);
    match record_at(&file, located.offset, end) {
        Some((found, found_id, payload)) if found == kind && found_id == *id => Ok(payload),
        _ => Err(StoreError::damaged(kind, &name, format!("segment {} does not hold it", located.segment))),
    }
}
