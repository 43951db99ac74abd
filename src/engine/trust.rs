//! Which layers can be trusted after a power cut.
//!
//! Layers are not synced: they can be made again. But the row of one may reach the disk before its files do, and then a power cut leaves a layer
//! with short or empty files that the index takes for whole.
//!
//! As long as the machine runs, what was written is there, synced or not. So the index keeps in which boot it was last used, and up to when layers
//! are known to be on disk. In a later boot those that were made after that are forgotten, and made again when they are needed.
//!
//! # Durability
//! Layers count as on disk after a sync of the whole file system. A process that is about to use layers does that, once, when the newest one has been
//! there for a minute: by then the kernel has written nearly all of it by itself, so there is next to nothing to wait for.

use std::sync::atomic::Ordering;

use super::core::{Core, now_ms};
use super::error::Result;
use crate::disk::{Durability, sync_file_system};

/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The setting that says in which boot the index was last used for layers.
const BOOT: &str = "layers.boot";
/// The setting that says from when on layers are not known to be on disk, in milliseconds since 1970.
const UNSYNCED_SINCE: &str = "layers.unsynced-since-ms";
/// How old the newest layer is when all are synced: twice as long as Linux leaves dirty pages in memory.
const SETTLED_MS: i64 = 60_000;

impl Core {
    /// Forgets layers that a power cut may have left half-written. Looks once for each handle, at the cost of two look-ups.
    pub(super) fn distrust_unsynced_layers(&self) -> Result<()> {
        if self.layers_looked_at.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        // Without the file nobody can tell boots apart: layers are trusted, as they were before.
        let Ok(boot) = std::fs::read_to_string(BOOT_ID) else { return Ok(()) };
        let boot = boot.trim();
        let unsynced_since = || -> Result<i64> {
            let known = self.index.meta(UNSYNCED_SINCE)?;
            Ok(known.and_then(|known| known.parse().ok()).unwrap_or(0))
        };
        if self.index.meta(BOOT)?.as_deref() != Some(boot) {
            let forgotten = self.index.forget_layers_since(unsynced_since()?)?;
            if forgotten > 0 {
                self.notice(
                    "layers that were not known to be on disk before the machine started are made again",
                );
            }
            self.index.set_meta(BOOT, Some(boot))?;
            return Ok(());
        }
        if self.options.durability == Durability::Commit
            && let Some(newest) = self.index.newest_layer()?
            && newest >= unsynced_since()?
            && now_ms() - newest > SETTLED_MS
        {
            sync_file_system(&self.layout().layers(), Durability::Commit)?;
            self.index.set_meta(UNSYNCED_SINCE, Some(&(newest + 1).to_string()))?;
        }
        Ok(())
    }
}
