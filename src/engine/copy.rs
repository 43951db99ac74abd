//! Host files into states and out of them.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::core::Core;
use super::error::{Error, Result};
use super::naming::Made;
use super::outcome::ChangeCounts;
use super::refs::who;
use super::spec::walk;
use super::state::{Origin, State};
use super::types::{Committed, CopySource, Written};
use crate::disk::exists;
use crate::history::{BranchName, Expected, Head, RefEdit, RefName};
use crate::object::{
    self, CommitId, Draft, Entry, Existing, Kind, LinkGroup, LinkKey, Meta, Name, NewNode, Node, Placing,
    Timestamp, TreePath, TreeSource,
};
use crate::oci::{self, Limits};
use crate::store::Batch;
use crate::worktree::layer::{BuildOptions, Built, LayerBuilder, Linking, plan_whole};
use crate::worktree::scan::{Owners, ScanOptions, scan_path};

impl Core {
    pub(super) fn copy_in(
        self: &Arc<Self>,
        source: CopySource<'_>,
        branch: &str,
        dest: &TreePath,
    ) -> Result<Committed> {
        let (branch, tip) = self.branch_tip(branch)?;
        let parent = self.state_at(tip)?;
        let mut batch = self.store.batch()?;
        let mut draft = Draft::from_root(&self.store, parent.tree(), self.store.root(&parent.tree())?);
        // As with cp: into a directory that is there, else under that name.
        let (real, into_directory) = match self.find(&parent, dest, true) {
            Ok((real, entry)) => (real, entry.node.kind() == Kind::Directory),
            Err(_) => (dest.clone(), false),
        };
        let text = match source {
            CopySource::Path(path) => {
                self.place_host(path, &batch, &mut draft, real, into_directory)?;
                path.display().to_string()
            }
            CopySource::State(state, path) => {
                let (found, entry) = self.find(state, path, false)?;
                let under = match (into_directory, found.split_last()) {
                    (true, Some((_, name))) => real.join(name),
                    _ => real,
                };
                let mut links = HashMap::new();
                self.graft(&mut placing(&mut draft, entry.meta.mtime), &under, &entry, &mut links)?;
                format!("{}:{path}", state.id().short())
            }
            CopySource::Tar(stream) => {
                if !into_directory {
                    return Err(match self.find(&parent, dest, true) {
                        Ok(_) => Error::invalid(format!(
                            "{dest} is not a directory, and a tar stream is unpacked into one"
                        )),
                        Err(error) => error,
                    });
                }
                oci::read_tar(stream, &batch, &mut draft, &real, &Limits::default())?;
                "-".to_owned()
            }
        };
        let (root, _) = draft.finish(&mut batch)?;
        let value = object::State { root, config: parent.config().clone() };
        let unchanged = |parent: State| {
            Ok(Committed { state: parent, commit: tip, changed: false, changes: ChangeCounts::default() })
        };
        if value.id() == parent.id() {
            return unchanged(parent);
        }
        let id = batch.put_state(&value)?;
        batch.commit()?;
        let changes = self.count_changes(&parent.tree(), &root)?;
        // A directory's time alone is no change, here as after a run.
        if changes == ChangeCounts::default() {
            return unchanged(parent);
        }
        let state =
            State { core: Arc::clone(self), id, value: Arc::new(value), origin: Arc::new(Origin::default()) };
        let made =
            Made { kind: "cp", message: format!("cp {text} {dest}"), root_time_seconds: 0, image: None };
        let commit = self.commit_made(&state, &[tip], &made)?;
        let edit = RefEdit { name: RefName::Branch(branch), expected: Expected::Is(tip), new: Some(commit) };
        self.history()?.edit(&[edit], &made.message, &who())?;
        Ok(Committed { state, commit, changed: true, changes })
    }

    /// Places a host file or directory: under its own name in a directory that is there, else as that path.
    fn place_host(
        &self,
        path: &Path,
        batch: &Batch<'_>,
        draft: &mut Draft<'_>,
        real: TreePath,
        into_directory: bool,
    ) -> Result<()> {
        // `DIR/.` means what is in the directory, as with cp; so do `.` and `/`, which have no name.
        let bytes = path.as_os_str().as_encoded_bytes();
        let contents = bytes == b"." || bytes.ends_with(b"/.") || bytes.iter().all(|byte| *byte == b'/');
        let options = ScanOptions {
            owners: Owners::for_caller(),
            exclude_directories: vec![self.layout().root().to_owned()],
            // A symlink is copied as one, unless what is written goes through it: `LINK/` and `LINK/.`.
            follow_source: false,
            ..ScanOptions::default()
        };
        let mut alone = Draft::empty(&self.store, Meta::root_owned(0o755, Timestamp::default()));
        let at = TreePath::parse(b"/x").expect("a constant path is valid");
        scan_path(path, batch, &mut alone, &at, &options)?;
        let under = if into_directory && !contents { real.join(&last_name(path)?) } else { real };
        let mut links = HashMap::new();
        let brought = walk(&mut alone, &at)?;
        let implied = brought.first().map_or(Timestamp::default(), |(_, meta, _)| meta.mtime);
        let mut placing = placing(draft, implied);
        for (below, meta, node) in brought {
            let path = below.names()[1..].iter().fold(under.clone(), |path, name| path.join(name));
            match node {
                None => placing.directory(&path, meta, Existing::Kept)?,
                Some(mut node) => {
                    // The key is one of the other draft.
                    if let NewNode::File { link: Some(key), .. } = &mut node {
                        *key = *links.entry(*key).or_insert_with(|| placing.draft().new_link());
                    }
                    placing.leaf(&path, meta, node)?;
                }
            }
        }
        Ok(())
    }

    /// A branch by name, or the current one for `HEAD`, and where it is.
    fn branch_tip(&self, name: &str) -> Result<(BranchName, CommitId)> {
        let history = self.history()?;
        if matches!(name, "" | "HEAD" | "@") {
            return match history.head()? {
                Head::Branch { name, commit: Some(commit) } => Ok((name, commit)),
                _ => Err(Error::invalid(
                    "HEAD is on no branch that could take a commit: switch to one, or name one",
                )),
            };
        }
        let tip = match BranchName::new(name) {
            Ok(branch) => history.read_ref(&RefName::Branch(branch.clone()))?.map(|commit| (branch, commit)),
            Err(_) => None,
        };
        tip.ok_or_else(|| {
            Error::invalid(format!("`{name}` is no branch: files can only be copied into a branch, so make one with `treebox branch NAME {name}`"))
        })
    }

    /// Places an entry with everything below it.
    fn graft(
        &self,
        placing: &mut Placing<'_, '_>,
        at: &TreePath,
        entry: &Entry,
        links: &mut HashMap<LinkGroup, LinkKey>,
    ) -> Result<()> {
        let node = match &entry.node {
            Node::Directory { tree, .. } => {
                placing.directory(at, entry.meta.clone(), Existing::Kept)?;
                for (name, child) in self.store.tree(tree)?.into_entries() {
                    self.graft(placing, &at.join(&name), &child, links)?;
                }
                return Ok(());
            }
            Node::File { blob, size, link } => {
                // The copies of names of one file are names of one file, and of another one than the original.
                let link =
                    link.map(|group| *links.entry(group).or_insert_with(|| placing.draft().new_link()));
                NewNode::File { blob: *blob, size: *size, link }
            }
            Node::Symlink { target } => NewNode::Symlink { target: target.clone() },
            Node::Fifo => NewNode::Fifo,
            Node::Socket => NewNode::Socket,
            Node::Char { major, minor } => NewNode::Char { major: *major, minor: *minor },
            Node::Block { major, minor } => NewNode::Block { major: *major, minor: *minor },
        };
        Ok(placing.leaf(at, entry.meta.clone(), node)?)
    }

    pub(super) fn copy_out(&self, state: &State, path: &TreePath, dest: &Path) -> Result<Written> {
        let (real, entry) = self.find(state, path, false)?;
        let name = real.split_last().map(|(_, name)| name.clone());
        let dest = match (dest.is_dir(), name) {
            (true, Some(name)) => dest.join(name.as_os_str()),
            (true, None) => return self.checkout_to(state, path, dest),
            (false, _) => dest.to_owned(),
        };
        if exists(&dest)? && (dest.is_dir() || entry.node.kind() == Kind::Directory) {
            return Err(Error::Conflict(format!(
                "{} is already there: remove it or give another place",
                dest.display()
            )));
        }
        let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if entry.node.kind() == Kind::Directory {
            std::fs::create_dir(&dest).map_err(|error| Error::disk("create directory", &dest, error))?;
            return self.write_directory(&entry, &dest);
        }
        // Made beside its place and renamed, so that an existing file is replaced as a whole and never written through a link.
        let made = tempdir_in(parent)?;
        let result = self.write_entry(&entry, &made).and_then(|written| {
            std::fs::rename(made.join("x"), &dest)
                .map_err(|error| Error::disk("rename into place", &dest, error))?;
            Ok(written)
        });
        let _ = crate::disk::remove_tree(&made);
        result
    }

    pub(super) fn checkout_to(&self, state: &State, path: &TreePath, dest: &Path) -> Result<Written> {
        let (real, entry) = self.find(state, path, true)?;
        if entry.node.kind() != Kind::Directory {
            return Err(Error::invalid(format!(
                "{real} is a {}: `treebox cp` copies single files",
                entry.node.kind().as_str()
            )));
        }
        match std::fs::read_dir(dest) {
            Ok(mut listing) => {
                if listing.next().is_some() {
                    return Err(Error::Conflict(format!(
                        "{} is not empty: give a new or empty directory",
                        dest.display()
                    )));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(dest)
                    .map_err(|error| Error::disk("create directory", dest, error))?;
            }
            Err(error) => return Err(Error::disk("list", dest, error)),
        }
        self.write_directory(&entry, dest)
    }

    fn host_options(&self) -> BuildOptions {
        // As real root every owner can be given; a plain user's files are the user's own.
        let mapped_ids = if nix::unistd::geteuid().is_root() { u32::MAX } else { 1 };
        BuildOptions {
            objects: self.layout().objects(),
            mapped_ids,
            stand_ins: false,
            redirects: false,
            linking: Linking::Never,
        }
    }

    fn write_directory(&self, entry: &Entry, dest: &Path) -> Result<Written> {
        let mut builder = LayerBuilder::new(dest, self.host_options())?;
        let mut failed = None;
        let planned = plan_whole(&self.store, entry, &mut |entry| {
            builder.add(&entry).map_err(|error| {
                failed = Some(error);
                object::SourceError("writing stopped".into())
            })
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        planned?;
        Ok(written(builder.finish()?))
    }

    /// Writes one entry that is no directory as `x` in a directory.
    fn write_entry(&self, entry: &Entry, dir: &Path) -> Result<Written> {
        let mut entries = Vec::new();
        plan_whole(&self.store, entry, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        let mut builder = LayerBuilder::new(dir, self.host_options())?;
        for mut entry in entries {
            entry.path = b"x".to_vec();
            if let crate::worktree::layer::LayerNode::File { link, .. } = &mut entry.node {
                *link = None;
            }
            builder.add(&entry)?;
        }
        Ok(written(builder.finish()?))
    }

    pub(super) fn write_tar(&self, state: &State, path: &TreePath, out: &mut dyn Write) -> Result<Written> {
        let (real, _) = self.find(state, path, false)?;
        let written = oci::write_tar(&self.store, &self.store.root(&state.tree())?, &real, None, out)?;
        let skipped = written.skipped.into_iter().map(|(path, why)| (path.to_string(), why.to_owned()));
        Ok(Written { entries: written.entries, skipped: skipped.collect() })
    }
}

/// Placing as `cp` does; the directories on the way to the destination get this time.
fn placing<'d, 's>(draft: &'d mut Draft<'s>, implied: Timestamp) -> Placing<'d, 's> {
    Placing::new(draft, Meta::root_owned(0o755, implied))
}

fn last_name(path: &Path) -> Result<Name> {
    let real;
    let name = match path.file_name() {
        Some(name) => name,
        None => {
            real = std::fs::canonicalize(path).map_err(|error| Error::disk("find", path, error))?;
            real.file_name().unwrap_or_default()
        }
    };
    Name::new(name.as_encoded_bytes()).map_err(|error| Error::invalid(error.to_string()))
}

fn tempdir_in(parent: &Path) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = parent.join(format!(".treebox-{}-{}-{number}", std::process::id(), super::core::now_ms()));
    std::fs::create_dir(&path).map_err(|error| Error::disk("create directory", &path, error))?;
    Ok(path)
}

fn written(built: Built) -> Written {
    let text = |path: Vec<u8>| String::from_utf8_lossy(&path).into_owned();
    let skipped = built.skipped.into_iter().map(|(path, reason)| (text(path), reason)).collect();
    Written { entries: built.entries, skipped }
}
