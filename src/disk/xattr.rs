//! Extended attributes by path, never through a symlink.

use std::path::Path;

use nix::errno::Errno;

use super::error::{Context, DiskError};

/// The longest value (Linux `XATTR_SIZE_MAX`).
const MAX_VALUE_BYTES: usize = 65_536;

/// What reading a file's attributes gave: names with their values.
pub type XattrRead = Vec<(Vec<u8>, Vec<u8>)>;

/// The extended attributes that the caller may see, in the order of the file system.
///
/// A file system without attributes has none.
pub fn read_xattrs(path: &Path) -> Result<XattrRead, DiskError> {
    let mut names = [0u8; 4096];
    let names = match rustix::fs::llistxattr(path, &mut names) {
        Ok(0) => return Ok(Vec::new()),
        Ok(len) => names[..len].to_vec(),
        Err(rustix::io::Errno::RANGE) => {
            let mut names = vec![0u8; 65_536];
            let len =
                rustix::fs::llistxattr(path, &mut names).context("list extended attributes of", path)?;
            names.truncate(len);
            names
        }
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(DiskError::new("list extended attributes of", path, errno)),
    };
    let mut read = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; MAX_VALUE_BYTES];
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(len) => value.truncate(len),
            // Gone since the listing, or of a kind that only its own namespace may read.
            Err(
                rustix::io::Errno::NODATA
                | rustix::io::Errno::PERM
                | rustix::io::Errno::ACCESS
                | rustix::io::Errno::NOTSUP,
            ) => continue,
            Err(errno) => return Err(DiskError::new("read extended attributes of", path, errno)),
        }
        read.push((name.to_vec(), value));
    }
    Ok(read)
}

/// Sets one attribute; whether the file system and the caller's rights allowed it.
pub fn set_xattr(path: &Path, name: &[u8], value: &[u8]) -> Result<bool, DiskError> {
    match rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(errno) => match Errno::from_raw(errno.raw_os_error()) {
            Errno::EPERM
            | Errno::EOPNOTSUPP
            | Errno::EINVAL
            | Errno::ENOSPC
            | Errno::E2BIG
            | Errno::ERANGE => Ok(false),
            _ => Err(DiskError::new("set an extended attribute of", path, errno)),
        },
    }
}
