//! The one verb of this room: an image in, a state out.
//!
//! Layers whose chain is known are not read again: a chain of diff_ids says what their tree is. What the image brought is kept among the
//! [`Originals`], unless it is there.

use std::path::Path;

use super::blobs::Parts;
use super::chain::{self, ChainFact, KnownLayers};
use super::decompress::Format;
use super::digest::Digest;
use super::document;
use super::error::ImportError;
use super::feed::{self, Keep, LayerInput, LayerSums};
use super::image::{self, Image, RawDocument, TAR_MEDIA_TYPE};
use super::limits::Limits;
use super::originals::{Form, Originals};
use super::source::ImageSource;
use super::unpack::{Unpacked, unpack};
use crate::object::{Draft, Meta, Platform, SourceError, State, Timestamp, TreeId, TreeSink};
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
    /// What it was as an image; a root archive is none.
    pub image: Option<ImageFacts>,
    /// What was learnt of chains of layers, to be remembered once the batch is committed.
    pub chains: Vec<ChainFact>,
    /// Entries in the archives of the layers that were read.
    pub entries: u64,
    /// Sizes of all files in the archives of the layers that were read, in bytes.
    pub bytes: u64,
}

/// What an image was: enough to find its originals again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The manifest; a docker-archive has none.
    pub manifest: Option<DocumentFacts>,
    /// The image config.
    pub config: DocumentFacts,
    /// The layers, lowest first.
    pub layers: Vec<LayerFacts>,
}

/// What a document was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentFacts {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// How many bytes it has.
    pub size: u64,
}

/// What one layer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// The digest of its bytes as they are kept.
    pub digest: Digest,
    /// The digest of its tar archive.
    pub diff_id: Digest,
    /// Its size as it is kept, in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// An image whose documents were read, and whose layers were not.
#[derive(Debug)]
pub struct Opened {
    image: Image,
    options: ImportOptions,
    /// Whether its layers lie among the originals.
    original: bool,
}

/// Finds an image and reads what it says of itself. `scratch` is where a compressed archive is unpacked; it must stay until the import.
pub fn open(source: &ImageSource, scratch: &Path, options: &ImportOptions) -> Result<Opened, ImportError> {
    let image = image::open(source, scratch, options)?;
    Ok(Opened { image, options: options.clone(), original: false })
}

/// Opens the image of a manifest whose parts are all among the originals, as a pull leaves them.
pub fn open_original(
    manifest: &DocumentFacts,
    originals: &Originals,
    options: &ImportOptions,
) -> Result<Opened, ImportError> {
    let parts = Parts::Originals { originals: originals.clone(), documents: None };
    let descriptor = document::descriptor(&manifest.digest, manifest.size, &manifest.media_type)?;
    let image = image::open_chosen(&parts, &descriptor, None, options)?;
    Ok(Opened { image, options: options.clone(), original: true })
}

impl Opened {
    /// What its file system is, by the ChainID of all its layers; `None` for a root archive, which does not say.
    pub fn chain(&self) -> Option<Digest> {
        chain::of_layers(&self.image.layers).pop()
    }

    /// Reads it into a batch, which the caller commits; on an error the batch should be dropped.
    ///
    /// Layers are never extracted: entries become tree entries, bodies become blobs. Every digest and size that the image gives is checked
    /// of what is read. An original that is not what its digest says is thrown away, so that the next pull brings it again.
    pub fn import(
        self,
        batch: &mut Batch<'_>,
        store: &Store,
        originals: &Originals,
        known: &dyn KnownLayers,
    ) -> Result<Imported, ImportError> {
        let Self { image, options, original } = self;
        let digests: Vec<_> = image.layers.iter().filter_map(|layer| layer.digest.clone()).collect();
        let imported = import_image(image, batch, store, originals, known, &options);
        if let (true, Err(ImportError::Layer { layer, .. })) = (original, &imported) {
            for digest in digests.iter().filter(|digest| digest.to_string() == *layer) {
                originals.discard_if_damaged(digest)?;
            }
        }
        imported
    }
}

/// Opens an image and reads it into a batch, which the caller commits; see [`Opened::import`].
pub fn import(
    source: &ImageSource,
    batch: &mut Batch<'_>,
    store: &Store,
    originals: &Originals,
    known: &dyn KnownLayers,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    open(source, batch.scratch(), options)?.import(batch, store, originals, known)
}

fn import_image(
    mut image: Image,
    batch: &mut Batch<'_>,
    store: &Store,
    originals: &Originals,
    known: &dyn KnownLayers,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let chains = chain::of_layers(&image.layers);
    for (number, layer) in image.layers.iter_mut().enumerate() {
        if image.config_document.is_some() {
            layer.keep = keep_of(layer, number, originals, batch.scratch())?;
        }
    }
    let base = chain::deepest(&chains, &image.layers, store, known)?;
    if let Some(base) = &base {
        batch.rely_on_tree(&base.tree)?;
    }
    let (below, rest) = image.layers.split_at(base.as_ref().map_or(0, |base| base.layers.len()));
    // A layer that need not be read for its files may still have to be for its original.
    let copies = below.iter().map(|layer| copy(layer, &options.limits)).collect::<Result<Vec<_>, _>>()?;
    let mut draft = match &base {
        Some(base) => Draft::from_root(store, base.tree, store.root(&base.tree)?),
        None => Draft::empty(store, Meta::root_owned(0o755, Timestamp::from_seconds(0))),
    };
    let mut trees = Collected::default();
    let mut roots = Vec::new();
    let unpacked = unpack(rest, &mut draft, batch, &options.limits, image.whiteouts, |draft| {
        roots.push(draft.snapshot(&mut trees)?.0);
        Ok(())
    })?;
    let root = match roots.last().or(base.as_ref().map(|base| &base.tree)) {
        Some(root) => *root,
        None => draft.finish(&mut trees)?.0,
    };
    for (id, bytes) in trees.0 {
        batch.put_tree(id, bytes)?;
    }
    let state = State { root, config: image.config };
    batch.put_state(&state)?;

    let Unpacked { sums, entries, bytes, .. } = unpacked;
    let mut layers: Vec<LayerFacts> = Vec::new();
    let known_layers = base.into_iter().flat_map(|base| base.layers);
    for (layer, (known, copied)) in below.iter().zip(known_layers.zip(copies)) {
        layers.push(match (copied, &layer.digest) {
            (Some(sums), _) => adopted(layer, sums, originals)?,
            (None, None) => known,
            (None, Some(digest)) => LayerFacts {
                digest: digest.clone(),
                size: layer.section.len().unwrap_or(known.size),
                media_type: layer.media_type.clone(),
                ..known
            },
        });
    }
    for (layer, sums) in rest.iter().zip(sums) {
        layers.push(adopted(layer, sums, originals)?);
    }
    let learnt = chains.into_iter().skip(below.len()).zip(roots).zip(&layers[below.len()..]);
    let learnt = learnt.map(|((chain, tree), layer)| ChainFact { chain, tree, layer: layer.clone() });
    Ok(Imported {
        root,
        state,
        name_hint: image.name,
        created_seconds: image.created_seconds,
        chains: learnt.collect(),
        image: match image.config_document {
            None => None,
            Some(config) => Some(ImageFacts {
                manifest: image.manifest.as_ref().map(|manifest| kept(manifest, originals)).transpose()?,
                config: kept(&config, originals)?,
                layers,
            }),
        },
        entries,
        bytes,
    })
}

/// What is to be kept of a layer: what an OCI image describes byte by byte, so; of the others the archive is what counts.
fn keep_of(
    layer: &LayerInput,
    number: usize,
    originals: &Originals,
    scratch: &Path,
) -> Result<Keep, ImportError> {
    let named = layer.digest.as_ref().or(layer.diff_id.as_ref());
    if let Some(digest) = named
        && originals.form(digest)?.is_some()
    {
        return Ok(Keep::Nothing);
    }
    let path = scratch.join(format!("original-{number}"));
    let failed =
        |error: std::io::Error| ImportError::Layer { layer: layer.name.clone(), source: error.into() };
    let len = layer.section.len().unwrap_or(0);
    Ok(match layer.digest.is_some() && layer.format().map_err(failed)? != Format::Plain {
        true => {
            originals.reserve(len)?;
            Keep::Copy(path)
        }
        false => {
            // Headers of 512 bytes a file, mostly zeros, and their blobs' names.
            originals.reserve(len / 32)?;
            Keep::Skeleton(path)
        }
    })
}

/// Copies a layer whose files are known; `None` when its original is there.
fn copy(layer: &LayerInput, limits: &Limits) -> Result<Option<LayerSums>, ImportError> {
    let failed = |source| ImportError::Layer { layer: layer.name.clone(), source };
    match layer.keep {
        Keep::Copy(_) => feed::copy_layer(layer, limits).map(Some).map_err(failed),
        Keep::Nothing | Keep::Skeleton(_) => Ok(None),
    }
}

/// Takes in what was kept of a layer.
fn adopted(layer: &LayerInput, sums: LayerSums, originals: &Originals) -> Result<LayerFacts, ImportError> {
    let (diff_id, media_type) = (sums.diff_id, layer.media_type.clone());
    // Without a digest of its own it is the archive that counts, however it was compressed.
    let facts = match layer.digest.is_some() {
        true => LayerFacts { digest: sums.digest, diff_id, size: sums.size, media_type },
        false => LayerFacts {
            digest: diff_id.clone(),
            diff_id,
            size: sums.tar_size,
            media_type: TAR_MEDIA_TYPE.to_owned(),
        },
    };
    match &layer.keep {
        Keep::Nothing => {}
        Keep::Copy(path) => originals.adopt_form(&facts.digest, Form::Whole, path)?,
        Keep::Skeleton(path) => originals.adopt_form(&facts.digest, Form::Skeleton, path)?,
    }
    Ok(facts)
}

fn kept(document: &RawDocument, originals: &Originals) -> Result<DocumentFacts, ImportError> {
    originals.keep(&document.digest, &document.bytes)?;
    Ok(DocumentFacts {
        digest: document.digest.clone(),
        media_type: document.media_type.clone(),
        size: document.bytes.len() as u64,
    })
}

/// Trees on their way to the batch, which the threads that write files are using.
#[derive(Default)]
struct Collected(Vec<(TreeId, Vec<u8>)>);

impl TreeSink for Collected {
    fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.0.push((id, bytes));
        Ok(())
    }
}
