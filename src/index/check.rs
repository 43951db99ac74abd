//! Going through every row, for who compares them with what they tell of.

use rusqlite::params;

use super::{ChainRecord, CommitFact, Index, IndexError, KnownObject, uint};
use crate::object::{CommitId, StateId};

impl Index {
    /// Calls `visit` for every packed object that is known.
    pub fn each_object(&self, visit: &mut dyn FnMut(KnownObject)) -> Result<(), IndexError> {
        self.read("going through the objects", |db| {
            let mut statement = db.prepare("SELECT id, kind, segment, start, len FROM object")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                visit(super::collect::known_object(row)?);
            }
            Ok(())
        })
    }

    /// Every segment that is known, and up to which byte.
    pub fn segments(&self) -> Result<Vec<(u32, u64)>, IndexError> {
        self.read("going through the segments", |db| {
            db.prepare("SELECT number, indexed_until FROM segment ORDER BY number")?
                .query_map([], |row| Ok((row.get(0)?, uint(row, 1)?)))?
                .collect()
        })
    }

    /// Every commit that is known.
    pub fn commit_facts(&self) -> Result<Vec<CommitFact>, IndexError> {
        self.read("going through the commits", |db| {
            let mut statement = db.prepare("SELECT id, state, parents, run FROM history ORDER BY number")?;
            statement.query_map([], super::commits::fact)?.collect()
        })
    }

    /// Every chain of layers that is known.
    pub fn chains(&self) -> Result<Vec<ChainRecord>, IndexError> {
        self.read("going through the layers of images", |db| {
            db.prepare("SELECT chain, rules, tree, digest, diff_id, size_bytes, media_type FROM chain")?
                .query_map([], super::chains::record)?
                .collect()
        })
    }

    /// Forgets a chain.
    pub fn forget_chain(&self, chain: &str) -> Result<(), IndexError> {
        self.write("forgetting layers of an image", |db| {
            db.prepare_cached("DELETE FROM chain WHERE chain = ?1")?.execute([chain])?;
            Ok(())
        })
    }

    /// Every state that runs, commits and origins name.
    pub fn known_states(&self) -> Result<Vec<StateId>, IndexError> {
        self.read("going through the states", |db| {
            db.prepare(
                "SELECT result FROM run UNION SELECT parent FROM run UNION SELECT state FROM history
                 UNION SELECT state FROM origin UNION SELECT state FROM image",
            )?
            .query_map([], |row| row.get(0).map(StateId::from_bytes))?
            .collect()
        })
    }

    /// Keeps another state for a commit that is known, when what is known is wrong.
    pub fn correct_commit(&self, id: &CommitId, state: &StateId) -> Result<(), IndexError> {
        self.write("correcting a commit", |db| {
            db.prepare_cached("UPDATE history SET state = ?2, run = NULL WHERE id = ?1")?
                .execute(params![id.as_bytes(), state.as_bytes()])?;
            Ok(())
        })
    }
}
