//! The documents of images as `oci-spec` types, and what their media types mean.
//!
//! `oci-spec` reads what the specification allows; what images in the wild do beyond it is put right first, on the JSON value (see the
//! `normalize` module). What is hashed and kept is always the bytes as they were.

use oci_spec::image::{self as spec, ImageConfiguration, ImageIndex, ImageManifest, OciLayout};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use oci_spec::image::{Descriptor, MediaType, Platform as PlatformSpec};

use super::digest::Digest;
use super::error::ImportError;
use super::normalize;

/// The versions of the image layout that are read begin with this.
const LAYOUT_MAJOR: &str = "1.";

/// Keys of annotations.
pub(super) mod annotation_key {
    /// A layout's name for an image.
    pub(in super::super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
    pub(in super::super) const CONTAINERD_NAME: &str = "io.containerd.image.name";
    pub(in super::super) const DOCKER_REFERENCE_TYPE: &str = "vnd.docker.reference.type";
}

/// What a media type means here, OCI's and Docker's names for it alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Index,
    Manifest,
    Config,
    Layer,
    /// A layer that registries may refuse to hand out; its bytes may be absent.
    ForeignLayer,
    EncryptedLayer,
    SchemaOne,
    Other,
}

impl Role {
    pub(super) fn of(media_type: &MediaType) -> Self {
        match media_type {
            MediaType::ImageIndex => Self::Index,
            MediaType::ImageManifest => Self::Manifest,
            MediaType::ImageConfig => Self::Config,
            MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => Self::Layer,
            MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd => Self::ForeignLayer,
            MediaType::Other(text) => Self::of_other(text),
            _ => Self::Other,
        }
    }

    /// Docker's own types, which `oci-spec` does not know, and encrypted layers.
    fn of_other(text: &str) -> Self {
        const OCI: &str = "application/vnd.oci.image.";
        const DOCKER: &str = "application/vnd.docker.";
        if (text.starts_with(OCI) || text.starts_with(DOCKER)) && text.ends_with("+encrypted") {
            return Self::EncryptedLayer;
        }
        match text.strip_prefix(DOCKER).unwrap_or_default() {
            "distribution.manifest.list.v2+json" => Self::Index,
            "distribution.manifest.v2+json" => Self::Manifest,
            "distribution.manifest.v1+json" | "distribution.manifest.v1+prettyjws" => Self::SchemaOne,
            "container.image.v1+json" => Self::Config,
            "image.rootfs.diff.tar" | "image.rootfs.diff.tar.gzip" | "image.rootfs.diff.tar.zstd" => {
                Self::Layer
            }
            "image.rootfs.foreign.diff.tar" | "image.rootfs.foreign.diff.tar.gzip" => Self::ForeignLayer,
            _ => Self::Other,
        }
    }
}

/// A descriptor of its three parts.
pub(super) fn descriptor(digest: &Digest, size: u64, media_type: &str) -> Result<Descriptor, ImportError> {
    let text = digest.to_string();
    let digest = text.parse::<spec::Digest>().map_err(|error| refused(&text, &error.to_string()))?;
    Ok(Descriptor::new(MediaType::from(media_type), size, digest))
}

/// The value of an annotation that is there and not empty.
pub(super) fn annotation<'d>(descriptor: &'d Descriptor, key: &str) -> Option<&'d str> {
    descriptor.annotations().as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// The kind of artifact that something says it is, when it says so.
pub(super) fn artifact_type(given: &Option<MediaType>) -> Option<&MediaType> {
    given.as_ref().filter(|kind| !kind.as_ref().is_empty())
}

/// What a descriptor can point to besides configs and layers.
#[derive(Debug)]
pub(super) enum Document {
    Index(Box<ImageIndex>),
    Manifest(Box<ImageManifest>),
    /// Neither: an artifact of some kind, or a manifest that cannot be read, and why not.
    Other {
        artifact: bool,
        media_type: Option<MediaType>,
        reason: &'static str,
    },
}

impl Document {
    /// The media type that the document itself gives.
    pub(super) fn media_type(&self) -> Option<&MediaType> {
        match self {
            Self::Index(index) => index.media_type().as_ref(),
            Self::Manifest(manifest) => manifest.media_type().as_ref(),
            Self::Other { media_type, .. } => media_type.as_ref(),
        }
    }

    /// Reads an index or a manifest; which, its fields say.
    pub(super) fn read(bytes: &[u8], what: &str) -> Result<Self, ImportError> {
        let mut value = parse(bytes, what)?;
        let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
        let (index, config, layers) = (has("manifests"), has("config"), has("layers"));
        // One document that two programs read as two things is an attack (CVE-2021-41190).
        if index && (config || layers) {
            return Err(refused(what, "it is an index and a manifest at once"));
        }
        if index {
            normalize::index(&mut value)?;
            return Ok(Self::Index(Box::new(typed(value, what)?)));
        }
        let schema_one = has("fsLayers");
        // Go writes the empty list of an image without layers as null.
        let no_layers = value.get("layers").is_some_and(Value::is_null);
        if config && !schema_one && (layers || no_layers) {
            normalize::manifest(&mut value)?;
            return Ok(Self::Manifest(Box::new(typed(value, what)?)));
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(MediaType::from);
        let reason = match schema_one {
            true => "it is of Docker's schema 1: pull it again with a newer Docker",
            false => "it has no config or no layers",
        };
        let artifact = artifact_type(&text("artifactType")).is_some();
        Ok(Self::Other { artifact, media_type: text("mediaType"), reason })
    }
}

/// Reads the index at the top of a layout.
pub(super) fn index(bytes: &[u8], what: &str) -> Result<ImageIndex, ImportError> {
    let mut value = parse(bytes, what)?;
    if value.get("manifests").is_none_or(Value::is_null) {
        return Err(refused(what, "it lists no manifests"));
    }
    normalize::index(&mut value)?;
    typed(value, what)
}

/// Reads an image's config.
pub(super) fn config(bytes: &[u8], what: &str) -> Result<ImageConfiguration, ImportError> {
    let mut value = parse(bytes, what)?;
    normalize::config(&mut value);
    typed(value, what)
}

/// Makes sure that a layout is of a version that is read.
pub(super) fn check_layout(bytes: &[u8], what: &str) -> Result<(), ImportError> {
    let layout: OciLayout = typed(parse(bytes, what)?, what)?;
    match layout.image_layout_version() {
        version if version.starts_with(LAYOUT_MAJOR) => Ok(()),
        version => Err(refused(what, &format!("it is of version `{version}`, and 1.0 is what is known"))),
    }
}

/// One image of a docker-archive's `manifest.json`, which no specification describes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImageJson {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
}

/// Reads a docker-archive's `manifest.json`.
pub(super) fn docker_images(bytes: &[u8], what: &str) -> Result<Vec<DockerImageJson>, ImportError> {
    typed(parse(bytes, what)?, what)
}

/// The text of a platform's three parts; one that is missing is empty.
pub(super) fn platform_of(spec: &spec::Platform) -> crate::object::Platform {
    crate::object::Platform {
        os: spec.os().to_string(),
        architecture: spec.architecture().to_string(),
        variant: spec.variant().clone().unwrap_or_default(),
    }
}

fn parse(bytes: &[u8], what: &str) -> Result<Value, ImportError> {
    normalize::parse(bytes).map_err(|error| refused(what, &error.to_string()))
}

fn typed<T: DeserializeOwned>(value: Value, what: &str) -> Result<T, ImportError> {
    serde_json::from_value(value).map_err(|error| refused(what, &error.to_string()))
}

fn refused(what: &str, reason: &str) -> ImportError {
    ImportError::Document { what: what.to_owned(), reason: reason.to_owned() }
}
