//! From a source to the list of its layers: indexes, manifests and configs read and checked, layers not yet.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::path::Path;

use oci_spec::image::{ImageConfiguration, ImageManifest};

use super::blobs::{DocumentKind, Parts};
use super::config::{created_seconds, runtime_config};
use super::decompress::{Decoder, Format};
use super::digest::{Algorithm, Digest};
use super::document::{self, Descriptor, Document, MediaType, Role, artifact_type};
use super::error::{ImportError, LayerError};
use super::feed::{Keep, LayerInput};
use super::import::ImportOptions;
use super::limits::{Limits, within, within_ratio};
use super::section::Section;
use super::select::{self, Chosen, full_name, unsupported};
use super::source::{ImageSource, Reading};
use crate::disk::{DiskError, create_new};
use crate::object::{Config, Platform};

pub(super) const TAR_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image whose layers are still to be read.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) layers: Vec<LayerInput>,
    /// Whether names such as `.wh.x` are whiteouts.
    pub(super) whiteouts: bool,
    pub(super) config: Config,
    pub(super) created_seconds: Option<i64>,
    pub(super) name: Option<String>,
    /// Only OCI images have one.
    pub(super) manifest: Option<RawDocument>,
    /// A root archive has none.
    pub(super) config_document: Option<RawDocument>,
}

/// A document as the image has it.
#[derive(Debug)]
pub(super) struct RawDocument {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

/// Finds the image. `scratch` is where a compressed archive is unpacked, once.
pub(super) fn open(
    source: &ImageSource,
    scratch: &Path,
    options: &ImportOptions,
) -> Result<Image, ImportError> {
    match source {
        ImageSource::OciLayout { dir, reference } => {
            open_oci(&Parts::Directory(dir.clone()), reference.as_deref(), options)
        }
        ImageSource::OciArchive { file, reference } => {
            open_oci(&archive(file, scratch, &options.limits)?, reference.as_deref(), options)
        }
        ImageSource::DockerArchive { file, name } => {
            open_docker(&archive(file, scratch, &options.limits)?, name.as_deref(), options)
        }
        ImageSource::Tar { file } => {
            let layer = LayerInput {
                name: file.display().to_string(),
                section: Section::open(file)?,
                digest: None,
                diff_id: None,
                media_type: TAR_MEDIA_TYPE.into(),
                keep: Keep::Nothing,
            };
            let mut config = Config::default();
            if let Some(platform) = &options.platform {
                config.platform = platform.clone();
            }
            Ok(Image {
                layers: vec![layer],
                whiteouts: false,
                config,
                created_seconds: None,
                name: None,
                manifest: None,
                config_document: None,
            })
        }
    }
}

pub(super) fn open_oci(
    parts: &Parts,
    reference: Option<&str>,
    options: &ImportOptions,
) -> Result<Image, ImportError> {
    let limits = &options.limits;
    if !parts.has("index.json") {
        let path = parts.path().to_owned();
        return Err(ImportError::NotAnImage { path, reason: "it has no index.json".into() });
    }
    if parts.has("oci-layout") {
        document::check_layout(&parts.read("oci-layout", "oci-layout", limits)?, "oci-layout")?;
    }
    let index = document::index(&parts.read("index.json", "index.json", limits)?, "index.json")?;
    let Chosen { descriptor, name } =
        select::choose(parts, index.manifests(), reference, options.platform.as_ref(), limits)?;
    open_chosen(parts, &descriptor, name, options)
}

/// The image of a manifest.
pub(super) fn open_chosen(
    parts: &Parts,
    descriptor: &Descriptor,
    name: Option<String>,
    options: &ImportOptions,
) -> Result<Image, ImportError> {
    let described = describe(parts, descriptor, &options.limits)?;
    let Described { manifest, manifest_document, config, config_document, diff_ids } = described;
    let layers = manifest.layers().iter().zip(diff_ids);
    let layers = layers.map(|(layer, diff_id)| oci_layer(parts, layer, diff_id)).collect::<Result<_, _>>()?;
    finish(layers, &config, name, Some(manifest_document), config_document, options)
}

/// What an image says of itself; its layers need not be there yet.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) manifest: Box<ImageManifest>,
    manifest_document: RawDocument,
    config: ImageConfiguration,
    config_document: RawDocument,
    diff_ids: Vec<Digest>,
}

/// Reads a manifest and the config that belongs to it.
pub(super) fn describe(
    parts: &Parts,
    descriptor: &Descriptor,
    limits: &Limits,
) -> Result<Described, ImportError> {
    let (document, raw_manifest) = select::document(parts, descriptor, limits)?;
    let no_image = "it is no container image but some other artifact";
    let manifest = match document {
        Document::Manifest(manifest) if artifact_type(manifest.artifact_type()).is_none() => manifest,
        // `select::document` gives no index for a manifest's media type.
        Document::Manifest(_) | Document::Index(_) | Document::Other { artifact: true, .. } => {
            return Err(unsupported(descriptor, no_image));
        }
        Document::Other { reason, .. } => {
            let what = format!("manifest {}", descriptor.digest());
            return Err(ImportError::Document { what, reason: reason.into() });
        }
    };
    let config = manifest.config();
    if Role::of(config.media_type()) != Role::Config {
        return Err(unsupported(config, no_image));
    }
    let digest = Digest::require(config.digest().as_ref(), "the digest of the config")?;
    let config_document = RawDocument {
        bytes: parts.read_checked(DocumentKind::Config, &digest, config.size(), limits)?,
        media_type: config.media_type().to_string(),
        digest,
    };
    let config = document::config(&config_document.bytes, &format!("config {}", config_document.digest))?;
    let manifest_document = RawDocument {
        digest: Digest::require(descriptor.digest().as_ref(), "the digest of a manifest")?,
        media_type: descriptor.media_type().to_string(),
        bytes: raw_manifest,
    };
    let diff_ids = diff_ids(&config, manifest.layers().len(), limits)?;
    Ok(Described { manifest, manifest_document, config, config_document, diff_ids })
}

fn oci_layer(parts: &Parts, layer: &Descriptor, diff_id: Digest) -> Result<LayerInput, ImportError> {
    let digest = Digest::require(layer.digest().as_ref(), "the digest of a layer")?;
    match Role::of(layer.media_type()) {
        Role::Layer => {}
        Role::ForeignLayer if parts.has(&digest.blob_path()) => {}
        Role::ForeignLayer => {
            return Err(unsupported(
                layer,
                "its bytes are not part of the image and are not fetched from elsewhere",
            ));
        }
        Role::EncryptedLayer => {
            return Err(unsupported(layer, "encrypted layers cannot be read: decrypt the image first"));
        }
        _ => return Err(unsupported(layer, "it is no layer that treebox knows")),
    }
    parts.layer(digest, layer.size(), layer.media_type().to_string(), diff_id)
}

pub(super) fn open_docker(
    parts: &Parts,
    wanted: Option<&str>,
    options: &ImportOptions,
) -> Result<Image, ImportError> {
    let limits = &options.limits;
    let path = parts.path().to_owned();
    if !parts.has("manifest.json") {
        return Err(ImportError::NotAnImage { path, reason: "it has no manifest.json".into() });
    }
    let raw_manifest = parts.read("manifest.json", "manifest.json", limits)?;
    let images = document::docker_images(&raw_manifest, "manifest.json")?;
    let tags = |image: &document::DockerImageJson| image.repo_tags.clone().unwrap_or_default();
    let available = || {
        let names = images.iter().map(|image| tags(image).first().unwrap_or(&image.config).clone());
        names.collect::<Vec<_>>().join(", ")
    };
    let image = match (wanted, images.as_slice()) {
        (None, [image]) => image,
        (None, []) => {
            return Err(ImportError::NotAnImage { path, reason: "its manifest.json is empty".into() });
        }
        (None, _) => return Err(ImportError::SeveralImages { path, available: available() }),
        (Some(wanted), images) => images
            .iter()
            .find(|image| {
                image.config == wanted || tags(image).iter().any(|tag| full_name(tag) == full_name(wanted))
            })
            .ok_or_else(|| ImportError::NoSuchName {
                path,
                wanted: wanted.to_owned(),
                available: available(),
            })?,
    };
    let what = format!("config {}", image.config);
    let raw_config = parts.read(&image.config, &what, limits)?;
    let config = document::config(&raw_config, &what)?;
    let names = image.layers.clone().unwrap_or_default();
    let diff_ids = diff_ids(&config, names.len(), limits)?;
    let layers = names.into_iter().zip(diff_ids).map(|(name, diff_id)| {
        let section = parts.require(&name, "a layer")?;
        let media_type = TAR_MEDIA_TYPE.to_owned();
        Ok(LayerInput {
            name,
            section,
            digest: None,
            diff_id: Some(diff_id),
            media_type,
            keep: Keep::Nothing,
        })
    });
    let layers = layers.collect::<Result<_, ImportError>>()?;
    let name = wanted.map(str::to_owned).or_else(|| tags(image).first().cloned());
    let config_document = RawDocument {
        digest: Digest::of(Algorithm::Sha256, &raw_config),
        media_type: MediaType::ImageConfig.to_string(),
        bytes: raw_config,
    };
    finish(layers, &config, name, None, config_document, options)
}

fn finish(
    layers: Vec<LayerInput>,
    config: &ImageConfiguration,
    name: Option<String>,
    manifest: Option<RawDocument>,
    config_document: RawDocument,
    options: &ImportOptions,
) -> Result<Image, ImportError> {
    let runtime = runtime_config(config);
    if let Some(wanted) = &options.platform
        && !same_kind(wanted, &runtime.platform)
    {
        return Err(ImportError::NoPlatform {
            wanted: wanted.to_string(),
            available: runtime.platform.to_string(),
        });
    }
    Ok(Image {
        layers,
        whiteouts: true,
        created_seconds: created_seconds(config),
        config: runtime,
        name,
        manifest,
        config_document: Some(config_document),
    })
}

fn same_kind(left: &Platform, right: &Platform) -> bool {
    left.os == right.os && left.architecture == right.architecture
}

/// The digests of the tar archives, as many as layers; they are text in the config and anything may stand there.
fn diff_ids(config: &ImageConfiguration, layers: usize, limits: &Limits) -> Result<Vec<Digest>, ImportError> {
    within("layers", limits.layers, layers as u64, || "the number of layers".into())?;
    let texts = config.rootfs().diff_ids();
    if texts.len() != layers {
        return Err(ImportError::Mismatch {
            what: "the image's list of layers".into(),
            expected: format!("{} layers as its config says", texts.len()),
            found: layers.to_string(),
        });
    }
    texts.iter().map(|text| Digest::require(text, "a diff_id of the config")).collect()
}

/// The members of an archive. A compressed one is unpacked first: its members have no place that could be read at.
fn archive(file: &Path, scratch: &Path, limits: &Limits) -> Result<Parts, ImportError> {
    let section = Section::open(file)?;
    let failed = |source| ImportError::Layer { layer: file.display().to_string(), source };
    let mut head = Vec::new();
    if section.len().is_some() {
        let mut reader = section.reader().take(Format::SNIFF_BYTES as u64);
        reader.read_to_end(&mut head).map_err(|error| failed(error.into()))?;
        if Format::sniff(&head) == Format::Plain {
            return Parts::of_archive(file, &section, limits);
        }
    }
    let plain = scratch.join("archive.tar");
    unpack_archive(&section, &plain, limits).map_err(failed)?;
    let opened = Section::of(File::open(&plain).map_err(|error| DiskError::new("open", &plain, error))?);
    let opened = opened.map_err(|error| DiskError::new("read", &plain, error))?;
    // The open file is all that is needed; its name would be in the way of the batch.
    std::fs::remove_file(&plain).map_err(|error| DiskError::new("remove", &plain, error))?;
    Parts::of_archive(file, &opened, limits)
}

fn unpack_archive(section: &Section, plain: &Path, limits: &Limits) -> Result<(), LayerError> {
    let mut output = create_new(plain).map_err(|error| LayerError::Store(error.into()))?;
    let mut input = section.reader();
    let format = Format::sniff(input.fill_buf()?);
    let mut reading = Reading(Decoder::new(format, input, limits)?);
    let mut buffer = vec![0; 1 << 17];
    let mut total = 0u64;
    loop {
        let count = reading.0.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        total += count as u64;
        within("total_bytes", limits.total_bytes, total, || "the size of the archive".into())?;
        if format != Format::Plain {
            let taken = reading.0.input().map_or(0, |input| input.taken());
            within_ratio(limits, total, taken, || "how far the archive expands".into())?;
        }
        let written = output.write_all(&buffer[..count]);
        written.map_err(|error| LayerError::Store(DiskError::new("write to", plain, error).into()))?;
    }
    reading.0.finish()?;
    Ok(())
}
