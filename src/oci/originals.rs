//! What images brought, byte for byte: manifests, configs and layers by their digests, `<store>/originals/`.
//!
//! A state needs none of it. It is there so that an image which nobody changed goes out with the digests it came in with.
//!
//! # Invariants
//! - What lies under a digest had that digest when it got the name; readers check it again.
//!
//! # Durability
//! Bytes are synced before they get their name, the name with the directory.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::digest::Digest;
use super::error::ImportError;
use super::section::Section;
use super::skeleton::blobs_of;
use crate::disk::{
    DiskError, Durability, SyncSet, create_dir_all_private, exists, read_limited, rename, write_atomic,
};
use crate::object::BlobId;
use crate::store::{Lease, Room};

/// How the bytes of a digest are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Whole,
    /// As the skeleton of a tar archive, whose files are blobs.
    Skeleton,
}

/// A file among the originals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// The digest of what it keeps: `sha256:…`.
    pub digest: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a skeleton, whose files are blobs.
    pub is_skeleton: bool,
    /// Whether it is a download that is not complete.
    pub is_partial: bool,
    /// What it takes on disk, in bytes.
    pub disk_bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

impl Original {
    /// The blobs that it needs to be put together again; none when it is damaged.
    pub fn blobs(&self) -> Vec<BlobId> {
        if self.is_skeleton { blobs_of(&self.path).unwrap_or_default() } else { Vec::new() }
    }
}

/// The originals of one store.
#[derive(Debug, Clone)]
pub struct Originals {
    root: PathBuf,
    durability: Durability,
    room: Option<Arc<dyn Room>>,
    /// What was reserved; it goes with the last clone.
    reserved: Arc<Mutex<Vec<Lease>>>,
}

impl Originals {
    /// Those below a directory, which is made with the first of them.
    pub fn new(root: PathBuf, durability: Durability) -> Self {
        Self { root, durability, room: None, reserved: Arc::default() }
    }

    /// The same, where room is asked for before something is brought.
    #[must_use]
    pub fn with_room(mut self, room: Arc<dyn Room>) -> Self {
        self.room = Some(room);
        self
    }

    /// Asks for room for so many bytes that are about to be brought.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), DiskError> {
        let Some(room) = &self.room else { return Ok(()) };
        let lease = room.reserve(bytes.next_multiple_of(4096));
        let lease =
            lease.map_err(|error| DiskError::new("make room in", &self.root, io::Error::other(error)))?;
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).push(lease);
        Ok(())
    }

    /// Counts what was brought.
    fn count(&self, path: &Path) {
        if let (Some(room), Ok(stat)) = (&self.room, std::fs::symlink_metadata(path)) {
            room.spent(stat.blocks() * 512);
        }
    }

    /// The directory they lie below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the bytes of a digest lie when they are here.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.algorithm().word()).join(digest.hex())
    }

    /// Where bytes are gathered that should come to a digest, until they do: a download that was cut off goes on from there.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(format!("{}-{}", digest.algorithm().word(), digest.hex()))
    }

    fn form_path(&self, digest: &Digest, form: Form) -> PathBuf {
        match form {
            Form::Whole => self.path(digest),
            Form::Skeleton => self.path(digest).with_extension("skeleton"),
        }
    }

    /// Whether the bytes are here as they are; they are not read. That somebody asked is a use of them.
    pub fn has(&self, digest: &Digest) -> Result<bool, DiskError> {
        touched(&self.path(digest))
    }

    /// Visits everything that is kept, and downloads that are not complete.
    pub fn each(&self, visit: &mut dyn FnMut(Original)) -> Result<(), DiskError> {
        for (word, is_partial) in [("sha256", false), ("sha512", false), ("partial", true)] {
            let dir = self.root.join(word);
            let listing = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listing => listing.map_err(|error| DiskError::new("list", &dir, error))?,
            };
            for entry in listing {
                let path = entry.map_err(|error| DiskError::new("list", &dir, error))?.path();
                let Ok(stat) = std::fs::symlink_metadata(&path) else { continue };
                let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
                let used = stat.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                visit(Original {
                    digest: if is_partial { stem.replacen('-', ":", 1) } else { format!("{word}:{stem}") },
                    is_skeleton: path.extension().is_some_and(|extension| extension == "skeleton"),
                    is_partial,
                    disk_bytes: stat.blocks() * 512,
                    used,
                    path,
                });
            }
        }
        Ok(())
    }

    /// In which form the bytes of a layer are here.
    pub(super) fn form(&self, digest: &Digest) -> Result<Option<Form>, DiskError> {
        for form in [Form::Whole, Form::Skeleton] {
            if touched(&self.form_path(digest, form))? {
                return Ok(Some(form));
            }
        }
        Ok(None)
    }

    /// The bytes where they lie, unread and unchecked; `None` when they are not here.
    pub(super) fn open(&self, digest: &Digest) -> Result<Option<Section>, DiskError> {
        self.open_form(digest, Form::Whole)
    }

    /// What is kept of a layer in that form, unread and unchecked.
    pub(super) fn open_form(&self, digest: &Digest, form: Form) -> Result<Option<Section>, DiskError> {
        match Section::open(&self.form_path(digest, form)) {
            Ok(section) => Ok(Some(section)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A document, checked; `None` when it is not here.
    pub fn document(&self, digest: &Digest, limit_bytes: u64) -> Result<Option<Vec<u8>>, ImportError> {
        let bytes = match read_limited(&self.path(digest), limit_bytes) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = Digest::of(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(mismatch(&self.path(digest), digest, &found));
        }
        Ok(Some(bytes))
    }

    /// Keeps a document whose digest the caller has checked.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), DiskError> {
        if self.has(digest)? {
            return Ok(());
        }
        let path = self.path(digest);
        create_dir_all_private(parent(&path))?;
        write_atomic(&path, bytes, self.durability)?;
        self.count(&path);
        Ok(())
    }

    /// Takes in a file of the same file system whose digest the caller has checked; it is renamed.
    pub fn adopt(&self, digest: &Digest, from: &Path) -> Result<(), DiskError> {
        self.adopt_form(digest, Form::Whole, from)
    }

    pub(super) fn adopt_form(&self, digest: &Digest, form: Form, from: &Path) -> Result<(), DiskError> {
        let path = self.form_path(digest, form);
        create_dir_all_private(parent(&path))?;
        let mut bytes = SyncSet::new(self.durability);
        bytes.file(from);
        bytes.finish()?;
        rename(from, &path)?;
        self.count(&path);
        let mut names = SyncSet::new(self.durability);
        names.directory(parent(&path));
        names.finish()
    }

    /// Fails when what lies under a digest is something else, and throws it away, so that it is fetched again.
    pub(super) fn discard_if_damaged(&self, digest: &Digest) -> Result<(), ImportError> {
        let Some(section) = self.open(digest)? else { return Ok(()) };
        let mut reader = section.reader().hashed(digest.algorithm());
        let read = io::copy(&mut reader, &mut io::sink());
        read.map_err(|error| DiskError::new("read", self.path(digest), error))?;
        match reader.finish().0 {
            Some(found) if found != *digest => {
                self.discard(digest)?;
                Err(mismatch(&self.path(digest), digest, &found))
            }
            _ => Ok(()),
        }
    }

    /// Throws away what is not what its digest says; one that is gone already is no error.
    pub fn discard(&self, digest: &Digest) -> Result<(), DiskError> {
        self.discard_form(digest, Form::Whole)
    }

    pub(super) fn discard_form(&self, digest: &Digest, form: Form) -> Result<(), DiskError> {
        let path = self.form_path(digest, form);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::new("remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a file is there. If so it is used now: whoever deletes looks at that time, and leaves what is needed for what is being made.
fn touched(path: &Path) -> Result<bool, DiskError> {
    let there = exists(path)?;
    if there && let Ok(file) = std::fs::File::open(path) {
        // A disk that cannot be written is one where nothing is deleted.
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(there)
}

fn mismatch(path: &Path, expected: &Digest, found: &Digest) -> ImportError {
    ImportError::Mismatch {
        what: format!("the original {}", path.display()),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("an original lies in a directory")
}
