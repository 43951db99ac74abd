//! Looking at a history for damage: every ref, log and object for itself, so that damage in one hides no other.
//!
//! Refs are read here without Git's library, which refuses all of them when one line of `packed-refs` is bad.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::git::{Local, ObjectKind, parse_commit};
use super::operations::LOG_REF;
use super::pack::entries;
use super::{History, HistoryError, MAX_RECORD_BYTES, RECORD_NAME, RefKind, ReflogEntry, reflog};
use crate::object::CommitId;

/// How often a symbolic ref or a tag may lead to another one.
const MAX_HOPS: usize = 8;

/// A ref as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRef {
    /// Git's full name of it.
    pub full: String,
    /// Where it leads.
    pub tip: RefTip,
}

/// Where a ref leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefTip {
    /// To this commit, behind annotated tags. Whether there is such a commit was not looked at.
    Commit(CommitId),
    /// Nowhere: no id can be read, and why.
    Torn(String),
    /// To a tag object that is not there or is damaged.
    Dangling(CommitId, String),
}

/// A line of `packed-refs`.
pub(super) enum PackedLine<'l> {
    /// A ref by its full name, and what it names.
    Ref(CommitId, &'l str),
    /// What stands beside refs: the head of the file, and what a tag above leads to.
    Beside,
    /// Nothing that Git writes.
    Bad,
}

impl<'l> PackedLine<'l> {
    pub(super) fn parse(line: &'l str) -> Self {
        let peeled = line.strip_prefix('^').is_some_and(|id| id.parse::<CommitId>().is_ok());
        if line.starts_with('#') || peeled {
            return Self::Beside;
        }
        let read = line.split_once(' ').and_then(|(id, name)| Some((id.parse().ok()?, name)));
        match read.filter(|(_, name)| name.starts_with("refs/")) {
            Some((id, name)) => Self::Ref(id, name),
            None => Self::Bad,
        }
    }
}

/// The refs of `packed-refs`, and its lines that are none.
type PackedRefs = (Vec<(String, CommitId)>, Vec<String>);

/// HEAD as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadFound {
    /// Attached to a branch, by its full name.
    Branch(String),
    /// At a commit by itself.
    Detached(CommitId),
    /// Neither, and why.
    Torn(String),
}

/// The log of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedLog {
    /// Git's full name of the ref.
    pub full: String,
    /// Its sound lines, oldest first.
    pub entries: Vec<ReflogEntry>,
    /// How many lines are no lines of a log.
    pub torn: usize,
}

/// A commit that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedCommit {
    /// Its parents, in order.
    pub parents: Vec<CommitId>,
    /// The bytes of `state.json`; `None` when there is none.
    pub record: Option<Vec<u8>>,
}

/// What is wrong with a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFlaw {
    /// It is not there.
    Missing,
    /// It, its Git tree or a file in that cannot be read; its parents, as far as they are known.
    Damaged {
        /// The Git object that is damaged: the commit itself, its tree or a file.
        object: CommitId,
        /// Which object it is, and what is wrong with it.
        reason: String,
        /// Its parents.
        parents: Vec<CommitId>,
    },
}

/// A Git object that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFlaw {
    /// The object; `None` when a whole pack cannot be read.
    pub id: Option<CommitId>,
    /// The file that it is in.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

impl History {
    /// Every ref that there is a file or a line of; and the lines of `packed-refs` that are none.
    pub fn check_refs(&self) -> Result<(Vec<CheckedRef>, Vec<String>), HistoryError> {
        let (packed, bad) = self.packed_refs()?;
        let mut found: BTreeMap<String, Result<CommitId, String>> =
            packed.into_iter().map(|(name, id)| (name, Ok(id))).collect();
        let mut files = Vec::new();
        files_below(&self.directory.join("refs"), &mut files)?;
        for path in files {
            let Some(full) = path.strip_prefix(&self.directory).ok().and_then(Path::to_str) else { continue };
            if full.ends_with(".lock") || full == LOG_REF {
                continue;
            }
            let value = self.loose_ref(&path, MAX_HOPS);
            // A ref that was packed, or deleted, between the listing and now.
            if let Some(value) = value {
                found.insert(full.to_owned(), value);
            }
        }
        let git = self.git.local();
        let refs = found.into_iter().map(|(full, value)| {
            let tip = match value {
                Err(reason) => RefTip::Torn(reason),
                Ok(id) if full.starts_with(RefKind::Tag.prefix()) => peel(&git, id),
                Ok(id) => RefTip::Commit(id),
            };
            CheckedRef { full, tip }
        });
        Ok((refs.collect(), bad))
    }

    /// The refs of `packed-refs`, and what else stands in it.
    fn packed_refs(&self) -> Result<PackedRefs, HistoryError> {
        let path = self.directory.join("packed-refs");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(source) => return Err(HistoryError::io("reading", &path, source)),
        };
        let (mut refs, mut bad) = (Vec::new(), Vec::new());
        let text = String::from_utf8_lossy(&bytes);
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bad.push("its last line has no end".to_owned());
        }
        for line in text.lines() {
            match PackedLine::parse(line) {
                PackedLine::Ref(id, name) => refs.push((name.to_owned(), id)),
                PackedLine::Beside => {}
                PackedLine::Bad => bad.push(line.chars().take(120).collect()),
            }
        }
        Ok((refs, bad))
    }

    fn loose_ref(&self, path: &Path, hops: usize) -> Option<Result<CommitId, String>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(error.to_string())),
        };
        if bytes.is_empty() {
            return Some(Err("the file is empty".to_owned()));
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        if let Some(to) = text.strip_prefix("ref: ") {
            if hops == 0 {
                return Some(Err("it leads from ref to ref without end".to_owned()));
            }
            return self.loose_ref(&self.directory.join(to), hops - 1);
        }
        Some(text.parse().map_err(|_| "there is no commit's id in the file".to_owned()))
    }

    /// What is checked out, as far as the file tells.
    pub fn found_head(&self) -> HeadFound {
        let bytes = match std::fs::read(self.directory.join("HEAD")) {
            Ok(bytes) => bytes,
            Err(error) => return HeadFound::Torn(error.to_string()),
        };
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        match text.strip_prefix("ref: ") {
            Some(full) if full.starts_with(RefKind::Branch.prefix()) => HeadFound::Branch(full.to_owned()),
            Some(full) => HeadFound::Torn(format!("it is attached to `{full}`, which is no branch")),
            None => match text.parse() {
                Ok(id) => HeadFound::Detached(id),
                Err(_) => HeadFound::Torn("it names neither a branch nor a commit".to_owned()),
            },
        }
    }

    /// Every log: of refs, of refs that are gone, of HEAD, of operations.
    pub fn check_logs(&self) -> Result<Vec<CheckedLog>, HistoryError> {
        let mut logs = Vec::new();
        for full in self.logs()? {
            let path = self.log_path(&full);
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(HistoryError::io("reading", &path, source)),
            };
            let mut log = CheckedLog { full, entries: Vec::new(), torn: 0 };
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match reflog::parse(line) {
                    Some(entry) => log.entries.push(entry),
                    None => log.torn += 1,
                }
            }
            logs.push(log);
        }
        Ok(logs)
    }

    /// A commit and the record in it, hashes compared. Of a commit of notes every note is read.
    pub fn check_commit(&self, id: &CommitId) -> Result<CheckedCommit, CommitFlaw> {
        let git = self.git.local();
        let flaw = |reason: String| CommitFlaw::Damaged { object: *id, reason, parents: Vec::new() };
        let bytes = match git.checked_object(id) {
            Ok(None) => return Err(CommitFlaw::Missing),
            Ok(Some((ObjectKind::Commit, bytes))) => bytes,
            Ok(Some(_)) => return Err(flaw("it is no commit".to_owned())),
            Err(error) => return Err(flaw(error.to_string())),
        };
        let commit = parse_commit(&bytes).map_err(|error| flaw(error.to_string()))?;
        let mut record = None;
        let read = check_tree(&git, &commit.tree, &mut |name, bytes| {
            if name == RECORD_NAME.as_bytes() && bytes.len() <= MAX_RECORD_BYTES {
                record = Some(bytes);
            }
        });
        match read {
            Ok(()) => Ok(CheckedCommit { parents: commit.parents, record }),
            Err((object, reason)) => Err(CommitFlaw::Damaged { object, reason, parents: commit.parents }),
        }
    }

    /// Every Git object for itself, loose or in a pack: those that are not what their names say.
    pub fn check_objects(&self) -> Result<Vec<GitFlaw>, HistoryError> {
        let git = self.git.local();
        let mut flaws = Vec::new();
        for id in self.loose_objects()? {
            if let Err(error) = git.check_loose(&id) {
                let path = self.loose_path(&id);
                // It may have been packed meanwhile.
                if path.exists() {
                    flaws.push(GitFlaw { id: Some(id), path, reason: error.to_string() });
                }
            }
        }
        for path in entries(&self.directory.join("objects/pack"))? {
            if path.extension().is_none_or(|extension| extension != "idx") {
                continue;
            }
            let flaw = |id, reason: String| GitFlaw { id, path: path.with_extension("pack"), reason };
            match git.check_pack(&path) {
                Ok(found) => flaws.extend(found.into_iter().map(|(id, why)| flaw(Some(id), why.to_string()))),
                Err(_) if !path.exists() => {}
                Err(error) => flaws.push(flaw(None, error.to_string())),
            }
        }
        Ok(flaws)
    }

    /// Whether an edit was begun by a process that is dead.
    pub fn has_unfinished_edit(&self) -> bool {
        std::fs::metadata(&self.lock_path).is_ok_and(|meta| meta.len() > 0)
            && super::sync::is_unlocked(&self.lock_path)
    }
}

/// The commit behind annotated tags.
fn peel(git: &Local, mut id: CommitId) -> RefTip {
    for _ in 0..MAX_HOPS {
        match git.checked_object(&id) {
            Ok(Some((ObjectKind::Tag, bytes))) => {
                let text = String::from_utf8_lossy(&bytes);
                let to = text.lines().next().and_then(|line| line.strip_prefix("object ")?.parse().ok());
                match to {
                    Some(to) => id = to,
                    None => return RefTip::Dangling(id, "its tag object names nothing".to_owned()),
                }
            }
            // What is no tag object is left to who looks at commits.
            _ => return RefTip::Commit(id),
        }
    }
    RefTip::Dangling(id, "tags lead to tags without end".to_owned())
}

/// Reads everything in a Git tree; says which object is not what its name says.
fn check_tree(
    git: &Local,
    id: &CommitId,
    file: &mut dyn FnMut(&[u8], Vec<u8>),
) -> Result<(), (CommitId, String)> {
    let read = |what: &str, id: &CommitId| match git.checked_object(id) {
        Ok(Some((_, bytes))) => Ok(bytes),
        Ok(None) => Err((*id, format!("its {what} {id} is missing"))),
        Err(error) => Err((*id, format!("its {what} {id} is damaged: {error}"))),
    };
    read("Git tree", id)?;
    let entries = git.entries(id).map_err(|error| (*id, format!("its Git tree {id} is damaged: {error}")))?;
    for entry in entries {
        match entry.mode {
            0o040_000 => check_tree(git, &entry.id, file)?,
            _ => {
                let name = String::from_utf8_lossy(&entry.name).into_owned();
                file(&entry.name, read(&format!("file `{name}`, blob"), &entry.id)?);
            }
        }
    }
    Ok(())
}

/// Every file below a directory, which need not be there.
fn files_below(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), HistoryError> {
    for path in entries(directory)? {
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
