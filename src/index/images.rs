//! Facts about images. Which commit a name stands for is a ref in history; this adds size and time.

use rusqlite::{OptionalExtension, Row, params};

use super::{Index, IndexError, int, uint};
use crate::object::StateId;

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Its name, with tag.
    pub name: String,
    /// The state it held when this was recorded.
    pub state: StateId,
    /// Sizes of its regular files, in bytes.
    pub size_bytes: u64,
    /// How many files, directories and other entries it has.
    pub entries: u64,
    /// Where it came from: a registry reference, a file.
    pub source: String,
    /// When it was recorded, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Index {
    /// Keeps what is known of an image, in place of what was.
    pub fn record_image(&self, image: &ImageRecord) -> Result<(), IndexError> {
        self.write("recording an image", |db| {
            db.prepare_cached(
                "INSERT INTO image (name, state, size_bytes, entries, source, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (name) DO UPDATE SET state = excluded.state, size_bytes = excluded.size_bytes,
                     entries = excluded.entries, source = excluded.source, at_ms = excluded.at_ms",
            )?
            .execute(params![
                image.name,
                image.state.as_bytes(),
                int(image.size_bytes),
                int(image.entries),
                image.source,
                image.at_ms,
            ])?;
            Ok(())
        })
    }

    /// What is known of the image of that name.
    pub fn image(&self, name: &str) -> Result<Option<ImageRecord>, IndexError> {
        self.read("looking up an image", |db| {
            db.prepare_cached(
                "SELECT name, state, size_bytes, entries, source, at_ms FROM image WHERE name = ?1",
            )?
            .query_row([name], record)
            .optional()
        })
    }

    /// Every image, by name.
    pub fn images(&self) -> Result<Vec<ImageRecord>, IndexError> {
        self.read("listing images", |db| {
            db.prepare_cached(
                "SELECT name, state, size_bytes, entries, source, at_ms FROM image ORDER BY name",
            )?
            .query_map([], record)?
            .collect()
        })
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<ImageRecord> {
    Ok(ImageRecord {
        name: row.get(0)?,
        state: StateId::from_bytes(row.get(1)?),
        size_bytes: uint(row, 2)?,
        entries: uint(row, 3)?,
        source: row.get(4)?,
        at_ms: row.get(5)?,
    })
}
