//! Which tree a chain of image layers gives, so that known layers are not read again.

use rusqlite::{OptionalExtension, params};

use super::{Index, IndexError, int, uint};
use crate::object::TreeId;

/// What is known of a chain of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRecord {
    /// The chain: the image specification's ChainID.
    pub chain: String,
    /// The version of the rules by which the layers became a tree.
    pub rules: u32,
    /// The root tree of all layers of the chain.
    pub tree: TreeId,
    /// The digest of the uppermost layer.
    pub digest: String,
    /// Its digest without compression.
    pub diff_id: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its media type.
    pub media_type: String,
}

impl Index {
    /// Keeps what is known of chains, in place of what was.
    pub fn record_chains(&self, chains: &[ChainRecord]) -> Result<(), IndexError> {
        if chains.is_empty() {
            return Ok(());
        }
        self.write("recording layers of an image", |db| {
            let mut insert = db.prepare_cached(
                "INSERT OR REPLACE INTO chain (chain, rules, tree, digest, diff_id, size_bytes, media_type)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for chain in chains {
                insert.execute(params![
                    chain.chain,
                    chain.rules,
                    chain.tree.as_bytes(),
                    chain.digest,
                    chain.diff_id,
                    int(chain.size_bytes),
                    chain.media_type,
                ])?;
            }
            Ok(())
        })
    }

    /// What is known of a chain by those rules.
    pub fn chain(&self, chain: &str, rules: u32) -> Result<Option<ChainRecord>, IndexError> {
        self.read("looking up layers of an image", |db| {
            db.prepare_cached(
                "SELECT chain, rules, tree, digest, diff_id, size_bytes, media_type FROM chain
                 WHERE chain = ?1 AND rules = ?2",
            )?
            .query_row(params![chain, rules], record)
            .optional()
        })
    }
}

/// Reads a row of all columns.
pub(super) fn record(row: &rusqlite::Row<'_>) -> rusqlite::Result<ChainRecord> {
    Ok(ChainRecord {
        chain: row.get(0)?,
        rules: row.get(1)?,
        tree: TreeId::from_bytes(row.get(2)?),
        digest: row.get(3)?,
        diff_id: row.get(4)?,
        size_bytes: uint(row, 5)?,
        media_type: row.get(6)?,
    })
}
