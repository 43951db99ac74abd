//! What was written without a sync, looked at after a power cut.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Store, StoreError, segment};
use crate::disk::DiskError;
use crate::object::BlobHasher;

/// Clocks of the disk and of the program differ by no more than a tick of the kernel; this is generous.
const SLACK: Duration = Duration::from_secs(2);

impl Store {
    /// Removes blobs that came since then and whose bytes have another hash, and reads the segments anew that changed since.
    ///
    /// Whoever makes such a blob again would find its name and write nothing. Gives how many were removed.
    pub fn remove_unsound(&self, since: SystemTime) -> Result<u64, StoreError> {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SLACK);
        let since = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let mut removed = 0;
        for shard in 0..=u8::MAX {
            let name = format!("{shard:02x}");
            let directory = self.layout().objects().join(&name);
            for path in listed(&directory)? {
                let metadata = std::fs::symlink_metadata(&path);
                let metadata = metadata.map_err(|error| DiskError::new("look at", &path, error))?;
                let file_name = path.file_name().unwrap_or_default().to_string_lossy();
                if metadata.is_file()
                    && metadata.ctime() >= since
                    && hash(&path)? != format!("{name}{file_name}")
                {
                    crate::disk::remove_file(&path)?;
                    removed += 1;
                }
            }
        }
        segment::read_anew(self.layout(), self.catalog.as_ref(), since)?;
        Ok(removed)
    }
}

fn hash(path: &Path) -> Result<String, StoreError> {
    let mut file = std::fs::File::open(path).map_err(|error| DiskError::new("open", path, error))?;
    let mut hasher = BlobHasher::new();
    let mut bytes = vec![0; 256 * 1024];
    loop {
        match std::io::Read::read(&mut file, &mut bytes) {
            Ok(0) => return Ok(hasher.finish().to_string()),
            Ok(count) => hasher.update(&bytes[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DiskError::new("read", path, error).into()),
        }
    }
}

fn listed(directory: &Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let failed = |error| DiskError::new("list", directory, error);
    match std::fs::read_dir(directory) {
        Ok(entries) => {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            Ok(paths.collect::<Result<_, _>>().map_err(failed)?)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error).into()),
    }
}
