//! Packing: a loose object or ref takes a block of the disk, a packed one what it holds; and one file is read faster than a thousand.
//!
//! # Durability
//! A pack is on disk, whatever the history's durability, before anything that it replaces is removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::git::{Local, OldValue, Step};
use super::journal::Lock;
use super::{EditError, History, HistoryError, RefKind, Who, sync};
use crate::object::CommitId;

/// Loose objects above which they are packed; three to a commit.
const MAX_LOOSE_OBJECTS: usize = 512;
/// Packs of about one size above which they become one.
const MAX_SIMILAR_PACKS: usize = 16;

/// Loose refs above which they are packed.
const MAX_LOOSE_REFS: usize = 128;

/// What packing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    /// Objects that are in a new pack.
    pub objects: usize,
    /// Packs that were joined.
    pub packs: usize,
}

impl History {
    /// Packs every loose object and ref, and joins all packs.
    pub fn pack(&self) -> Result<Packed, EditError> {
        let lock = self.lock()?;
        self.pack_refs(&lock, &self.loose_refs()?)?;
        let loose = self.loose_objects()?;
        Ok(self.pack_objects(&loose, &self.packs()?)?)
    }

    /// Packs loose objects, loose refs and packs when there are many. Called under the lock.
    ///
    /// It is no part of what it is called from: that it fails is no failure of a change that has been made.
    pub(super) fn pack_when_grown(&self, lock: &Lock) {
        let loose_refs = self.loose_refs().unwrap_or_default();
        if loose_refs.len() > MAX_LOOSE_REFS {
            let _ = self.pack_refs(lock, &loose_refs);
        }
        if self.has_many_loose_objects() {
            let _ = self.loose_objects().and_then(|loose| self.pack_objects(&loose, &[]));
            let _ = self.join_packs();
        }
    }

    /// Moves refs from files of their own into one. The note is there for their lock files, should this process be killed.
    fn pack_refs(&self, lock: &Lock, names: &[String]) -> Result<(), HistoryError> {
        let git = self.git.local();
        let stay = |full: &String| {
            let value = git.find(full).ok().flatten()?;
            Some(Step { full: full.clone(), new: Some(value.commit), old: OldValue::Is(value) })
        };
        let steps: Vec<_> = names.iter().filter_map(stay).collect();
        if steps.is_empty() {
            return Ok(());
        }
        let failed = |source| self.git_error("packing refs", source);
        lock.note(self, &steps, None, self.operations_len(), "pack refs", &Who::treebox(0))?;
        git.pack_refs(&steps, false).map_err(failed)?;
        for path in [self.directory.join("packed-refs"), self.directory.clone()] {
            self.synced(sync::path(&path), &path)?;
        }
        git.pack_refs(&steps, true).map_err(failed)?;
        // The library removes directories that are empty now; stock git wants some of them.
        for kind in RefKind::ALL {
            let directory = self.directory.join(kind.prefix());
            std::fs::create_dir_all(&directory)
                .map_err(|source| HistoryError::io("making", &directory, source))?;
        }
        Ok(())
    }

    /// The full names of the refs that are files of their own.
    pub(super) fn loose_refs(&self) -> Result<Vec<String>, HistoryError> {
        let mut found = Vec::new();
        let mut todo: Vec<_> =
            RefKind::ALL.iter().map(|kind| kind.prefix().trim_end_matches('/').to_owned()).collect();
        while let Some(name) = todo.pop() {
            let path = self.directory.join(&name);
            let failed = |source| HistoryError::io("listing", &path, source);
            // The directory of a kind that no ref is of need not be there.
            let Ok(listed) = std::fs::read_dir(&path) else { continue };
            for entry in listed {
                let entry = entry.map_err(failed)?;
                let (file_name, kind) = (entry.file_name(), entry.file_type().map_err(failed)?);
                // What is not text has no name here.
                let Some(part) = file_name.to_str() else { continue };
                let full = format!("{name}/{part}");
                if kind.is_dir() {
                    todo.push(full);
                } else if !part.ends_with(".lock") {
                    found.push(full);
                }
            }
        }
        Ok(found)
    }

    /// Looks at 4 of 256 directories, as `git gc --auto` looks at one: names are hashes, so each has about as many.
    fn has_many_loose_objects(&self) -> bool {
        let count = |shard: &str| {
            std::fs::read_dir(self.directory.join("objects").join(shard)).map_or(0, |found| found.count())
        };
        let sample: usize = ["17", "57", "97", "d7"].into_iter().map(count).sum();
        sample > MAX_LOOSE_OBJECTS / 64
    }

    /// Joins packs of about one size. Each object is written again once for every sixteenfold growth.
    fn join_packs(&self) -> Result<(), HistoryError> {
        let mut classes: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
        for index in self.packs()? {
            let len = std::fs::metadata(&index).map_or(0, |metadata| metadata.len());
            // 28 bytes an object.
            let class = (len / 28 / MAX_LOOSE_OBJECTS as u64).max(1).ilog(MAX_SIMILAR_PACKS as u64);
            classes.entry(class).or_default().push(index);
        }
        for packs in classes.into_values().filter(|packs| packs.len() >= MAX_SIMILAR_PACKS) {
            self.pack_objects(&[], &packs)?;
        }
        Ok(())
    }

    /// Puts loose objects, and those of these packs, into one new pack and removes what they were in.
    pub(super) fn pack_objects(&self, loose: &[CommitId], packs: &[PathBuf]) -> Result<Packed, HistoryError> {
        let failed = |source| self.git_error("packing objects", source);
        let git = self.git.local();
        let mut ids = loose.to_vec();
        for pack in packs {
            ids.extend(git.packed_objects(pack).map_err(failed)?);
        }
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() || loose.is_empty() && packs.len() < 2 {
            return Ok(Packed::default());
        }
        let made = self.write_pack(&git, &ids)?;
        for id in loose {
            remove(&self.loose_path(id))?;
        }
        for index in packs.iter().filter(|index| !made.contains(index)) {
            remove_pack(index)?;
        }
        // An object that is missed makes the library look for packs anew; writing asks without looking.
        let _ = git.has_commit(&ids[0]);
        Ok(Packed { objects: ids.len(), packs: packs.len() })
    }

    /// Writes objects into a new pack, on disk when this returns; gives its files.
    pub(super) fn write_pack(&self, git: &Local, ids: &[CommitId]) -> Result<Vec<PathBuf>, HistoryError> {
        let directory = self.directory.join("objects/pack");
        let made = git.write_pack(ids, &directory);
        let made = made.map_err(|source| self.git_error("packing objects", source))?;
        for path in made.iter().chain([&directory]) {
            self.synced(sync::path(path), path)?;
        }
        Ok(made)
    }

    pub(super) fn loose_path(&self, id: &CommitId) -> PathBuf {
        let hex = id.to_string();
        self.directory.join("objects").join(&hex[..2]).join(&hex[2..])
    }

    /// Every whole loose object. An empty one is what a power cut leaves.
    pub(super) fn loose_objects(&self) -> Result<Vec<CommitId>, HistoryError> {
        let mut found = self.loose_files()?;
        found.retain(|(_, path)| path.metadata().is_ok_and(|metadata| metadata.len() > 0));
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }

    /// Every loose object with its file.
    pub(super) fn loose_files(&self) -> Result<Vec<(CommitId, PathBuf)>, HistoryError> {
        let mut found = Vec::new();
        for shard in 0..=u8::MAX {
            let shard = format!("{shard:02x}");
            for path in entries(&self.directory.join("objects").join(&shard))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                found.extend(format!("{shard}{name}").parse::<CommitId>().ok().map(|id| (id, path.clone())));
            }
        }
        Ok(found)
    }

    /// The indices of packs that may be joined: not those that somebody wants kept.
    pub(super) fn packs(&self) -> Result<Vec<PathBuf>, HistoryError> {
        let mut found = entries(&self.directory.join("objects/pack"))?;
        found.retain(|path| {
            let is_index = path.extension().is_some_and(|extension| extension == "idx");
            let kept = |extension| path.with_extension(extension).exists();
            is_index && kept("pack") && !kept("keep") && !kept("promisor")
        });
        found.sort();
        Ok(found)
    }
}

/// What is in a directory; nothing when it is not there.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let failed = |source| HistoryError::io("listing", directory, source);
    match std::fs::read_dir(directory) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(failed(source)),
    }
}

/// Removes a pack by its index.
pub(super) fn remove_pack(index: &Path) -> Result<(), HistoryError> {
    // Git uses no pack without an index, so the index goes first.
    ["idx", "rev", "bitmap", "pack"]
        .into_iter()
        .try_for_each(|extension| remove(&index.with_extension(extension)))
}

pub(super) fn remove(path: &Path) -> Result<(), HistoryError> {
    match std::fs::remove_file(path) {
        // A `git gc` was faster, or there was none.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(HistoryError::io("removing", path, error))
        }
        _ => Ok(()),
    }
}
