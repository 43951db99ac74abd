//! What a directory or file of the host holds: looked at and hashed, not stored.
//!
//! A [`Survey`] is one `stat` of everything below an open directory. Two surveys with the same [`Survey::fingerprint`] saw the same bytes, so
//! hashing is needed once for as long as nothing changes.
//!
//! # Invariants
//! - Everything is reached from the one descriptor and through no symbolic link: a rename cannot lead the survey elsewhere.
//! - A change made after a survey shows in the next one: a change sets the change time, and the survey waits until the clock has left
//!   the tick of the newest one it saw.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::disk::DiskError;
use crate::object::{
    BlobHasher, BlobId, Entry, InvalidName, Meta, Name, Node, Timestamp, Tree, TreeError, TreeId,
};

/// The longest tick of a Linux clock that file times come from (`CONFIG_HZ` of 100), doubled.
const TICK: Duration = Duration::from_millis(20);
/// File systems that keep whole seconds, or two.
const COARSE_TICK: Duration = Duration::from_secs(2);
/// How often a source that changes at this very moment is looked at again.
const ATTEMPTS: u32 = 3;
const READ_BUFFER_BYTES: usize = 256 * 1024;
const MAX_THREADS: usize = 4;

/// What is at a path of the host, by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A directory: a root tree with all times and owners 0.
    Directory(TreeId),
    /// A regular file.
    File {
        /// Permission bits.
        mode: u16,
        /// Its bytes.
        blob: BlobId,
    },
    /// A socket, FIFO or device.
    Special,
}

/// Why a source could not be looked at or hashed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// A file verb failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is not the same from one look to the next.
    #[error("{} changes while it is read", .0.display())]
    Changed(PathBuf),
    /// The file system gave a name that no tree can hold.
    #[error("in {}: {source}", path.display())]
    Name {
        /// The directory.
        path: PathBuf,
        /// What is wrong with the name.
        source: InvalidName,
    },
    /// It is more than a tree can hold.
    #[error("{}: {source}", path.display())]
    Tree {
        /// The directory.
        path: PathBuf,
        /// What is too much.
        source: TreeError,
    },
}

/// One look at everything below a source.
#[derive(Debug)]
pub struct Survey {
    root: OwnedFd,
    source: PathBuf,
    /// The source first; the entries of a directory stand together, sorted by name, after the directory itself.
    seen: Vec<Seen>,
    fingerprint: [u8; 32],
    settled: bool,
}

#[derive(Debug)]
struct Seen {
    parent: usize,
    name: Option<Name>,
    kind: FileType,
    mode: u16,
    size: u64,
    device: (u32, u32),
    number: u64,
    special: (u32, u32),
    mtime: Timestamp,
    ctime: Timestamp,
    children: Range<usize>,
    /// Covered by something else in the mount: it counts as an empty directory.
    covered: bool,
}

impl Survey {
    /// Looks at what `root`, a descriptor opened with `O_PATH`, stands for; `source` is its name for messages.
    ///
    /// A directory that is `covered`, by device and inode number, is not entered and counts as an empty one of mode 0755.
    pub fn take(
        root: &OwnedFd,
        source: &Path,
        covered: Option<((u32, u32), u64)>,
    ) -> Result<Self, SurveyError> {
        let failed = |verb| move |error: std::io::Error| DiskError::new(verb, source, error);
        let root = root.try_clone().map_err(failed("keep open"))?;
        for _ in 0..ATTEMPTS {
            let began = SystemTime::now();
            let mut survey = Self {
                root: root.try_clone().map_err(failed("keep open"))?,
                source: source.to_owned(),
                seen: Vec::new(),
                fingerprint: [0; 32],
                settled: false,
            };
            match survey.walk(covered) {
                Err(SurveyError::Changed(_)) => continue,
                other => other?,
            }
            survey.fingerprint = survey.hash_of_looks();
            let (age, coarse) = survey.age(began);
            survey.settled = age >= if coarse { COARSE_TICK } else { TICK };
            if survey.settled || coarse {
                return Ok(survey);
            }
            // A change within the tick of the last one would not show. The next look is out of that tick.
            std::thread::sleep(TICK.saturating_sub(age));
        }
        Err(SurveyError::Changed(source.to_owned()))
    }

    /// The same for what two looks saw the same of: names, kinds, modes, sizes, inode numbers, times of change.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Whether a later change is certain to give another fingerprint. Not so for what has changed just now on a file system with coarse times.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// How many entries there are, the source itself included.
    pub fn entries(&self) -> usize {
        self.seen.len()
    }

    /// Hashes everything.
    pub fn content(&self) -> Result<Content, SurveyError> {
        let root = &self.seen[0];
        match root.kind {
            FileType::Directory => {}
            FileType::RegularFile => {
                let blob = self.hash_file(0, &mut vec![0; READ_BUFFER_BYTES])?;
                return Ok(Content::File { mode: root.mode, blob });
            }
            _ => return Ok(Content::Special),
        }
        let mut blobs = self.hash_files()?.into_iter();
        let mut nodes: Vec<Option<Node>> = Vec::with_capacity(self.seen.len());
        for (at, seen) in self.seen.iter().enumerate() {
            let (major, minor) = seen.special;
            nodes.push(match seen.kind {
                // Made below, from the deepest up.
                FileType::Directory => None,
                FileType::RegularFile => {
                    let blob = blobs.next().expect("every regular file was hashed");
                    Some(Node::File { blob, size: seen.size, link: None })
                }
                FileType::Symlink => Some(Node::Symlink { target: self.read_link(at)? }),
                FileType::Fifo => Some(Node::Fifo),
                FileType::Socket => Some(Node::Socket),
                FileType::CharacterDevice => Some(Node::Char { major, minor }),
                FileType::BlockDevice | FileType::Unknown => Some(Node::Block { major, minor }),
            });
        }
        for (at, seen) in self.seen.iter().enumerate().rev() {
            if seen.kind != FileType::Directory {
                continue;
            }
            let entries = seen.children.clone().map(|child| {
                let below = &self.seen[child];
                let name = below.name.clone().expect("only the source has no name");
                let node = nodes[child].take().expect("entries come after their directory");
                (name, Entry { meta: Meta::root_owned(below.mode, Timestamp::default()), node })
            });
            let tree = Tree::from_sorted(entries.collect());
            let summed = tree.summary().and_then(|below| Ok((tree.encode()?.0, below)));
            let (tree, below) =
                summed.map_err(|source| SurveyError::Tree { path: self.host_path(at), source })?;
            nodes[at] = Some(Node::Directory { tree, below });
        }
        let node = nodes[0].take().expect("the source is a directory");
        let meta = Meta::root_owned(root.mode, Timestamp::default());
        Ok(Content::Directory(Tree::encode_root(&Entry { meta, node }).0))
    }

    fn walk(&mut self, covered: Option<((u32, u32), u64)>) -> Result<(), SurveyError> {
        let stat = statx(&self.root, b"").map_err(|errno| self.failed("look at", 0, errno))?;
        self.seen.push(Seen::of(&stat, 0, None));
        let mut next = 0;
        while next < self.seen.len() {
            let seen = &mut self.seen[next];
            if covered == Some((seen.device, seen.number)) {
                seen.cover();
            } else if seen.kind == FileType::Directory {
                let children = self.list(next)?;
                self.seen[next].children = children;
            }
            next += 1;
        }
        Ok(())
    }

    /// Looks at every entry of a directory.
    fn list(&mut self, at: usize) -> Result<Range<usize>, SurveyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = self.open(at, flags)?;
        let listing = rustix::fs::Dir::read_from(&dir).map_err(|errno| self.failed("list", at, errno))?;
        let mut names = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|errno| self.failed("list", at, errno))?;
            let bytes = entry.file_name().to_bytes();
            if bytes != b"." && bytes != b".." {
                let name = Name::new(bytes);
                names.push(name.map_err(|source| SurveyError::Name { path: self.host_path(at), source })?);
            }
        }
        names.sort_unstable();
        let first = self.seen.len();
        for name in names {
            let stat = match statx(&dir, name.as_bytes()) {
                Err(Errno::NOENT) => return Err(SurveyError::Changed(self.host_path(at))),
                other => other.map_err(|errno| self.failed("look into", at, errno))?,
            };
            self.seen.push(Seen::of(&stat, at, Some(name)));
        }
        Ok(first..self.seen.len())
    }

    /// Opens an entry by its path below the source, through no symbolic link; what is not as it was seen is a change.
    fn open(&self, at: usize, flags: OFlags) -> Result<OwnedFd, SurveyError> {
        let path = self.path(at);
        let opened = if path.is_empty() && !flags.contains(OFlags::DIRECTORY) {
            // A file itself was named: its own descriptor leads to it and to no other.
            rustix::fs::openat(CWD, format!("/proc/self/fd/{}", self.root.as_raw_fd()), flags, Mode::empty())
        } else {
            let path = if path.is_empty() { b".".to_vec() } else { path };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            open_beneath(&self.root, &path, flags, resolve)
        };
        opened.map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO => {
                SurveyError::Changed(self.host_path(at))
            }
            errno => self.failed("read", at, errno),
        })
    }

    fn read_link(&self, at: usize) -> Result<Vec<u8>, SurveyError> {
        let link = self.open(at, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        match rustix::fs::readlinkat(&link, "", Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(Errno::NOENT | Errno::INVAL) => Err(SurveyError::Changed(self.host_path(at))),
            Err(errno) => Err(self.failed("read", at, errno)),
        }
    }

    fn hash_files(&self) -> Result<Vec<BlobId>, SurveyError> {
        let is_file = |at: &usize| self.seen[*at].kind == FileType::RegularFile;
        let files: Vec<usize> = (0..self.seen.len()).filter(is_file).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buffer = vec![0; READ_BUFFER_BYTES];
            let mut done = Vec::new();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let Some(at) = files.get(turn) else { return Ok(done) };
                done.push((turn, self.hash_file(*at, &mut buffer)?));
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        if threads == 1 || files.len() < 2 {
            return work().map(|done| done.into_iter().map(|(_, blob)| blob).collect());
        }
        let mut all: Vec<(usize, BlobId)> = Vec::with_capacity(files.len());
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for handle in handles {
                let done: Result<_, SurveyError> = handle.join().expect("hashing does not panic");
                all.extend(done?);
            }
            Ok::<_, SurveyError>(())
        })?;
        all.sort_unstable_by_key(|(turn, _)| *turn);
        Ok(all.into_iter().map(|(_, blob)| blob).collect())
    }

    fn hash_file(&self, at: usize, buffer: &mut [u8]) -> Result<BlobId, SurveyError> {
        let seen = &self.seen[at];
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut file = File::from(self.open(at, flags)?);
        let mut hasher = BlobHasher::new();
        let mut size = 0;
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    size += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::new("read", self.host_path(at), error).into()),
            }
        }
        let stat = statx(&file, b"").map_err(|errno| self.failed("look at", at, errno))?;
        let now = Seen::of(&stat, seen.parent, seen.name.clone());
        let same = size == seen.size
            && (now.device, now.number, now.mtime, now.ctime)
                == (seen.device, seen.number, seen.mtime, seen.ctime);
        if same { Ok(hasher.finish()) } else { Err(SurveyError::Changed(self.host_path(at))) }
    }

    fn hash_of_looks(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for seen in &self.seen {
            let name = seen.name.as_ref().map_or(&b""[..], Name::as_bytes);
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name);
            hasher.update(&(seen.parent as u64).to_le_bytes());
            hasher.update(&[u8::from(seen.covered)]);
            hasher.update(&seen.kind.as_raw_mode().to_le_bytes());
            hasher.update(&seen.mode.to_le_bytes());
            for number in [seen.size, seen.number] {
                hasher.update(&number.to_le_bytes());
            }
            for number in [seen.device.0, seen.device.1, seen.special.0, seen.special.1] {
                hasher.update(&number.to_le_bytes());
            }
            for time in [seen.mtime, seen.ctime] {
                hasher.update(&time.seconds().to_le_bytes());
                hasher.update(&time.nanoseconds().to_le_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// How long before `began` the newest change was, and whether its time looks like one of a file system that keeps whole seconds.
    fn age(&self, began: SystemTime) -> (Duration, bool) {
        // Anybody can set a modification time; the time of change is the kernel's.
        let newest = self.seen.iter().map(|seen| seen.ctime).max().unwrap_or_default();
        let seconds = u64::try_from(newest.seconds()).unwrap_or(0);
        let newest_time = UNIX_EPOCH + Duration::new(seconds, newest.nanoseconds());
        // A time in the future says nothing: it is as good as now, and never old enough to be relied on.
        let age = began.duration_since(newest_time).unwrap_or_default();
        (age, newest.nanoseconds() == 0 || newest_time > began + TICK)
    }

    /// The path of an entry below the source; empty for the source itself.
    fn path(&self, mut at: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while let Some(name) = &self.seen[at].name {
            names.push(name.as_bytes());
            at = self.seen[at].parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn host_path(&self, at: usize) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        match self.seen.get(at).map(|_| self.path(at)) {
            Some(path) if !path.is_empty() => self.source.join(std::ffi::OsStr::from_bytes(&path)),
            _ => self.source.clone(),
        }
    }

    fn failed(&self, verb: &'static str, at: usize, errno: Errno) -> SurveyError {
        DiskError::new(verb, self.host_path(at), errno).into()
    }
}

impl Seen {
    fn of(stat: &Statx, parent: usize, name: Option<Name>) -> Self {
        let time = |seconds: i64, nanoseconds: u32| {
            Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::from_seconds(seconds))
        };
        Self {
            parent,
            name,
            kind: FileType::from_raw_mode(u32::from(stat.stx_mode)),
            mode: stat.stx_mode & 0o7777,
            size: stat.stx_size,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            number: stat.stx_ino,
            special: (stat.stx_rdev_major, stat.stx_rdev_minor),
            mtime: time(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: time(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            children: 0..0,
            covered: false,
        }
    }

    fn cover(&mut self) {
        let epoch = Timestamp::default();
        (self.mode, self.size, self.mtime, self.ctime) = (0o755, 0, epoch, epoch);
        self.covered = true;
    }
}

fn statx(at: impl AsFd, name: &[u8]) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    rustix::fs::statx(at, name, flags, StatxFlags::BASIC_STATS)
}

fn open_beneath(root: &OwnedFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    // EAGAIN: something was renamed meanwhile and the kernel could not be sure.
    for _ in 0..32 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn opened(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn look(path: &Path) -> Survey {
        Survey::take(&opened(path), path, None).unwrap()
    }

    fn filled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        for number in 0..20 {
            fs::write(dir.path().join(format!("a/b/{number}")), number.to_string()).unwrap();
        }
        symlink("b/1", dir.path().join("a/link")).unwrap();
        dir
    }

    #[test]
    fn content_does_not_depend_on_times_and_depends_on_everything_that_is_seen() {
        let (one, two) = (filled(), filled());
        let content = |dir: &tempfile::TempDir| look(dir.path()).content().unwrap();
        let first = content(&one);
        assert_eq!(first, content(&two));
        assert_ne!(look(one.path()).fingerprint(), look(two.path()).fingerprint());
        let a = two.path().join("a");
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(a.join("b/7"), "x").unwrap(),
            &|| fs::set_permissions(a.join("b/8"), fs::Permissions::from_mode(0o600)).unwrap(),
            &|| fs::set_permissions(a.join("b"), fs::Permissions::from_mode(0o700)).unwrap(),
            &|| {
                fs::remove_file(a.join("link")).unwrap();
                symlink("b/2", a.join("link")).unwrap();
            },
            &|| fs::rename(a.join("b/c"), a.join("b/d")).unwrap(),
        ];
        let mut known = vec![first];
        for change in changes {
            let before = look(two.path());
            change();
            let after = look(two.path());
            assert_ne!(before.fingerprint(), after.fingerprint());
            let content = after.content().unwrap();
            assert!(!known.contains(&content));
            known.push(content);
        }
    }

    #[test]
    fn a_change_right_after_a_look_shows_in_the_next() {
        let dir = filled();
        let file = dir.path().join("a/b/1");
        for number in 10..40 {
            fs::write(&file, number.to_string()).unwrap();
            let before = look(dir.path());
            // The same length, at once.
            fs::write(&file, (number + 50).to_string()).unwrap();
            assert_ne!(before.fingerprint(), look(dir.path()).fingerprint());
            assert!(matches!(before.content(), Err(SurveyError::Changed(_))));
        }
    }

    #[test]
    fn a_file_and_a_socket_are_looked_at_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "hello\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let blob = BlobId::of(b"hello\n");
        assert_eq!(look(&file).content().unwrap(), Content::File { mode: 0o640, blob });
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(look(&socket).content().unwrap(), Content::Special);
    }

    #[test]
    fn what_is_covered_is_not_entered_and_counts_as_an_empty_directory() {
        use std::os::unix::fs::MetadataExt;
        let (dir, bare) = (filled(), filled());
        let stat = fs::metadata(dir.path().join("a/b")).unwrap();
        let covered = ((rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev())), stat.ino());
        let look_at = || Survey::take(&opened(dir.path()), dir.path(), Some(covered)).unwrap();
        let before = look_at();
        fs::write(dir.path().join("a/b/1"), "other").unwrap();
        fs::write(dir.path().join("a/b/new"), "other").unwrap();
        assert_eq!(before.fingerprint(), look_at().fingerprint());
        fs::remove_dir_all(bare.path().join("a/b")).unwrap();
        fs::create_dir(bare.path().join("a/b")).unwrap();
        fs::set_permissions(bare.path().join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(look_at().content().unwrap(), look(bare.path()).content().unwrap());
    }
}
