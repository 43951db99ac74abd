//! Which directories under `layers/` show which tree.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Index, IndexError, int, uint};
use crate::object::TreeId;

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// Its directory's name under `layers/`.
    pub name: String,
    /// The root tree that it shows together with the layers below it.
    pub tree: TreeId,
    /// For which mapping of ids its files were made.
    pub identity: String,
    /// The names of the layers under it, the top one first.
    pub below: Vec<String>,
    /// How many entries the directory itself holds.
    pub entries: u64,
    /// How many bytes the directory itself holds.
    pub bytes: u64,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: i64,
    /// When it was last used, in milliseconds since 1970.
    pub used_ms: i64,
}

const COLUMNS: &str = "number, name, tree, identity, entries, bytes, made_ms, used_ms";

impl Index {
    /// Keeps what is known of a layer, in place of what was known under that name.
    pub fn put_layer(&self, layer: &LayerRecord) -> Result<(), IndexError> {
        self.write("recording a layer", |db| {
            db.prepare_cached("DELETE FROM layer WHERE name = ?1")?.execute([&layer.name])?;
            let number = db
                .prepare_cached(
                    "INSERT INTO layer (name, tree, identity, entries, bytes, made_ms, used_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .insert(params![
                    layer.name,
                    layer.tree.as_bytes(),
                    layer.identity,
                    int(layer.entries),
                    int(layer.bytes),
                    layer.made_ms,
                    layer.used_ms,
                ])?;
            let mut insert =
                db.prepare_cached("INSERT INTO layer_below (layer, position, name) VALUES (?1, ?2, ?3)")?;
            for (position, name) in layer.below.iter().enumerate() {
                insert.execute(params![number, int(position as u64), name])?;
            }
            Ok(())
        })
    }

    /// The newest layer that shows that tree for that mapping of ids.
    pub fn layer_for(&self, tree: &TreeId, identity: &str) -> Result<Option<LayerRecord>, IndexError> {
        self.read("looking up a layer", |db| {
            let found = db
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM layer WHERE tree = ?1 AND identity = ?2 ORDER BY number DESC LIMIT 1"
                ))?
                .query_row(params![tree.as_bytes(), identity], numbered)
                .optional()?;
            found.map(|found| with_below(db, found)).transpose()
        })
    }

    /// Keeps that a layer was used; a time earlier than the known one changes nothing.
    pub fn touch_layer(&self, name: &str, used_ms: i64) -> Result<(), IndexError> {
        self.write("touching a layer", |db| {
            db.prepare_cached("UPDATE layer SET used_ms = ?2 WHERE name = ?1 AND used_ms < ?2")?
                .execute(params![name, used_ms])?;
            Ok(())
        })
    }

    /// Every layer, least recently used first.
    pub fn layers(&self) -> Result<Vec<LayerRecord>, IndexError> {
        self.read("listing layers", |db| {
            many(db, &format!("SELECT {COLUMNS} FROM layer ORDER BY used_ms, number"), [])
        })
    }

    /// The layers of these names, as far as they are known.
    pub fn layers_named(&self, names: &[String]) -> Result<Vec<LayerRecord>, IndexError> {
        self.read("looking up layers", |db| {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                found.extend(many(db, &format!("SELECT {COLUMNS} FROM layer WHERE name = ?1"), [name])?);
            }
            Ok(found)
        })
    }

    /// The layers that have that one somewhere below them, oldest first.
    pub fn layers_on(&self, name: &str) -> Result<Vec<LayerRecord>, IndexError> {
        self.read("listing layers", |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM layer
                 WHERE number IN (SELECT layer FROM layer_below WHERE name = ?1) ORDER BY number"
            );
            many(db, &sql, [name])
        })
    }

    /// When the newest layer was made, in milliseconds since 1970; `None` when there is none.
    pub fn newest_layer(&self) -> Result<Option<i64>, IndexError> {
        self.read("looking up the newest layer", |db| {
            db.prepare_cached("SELECT max(made_ms) FROM layer")?.query_row([], |row| row.get(0))
        })
    }

    /// Forgets the layers that were made from then on, and those that have one of them below; gives how many.
    pub fn forget_layers_since(&self, made_ms: i64) -> Result<usize, IndexError> {
        self.write("forgetting layers", |db| {
            db.execute(
                "DELETE FROM layer WHERE made_ms >= ?1 OR number IN (SELECT layer FROM layer_below WHERE name IN
                     (SELECT name FROM layer WHERE made_ms >= ?1))",
                params![made_ms],
            )
        })
    }

    /// Forgets a layer; says whether it was known.
    pub fn forget_layer(&self, name: &str) -> Result<bool, IndexError> {
        self.write("forgetting a layer", |db| {
            Ok(db.prepare_cached("DELETE FROM layer WHERE name = ?1")?.execute([name])? > 0)
        })
    }
}

fn many(db: &Connection, sql: &str, by: impl rusqlite::Params) -> rusqlite::Result<Vec<LayerRecord>> {
    let mut statement = db.prepare_cached(sql)?;
    let found: Vec<_> = statement.query_map(by, numbered)?.collect::<rusqlite::Result<_>>()?;
    found.into_iter().map(|found| with_below(db, found)).collect()
}

fn numbered(row: &Row<'_>) -> rusqlite::Result<(i64, LayerRecord)> {
    let layer = LayerRecord {
        name: row.get(1)?,
        tree: TreeId::from_bytes(row.get(2)?),
        identity: row.get(3)?,
        below: Vec::new(),
        entries: uint(row, 4)?,
        bytes: uint(row, 5)?,
        made_ms: row.get(6)?,
        used_ms: row.get(7)?,
    };
    Ok((row.get(0)?, layer))
}

fn with_below(db: &Connection, (number, mut layer): (i64, LayerRecord)) -> rusqlite::Result<LayerRecord> {
    layer.below = db
        .prepare_cached("SELECT name FROM layer_below WHERE layer = ?1 ORDER BY position")?
        .query_map([number], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(layer)
}
