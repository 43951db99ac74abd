//! Where everything lies in a store, and which format it has.

use std::path::{Path, PathBuf};

use crate::disk::{
    DiskError, Durability, SyncSet, create_dir_all_private, exists, read_limited, write_atomic,
};
use crate::object::BlobId;

/// The version of the store format that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;

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
}

impl Layout {
    /// Opens the store at `root`, or makes one where there is nothing.
    pub fn open_or_create(root: &Path) -> Result<Self, FormatError> {
        let layout = Self { root: root.to_owned() };
        if !exists(&layout.format())? {
            layout.create()?;
        }
        layout.check()?;
        Ok(layout)
    }

    fn create(&self) -> Result<(), FormatError> {
        create_dir_all_private(&self.root)?;
        let listing =
            std::fs::read_dir(&self.root).map_err(|error| DiskError::new("list", &self.root, error))?;
        for entry in listing {
            let name = entry.map_err(|error| DiskError::new("list", &self.root, error))?.file_name();
            // Another process may be making the same store right now; anything else is somebody's data.
            let ours = [
                "objects",
                "layers",
                "owners",
                "caches",
                "checkouts",
                "originals",
                "replay",
                "tmp",
                "history.git",
                "history.lock",
                "history.batch",
                "format",
            ];
            let name = name.to_string_lossy();
            if !(ours.contains(&&*name)
                || ["index.db", "format.", "replay.", "history.boot"]
                    .iter()
                    .any(|stem| name.starts_with(stem)))
            {
                return Err(FormatError::Occupied(self.root.clone()));
            }
        }
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
        write_atomic(
            &self.format(),
            format!("{FORMAT_HEAD}{FORMAT_VERSION}\n").as_bytes(),
            Durability::Commit,
        )?;
        Ok(())
    }

    fn check(&self) -> Result<(), FormatError> {
        let bytes = read_limited(&self.format(), FORMAT_LIMIT_BYTES)?;
        let not_a_store = || FormatError::NotAStore(self.root.clone());
        let text = std::str::from_utf8(&bytes).map_err(|_| not_a_store())?;
        let mut lines = text.lines();
        let version = lines.next().and_then(|line| line.strip_prefix(FORMAT_HEAD)).ok_or_else(not_a_store)?;
        let found = version.parse::<u32>().map_err(|_| not_a_store())?;
        if found > FORMAT_VERSION {
            return Err(FormatError::Newer { path: self.root.clone(), found });
        }
        for line in lines {
            match line.split_once(' ') {
                Some(("ignore", _)) => {}
                // Nothing here writes with a feature it does not know, and opening is for writing.
                Some(("refuse" | "read-only", feature)) => {
                    return Err(FormatError::Feature {
                        path: self.root.clone(),
                        feature: feature.to_owned(),
                    });
                }
                _ => return Err(not_a_store()),
            }
        }
        Ok(())
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

    /// Where half-made things lie.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}
