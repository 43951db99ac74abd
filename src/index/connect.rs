//! Opening connections: flags, settings, creation and migration.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::IndexError;
use super::schema::{APPLICATION_ID, MIGRATIONS, VERSION};
use super::{BUSY_TIMEOUT, in_transaction};

/// How an index's connections may use the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read and write.
    Writable,
    /// Read, beside writers of other processes.
    ReadOnly,
    /// Read in a directory where not even the lock files can be made: nobody writes there.
    Frozen,
}

/// Distinct statements that the room keeps prepared per connection; a little more than it has.
const PREPARED_STATEMENTS: usize = 64;

/// 64 MiB is the most that a write-ahead log keeps on disk once it is empty; pages are cached up to 4 MiB.
const SETTINGS: &str =
    "PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -4096;";

/// The longest write-ahead log that is left for the next opener; reading 1 MiB takes it some 0.3 ms.
const MAX_LOG_BYTES_LEFT: u64 = 1 << 20;

const OPENING: &str = "opening the index";

pub(super) fn open_writable(path: &Path) -> Result<Connection, IndexError> {
    let mut db = another(path, Access::Writable)?;
    let found = version(&db, path)?;
    if found < VERSION {
        migrate(&mut db, path, found)?;
    }
    Ok(db)
}

pub(super) fn open_read_only(path: &Path) -> Result<(Connection, Access), IndexError> {
    if !path.exists() {
        return Err(IndexError::Missing(path.to_owned()));
    }
    let mut access = Access::ReadOnly;
    let mut opened = another(path, access).and_then(|db| Ok((version(&db, path)?, db)));
    if matches!(&opened, Err(IndexError::Sqlite { .. } | IndexError::ReadOnly { .. })) {
        access = Access::Frozen;
        opened = another(path, access).and_then(|db| Ok((version(&db, path)?, db)));
    }
    let (found, db) = opened?;
    if found < VERSION {
        return Err(IndexError::Older { path: path.to_owned(), found, wanted: VERSION });
    }
    Ok((db, access))
}

/// One more connection to an index that has been opened before.
pub(super) fn another(path: &Path, access: Access) -> Result<Connection, IndexError> {
    connect(path, access).map_err(|source| IndexError::sqlite(path, OPENING, source))
}

fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    // A connection is used by one thread at a time, so SQLite's own mutexes are left out.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match access {
        Access::Writable => {
            let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
            Connection::open_with_flags(path, flags)?
        }
        Access::ReadOnly => Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        Access::Frozen => {
            let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(frozen_uri(path), flags)?
        }
    };
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    // The file may come from somebody else: its schema must not call functions with effects.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Checkpoints sync: a command that ends must not wait for one, see `close`.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Otherwise a prepared statement is planned anew for every bound value: ten times the cost of the look-up.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if access == Access::Writable {
        db.execute_batch(SETTINGS)?;
    }
    Ok(db)
}

/// Makes the write-ahead log short when it has grown: whoever opens the file next reads all of it.
pub(super) fn close(db: &Connection, path: &Path) {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let grown = std::fs::metadata(log).is_ok_and(|log| log.len() > MAX_LOG_BYTES_LEFT);
    if grown && db.busy_timeout(Duration::ZERO).is_ok() {
        // Others may be using it, and then one of them will do this.
        let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
}

/// `immutable=1` makes SQLite ignore locks and the write-ahead log.
fn frozen_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            _ => write!(uri, "%{byte:02x}").expect("a string takes any text"),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// How many migrations the file has seen; 0 for an empty one.
fn version(db: &Connection, path: &Path) -> Result<i64, IndexError> {
    let damaged = |reason| Err(IndexError::Damaged { path: path.to_owned(), reason });
    match marks(db).map_err(|source| IndexError::sqlite(path, OPENING, source))? {
        (0, 0, true) => Ok(0),
        (APPLICATION_ID, found, _) if found > VERSION => {
            Err(IndexError::Newer { path: path.to_owned(), found, supported: VERSION })
        }
        (APPLICATION_ID, found, _) if found < 0 => damaged(format!("its version is {found}")),
        (APPLICATION_ID, found, _) => Ok(found),
        (other, ..) => {
            damaged(format!("its application id is {other:#x}, not treebox's {APPLICATION_ID:#x}"))
        }
    }
}

/// Application id, version, and whether the file is empty, all of one instant: another process may be making it.
fn marks(db: &Connection) -> rusqlite::Result<(i64, i64, bool)> {
    let snapshot = db.unchecked_transaction()?;
    let pragma = |name: &str| snapshot.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let empty = application == 0
        && snapshot.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?;
    Ok((application, version, empty))
}

fn migrate(db: &mut Connection, path: &Path, found: i64) -> Result<(), IndexError> {
    let failed = |source| IndexError::sqlite(path, "bringing the index up to date", source);
    if found == 0 {
        // A file that is being made has nothing to lose yet, and half of one would be found damaged.
        db.execute_batch("PRAGMA synchronous = OFF").map_err(failed)?;
    }
    set_wal(db).map_err(failed)?;
    // Another process may have done it while this one waited for its turn, so the version is read again inside.
    in_transaction(db, |db| {
        let seen: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        for migration in MIGRATIONS.iter().skip(usize::try_from(seen).unwrap_or(usize::MAX)) {
            db.execute_batch(migration)?;
        }
        db.pragma_update(None, "application_id", APPLICATION_ID)?;
        if seen < VERSION {
            db.pragma_update(None, "user_version", VERSION)?;
        }
        Ok(())
    })
    .and_then(|()| db.execute_batch(SETTINGS))
    .map_err(failed)
}

/// Changing the journal mode does not wait for other processes as other statements do, so the waiting is done here.
fn set_wal(db: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        match db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && started.elapsed() < BUSY_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}
