//! What can go wrong while a base is made of the host's programs.

use std::path::PathBuf;

use super::elf::ElfError;
use crate::object::{DraftError, InvalidPath};
use crate::store::StoreError;
use crate::worktree::scan::ScanError;

/// A base could not be made of the host's programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is no such program.
    #[error("no program `{program}` in {}; name it by its absolute path", shown(searched))]
    ProgramNotFound {
        /// The program, as named.
        program: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// There is nothing at a path that was named.
    #[error("there is no file {} for `{program}`", path.display())]
    NoSuchPath {
        /// The program, as named.
        program: String,
        /// The path.
        path: PathBuf,
    },
    /// What was named cannot be a program.
    #[error("`{program}` is no program: {source}")]
    BadName {
        /// The program, as named.
        program: String,
        /// Why not.
        source: InvalidPath,
    },
    /// A program's loader is missing.
    #[error("{} is started by {}, which this host lacks: install the C library it was built for", program.display(), loader.display())]
    LoaderMissing {
        /// The program.
        program: PathBuf,
        /// Its loader.
        loader: PathBuf,
    },
    /// A library is missing.
    #[error(
        "{} needs the library {library} (for {}), which is in none of {}: it would not start on this host either",
        program.display(), needed_by.display(), shown(searched)
    )]
    LibraryMissing {
        /// The program.
        program: PathBuf,
        /// The object that names the library.
        needed_by: PathBuf,
        /// The library.
        library: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A script's interpreter is missing.
    #[error("the script {} is interpreted by `{interpreter}`, which this host lacks", script.display())]
    InterpreterMissing {
        /// The script.
        script: PathBuf,
        /// Its interpreter, as its first line names it.
        interpreter: String,
    },
    /// Scripts interpret scripts without end.
    #[error("the script {} has an interpreter that is a script, and so on", path.display())]
    TooManyInterpreters {
        /// The last script looked at.
        path: PathBuf,
    },
    /// A program or library is not understood.
    #[error("cannot tell what {} needs: {source}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ElfError,
    },
    /// A path in a program, cache or configuration is none.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A file of the host cannot be read.
    #[error(transparent)]
    Read(#[from] ScanError),
    /// The draft refused an entry.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The bytes could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
