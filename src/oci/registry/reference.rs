//! What an image is called in a registry.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution;

use super::error::RegistryError;
use crate::oci::digest::Digest;

/// Docker's registry, which is meant when no other is named.
const DOCKER: &str = "docker.io";
/// What a single word is in there.
const OFFICIAL: &str = "library/";

/// An image of a registry: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, all left out parts filled in as docker does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    parts: distribution::Reference,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference; `docker://` before it is no harm.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let wrong = |reason: String| RegistryError::Reference { text: text.to_owned(), reason };
        let short = text.strip_prefix("docker://").unwrap_or(text);
        let parts = distribution::Reference::from_str(short).map_err(|error| wrong(error.to_string()))?;
        let digest = match parts.digest() {
            Some(digest) => Some(
                Digest::parse(digest)
                    .ok_or_else(|| wrong("its digest is not sha256 or sha512 in lower-case hex".into()))?,
            ),
            None => None,
        };
        Ok(Self { parts, digest })
    }

    /// The registry's name, perhaps with a port.
    pub fn registry(&self) -> &str {
        self.parts.registry()
    }

    /// The repository in the registry.
    pub fn repository(&self) -> &str {
        self.parts.repository()
    }

    /// The digest, when one is given: then it counts and the tag does not.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The reference with its registry and without the digest.
    pub fn tagged(&self) -> String {
        match self.parts.tag() {
            Some(tag) => format!("{}/{}:{tag}", self.registry(), self.repository()),
            None => format!("{}/{}", self.registry(), self.repository()),
        }
    }

    /// As people write it: without `docker.io/library/`, always with a tag or a digest.
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        let short = match whole.strip_prefix(DOCKER).and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => rest.strip_prefix(OFFICIAL).unwrap_or(rest),
            None => &whole,
        };
        short.to_owned()
    }

    /// What a manifest is asked for by.
    #[cfg(feature = "registry")]
    pub(super) fn wanted(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.parts.tag().unwrap_or("latest").to_owned(),
        }
    }
}

/// Where a registry of that name answers.
#[cfg(feature = "registry")]
pub(super) fn host_of(registry: &str) -> &str {
    if registry == DOCKER { "index.docker.io" } else { registry }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in_as_docker_does() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (typed, registry, repository, familiar) in [
            ("alpine", "docker.io", "library/alpine", "alpine:latest"),
            ("docker.io/alpine:3.22", "docker.io", "library/alpine", "alpine:3.22"),
            ("docker.io/library/alpine", "docker.io", "library/alpine", "alpine:latest"),
            ("docker://someone/tool:1", "docker.io", "someone/tool", "someone/tool:1"),
            ("localhost/tool", "localhost", "tool", "localhost/tool:latest"),
            ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000", "a/b/c", "127.0.0.1:5000/a/b/c:x"),
            (&format!("alpine:3@{digest}"), "docker.io", "library/alpine", &format!("alpine:3@{digest}")),
            (&format!("r.example/x@{digest}"), "r.example", "x", &format!("r.example/x@{digest}")),
        ] {
            let read = Reference::parse(typed).unwrap();
            assert_eq!((read.registry(), read.repository()), (registry, repository), "{typed}");
            assert_eq!(read.familiar(), familiar, "{typed}");
        }
        for bad in
            ["", "Alpine", "a b", "a:", "a/../b", "a@sha256:00", &format!("a@{}", digest.to_uppercase())]
        {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
