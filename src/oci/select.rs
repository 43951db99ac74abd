//! Which image of an index is meant: by name, then by platform.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::blobs::{DocumentKind, Parts};
use super::digest::Digest;
use super::document::annotation_key::{CONTAINERD_NAME, DOCKER_REFERENCE_TYPE, REF_NAME};
use super::document::{Descriptor, Document, PlatformSpec, Role, annotation, artifact_type, platform_of};
use super::error::ImportError;
use super::limits::{Limits, within};
use crate::object::Platform;

/// The manifest that was chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) descriptor: Descriptor,
    pub(super) name: Option<String>,
}

struct Search<'p> {
    parts: &'p Parts,
    limits: &'p Limits,
    looked_at: u64,
    found: Vec<Chosen>,
    skipped: Vec<Descriptor>,
}

/// Chooses from the top-level index of a layout.
///
/// `reference` is a name from an annotation or a digest. Without one, all images of the index must have the same name or none. `wanted` is
/// asked for in words when it is given, else the host's is taken, and an image for another platform if it is the only one.
pub(super) fn choose(
    parts: &Parts,
    index: &[Descriptor],
    reference: Option<&str>,
    wanted: Option<&Platform>,
    limits: &Limits,
) -> Result<Chosen, ImportError> {
    let path = || parts.path().to_owned();
    let named: Vec<&Descriptor> = match reference {
        Some(reference) => index.iter().filter(|descriptor| answers_to(descriptor, reference)).collect(),
        None => index.iter().collect(),
    };
    let names = |descriptors: &mut dyn Iterator<Item = &Descriptor>| {
        descriptors.filter_map(name_of).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let listed = |names: BTreeSet<String>| match names.is_empty() {
        true => "images without a name".to_owned(),
        false => names.into_iter().collect::<Vec<_>>().join(", "),
    };
    if let (true, Some(wanted)) = (named.is_empty(), reference) {
        let available = listed(names(&mut index.iter()));
        return Err(ImportError::NoSuchName { path: path(), wanted: wanted.to_owned(), available });
    }
    let all = names(&mut named.iter().copied());
    if reference.is_none() && all.len() > 1 {
        return Err(ImportError::SeveralImages { path: path(), available: listed(all) });
    }
    let mut search = Search { parts, limits, looked_at: 0, found: Vec::new(), skipped: Vec::new() };
    for descriptor in named {
        search.visit(descriptor, name_of(descriptor), 0)?;
    }
    search.best(wanted)
}

impl Search<'_> {
    fn visit(&mut self, descriptor: &Descriptor, name: Option<&str>, depth: u64) -> Result<(), ImportError> {
        self.looked_at += 1;
        within("index_manifests", self.limits.index_manifests, self.looked_at, || {
            "the number of manifests in the index".into()
        })?;
        match Role::of(descriptor.media_type()) {
            Role::Index => {
                within("index_depth", self.limits.index_depth, depth + 1, || {
                    "the depth of indexes within indexes".into()
                })?;
                let (document, _) = document(self.parts, descriptor, self.limits)?;
                let below = match &document {
                    Document::Index(index) => index.manifests().as_slice(),
                    _ => &[],
                };
                for below in below {
                    self.visit(below, name_of(below).or(name), depth + 1)?;
                }
            }
            Role::Manifest if !is_no_image(descriptor) => {
                self.found.push(Chosen { descriptor: descriptor.clone(), name: name.map(str::to_owned) });
            }
            Role::SchemaOne => {
                return Err(unsupported(
                    descriptor,
                    "it is of Docker's schema 1: pull it again with a newer Docker",
                ));
            }
            _ => self.skipped.push(descriptor.clone()),
        }
        Ok(())
    }

    fn best(self, wanted: Option<&Platform>) -> Result<Chosen, ImportError> {
        let host = Platform::host();
        let target = wanted.unwrap_or(&host);
        let only = self.found.len() == 1 && wanted.is_none();
        let platforms: BTreeSet<String> =
            self.found.iter().map(|chosen| shown(chosen.descriptor.platform().as_ref())).collect();
        let ranked = self.found.into_iter().filter_map(|chosen| {
            let rank = rank(chosen.descriptor.platform().as_ref(), target);
            Some((rank.or(only.then_some((u8::MAX, Reverse(String::new()))))?, chosen))
        });
        // Of equal ones the first counts, as the image specification says.
        match ranked.min_by(|(one, _), (other, _)| one.cmp(other)) {
            Some((_, chosen)) => Ok(chosen),
            None => match (platforms.is_empty(), self.skipped.first()) {
                (true, Some(skipped)) => {
                    Err(unsupported(skipped, "it is no container image but some other artifact"))
                }
                _ => Err(ImportError::NoPlatform {
                    wanted: target.to_string(),
                    available: platforms.into_iter().collect::<Vec<_>>().join(", "),
                }),
            },
        }
    }
}

/// Reads a manifest or index that a descriptor points to, and makes sure that it is what the descriptor says.
pub(super) fn document(
    parts: &Parts,
    descriptor: &Descriptor,
    limits: &Limits,
) -> Result<(Document, Vec<u8>), ImportError> {
    let digest = Digest::require(descriptor.digest().as_ref(), "the digest of a manifest")?;
    let what = format!("manifest {digest}");
    let bytes = parts.read_checked(DocumentKind::Manifest, &digest, descriptor.size(), limits)?;
    let document = Document::read(&bytes, &what)?;
    let promised = descriptor.media_type();
    let is_index = matches!(document, Document::Index(_));
    let reason = if is_index != (Role::of(promised) == Role::Index) {
        Some(format!("it is not of the media type `{promised}` that its descriptor gives"))
    } else {
        let own = document.media_type().filter(|own| *own != promised);
        own.map(|own| format!("it says it is `{own}`, its descriptor says `{promised}`"))
    };
    match reason {
        Some(reason) => Err(ImportError::Document { what, reason }),
        None => Ok((document, bytes)),
    }
}

/// An error about a part's media type.
pub(super) fn unsupported(descriptor: &Descriptor, reason: &'static str) -> ImportError {
    let media_type = descriptor.artifact_type().as_ref().unwrap_or(descriptor.media_type());
    ImportError::Unsupported {
        what: descriptor.digest().as_ref().chars().take(80).collect(),
        media_type: media_type.to_string(),
        reason,
    }
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    annotation(descriptor, CONTAINERD_NAME).or_else(|| annotation(descriptor, REF_NAME))
}

fn answers_to(descriptor: &Descriptor, reference: &str) -> bool {
    let names = [REF_NAME, CONTAINERD_NAME].into_iter().filter_map(|key| annotation(descriptor, key));
    let reference = reference.strip_prefix('@').unwrap_or(reference);
    descriptor.digest().as_ref() == reference
        || names.into_iter().any(|name| {
            name == reference
                || name.strip_suffix(reference).is_some_and(|rest| rest.ends_with(':'))
                || full_name(name) == full_name(reference)
        })
}

/// A name with the parts that Docker leaves out: `docker.io/library/` and `:latest`.
pub(super) fn full_name(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// BuildKit's attestations and other artifacts stand in an index like images.
fn is_no_image(descriptor: &Descriptor) -> bool {
    let unknown = |platform: &PlatformSpec| {
        let platform = platform_of(platform);
        platform.os == "unknown" && platform.architecture == "unknown"
    };
    artifact_type(descriptor.artifact_type()).is_some()
        || annotation(descriptor, DOCKER_REFERENCE_TYPE).is_some()
        || descriptor.platform().as_ref().is_some_and(unknown)
}

/// How well a platform fits, the lowest the best; of older variants the newest.
type Rank = (u8, Reverse<String>);

/// How well a platform fits; `None` when it does not.
fn rank(platform: Option<&PlatformSpec>, wanted: &Platform) -> Option<Rank> {
    let ranked = |rank| Some((rank, Reverse(String::new())));
    let Some(platform) = platform else { return ranked(4) };
    let Platform { os, architecture, variant } = platform_of(platform);
    if os != wanted.os || architecture != wanted.architecture {
        return None;
    }
    let plain = |variant: &str| match (architecture.as_str(), variant) {
        // What every such processor can do has two spellings.
        ("arm64", "v8") | ("amd64", "v1") => String::new(),
        // Without a word containerd and Docker mean this one.
        ("arm", "") => "v7".to_owned(),
        _ => variant.to_owned(),
    };
    let (have, want) = (plain(&variant), plain(&wanted.variant));
    match (have == want, have.is_empty(), want.is_empty()) {
        (true, ..) => ranked(0),
        (false, true, _) => ranked(1),
        (false, false, true) => ranked(2),
        // An older variant runs on a newer processor: v6 on v7.
        (false, false, false) => (have < want).then_some((3, Reverse(have))),
    }
}

fn shown(platform: Option<&PlatformSpec>) -> String {
    platform.map_or_else(|| "one without a platform".into(), |platform| platform_of(platform).to_string())
}
