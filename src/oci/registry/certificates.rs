//! Which certificates are trusted besides the system's.
//!
//! The system's are those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, else the usual bundle.

use std::path::{Path, PathBuf};

use super::error::RegistryError;
use super::options::RegistryOptions;
use crate::disk::{DiskError, read_limited};

/// A bundle of every authority there is has a quarter of this.
const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;

/// The texts of all certificates for a host: from the directories that were named, else from those of podman and docker.
pub(super) fn for_host(host: &str, options: &RegistryOptions) -> Result<Vec<Vec<u8>>, RegistryError> {
    let mut found = Vec::new();
    if options.cert_dirs.is_empty() {
        let home =
            std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
        let usual = [PathBuf::from("/etc/containers/certs.d"), PathBuf::from("/etc/docker/certs.d")];
        for dir in home.into_iter().chain(usual) {
            read_dir(&dir.join(host), true, &mut found)?;
        }
    }
    for dir in &options.cert_dirs {
        read_dir(dir, false, &mut found)?;
    }
    Ok(found)
}

fn read_dir(dir: &Path, may_lack: bool, found: &mut Vec<Vec<u8>>) -> Result<(), RegistryError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        // The usual ones may belong to somebody else.
        Err(_) if may_lack => return Ok(()),
        Err(error) => return Err(DiskError::new("read", dir, error).into()),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "crt"));
    paths.sort();
    for path in paths {
        found.push(read_limited(&path, MAX_CERTIFICATE_BYTES)?);
    }
    Ok(())
}
