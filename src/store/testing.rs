//! What tests of other rooms need of this one.

use std::collections::HashMap;
use std::sync::Mutex;

use super::{Catalog, Located, Placed};
use crate::object::SourceError;

/// A catalog in memory, which is lost with the test.
#[derive(Default)]
pub(crate) struct MemoryCatalog {
    places: Mutex<HashMap<[u8; 32], Located>>,
    known: Mutex<HashMap<u32, u64>>,
}

impl MemoryCatalog {
    /// Forgets one object.
    pub(crate) fn forget_one(&self, id: &[u8; 32]) {
        self.places.lock().unwrap().remove(id);
    }
}

impl Catalog for MemoryCatalog {
    fn locate(&self, id: &[u8; 32]) -> Result<Option<Located>, SourceError> {
        Ok(self.places.lock().unwrap().get(id).copied())
    }

    fn record(&self, segment: u32, end: u64, placed: &[Placed]) -> Result<(), SourceError> {
        let mut places = self.places.lock().unwrap();
        places.extend(placed.iter().map(|placed| (placed.id, placed.located)));
        self.known.lock().unwrap().insert(segment, end);
        Ok(())
    }

    fn forget(&self, segment: u32) -> Result<(), SourceError> {
        self.places.lock().unwrap().retain(|_, located| located.segment != segment);
        self.known.lock().unwrap().remove(&segment);
        Ok(())
    }

    fn found_in(&self, segment: u32) -> Result<Vec<Placed>, SourceError> {
        let places = self.places.lock().unwrap();
        let found = places.iter().filter(|(_, located)| located.segment == segment);
        // The kind is read with the record.
        Ok(found
            .map(|(id, located)| Placed { id: *id, kind: super::ObjectKind::Tree, located: *located })
            .collect())
    }

    fn known_until(&self, segment: u32) -> Result<u64, SourceError> {
        Ok(self.known.lock().unwrap().get(&segment).copied().unwrap_or(0))
    }
}
