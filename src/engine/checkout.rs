//! A state's files in a host directory, and that directory brought to another state.
//!
//! # Durability
//! What a directory was written from is kept in the store, before and after: whoever is killed in between leaves a directory whose files are
//! each the old or the new one, and the next checkout knows both.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::blocking::Engine;
use super::core::{Core, mapped_ids};
use super::error::{Error, Result};
use super::state::State;
use super::types::Written;
use crate::disk::{
    Durability, FileLock, LockMode, create_dir_all_private, read_limited, remove_file, write_atomic,
};
use crate::object::{BlobHasher, Entry, Kind, StateId, TreeId, TreePath, entry_at};
use crate::worktree::layer::{
    BuildOptions, Ground, LayerEntry, Linking, PlannedChange, UpdateOptions, Updated, plan_update, update,
};

/// The version of a record of a checkout.
const RECORD_VERSION: u32 = 1;
/// The longest record that is read.
const MAX_RECORD_BYTES: u64 = 1 << 20;
/// How many paths a conflict names.
const MAX_NAMED: usize = 5;

/// How the files of a state are written to a host directory.
#[derive(Debug, Clone, Default)]
pub struct CheckoutOptions {
    force: bool,
    new_only: bool,
}

impl CheckoutOptions {
    /// To a directory that is new, empty, or written by a checkout before; what was changed by hand is not replaced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what was changed by hand in a directory that an earlier checkout wrote.
    #[must_use]
    pub fn force(mut self, on: bool) -> Self {
        self.force = on;
        self
    }

    /// Only to a directory that is new or empty.
    #[must_use]
    pub fn new_only(mut self, on: bool) -> Self {
        self.new_only = on;
        self
    }
}

/// What a checkout did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// What was written, and what the host could not hold of that.
    pub written: Written,
    /// Entries removed.
    pub removed: u64,
    /// Entries that stayed as they were.
    pub kept: u64,
    /// The state that the directory showed before; `None` when it was new or empty.
    pub from: Option<StateId>,
    /// Directories that are no part of the state and stayed, since files that treebox did not write are in them.
    pub left: Vec<String>,
}

/// What a directory was written from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Shown {
    state: String,
    tree: String,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// For people: the name of the record says which directory is meant.
    directory: String,
    device: u64,
    inode: u64,
    shows: Option<Shown>,
    /// What it is being brought to, behind what killed checkouts were bringing it to; nothing once one has ended.
    next: Vec<Shown>,
}

impl Engine {
    /// Writes the files of a state, or what is below one of its paths, to a host directory. One that an earlier checkout wrote is brought up to
    /// date: only what differs is touched, and only what was written before is replaced or removed.
    pub fn checkout_with(
        &self,
        state: &State,
        path: &TreePath,
        dest: &Path,
        options: &CheckoutOptions,
    ) -> Result<CheckedOut> {
        self.core.checkout_with(state, path, dest, options)
    }
}

impl Core {
    pub(super) fn checkout_to(&self, state: &State, path: &TreePath, dest: &Path) -> Result<Written> {
        Ok(self.checkout_with(state, path, dest, &CheckoutOptions::new())?.written)
    }

    pub(super) fn checkout_with(
        &self,
        state: &State,
        path: &TreePath,
        dest: &Path,
        options: &CheckoutOptions,
    ) -> Result<CheckedOut> {
        // It keeps a record of the directory.
        self.store.writable()?;
        let (real, entry) = self.find(state, path, true)?;
        if entry.node.kind() != Kind::Directory {
            return Err(Error::invalid(format!(
                "{real} is a {}: `treebox cp` copies single files",
                entry.node.kind().as_str()
            )));
        }
        // What a person typed is what errors name.
        let given = dest;
        std::fs::create_dir_all(dest).map_err(|error| Error::disk("create directory", dest, error))?;
        let dest = std::fs::canonicalize(dest).map_err(|error| Error::disk("find", dest, error))?;
        let empty =
            std::fs::read_dir(&dest).map_err(|error| Error::disk("list", &dest, error))?.next().is_none();
        let kept = self.checkout_record(&dest);
        create_dir_all_private(&self.layout().checkouts())?;
        // Two at once would each take what the other wrote for a change by hand.
        let _lock = FileLock::acquire(&kept.with_extension("lock"), LockMode::Exclusive)?;
        let record = if empty { None } else { read_record(&kept, &dest)? };
        if !empty && (record.is_none() || options.new_only) {
            return Err(Error::Conflict(format!(
                "{} is not empty{}: give a new or empty directory",
                given.display(),
                if options.new_only { "" } else { " and no checkout of this store wrote it" },
            )));
        }
        let mut known = Vec::new();
        let mut from = None;
        if let Some(record) = &record {
            for shown in record.shows.iter().chain(&record.next) {
                known.push(self.shown_entry(shown, given)?);
            }
            from = record.shows.as_ref().and_then(|shown| shown.state.parse().ok());
        }
        let mut changes = Vec::new();
        plan_update(&self.store, &known, &entry, &|_, _| false, &mut |change| {
            changes.push(change);
            Ok(())
        })?;
        let meta = std::fs::metadata(&dest).map_err(|error| Error::disk("look at", &dest, error))?;
        let now =
            Shown { state: state.id().to_string(), tree: state.tree().to_string(), path: real.to_string() };
        let (shows, mut next) = record.map_or((None, Vec::new()), |record| (record.shows, record.next));
        next.retain(|shown| *shown != now);
        next.push(now.clone());
        let mut note = Record {
            version: RECORD_VERSION,
            directory: dest.to_string_lossy().into_owned(),
            device: meta.dev(),
            inode: meta.ino(),
            shows,
            next,
        };
        // A record has text. What a path of other bytes was written to is nobody's directory.
        let found_again = std::str::from_utf8(&real.to_bytes()).is_ok();
        let keep = |note: &Record| match found_again {
            true => self.keep_record(&kept, note),
            false => restore(&kept, None),
        };
        let updated = {
            let before = read_bytes(&kept);
            keep(&note)?;
            let updated = self.write_changes(&dest, &changes, options.force);
            let updated = updated.map_err(|error| error.met_at(format!("{}:{real}", state.label())))?;
            if !updated.conflicts.is_empty() {
                // Nothing was done.
                restore(&kept, before.as_deref())?;
                return Err(in_the_way(given, &updated.conflicts));
            }
            updated
        };
        (note.shows, note.next) = (Some(now), Vec::new());
        keep(&note)?;
        let total = match &entry.node {
            crate::object::Node::Directory { below, .. } => below.entries,
            _ => 0,
        };
        // The directory itself is no entry.
        let root_written = changes.first().is_some_and(|change| {
            change.path.is_empty() && change.known.iter().all(|known| Some(known) != change.new.as_ref())
        });
        let entries = updated.written - u64::from(root_written);
        Ok(CheckedOut {
            kept: total.saturating_sub(entries),
            removed: updated.removed,
            from,
            left: updated.left.iter().map(|path| text(path)).collect(),
            written: Written { entries, skipped: told(updated.skipped) },
        })
    }

    /// Writes changes to a host directory so that the caller owns what only others could: files that leave a state are for whoever asked.
    pub(super) fn write_as_caller(
        &self,
        dir: &Path,
        changes: &[PlannedChange],
        ground: Ground,
        given: &Path,
    ) -> Result<Updated> {
        let updated =
            update(dir, &UpdateOptions { build: self.host_options(false), ground, force: false }, changes)?;
        if updated.conflicts.is_empty() { Ok(updated) } else { Err(in_the_way(given, &updated.conflicts)) }
    }

    /// Writes changes to a host directory: as the caller where that is exact or all there is, else in the worker, who has other ids.
    fn write_changes(&self, dir: &Path, changes: &[PlannedChange], force: bool) -> Result<Updated> {
        let ground = Ground::Written;
        let options = UpdateOptions { build: self.host_options(true), ground, force };
        let real_root = nix::unistd::geteuid().is_root();
        let foreign = |entry: &LayerEntry| {
            entry.meta.uid != 0
                || entry.meta.gid != 0
                || entry.meta.xattrs.iter().any(|xattr| xattr.name.starts_with(b"security."))
        };
        let wants_ids = changes.iter().flat_map(|change| change.known.iter().chain(&change.new)).any(foreign);
        if !real_root
            && wants_ids
            && let Ok(worker) = self.worker()
            && mapped_ids(worker.identity()) > 1
        {
            let build = BuildOptions { mapped_ids: mapped_ids(worker.identity()), ..options.build.clone() };
            let session = self.session()?;
            let updated = session.update(dir, &UpdateOptions { build, ..options }, changes);
            self.release(session);
            return Ok(updated?);
        }
        Ok(update(dir, &options, changes)?)
    }

    /// How files are made by the caller.
    fn host_options(&self, exact: bool) -> BuildOptions {
        // As real root every owner can be given; a plain user's files are the user's own.
        let mapped_ids = if nix::unistd::geteuid().is_root() { u32::MAX } else { 1 };
        BuildOptions {
            objects: self.layout().objects(),
            mapped_ids,
            stand_ins: false,
            redirects: false,
            linking: Linking::Never,
            exact,
        }
    }

    /// Where it is kept what a directory shows.
    fn checkout_record(&self, dest: &Path) -> PathBuf {
        let mut hasher = BlobHasher::new();
        hasher.update(dest.as_os_str().as_bytes());
        self.layout().checkouts().join(&hasher.finish().to_string()[..32])
    }

    /// The directories that checkouts wrote, and the root trees that are needed to bring each up to date.
    pub(super) fn checkouts_need(&self) -> Result<Vec<(String, Vec<TreeId>)>> {
        let dir = self.layout().checkouts();
        let mut found = Vec::new();
        let Ok(listing) = std::fs::read_dir(&dir) else { return Ok(found) };
        for entry in listing {
            let path = entry.map_err(|error| Error::disk("list", &dir, error))?.path();
            if path.extension().is_some() {
                continue;
            }
            let Some(record) =
                read_bytes(&path).and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
            else {
                continue;
            };
            let shown = record.shows.iter().chain(&record.next);
            found.push((
                record.directory.clone(),
                shown.filter_map(|shown| shown.tree.parse().ok()).collect(),
            ));
        }
        Ok(found)
    }

    fn keep_record(&self, kept: &Path, record: &Record) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
        bytes.push(b'\n');
        Ok(write_atomic(kept, &bytes, self.options.durability)?)
    }

    /// The entry that a directory was written from.
    fn shown_entry(&self, shown: &Shown, dest: &Path) -> Result<Entry> {
        let found = shown.tree.parse::<TreeId>().ok().zip(TreePath::parse(shown.path.as_bytes()).ok());
        let entry = match found {
            Some((tree, path)) => self.store.root(&tree).ok().map(|root| entry_at(&self.store, &root, &path)),
            None => None,
        };
        match entry.transpose()?.flatten() {
            Some(entry) => Ok(entry),
            None => Err(Error::Conflict(format!(
                "what {} was written from is no longer in the store, so nobody can tell what was changed by hand: give a new or empty directory",
                dest.display()
            ))),
        }
    }
}

/// The record of a directory that is the one it is about: another of the same name has none.
fn read_record(kept: &Path, dest: &Path) -> Result<Option<Record>> {
    let Some(bytes) = read_bytes(kept) else { return Ok(None) };
    // One that cannot be read says nothing.
    let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return Ok(None) };
    let meta = std::fs::metadata(dest).map_err(|error| Error::disk("look at", dest, error))?;
    let same = record.version == RECORD_VERSION && (record.device, record.inode) == (meta.dev(), meta.ino());
    Ok(same.then_some(record))
}

/// What a fuzz target does with a record.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz_record(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    let again = serde_json::to_vec(&record).expect("a record is written");
    assert_eq!(serde_json::from_slice::<Record>(&again).expect("what was written is read"), record);
    for shown in record.shows.iter().chain(&record.next) {
        let _ = (shown.tree.parse::<TreeId>(), TreePath::parse(shown.path.as_bytes()));
    }
}

/// What is wrong with the bytes of a record.
pub(super) fn record_flaw(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<Record>(bytes).err().map(|error| error.to_string())
}

fn read_bytes(kept: &Path) -> Option<Vec<u8>> {
    read_limited(kept, MAX_RECORD_BYTES).ok()
}

fn restore(kept: &Path, before: Option<&[u8]>) -> Result<()> {
    match before {
        Some(bytes) => Ok(write_atomic(kept, bytes, Durability::Batch)?),
        None => Ok(remove_file(kept).map(drop)?),
    }
}

fn in_the_way(dest: &Path, conflicts: &[(Vec<u8>, String)]) -> Error {
    let mut named: Vec<_> =
        conflicts.iter().take(MAX_NAMED).map(|(path, why)| format!("{} ({why})", text(path))).collect();
    if conflicts.len() > MAX_NAMED {
        named.push(format!("and {} more", conflicts.len() - MAX_NAMED));
    }
    Error::Conflict(format!(
        "{}: nothing was written, since {} would be replaced: {}",
        dest.display(),
        if conflicts.len() == 1 { "what is there" } else { "files that are there" },
        named.join(", ")
    ))
}

pub(super) fn told(skipped: Vec<(Vec<u8>, String)>) -> Vec<(String, String)> {
    skipped.into_iter().map(|(path, reason)| (text(&path), reason)).collect()
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
