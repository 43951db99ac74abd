//! What was written without a sync, looked at after a power cut.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::check::hash;
use super::{Store, StoreError, segment};
use crate::disk::{DiskError, remove_file};

/// Clocks of the disk and of the program differ by no more than a tick of the kernel; this is generous.
const SLACK: Duration = Duration::from_secs(2);

impl Store {
    /// Removes blobs that came since then and whose bytes have another hash, and reads the segments anew that changed since.
    ///
    /// Whoever makes such a blob again would find its name and write nothing. Gives how many were removed.
    pub fn remove_unsound(&self, since: SystemTime) -> Result<u64, StoreError> {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SLACK);
        let since = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let mut changed = Vec::new();
        self.each_blob(&mut |id, file| {
            if file.changed_seconds >= since {
                changed.push(id);
            }
        })?;
        let mut removed = 0;
        for id in changed {
            let path = self.layout().blob(&id);
            let (found, _) = hash(&path).map_err(|error| DiskError::new("read", &path, error))?;
            if found != id {
                removed += u64::from(remove_file(&path)?);
            }
        }
        segment::read_anew(self.layout(), self.catalog.as_ref(), since)?;
        Ok(removed)
    }
}
