//! Images to registries.

use std::collections::HashSet;
use std::sync::Arc;

use super::core::Core;
use super::error::Result;
use super::export::ExportOptions;
use super::image_record;
use super::pull::pulled_from;
use super::state::State;
use crate::object::CommitId;
use crate::oci::registry::{self, PushRequest, Reference, RegistryOptions, Upload, UploadBytes};
use crate::oci::{Digest, ImageFacts, Part, PartBytes};

/// How a state is pushed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PushOptions {
    /// How the image is made.
    pub export: ExportOptions,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

impl PushOptions {
    /// As it came when nobody changed it, else one layer; files of credentials and settings where podman and docker have them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how the image is made.
    pub fn export(mut self, options: ExportOptions) -> Self {
        self.export = options;
        self
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
    /// Whether this is, byte for byte, the image that came in.
    pub unchanged: bool,
    /// What could not be made part of the image, with the reason.
    pub skipped: Vec<(String, String)>,
    /// What is not as one would expect, for people.
    pub notes: Vec<String>,
}

impl From<&Part> for Upload {
    fn from(part: &Part) -> Self {
        let bytes = match &part.bytes {
            PartBytes::Memory(bytes) => UploadBytes::Memory(bytes.clone()),
            // The registry checks the digest of both.
            PartBytes::Made(path) | PartBytes::Original(path) => UploadBytes::File(path.clone()),
        };
        Self { digest: part.digest.clone(), size: part.size, media_type: part.media_type.clone(), bytes }
    }
}

impl Core {
    pub(super) fn push(
        self: &Arc<Self>,
        state: &State,
        reference: &str,
        options: &PushOptions,
    ) -> Result<Pushed> {
        let reference = Reference::parse(reference)?;
        let built = self
            .build_image(state, &options.export.for_layers(options.export.compression.unwrap_or_default()))?;
        let layers = built.layers.iter().map(|layer| Upload::from(&layer.part));
        let blobs: Vec<Upload> = [Upload::from(&built.config)].into_iter().chain(layers).collect();
        let from = self.relative(&reference, &blobs)?;
        let sent = registry::push(&PushRequest {
            reference: &reference,
            manifest: &Upload::from(&built.manifest),
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
            unchanged: built.unchanged,
            skipped: super::export::reasons(built.skipped.clone()),
            notes: built.notes.clone(),
        })
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
