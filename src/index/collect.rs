//! What garbage collection asks and forgets: everything in pages, so that a large index needs little memory.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, IndexError, int, uint};
use crate::object::{BlobId, CommitId, StateId, TreeId};

/// A use is noted again when the last one is older than this: what is used all the time is not written all the time.
const TOUCH_AFTER_MS: i64 = 3_600_000;

/// What keeps a remembered run, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHold {
    /// Its number.
    pub seq: i64,
    /// The state it ran on.
    pub parent: StateId,
    /// The state it left.
    pub result: StateId,
    /// Whether that is another one.
    pub changed: bool,
    /// When it was last made or used, in milliseconds since 1970.
    pub used_ms: i64,
    /// The blobs of its output.
    pub output: Vec<BlobId>,
    /// The canonical bytes of its command spec.
    pub spec: Vec<u8>,
    /// The beginning of its command.
    pub command: String,
}

/// A packed object that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownObject {
    /// Its name.
    pub id: [u8; 32],
    /// What it is, in the numbers of the store.
    pub kind: u8,
    /// The segment that holds it.
    pub segment: u32,
    /// Where in the segment it begins.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
}

/// What is to be forgotten together.
#[derive(Debug, Clone, Default)]
pub struct Forgotten {
    /// Trees and states.
    pub objects: Vec<[u8; 32]>,
    /// Remembered runs, by number.
    pub runs: Vec<i64>,
}

impl Index {
    /// Remembered runs with a number above `seq`, in order, at most `limit`: what each keeps.
    pub fn run_holds_after(&self, seq: i64, limit: usize) -> Result<Vec<RunHold>, IndexError> {
        self.read("listing remembered runs", |db| {
            db.prepare_cached(
                "SELECT seq, parent, result, changed, max(started_ms, coalesce(used_ms, 0)),
                     CASE WHEN stdout_len IS NULL THEN NULL ELSE stdout END,
                     CASE WHEN stderr_len IS NULL THEN NULL ELSE stderr END, spec, substr(command, 1, 200)
                 FROM run LEFT JOIN run_use ON run_use.run = run.seq
                 WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?
            .query_map(params![seq, int(limit as u64)], |row| {
                let output = [row.get::<_, Option<[u8; 32]>>(5)?, row.get(6)?];
                Ok(RunHold {
                    seq: row.get(0)?,
                    parent: StateId::from_bytes(row.get(1)?),
                    result: StateId::from_bytes(row.get(2)?),
                    changed: row.get(3)?,
                    used_ms: row.get(4)?,
                    output: output.into_iter().flatten().map(BlobId::from_bytes).collect(),
                    spec: row.get(7)?,
                    command: row.get(8)?,
                })
            })?
            .collect()
        })
    }

    /// Keeps that a remembered run was used; a use within the hour after the last one changes nothing.
    pub fn touch_run(&self, seq: i64, used_ms: i64) -> Result<(), IndexError> {
        let known = self.read("looking up when a run was used", |db| {
            db.prepare_cached(
                "SELECT max(started_ms, coalesce(used_ms, 0)) FROM run
                 LEFT JOIN run_use ON run_use.run = run.seq WHERE seq = ?1",
            )?
            .query_row([seq], |row| row.get::<_, i64>(0))
            .optional()
        })?;
        if known.is_none_or(|known| used_ms - known < TOUCH_AFTER_MS) {
            return Ok(());
        }
        self.write("noting that a run was used", |db| {
            db.prepare_cached(
                "INSERT INTO run_use (run, used_ms) VALUES (?1, ?2)
                 ON CONFLICT (run) DO UPDATE SET used_ms = max(used_ms, excluded.used_ms)",
            )?
            .execute([seq, used_ms])?;
            Ok(())
        })
    }

    /// Known packed objects whose names come after `id`, in order, at most `limit`.
    pub fn objects_after(&self, id: Option<&[u8; 32]>, limit: usize) -> Result<Vec<KnownObject>, IndexError> {
        self.read("listing objects", |db| {
            let id = id.map_or(&[][..], |id| id.as_slice());
            db.prepare_cached(
                "SELECT id, kind, segment, start, len FROM object WHERE id > ?1 ORDER BY id LIMIT ?2",
            )?
            .query_map(params![id, int(limit as u64)], known_object)?
            .collect()
        })
    }

    /// The objects that are found in one segment, in the order in which they lie. Reads the whole table.
    pub fn objects_in(&self, segment: u32) -> Result<Vec<KnownObject>, IndexError> {
        self.read("listing objects of a segment", |db| {
            db.prepare_cached(
                "SELECT id, kind, segment, start, len FROM object WHERE segment = ?1 ORDER BY start",
            )?
            .query_map([segment], known_object)?
            .collect()
        })
    }

    /// Every known commit with its state and the number of its run.
    pub fn each_commit(
        &self,
        visit: &mut dyn FnMut(CommitId, StateId, Option<i64>),
    ) -> Result<(), IndexError> {
        self.read("listing commits", |db| {
            let mut statement = db.prepare_cached("SELECT id, state, run FROM history")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                visit(CommitId::from_bytes(row.get(0)?), StateId::from_bytes(row.get(1)?), row.get(2)?);
            }
            Ok(())
        })
    }

    /// Forgets objects and runs together, and what is known of chains and origins of the objects.
    pub fn forget(&self, forgotten: &Forgotten) -> Result<(), IndexError> {
        self.write("forgetting what nothing leads to", |db| {
            forget_runs(db, &forgotten.runs)?;
            let mut object = db.prepare_cached("DELETE FROM object WHERE id = ?1")?;
            let mut origin = db.prepare_cached("DELETE FROM origin WHERE state = ?1")?;
            for id in &forgotten.objects {
                object.execute([id])?;
                origin.execute([id])?;
            }
            db.prepare_cached("DELETE FROM chain WHERE tree NOT IN (SELECT id FROM object)")?.execute([])?;
            Ok(())
        })
    }

    /// The root tree of every known chain of image layers.
    pub fn chain_trees(&self) -> Result<Vec<TreeId>, IndexError> {
        self.read("listing layers of images", |db| {
            db.prepare_cached("SELECT DISTINCT tree FROM chain")?
                .query_map([], |row| row.get(0).map(TreeId::from_bytes))?
                .collect()
        })
    }

    /// Gives space in the file that nothing uses back to the disk, when that is at least a quarter of it; says whether it did.
    pub fn compact(&self) -> Result<bool, IndexError> {
        let (free, all) = self.read("looking for unused space", |db| {
            let pragma = |name: &str| db.pragma_query_value(None, name, |row| uint(row, 0));
            Ok((pragma("freelist_count")?, pragma("page_count")?))
        })?;
        if free < 64 || free * 4 < all {
            return Ok(false);
        }
        // Not within a transaction: SQLite makes its own.
        self.read("giving unused space back", |db| {
            db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
        })?;
        Ok(true)
    }
}

pub(super) fn forget_runs(db: &Connection, seqs: &[i64]) -> rusqlite::Result<()> {
    let mut unlink = db.prepare_cached("UPDATE history SET run = NULL WHERE run = ?1")?;
    let mut unused = db.prepare_cached("DELETE FROM run_use WHERE run = ?1")?;
    let mut delete = db.prepare_cached("DELETE FROM run WHERE seq = ?1")?;
    for seq in seqs {
        unlink.execute([seq])?;
        unused.execute([seq])?;
        delete.execute([seq])?;
    }
    Ok(())
}

pub(super) fn known_object(row: &rusqlite::Row<'_>) -> rusqlite::Result<KnownObject> {
    Ok(KnownObject {
        id: row.get(0)?,
        kind: row.get(1)?,
        segment: row.get(2)?,
        offset: uint(row, 3)?,
        len: row.get(4)?,
    })
}
