//! Reading what a run left in its upper directory.
//!
//! The cost follows the upper directory, never the image. Each regular file is hashed once; new bytes are taken into the store by a
//! hard link, so the upper directory can become a layer without a copy. While the bytes are at hand, secrets are looked for in them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::entry::LayerError;
use super::inode::{Dir, dress, is_whiteout, kind_of, mtime_of, read_meta};
use crate::disk::{DiskError, copy_sparse};
use crate::object::{BlobHasher, BlobId, Meta};
use crate::store::Layout;
use crate::worktree::leak::{Leak, LeakPart, Needles, Search};

/// Below this many bytes in all, hashing on one thread is over before another has started.
const PARALLEL_FROM_BYTES: u64 = 4 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Where capture finds and puts things.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaptureOptions {
    /// The upper directory of a run that is over.
    pub upper: PathBuf,
    /// Where blobs lie.
    pub objects: PathBuf,
    /// Where new blobs are put, each under its name, until the batch is committed.
    pub scratch: PathBuf,
    /// Secrets that must not be in what is captured.
    pub secrets: Needles,
}

/// One entry of an upper directory; parents come before what is in them, the root first with an empty path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Path below the root, without a leading slash.
    pub path: Vec<u8>,
    /// Attributes as on disk.
    pub meta: Meta,
    /// What it is.
    pub node: CapturedNode,
    /// What the run wanted it to be beyond what the disk could take.
    pub recorded: Option<Recorded>,
}

/// What a run wanted an entry to be that the kernel would not make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The device that a socket on disk stands for.
    pub device: Option<CapturedNode>,
    /// Attributes by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Tells what was recorded for a path: that, the directory it is in, and its name there; the empty name is the directory.
pub type RecordOf<'r> = &'r dyn Fn(&[u8], BorrowedFd<'_>, &[u8]) -> Option<Recorded>;

/// What an entry of an upper directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CapturedNode {
    /// A directory that is merged with the lower one, or hides it.
    Directory {
        /// Whether it hides the lower directory's entries.
        opaque: bool,
    },
    /// A regular file, hashed.
    File {
        /// Its bytes.
        blob: BlobId,
        /// How many.
        size: u64,
        /// The same number for every path of a hard-linked file.
        inode: Option<u64>,
        /// Whether its bytes were put into the scratch directory, because the store lacked them.
        placed: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
    /// A device that the disk let be made.
    Device {
        /// Whether it is a character device.
        char: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A name that was deleted.
    Whiteout,
}

struct FoundFile {
    /// Where its entry stands in the list.
    entry: usize,
    stat: Stat,
}

/// What one capture gave.
#[derive(Debug, Default)]
pub struct Capture {
    /// The entries of the upper directory.
    pub entries: Vec<Captured>,
    /// The secrets found in them.
    pub leaks: Vec<Leak>,
}

/// A file's hash.
struct Hashed {
    blob: BlobId,
    size: u64,
    /// The secret in its bytes.
    secret: Option<usize>,
}

/// Reads an upper directory and puts bytes that the store lacks into the scratch directory.
pub fn capture(options: &CaptureOptions, record_of: RecordOf<'_>) -> Result<Capture, LayerError> {
    let mut entries = Vec::new();
    let mut files = Vec::new();
    let root = Dir::open(&options.upper)?;
    walk(&root, &mut Vec::new(), &mut entries, &mut files, record_of)?;
    let hashes = hash_all(options, &entries, &files)?;
    let mut leaks = leaks_beside_content(&options.secrets, &entries);
    let objects = Dir::open(&options.objects)?;
    let scratch = Dir::open(&options.scratch)?;
    for (file, Hashed { blob, size, secret }) in files.iter().zip(hashes) {
        let path = entries[file.entry].path.clone();
        leaks.extend(secret.map(|secret| Leak { secret, part: LeakPart::Content, path: path.clone() }));
        let placed = adopt(options, &objects, &scratch, &path, &file.stat, blob, &entries[file.entry].meta)?;
        let inode = (file.stat.st_nlink > 1).then_some(file.stat.st_ino);
        entries[file.entry].node = CapturedNode::File { blob, size, inode, placed };
    }
    Ok(Capture { entries, leaks })
}

/// The secrets in names, targets of links, and attributes.
fn leaks_beside_content(secrets: &Needles, entries: &[Captured]) -> Vec<Leak> {
    if secrets.is_empty() {
        return Vec::new();
    }
    let mut leaks = Vec::new();
    for entry in entries {
        let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let target = match &entry.node {
            CapturedNode::Symlink { target } => secrets.find(target),
            _ => None,
        };
        let attribute = entry
            .meta
            .xattrs
            .iter()
            .find_map(|xattr| secrets.find(&xattr.value).or_else(|| secrets.find(&xattr.name)));
        let found = [
            (LeakPart::Name, secrets.find(name)),
            (LeakPart::Target, target),
            (LeakPart::Attribute, attribute),
        ];
        leaks.extend(found.into_iter().filter_map(|(part, secret)| {
            secret.map(|secret| Leak { secret, part, path: entry.path.clone() })
        }));
    }
    leaks
}

fn walk(
    dir: &Dir,
    path: &mut Vec<u8>,
    entries: &mut Vec<Captured>,
    files: &mut Vec<FoundFile>,
    record_of: RecordOf<'_>,
) -> Result<(), LayerError> {
    let (meta, opaque) = read_meta(dir, b"", &dir.stat(b"")?)?;
    entries.push(Captured {
        path: path.clone(),
        meta,
        node: CapturedNode::Directory { opaque },
        recorded: record_of(path, dir.fd.as_fd(), b""),
    });
    for name in dir.names()? {
        let len = path.len();
        if len > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let stat = dir.stat(&name)?;
        let kind = kind_of(&stat);
        if kind == FileType::Directory {
            walk(&dir.open_child(&name)?, path, entries, files, record_of)?;
        } else {
            let (meta, _) = read_meta(dir, &name, &stat)?;
            let recorded = record_of(path, dir.fd.as_fd(), &name);
            let node = match kind {
                FileType::RegularFile => {
                    files.push(FoundFile { entry: entries.len(), stat });
                    // Replaced once the bytes are hashed.
                    CapturedNode::Fifo
                }
                FileType::Symlink => CapturedNode::Symlink { target: dir.read_link(&name)? },
                FileType::Fifo => CapturedNode::Fifo,
                FileType::Socket => recorded
                    .as_ref()
                    .and_then(|recorded| recorded.device.clone())
                    .unwrap_or(CapturedNode::Socket),
                _ if is_whiteout(&stat) => CapturedNode::Whiteout,
                _ => CapturedNode::Device {
                    char: kind == FileType::CharacterDevice,
                    major: rustix::fs::major(stat.st_rdev),
                    minor: rustix::fs::minor(stat.st_rdev),
                },
            };
            entries.push(Captured { path: path.clone(), meta, node, recorded });
        }
        path.truncate(len);
    }
    Ok(())
}

/// Opens a path below the upper directory, directory by directory, and gives its last name.
fn open_parent<'p>(upper: &Path, path: &'p [u8]) -> Result<(Dir, &'p [u8]), DiskError> {
    let mut dir = Dir::open(upper)?;
    let mut names = path.split(|byte| *byte == b'/').peekable();
    loop {
        let name = names.next().expect("splitting gives at least one name");
        if names.peek().is_none() {
            return Ok((dir, name));
        }
        dir = dir.open_child(name)?;
    }
}

fn hash_all(
    options: &CaptureOptions,
    entries: &[Captured],
    files: &[FoundFile],
) -> Result<Vec<Hashed>, LayerError> {
    let bytes: u64 = files.iter().map(|file| u64::try_from(file.stat.st_size).unwrap_or(0)).sum();
    let hash = |file: &FoundFile, buffer: &mut [u8], search: &mut Search<'_>| {
        search.restart();
        hash_file(options, &entries[file.entry].path, &file.stat, buffer, search)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    if threads == 1 || files.len() < 2 || bytes < PARALLEL_FROM_BYTES {
        let (mut buffer, mut search) = (vec![0; READ_BUFFER_BYTES], options.secrets.search());
        return files.iter().map(|file| hash(file, &mut buffer, &mut search)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut buffer, mut search) = (vec![0; READ_BUFFER_BYTES], options.secrets.search());
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(at) else { return Ok(done) };
            done.push((at, hash(file, &mut buffer, &mut search)?));
        }
    };
    let mut all: Vec<(usize, Hashed)> = Vec::with_capacity(files.len());
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for handle in handles {
            let done: Result<_, LayerError> = handle.join().expect("hashing does not panic");
            all.extend(done?);
        }
        Ok::<_, LayerError>(())
    })?;
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, hash)| hash).collect())
}

fn hash_file(
    options: &CaptureOptions,
    path: &[u8],
    stat: &Stat,
    buffer: &mut [u8],
    search: &mut Search<'_>,
) -> Result<Hashed, LayerError> {
    let (dir, name) = open_parent(&options.upper, path)?;
    let mut file: File = dir.open_file(name)?;
    let mut hasher = BlobHasher::new();
    let (mut size, mut secret) = (0, None);
    loop {
        let count = file.read(buffer).map_err(|error| DiskError::new("read", dir.join(name), error))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        secret = secret.or_else(|| search.feed(&buffer[..count]));
        size += count as u64;
    }
    let after = dir.stat(name)?;
    if after.st_size as u64 != size || mtime_of(&after) != mtime_of(stat) {
        return Err(LayerError::Changed(dir.join(name)));
    }
    Ok(Hashed { blob: hasher.finish(), size, secret })
}

/// Puts a file's bytes into the scratch directory unless the store has them; whether it did.
fn adopt(
    options: &CaptureOptions,
    objects: &Dir,
    scratch: &Dir,
    path: &[u8],
    stat: &Stat,
    blob: BlobId,
    meta: &Meta,
) -> Result<bool, LayerError> {
    let below = Layout::blob_below_objects(&blob);
    if objects.stat(below.as_bytes()).is_ok_and(|known| known.st_size == stat.st_size) {
        return Ok(false);
    }
    let name = blob.to_string();
    let (dir, file) = open_parent(&options.upper, path)?;
    let ours = stat.st_uid == 0 && stat.st_mode & 0o400 != 0;
    if ours {
        return match scratch.link(std::os::fd::AsFd::as_fd(&dir.fd), file, name.as_bytes()) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(true),
            Err(errno) => Err(dir.error("link into the store", file, errno).into()),
        };
    }
    // A file of another id, or one that its owner cannot read, could not be read by the engine: the store gets bytes of its own.
    if scratch.stat(name.as_bytes()).is_ok() {
        return Ok(true);
    }
    let from = dir.open_file(file)?;
    let to = scratch.create_file(name.as_bytes())?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
        copy_sparse(&from, &to)
            .map_err(|error| DiskError::new("copy into the store", dir.join(file), error))?;
    }
    let plain = Meta::root_owned(0o444, meta.mtime);
    dress(scratch, name.as_bytes(), FileType::RegularFile, &plain, None)?;
    Ok(true)
}
