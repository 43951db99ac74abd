//! Images from registries and to them: the OCI distribution protocol.
//!
//! What is fetched lies in [`Originals`] afterwards, checked; an import takes it from there. What is sent comes from
//! memory or from files. Every call runs on a thread of its own with a small runtime, so it may be made from anywhere.
//!
//! Reading goes through `reqwest`, the HTTP client that `oci-client` sits on: `oci-client` reads manifests, tokens and error texts whole,
//! however long a registry makes them, hides `Retry-After`, and asks an open registry twice for everything. Writing, where the registry
//! is one that the caller trusts with an image, goes through `oci-client`.
//!
//! This room never unpacks anything, never follows the `urls` of a layer, never draws or prints, and never writes below the store but
//! through `Originals`.
//!
//! # Invariants
//! - Nothing is kept that has not the digest it was asked for by, and nothing is read beyond its size or [`Limits`].
//! - Credentials go to the host that they are for, and to the token service which that host names over the same or better protection; they
//!   are in no error and no debug output.
//! - Plain HTTP and unchecked certificates are used only where the caller or `registries.conf` says so.
//!
//! # Locking
//! A download holds an exclusive `flock` on its partial file, so two processes fetch a blob once.
//!
//! # Compatibility
//! Without the cargo feature `registry` the types are here and every call fails with [`RegistryError::NotBuilt`].

mod error;
mod events;
mod options;
mod reference;

#[cfg(feature = "registry")]
mod auth;
#[cfg(feature = "registry")]
mod certificates;
#[cfg(feature = "registry")]
mod client;
#[cfg(feature = "registry")]
mod download;
#[cfg(feature = "registry")]
mod mirrors;
#[cfg(feature = "registry")]
mod pull;
#[cfg(feature = "registry")]
mod push;
#[cfg(feature = "registry")]
mod retry;
#[cfg(feature = "registry")]
mod runtime;
#[cfg(feature = "registry")]
mod token;

pub use error::RegistryError;
pub use events::{Listener, Transfer};
pub use options::{Credentials, DEFAULT_JOBS, RegistryOptions};
pub use reference::Reference;

use super::digest::Digest;
use super::import::DocumentFacts;
use super::limits::Limits;
use super::originals::Originals;
use crate::object::Platform;

/// What to pull.
#[derive(Debug)]
pub struct PullRequest<'p> {
    /// The image.
    pub reference: &'p Reference,
    /// Where its parts are kept.
    pub originals: &'p Originals,
    /// What it may demand.
    pub limits: &'p Limits,
    /// Which of several images; `None` for this machine's.
    pub platform: Option<&'p Platform>,
    /// What the reference stood for the last time: when it still does, nothing is fetched.
    pub known: Option<&'p Digest>,
    /// How to reach registries.
    pub options: &'p RegistryOptions,
}

/// What came of a pull.
#[derive(Debug)]
pub struct Fetched {
    /// What the reference stands for: an index or a manifest.
    pub top: Digest,
    /// The manifest of the chosen image; `None` when `top` is what was known, and nothing was fetched.
    pub manifest: Option<DocumentFacts>,
    /// How many requests it took, with those that were answered with an error.
    pub requests: u64,
    /// How many bytes of layers were fetched.
    pub fetched_bytes: u64,
}

/// One part of an image that is sent.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Where its bytes are.
    pub bytes: UploadBytes,
}

/// Where the bytes of an [`Upload`] are.
#[derive(Debug, Clone)]
pub enum UploadBytes {
    /// Here.
    Memory(Vec<u8>),
    /// In a file, all of it.
    File(std::path::PathBuf),
}

/// What to push.
#[derive(Debug)]
pub struct PushRequest<'p> {
    /// The name it gets.
    pub reference: &'p Reference,
    /// The manifest.
    pub manifest: &'p Upload,
    /// The config and the layers.
    pub blobs: &'p [Upload],
    /// Where the image came from: what it has of that repository is not sent when the registry is the same.
    pub from: Option<&'p Reference>,
    /// How to reach registries.
    pub options: &'p RegistryOptions,
}

/// What came of a push.
#[derive(Debug)]
pub struct Sent {
    /// The manifest's digest.
    pub digest: Digest,
    /// Blobs whose bytes were sent.
    pub sent: u64,
    /// Blobs taken over from another repository of the registry.
    pub mounted: u64,
    /// Blobs that the registry had.
    pub present: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
}

/// Makes everything of an image available in the originals.
pub fn pull(request: &PullRequest<'_>) -> Result<Fetched, RegistryError> {
    #[cfg(feature = "registry")]
    return runtime::apart(|| pull::pull(request));
    #[cfg(not(feature = "registry"))]
    Err(RegistryError::not_built(request.reference))
}

/// Sends an image: what the registry lacks of it, its manifest last.
pub fn push(request: &PushRequest<'_>) -> Result<Sent, RegistryError> {
    #[cfg(feature = "registry")]
    return runtime::apart(|| push::push(request));
    #[cfg(not(feature = "registry"))]
    Err(RegistryError::not_built(request.reference))
}
