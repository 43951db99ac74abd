//! What living processes use, so that nobody deletes it: `<store>/leases/`.
//!
//! A process has one file, `PID-N`, which it holds locked and in which every used thing has a slot of 33 bytes: its kind, 0 for a free
//! slot, and 32 bytes that name it. A free lock says that the owner is dead and its leases are over. Nothing is synced: a power cut ends the
//! process too.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{DiskError, FileLock, LockMode, create_dir_all_private};
use crate::object::{BlobId, StateId, TreeId};

/// Bytes of one slot.
const SLOT_BYTES: usize = 33;

/// The longest file of leases that is read: as many slots as fit into 1 GiB.
const MAX_LEASES_BYTES: u64 = 1 << 30;

/// Something that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leased {
    /// A state with all its files.
    State(StateId),
    /// A root tree with all its files.
    Tree(TreeId),
    /// A blob.
    Blob(BlobId),
    /// A directory below `layers/`, by the BLAKE3-256 of its name.
    Layer([u8; 32]),
    /// Every original that was made or used since then, in milliseconds since 1970.
    OriginalsSince(u64),
    /// Room on disk that is about to be filled: how many bytes, and a number that no other reservation of the process has.
    Room(u64, u64),
}

impl Leased {
    /// A layer of that name.
    pub fn layer(name: &str) -> Self {
        Self::Layer(*blake3::hash(name.as_bytes()).as_bytes())
    }

    pub(super) fn slot(self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        let (kind, id) = match self {
            Self::State(id) => (1, *id.as_bytes()),
            Self::Tree(id) => (2, *id.as_bytes()),
            Self::Blob(id) => (3, *id.as_bytes()),
            Self::Layer(id) => (4, id),
            Self::OriginalsSince(ms) => {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&ms.to_le_bytes());
                (5, id)
            }
            Self::Room(bytes, number) => {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&bytes.to_le_bytes());
                id[8..16].copy_from_slice(&number.to_le_bytes());
                (6, id)
            }
        };
        slot[0] = kind;
        slot[1..].copy_from_slice(&id);
        slot
    }

    /// What a slot says; `None` for a free one and for kinds that are not known here.
    /// What the slots of a file say.
    pub(super) fn of_file(bytes: &[u8]) -> impl Iterator<Item = Self> {
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        slots.iter().filter_map(Self::of_slot)
    }

    fn of_slot(slot: &[u8; SLOT_BYTES]) -> Option<Self> {
        let id: [u8; 32] = slot[1..].try_into().ok()?;
        match slot[0] {
            1 => Some(Self::State(StateId::from_bytes(id))),
            2 => Some(Self::Tree(TreeId::from_bytes(id))),
            3 => Some(Self::Blob(BlobId::from_bytes(id))),
            4 => Some(Self::Layer(id)),
            5 => Some(Self::OriginalsSince(u64::from_le_bytes(id[..8].try_into().ok()?))),
            6 => {
                let number = |at: usize| Some(u64::from_le_bytes(id[at..at + 8].try_into().ok()?));
                Some(Self::Room(number(0)?, number(8)?))
            }
            _ => None,
        }
    }
}

/// The leases of this process in one store.
#[derive(Debug)]
pub(super) struct Leases {
    dir: PathBuf,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    file: Option<(FileLock, PathBuf)>,
    /// Each leased thing with its slot and how many leases of it there are.
    slots: HashMap<Leased, (u64, usize)>,
    free: Vec<u64>,
    next: u64,
}

/// Keeps something from being deleted for as long as it lives.
#[derive(Debug)]
pub struct Lease {
    leases: Arc<Leases>,
    what: Leased,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Leases {
    pub(super) fn new(dir: PathBuf) -> Arc<Self> {
        Arc::new(Self { dir, table: Mutex::default() })
    }

    /// Takes a lease. The caller keeps deleters away until it has seen that the thing is there.
    pub(super) fn take(self: &Arc<Self>, what: Leased) -> Result<Lease, DiskError> {
        let mut table = self.lock();
        if let Some((_, count)) = table.slots.get_mut(&what) {
            *count += 1;
            return Ok(Lease { leases: Arc::clone(self), what });
        }
        if table.file.is_none() {
            table.file = Some(create(&self.dir)?);
            table.free.clear();
            table.next = 0;
        }
        let slot = table.free.pop().unwrap_or(table.next);
        let (lock, path) = table.file.as_ref().expect("it was made above");
        let written = lock.file().write_all_at(&what.slot(), slot * SLOT_BYTES as u64);
        if let Err(error) = written {
            let error = DiskError::new("write", path, error);
            table.give_back(slot);
            return Err(error);
        }
        table.next = table.next.max(slot + 1);
        table.slots.insert(what, (slot, 1));
        Ok(Lease { leases: Arc::clone(self), what })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn give_back(&mut self, slot: u64) {
        if slot < self.next {
            self.free.push(slot);
        }
        if self.slots.is_empty()
            && let Some((_lock, path)) = self.file.take()
        {
            // Nobody else removes it while it is locked.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.leases.lock();
        let Some((slot, count)) = table.slots.get_mut(&self.what) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let slot = *slot;
        table.slots.remove(&self.what);
        if let Some((lock, _)) = &table.file {
            // A slot that stays by mistake keeps something a little longer: no harm.
            let _ = lock.file().write_all_at(&[0], slot * SLOT_BYTES as u64);
        }
        table.give_back(slot);
    }
}

/// Makes a file that nobody else has.
fn create(dir: &Path) -> Result<(FileLock, PathBuf), DiskError> {
    create_dir_all_private(dir)?;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{}-{number}", std::process::id()));
        // A process of the same number in another pid namespace may share the store: take the next number.
        let Some(lock) = FileLock::try_acquire(&path, LockMode::Exclusive)? else { continue };
        let emptied = lock.file().set_len(0);
        emptied.map_err(|error| DiskError::new("empty", &path, error))?;
        return Ok((lock, path));
    }
}

/// Everything that living processes use. Files of dead ones are removed.
///
/// Without the deleters' lock it may miss what is just being taken.
pub(super) fn all(dir: &Path) -> Result<Vec<Leased>, DiskError> {
    let mut found = Vec::new();
    let listing = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        listing => listing.map_err(|error| DiskError::new("list", dir, error))?,
    };
    for entry in listing {
        let path = entry.map_err(|error| DiskError::new("list", dir, error))?.path();
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            // It has ended meanwhile.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        if let Some(bytes) = bytes {
            found.extend(Leased::of_file(&bytes));
        }
    }
    Ok(found)
}

/// The slots of a living process; `None` when it is dead, and its file is gone then.
fn read(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    let file = File::open(path).map_err(|error| DiskError::new("open", path, error))?;
    if file.try_lock().is_ok() {
        crate::disk::remove_file(path)?;
        return Ok(None);
    }
    crate::disk::read_limited(path, MAX_LEASES_BYTES).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u8) -> Leased {
        Leased::State(StateId::from_bytes([number; 32]))
    }

    #[test]
    fn a_lease_lasts_as_long_as_one_of_its_holders_and_its_slot_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path().join("leases"));
        let first = leases.take(state(1)).unwrap();
        let again = leases.take(state(1)).unwrap();
        let second = leases.take(Leased::OriginalsSince(7)).unwrap();
        let mut found = all(&leases.dir).unwrap();
        found.sort_unstable();
        assert_eq!(found, [state(1), Leased::OriginalsSince(7)]);
        drop(first);
        assert_eq!(all(&leases.dir).unwrap().len(), 2);
        drop(again);
        assert_eq!(all(&leases.dir).unwrap(), [Leased::OriginalsSince(7)]);
        let third = leases.take(Leased::layer("x")).unwrap();
        let path = std::fs::read_dir(&leases.dir).unwrap().next().unwrap().unwrap().path();
        assert_eq!(path.metadata().unwrap().len(), 2 * SLOT_BYTES as u64);
        drop((second, third));
        assert_eq!(std::fs::read_dir(&leases.dir).unwrap().count(), 0, "nothing stays behind");
        let _anew = leases.take(state(2)).unwrap();
        assert_eq!(all(&leases.dir).unwrap(), [state(2)]);
    }

    #[test]
    fn what_a_dead_process_used_is_free() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("999999999-0"), state(1).slot()).unwrap();
        let living = Leases::new(dir.path().to_owned());
        let _lease = living.take(state(2)).unwrap();
        assert_eq!(all(dir.path()).unwrap(), [state(2)]);
        assert!(!dir.path().join("999999999-0").exists());
    }
}
