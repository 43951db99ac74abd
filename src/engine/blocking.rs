//! The engine for programs without an async runtime: the same verbs, each waits.
//!
//! ```no_run
//! use treebox::{Command, EngineOptions, ImportSource, blocking::Engine};
//!
//! # fn main() -> treebox::Result<()> {
//! treebox::worker::hook();
//! let engine = Engine::open(EngineOptions::at("/tmp/store"))?;
//! let base = engine.import(&ImportSource::parse("host")?, None)?.state;
//! let child = base.run(&Command::shell("echo $RANDOM > /random.txt"))?.state.expect("not disposable");
//! for letter in ["A", "B", "C"] {
//!     let outcome = child.run(&Command::shell(format!("echo {letter} >> /random.txt; cat /random.txt")))?;
//!     print!("{}", String::from_utf8_lossy(&outcome.stdout));
//! }
//! # Ok(())
//! # }
//! ```

use std::path::Path;
use std::sync::Arc;

use super::core::Core;
pub use super::live::{Process, Running};
pub use super::open::Live;
pub use super::prepared::Prepared;
pub use super::state::State;
use super::{
    BlobReader, Change, Command, CommitDetail, CommitId, CommitInfo, Committed, CopySource, EngineOptions,
    ExportOptions, ExportTarget, Exported, Finding, Head, Image, ImportOptions, ImportSource, Imported,
    Listed, LiveInput, LogQuery, PullOptions, Pulled, PushOptions, Pushed, Ref, ReflogLine, Result, Sink,
    StateId, Step, Target, TreePath, Written,
};

/// An open store with everything that can be done in it. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(super) core: Arc<Core>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("store", &self.core.layout().root()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens a store; where there is none one is made.
    pub fn open(options: EngineOptions) -> Result<Self> {
        Ok(Self { core: Core::open(options)? })
    }

    /// Opens the store at `$TREEBOX_STORE`, else `$XDG_DATA_HOME/treebox`, else `~/.local/share/treebox`.
    pub fn open_default() -> Result<Self> {
        Self::open(EngineOptions::from_env()?)
    }

    /// The store's directory.
    pub fn store(&self) -> &Path {
        self.core.layout().root()
    }

    // --- images

    /// Brings an image, a root file system, a directory or the host's own programs in, and names it.
    ///
    /// Without a name the source's own is taken: its tag, else its file name.
    pub fn import(&self, source: &ImportSource, name: Option<&str>) -> Result<Imported> {
        let options = name.into_iter().fold(ImportOptions::new(), ImportOptions::name);
        self.import_with(source, &options)
    }

    /// [`import`](Self::import) with a say in which of several images is taken and what it may demand.
    pub fn import_with(&self, source: &ImportSource, options: &ImportOptions) -> Result<Imported> {
        self.core.import(source, options)
    }

    /// Brings an image in from a registry, as far as it is not here, and names it.
    ///
    /// `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`; docker.io is meant when no registry is named. May be called from anywhere.
    pub fn pull(&self, reference: &str, options: &PullOptions) -> Result<Pulled> {
        self.core.pull(reference, options)
    }

    /// Sends a state to a registry as an image.
    pub fn push(&self, state: &State, reference: &str, options: &PushOptions) -> Result<Pushed> {
        self.core.push(state, reference, options)
    }

    /// The images by name.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.core.images()
    }

    /// Forgets an image's name; states made from it stay.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        self.core.remove_image(name)
    }

    /// Writes a state as an image or a root archive that other tools read; the same state gives the same bytes on any machine.
    pub fn export(&self, state: &State, target: &ExportTarget, options: &ExportOptions) -> Result<Exported> {
        self.core.export(state, target, options)
    }

    /// Writes several states as one docker-archive, each with the name that its image has after it is loaded.
    pub fn export_several(
        &self,
        images: &[(State, Option<String>)],
        file: &Path,
        options: &ExportOptions,
    ) -> Result<Exported> {
        self.core.export_several(images, file, options)
    }

    /// [`export`](Self::export) to a stream: of the target only the kind and the name count.
    pub fn export_to(
        &self,
        state: &State,
        target: &ExportTarget,
        options: &ExportOptions,
        out: &mut dyn std::io::Write,
    ) -> Result<Exported> {
        self.core.export_stream(state, target, options, out)
    }

    // --- revisions

    /// The state that a revision names: Git's syntax over branches, tags, image names, commits and states.
    pub fn resolve(&self, rev: &str) -> Result<State> {
        self.core.resolve(rev)
    }

    /// The state of exactly that id.
    pub fn state(&self, id: StateId) -> Result<State> {
        self.core.state(id)
    }

    /// What `REV:/path` names; a text that starts with `/` or `:/` is a path in HEAD's state.
    pub fn resolve_path(&self, text: &str) -> Result<(State, TreePath)> {
        self.core.resolve_path(text)
    }

    // --- refs

    /// Where HEAD is.
    pub fn head(&self) -> Result<Head> {
        self.core.head()
    }

    /// HEAD's state; an error that says how to begin when there is none.
    pub fn head_state(&self) -> Result<State> {
        self.core.head_state()
    }

    /// The branches by name.
    pub fn branches(&self) -> Result<Vec<Ref>> {
        self.core.branches()
    }

    /// Makes a branch at a state. An existing branch is a conflict, unless `force` moves it.
    pub fn create_branch(&self, name: &str, at: &State, force: bool) -> Result<Ref> {
        self.core.create_branch(name, at, force)
    }

    /// Moves a branch that must be at `expected` (`None`: must not exist) to a state.
    pub fn move_branch(
        &self,
        name: &str,
        expected: Option<CommitId>,
        to: &State,
        message: &str,
    ) -> Result<Ref> {
        self.core.move_branch(name, expected, to, message)
    }

    /// Deletes a branch that is not the current one.
    pub fn delete_branch(&self, name: &str) -> Result<Ref> {
        self.core.delete_branch(name)
    }

    /// Renames a branch, with its reflog; HEAD follows.
    pub fn rename_branch(&self, old: &str, new: &str) -> Result<()> {
        self.core.rename_branch(old, new)
    }

    /// The tags by name.
    pub fn tags(&self) -> Result<Vec<Ref>> {
        self.core.tags()
    }

    /// Makes a tag at a state. An existing tag is a conflict, unless `force` moves it.
    pub fn create_tag(&self, name: &str, at: &State, force: bool) -> Result<Ref> {
        self.core.create_tag(name, at, force)
    }

    /// Deletes a tag.
    pub fn delete_tag(&self, name: &str) -> Result<Ref> {
        self.core.delete_tag(name)
    }

    /// Makes a branch the current one.
    pub fn switch(&self, name: &str) -> Result<Head> {
        self.core.switch(name)
    }

    /// Makes a branch at a state (HEAD's without one) and makes it the current one.
    pub fn switch_new(&self, name: &str, at: Option<&State>) -> Result<Head> {
        self.core.switch_new(name, at)
    }

    /// Moves HEAD: to the branch of that name, or detached to what the revision names.
    pub fn checkout(&self, rev: &str) -> Result<Head> {
        self.core.checkout(rev)
    }

    /// Moves the current branch, or a detached HEAD, to a state.
    pub fn reset(&self, to: &State) -> Result<Head> {
        self.core.reset(to)
    }

    /// What a ref was, newest first; HEAD without a name.
    pub fn reflog(&self, name: Option<&str>) -> Result<Vec<ReflogLine>> {
        self.core.reflog(name)
    }

    // --- history

    /// Commits that a revision or range leads to, newest first; HEAD without one.
    pub fn log(&self, query: &LogQuery) -> Result<Vec<CommitInfo>> {
        self.core.log(query)
    }

    /// One commit with everything known of its run.
    pub fn show(&self, rev: &str) -> Result<CommitDetail> {
        self.core.show(rev)
    }

    // --- reading and comparing

    /// What differs from `old` to `new`, at or below any of `paths` (all when empty), parents first. Directories of which only the time
    /// differs are left out.
    pub fn diff(&self, old: &State, new: &State, paths: &[TreePath]) -> Result<Vec<Change>> {
        self.core.diff(old, new, paths)
    }

    /// The entry at a path, symlinks followed within the state except the last one.
    pub fn entry(&self, state: &State, path: &TreePath) -> Result<Listed> {
        self.core.entry(state, path)
    }

    /// What is in a directory (or the entry itself when it is none), sorted; with `recursive` everything below.
    pub fn list(&self, state: &State, path: &TreePath, recursive: bool) -> Result<Vec<Listed>> {
        self.core.list(state, path, recursive)
    }

    /// Opens a regular file, symlinks followed within the state; the last read fails if its bytes are damaged.
    pub fn open_file(&self, state: &State, path: &TreePath) -> Result<BlobReader> {
        self.core.open_file(state, path)
    }

    /// Reads a whole regular file.
    pub fn read_file(&self, state: &State, path: &TreePath) -> Result<Vec<u8>> {
        self.core.read_file(state, path)
    }

    // --- host files

    /// Places a host file or directory in the file system of a branch and commits that. `-` reads a tar stream from `reader`.
    pub fn copy_in(&self, source: CopySource<'_>, branch: &str, dest: &TreePath) -> Result<Committed> {
        self.core.copy_in(source, branch, dest)
    }

    /// Writes a path of a state to the host: into an existing directory, else under that name.
    pub fn copy_out(&self, state: &State, path: &TreePath, dest: &Path) -> Result<Written> {
        self.core.copy_out(state, path, dest)
    }

    /// Writes a path of a state as a tar stream, under its last name.
    pub fn write_tar(&self, state: &State, path: &TreePath, out: &mut dyn std::io::Write) -> Result<Written> {
        self.core.write_tar(state, path, out)
    }

    /// Writes the files of a state, or what is below one of its paths, to a host directory that is new or empty.
    pub fn checkout_to(&self, state: &State, path: &TreePath, dest: &Path) -> Result<Written> {
        self.core.checkout_to(state, path, dest)
    }

    // --- running

    /// Runs a command where `target` says and moves the branch it says; output is passed to `sink` while it comes.
    pub fn step(&self, target: &Target, command: &Command, sink: Option<Sink>) -> Result<Step> {
        self.core.step(target, command, sink, None)
    }

    /// As [`Engine::step`], for a command with [`super::Stdin::Piped`]: `live` gets the running command before its end is waited for.
    pub fn step_live(
        &self,
        target: &Target,
        command: &Command,
        sink: Option<Sink>,
        live: &mut dyn FnMut(LiveInput),
    ) -> Result<Step> {
        self.core.step(target, command, sink, Some(live))
    }

    /// Says what this machine allows, by trying it.
    pub fn doctor(&self) -> Result<Vec<Finding>> {
        self.core.doctor()
    }
}
