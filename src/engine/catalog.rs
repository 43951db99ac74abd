//! The index as the store's catalog of packed objects.

use std::sync::Arc;

use crate::index::{Index, NewObject};
use crate::object::SourceError;
use crate::store::{Catalog, Located, Placed};

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

    fn known_until(&self, segment: u32) -> Result<u64, SourceError> {
        self.0.indexed_until(segment).map_err(source)
    }
}
