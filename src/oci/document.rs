//! The JSON of images: indexes, manifests, configs. Everything optional that images in the wild leave out or set to null.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::ImportError;

/// What a media type means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
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

impl MediaType {
    pub(super) fn of(text: &str) -> Self {
        const OCI: &str = "application/vnd.oci.image.";
        const DOCKER: &str = "application/vnd.docker.";
        if let Some(rest) = text.strip_prefix(OCI) {
            return match rest {
                "index.v1+json" => Self::Index,
                "manifest.v1+json" => Self::Manifest,
                "config.v1+json" => Self::Config,
                _ if rest.ends_with("+encrypted") => Self::EncryptedLayer,
                "layer.v1.tar" | "layer.v1.tar+gzip" | "layer.v1.tar+zstd" => Self::Layer,
                "layer.nondistributable.v1.tar"
                | "layer.nondistributable.v1.tar+gzip"
                | "layer.nondistributable.v1.tar+zstd" => Self::ForeignLayer,
                _ => Self::Other,
            };
        }
        match text.strip_prefix(DOCKER).unwrap_or_default() {
            "distribution.manifest.list.v2+json" => Self::Index,
            "distribution.manifest.v2+json" => Self::Manifest,
            "distribution.manifest.v1+json" | "distribution.manifest.v1+prettyjws" => Self::SchemaOne,
            "container.image.v1+json" => Self::Config,
            "image.rootfs.diff.tar" | "image.rootfs.diff.tar.gzip" | "image.rootfs.diff.tar.zstd" => {
                Self::Layer
            }
            rest if rest.ends_with("+encrypted") => Self::EncryptedLayer,
            "image.rootfs.foreign.diff.tar" | "image.rootfs.foreign.diff.tar.gzip" => Self::ForeignLayer,
            _ => Self::Other,
        }
    }
}

/// Points to a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) platform: Option<PlatformJson>,
    pub(super) artifact_type: Option<String>,
}

impl Descriptor {
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// A platform as an index gives it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PlatformJson {
    #[serde(default)]
    pub(super) os: Option<String>,
    #[serde(default)]
    pub(super) architecture: Option<String>,
    #[serde(default)]
    pub(super) variant: Option<String>,
}

/// An index or a manifest; which, its fields say.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestJson {
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
    /// Only schema 1 has it.
    pub(super) fs_layers: Option<serde::de::IgnoredAny>,
}

/// An image config.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ConfigJson {
    pub(super) created: Option<String>,
    pub(super) os: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) config: Option<RuntimeJson>,
    pub(super) rootfs: Option<RootFsJson>,
}

/// How an image's commands run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RuntimeJson {
    pub(super) env: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) entrypoint: Option<Words>,
    pub(super) cmd: Option<Words>,
    pub(super) labels: Option<BTreeMap<String, Option<String>>>,
    pub(super) exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    pub(super) volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    pub(super) stop_signal: Option<String>,
}

/// A command: a list of words, or one text that very old Docker wrote.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    Many(Vec<String>),
    One(String),
}

impl Words {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::Many(words) => words,
            Self::One(word) if word.is_empty() => Vec::new(),
            Self::One(word) => vec![word],
        }
    }
}

/// The layers as a config counts them.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RootFsJson {
    pub(super) diff_ids: Option<Vec<String>>,
}

/// One image of a docker-archive's `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImageJson {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
}

/// Reads a document.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImportError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImportError::Document { what: what.to_owned(), reason: error.to_string() })
}
