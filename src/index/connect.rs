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

const OPENING: &str = "opening the index";

pub(super) fn open_writable(path: &Path) -> Result<Connection, IndexError> {
    let mut db = another(path, Access::Writable)?;
    if version(&db, path)? < VERSION {
        migrate(&mut db, path)?;
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
    if access == Access::Writable {
        db.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864;")?;
    }
    Ok(db)
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
    let pragma = |name: &str| {
        db.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(|source| IndexError::sqlite(path, OPENING, source))
    };
    let found = pragma("user_version")?;
    let application = pragma("application_id")?;
    let empty = || {
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
            .map(|tables| tables == 0)
            .map_err(|source| IndexError::sqlite(path, OPENING, source))
    };
    if application != APPLICATION_ID && !(application == 0 && found == 0 && empty()?) {
        let reason = format!("its application id is {application:#x}, not treebox's {APPLICATION_ID:#x}");
        return Err(IndexError::Damaged { path: path.to_owned(), reason });
    }
    if found < 0 {
        let reason = format!("its version is {found}");
        return Err(IndexError::Damaged { path: path.to_owned(), reason });
    }
    if found > VERSION {
        return Err(IndexError::Newer { path: path.to_owned(), found, supported: VERSION });
    }
    Ok(found)
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), IndexError> {
    let failed = |source| IndexError::sqlite(path, "bringing the index up to date", source);
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
