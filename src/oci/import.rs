//! The one verb of this room: an image in, a state out.

use super::digest::Digest;
use super::error::ImportError;
use super::image;
use super::limits::Limits;
use super::source::ImageSource;
use super::unpack::unpack;
use crate::object::{Draft, Meta, Platform, State, Timestamp, TreeId};
use crate::store::{Batch, Store};

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Which of several images to take; `None` for the one of this machine.
    pub platform: Option<Platform>,
    /// What the image may demand.
    pub limits: Limits,
}

/// An image that is in the batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The root tree.
    pub root: TreeId,
    /// The root tree with the runtime config from the image's.
    pub state: State,
    /// What the image calls itself: a tag or a name from an annotation.
    pub name_hint: Option<String>,
    /// When the image was made, in seconds since 1970.
    pub created_seconds: Option<i64>,
    /// The manifest as it was written; only OCI images have one.
    pub manifest: Option<Vec<u8>>,
    /// The image config as it was written.
    pub config: Option<Vec<u8>>,
    /// The layers, lowest first.
    pub layers: Vec<LayerFacts>,
    /// Entries in all layers' archives.
    pub entries: u64,
    /// Sizes of all files in all layers' archives, in bytes.
    pub bytes: u64,
}

/// What one layer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// The digest of its bytes as they lay in the image, checked if the image gave one.
    pub digest: Digest,
    /// The digest of its tar archive, checked if the image gave one.
    pub diff_id: Digest,
    /// Its size as it lay in the image, in bytes.
    pub size: u64,
    /// Its media type, as the image gives it.
    pub media_type: String,
}

/// Reads an image into a batch, which the caller commits; on an error the batch should be dropped.
///
/// Layers are never extracted: entries become tree entries, bodies become blobs. Every digest and size that the image gives is checked.
pub fn import(
    source: &ImageSource,
    batch: &mut Batch<'_>,
    store: &Store,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let image = image::open(source, batch.scratch(), options)?;
    let mut draft = Draft::empty(store, Meta::root_owned(0o755, Timestamp::from_seconds(0)));
    let unpacked = unpack(&image.layers, &mut draft, batch, &options.limits, image.whiteouts)?;
    let (root, _) = draft.finish(batch)?;
    let state = State { root, config: image.config };
    batch.put_state(&state)?;
    let layers = unpacked.sums.into_iter().zip(image.layers).map(|(sums, layer)| LayerFacts {
        digest: sums.digest,
        diff_id: sums.diff_id,
        size: sums.size,
        media_type: layer.media_type,
    });
    Ok(Imported {
        root,
        state,
        name_hint: image.name,
        created_seconds: image.created_seconds,
        manifest: image.raw_manifest,
        config: image.raw_config,
        layers: layers.collect(),
        entries: unpacked.entries,
        bytes: unpacked.bytes,
    })
}
