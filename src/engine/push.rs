//! Images to registries.

use std::collections::HashSet;
use std::sync::Arc;

use super::core::Core;
use super::error::{Error, Result};
use super::image_record;
use super::pull::pulled_from;
use super::state::State;
use crate::object::CommitId;
use crate::oci::registry::{self, PushRequest, Reference, RegistryOptions, Upload, UploadBytes};
use crate::oci::{Digest, ImageFacts};

/// How a state is pushed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PushOptions {
    /// How registries are reached.
    pub registry: RegistryOptions,
}

impl PushOptions {
    /// Files of credentials and settings where podman and docker have them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how registries are reached.
    pub fn registry(mut self, options: RegistryOptions) -> Self {
        self.registry = options;
        self
    }
}

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The name it has in the registry.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
    /// Blobs whose bytes were sent.
    pub sent: u64,
    /// Blobs that the registry took over from another of its repositories.
    pub mounted: u64,
    /// Blobs that the registry had.
    pub present: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
}

impl Core {
    pub(super) fn push(
        self: &Arc<Self>,
        state: &State,
        reference: &str,
        options: &PushOptions,
    ) -> Result<Pushed> {
        let reference = Reference::parse(reference)?;
        let (manifest, blobs) = self.uploads(state)?;
        let from = self.relative(&reference, &blobs)?;
        let sent = registry::push(&PushRequest {
            reference: &reference,
            manifest: &manifest,
            blobs: &blobs,
            from: from.as_ref(),
            options: &options.registry,
        })?;
        Ok(Pushed {
            reference: reference.to_string(),
            digest: sent.digest.to_string(),
            sent: sent.sent,
            mounted: sent.mounted,
            present: sent.present,
            sent_bytes: sent.sent_bytes,
        })
    }

    /// The manifest and the other parts of a state as an image.
    fn uploads(self: &Arc<Self>, state: &State) -> Result<(Upload, Vec<Upload>)> {
        let commit = self.name(state)?;
        let image = self.image_of(&commit)?.ok_or_else(|| {
            Error::Unsupported(format!("state {} is no image that was imported unchanged", state.id.short()))
        })?;
        let originals = self.originals();
        let upload = |digest: &Digest, size: u64, media_type: &str| -> Result<Upload> {
            if !originals.has(digest)? {
                return Err(Error::not_found(format!(
                    "the original {digest} of the image is not here: import or pull it again"
                )));
            }
            let bytes = UploadBytes::File(originals.path(digest));
            Ok(Upload { digest: digest.clone(), size, media_type: media_type.to_owned(), bytes })
        };
        let Some(manifest) = &image.manifest else {
            return Err(Error::Unsupported("an image without a manifest cannot be pushed as it came".into()));
        };
        let mut blobs = vec![upload(&image.config.digest, image.config.size, &image.config.media_type)?];
        for layer in &image.layers {
            blobs.push(upload(&layer.digest, layer.size, &layer.media_type)?);
        }
        Ok((upload(&manifest.digest, manifest.size, &manifest.media_type)?, blobs))
    }

    /// The repository of the same registry that has the most of these parts, as far as images that were pulled tell.
    fn relative(&self, reference: &Reference, blobs: &[Upload]) -> Result<Option<Reference>> {
        let wanted: HashSet<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
        let mut best: Option<(usize, Reference)> = None;
        for image in self.images()? {
            let Some(from) = pulled_from(&image.source) else { continue };
            if from.registry() != reference.registry() || from.repository() == reference.repository() {
                continue;
            }
            let Some(facts) = self.image_of(&image.commit)? else { continue };
            let digests = facts.layers.iter().map(|layer| &layer.digest).chain([&facts.config.digest]);
            let common = digests.filter(|digest| wanted.contains(digest)).count();
            if common > best.as_ref().map_or(0, |(most, _)| *most) {
                best = Some((common, from));
            }
        }
        Ok(best.map(|(_, from)| from))
    }

    /// What a commit says of the image it was imported from.
    fn image_of(&self, commit: &CommitId) -> Result<Option<ImageFacts>> {
        let record = self.history()?.read_commit(commit)?.record;
        let value: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        Ok(value.get("image").and_then(image_record::read))
    }
}
