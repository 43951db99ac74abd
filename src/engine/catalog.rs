//! The index as what rooms below ask for: the store's catalog of packed objects, and the memory of image layers.

use std::sync::Arc;

use crate::index::{ChainRecord, Index, NewObject};
use crate::object::SourceError;
use crate::oci::{ChainFact, Digest, KnownLayers, LAYER_RULES, LayerFacts};
use crate::store::{Catalog, Located, ObjectKind, Placed};

pub(super) struct IndexCatalog(pub(super) Arc<Index>);

fn source(error: crate::index::IndexError) -> SourceError {
    SourceError(Box::new(error))
}

impl Catalog for IndexCatalog {
    fn locate(&self, id: &[u8; 32]) -> Result<Option<Located>, SourceError> {
        let found = self.0.locate(id).map_err(source)?;
        Ok(found.map(|at| Located { segment: at.segment, offset: at.offset, len: at.len }))
    }

    fn record(&self, segment: u32, end: u64, placed: &[Placed]) -> Result<(), SourceError> {
        let objects: Vec<_> = placed
            .iter()
            .map(|placed| NewObject {
                id: placed.id,
                kind: placed.kind.code(),
                offset: placed.located.offset,
                len: placed.located.len,
            })
            .collect();
        self.0.record_objects(segment, end, &objects).map_err(source)
    }

    fn forget(&self, segment: u32) -> Result<(), SourceError> {
        self.0.forget_segment(segment).map_err(source)
    }

    fn found_in(&self, segment: u32) -> Result<Vec<Placed>, SourceError> {
        let found = self.0.objects_in(segment).map_err(source)?;
        Ok(found
            .into_iter()
            .filter_map(|object| {
                let located = Located { segment: object.segment, offset: object.offset, len: object.len };
                Some(Placed { id: object.id, kind: ObjectKind::packed_of(object.kind)?, located })
            })
            .collect())
    }

    fn known_until(&self, segment: u32) -> Result<u64, SourceError> {
        self.0.indexed_until(segment).map_err(source)
    }
}

impl KnownLayers for Index {
    fn chain(&self, chain: &Digest) -> Result<Option<ChainFact>, SourceError> {
        let known = Self::chain(self, &chain.to_string(), LAYER_RULES).map_err(source)?;
        // What is no digest was written by nobody: it is unknown.
        Ok(known.and_then(|known| {
            Some(ChainFact {
                chain: chain.clone(),
                tree: known.tree,
                layer: LayerFacts {
                    digest: Digest::parse(&known.digest)?,
                    diff_id: Digest::parse(&known.diff_id)?,
                    size: known.size_bytes,
                    media_type: known.media_type,
                },
            })
        }))
    }
}

/// What the index keeps of a chain.
pub(super) fn chain_record(fact: &ChainFact) -> ChainRecord {
    ChainRecord {
        chain: fact.chain.to_string(),
        rules: LAYER_RULES,
        tree: fact.tree,
        digest: fact.layer.digest.to_string(),
        diff_id: fact.layer.diff_id.to_string(),
        size_bytes: fact.layer.size,
        media_type: fact.layer.media_type.clone(),
    }
}
