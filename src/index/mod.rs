//! SQLite facts: which runs are remembered, where packed objects lie, what images and layers there are.
//!
//! One file, `index.db`, that many processes share. It is derived: every fact in it can be missing, and the engine
//! then rebuilds it, runs a command again or measures again. So a damaged index is moved aside, never repaired.
//!
//! This room never opens an object, a layer or a ref; it never looks at a clock, times come from the caller
//! (milliseconds since 1970). It stores ids and never asks whether what they name exists.
//!
//! # Invariants
//! - A transaction is all or nothing, and every write is one transaction begun with `BEGIN IMMEDIATE`: a deferred one
//!   fails at once with "busy" when another process wrote between its read and its write.
//! - `application_id` says that the file is treebox's, `user_version` how many migrations it has seen. An older
//!   file is migrated when it is opened, a newer one is refused.
//! - Sequence numbers of runs grow and are never used twice.
//!
//! # Locking
//! SQLite's own locks, waited for up to [`BUSY_TIMEOUT`]. Inside a process writers take turns on a mutex first, which is
//! fair and does not poll. Readers never wait: the file is in WAL mode.
//!
//! # Durability
//! `synchronous=NORMAL`: a killed process loses nothing; a power cut may lose the newest transactions but never
//! leaves half of one.

mod chains;
mod check;
mod collect;
mod commits;
mod connect;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod layers;
mod objects;
mod runs;
mod schema;
#[cfg(test)]
mod tests;

pub use chains::ChainRecord;
pub use collect::{Forgotten, KnownObject, RunHold};
pub use commits::{CommitFact, Origin};
pub use error::IndexError;
pub use images::ImageRecord;
pub use layers::LayerRecord;
pub use objects::{Location, NewObject};
pub use runs::{MAX_INLINE_OUTPUT_BYTES, OutputRecord, Run, RunRecord, Usage};

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

/// How long a statement waits for another process before it gives up.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many idle connections an [`Index`] keeps; each holds a page cache of up to 4 MiB.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// The facts of one store.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    access: connect::Access,
    idle: Mutex<Vec<Connection>>,
    write_turn: Mutex<()>,
}

impl Index {
    /// Opens the index at `path`, created or migrated first when that is needed.
    ///
    /// # Errors
    /// [`IndexError::Newer`] when a later treebox made the file, [`IndexError::Damaged`] when it is no
    /// index: the caller may move it aside and open again.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let first = connect::open_writable(path)?;
        Ok(Self::with(path, connect::Access::Writable, first))
    }

    /// Opens an index that must not or cannot be written, such as one in a read-only directory.
    ///
    /// # Errors
    /// As [`Index::open`], and [`IndexError::Missing`] when there is no file, [`IndexError::Older`]
    /// when it would have to be migrated first.
    pub fn open_read_only(path: &Path) -> Result<Self, IndexError> {
        let (first, access) = connect::open_read_only(path)?;
        Ok(Self::with(path, access, first))
    }

    fn with(path: &Path, access: connect::Access, first: Connection) -> Self {
        Self { path: path.to_owned(), access, idle: Mutex::new(vec![first]), write_turn: Mutex::new(()) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value kept under `key`.
    pub fn meta(&self, key: &str) -> Result<Option<String>, IndexError> {
        self.read("reading a setting", |db| {
            db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// Keeps `value` under `key`; `None` forgets it.
    pub fn set_meta(&self, key: &str, value: Option<&str>) -> Result<(), IndexError> {
        self.write("keeping a setting", |db| {
            match value {
                Some(value) => db
                    .prepare_cached(
                        "INSERT INTO meta (key, value) VALUES (?1, ?2)
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    )?
                    .execute(params![key, value])?,
                None => db.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key])?,
            };
            Ok(())
        })
    }

    /// Whether every page of the file and every index in it is sound; the findings are SQLite's own words.
    ///
    /// Reads the whole file.
    pub fn check(&self) -> Result<Vec<String>, IndexError> {
        let lines: Vec<String> = self.read("checking the index", |db| {
            db.prepare("PRAGMA integrity_check")?.query_map([], |row| row.get(0))?.collect()
        })?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// Runs `body` on a connection of its own. `doing` says in an error what was tried.
    fn read<T>(
        &self,
        doing: &'static str,
        body: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let db = self.take()?;
        let result = body(&db);
        self.give_back(db);
        result.map_err(|source| IndexError::sqlite(&self.path, doing, source))
    }

    /// Runs `body` in a write transaction, which is undone when it fails.
    fn write<T>(
        &self,
        doing: &'static str,
        body: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        if self.access != connect::Access::Writable {
            return Err(IndexError::ReadOnly { path: self.path.clone(), doing });
        }
        let turn = locked(&self.write_turn);
        let mut db = self.take()?;
        let result = in_transaction(&mut db, body);
        drop(turn);
        self.give_back(db);
        result.map_err(|source| IndexError::sqlite(&self.path, doing, source))
    }

    fn take(&self) -> Result<Connection, IndexError> {
        let idle = locked(&self.idle).pop();
        idle.map_or_else(|| connect::another(&self.path, self.access), Ok)
    }

    fn give_back(&self, db: Connection) {
        let mut idle = locked(&self.idle);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(db);
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if self.access == connect::Access::Writable
            && let Some(db) = locked(&self.idle).last()
        {
            connect::close(db, &self.path);
        }
    }
}

fn in_transaction<T>(
    db: &mut Connection,
    body: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = body(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// A mutex here guards no invariant that a panic could break: the pool is whole at every instant.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SQLite keeps 64 bits with a sign. Counts and sizes never come near the limit; one that did is kept as the largest.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Reads back what [`int`] stored.
fn uint(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}
