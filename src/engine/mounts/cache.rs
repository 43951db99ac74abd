//! Caches: directories of the store that are kept between runs.
//!
//! # Locking
//! `caches/NAME/N.lock` is held, shared or alone, for as long as a run uses `caches/NAME/N`; the kernel drops it with its holder. Several
//! caches of one run are locked in the order of their names, so that two runs cannot wait for each other.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Sharing;
use crate::disk::{Durability, FileLock, LockMode, Scratch, create_dir_all_private, write_atomic};
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::object::{Meta, Timestamp};
use crate::sandbox::FileIdentity;
use crate::worker::Session;
use crate::worktree::layer::{LayerEntry, LayerNode};

/// How long a run waits before it looks at a taken lock again.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A cache that a run holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: PathBuf,
    pub(super) identity: FileIdentity,
    _lock: FileLock,
}

/// What a cache is made with when it is new.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The directory name of a cache: a hash, so that an id may be any text.
pub(super) fn name_of(id: &str, identity: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(identity.as_bytes());
    hasher.update(&[0]);
    hasher.update(id.as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

impl Core {
    /// Takes a cache for one run, made when it is not there; waits for its lock until `deadline`.
    pub(super) fn hold_cache(
        &self,
        session: &Session,
        id: &str,
        sharing: Sharing,
        made: Made,
        deadline: Option<Instant>,
    ) -> Result<Held> {
        let identity = self.layer_identity()?;
        let dir = self.layout().caches().join(name_of(id, &identity));
        create_dir_all_private(&dir)?;
        let (slot, lock) = match sharing {
            Sharing::Private => free_slot(&dir)?,
            Sharing::Shared => (0, self.wait(&dir, id, LockMode::Shared, deadline)?),
            Sharing::Locked => (0, self.wait(&dir, id, LockMode::Exclusive, deadline)?),
        };
        let path = dir.join(slot.to_string());
        let look = || match std::fs::symlink_metadata(&path) {
            Ok(stat) => Ok(Some(FileIdentity { device: stat.dev(), inode: stat.ino() })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::disk("look at", &path, error)),
        };
        let mut identity_on_disk = look()?;
        if identity_on_disk.is_none() {
            // One makes it; others that share it wait here and find it.
            let _making = FileLock::acquire(&dir.join("lock"), LockMode::Exclusive)?;
            identity_on_disk = look()?;
            if identity_on_disk.is_none() {
                let about = format!("id {}\nids {identity}\n", id.escape_debug());
                write_atomic(&dir.join("about"), about.as_bytes(), Durability::Batch)?;
                self.make_cache(session, &path, made)?;
                identity_on_disk = look()?;
            }
        }
        // When it was last used is what decides which caches go when there is too little room.
        if let Ok(about) = std::fs::File::open(dir.join("about")) {
            let _ = about.set_modified(std::time::SystemTime::now());
        }
        match identity_on_disk {
            Some(identity) => Ok(Held { path, identity, _lock: lock }),
            None => Err(Error::disk("make", &path, std::io::ErrorKind::NotFound.into())),
        }
    }

    fn wait(&self, dir: &Path, id: &str, mode: LockMode, deadline: Option<Instant>) -> Result<FileLock> {
        let path = dir.join("0.lock");
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            if let Some(lock) = FileLock::try_acquire(&path, mode)? {
                return Ok(lock);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::TimedOut(format!(
                    "the time was up before another run gave cache `{}` free",
                    id.escape_debug()
                )));
            }
            if self.options.cancel.is_cancelled() {
                return Err(Error::cancelled(format!("stopped waiting for cache `{}`", id.escape_debug())));
            }
            if pause >= LONGEST_PAUSE && !told {
                self.notice(&format!("waiting for another run that uses cache `{}`", id.escape_debug()));
                told = true;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes the directory elsewhere and renames it, so that nobody sees it with other attributes.
    fn make_cache(&self, session: &Session, path: &Path, made: Made) -> Result<()> {
        let scratch = Scratch::new(&self.layout().tmp())?;
        let new = scratch.path().join("cache");
        let meta = Meta { uid: made.uid, gid: made.gid, ..Meta::root_owned(made.mode, Timestamp::default()) };
        let entry = LayerEntry { path: Vec::new(), meta, node: LayerNode::Directory { opaque: false } };
        let options = self.build_options(self.worker()?.identity())?;
        session.build_layer::<Error>(&new, options, |upload| Ok(upload.add(entry)?))?;
        session.rename(&new, path).inspect_err(|_| {
            let _ = session.remove(&new);
        })?;
        Ok(())
    }
}

/// The first copy of a private cache that nobody uses.
fn free_slot(dir: &Path) -> Result<(usize, FileLock)> {
    let mut number = 0;
    loop {
        let path = dir.join(format!("{number}.lock"));
        if let Some(lock) = FileLock::try_acquire(&path, LockMode::Exclusive)? {
            return Ok((number, lock));
        }
        number += 1;
    }
}
