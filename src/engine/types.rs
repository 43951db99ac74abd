//! The values that the public API takes and gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cancel::Cancel;
use super::error::{Error, Result};
use super::outcome::{ChangeCounts, Outcome, Resources};
use super::state::State;
use crate::disk::Durability;
use crate::object::{CommitId, Entry, Platform, RunKey, StateId, TreeId, TreePath};
use crate::oci::{ImageSource, Limits};
use crate::sandbox::{IdentityChoice, TerminalSize};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub(super) store: PathBuf,
    pub(super) durability: Durability,
    pub(super) worker: Option<PathBuf>,
    pub(super) identity: IdentityChoice,
    pub(super) prestart: bool,
    pub(super) max_size: Option<u64>,
    pub(super) notices: Notices,
    pub(super) cancel: Cancel,
}

/// Hears what the engine has to say while it works.
#[derive(Clone, Default)]
pub(super) struct Notices(pub(super) Option<Arc<Hear>>);

/// Takes a line of text.
type Hear = dyn Fn(&str) + Send + Sync;

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Notices(heard)" } else { "Notices(unheard)" })
    }
}

impl EngineOptions {
    /// The store in that directory.
    pub fn at(store: impl AsRef<Path>) -> Self {
        Self {
            store: store.as_ref().to_owned(),
            durability: Durability::Commit,
            worker: None,
            identity: IdentityChoice::Auto,
            prestart: false,
            max_size: None,
            notices: Notices::default(),
            cancel: Cancel::new(),
        }
    }

    /// The store at `$TREEBOX_STORE`, else `$XDG_DATA_HOME/treebox`, else `$HOME/.local/share/treebox`.
    pub fn from_env() -> Result<Self> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let store = var("TREEBOX_STORE")
            .or_else(|| var("XDG_DATA_HOME").map(|dir| dir.join("treebox")))
            .or_else(|| var("HOME").map(|dir| dir.join(".local/share/treebox")))
            .ok_or_else(|| {
                Error::invalid(
                    "no place for a store: set HOME, XDG_DATA_HOME or TREEBOX_STORE, or give --store",
                )
            })?;
        Ok(Self::at(store))
    }

    /// Says whether writes wait for the disk; by default what a finished call reported survives a power cut.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Bounds what the store may take on disk, in bytes, instead of the bound that it keeps itself.
    pub fn max_size(mut self, bytes: Option<u64>) -> Self {
        self.max_size = bytes;
        self
    }

    /// Names the executable that becomes the worker; by default this program when its `main` calls
    /// [`crate::worker::hook`], else `treebox` beside it or on `PATH`.
    pub fn worker(mut self, program: impl AsRef<Path>) -> Self {
        self.worker = Some(program.as_ref().to_owned());
        self
    }

    /// Starts the worker while the store is being opened, for a program that is certain to run something at once.
    pub fn prestart(mut self, yes: bool) -> Self {
        self.prestart = yes;
        self
    }

    /// Has this called with a line of text when there is something to say meanwhile: that a run waits for a cache or for another process that runs the same, that a
    /// secret is too short to be searched for, that a mounted directory changed during a run.
    pub fn notices(mut self, hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.notices = Notices(Some(Arc::new(hear)));
        self
    }

    /// Lets somebody else end every wait for others: for a cache, or for a process that runs or imports the same. What waits then fails with
    /// [`super::ErrorKind::Cancelled`]. What runs goes on.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Says which ids sandboxes get; by default the best that works.
    pub fn identity(mut self, choice: IdentityChoice) -> Self {
        self.identity = choice;
        self
    }
}

/// What can be imported.
#[derive(Debug, Clone)]
pub enum ImportSource {
    /// An image or a root file system in a file or layout.
    Image(ImageSource),
    /// A host directory as the root.
    Directory(PathBuf),
    /// The host's own programs with the libraries they need; the usual small tools when empty.
    Host(Vec<String>),
}

/// How something is brought in.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// What to call it; `None` for what it calls itself, else the name of the file.
    pub name: Option<String>,
    /// Which of several images to take; `None` for the one of this machine.
    pub platform: Option<Platform>,
    /// What it may demand of this machine.
    pub limits: Limits,
}

impl ImportOptions {
    /// What it calls itself, this machine's platform, the usual limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Takes the image for this platform.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Bounds what it may demand.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// An image that was brought in.
#[derive(Debug, Clone)]
pub struct Imported<S = State> {
    /// Its state.
    pub state: S,
    /// The name it got.
    pub name: String,
    /// Entries in its tree.
    pub entries: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// What could not be taken in, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// An image name and what it names.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name with its tag.
    pub name: String,
    /// Its state.
    pub state: StateId,
    /// Its commit.
    pub commit: CommitId,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Entries in its tree.
    pub entries: u64,
    /// Where it came from.
    pub source: String,
    /// When, in milliseconds since 1970.
    pub imported_ms: i64,
}

/// A branch or tag.
#[derive(Debug, Clone)]
pub struct Ref {
    /// Its name, such as `main`.
    pub name: String,
    /// The commit it is at.
    pub commit: CommitId,
    /// That commit's state.
    pub state: StateId,
    /// Whether HEAD is on it.
    pub current: bool,
}

/// Where HEAD is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The current branch; `None` when detached.
    pub branch: Option<String>,
    /// Its commit; `None` before the first.
    pub commit: Option<CommitId>,
    /// That commit's state.
    pub state: Option<StateId>,
}

/// One line of a reflog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReflogLine {
    /// Its place: 0 is the newest, as in `main@{0}`.
    pub index: usize,
    /// The commit before; `None` when the ref was made.
    pub old: Option<CommitId>,
    /// The commit after.
    pub new: Option<CommitId>,
    /// When, in seconds since 1970.
    pub time_seconds: i64,
    /// What moved it.
    pub message: String,
}

/// Which commits a log shows.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Revisions and ranges, as for `git log`; HEAD when empty.
    pub revs: Vec<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Only commits that changed something at or below one of these paths.
    pub paths: Vec<TreePath>,
}

/// One commit.
#[derive(Debug, Clone)]
pub struct CommitInfo {
    /// Its id.
    pub commit: CommitId,
    /// Its parents.
    pub parents: Vec<CommitId>,
    /// Its state.
    pub state: StateId,
    /// The root tree of its state.
    pub tree: TreeId,
    /// The command, or what made it: `import …`, `cp …`.
    pub command: String,
    /// How the command ended; `None` when there was none.
    pub exit_code: Option<i32>,
    /// How long it took, where this store ran it, in milliseconds.
    pub duration_ms: Option<f64>,
    /// When it ran, where this store ran it, in milliseconds since 1970.
    pub started_ms: Option<i64>,
    /// How many paths it changed.
    pub changes: ChangeCounts,
    /// The refs that are at it: `HEAD`, branches, `tag: NAME`, image names.
    pub refs: Vec<String>,
    /// The note on it, without the newline at its end.
    pub note: Option<String>,
}

/// Everything known of a commit.
#[derive(Debug, Clone)]
pub struct CommitDetail {
    /// What a log shows.
    pub info: CommitInfo,
    /// Environment of the command.
    pub env: Vec<String>,
    /// Its working directory.
    pub workdir: Option<String>,
    /// Its user, as `uid:gid`.
    pub user: Option<String>,
    /// What was mounted: the kind, as `--mount` has it, and where.
    pub mounts: Vec<(String, String)>,
    /// The key it is remembered under.
    pub key: Option<RunKey>,
    /// What it used, where this store ran it.
    pub resources: Option<Resources>,
    /// Paths it changed.
    pub changed: Vec<Change>,
    /// What it wrote to standard output, where this store ran it.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, where this store ran it.
    pub stderr: Vec<u8>,
}

pub use crate::object::{Change, ChangeKind};

/// A path in a state and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The path.
    pub path: TreePath,
    /// What is there.
    pub entry: Entry,
    /// How many paths are the same file: 1 unless hard-linked and counted.
    pub links: u64,
}

/// What is copied into a state.
pub enum CopySource<'r> {
    /// A host file or directory.
    Path(&'r Path),
    /// A tar stream, unpacked at the destination.
    Tar(&'r mut (dyn std::io::Read + Send)),
    /// A path of a state.
    State(&'r State, &'r TreePath),
    /// What is in a directory of a state, without the directory itself: `REV:/dir/.`.
    Contents(&'r State, &'r TreePath),
}

/// A commit that was made without a run.
#[derive(Debug, Clone)]
pub struct Committed<S = State> {
    /// The new state; the parent when nothing changed.
    pub state: S,
    /// The commit the branch is at now.
    pub commit: CommitId,
    /// Whether anything changed.
    pub changed: bool,
    /// How many paths changed.
    pub changes: ChangeCounts,
}

/// What was written to the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries written.
    pub entries: u64,
    /// What the host could not hold, with the reason: owners, devices, attributes.
    pub skipped: Vec<(String, String)>,
}

/// Where a step starts and what moves.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Where it starts; HEAD, or the branch's tip, without it.
    pub from: Option<String>,
    /// The branch to move or make.
    pub branch: Option<String>,
    /// A tag to make at the result.
    pub tag: Option<String>,
    /// Move an existing branch that is elsewhere.
    pub force: bool,
    /// Move the branch even when the command fails.
    pub keep_failed: bool,
}

/// What came of a step.
#[derive(Debug, Clone)]
pub struct Step<S = State> {
    /// What came of the run.
    pub outcome: Outcome<S>,
    /// The commit of the result, when something names it.
    pub commit: Option<CommitId>,
    /// The branch that is at the result.
    pub branch: Option<String>,
}

/// Which stream some output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives output while it comes, from several threads.
pub type Sink = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// The terminal that a running command has. Cheap to clone; after the command's end it does nothing.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<std::fs::File>);

impl Terminal {
    pub(super) fn new(master: Arc<std::fs::File>) -> Self {
        Self(master)
    }

    /// Sets its size; the kernel tells the command by SIGWINCH.
    pub fn resize(&self, size: TerminalSize) -> Result<()> {
        crate::sandbox::set_terminal_size(std::os::fd::AsFd::as_fd(&*self.0), size)
            .map_err(|error| Error::disk("resize", "the command's terminal", error))
    }

    /// Tells the command that no more input comes, as Ctrl-D does.
    pub fn end_input(&self) {
        use rustix::termios::SpecialCodeIndex;
        // The other side's settings say which character that is.
        let settings = rustix::termios::tcgetattr(&*self.0);
        let end = settings.map_or(0x04, |settings| settings.special_codes[SpecialCodeIndex::VEOF]);
        // The first ends an unfinished line, if there is one. A command that has ended needs none.
        let _ = std::io::Write::write_all(&mut &*self.0, &[end, end]);
    }
}

/// The live side of a running step: its input and a way to signal it.
pub struct LiveInput {
    /// Standard input of a command with piped input; dropping it is the end of input, but for a terminal.
    pub stdin: Option<std::fs::File>,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// Signals and kills.
    pub killer: super::live::Killer,
}

/// What `doctor` found about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub name: String,
    /// How it went: `ok`, `degraded` or `failed`.
    pub outcome: Verdict,
    /// What was seen.
    pub detail: String,
    /// Why, when it is not ok.
    pub cause: Option<String>,
    /// What to do about it, one line.
    pub fix: Option<String>,
}

/// How a probe went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It works.
    Ok,
    /// It works in a lesser way.
    Degraded,
    /// It does not, and commands cannot run.
    Failed,
}
