//! A set of objects that become visible together.
//!
//! # Durability
//! Blobs are written to a scratch directory first. [`Batch::commit`] syncs them, gives them their names, appends trees and states to a segment,
//! and syncs the directories: names never precede bytes.
//!
//! # Locking
//! A batch shares the deleters' lock for its whole life, or, for long work, only at its two ends: then it notes which known objects it
//! relies on, and when something was deleted meanwhile it looks whether they are still there before it makes anything visible.
//!
//! A large batch keeps its blobs in directories like those of `objects/`, so that threads do not wait for one directory, and where the store
//! has no such directory yet the whole directory gets its name at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::room::Filling;
use super::segment::{self, ObjectKind};
use super::{Lease, Leased, Store, StoreError, Undeleted};
use crate::disk::{
    DiskError, Scratch, SparseWriter, SyncSet, create_dir_all_private, rename, sync_file_system,
};
use crate::object::{BlobHasher, BlobId, Meta, SourceError, State, StateId, TreeId, TreeSink};

/// Objects on their way into the store. Blobs may be added from several threads.
#[derive(Debug)]
pub struct Batch<'s> {
    store: &'s Store,
    scratch: Scratch,
    blobs: Mutex<Blobs>,
    next: AtomicU64,
    packed: Vec<(ObjectKind, [u8; 32], Vec<u8>)>,
    packed_ids: HashSet<[u8; 32]>,
    /// That nothing is deleted; `None` for long work.
    undeleted: Option<Undeleted>,
    /// The deleters' generation when it began.
    generation: u64,
    relied: Relied,
    filling: Option<Filling>,
}

/// Known objects that a long batch does not write again.
#[derive(Debug, Default)]
struct Relied {
    blobs: Mutex<HashSet<BlobId>>,
    packed: HashSet<[u8; 32]>,
    leases: Mutex<Vec<Lease>>,
}

/// Room that a stream asks for at a time.
const WRITER_ROOM_BYTES: u64 = 64 << 10;

/// Up to this many blobs are not worth directories of their own.
const FLAT_BLOBS: usize = 64;

/// The blobs of a batch and where they wait.
#[derive(Debug, Default)]
struct Blobs {
    places: HashMap<BlobId, Waiting>,
    /// The directories that were made, by the first byte of the ids in them.
    spread: BTreeMap<u8, Spread>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// In the scratch directory itself.
    Flat,
    /// In one of its directories.
    Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// Everything in the directory is whole.
    Whole,
    /// A write failed and may have left something.
    Doubtful,
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
    file: SparseWriter,
    path: PathBuf,
    hasher: BlobHasher,
    len: u64,
    /// For how many of them there is room.
    filled: u64,
    filling: Option<Filling>,
}

impl<'s> Batch<'s> {
    pub(super) fn new(store: &'s Store, lasting: bool) -> Result<Self, StoreError> {
        store.writable()?;
        let undeleted = store.undeleted()?;
        let generation = undeleted.generation();
        let scratch = Scratch::new(&store.layout().tmp())?;
        Ok(Self {
            store,
            scratch,
            blobs: Mutex::default(),
            next: AtomicU64::new(0),
            packed: Vec::new(),
            packed_ids: HashSet::new(),
            undeleted: lasting.then_some(undeleted),
            generation,
            relied: Relied::default(),
            // Who makes room deletes, and must not wait for who keeps deleters away.
            filling: store.room.clone().filter(|_| !lasting).map(Filling::new),
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
        let Some(waiting) = self.claim(&id, bytes.len() as u64)? else { return Ok(()) };
        if let Some(filling) = &self.filling
            && let Err(error) = filling.take(bytes.len() as u64)
        {
            self.lock().places.remove(&id);
            return Err(error);
        }
        let path = self.waiting_path(&id, waiting);
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
        let (file, hasher) = (SparseWriter::new(file), BlobHasher::new());
        Ok(BlobWriter { file, path, hasher, len: 0, filled: 0, filling: self.filling.clone() })
    }

    /// Takes a finished stream in; gives its id and length in bytes.
    pub fn put_stream(&self, writer: BlobWriter, meta: Option<&Meta>) -> Result<(BlobId, u64), StoreError> {
        let id = writer.hasher.finish();
        let done = writer
            .file
            .finish()
            .and_then(|file| dress(&file, meta))
            .map_err(|error| DiskError::new("write", &writer.path, error));
        match done {
            Ok(()) => self.adopt(&writer.path, id, writer.len)?,
            Err(error) => return Err(error.into()),
        };
        Ok((id, writer.len))
    }

    /// Takes in a file of this batch's scratch directory that is already hashed: it is renamed, not copied, or removed when known.
    fn adopt(&self, path: &Path, id: BlobId, len: u64) -> Result<(), StoreError> {
        match self.claim(&id, len)? {
            Some(waiting) => {
                rename(path, &self.waiting_path(&id, waiting)).map_err(|error| self.unclaim(&id, error))
            }
            None => Ok(std::fs::remove_file(path).map_err(|error| DiskError::new("remove", path, error))?),
        }
    }

    /// Notes that a known tree is part of what is made: one that was found by a record rather than reached from what is in use.
    pub fn rely_on_tree(&mut self, id: &TreeId) -> Result<(), StoreError> {
        if self.undeleted.is_none() {
            let lease = self.store.lease(Leased::Tree(*id))?;
            self.relied.leases.lock().expect("no holder panics").push(lease);
            self.relied.packed.insert(*id.as_bytes());
        }
        Ok(())
    }

    /// Takes in a blob that something else, such as the worker, put at [`Batch::blob_scratch`].
    pub fn note_placed(&self, id: BlobId) {
        self.lock().places.insert(id, Waiting::Flat);
    }

    /// Where a new blob that something else makes waits for the commit.
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
        if self.packed_ids.contains(&id) {
            return Ok(());
        }
        if self.store.has_packed(&id)? {
            if self.undeleted.is_none() {
                self.relied.packed.insert(id);
            }
            return Ok(());
        }
        self.packed_ids.insert(id);
        self.packed.push((kind, id, bytes));
        Ok(())
    }

    /// Has what was added so far written to the disk, for a large batch: the commit has less to wait for then. Promises nothing.
    pub fn sync_early(&self) -> Result<(), StoreError> {
        Ok(sync_file_system(self.scratch.path(), self.store.durability())?)
    }

    /// Makes everything visible: bytes first, names then. Nothing is deleted until what is given back goes: by then something that lasts
    /// has to lead to the new objects, a lease, a ref or a row.
    ///
    /// # Errors
    /// [`StoreError::Vanished`] when a long batch relied on something that was deleted. Nothing is visible then.
    pub fn commit(self) -> Result<Undeleted, StoreError> {
        let Self { store, scratch, blobs, packed, undeleted, generation, mut relied, filling, .. } = self;
        let Blobs { places, spread } = blobs.into_inner().expect("no holder panics");
        let durability = store.durability();
        let mut bytes = SyncSet::new(durability);
        for (id, waiting) in &places {
            bytes.file(&waiting.below(scratch.path(), id));
        }
        bytes.finish()?;
        let undeleted = match undeleted {
            Some(undeleted) => undeleted,
            None => store.undeleted()?,
        };
        if undeleted.generation() != generation {
            relied.check(store)?;
        }
        let _leases = std::mem::take(&mut relied.leases);
        let objects = store.layout().objects();
        let mut names = SyncSet::new(durability);
        let mut placed = [false; 256];
        for (first, state) in spread {
            let to = objects.join(format!("{first:02x}"));
            if state == Spread::Whole && place_directory(&spread_path(scratch.path(), first), &to)? {
                placed[usize::from(first)] = true;
                names.directory(&to);
            }
        }
        for (id, waiting) in &places {
            if *waiting == Waiting::Spread && placed[usize::from(id.as_bytes()[0])] {
                continue;
            }
            let to = store.layout().blob(id);
            place(&waiting.below(scratch.path(), id), &to)?;
            names.directory(to.parent().expect("a blob lies in a directory"));
        }
        if !places.is_empty() {
            // The directories' own names, also of one that another process has made and not synced yet.
            names.directory(&objects);
        }
        names.finish()?;
        segment::append(store.layout(), store.catalog.as_ref(), durability, &packed)?;
        if let Some(room) = &store.room {
            let packed_bytes =
                packed.iter().map(|(_, _, bytes)| segment::record_bytes(bytes.len() as u64)).sum::<u64>();
            room.spent(packed_bytes + filling.as_ref().map_or(0, Filling::taken));
        }
        drop(filling);
        Ok(undeleted)
    }

    /// Where this batch is to write the blob; `None` when the store or the batch has it.
    ///
    /// A blob in the store that was cut short, by a power cut for one, is written again.
    fn claim(&self, id: &BlobId, len: u64) -> Result<Option<Waiting>, StoreError> {
        if self.store.blob_len(id)? == Some(len) {
            if self.undeleted.is_none() {
                if self.filling.is_some() {
                    // Making room for this very batch must not take what it found.
                    let _undeleted = self.store.undeleted()?;
                    let lease = self.store.leases.take(Leased::Blob(*id))?;
                    if self.store.blob_len(id)? != Some(len) {
                        return self.claim(id, len);
                    }
                    self.relied.leases.lock().expect("no holder panics").push(lease);
                }
                self.relied.blobs.lock().expect("no holder panics").insert(*id);
            }
            return Ok(None);
        }
        let mut blobs = self.lock();
        if blobs.places.contains_key(id) {
            return Ok(None);
        }
        let waiting = if blobs.places.len() < FLAT_BLOBS { Waiting::Flat } else { Waiting::Spread };
        let first = id.as_bytes()[0];
        if waiting == Waiting::Spread && !blobs.spread.contains_key(&first) {
            create_dir_all_private(&spread_path(self.scratch.path(), first))?;
            blobs.spread.insert(first, Spread::Whole);
        }
        blobs.places.insert(*id, waiting);
        Ok(Some(waiting))
    }

    fn unclaim(&self, id: &BlobId, error: DiskError) -> StoreError {
        let mut blobs = self.lock();
        if blobs.places.remove(id) == Some(Waiting::Spread) {
            blobs.spread.insert(id.as_bytes()[0], Spread::Doubtful);
        }
        error.into()
    }

    fn waiting_path(&self, id: &BlobId, waiting: Waiting) -> PathBuf {
        waiting.below(self.scratch.path(), id)
    }

    fn lock(&self) -> MutexGuard<'_, Blobs> {
        self.blobs.lock().expect("no holder panics")
    }
}

impl Relied {
    fn check(&self, store: &Store) -> Result<(), StoreError> {
        let vanished = |kind: ObjectKind, id: String| Err(StoreError::Vanished { kind: kind.word(), id });
        for id in &self.packed {
            if !store.has_packed(id)? {
                return vanished(ObjectKind::Tree, TreeId::from_bytes(*id).to_string());
            }
        }
        for id in self.blobs.lock().expect("no holder panics").iter() {
            if store.blob_len(id)?.is_none() {
                return vanished(ObjectKind::Blob, id.to_string());
            }
        }
        Ok(())
    }
}

impl Waiting {
    fn below(self, scratch: &Path, id: &BlobId) -> PathBuf {
        let hex = id.to_string();
        match self {
            Self::Flat => scratch.join(hex),
            Self::Spread => spread_path(scratch, id.as_bytes()[0]).join(&hex[2..]),
        }
    }
}

fn spread_path(scratch: &Path, first: u8) -> PathBuf {
    scratch.join(format!("blobs-{first:02x}"))
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
        // Holes take none.
        if let Some(filling) = &self.filling
            && self.len + bytes.len() as u64 > self.filled
            && bytes.iter().any(|byte| *byte != 0)
        {
            let more = (bytes.len() as u64).max(WRITER_ROOM_BYTES);
            filling.take(more).map_err(io::Error::other)?;
            self.filled = self.len + more;
        }
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

/// Gives a directory of blobs its name; false when there is one with blobs already.
fn place_directory(from: &Path, to: &Path) -> Result<bool, StoreError> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) =>
        {
            Ok(false)
        }
        Err(error) => Err(DiskError::new("rename into place", to, error).into()),
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::MemoryCatalog;
    use super::super::{Layout, Store};
    use super::*;
    use crate::disk::Durability;

    fn open(dir: &Path) -> Store {
        let layout = Layout::open_or_create(&dir.join("store")).unwrap();
        Store::open(layout, Arc::new(MemoryCatalog::default()), Durability::Commit).unwrap()
    }

    fn fill(store: &Store, from: u32, to: u32) -> Vec<BlobId> {
        let batch = store.batch().unwrap();
        let put = |number: u32| batch.put_blob(format!("blob {number}").as_bytes(), None).unwrap();
        let ids = (from..to).map(put).collect();
        // Once more is no more.
        put(from);
        batch.sync_early().unwrap();
        batch.commit().unwrap();
        ids
    }

    #[test]
    fn large_batches_bring_every_blob_into_a_store_that_has_some_of_the_directories_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        // Some directories of one blob first, then all with and without them, then all of them again.
        let mut ids = fill(&store, 0, 40);
        ids.extend(fill(&store, 30, 2000));
        ids.extend(fill(&store, 1000, 4000));
        for (number, id) in (0..40).chain(30..2000).chain(1000..4000).zip(&ids) {
            assert_eq!(store.read_blob(id).unwrap(), format!("blob {number}").as_bytes());
        }
        let left: Vec<_> = std::fs::read_dir(store.layout().tmp()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_directory_in_which_a_write_failed_is_not_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let batch = store.batch().unwrap();
        let ids: Vec<BlobId> =
            (0..1000u32).map(|number| batch.put_blob(&number.to_le_bytes(), None).unwrap()).collect();
        let bad = BlobId::of(b"bad");
        let path = batch.waiting_path(&bad, Waiting::Spread);
        std::fs::create_dir_all(&path).unwrap();
        batch.put_blob(b"bad", None).unwrap_err();
        batch.commit().unwrap();
        assert!(ids.iter().all(|id| store.blob_len(id).unwrap() == Some(4)));
        assert_eq!(store.blob_len(&bad).unwrap(), None);
    }
}
