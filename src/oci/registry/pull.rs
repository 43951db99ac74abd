//! From a reference to originals: the manifest, what it takes to choose it, the config, the layers.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Ask, Client};
use super::error::RegistryError;
use super::events::Transfer;
use super::{Fetched, PullRequest, auth, download, mirrors, runtime};
use crate::oci::blobs::{DocumentKind, Documents, Parts};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::document::{Descriptor, Document, MediaType, Role, descriptor};
use crate::oci::error::ImportError;
use crate::oci::image::describe;
use crate::oci::import::DocumentFacts;
use crate::oci::limits::{Limits, within};
use crate::oci::select;

/// What manifests and indexes are asked for as. Docker's schema 1 is not among them.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What registries call the digest of what they send.
const DIGEST_HEADER: &str = "Docker-Content-Digest";

/// What a reference stands for in a registry.
enum Top {
    Known,
    /// An index or a manifest, which is among the originals now.
    Document(Box<Descriptor>, Digest),
}

pub(super) fn pull(request: &PullRequest<'_>) -> Result<Fetched, RegistryError> {
    // What has this digest has it for ever.
    if let (Some(digest), Some(known)) = (request.reference.digest(), request.known)
        && digest == known
    {
        return Ok(Fetched { top: known.clone(), manifest: None, requests: 0, fetched_bytes: 0 });
    }
    let runtime = runtime::start()?;
    let mut requests = 0;
    let mut places = mirrors::for_pull(request.reference, request.options)?.into_iter().peekable();
    while let Some(place) = places.next() {
        let credentials = auth::credentials(&place, request.options)?;
        let client = Arc::new(Client::new(place, credentials, request.options)?);
        match runtime.block_on(top(&client, request)) {
            Ok(top) => {
                let mut fetched = rest(runtime.handle(), &client, top, request)?;
                fetched.requests = requests + client.requests();
                return Ok(fetched);
            }
            Err(error) if places.peek().is_some() && may_be_elsewhere(&error) => {
                requests += client.requests();
                request.options.listener.tell(|| Transfer::NextMirror {
                    host: client.host().to_owned(),
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error),
        }
    }
    unreachable!("the last place's error is returned")
}

/// Whether the next place may do better: a mirror that does not work is as if it were not there.
fn may_be_elsewhere(error: &RegistryError) -> bool {
    !matches!(error, RegistryError::Disk(_) | RegistryError::Client { .. })
}

/// Asks what the reference stands for: one request when it is what is known, else the document comes with the answer.
async fn top(client: &Client, request: &PullRequest<'_>) -> Result<Top, RegistryError> {
    let wanted = request.reference.wanted();
    let mut ask = Ask {
        method: Method::HEAD,
        path: format!("{}/manifests/{wanted}", client.endpoint.repository),
        accept: Some(ACCEPTED),
        offset: 0,
        what: format!("manifest `{wanted}` of {}", client.endpoint.repository),
        scopes: client.pull_scope(),
    };
    if let Some(known) = request.known {
        // Many registries count what is fetched and not what is looked at; some know no HEAD or give no digest, and are asked plainly.
        match client.send(&ask).await {
            Ok(response) if stated(response.headers()).as_ref() == Some(known) => return Ok(Top::Known),
            Err(error) if error.is_unreachable() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    ask.method = Method::GET;
    let (headers, bytes) = client.read(&ask, request.limits.manifest_bytes).await?;
    let algorithm = request.reference.digest().map_or(Algorithm::Sha256, Digest::algorithm);
    let digest = Digest::of(algorithm, &bytes);
    if request.reference.digest().is_some_and(|wanted| *wanted != digest) {
        let (host, what) = (client.host().to_owned(), ask.what);
        return Err(RegistryError::Mismatch { host, what, found: digest.to_string() });
    }
    let media_type = media_type(&headers, &bytes, &ask.what)?;
    let descriptor = descriptor(&digest, bytes.len() as u64, &media_type)?;
    let there = request.originals.document(&digest, request.limits.manifest_bytes);
    if !matches!(there, Ok(Some(_))) {
        request.originals.discard(&digest)?;
        request.originals.keep(&digest, &bytes)?;
    }
    if request.known == Some(&digest) {
        return Ok(Top::Known);
    }
    Ok(Top::Document(Box::new(descriptor), digest))
}

fn stated(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get(DIGEST_HEADER)?.to_str().ok()?)
}

/// What a document is: as it says itself, else as the registry says, else as it looks.
fn media_type(headers: &HeaderMap, bytes: &[u8], what: &str) -> Result<String, ImportError> {
    let document = Document::read(bytes, what)?;
    if let Some(own) = document.media_type() {
        return Ok(own.to_string());
    }
    let header = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let header = header.split(';').next().unwrap_or_default().trim();
    let known = [Role::Index, Role::Manifest, Role::SchemaOne].contains(&Role::of(&MediaType::from(header)));
    Ok(match document {
        _ if known => header.to_owned(),
        Document::Index(_) => OCI_INDEX.to_owned(),
        _ => OCI_MANIFEST.to_owned(),
    })
}

/// Fetches what follows from the topmost document.
fn rest(
    handle: &Handle,
    client: &Arc<Client>,
    top: Top,
    request: &PullRequest<'_>,
) -> Result<Fetched, RegistryError> {
    let (descriptor, top) = match (top, request.known) {
        (Top::Known, Some(known)) => {
            return Ok(Fetched { top: known.clone(), manifest: None, requests: 0, fetched_bytes: 0 });
        }
        (Top::Known, None) => unreachable!("nothing is known"),
        (Top::Document(descriptor, digest), _) => (descriptor, digest),
    };
    let documents = OnDemand { handle: handle.clone(), client: Arc::clone(client) };
    let parts =
        Parts::Originals { originals: request.originals.clone(), documents: Some(Arc::new(documents)) };
    let chosen = select::choose(&parts, &[*descriptor], None, request.platform, request.limits)?.descriptor;
    let described = describe(&parts, &chosen, request.limits)?;
    let layers = layers(described.manifest.layers(), request.limits)?;
    let fetched_bytes = handle.block_on(fetch(client, layers, request))?;
    let manifest = DocumentFacts {
        digest: Digest::require(chosen.digest().as_ref(), "the digest of a manifest")?,
        media_type: chosen.media_type().to_string(),
        size: chosen.size(),
    };
    Ok(Fetched { top, manifest: Some(manifest), requests: 0, fetched_bytes })
}

/// A layer to fetch.
struct Wanted {
    digest: Digest,
    size: u64,
    /// The registry may refuse to hand it out. Its `urls` are never followed: an image could send this machine anywhere.
    foreign: bool,
}

/// Every layer once, as many and as large as they may be.
fn layers(all: &[Descriptor], limits: &Limits) -> Result<Vec<Wanted>, ImportError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut total = 0u64;
    for layer in all {
        let role = Role::of(layer.media_type());
        if !matches!(role, Role::Layer | Role::ForeignLayer) {
            // The import says what is wrong with it.
            continue;
        }
        let digest = Digest::require(layer.digest().as_ref(), "the digest of a layer")?;
        total = total.saturating_add(layer.size());
        within("total_bytes", limits.total_bytes, total, || "the size of all layers".into())?;
        if !wanted.iter().any(|other| other.digest == digest) {
            wanted.push(Wanted { digest, size: layer.size(), foreign: role == Role::ForeignLayer });
        }
    }
    Ok(wanted)
}

/// Fetches layers, a few at a time; the first error ends the others, whose bytes so far are kept.
async fn fetch(
    client: &Arc<Client>,
    layers: Vec<Wanted>,
    request: &PullRequest<'_>,
) -> Result<u64, RegistryError> {
    let places = Arc::new(Semaphore::new(request.options.jobs()));
    let mut tasks = JoinSet::new();
    for Wanted { digest, size, foreign } in layers {
        let (client, originals, places) =
            (Arc::clone(client), request.originals.clone(), Arc::clone(&places));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            match download::blob(&client, &originals, &digest, size).await {
                Err(RegistryError::NotFound { .. }) if foreign => Ok(0),
                other => other,
            }
        });
    }
    let mut bytes = 0;
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok(done) => bytes += done?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    Ok(bytes)
}

/// Gets documents from the registry while an image is chosen.
struct OnDemand {
    handle: Handle,
    client: Arc<Client>,
}

impl std::fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnDemand").field("host", &self.client.host()).finish_non_exhaustive()
    }
}

impl Documents for OnDemand {
    fn fetch(&self, kind: DocumentKind, digest: &Digest, size: u64) -> Result<Vec<u8>, ImportError> {
        let repository = &self.client.endpoint.repository;
        let (place, accept) = match kind {
            DocumentKind::Manifest => ("manifests", Some(ACCEPTED)),
            DocumentKind::Config => ("blobs", None),
        };
        let ask = Ask {
            method: Method::GET,
            path: format!("{repository}/{place}/{digest}"),
            accept,
            offset: 0,
            what: format!("{} {digest}", kind.word()),
            scopes: self.client.pull_scope(),
        };
        match self.handle.block_on(self.client.read(&ask, size)) {
            Ok((_, bytes)) => Ok(bytes),
            Err(error) => Err(ImportError::Registry(Box::new(error))),
        }
    }
}
