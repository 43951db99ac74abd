//! What can go wrong with objects at rest.

use std::fmt::Display;

use super::segment::ObjectKind;
use crate::disk::DiskError;
use crate::object::SourceError;

/// Reading or writing objects failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such object.
    #[error("{kind} {id} is missing from the store")]
    Missing {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// The store may only be read.
    #[error("the store is read-only: {0}; use one that you may write, with --store")]
    ReadOnly(String),
    /// The object's bytes are not what its name says.
    #[error("{kind} {id} is damaged: {reason}")]
    Damaged {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// What a long piece of work relied on was deleted before it was done.
    #[error("{kind} {id} was removed by `treebox gc` while it was being used; do it again")]
    Vanished {
        /// The kind of object.
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// The store may not grow so much.
    #[error(
        "the store may take {max_bytes} bytes, and {wanted_bytes} more do not fit: nothing more can be removed; raise the limit with \
         `treebox gc --max-size`, or delete branches, tags and images"
    )]
    NoRoom {
        /// How large it may be.
        max_bytes: u64,
        /// How much was asked for.
        wanted_bytes: u64,
    },
    /// A segment file is not one.
    #[error("segment {segment} is damaged: {reason}")]
    Segment {
        /// The segment's number.
        segment: u32,
        /// What is wrong.
        reason: String,
    },
    /// The catalog failed.
    #[error("the catalog of objects failed: {0}")]
    Catalog(SourceError),
    /// A file verb failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl StoreError {
    pub(super) fn missing(kind: ObjectKind, id: &dyn Display) -> Self {
        Self::Missing { kind: kind.word(), id: id.to_string() }
    }

    pub(super) fn damaged(kind: ObjectKind, id: &dyn Display, reason: impl Display) -> Self {
        Self::Damaged { kind: kind.word(), id: id.to_string(), reason: reason.to_string() }
    }

    /// Whether the store may not grow so much.
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }

    /// Whether doing the same work again is all that is needed.
    pub fn is_vanished(&self) -> bool {
        matches!(self, Self::Vanished { .. })
    }

    /// Whether the object simply is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}
