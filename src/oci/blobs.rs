//! Where an image's parts lie: the directory of an OCI layout, the members of an archive, or the originals of a store.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::digest::Digest;
use super::entry::TarKind;
use super::error::ImportError;
use super::feed::{Keep, LayerInput};
use super::limits::{Limits, within};
use super::originals::Originals;
use super::section::Section;
use super::tarball::Tar;
use crate::disk::DiskError;
use crate::object::TreePath;

/// How many links from member to member are followed.
const MAX_LINKS: usize = 40;

/// Parts of an image by their path.
#[derive(Debug)]
pub(super) enum Parts {
    Directory(PathBuf),
    Archive {
        path: PathBuf,
        members: HashMap<TreePath, Member>,
    },
    /// With where documents come from that are not among them yet.
    Originals {
        originals: Originals,
        documents: Option<Arc<dyn Documents>>,
    },
}

/// Fetches documents on demand; the caller checks what comes.
pub(super) trait Documents: std::fmt::Debug + Send + Sync {
    /// The bytes of a document, at most `size` of them.
    fn fetch(&self, kind: DocumentKind, digest: &Digest, size: u64) -> Result<Vec<u8>, ImportError>;
}

/// Registries keep the two in different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentKind {
    /// Or an index.
    Manifest,
    Config,
}

impl DocumentKind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Config => "config",
        }
    }
}

/// One member of an archive.
#[derive(Debug)]
pub(super) enum Member {
    File(Section),
    /// To another member.
    Link(TreePath),
    /// Neither file nor link, or a link out of the archive.
    Unusable(&'static str),
}

impl Parts {
    /// Reads the list of an archive's members; their bytes stay where they are.
    pub(super) fn of_archive(path: &Path, whole: &Section, limits: &Limits) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Layer { layer: path.display().to_string(), source };
        let mut tar = Tar::new(whole.reader(), limits);
        let mut members = HashMap::new();
        let (mut count, mut metadata_bytes) = (0, 0);
        while let Some(entry) = tar.next().map_err(failed)? {
            count += 1;
            within("entries", limits.entries, count, || "the number of members".into())?;
            metadata_bytes += entry.metadata_bytes();
            within("metadata_bytes", limits.metadata_bytes, metadata_bytes, || {
                "the size of all members' names".into()
            })?;
            let name = TreePath::parse(&entry.path).map_err(|error| failed(error.into()))?;
            let member = match entry.kind {
                TarKind::File { size, regions: None } => Member::File(whole.part(tar.offset(), size)),
                TarKind::File { .. } => Member::Unusable("it is a sparse file"),
                TarKind::HardLink { target } => link(&[], &target),
                TarKind::Symlink { target } if target.starts_with(b"/") => {
                    Member::Unusable("it is a link out of the archive")
                }
                TarKind::Symlink { target } => {
                    let parent = name.split_last().map(|(parent, _)| parent).unwrap_or_default();
                    link(&parent.to_bytes(), &target)
                }
                TarKind::Directory => continue,
                _ => Member::Unusable("it is a device or FIFO"),
            };
            members.insert(name, member);
        }
        Ok(Self::Archive { path: path.to_owned(), members })
    }

    /// The directory or archive.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive { path, .. } => path,
            Self::Originals { originals, .. } => originals.root(),
        }
    }

    /// Whether there is a part of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        matches!(self.open(name, name), Ok(Some(_)))
    }

    /// A part by its name; `None` when it is not there.
    pub(super) fn open(&self, name: &str, what: &str) -> Result<Option<Section>, ImportError> {
        match self {
            Self::Directory(root) => open_beneath(root, name),
            Self::Originals { originals, .. } => match Digest::of_blob_path(name) {
                Some(digest) => Ok(originals.open(&digest)?),
                None => Ok(None),
            },
            Self::Archive { path, members } => {
                let unusable = |reason: &str| ImportError::NotAnImage {
                    path: path.clone(),
                    reason: format!("{what} lies in the member `{name}`, and {reason}"),
                };
                let mut at =
                    TreePath::parse(name.as_bytes()).map_err(|error| unusable(&error.to_string()))?;
                for _ in 0..MAX_LINKS {
                    match members.get(&at) {
                        None => return Ok(None),
                        Some(Member::File(section)) => return Ok(Some(section.clone())),
                        Some(Member::Link(target)) => at = target.clone(),
                        Some(Member::Unusable(reason)) => return Err(unusable(reason)),
                    }
                }
                Err(unusable("its links go round in a circle"))
            }
        }
    }

    /// A part that has to be there.
    pub(super) fn require(&self, name: &str, what: &str) -> Result<Section, ImportError> {
        let missing = || ImportError::Missing { what: what.to_owned(), name: name.to_owned() };
        self.open(name, what)?.ok_or_else(missing)
    }

    /// All bytes of a small part, within the limit for documents.
    pub(super) fn read(&self, name: &str, what: &str, limits: &Limits) -> Result<Vec<u8>, ImportError> {
        self.read_section(&self.require(name, what)?, name, what, limits)
    }

    /// All bytes of a document that a descriptor points to, checked.
    pub(super) fn read_checked(
        &self,
        kind: DocumentKind,
        digest: &Digest,
        size: u64,
        limits: &Limits,
    ) -> Result<Vec<u8>, ImportError> {
        let what = format!("{} {digest}", kind.word());
        if let Self::Originals { originals, documents: Some(documents) } = self {
            within("manifest_bytes", limits.manifest_bytes, size, || format!("the size of {what}"))?;
            match originals.document(digest, limits.manifest_bytes) {
                Ok(Some(bytes)) => {
                    check(&bytes, digest, size, &what)?;
                    return Ok(bytes);
                }
                Ok(None) => {}
                // It comes anew.
                Err(ImportError::Mismatch { .. }) => originals.discard(digest)?,
                Err(error) => return Err(error),
            }
            let bytes = documents.fetch(kind, digest, size)?;
            check(&bytes, digest, size, &what)?;
            originals.keep(digest, &bytes)?;
            return Ok(bytes);
        }
        let name = digest.blob_path();
        let section = self.require(&name, &what)?;
        check_size(&section, size, &what)?;
        let bytes = self.read_section(&section, &name, &what, limits)?;
        check(&bytes, digest, size, &what)?;
        Ok(bytes)
    }

    fn read_section(
        &self,
        section: &Section,
        name: &str,
        what: &str,
        limits: &Limits,
    ) -> Result<Vec<u8>, ImportError> {
        let len = section.len().unwrap_or(u64::MAX);
        within("manifest_bytes", limits.manifest_bytes, len, || format!("the size of {what}"))?;
        section.read_all().map_err(|error| DiskError::new("read", self.path().join(name), error).into())
    }

    /// A layer that a descriptor points to; its bytes are checked when they are read.
    pub(super) fn layer(
        &self,
        digest: Digest,
        size: u64,
        media_type: String,
        diff_id: Digest,
    ) -> Result<LayerInput, ImportError> {
        let name = digest.to_string();
        let what = format!("layer {name}");
        let section = self.require(&digest.blob_path(), &what)?;
        check_size(&section, size, &what)?;
        Ok(LayerInput {
            name,
            section,
            digest: Some(digest),
            diff_id: Some(diff_id),
            media_type,
            keep: Keep::Nothing,
        })
    }
}

fn check(bytes: &[u8], digest: &Digest, size: u64, what: &str) -> Result<(), ImportError> {
    let mismatch = |expected: String, found: String| {
        Err(ImportError::Mismatch { what: what.to_owned(), expected, found })
    };
    let found = Digest::of(digest.algorithm(), bytes);
    if found != *digest {
        return mismatch(digest.to_string(), found.to_string());
    }
    if bytes.len() as u64 != size {
        return mismatch(format!("{size} bytes"), format!("{} bytes", bytes.len()));
    }
    Ok(())
}

fn check_size(section: &Section, size: u64, what: &str) -> Result<(), ImportError> {
    match section.len() {
        Some(len) if len == size => Ok(()),
        len => Err(ImportError::Mismatch {
            what: what.to_owned(),
            expected: format!("{size} bytes"),
            found: len.map_or("a pipe".into(), |len| format!("{len} bytes")),
        }),
    }
}

fn link(from: &[u8], target: &[u8]) -> Member {
    match TreePath::parse(&[from, b"/", target].concat()) {
        Ok(target) => Member::Link(target),
        Err(_) => Member::Unusable("it is a link out of the archive"),
    }
}

/// Opens a file below a directory. No symlink below the directory is followed: a layout that someone else made could point anywhere
/// on this machine (Apple container GHSA-r3h2-rgqf-9hv9).
fn open_beneath(root: &Path, name: &str) -> Result<Option<Section>, ImportError> {
    let failed = |error: rustix::io::Errno| match error {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => ImportError::NotAnImage {
            path: root.to_owned(),
            reason: format!(
                "`{name}` is reached through a symbolic link or something else that is no directory"
            ),
        },
        _ => DiskError::new("open", root.join(name), error).into(),
    };
    let mut directory = File::open(root).map_err(|error| DiskError::new("open", root, error))?;
    let path = TreePath::parse(name.as_bytes())
        .map_err(|error| ImportError::NotAnImage { path: root.to_owned(), reason: error.to_string() })?;
    let Some((parents, last)) = path.split_last() else { return Ok(None) };
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for parent in parents.names() {
        let opened = rustix::fs::openat(
            &directory,
            parent.as_bytes(),
            flags | OFlags::DIRECTORY | OFlags::PATH,
            Mode::empty(),
        );
        match opened {
            Ok(next) => directory = next.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
    }
    // Without NONBLOCK a FIFO in a blob's place would wait for a writer for ever.
    let file = match rustix::fs::openat(
        &directory,
        last.as_bytes(),
        flags | OFlags::RDONLY | OFlags::NONBLOCK,
        Mode::empty(),
    ) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let section = Section::of(file).map_err(|error| DiskError::new("open", root.join(name), error))?;
    if section.len().is_none() {
        return Err(ImportError::NotAnImage {
            path: root.to_owned(),
            reason: format!("`{name}` is no regular file"),
        });
    }
    Ok(Some(section))
}
