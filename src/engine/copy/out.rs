//! Files out of states.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::options::CopyOptions;
use crate::disk::exists;
use crate::engine::blocking::Engine;
use crate::engine::checkout::told;
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::engine::state::State;
use crate::engine::types::Written;
use crate::object::{Entry, Kind, TreePath};
use crate::oci;
use crate::worktree::layer::{Ground, LayerNode, PlannedChange, plan_update};

/// What copying to the host did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopiedOut {
    /// What was written, and what the host could not hold of that.
    pub written: Written,
    /// How many entries patterns left out; what is below a directory that was is not counted.
    pub excluded: u64,
    /// After a dry run: what would be written, and whether something is there.
    pub planned: Vec<(PathBuf, bool)>,
}

/// Where something goes on the host.
struct Place {
    /// A directory that is there.
    directory: PathBuf,
    /// The name in it; without one the directory itself is meant.
    name: Option<Vec<u8>>,
    /// The whole of it as a person would type it.
    shown: PathBuf,
}

impl Engine {
    /// Writes a path of a state to the host: into a directory that is there, else under that name. With `contents` what is in a directory
    /// goes there, as with `cp -a DIR/.`.
    ///
    /// Files that are there are replaced as wholes; directories keep what else they have, and their attributes.
    pub fn copy_out_with(
        &self,
        state: &State,
        path: &TreePath,
        contents: bool,
        dest: &Path,
        options: &CopyOptions,
    ) -> Result<CopiedOut> {
        self.core.copy_out_with(state, path, contents, dest, options)
    }
}

impl Core {
    pub(in crate::engine) fn copy_out(&self, state: &State, path: &TreePath, dest: &Path) -> Result<Written> {
        Ok(self.copy_out_with(state, path, false, dest, &CopyOptions::new())?.written)
    }

    fn copy_out_with(
        &self,
        state: &State,
        path: &TreePath,
        contents: bool,
        dest: &Path,
        options: &CopyOptions,
    ) -> Result<CopiedOut> {
        if options.delete {
            return Err(Error::Unsupported(format!(
                "deleting on the host would take files that treebox did not write: `treebox checkout REV --to {}` brings a directory that it wrote up to date",
                dest.display()
            )));
        }
        if options.owner.is_some() || options.mode.is_some() || options.message.is_some() {
            return Err(Error::invalid(
                "owners, permissions and a message can be set for what is copied into a branch, not for what leaves a state",
            ));
        }
        let (real, entry) = self.find(state, path, contents)?;
        let directory = entry.node.kind() == Kind::Directory;
        if contents && !directory {
            return Err(Error::invalid(format!("{path}/. means what is in a directory, and {path} is none")));
        }
        let name = real.split_last().map(|(_, name)| name.as_bytes().to_vec()).filter(|_| !contents);
        let place = place(dest, name, directory)?;
        let mut excluded = 0;
        let changes = match directory {
            true => self.changes_of(&entry, options, &mut excluded)?,
            false => vec![single(&entry, &place)?],
        };
        let target = place.path();
        if options.dry_run {
            let mut planned = Vec::new();
            for change in changes.iter().filter(|change| !change.path.is_empty()) {
                // A single file is planned under its own name.
                let at = match directory {
                    true => place.shown.join(OsStr::from_bytes(&change.path)),
                    false => place.shown.clone(),
                };
                let there = exists(&at)?;
                planned.push((at, there));
            }
            return Ok(CopiedOut { written: Written::default(), excluded, planned });
        }
        let there = exists(&target)?;
        let updated = if !directory {
            self.write_as_caller(&place.directory, &changes, Ground::Foreign, &place.shown)
        } else if there {
            self.write_as_caller(&target, &changes, Ground::Foreign, &place.shown)
        } else {
            std::fs::create_dir(&target).map_err(|error| Error::disk("create directory", &target, error))?;
            self.write_as_caller(&target, &changes, Ground::Written, &place.shown)
        };
        let updated = updated.map_err(|error| error.met_at(format!("{}:{real}", state.label())))?;
        let entries = changes.iter().filter(|change| !change.path.is_empty()).count() as u64;
        let written = Written { entries, skipped: told(updated.skipped) };
        Ok(CopiedOut { written, excluded, planned: Vec::new() })
    }

    /// Everything at and below a directory's entry but what is excluded.
    fn changes_of(
        &self,
        entry: &Entry,
        options: &CopyOptions,
        excluded: &mut u64,
    ) -> Result<Vec<PlannedChange>> {
        let count = std::cell::Cell::new(0);
        let leaves_out = |path: &[u8], directory: bool| {
            let out = options.exclude.excludes(path, directory);
            count.set(count.get() + u64::from(out));
            out
        };
        let mut changes = Vec::new();
        plan_update(&self.store, &[], entry, &leaves_out, &mut |change| {
            changes.push(change);
            Ok(())
        })?;
        *excluded = count.get();
        Ok(changes)
    }

    pub(in crate::engine) fn write_tar(
        &self,
        state: &State,
        path: &TreePath,
        out: &mut dyn Write,
    ) -> Result<Written> {
        let (real, _) = self.find(state, path, false)?;
        let written = oci::write_tar(&self.store, &self.store.root(&state.tree())?, &real, None, out);
        let written = written.map_err(|error| Error::from(error).met_at(state.label()))?;
        let skipped = written.skipped.into_iter().map(|(path, why)| (path.to_string(), why.to_owned()));
        Ok(Written { entries: written.entries, skipped: skipped.collect() })
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        match &self.name {
            Some(name) => self.directory.join(OsStr::from_bytes(name)),
            None => self.directory.clone(),
        }
    }
}

/// Where something called `name`, or the contents of a directory, goes.
fn place(dest: &Path, name: Option<Vec<u8>>, directory: bool) -> Result<Place> {
    let real = |path: &Path| std::fs::canonicalize(path).map_err(|error| Error::disk("find", path, error));
    let place = match dest.is_dir() {
        true => {
            let shown = name.as_ref().map_or(dest.to_owned(), |name| dest.join(OsStr::from_bytes(name)));
            Place { directory: real(dest)?, name, shown }
        }
        false => {
            let parent =
                dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = dest.file_name().ok_or_else(|| {
                Error::not_found(format!("{} is not there, and has no name to be made by", dest.display()))
            })?;
            let name = Some(name.as_bytes().to_vec());
            Place { directory: real(parent)?, name, shown: dest.to_owned() }
        }
    };
    // A link of that name may lead anywhere: it is neither gone through nor replaced by a directory.
    let target = place.path();
    if directory && exists(&target)? && !std::fs::symlink_metadata(&target).is_ok_and(|meta| meta.is_dir()) {
        return Err(Error::Conflict(format!(
            "{} is already there and is no directory: remove it or give another place",
            place.shown.display()
        )));
    }
    Ok(place)
}

/// One entry that is no directory, in the place that is meant for it.
fn single(entry: &Entry, place: &Place) -> Result<PlannedChange> {
    let path = place.name.clone().unwrap_or_default();
    let mut new = crate::worktree::layer::LayerEntry::of(path.clone(), entry);
    // Its other names stay where they are.
    if let LayerNode::File { link, .. } = &mut new.node {
        *link = None;
    }
    Ok(PlannedChange { path, known: Vec::new(), new: Some(new) })
}
