//! Images from registries.

use std::sync::Arc;

use super::core::Core;
use super::error::{Error, Result};
use super::state::State;
use super::types::Imported;
use crate::history::{ImageName, RefName};
use crate::index::ImageRecord;
use crate::object::{Node, Platform};
use crate::oci::registry::{self, PullRequest, Reference, RegistryOptions};
use crate::oci::{self, Digest, Limits};

/// How an image is pulled.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PullOptions {
    /// What to call it; `None` for the reference as people write it.
    pub name: Option<String>,
    /// Which of several images to take; `None` for the one of this machine.
    pub platform: Option<Platform>,
    /// What it may demand of this machine.
    pub limits: Limits,
    /// Uses what the name stands for here, and no network at all.
    pub offline: bool,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

impl PullOptions {
    /// This machine's platform, the usual limits, files of credentials and settings where podman and docker have them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Takes the image for this platform.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Bounds what it may demand.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Uses what is here and no network.
    pub fn offline(mut self, yes: bool) -> Self {
        self.offline = yes;
        self
    }

    /// Says how registries are reached.
    pub fn registry(mut self, options: RegistryOptions) -> Self {
        self.registry = options;
        self
    }
}

/// An image that was pulled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pulled<S = State> {
    /// Its state.
    pub state: S,
    /// The name it has.
    pub name: String,
    /// What the reference stands for: the digest of an index or a manifest; `None` when it was not pulled but imported.
    pub digest: Option<String>,
    /// How it came.
    pub how: PulledHow,
    /// Entries in its tree.
    pub entries: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Requests that were made.
    pub requests: u64,
    /// Bytes of layers that were fetched.
    pub fetched_bytes: u64,
}

/// How an image came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PulledHow {
    /// From the registry, as far as it was not here.
    Fetched,
    /// The registry was asked, and has what is here.
    Unchanged,
    /// What was here was used, and nobody asked.
    Offline,
}

impl<S> Pulled<S> {
    pub(super) fn map<T>(self, convert: impl FnOnce(S) -> T) -> Pulled<T> {
        let Self { state, name, digest, how, entries, size_bytes, requests, fetched_bytes } = self;
        Pulled { state: convert(state), name, digest, how, entries, size_bytes, requests, fetched_bytes }
    }
}

/// Where an image came from, as it is remembered: the reference with the digest it stood for, and the platform if one was asked for.
pub(super) struct Pin<'p> {
    reference: &'p Reference,
    platform: Option<&'p Platform>,
}

impl Pin<'_> {
    fn write(&self, digest: &Digest) -> String {
        let platform = self.platform.map(|platform| format!(" ({platform})")).unwrap_or_default();
        format!("{}@{digest}{platform}", self.reference.tagged())
    }

    /// The digest, when the same was asked for.
    fn read(&self, source: &str) -> Option<Digest> {
        let rest = source.strip_prefix(&self.reference.tagged())?.strip_prefix('@')?;
        let digest = Digest::parse(rest.split(' ').next()?)?;
        (self.write(&digest) == source).then_some(digest)
    }
}

/// The reference in a remembered source; `None` when the image came from elsewhere.
pub(super) fn pulled_from(source: &str) -> Option<Reference> {
    let (reference, _) = source.split_once(" (").unwrap_or((source, ""));
    let found = Reference::parse(reference).ok()?;
    // Any path would be a reference; only what was pulled has a digest there.
    found.digest().is_some().then_some(found)
}

impl Core {
    pub(super) fn pull(self: &Arc<Self>, reference: &str, options: &PullOptions) -> Result<Pulled> {
        let reference = Reference::parse(reference)?;
        let name = ImageName::new(&options.name.clone().unwrap_or_else(|| reference.familiar()))?;
        let pin = Pin { reference: &reference, platform: options.platform.as_ref() };
        let here = self.here(&name)?;
        if options.offline {
            return match here {
                Some(here) => here.pulled(&name, PulledHow::Offline, 0),
                None => Err(Error::not_found(format!(
                    "there is no image `{name}` here, and --offline asks nobody: `treebox images` lists what is here"
                ))),
            };
        }
        let known = here.as_ref().and_then(|here| pin.read(&here.record.as_ref()?.source));
        let originals = self.originals();
        let _held = self.hold_originals()?;
        let fetched = registry::pull(&PullRequest {
            reference: &reference,
            originals: &originals,
            limits: &options.limits,
            platform: options.platform.as_ref(),
            known: known.as_ref(),
            options: &options.registry,
        });
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(source) if source.is_unreachable() && here.is_some() => {
                return Err(Error::Known { name: name.to_string(), source });
            }
            Err(error) => return Err(error.into()),
        };
        let manifest = match (&fetched.manifest, here) {
            (None, Some(here)) => return here.pulled(&name, PulledHow::Unchanged, fetched.requests),
            (None, None) => unreachable!("nothing was known"),
            (Some(manifest), _) => manifest,
        };
        let import = oci::ImportOptions { platform: options.platform.clone(), limits: options.limits };
        let open = || Ok(oci::open_original(manifest, &originals, &import)?);
        let imported = self.take_image(&open, pin.write(&fetched.top), &|_| Ok(name.clone()))?;
        let Imported { state, name, entries, size_bytes, .. } = imported;
        Ok(Pulled {
            state,
            name,
            digest: Some(fetched.top.to_string()),
            how: PulledHow::Fetched,
            entries,
            size_bytes,
            requests: fetched.requests,
            fetched_bytes: fetched.fetched_bytes,
        })
    }

    /// What an image's name stands for here.
    fn here(self: &Arc<Self>, name: &ImageName) -> Result<Option<Here>> {
        let Some(commit) = self.history()?.read_ref(&RefName::Image(name.clone()))? else { return Ok(None) };
        let state = self.state_at(commit)?;
        let record = self.index.image(name.as_str())?.filter(|record| record.state == state.id);
        Ok(Some(Here { state, record }))
    }
}

/// An image that is here.
struct Here {
    state: State,
    /// What the index knows of it, which may be nothing.
    record: Option<ImageRecord>,
}

impl Here {
    fn pulled(self, name: &ImageName, how: PulledHow, requests: u64) -> Result<Pulled> {
        let (entries, size_bytes) = match &self.record {
            Some(record) => (record.entries, record.size_bytes),
            None => match self.state.core.store.root(&self.state.value.root)?.node {
                Node::Directory { below, .. } => (below.entries, below.bytes),
                _ => (0, 0),
            },
        };
        let from = self.record.as_ref().and_then(|record| pulled_from(&record.source));
        Ok(Pulled {
            digest: from.and_then(|from| from.digest().map(ToString::to_string)),
            state: self.state,
            name: name.to_string(),
            how,
            entries,
            size_bytes,
            requests,
            fetched_bytes: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_image_came_from_is_read_as_it_was_written() {
        let digest = Digest::parse(&format!("sha256:{}", "0a".repeat(32))).unwrap();
        let reference = Reference::parse("r.example:5000/team/tool:1").unwrap();
        let platform: Platform = "linux/arm64".parse().unwrap();
        let plain = Pin { reference: &reference, platform: None };
        let foreign = Pin { reference: &reference, platform: Some(&platform) };
        for pin in [&plain, &foreign] {
            assert_eq!(pin.read(&pin.write(&digest)), Some(digest.clone()));
            assert_eq!(pulled_from(&pin.write(&digest)).unwrap().repository(), "team/tool");
        }
        assert_eq!(plain.read(&foreign.write(&digest)), None);
        assert_eq!(foreign.read(&plain.write(&digest)), None);
        let other = Reference::parse("r.example:5000/team/tool:2").unwrap();
        assert_eq!(Pin { reference: &other, platform: None }.read(&plain.write(&digest)), None);
        assert!(pulled_from("oci:/some/dir").is_none());
    }
}
