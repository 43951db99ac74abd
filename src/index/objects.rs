//! Where packed metadata objects lie. The segment files are the truth, this only finds things in them.

use rusqlite::{OptionalExtension, params};

use super::{Index, IndexError, int, uint};
use crate::object::IdPrefix;

/// Where one packed object's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// What it is, in the numbers of the store.
    pub kind: u8,
    /// The segment file's number.
    pub segment: u32,
    /// Where in the segment the bytes begin.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
}

/// One object found in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewObject {
    /// Its name.
    pub id: [u8; 32],
    /// What it is, in the numbers of the store.
    pub kind: u8,
    /// Where in the segment the bytes begin.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
}

impl Index {
    /// Where the object's bytes are.
    pub fn locate(&self, id: &[u8; 32]) -> Result<Option<Location>, IndexError> {
        self.read("looking up an object", |db| {
            db.prepare_cached("SELECT kind, segment, start, len FROM object WHERE id = ?1")?
                .query_row([id], |row| {
                    Ok(Location {
                        kind: row.get(0)?,
                        segment: row.get(1)?,
                        offset: uint(row, 2)?,
                        len: row.get(3)?,
                    })
                })
                .optional()
        })
    }

    /// Keeps where these objects of one segment are, and that the segment is indexed up to the byte
    /// `indexed_until`. An object known elsewhere is from now on found here; the mark never goes back.
    pub fn record_objects(
        &self,
        segment: u32,
        indexed_until: u64,
        objects: &[NewObject],
    ) -> Result<(), IndexError> {
        self.write("recording objects", |db| {
            let mut insert = db.prepare_cached(
                "INSERT INTO object (id, kind, segment, start, len) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET
                     kind = excluded.kind, segment = excluded.segment, start = excluded.start, len = excluded.len",
            )?;
            for object in objects {
                insert.execute(params![object.id, object.kind, segment, int(object.offset), object.len])?;
            }
            db.prepare_cached(
                "INSERT INTO segment (number, indexed_until) VALUES (?1, ?2)
                 ON CONFLICT (number) DO UPDATE SET indexed_until = max(indexed_until, excluded.indexed_until)",
            )?
            .execute(params![segment, int(indexed_until)])?;
            Ok(())
        })
    }

    /// Up to which byte of the segment the objects are known; 0 when it has never been looked at.
    pub fn indexed_until(&self, segment: u32) -> Result<u64, IndexError> {
        let known = self.read("looking up a segment", |db| {
            db.prepare_cached("SELECT indexed_until FROM segment WHERE number = ?1")?
                .query_row([segment], |row| uint(row, 0))
                .optional()
        })?;
        Ok(known.unwrap_or(0))
    }

    /// Ids of that kind that begin with the prefix, in order, at most `limit`.
    pub fn ids_with_prefix(
        &self,
        kind: u8,
        prefix: &IdPrefix,
        limit: usize,
    ) -> Result<Vec<[u8; 32]>, IndexError> {
        let (low, high) = prefix.range();
        self.read("looking up a short id", |db| {
            db.prepare_cached(
                "SELECT id FROM object WHERE id BETWEEN ?1 AND ?2 AND kind = ?3 ORDER BY id LIMIT ?4",
            )?
            .query_map(params![low, high, kind, int(limit as u64)], |row| row.get(0))?
            .collect()
        })
    }

    /// Forgets where these objects are.
    pub fn forget_objects(&self, ids: &[[u8; 32]]) -> Result<(), IndexError> {
        self.write("forgetting objects", |db| {
            let mut delete = db.prepare_cached("DELETE FROM object WHERE id = ?1")?;
            for id in ids {
                delete.execute([id])?;
            }
            Ok(())
        })
    }

    /// Forgets a segment, its mark and every object that is found in it. Reads the whole table.
    pub fn forget_segment(&self, segment: u32) -> Result<(), IndexError> {
        self.write("forgetting a segment", |db| {
            db.prepare_cached("DELETE FROM object WHERE segment = ?1")?.execute([segment])?;
            db.prepare_cached("DELETE FROM segment WHERE number = ?1")?.execute([segment])?;
            Ok(())
        })
    }
}
