//! A bound on what the store takes on disk, kept while things are made: room is reserved before it is filled.
//!
//! What the store takes is known without measuring it: `usage` holds what was measured last and what came to it since; each process says in its leases what
//! it has reserved. Both are corrected by each garbage collection. When there is too little room the least recently used goes, and when that is not
//! enough, what asked is refused.
//!
//! # Locking
//! `usage` is locked while a reservation is made or counted. Garbage is collected without that lock.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::blocking::Engine;
use super::core::Core;
use super::error::{Error, Result};
use super::gc::{GcOptions, StoreSize};
use crate::disk::{DiskError, FileLock, LockMode, read_limited, remove_file, write_atomic};
use crate::store::{Layout, Lease, Leased, Room, StoreError};

/// The longest file with the bound that is read.
const MAX_SIZE_FILE_BYTES: u64 = 64;
/// How often room is made for one reservation: others may take what was made.
const MAX_TRIES: usize = 3;
/// The least room that a run is started with.
const MIN_RUN_BYTES: u64 = 1 << 20;
/// What a commit takes: three loose objects and lines of logs.
pub(super) const COMMIT_BYTES: u64 = 16 << 10;
/// What an entry of a layer takes at most that is a link to a blob: its share of a directory, or a directory of its own.
const LAYER_ENTRY_BYTES: u64 = 1024;

/// The bound of one store.
#[derive(Debug)]
pub(super) struct Quota {
    layout: Layout,
    /// The bound that the engine was opened with, instead of the store's own.
    given: Option<u64>,
    core: OnceLock<Weak<Core>>,
    /// One thread makes room at a time: what it makes may be enough for the others.
    making: Mutex<()>,
    next: AtomicU64,
}

/// Room that a run may fill.
#[derive(Debug)]
pub(super) struct RunRoom {
    pub(super) bytes: u64,
    pub(super) max_bytes: u64,
    _lease: Lease,
}

/// What the store takes but for scratch directories, and what living processes have reserved, scratch directories among it.
struct Usage {
    lock: FileLock,
    counted: Option<u64>,
    index: u64,
}

impl Quota {
    /// `None` where nothing bounds the store.
    pub(super) fn of(layout: &Layout, given: Option<u64>) -> Result<Option<Arc<Self>>> {
        if given.is_none() && kept_max_bytes(layout)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            layout: layout.clone(),
            given,
            core: OnceLock::new(),
            making: Mutex::new(()),
            next: AtomicU64::new(0),
        })))
    }

    pub(super) fn serve(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    fn core(&self) -> Result<Arc<Core>, StoreError> {
        let core = self.core.get().and_then(Weak::upgrade);
        core.ok_or_else(|| DiskError::new("use", self.layout.root(), std::io::ErrorKind::NotFound).into())
    }

    /// The bound as it is now; another process may have changed it.
    fn max_bytes(&self) -> Result<u64, StoreError> {
        match self.given {
            Some(bytes) => Ok(bytes),
            None => Ok(kept_max_bytes(&self.layout)?.unwrap_or(u64::MAX)),
        }
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        Usage::read(&self.layout)
    }

    /// What is in use, reserved or about to be: with the lock on it.
    fn taken(&self, core: &Core) -> Result<(u64, Usage), StoreError> {
        let mut usage = self.usage()?;
        if usage.counted.is_none() {
            let size =
                core.size().map_err(|error| DiskError::new("measure", self.layout.root(), other(error)))?;
            usage.set(counted(&size))?;
        }
        let reserved: u64 = core.store.leased()?.iter().map(reserved_bytes).sum();
        Ok((usage.counted.unwrap_or(0) + usage.index + reserved, usage))
    }

    /// Reserves between `least` and `most` bytes: what there is, without making any.
    fn try_reserve(&self, core: &Core, least: u64, most: u64) -> Result<Option<(u64, Lease)>, StoreError> {
        let (taken, usage) = self.taken(core)?;
        let free = self.max_bytes()?.saturating_sub(taken);
        if free < least {
            return Ok(None);
        }
        let bytes = most.min(free);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let lease = core.store.lease(Leased::Room(bytes, number))?;
        drop(usage);
        Ok(Some((bytes, lease)))
    }

    /// Lets go what was not used for longest, until there is room for so many bytes.
    fn make_room(&self, core: &Arc<Core>, bytes: u64) -> Result<(), StoreError> {
        let max = self.max_bytes()?;
        let reserved: u64 = core.store.leased()?.iter().map(reserved_bytes).sum();
        let failed = |error: Error| match error {
            Error::Store(error) => error,
            error => DiskError::new("make room in", self.layout.root(), other(error)).into(),
        };
        let tmp = core.size().map_err(failed)?.tmp;
        // A little more than is asked for: the next one is likely to ask too.
        let target = max.saturating_sub(reserved).saturating_sub(bytes).saturating_sub(max / 16) + tmp;
        core.collect(&GcOptions::new(), Some(target)).map_err(failed)?;
        Ok(())
    }
}

impl Room for Quota {
    fn reserve(&self, bytes: u64) -> Result<Lease, StoreError> {
        let core = self.core()?;
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        for tries in 0..=MAX_TRIES {
            if let Some((_, lease)) = self.try_reserve(&core, bytes, bytes)? {
                return Ok(lease);
            }
            if tries < MAX_TRIES {
                self.make_room(&core, bytes)?;
            }
        }
        Err(StoreError::NoRoom { max_bytes: self.max_bytes()?, wanted_bytes: bytes })
    }

    fn spent(&self, bytes: u64) {
        // What is not counted now the next collection counts.
        if let Ok(mut usage) = self.usage()
            && let Some(counted) = usage.counted
        {
            let _ = usage.set(counted.saturating_add(bytes));
        }
    }
}

impl Usage {
    fn read(layout: &Layout) -> Result<Self, StoreError> {
        let lock = FileLock::acquire(&layout.usage(), LockMode::Exclusive)?;
        let mut bytes = [0; 8];
        let counted = lock.file().read_exact_at(&mut bytes, 0).is_ok().then(|| u64::from_le_bytes(bytes));
        let index = ["", "-wal", "-shm"].iter().map(|suffix| {
            let mut path = layout.index().into_os_string();
            path.push(suffix);
            disk_bytes(Path::new(&path))
        });
        Ok(Self { lock, counted, index: index.sum() })
    }

    fn set(&mut self, counted: u64) -> Result<(), StoreError> {
        self.counted = Some(counted);
        let written = self.lock.file().write_all_at(&counted.to_le_bytes(), 0);
        written.map_err(|error| DiskError::new("write", "usage", error).into())
    }
}

fn other(error: Error) -> std::io::Error {
    std::io::Error::other(error)
}

fn reserved_bytes(leased: &Leased) -> u64 {
    match leased {
        Leased::Room(bytes, _) => *bytes,
        _ => 0,
    }
}

fn disk_bytes(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&match std::fs::metadata(path) {
        Ok(stat) => stat,
        Err(_) => return 0,
    }) * 512
}

fn counted(size: &StoreSize) -> u64 {
    size.total() - size.tmp - size.index
}

fn kept_max_bytes(layout: &Layout) -> Result<Option<u64>, StoreError> {
    let bytes = match read_limited(&layout.max_size(), MAX_SIZE_FILE_BYTES) {
        Err(error) if error.is_not_found() => return Ok(None),
        bytes => bytes?,
    };
    let text = String::from_utf8_lossy(&bytes);
    match text.trim().parse() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => {
            let reason = std::io::Error::other("it holds no number: `treebox gc --max-size` writes it anew");
            Err(DiskError::new("understand", layout.max_size(), reason).into())
        }
    }
}

impl Engine {
    /// What the store may take on disk, in bytes; `None` where nothing bounds it.
    pub fn max_size(&self) -> Result<Option<u64>> {
        self.core.max_size()
    }

    /// Bounds what the store may take on disk, or lets it grow again. Whoever opens the store from now on keeps to it.
    pub fn set_max_size(&self, bytes: Option<u64>) -> Result<()> {
        let path = self.core.layout().max_size();
        match bytes {
            Some(bytes) => {
                Ok(write_atomic(&path, format!("{bytes}\n").as_bytes(), self.core.options.durability)?)
            }
            None => {
                remove_file(&path)?;
                Ok(remove_file(&self.core.layout().usage()).map(drop)?)
            }
        }
    }
}

impl Core {
    pub(super) fn max_size(&self) -> Result<Option<u64>> {
        match self.options.max_size {
            Some(bytes) => Ok(Some(bytes)),
            None => Ok(kept_max_bytes(self.layout())?),
        }
    }

    /// Takes down what was measured. `before` is what was counted when measuring began.
    pub(super) fn note_size(&self, before: Option<u64>, size: &StoreSize) -> Result<()> {
        if self.max_size()?.is_none() {
            return Ok(());
        }
        let mut usage = Usage::read(self.layout())?;
        let since = usage.counted.zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
        Ok(usage.set(counted(size) + since)?)
    }

    /// What is counted now.
    pub(super) fn counted_size(&self) -> Result<Option<u64>> {
        Ok(if self.max_size()?.is_some() { Usage::read(self.layout())?.counted } else { None })
    }

    /// Tells the bound of something that is in the store now.
    pub(super) fn spent(&self, bytes: u64) {
        if let Some(quota) = &self.quota {
            quota.spent(bytes);
        }
    }

    /// Reserves what a layer of so many entries may take; nothing where nothing bounds the store.
    pub(super) fn room_for_layer(&self, entries: u64) -> Result<Option<Lease>> {
        let Some(quota) = &self.quota else { return Ok(None) };
        Ok(Some(quota.reserve((entries + 16).saturating_mul(LAYER_ENTRY_BYTES))?))
    }

    /// Reserves room for a run: half of what there is, and a quarter of all if that can be had.
    pub(super) fn room_for_run(self: &Arc<Self>) -> Result<Option<RunRoom>> {
        let Some(quota) = &self.quota else { return Ok(None) };
        let max_bytes = quota.max_bytes()?;
        let quarter = max_bytes / 4;
        let _making = quota.making.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |quota: &Quota| Ok::<_, StoreError>(max_bytes.saturating_sub(quota.taken(self)?.0));
        if free(quota)? < quarter {
            quota.make_room(self, quarter)?;
        }
        let free = free(quota)?;
        let most = (free / 2).max(quarter.min(free));
        match quota.try_reserve(self, MIN_RUN_BYTES, most)? {
            Some((bytes, lease)) => Ok(Some(RunRoom { bytes, max_bytes, _lease: lease })),
            None => Err(StoreError::NoRoom { max_bytes, wanted_bytes: MIN_RUN_BYTES }.into()),
        }
    }
}

impl RunRoom {
    /// The error of a run that filled more.
    pub(super) fn exceeded(&self, written_bytes: u64) -> Error {
        Error::NoRoomForRun { max_bytes: self.max_bytes, room_bytes: self.bytes, written_bytes }
    }
}
