//! How registries are reached.

use std::fmt;
use std::path::PathBuf;

use super::events::Listener;

/// How many layers are fetched or sent at a time unless told otherwise.
pub const DEFAULT_JOBS: usize = 4;

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// For the registry of the reference, and for no mirror of it; `None` for what the auth files say.
    pub credentials: Option<Credentials>,
    /// Whether HTTPS with a certificate that holds is needed; `None` for what `registries.conf` says, which is yes unless it says no.
    pub tls_verify: Option<bool>,
    /// Directories with certificates (`*.crt`) that are trusted besides the system's.
    pub cert_dirs: Vec<PathBuf>,
    /// Auth files of docker or podman, the first that knows a registry counts; `None` for the usual ones.
    pub auth_files: Option<Vec<PathBuf>>,
    /// `registries.conf`; `None` for the usual ones.
    pub registries_conf: Option<PathBuf>,
    /// Asked before the registry itself: a host, perhaps with the beginning of a path.
    pub mirrors: Vec<String>,
    /// Layers fetched or sent at a time; 0 for [`DEFAULT_JOBS`].
    pub jobs: usize,
    /// Who hears how it goes.
    pub listener: Listener,
}

#[cfg(feature = "registry")]
impl RegistryOptions {
    pub(super) fn jobs(&self) -> usize {
        if self.jobs == 0 { DEFAULT_JOBS } else { self.jobs }
    }
}

/// A name and what proves it. The proof is in no debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) user: String,
    pub(super) secret: Secret,
}

/// What proves a name.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "registry"), expect(dead_code, reason = "nothing is proved"))]
pub(super) enum Secret {
    Password(String),
    /// Exchanged for access at the token service; what `docker login` keeps for some registries.
    IdentityToken(String),
}

impl Credentials {
    /// A user and a password.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), secret: Secret::Password(password.into()) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_debug_output() {
        let options = RegistryOptions {
            credentials: Some(Credentials::password("someone", "hunter2")),
            ..RegistryOptions::default()
        };
        let shown = format!("{options:?}");
        assert!(shown.contains("someone") && !shown.contains("hunter2"), "{shown}");
    }
}
