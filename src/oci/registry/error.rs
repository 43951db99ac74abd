//! Why a registry could not be read or written.

use std::path::PathBuf;

use crate::disk::DiskError;
use crate::oci::error::ImportError;

/// A pull or a push did not work. No credentials and no signed addresses are in any of these texts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// This program was built without registries.
    #[error(
        "{0} cannot be reached: this build has no registry support; build treebox with the cargo feature `registry`"
    )]
    NotBuilt(String),
    /// The text is no reference.
    #[error("`{text}` is no image of a registry: {reason}; write [REGISTRY/]REPOSITORY[:TAG][@DIGEST]")]
    Reference {
        /// The text.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// The registry did not answer, or broke off again and again.
    #[error("cannot get {what} from {host}: {reason}")]
    Unreachable {
        /// The registry or token service.
        host: String,
        /// What was asked for.
        what: String,
        /// What the network said.
        reason: String,
    },
    /// The registry will not.
    #[error("{host} refuses {what}{}: {}", said(message), advice(*named))]
    Denied {
        /// The registry or token service.
        host: String,
        /// What was asked for.
        what: String,
        /// What it said.
        message: String,
        /// Whether there were credentials.
        named: bool,
    },
    /// The registry has no such thing.
    #[error("{host} has no {what}{}", said(message))]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What it said.
        message: String,
    },
    /// The registry answered with an error.
    #[error("{host} answers {code} to {what}{}", said(message))]
    Status {
        /// The registry or token service.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The registry wants to be left alone for longer than is waited.
    #[error("{host} answers {code} to {what} and wants {seconds} s of rest: try again then")]
    Rest {
        /// The registry or token service.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        code: u16,
        /// How long.
        seconds: u64,
    },
    /// More bytes came than may.
    #[error("{host} sends more than {limit_bytes} bytes for {what}: it was cut off")]
    TooLong {
        /// The registry or token service.
        host: String,
        /// What was asked for.
        what: String,
        /// How many were expected or are allowed.
        limit_bytes: u64,
    },
    /// What came is not what was asked for.
    #[error(
        "what {host} sends as {what} is something else: its digest is {found}; try another registry or mirror"
    )]
    Mismatch {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The digest of what came.
        found: String,
    },
    /// An answer that makes no sense.
    #[error("{host} does not speak the protocol of registries: {reason}")]
    Protocol {
        /// The registry or token service.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// `registries.conf` blocks the registry.
    #[error("{} blocks {name}", path.display())]
    Blocked {
        /// The registry or a part of it.
        name: String,
        /// The file that says so.
        path: PathBuf,
    },
    /// A file of settings or credentials cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong; nothing that is in it.
        reason: String,
    },
    /// A credential helper failed.
    #[error("the credential helper `docker-credential-{helper}` that {} names for {host} fails: {reason}", path.display())]
    Helper {
        /// Its name.
        helper: String,
        /// The file that names it.
        path: PathBuf,
        /// The registry.
        host: String,
        /// What is wrong; nothing that it said.
        reason: &'static str,
    },
    /// No HTTP client or thread could be made.
    #[error("cannot prepare to reach {host}: {reason}")]
    Client {
        /// The registry.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The image cannot be used.
    #[error(transparent)]
    Image(ImportError),
    /// A file verb.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<ImportError> for RegistryError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Registry(error) => *error,
            error => Self::Image(error),
        }
    }
}

impl RegistryError {
    /// Whether the registry could not be reached, and so nothing is known of what it has.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Rest { .. } => true,
            Self::Status { code, .. } => *code >= 500,
            _ => false,
        }
    }

    #[cfg(not(feature = "registry"))]
    pub(super) fn not_built(reference: &super::reference::Reference) -> Self {
        Self::NotBuilt(reference.to_string())
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn advice(named: bool) -> &'static str {
    match named {
        true => "the credentials may be wrong, or it does not exist",
        false => "it does not exist, or needs credentials: log in with podman or docker, or give --creds",
    }
}
