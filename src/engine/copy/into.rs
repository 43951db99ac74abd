//! Files of the host, of other states and of tar streams into a branch.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::options::{CopyOptions, IGNORE_FILE};
use crate::engine::blocking::Engine;
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::engine::naming::Made;
use crate::engine::outcome::ChangeCounts;
use crate::engine::refs::who;
use crate::engine::spec::walk;
use crate::engine::state::State;
use crate::engine::types::{Committed, CopySource};
use crate::history::{BranchName, Expected, Head, RefEdit, RefName};
use crate::object::{
    self, Change, CommitId, Draft, Entry, Existing, Kind, LinkKey, Meta, Name, NewNode, Node, Patterns,
    Placing, Timestamp, TreePath, TreeSource,
};
use crate::oci::{self, Limits};
use crate::store::Batch;
use crate::worktree::scan::{Owners, ScanOptions, SkipReason, scan_path};

/// The largest [`IGNORE_FILE`]: it is read whole.
const MAX_IGNORE_FILE_BYTES: u64 = 1 << 20;

/// What copying into a branch did.
#[derive(Debug, Clone)]
pub struct CopiedIn {
    /// The commit; after a dry run the state and commit of the branch as they are, with the changes there would be.
    pub committed: Committed,
    /// What changed, or would after a dry run. Directories of which only the time differs are left out.
    pub changes: Vec<Change>,
    /// How many entries of the sources patterns left out; what is below a directory that was is not counted.
    pub excluded: u64,
}

/// What one source has, before it has a place.
struct Brought {
    /// Paths below the source, parents first; the source itself has none. A directory has no node.
    entries: Vec<(TreePath, Meta, Option<NewNode>)>,
    /// What it is called; `None` when only its contents are meant.
    name: Option<Name>,
    /// What was left out of it.
    patterns: Patterns,
    excluded: u64,
    existing: Existing,
    /// As a person would type it.
    text: String,
}

/// What has been placed.
#[derive(Default)]
struct Placed {
    paths: HashSet<TreePath>,
    /// Directories that were copied, with what was left out of them.
    roots: Vec<(TreePath, Patterns)>,
}

impl Engine {
    /// Copies into a branch and commits that: the source of one [`CopySource`] or of several, which then go into a directory that is there.
    pub fn copy_in_with(
        &self,
        sources: Vec<CopySource<'_>>,
        branch: &str,
        dest: &TreePath,
        options: &CopyOptions,
    ) -> Result<CopiedIn> {
        self.core.copy_in_with(sources, branch, dest, options)
    }
}

impl Core {
    pub(in crate::engine) fn copy_in(
        self: &Arc<Self>,
        source: CopySource<'_>,
        branch: &str,
        dest: &TreePath,
    ) -> Result<Committed> {
        Ok(self.copy_in_with(vec![source], branch, dest, &CopyOptions::new().no_ignore(true))?.committed)
    }

    fn copy_in_with(
        self: &Arc<Self>,
        sources: Vec<CopySource<'_>>,
        branch: &str,
        dest: &TreePath,
        options: &CopyOptions,
    ) -> Result<CopiedIn> {
        let (branch, tip) = self.branch_tip(branch)?;
        let parent = self.state_at(tip)?;
        let owner = options.owner.as_deref().map(|text| self.owner(&parent, text)).transpose()?;
        let mut batch = self.store.batch()?;
        let mut draft = Draft::from_root(&self.store, parent.tree(), self.store.root(&parent.tree())?);
        // As with cp: into a directory that is there, else under that name.
        let (real, into_directory) = match self.find(&parent, dest, true) {
            Ok((real, entry)) => (real, entry.node.kind() == Kind::Directory),
            Err(_) => (dest.clone(), false),
        };
        if sources.len() > 1 && !into_directory {
            return Err(Error::invalid(format!(
                "{dest} is not a directory that is there, and several sources are copied into one"
            )));
        }
        let (mut placed, mut texts, mut excluded) = (Placed::default(), Vec::new(), 0);
        for source in sources {
            let mut brought = match source {
                CopySource::Path(path) => self.bring_host(path, &batch, options)?,
                CopySource::State(state, path) => self.bring_state(state, path, false, options)?,
                CopySource::Contents(state, path) => self.bring_state(state, path, true, options)?,
                CopySource::Tar(_) if !into_directory => {
                    return Err(match self.find(&parent, dest, true) {
                        Ok(_) => Error::invalid(format!(
                            "{dest} is not a directory, and a tar stream is unpacked into one"
                        )),
                        Err(error) => error,
                    });
                }
                CopySource::Tar(stream) if options.takes_all() => {
                    oci::read_tar(stream, &batch, &mut draft, &real, &Limits::default())?;
                    texts.push("-".to_owned());
                    continue;
                }
                CopySource::Tar(stream) => self.bring_tar(stream, &batch, options)?,
            };
            for (_, meta, node) in &mut brought.entries {
                if let Some((uid, gid)) = owner {
                    (meta.uid, meta.gid) = (uid.unwrap_or(meta.uid), gid.unwrap_or(meta.gid));
                }
                if let Some(change) = &options.mode
                    && !matches!(node, Some(NewNode::Symlink { .. }))
                {
                    meta.mode = change.apply(meta.mode, node.is_none());
                }
            }
            excluded += brought.excluded;
            texts.push(std::mem::take(&mut brought.text));
            let under = match &brought.name {
                Some(name) if into_directory => real.join(name),
                _ => real.clone(),
            };
            place(&mut draft, &under, brought, &mut placed)?;
        }
        if options.delete {
            let none = Patterns::default();
            for (root, patterns) in &placed.roots {
                let spared = if options.delete_excluded { &none } else { patterns };
                prune(&mut draft, root, root.names().len(), &placed.paths, spared)?;
            }
        }
        let (root, _) = draft.finish(&mut batch)?;
        if root == parent.tree() {
            let changes = ChangeCounts::default();
            let committed = Committed { state: parent, commit: tip, changed: false, changes };
            return Ok(CopiedIn { committed, changes: Vec::new(), excluded });
        }
        let value = object::State { root, config: parent.config().clone() };
        batch.put_state(&value)?;
        let undeleted = batch.commit()?;
        let state = self.made_state(value)?;
        drop(undeleted);
        // A directory's time alone is no change, here as after a run.
        let mut changes = Vec::new();
        self.each_change(&parent.tree(), &root, &mut |change| {
            changes.push(change);
            true
        })?;
        let mut counts = ChangeCounts::default();
        changes.iter().for_each(|change| counts.add(change.kind()));
        let changed = !changes.is_empty();
        if !changed || options.dry_run {
            let committed = Committed { state: parent, commit: tip, changed, changes: counts };
            return Ok(CopiedIn { committed, changes, excluded });
        }
        let message = options.message.clone().unwrap_or_else(|| format!("cp {} {dest}", texts.join(" ")));
        let made = Made { kind: "cp", message, root_time_seconds: 0, image: None };
        let commit = self.commit_made(&state, &[tip], &made)?;
        let edit = RefEdit { name: RefName::Branch(branch), expected: Expected::Is(tip), new: Some(commit) };
        let line = made.message.lines().next().unwrap_or_default();
        let edited = self.history()?.edit(&[edit], line, &who());
        edited.map_err(|error| Error::from(error).keeping(&state.id()))?;
        Ok(CopiedIn { committed: Committed { state, commit, changed, changes: counts }, changes, excluded })
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

    /// What `chown` would take in a state: the user, the group, either may be left out.
    fn owner(&self, state: &State, text: &str) -> Result<(Option<u32>, Option<u32>)> {
        let tree = state.tree();
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() && group.is_none_or(str::is_empty) {
            return Err(Error::invalid(
                "an owner is UID, UID:GID or :GID, by number or by name in the state",
            ));
        }
        let known = if user.is_empty() { None } else { Some(self.user(tree, user)?) };
        let gid = match (group, &known) {
            (None, _) | (Some(""), None) => None,
            (Some(""), Some(known)) => Some(known.gid),
            (Some(group), _) => Some(self.user(tree, &format!("0:{group}"))?.gid),
        };
        Ok((known.map(|user| user.uid), gid))
    }

    /// Reads a host file or directory.
    fn bring_host(&self, path: &Path, batch: &Batch<'_>, options: &CopyOptions) -> Result<Brought> {
        // `DIR/.` means what is in the directory, as with cp; so do `.` and `/`, which have no name.
        let bytes = path.as_os_str().as_encoded_bytes();
        let contents = bytes == b"." || bytes.ends_with(b"/.") || bytes.iter().all(|byte| *byte == b'/');
        let mut patterns = if options.no_ignore { Patterns::default() } else { ignored_by(path)? };
        patterns.extend(options.exclude.clone());
        let scan = ScanOptions {
            owners: Owners::for_caller(),
            exclude_directories: vec![self.layout().root().to_owned()],
            // A symlink is copied as one, unless what is written goes through it: `LINK/` and `LINK/.`.
            follow_source: false,
            patterns,
            ..ScanOptions::default()
        };
        let mut alone = Draft::empty(&self.store, Meta::root_owned(0o755, Timestamp::default()));
        let at = alone_path();
        let report = scan_path(path, batch, &mut alone, &at, &scan)?;
        let excluded = report.skipped.iter().filter(|(_, reason)| *reason == SkipReason::Excluded).count();
        Ok(Brought {
            entries: below(walk(&mut alone, &at)?),
            name: if contents { None } else { Some(last_name(path)?) },
            patterns: scan.patterns,
            excluded: excluded as u64,
            existing: Existing::Kept,
            text: path.display().to_string(),
        })
    }

    /// Reads a tar stream that does not go in as it is.
    fn bring_tar(
        &self,
        stream: &mut (dyn Read + Send),
        batch: &Batch<'_>,
        options: &CopyOptions,
    ) -> Result<Brought> {
        let mut alone = Draft::empty(&self.store, Meta::root_owned(0o755, Timestamp::default()));
        let at = alone_path();
        alone.put_directory(&at, Meta::root_owned(0o755, Timestamp::default()))?;
        oci::read_tar(stream, batch, &mut alone, &at, &Limits::default())?;
        let mut brought = Brought {
            entries: below(walk(&mut alone, &at)?),
            name: None,
            patterns: options.exclude.clone(),
            excluded: 0,
            existing: Existing::Replaced,
            text: "-".to_owned(),
        };
        let Brought { entries, patterns, excluded, .. } = &mut brought;
        let mut out: HashSet<TreePath> = HashSet::new();
        entries.retain(|(path, _, node)| {
            let above = path.split_last().is_some_and(|(parent, _)| out.contains(&parent));
            let leaves = !path.is_root() && patterns.excludes(&path.to_relative_bytes(), node.is_none());
            if above || leaves {
                out.insert(path.clone());
                *excluded += u64::from(!above);
            }
            !(above || leaves)
        });
        Ok(brought)
    }

    /// Reads a path of a state.
    fn bring_state(
        &self,
        state: &State,
        path: &TreePath,
        contents: bool,
        options: &CopyOptions,
    ) -> Result<Brought> {
        let (found, entry) = self.find(state, path, contents)?;
        if contents && entry.node.kind() != Kind::Directory {
            return Err(Error::invalid(format!("{path}/. means what is in a directory, and {path} is none")));
        }
        let name = found.split_last().map(|(_, name)| name.clone()).filter(|_| !contents);
        let mut brought = Brought {
            entries: Vec::new(),
            name,
            patterns: options.exclude.clone(),
            excluded: 0,
            existing: Existing::Kept,
            text: format!("{}:{path}{}", state.id().short(), if contents { "/." } else { "" }),
        };
        self.bring_entry(&mut TreePath::root(), entry, &mut brought)?;
        Ok(brought)
    }

    fn bring_entry(&self, at: &mut TreePath, entry: Entry, brought: &mut Brought) -> Result<()> {
        let below = match &entry.node {
            Node::Directory { tree, .. } => Some(*tree),
            _ => None,
        };
        brought.entries.push((at.clone(), entry.meta, NewNode::of(entry.node)));
        let Some(tree) = below else { return Ok(()) };
        for (name, child) in self.store.tree(&tree)?.into_entries() {
            at.push(name);
            let directory = child.node.kind() == Kind::Directory;
            if brought.patterns.excludes(&at.to_relative_bytes(), directory) {
                brought.excluded += 1;
            } else {
                self.bring_entry(at, child, brought)?;
            }
            at.pop();
        }
        Ok(())
    }
}

/// Places what a source has at a path.
fn place(draft: &mut Draft<'_>, under: &TreePath, brought: Brought, placed: &mut Placed) -> Result<()> {
    let mut links: HashMap<LinkKey, LinkKey> = HashMap::new();
    // The directories on the way to the destination get the source's time.
    let implied = brought.entries.first().map_or(Timestamp::default(), |(_, meta, _)| meta.mtime);
    let mut placing = Placing::new(draft, Meta::root_owned(0o755, implied));
    if matches!(brought.entries.first(), Some((_, _, None))) {
        placed.roots.push((under.clone(), brought.patterns));
    }
    for (below, meta, node) in brought.entries {
        let path = below.names().iter().fold(under.clone(), |path, name| path.join(name));
        match node {
            None => placing.directory(&path, meta, brought.existing)?,
            Some(mut node) => {
                // The copies of names of one file are names of one file, and of another one than the original.
                if let NewNode::File { link: Some(key), .. } = &mut node {
                    *key = *links.entry(*key).or_insert_with(|| placing.draft().new_link());
                }
                placing.leaf(&path, meta, node)?;
            }
        }
        placed.paths.insert(path);
    }
    Ok(())
}

/// Removes what is in a directory and was not placed there, but for what is spared; gives whether nothing is left.
fn prune(
    draft: &mut Draft<'_>,
    directory: &TreePath,
    depth: usize,
    placed: &HashSet<TreePath>,
    spared: &Patterns,
) -> Result<bool> {
    let mut empty = true;
    for name in draft.names(directory)?.unwrap_or_default() {
        let path = directory.join(&name);
        let is_directory = matches!(draft.get(&path)?, Some((_, Kind::Directory)));
        let below = TreePath::from(path.names()[depth..].to_vec()).to_relative_bytes();
        let stays = if placed.contains(&path) {
            if is_directory {
                prune(draft, &path, depth, placed, spared)?;
            }
            true
        } else if spared.excludes(&below, is_directory) {
            true
        } else {
            // What is spared further down keeps the directories on the way to it.
            is_directory && !spared.is_empty() && !prune(draft, &path, depth, placed, spared)?
        };
        if !stays {
            draft.remove(&path)?;
        }
        empty &= !stays;
    }
    Ok(empty)
}

/// Where a source stands in a draft of its own.
fn alone_path() -> TreePath {
    TreePath::parse(b"/x").expect("a constant path is valid")
}

/// Entries by their paths below where a source stood alone.
fn below(entries: Vec<(TreePath, Meta, Option<NewNode>)>) -> Vec<(TreePath, Meta, Option<NewNode>)> {
    let cut = |path: TreePath| TreePath::from(path.names()[1..].to_vec());
    entries.into_iter().map(|(path, meta, node)| (cut(path), meta, node)).collect()
}

/// What the [`IGNORE_FILE`] of a host directory leaves out; nothing where there is none. One that is a link, or no file, is none.
fn ignored_by(source: &Path) -> Result<Patterns> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = source.join(IGNORE_FILE);
    let failed = |error| Error::disk("read", &path, error);
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) => {
            let none = [nix::libc::ENOENT, nix::libc::ENOTDIR, nix::libc::ELOOP, nix::libc::ENXIO];
            return match error.raw_os_error() {
                Some(errno) if none.contains(&errno) => Ok(Patterns::default()),
                _ => Err(failed(error)),
            };
        }
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(Patterns::default());
    }
    let mut text = Vec::new();
    file.take(MAX_IGNORE_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_IGNORE_FILE_BYTES {
        return Err(Error::invalid(format!(
            "{} has more than {MAX_IGNORE_FILE_BYTES} bytes: shorten it, or turn it off with --no-ignore",
            path.display()
        )));
    }
    Ok(Patterns::parse(&text))
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
