//! What the file system below a directory can do, found out by doing it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::error::{Context, DiskError};

/// What a file system can do for a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Its name, as mount(8) has it; a number for one that is not known here.
    pub kind: String,
    /// Files may have several names.
    pub hard_links: bool,
    /// Files and directories hold `user.` attributes.
    pub user_xattrs: bool,
    /// Directory listings tell kinds (d_type), which overlayfs needs of an upper directory.
    pub listed_kinds: bool,
    /// Names that differ in case alone are two names.
    pub case_sensitive: bool,
    /// A file can share its blocks with a copy (FICLONE).
    pub reflinks: bool,
    /// Times are kept to the nanosecond, and before 1970.
    pub exact_times: bool,
    /// Bytes that its user may still write.
    pub free_bytes: u64,
    /// Inodes that may still be made; `None` where they are made as needed.
    pub free_inodes: Option<u64>,
}

impl Features {
    /// Why it cannot hold a store, not even one in which nothing runs; `None` when it can.
    pub fn unfit(&self) -> Option<&'static str> {
        unfit_kind(&self.kind)
            .or((!self.hard_links).then_some("files have one name only there, and a store needs hard links"))
    }
}

/// File systems of other machines.
const REMOTE: &[&str] = &["nfs", "cifs", "smb2", "9p", "ceph", "afs", "coda"];

/// Names of file systems by the number that statfs(2) gives (linux/magic.h).
const KINDS: &[(u32, &str)] = &[
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x794C_7630, "overlay"),
    (0xF2F5_2010, "f2fs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x2FC1_2FC1, "zfs"),
    (0x6969, "nfs"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00C3_6400, "ceph"),
    (0x5346_414F, "afs"),
    (0x7375_7245, "coda"),
    (0x6573_5546, "fuse"),
    (0x4D44, "vfat"),
    (0x2011_BAB0, "exfat"),
    (0x5346_544E, "ntfs"),
    (0xF15F, "ecryptfs"),
];

fn unfit_kind(kind: &str) -> Option<&'static str> {
    const REASON: &str = "its files lie on another machine, where neither locks nor shared memory hold";
    REMOTE.contains(&kind).then_some(REASON)
}

/// The name of the file system that a directory is on, and why it cannot hold a store when that shows in the name alone.
pub fn file_system(path: &Path) -> Result<(String, Option<&'static str>), DiskError> {
    let stat = rustix::fs::statfs(path).context("look at the file system of", path)?;
    let kind = name_of_kind(stat.f_type as u32);
    let unfit = unfit_kind(&kind);
    Ok((kind, unfit))
}

/// Tries everything in an empty directory, which is left empty.
pub fn features(scratch: &Path) -> Result<Features, DiskError> {
    let stat = rustix::fs::statfs(scratch).context("look at the file system of", scratch)?;
    let kind = name_of_kind(stat.f_type as u32);

    let file = scratch.join("feature-probe");
    let mut made = File::create_new(&file).context("create", &file)?;
    made.write_all(b"treebox").context("write", &file)?;
    let (link, other_case) = (scratch.join("feature-link"), scratch.join("FEATURE-PROBE"));
    let hard_links = match fs::hard_link(&file, &link) {
        Ok(()) => true,
        // What link(2) says where there is no such thing.
        Err(error) if is_unsupported(&error) => false,
        Err(error) => return Err(DiskError::new("link", &link, error)),
    };
    let user_xattrs = rustix::fs::setxattr(&file, "user.treebox.probe", b"1", XattrFlags::empty()).is_ok()
        && rustix::fs::setxattr(scratch, "user.treebox.probe", b"1", XattrFlags::empty()).is_ok();
    // The attribute was the directory's only while it was asked about.
    let _ = rustix::fs::removexattr(scratch, "user.treebox.probe");
    let listed_kinds = lists_kinds(scratch)?;
    let case_sensitive = fs::symlink_metadata(&other_case).is_err();
    let copy = scratch.join("feature-copy");
    let reflinks = File::create_new(&copy).is_ok_and(|copy| rustix::fs::ioctl_ficlone(&copy, &made).is_ok());
    let exact_times = keeps_times(&made);
    for path in [&link, &copy, &file] {
        if fs::symlink_metadata(path).is_ok() {
            fs::remove_file(path).context("remove", path)?;
        }
    }
    Ok(Features {
        kind,
        hard_links,
        user_xattrs,
        listed_kinds,
        case_sensitive,
        reflinks,
        exact_times,
        free_bytes: (stat.f_bavail as u64).saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(0)),
        free_inodes: (stat.f_files > 0).then_some(stat.f_ffree as u64),
    })
}

fn name_of_kind(number: u32) -> String {
    let known = KINDS.iter().find(|(magic, _)| *magic == number);
    known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned())
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK | Errno::ACCESS))
}

fn lists_kinds(dir: &Path) -> Result<bool, DiskError> {
    let fd = File::open(dir).context("open directory", dir)?;
    let entries = rustix::fs::Dir::read_from(&fd).context("list", dir)?;
    let mut kinds = entries.filter_map(Result::ok).map(|entry| entry.file_type());
    Ok(kinds.all(|kind| kind != rustix::fs::FileType::Unknown))
}

fn keeps_times(file: &File) -> bool {
    let wanted = rustix::fs::Timespec { tv_sec: -5, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: wanted, last_modification: wanted };
    let set = rustix::fs::futimens(file, &times);
    let got = rustix::fs::fstat(file);
    set.is_ok()
        && got.is_ok_and(|stat| stat.st_mtime == wanted.tv_sec && stat.st_mtime_nsec as i64 == wanted.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_and_knows_what_it_stands_on() {
        let scratch = tempfile::tempdir().unwrap();
        let found = features(scratch.path()).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        assert!(found.hard_links && found.case_sensitive && found.free_bytes > 0, "{found:?}");
        let again = features(Path::new("/proc/self/no/such/dir"));
        assert!(again.is_err());
    }

    #[test]
    fn what_cannot_hold_a_store_is_known_by_its_number_or_by_what_it_cannot_do() {
        let local = features(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(local.unfit(), None);
        for number in [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997] {
            let remote = Features { kind: name_of_kind(number), ..local.clone() };
            assert!(remote.unfit().unwrap().contains("another machine"), "{remote:?}");
        }
        assert!(Features { hard_links: false, ..local }.unfit().unwrap().contains("hard links"));
        assert_eq!(name_of_kind(0xABCD), "0xabcd");
    }

    #[test]
    fn memory_is_told_from_disk() {
        let Ok(scratch) = tempfile::tempdir_in("/dev/shm") else {
            panic!("/dev/shm cannot be written to: this test needs a tmpfs");
        };
        let found = features(scratch.path()).unwrap();
        assert_eq!((found.kind.as_str(), found.unfit(), found.reflinks), ("tmpfs", None, false));
    }
}
