//! Where states came from: commits of history and origins outside it.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Index, IndexError};
use crate::object::{CommitId, StateId};

/// What is known of a commit besides what Git keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitFact {
    /// The commit.
    pub id: CommitId,
    /// The state it holds.
    pub state: StateId,
    /// Its parents, in order.
    pub parents: Vec<CommitId>,
    /// The number of the run that made it, when that is known.
    pub run_seq: Option<i64>,
}

/// Where a state came from when no run made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What brought it: `import`, `cp` and so on.
    pub kind: String,
    /// From what: a file, an image name.
    pub detail: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Index {
    /// Keeps where a state came from. The same origin again only moves its time.
    pub fn record_origin(
        &self,
        state: &StateId,
        kind: &str,
        detail: &str,
        at_ms: i64,
    ) -> Result<(), IndexError> {
        self.write("recording an origin", |db| {
            db.prepare_cached(
                "INSERT INTO origin (state, kind, detail, at_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (state, kind, detail) DO UPDATE SET at_ms = excluded.at_ms",
            )?
            .execute(params![state.as_bytes(), kind, detail, at_ms])?;
            Ok(())
        })
    }

    /// Where a state came from, oldest first.
    pub fn origins_of(&self, state: &StateId) -> Result<Vec<Origin>, IndexError> {
        self.read("looking up origins", |db| {
            db.prepare_cached(
                "SELECT kind, detail, at_ms FROM origin WHERE state = ?1 ORDER BY at_ms, number",
            )?
            .query_map([state.as_bytes()], |row| {
                Ok(Origin { kind: row.get(0)?, detail: row.get(1)?, at_ms: row.get(2)? })
            })?
            .collect()
        })
    }

    /// Keeps what a commit holds. Known commits keep their run unless a new one is given.
    pub fn record_commit(
        &self,
        id: &CommitId,
        state: &StateId,
        parents: &[CommitId],
        run_seq: Option<i64>,
    ) -> Result<(), IndexError> {
        let fact = CommitFact { id: *id, state: *state, parents: parents.to_vec(), run_seq };
        self.record_commits(&[fact])
    }

    /// Keeps what many commits hold, in one transaction.
    pub fn record_commits(&self, facts: &[CommitFact]) -> Result<(), IndexError> {
        self.write("recording commits", |db| facts.iter().try_for_each(|fact| insert(db, fact)))
    }

    /// The commits that hold a state, oldest first.
    pub fn commits_of(&self, state: &StateId) -> Result<Vec<CommitId>, IndexError> {
        self.read("looking up commits", |db| {
            db.prepare_cached("SELECT id FROM history WHERE state = ?1 ORDER BY number")?
                .query_map([state.as_bytes()], |row| row.get(0).map(CommitId::from_bytes))?
                .collect()
        })
    }

    /// What is known of a commit.
    pub fn commit(&self, id: &CommitId) -> Result<Option<CommitFact>, IndexError> {
        self.read("looking up a commit", |db| {
            db.prepare_cached("SELECT id, state, parents, run FROM history WHERE id = ?1")?
                .query_row([id.as_bytes()], fact)
                .optional()
        })
    }

    /// The known commits of which that one is a parent, oldest first. Looks at every commit that is known.
    pub fn children_of(&self, id: &CommitId) -> Result<Vec<CommitFact>, IndexError> {
        let found = self.read("looking up children of a commit", |db| {
            db.prepare_cached(
                "SELECT id, state, parents, run FROM history WHERE instr(parents, ?1) > 0 ORDER BY number",
            )?
            .query_map([id.as_bytes()], fact)?
            .collect::<Result<Vec<_>, _>>()
        })?;
        // Bytes of two ids side by side may look like a third.
        Ok(found.into_iter().filter(|fact| fact.parents.contains(id)).collect())
    }

    /// The state that a commit holds.
    pub fn commit_state(&self, id: &CommitId) -> Result<Option<StateId>, IndexError> {
        Ok(self.commit(id)?.map(|fact| fact.state))
    }

    /// The states that commits hold, as far as they are known; one look for all of them.
    pub fn commit_states(&self, ids: &[CommitId]) -> Result<Vec<Option<StateId>>, IndexError> {
        self.read("looking up commits", |db| {
            let mut state = db.prepare_cached("SELECT state FROM history WHERE id = ?1")?;
            let states = ids.iter().map(|id| {
                state.query_row([id.as_bytes()], |row| row.get(0).map(StateId::from_bytes)).optional()
            });
            states.collect()
        })
    }

    /// The number of the run that made a commit.
    pub fn commit_run(&self, id: &CommitId) -> Result<Option<i64>, IndexError> {
        Ok(self.commit(id)?.and_then(|fact| fact.run_seq))
    }

    /// Forgets commits, for instance those that `git gc` has pruned.
    pub fn forget_commits(&self, ids: &[CommitId]) -> Result<(), IndexError> {
        self.write("forgetting commits", |db| {
            let mut delete = db.prepare_cached("DELETE FROM history WHERE id = ?1")?;
            ids.iter().try_for_each(|id| delete.execute([id.as_bytes()]).map(|_| ()))
        })
    }
}

fn insert(db: &Connection, fact: &CommitFact) -> rusqlite::Result<()> {
    let parents: Vec<u8> = fact.parents.iter().flat_map(|parent| *parent.as_bytes()).collect();
    db.prepare_cached(
        "INSERT INTO history (id, state, parents, run) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET
             state = excluded.state, parents = excluded.parents, run = coalesce(excluded.run, run)",
    )?
    .execute(params![fact.id.as_bytes(), fact.state.as_bytes(), parents, fact.run_seq])?;
    Ok(())
}

pub(super) fn fact(row: &Row<'_>) -> rusqlite::Result<CommitFact> {
    let parents: Vec<u8> = row.get(2)?;
    let (parents, rest) = parents.as_chunks::<20>();
    if !rest.is_empty() {
        return Err(rusqlite::Error::InvalidColumnType(2, "parents".to_owned(), rusqlite::types::Type::Blob));
    }
    Ok(CommitFact {
        id: CommitId::from_bytes(row.get(0)?),
        state: StateId::from_bytes(row.get(1)?),
        parents: parents.iter().copied().map(CommitId::from_bytes).collect(),
        run_seq: row.get(3)?,
    })
}
