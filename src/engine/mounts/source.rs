//! Files and directories of the host that are bound.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::object::{BlobId, MountContent, TreeId};
use crate::sandbox::FileIdentity;
use crate::worktree::survey::{Content, Survey, SurveyError};

/// An opened source. While it is open its inode number stays its own.
#[derive(Debug, Clone)]
pub(super) struct Source {
    fd: Arc<OwnedFd>,
    /// Where it was when it was opened, without symbolic links.
    pub(super) path: PathBuf,
    pub(super) identity: FileIdentity,
    pub(super) directory: bool,
    /// The store, when it lies below: its path there. It is covered, since it changes with every run and is nobody's to look into.
    pub(super) store_below: Option<PathBuf>,
    covered: Option<((u32, u32), u64)>,
    /// What the look at it before the run saw, when its content counts.
    fingerprint: Option<[u8; 32]>,
}

impl Source {
    pub(super) fn open(core: &Core, given: &Path) -> Result<Self> {
        let refuse = |why: String| Error::invalid(format!("cannot mount {}: {why}", given.display()));
        if given.as_os_str().is_empty() {
            return Err(Error::invalid(
                "a bind mount needs a source: give the path of a host file or directory",
            ));
        }
        let absolute = std::path::absolute(given).map_err(|error| refuse(error.to_string()))?;
        let fd = rustix::fs::openat(CWD, &absolute, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| refuse(std::io::Error::from(errno).to_string()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| refuse(std::io::Error::from(errno).to_string()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Err(refuse("it is a device, and devices do not work in a sandbox".into()));
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|error| refuse(error.to_string()))?;
        let store = core.layout().root();
        if path.starts_with(store) {
            return Err(refuse("it lies in the store itself, which commands must not see".into()));
        }
        let mut source = Self {
            fd: Arc::new(fd),
            identity: FileIdentity { device: stat.st_dev, inode: stat.st_ino },
            directory: kind == FileType::Directory,
            store_below: None,
            covered: None,
            fingerprint: None,
            path,
        };
        if let Ok(below) = store.strip_prefix(&source.path) {
            let stat =
                rustix::fs::stat(store).map_err(|errno| Error::disk("look at", store, errno.into()))?;
            source.covered =
                Some(((rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev)), stat.st_ino));
            source.store_below = Some(below.to_owned());
        }
        Ok(source)
    }

    /// What of it counts in the key. It is hashed unless nothing has changed since it was hashed last.
    pub(super) fn content(&mut self, core: &Core) -> Result<MountContent> {
        let survey = self.look()?;
        self.fingerprint = Some(survey.fingerprint());
        let name =
            format!("mounted.{}", &blake3::hash(self.path.as_os_str().as_encoded_bytes()).to_hex()[..32]);
        let fingerprint = blake3::Hash::from_bytes(survey.fingerprint()).to_hex();
        let known = core.index.meta(&name)?;
        let known = known.as_deref().and_then(|text| text.strip_prefix(fingerprint.as_str()));
        if let Some(content) = known.and_then(parse) {
            return Ok(content);
        }
        let content = survey.content().map_err(|error| self.unreadable(&error))?;
        if survey.settled() {
            core.index.set_meta(&name, Some(&format!("{fingerprint}{}", text(&content))))?;
        }
        Ok(counted(&content))
    }

    /// Whether it is no longer what went into the key.
    pub(super) fn changed(&self) -> bool {
        let Some(before) = self.fingerprint else { return false };
        self.look().map(|survey| survey.fingerprint()).ok() != Some(before)
    }

    fn look(&self) -> Result<Survey> {
        Survey::take(&self.fd, &self.path, self.covered).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &SurveyError) -> Error {
        let path = self.path.display();
        Error::invalid(match error {
            SurveyError::Changed(_) => format!(
                "cannot mount {path} read-only: {error}; a read-only mount counts by content, so stop what writes to it or mount it rw"
            ),
            _ => format!(
                "cannot mount {path} read-only: {error}; a read-only mount counts by content, so all of it must be readable: \
                 mount it rw, or run with --disposable"
            ),
        })
    }
}

fn counted(content: &Content) -> MountContent {
    match content {
        Content::Directory(tree) => MountContent::Directory(*tree),
        Content::File { mode, blob } => MountContent::File { mode: *mode, blob: *blob },
        Content::Special => MountContent::Special,
    }
}

fn text(content: &Content) -> String {
    match content {
        Content::Directory(tree) => format!(" directory {tree}"),
        Content::File { mode, blob } => format!(" file {mode:o} {blob}"),
        Content::Special => " special".to_owned(),
    }
}

pub(super) fn parse(text: &str) -> Option<MountContent> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["directory", tree] => Some(MountContent::Directory(tree.parse::<TreeId>().ok()?)),
        ["file", mode, blob] => {
            let mode = u16::from_str_radix(mode, 8).ok()?;
            Some(MountContent::File { mode, blob: blob.parse::<BlobId>().ok()? })
        }
        ["special"] => Some(MountContent::Special),
        _ => None,
    }
}
