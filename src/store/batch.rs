//! A set of objects that become visible together.
//!
//! # Durability
//! Blobs are written to a scratch directory first. [`Batch::commit`] syncs them, gives them their names, appends trees and states to a segment,
//! and syncs the directories: names never precede bytes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::segment::{self, ObjectKind};
use super::{Store, StoreError};
use crate::disk::{DiskError, Scratch, SyncSet, create_dir_all_private, rename};
use crate::object::{BlobHasher, BlobId, Meta, SourceError, State, StateId, TreeId, TreeSink};

/// Objects on their way into the store. Blobs may be added from several threads.
#[derive(Debug)]
pub struct Batch<'s> {
    store: &'s Store,
    scratch: Scratch,
    blobs: Mutex<HashSet<BlobId>>,
    next: AtomicU64,
    packed: Vec<(ObjectKind, [u8; 32], Vec<u8>)>,
    packed_ids: HashSet<[u8; 32]>,
}

/// The bytes of a blob with their name, which is their hash.
#[derive(Debug)]
pub struct HashedBytes {
    id: BlobId,
    bytes: Vec<u8>,
}

impl HashedBytes {
    /// Hashes bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { id: BlobId::of(&bytes), bytes }
    }

    /// The blob's name.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A blob whose bytes arrive as a stream.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    path: PathBuf,
    hasher: BlobHasher,
    len: u64,
}

impl<'s> Batch<'s> {
    pub(super) fn new(store: &'s Store) -> Result<Self, StoreError> {
        let scratch = Scratch::new(&store.layout().tmp())?;
        Ok(Self {
            store,
            scratch,
            blobs: Mutex::new(HashSet::new()),
            next: AtomicU64::new(0),
            packed: Vec::new(),
            packed_ids: HashSet::new(),
        })
    }

    /// The directory for what is half-made; it vanishes with the batch.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Adds a blob whose bytes are at hand. `meta` becomes the file's own where a plain user can set it, so that layers can link to it.
    pub fn put_blob(&self, bytes: &[u8], meta: Option<&Meta>) -> Result<BlobId, StoreError> {
        let id = BlobId::of(bytes);
        self.put_named(id, bytes, meta)?;
        Ok(id)
    }

    /// Adds a blob that was hashed before, by another thread for one.
    pub fn put_hashed(&self, blob: &HashedBytes, meta: Option<&Meta>) -> Result<(), StoreError> {
        self.put_named(blob.id, &blob.bytes, meta)
    }

    fn put_named(&self, id: BlobId, bytes: &[u8], meta: Option<&Meta>) -> Result<(), StoreError> {
        if !self.claim(&id, bytes.len() as u64)? {
            return Ok(());
        }
        let path = self.blob_scratch(&id);
        let written = open_new(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            dress(&file, meta)
        });
        written.map_err(|error| {
            let _ = std::fs::remove_file(&path);
            self.unclaim(&id, DiskError::new("write", &path, error))
        })
    }

    /// Starts a blob whose bytes arrive as a stream.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.scratch.path().join(format!("stream-{number}"));
        let file = open_new(&path).map_err(|error| DiskError::new("create", &path, error))?;
        Ok(BlobWriter { file, path, hasher: BlobHasher::new(), len: 0 })
    }

    /// Takes a finished stream in; gives its id and length in bytes.
    pub fn put_stream(&self, writer: BlobWriter, meta: Option<&Meta>) -> Result<(BlobId, u64), StoreError> {
        let id = writer.hasher.finish();
        let done = dress(&writer.file, meta).map_err(|error| DiskError::new("write", &writer.path, error));
        match done {
            Ok(()) => self.adopt(&writer.path, id, writer.len)?,
            Err(error) => return Err(error.into()),
        };
        Ok((id, writer.len))
    }

    /// Takes in a file of this batch's scratch directory that is already hashed: it is renamed, not copied, or removed when known.
    fn adopt(&self, path: &Path, id: BlobId, len: u64) -> Result<(), StoreError> {
        if self.claim(&id, len)? {
            rename(path, &self.blob_scratch(&id)).map_err(|error| self.unclaim(&id, error))
        } else {
            Ok(std::fs::remove_file(path).map_err(|error| DiskError::new("remove", path, error))?)
        }
    }

    /// Takes in a blob that something else, such as the worker, put at [`Batch::blob_scratch`].
    pub fn note_placed(&self, id: BlobId) {
        self.blobs.lock().expect("no holder panics").insert(id);
    }

    /// Where a new blob of this batch waits for the commit.
    pub fn blob_scratch(&self, id: &BlobId) -> PathBuf {
        self.scratch.path().join(id.to_string())
    }

    /// Adds a state.
    pub fn put_state(&mut self, state: &State) -> Result<StateId, StoreError> {
        let (id, bytes) = state.encode();
        self.put_packed(ObjectKind::State, *id.as_bytes(), bytes)?;
        Ok(id)
    }

    fn put_packed(&mut self, kind: ObjectKind, id: [u8; 32], bytes: Vec<u8>) -> Result<(), StoreError> {
        if self.packed_ids.contains(&id) || self.store.has_packed(&id)? {
            return Ok(());
        }
        self.packed_ids.insert(id);
        self.packed.push((kind, id, bytes));
        Ok(())
    }

    /// Makes everything visible: bytes first, names then.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { store, scratch, blobs, packed, .. } = self;
        let blobs = blobs.into_inner().expect("no holder panics");
        let durability = store.durability();
        let from = |id: &BlobId| scratch.path().join(id.to_string());
        let mut bytes = SyncSet::new(durability);
        for id in &blobs {
            bytes.file(&from(id));
        }
        bytes.finish()?;
        let mut names = SyncSet::new(durability);
        for id in &blobs {
            let to = store.layout().blob(id);
            place(&from(id), &to)?;
            names.directory(to.parent().expect("a blob lies in a directory"));
        }
        names.finish()?;
        segment::append(store.layout(), store.catalog.as_ref(), durability, &packed)
    }

    /// Whether this batch is to write the blob: false when the store or the batch has it.
    ///
    /// A blob in the store that was cut short, by a power cut for one, is written again.
    fn claim(&self, id: &BlobId, len: u64) -> Result<bool, StoreError> {
        if self.store.blob_len(id)? == Some(len) {
            return Ok(false);
        }
        Ok(self.blobs.lock().expect("no holder panics").insert(*id))
    }

    fn unclaim(&self, id: &BlobId, error: DiskError) -> StoreError {
        self.blobs.lock().expect("no holder panics").remove(id);
        error.into()
    }
}

impl TreeSink for Batch<'_> {
    fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.put_packed(ObjectKind::Tree, *id.as_bytes(), bytes).map_err(|error| SourceError(Box::new(error)))
    }
}

impl BlobWriter {
    /// How many bytes were written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.len += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Gives a blob's file the mode and time of the entry it comes from, when its owner can still read it then.
fn dress(file: &File, meta: Option<&Meta>) -> io::Result<()> {
    let Some(meta) = meta else { return file.set_permissions(std::fs::Permissions::from_mode(0o444)) };
    if meta.mode & 0o400 == 0 {
        return file.set_permissions(std::fs::Permissions::from_mode(0o444));
    }
    file.set_permissions(std::fs::Permissions::from_mode(u32::from(meta.mode)))?;
    let time =
        rustix::fs::Timespec { tv_sec: meta.mtime.seconds(), tv_nsec: i64::from(meta.mtime.nanoseconds()) };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

fn place(from: &Path, to: &Path) -> Result<(), StoreError> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir_all_private(to.parent().expect("a blob lies in a directory"))?;
            Ok(rename(from, to)?)
        }
        Err(error) => Err(DiskError::new("rename into place", to, error).into()),
    }
}
