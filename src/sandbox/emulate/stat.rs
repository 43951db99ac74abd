//! What `stat` and its kin show of files that were recorded.

use nix::libc;

use super::records::{Device, Recorded};

/// Shows a file as it was recorded.
pub(super) fn patch(stat: &mut libc::statx, recorded: &Recorded) {
    stat.stx_uid = recorded.uid;
    stat.stx_gid = recorded.gid;
    if let Some(Device { char, major, minor }) = recorded.device {
        let kind = if char { libc::S_IFCHR } else { libc::S_IFBLK };
        stat.stx_mode = (u32::from(stat.stx_mode) & !libc::S_IFMT | kind) as u16;
        stat.stx_rdev_major = major;
        stat.stx_rdev_minor = minor;
    }
}

/// The bytes of a statx structure, which is the same in every convention.
pub(super) fn statx_bytes(stat: &libc::statx) -> &[u8] {
    // SAFETY: the structure is plain numbers without padding between them (linux/stat.h reserves space by name), and lives as
    // long as the slice.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(stat).cast(), size_of::<libc::statx>()) }
}

/// The bytes of this machine's own `struct stat`.
pub(super) fn stat_bytes(from: &libc::statx) -> Vec<u8> {
    // SAFETY: plain numbers, for which zeroes are valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    stat.st_dev = libc::makedev(from.stx_dev_major, from.stx_dev_minor);
    stat.st_rdev = libc::makedev(from.stx_rdev_major, from.stx_rdev_minor);
    stat.st_ino = from.stx_ino;
    stat.st_mode = u32::from(from.stx_mode);
    stat.st_nlink = from.stx_nlink.into();
    stat.st_uid = from.stx_uid;
    stat.st_gid = from.stx_gid;
    stat.st_size = from.stx_size as _;
    stat.st_blksize = from.stx_blksize as _;
    stat.st_blocks = from.stx_blocks as _;
    stat.st_atime = from.stx_atime.tv_sec as _;
    stat.st_atime_nsec = from.stx_atime.tv_nsec as _;
    stat.st_mtime = from.stx_mtime.tv_sec as _;
    stat.st_mtime_nsec = from.stx_mtime.tv_nsec as _;
    stat.st_ctime = from.stx_ctime.tv_sec as _;
    stat.st_ctime_nsec = from.stx_ctime.tv_nsec as _;
    // SAFETY: as above: every byte of the zeroed structure is set.
    unsafe { std::slice::from_raw_parts((&raw const stat).cast::<u8>(), size_of::<libc::stat>()) }.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::emulate::records::look;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn both_structures_say_what_the_kernel_says_but_for_what_was_recorded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let real = std::fs::metadata(file.path()).unwrap();
        let fd: OwnedFd = std::fs::File::open(file.path()).unwrap().into();
        let mut stat = look(&fd).unwrap();
        let device = Some(Device { char: true, major: 5, minor: 300 });
        patch(&mut stat, &Recorded { uid: 7, gid: 8, device, xattrs: vec![] });
        let bytes = stat_bytes(&stat);
        // SAFETY: the bytes are those of a `struct stat`.
        let shown: libc::stat = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        assert_eq!((shown.st_uid, shown.st_gid), (7, 8));
        assert_eq!(shown.st_mode, real.mode() & 0o7777 | libc::S_IFCHR);
        assert_eq!(shown.st_rdev, libc::makedev(5, 300));
        assert_eq!((shown.st_ino, shown.st_dev), (real.ino(), real.dev()));
        assert_eq!((shown.st_mtime, shown.st_mtime_nsec), (real.mtime(), real.mtime_nsec()));
        assert_eq!(statx_bytes(&stat).len(), 256);
    }
}
