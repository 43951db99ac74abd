//! What can go wrong with the index.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why a fact could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The file is not an index, or its content is broken.
    #[error("{} is damaged ({reason}); it only holds facts that can be found again, so move it aside", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite or the check said.
        reason: String,
    },
    /// A later treebox made the file.
    #[error(
        "{} has version {found}, this treebox knows up to {supported}: use the newer treebox, or move the file aside",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        supported: i64,
    },
    /// An earlier treebox made the file and it cannot be migrated read-only.
    #[error(
        "{} has version {found} and must be brought to {wanted} first: open the store once with write access",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version needed.
        wanted: i64,
    },
    /// There is no file and none may be created.
    #[error("there is no index at {}", .0.display())]
    Missing(PathBuf),
    /// A write to an index that was opened read-only.
    #[error("the store is read-only: {} cannot be written ({doing}); use a store that you may write, with --store", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
    },
    /// Another process held the file for longer than [`BUSY_TIMEOUT`](super::BUSY_TIMEOUT).
    #[error("{doing}: another process has kept {} locked for too long", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
    },
    /// No space is left for the file.
    #[error("{doing}: no space left for {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
    },
    /// SQLite failed in another way.
    #[error("{doing} in {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl IndexError {
    /// Whether moving the file aside and opening again helps.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    pub(super) fn sqlite(path: &Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, reason: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, doing },
            Some(ErrorCode::DiskFull) => Self::Full { path, doing },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path, doing },
            _ if is_wrong_value(&source) => Self::Damaged { path, reason: format!("{doing}: {source}") },
            _ => Self::Sqlite { path, doing, source },
        }
    }
}

/// Whether a stored value has a type, size or range that treebox never writes.
fn is_wrong_value(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}
