//! Looking at everything that lies in a store: what is there, whatever the catalog says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Layout;
use super::scan::{Piece, scan};
use super::segment::{self, Catalog, HEAD, Located, ObjectKind, Placed};
use super::sweep::BlobFile;
use crate::object::{BlobHasher, BlobId, SourceError};

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Every sound record of every segment, read anew, and what else is in them.
#[derive(Debug, Default)]
pub struct Segments {
    places: HashMap<[u8; 32], (ObjectKind, Located)>,
    flaws: Vec<SegmentFlaw>,
    ends: HashMap<u32, u64>,
    bytes: u64,
}

/// What is wrong with a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentFlaw {
    /// It does not begin as a segment does.
    Magic {
        /// The segment's number.
        segment: u32,
    },
    /// A record in the middle is not sound.
    Record {
        /// The segment's number.
        segment: u32,
        /// Where it begins, in bytes.
        start: u64,
        /// Where the next sound one begins.
        end: u64,
        /// Which object it was, when that can be read.
        was: Option<(ObjectKind, [u8; 32])>,
    },
    /// It ends with something that is no sound record; `was` says which object it is, when its head can be read and it is all there.
    Tail {
        /// The segment's number.
        segment: u32,
        /// Where that begins, in bytes.
        start: u64,
        /// Where the file ends.
        end: u64,
        /// Which object it was.
        was: Option<(ObjectKind, [u8; 32])>,
    },
    /// It cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Segments {
    /// Reads every segment.
    pub fn read(layout: &Layout) -> Self {
        let mut found = Self::default();
        match segment::segments(layout) {
            Ok(numbers) => numbers.into_iter().for_each(|number| found.read_one(layout, number)),
            Err(error) => {
                found.flaws.push(SegmentFlaw::Unreadable { path: layout.pack(), reason: error.to_string() });
            }
        }
        found
    }

    fn read_one(&mut self, layout: &Layout, segment: u32) {
        let path = segment::path_of(layout, segment);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (end, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                return self.flaws.push(SegmentFlaw::Unreadable { path, reason: error.to_string() });
            }
        };
        self.bytes += end;
        let start = segment::records_begin(&file).unwrap_or_else(|| {
            self.flaws.push(SegmentFlaw::Magic { segment });
            HEAD.len() as u64
        });
        let mut flaws = Vec::new();
        let sound = scan(&file, start, end, &mut |piece| match piece {
            Piece::Record { kind, id, offset, len } => {
                self.places.insert(id, (kind, Located { segment, offset, len }));
            }
            Piece::Damage { start, end, was } => {
                flaws.push(SegmentFlaw::Record { segment, start, end, was });
            }
        });
        if sound < end {
            let was = segment::record_head_at(&file, sound)
                .filter(|(_, len, _)| sound + segment::RECORD_HEAD_BYTES + u64::from(*len) <= end)
                .map(|(kind, _, id)| (kind, id));
            flaws.push(SegmentFlaw::Tail { segment, start: sound, end, was });
        }
        self.ends.insert(segment, end);
        self.flaws.extend(flaws);
    }

    /// What is wrong with them.
    pub fn flaws(&self) -> &[SegmentFlaw] {
        &self.flaws
    }

    /// Where an object lies, and what it is.
    pub fn get(&self, id: &[u8; 32]) -> Option<(ObjectKind, Located)> {
        self.places.get(id).copied()
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8; 32], ObjectKind, Located)> {
        self.places.iter().map(|(id, (kind, located))| (id, *kind, *located))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many bytes the segments have.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long a segment is; `None` when there is none of that number.
    pub fn end_of(&self, segment: u32) -> Option<u64> {
        self.ends.get(&segment).copied()
    }
}

impl Catalog for Segments {
    fn locate(&self, id: &[u8; 32]) -> Result<Option<Located>, SourceError> {
        Ok(self.get(id).map(|(_, located)| located))
    }

    fn record(&self, _segment: u32, _end: u64, _placed: &[Placed]) -> Result<(), SourceError> {
        Err(SourceError("nothing is written while a store is checked".into()))
    }

    fn forget(&self, _segment: u32) -> Result<(), SourceError> {
        Err(SourceError("nothing is written while a store is checked".into()))
    }

    fn known_until(&self, segment: u32) -> Result<u64, SourceError> {
        Ok(self.end_of(segment).unwrap_or(0))
    }

    fn found_in(&self, segment: u32) -> Result<Vec<Placed>, SourceError> {
        let here = self.iter().filter(|(.., located)| located.segment == segment);
        Ok(here.map(|(id, kind, located)| Placed { id: *id, kind, located }).collect())
    }
}

/// What lies in `objects/` besides segments.
#[derive(Debug, Default)]
pub struct BlobFiles {
    /// The blobs.
    pub blobs: HashMap<BlobId, BlobFile>,
    /// What has no blob's name, or is no regular file.
    pub strange: Vec<PathBuf>,
    /// Directories and files that cannot be looked at, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl BlobFiles {
    /// Lists every blob; reads none.
    pub fn list(layout: &Layout) -> Self {
        let mut found = Self::default();
        let objects = layout.objects();
        for (name, path) in found.names(&objects) {
            if name == "pack" {
                continue;
            }
            let is_shard = name.len() == 2 && is_hex(&name) && path.is_dir();
            if !is_shard {
                found.strange.push(path);
                continue;
            }
            for (rest, path) in found.names(&path) {
                found.take(&name, &rest, path);
            }
        }
        found
    }

    fn take(&mut self, shard: &str, rest: &str, path: PathBuf) {
        let id = format!("{shard}{rest}").parse::<BlobId>().ok().filter(|_| rest.len() == 62);
        match (id, std::fs::symlink_metadata(&path)) {
            (Some(id), Ok(meta)) if meta.is_file() => {
                self.blobs.insert(id, BlobFile::of(&meta));
            }
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            (_, Err(error)) => self.unreadable.push((path, error.to_string())),
            _ => self.strange.push(path),
        }
    }

    fn names(&mut self, directory: &Path) -> Vec<(String, PathBuf)> {
        match std::fs::read_dir(directory) {
            Ok(entries) => entries
                .filter_map(Result::ok)
                .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
                .collect(),
            Err(error) => {
                self.unreadable.push((directory.to_owned(), error.to_string()));
                Vec::new()
            }
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// What a blob's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobState {
    /// What its name says.
    Sound,
    /// Something else; how many bytes there are.
    Flipped(u64),
    /// It is not there.
    Missing,
    /// It cannot be read, and why.
    Unreadable(String),
}

/// Reads a blob's file and says whether it is what its name says. Memory is bounded.
pub fn check_blob(layout: &Layout, id: &BlobId) -> BlobState {
    match hash(&layout.blob(id)) {
        Ok((found, _)) if found == *id => BlobState::Sound,
        Ok((_, len)) => BlobState::Flipped(len),
        Err(error) if error.kind() == io::ErrorKind::NotFound => BlobState::Missing,
        Err(error) => BlobState::Unreadable(error.to_string()),
    }
}

/// The id that a file's bytes have as a blob, and how many they are.
pub(super) fn hash(path: &Path) -> io::Result<(BlobId, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = BlobHasher::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut len = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), len)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                len += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a segment's tail is torn now that nobody appends to it: the lock is waited for. `None` when it cannot be told.
pub fn tail_is_torn(layout: &Layout, segment: u32) -> Option<bool> {
    let _lock = segment::lock(layout).ok()?;
    let mut again = Segments::default();
    again.read_one(layout, segment);
    Some(again.flaws.iter().any(|flaw| matches!(flaw, SegmentFlaw::Tail { .. })))
}

/// Whether an object lies whole where somebody says.
pub fn lies_at(layout: &Layout, kind: ObjectKind, id: &[u8; 32], located: Located) -> bool {
    segment::read(layout, kind, id, located).is_ok()
}
