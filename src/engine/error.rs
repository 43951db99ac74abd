//! The one error of the public API.

use std::path::PathBuf;

use crate::disk::DiskError;
use crate::history::HistoryError;
use crate::index::IndexError;
use crate::object::{DraftError, LookupError, PlacingError, SourceError, StateId};
use crate::oci::registry::RegistryError;
use crate::oci::{BuildError, ExportError, ImportError, LayerError as TarError, OutputError};
use crate::sandbox::LaunchError;
use crate::store::{FormatError, StoreError};
use crate::worker::{SessionError, WorkerError};
use crate::worktree::host::HostError;
use crate::worktree::layer::{ApplyError, LayerError};
use crate::worktree::scan::ScanError;

/// What kind of thing went wrong, for programs that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, revision, path or object is not there.
    NotFound,
    /// A shortened id means several things.
    Ambiguous,
    /// Something else moved first, or is in the way.
    Conflict,
    /// A secret would have been kept; nothing was.
    Leak,
    /// The time was up before the command could begin: exit code 124.
    TimedOut,
    /// Somebody asked for the end of it.
    Cancelled,
    /// What was asked for makes no sense or cannot be read.
    InvalidInput,
    /// What was asked for is not supported.
    Unsupported,
    /// Bytes in the store or in an image are not what they should be.
    Damaged,
    /// The store cannot be opened by this program.
    Store,
    /// This machine does not let commands run.
    NoSandbox,
    /// The command is not in the state: exit code 127.
    CommandNotFound,
    /// The command is there and cannot be executed: exit code 126.
    CommandNotExecutable,
    /// A run wrote more than it might; nothing of it is kept.
    OverLimit,
    /// A registry cannot be reached.
    Unreachable,
    /// A registry wants other credentials, or will not at all.
    Denied,
    /// The system refused something.
    System,
}

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A revision names nothing.
    #[error("{0}")]
    Revision(String, ErrorKind),
    /// A secret would have been kept.
    #[error("{0}")]
    Leak(String),
    /// The time was up before the command could begin.
    #[error("{0}")]
    TimedOut(String),
    /// Something else moved first, or is in the way.
    #[error("{0}")]
    Conflict(String),
    /// Somebody asked for the end of it.
    #[error("{0}")]
    Cancelled(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What was asked for is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// Nothing can run on the store's file system.
    #[error("nothing can run here: {0}")]
    UnfitDisk(String),
    /// The command is a program for another machine.
    #[error("{0}")]
    Foreign(String),
    /// A run wrote more than it might.
    #[error(
        "the command wrote {written_bytes} bytes and its limit is {limit_bytes}: it was stopped, and nothing of it is kept"
    )]
    OverDisk {
        /// The limit.
        limit_bytes: u64,
        /// What was found on disk, or the length of its longest file.
        written_bytes: u64,
    },
    /// Bytes that were read are lost or wrong: where that was met, and what is wrong.
    #[error("{0}")]
    Damaged(String),
    /// A run wrote more than the store had room for.
    #[error(
        "the command wrote {written_bytes} bytes and there was room for {room_bytes}, since the store may take {max_bytes}: it was stopped, and nothing \
         of it is kept; raise the limit with `treebox gc --max-size`"
    )]
    NoRoomForRun {
        /// What the store may take.
        max_bytes: u64,
        /// What the run could have.
        room_bytes: u64,
        /// What was found on disk, or the length of its longest file.
        written_bytes: u64,
    },
    /// A path is not in a state.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The store's format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Objects at rest.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// History.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// An image could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A registry could not be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A registry could not be reached, and the image is known from before.
    #[error("{source}; `{name}` is known from before: --offline uses that")]
    Known {
        /// The image's name.
        name: String,
        /// What is wrong.
        source: RegistryError,
    },
    /// A tar stream could not be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// An image could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An image could not be written out.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An entry cannot go where it was to go.
    #[error(transparent)]
    Placing(#[from] PlacingError),
    /// A host directory could not be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A base of the host's programs could not be made.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The worker could not be started.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The worker failed at a request.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A layer could not be made or read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A captured file system could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// An edit of a tree.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// A stored tree.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file verb.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The worker's executable was not found.
    #[error(
        "cannot find the treebox executable that runs commands{}: put it beside this program or on PATH, name it with \
         EngineOptions::worker, or call treebox::worker::hook() first in main", tried(.0)
    )]
    NoWorkerProgram(Vec<PathBuf>),
}

fn tried(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!(" (tried {})", path.display())).collect()
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn cancelled(message: impl Into<String>) -> Self {
        Self::Cancelled(message.into())
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::Revision(message.into(), ErrorKind::NotFound)
    }

    pub(crate) fn disk(verb: &'static str, path: impl AsRef<std::path::Path>, error: std::io::Error) -> Self {
        Self::Disk(DiskError::new(verb, path, error))
    }

    /// Whether bytes of the store are lost or wrong.
    fn is_damage(&self) -> bool {
        match self {
            Self::Disk(error) => error.io().kind() == std::io::ErrorKind::InvalidData,
            // What the worker says of a layer that it could not make.
            Self::Session(SessionError::Refused { message, .. }) => LayerError::is_of_a_blob(message),
            Self::Layer(error) => LayerError::is_of_a_blob(&error.to_string()),
            Self::Export(ExportError::Io(error))
            | Self::Build(BuildError::Export(ExportError::Io(error)))
            | Self::Output(OutputError::Io(error)) => error.kind() == std::io::ErrorKind::InvalidData,
            _ => self.kind() == ErrorKind::Damaged,
        }
    }

    /// The same with the place where damaged bytes were met, such as `main:/etc/passwd`; any other error stays as it is.
    pub fn met_at(self, place: impl std::fmt::Display) -> Self {
        if self.is_damage() { Self::Damaged(format!("{place}: {self}")) } else { self }
    }

    /// Adds to a conflict what became of the work: somebody else moved the ref first, and the result is there all the same.
    pub(crate) fn keeping(self, result: &StateId) -> Self {
        match self {
            Self::Conflict(text) => {
                Self::Conflict(format!("{text}. The result is kept: state {}", result.short()))
            }
            other => other,
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Revision(_, kind) => *kind,
            Self::Leak(_) => ErrorKind::Leak,
            Self::TimedOut(_) => ErrorKind::TimedOut,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Cancelled(_) => ErrorKind::Cancelled,
            Self::Invalid(_) => ErrorKind::InvalidInput,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Foreign(_) => ErrorKind::CommandNotExecutable,
            Self::OverDisk { .. } | Self::NoRoomForRun { .. } | Self::Store(StoreError::NoRoom { .. }) => {
                ErrorKind::OverLimit
            }
            Self::Damaged(_) | Self::Lookup(LookupError::Source(_)) | Self::Source(_) => ErrorKind::Damaged,
            Self::Lookup(_) => ErrorKind::NotFound,
            Self::Format(_) => ErrorKind::Store,
            Self::Store(StoreError::Disk(_)) => ErrorKind::System,
            Self::Store(StoreError::ReadOnly(_)) | Self::History(HistoryError::ReadOnly) => ErrorKind::Store,
            Self::Store(_) => ErrorKind::Damaged,
            Self::Session(SessionError::Launch(launch)) => match launch.exit_code() {
                Some(127) => ErrorKind::CommandNotFound,
                Some(126) => ErrorKind::CommandNotExecutable,
                _ if matches!(launch, LaunchError::WorkDir { .. } | LaunchError::Plan(_)) => {
                    ErrorKind::InvalidInput
                }
                _ => ErrorKind::NoSandbox,
            },
            Self::Worker(_) | Self::NoWorkerProgram(_) | Self::UnfitDisk(_) => ErrorKind::NoSandbox,
            Self::Placing(PlacingError::Directory { .. } | PlacingError::NotADirectory(_))
            | Self::Import(ImportError::Stream(TarError::Placing(_))) => ErrorKind::Conflict,
            Self::Export(ExportError::Reserved(_))
            | Self::Build(BuildError::Export(ExportError::Reserved(_))) => ErrorKind::InvalidInput,
            Self::Build(BuildError::Export(ExportError::Io(_)) | BuildError::Disk(_)) => ErrorKind::System,
            Self::Build(_) => ErrorKind::Damaged,
            Self::Output(OutputError::Occupied(_) | OutputError::Index { .. }) => ErrorKind::Conflict,
            Self::Output(OutputError::Original(_) | OutputError::Layer { .. }) => ErrorKind::Damaged,
            Self::Export(ExportError::NotFound(_)) => ErrorKind::NotFound,
            Self::Export(ExportError::Io(_)) => ErrorKind::System,
            Self::Export(_) => ErrorKind::Damaged,
            Self::Registry(error) | Self::Known { source: error, .. } => match error {
                RegistryError::NotBuilt(_) => ErrorKind::Unsupported,
                RegistryError::NotFound { .. } => ErrorKind::NotFound,
                RegistryError::Denied { .. } => ErrorKind::Denied,
                error if error.is_unreachable() => ErrorKind::Unreachable,
                RegistryError::Disk(_) | RegistryError::Client { .. } => ErrorKind::System,
                _ => ErrorKind::InvalidInput,
            },
            Self::Import(_) | Self::Host(_) => ErrorKind::InvalidInput,
            _ => ErrorKind::System,
        }
    }
}

/// The result of the public API.
pub type Result<T, E = Error> = std::result::Result<T, E>;
