//! Where everything lies in a store, and which format it has.

use std::path::{Path, PathBuf};

use super::StoreError;
use crate::disk::{
    DiskError, Durability, Scratch, SyncSet, create_dir_all_private, exists, features, file_system,
    read_limited, write_atomic,
};
use crate::object::BlobId;

/// The version of the store format that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// The longest absolute path of a store, in bytes: SQLite opens no file whose path has more than 512 (`SQLITE_MAX_PATHLEN` in its
/// `os_unix.c`), and neither the index's journal nor what lies deep in the history must come near it.
pub const MAX_STORE_PATH_BYTES: usize = 400;

/// What a store may have at its top.
pub const NAMES: [&str; 22] = [
    "format",
    "objects",
    "history.git",
    "history.lock",
    "history.boot",
    "history.batch",
    "max-size",
    "usage",
    "index.db",
    "index.db-wal",
    "index.db-shm",
    "layers",
    "owners",
    "originals",
    "caches",
    "checkouts",
    "replay",
    "replay.lock",
    "tmp",
    "flights",
    "gc.lock",
    "leases",
];

const FORMAT_HEAD: &str = "treebox store ";
const FORMAT_LIMIT_BYTES: u64 = 65_536;

/// Why a directory cannot be opened as a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The format file is not one.
    #[error("{} is not a treebox store: its `format` file is not understood", .0.display())]
    NotAStore(PathBuf),
    /// There are other files where the store should be made.
    #[error("{} is not empty and not a treebox store: give another directory with --store", .0.display())]
    Occupied(PathBuf),
    /// A newer program made the store.
    #[error("{} has store format {found}, this treebox knows {FORMAT_VERSION}: use a newer treebox", path.display())]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The path is too long.
    #[error("a store's path has at most {MAX_STORE_PATH_BYTES} bytes and {} has {}: give a shorter one with --store", .0.display(), .0.as_os_str().len())]
    PathTooLong(PathBuf),
    /// The file system cannot hold a store.
    #[error("cannot keep a store in {} ({kind}): {reason}; give a directory on ext4, XFS, btrfs or tmpfs with --store", path.display())]
    Unfit {
        /// The directory.
        path: PathBuf,
        /// The file system's name.
        kind: String,
        /// What it lacks.
        reason: &'static str,
    },
    /// The store needs a feature that this program lacks.
    #[error("{} uses the store feature `{feature}`, which this treebox does not know: use a newer treebox", path.display())]
    Feature {
        /// The store.
        path: PathBuf,
        /// The feature's name.
        feature: String,
    },
    /// A file verb failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The paths of a store.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    /// Why the store may only be read.
    read_only: Option<String>,
}

impl Layout {
    /// Opens the store at `root`, or makes one where there is nothing.
    pub fn open_or_create(root: &Path) -> Result<Self, FormatError> {
        if root.as_os_str().len() > MAX_STORE_PATH_BYTES {
            return Err(FormatError::PathTooLong(root.to_owned()));
        }
        let layout = Self { root: root.to_owned(), read_only: None };
        if !exists(&layout.format())? {
            layout.create()?;
        }
        let mut read_only = layout.check()?;
        if read_only.is_none() && rustix::fs::access(root, rustix::fs::Access::WRITE_OK).is_err() {
            read_only = Some("it cannot be written".to_owned());
        }
        Ok(Self { read_only, ..layout })
    }

    /// The store at `root`, which is looked at as it is: its format may be damaged, and nothing is made.
    ///
    /// # Errors
    /// When there is no store, or one that a later program made.
    pub fn inspect(root: &Path) -> Result<Self, FormatError> {
        let root = std::fs::canonicalize(root).map_err(|error| DiskError::new("find", root, error))?;
        let layout = Self { root, read_only: None };
        match layout.check() {
            Err(error @ (FormatError::Newer { .. } | FormatError::Feature { .. })) => Err(error),
            // What a store has from its first moment.
            Err(error) if !layout.objects().is_dir() => Err(error),
            Ok(read_only) => Ok(Self { read_only, ..layout }),
            Err(_) => Ok(layout),
        }
    }

    /// What is wrong with the format file.
    pub fn format_flaw(&self) -> Option<String> {
        match self.check() {
            Ok(_) => None,
            Err(FormatError::Disk(error)) if error.is_not_found() => Some("it is not there".to_owned()),
            Err(FormatError::NotAStore(_)) => Some("it is not understood".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Writes the format file, which a store has that is whole.
    pub fn write_format(&self) -> Result<(), FormatError> {
        let text = format!("{FORMAT_HEAD}{FORMAT_VERSION}\n");
        Ok(write_atomic(&self.format(), text.as_bytes(), Durability::Commit)?)
    }

    fn create(&self) -> Result<(), FormatError> {
        create_dir_all_private(&self.root)?;
        let listing =
            std::fs::read_dir(&self.root).map_err(|error| DiskError::new("list", &self.root, error))?;
        for entry in listing {
            let name = entry.map_err(|error| DiskError::new("list", &self.root, error))?.file_name();
            // Another process may be making the same store right now; anything else is somebody's data.
            let name = name.to_string_lossy();
            let half_made = ["index.db", "format.", "replay.", "history.boot"];
            if !(NAMES.contains(&&*name)
                || name == "damaged"
                || half_made.iter().any(|stem| name.starts_with(stem)))
            {
                return Err(FormatError::Occupied(self.root.clone()));
            }
        }
        self.judge_disk()?;
        for dir in [self.objects(), self.pack(), self.layers(), self.tmp()] {
            create_dir_all_private(&dir)?;
        }
        // Names last when their directory is synced; the store's own is the parent's.
        let mut names = SyncSet::new(Durability::Commit);
        for dir in
            [self.objects(), self.root.clone()].iter().chain(self.root.parent().map(Path::to_owned).as_ref())
        {
            names.directory(dir);
        }
        names.finish()?;
        // The format file comes last: a directory without it is not yet a store and is completed by the next open.
        self.write_format()
    }

    /// Refuses a file system that cannot hold a store; leaves nothing there then.
    fn judge_disk(&self) -> Result<(), FormatError> {
        let tmp = self.tmp();
        create_dir_all_private(&tmp)?;
        let found = Scratch::new(&tmp).and_then(|scratch| features(scratch.path()));
        let refused = match found {
            Ok(found) => match found.unfit() {
                Some(reason) => FormatError::Unfit { path: self.root.clone(), kind: found.kind, reason },
                None => return Ok(()),
            },
            Err(error) => error.into(),
        };
        // Only when it is empty.
        let _ = std::fs::remove_dir(&tmp);
        Err(refused)
    }

    /// Looks at the format; gives why the store may only be read, if that is so.
    fn check(&self) -> Result<Option<String>, FormatError> {
        // It may have been brought there since it was made.
        if let (kind, Some(reason)) = file_system(&self.root)? {
            return Err(FormatError::Unfit { path: self.root.clone(), kind, reason });
        }
        understood(&self.root, &read_limited(&self.format(), FORMAT_LIMIT_BYTES)?)
    }

    /// Why the store may only be read; `None` when it may be written.
    pub fn read_only(&self) -> Option<&str> {
        self.read_only.as_deref()
    }

    /// Fails when the store may only be read.
    pub fn writable(&self) -> Result<(), StoreError> {
        self.read_only.as_ref().map_or(Ok(()), |reason| Err(StoreError::ReadOnly(reason.clone())))
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The format file.
    pub fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    /// Where objects lie; also the data-only lower of overlays.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// Where segments of trees and states lie.
    pub fn pack(&self) -> PathBuf {
        self.root.join("objects/pack")
    }

    /// The file of a blob: `objects/`, two hex digits, `/`, the other 62.
    pub fn blob(&self, id: &BlobId) -> PathBuf {
        self.root.join("objects").join(Self::blob_below_objects(id))
    }

    /// The path of a blob below `objects/`.
    pub fn blob_below_objects(id: &BlobId) -> String {
        let hex = id.to_string();
        format!("{}/{}", &hex[..2], &hex[2..])
    }

    /// The history repository.
    pub fn history(&self) -> PathBuf {
        self.root.join("history.git")
    }

    /// The index.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    /// Where overlay lowers lie.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Where it is kept, by root tree, which entries one id cannot own; made with the first.
    pub fn owners(&self) -> PathBuf {
        self.root.join("owners")
    }

    /// Where it is kept which host directories were written from which states; made with the first.
    pub fn checkouts(&self) -> PathBuf {
        self.root.join("checkouts")
    }

    /// Where caches lie that commands mount; made with the first.
    pub fn caches(&self) -> PathBuf {
        self.root.join("caches")
    }

    /// Where manifests, configs and layers of images lie as they came; made with the first.
    pub fn originals(&self) -> PathBuf {
        self.root.join("originals")
    }

    /// The lock that is shared by whoever makes something, and exclusive for deleting.
    pub fn gc_lock(&self) -> PathBuf {
        self.root.join("gc.lock")
    }

    /// What the store may take on disk, when something bounds it.
    pub fn max_size(&self) -> PathBuf {
        self.root.join("max-size")
    }

    /// What the store takes on disk, counted where something bounds it.
    pub fn usage(&self) -> PathBuf {
        self.root.join("usage")
    }

    /// Where living processes say what they use; made with the first.
    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// Where whoever does something that others wait for says so; made with the first.
    pub fn flights(&self) -> PathBuf {
        self.root.join("flights")
    }

    /// Where half-made things lie.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

/// Whether this program may open the store at `root` whose file `format` has these bytes; why it may only be read, if that is so.
pub(super) fn understood(root: &Path, bytes: &[u8]) -> Result<Option<String>, FormatError> {
    let not_a_store = || FormatError::NotAStore(root.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| not_a_store())?;
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix(FORMAT_HEAD)).ok_or_else(not_a_store)?;
    let found = version.parse::<u32>().map_err(|_| not_a_store())?;
    if found > FORMAT_VERSION {
        return Err(FormatError::Newer { path: root.to_owned(), found });
    }
    let mut read_only = None;
    for line in lines {
        match line.split_once(' ') {
            Some(("ignore", _)) => {}
            Some(("read-only", feature)) => {
                read_only = Some(format!(
                    "it uses the feature `{feature}`, without which it must not be written: use a newer treebox"
                ));
            }
            Some(("refuse", feature)) => {
                return Err(FormatError::Feature { path: root.to_owned(), feature: feature.to_owned() });
            }
            _ => return Err(not_a_store()),
        }
    }
    Ok(read_only)
}
