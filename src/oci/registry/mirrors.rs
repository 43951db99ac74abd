//! Where an image is asked for: mirrors first, then the registry, as podman's `registries.conf` has it.
//!
//! Of that file `[[registry]]` with `prefix`, `location`, `insecure`, `blocked`, `mirror-by-digest-only`, and `[[registry.mirror]]` with
//! `location`, `insecure`, `pull-from-mirror` are read; the rest is for others.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::RegistryError;
use super::options::RegistryOptions;
use super::reference::{Reference, host_of};
use crate::disk::read_limited;

/// Such files have a few kilobytes.
const MAX_CONF_BYTES: u64 = 1 << 20;

/// One place that may have the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and perhaps port.
    pub(super) host: String,
    pub(super) repository: String,
    /// Plain HTTP and certificates that nobody vouches for will do.
    pub(super) insecure: bool,
    /// Not the registry of the reference.
    pub(super) mirror: bool,
}

#[derive(Debug, Deserialize)]
struct Conf {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Debug, Deserialize)]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default, rename = "mirror-by-digest-only")]
    by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
    /// The file it stands in.
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pull: String,
}

/// The places to ask for an image, in order.
pub(super) fn for_pull(
    reference: &Reference,
    options: &RegistryOptions,
) -> Result<Vec<Endpoint>, RegistryError> {
    let registries = registries(options)?;
    let mut places = Vec::new();
    for mirror in &options.mirrors {
        let mirror = mirror.strip_prefix("https://").unwrap_or(mirror).trim_end_matches('/');
        let place = format!("{mirror}/{}", reference.repository());
        places.push(endpoint(&place, false, true));
    }
    let name = format!("{}/{}", reference.registry(), reference.repository());
    let registry = matching(&registries, &name)?;
    for mirror in registry.map(|registry| &registry.mirror).into_iter().flatten() {
        let only = registry.is_some_and(|registry| registry.by_digest_only) || mirror.pull == "digest-only";
        let fits = match reference.digest() {
            Some(_) => mirror.pull != "tag-only",
            None => !only,
        };
        if fits {
            let place = rewritten(&name, registry, Some(&mirror.location));
            places.push(endpoint(&place, mirror.insecure, true));
        }
    }
    places.push(origin(&name, registry));
    Ok(insisted(places, options))
}

/// The place to send an image to; mirrors are for reading.
pub(super) fn for_push(reference: &Reference, options: &RegistryOptions) -> Result<Endpoint, RegistryError> {
    let registries = registries(options)?;
    let name = format!("{}/{}", reference.registry(), reference.repository());
    let place = origin(&name, matching(&registries, &name)?);
    Ok(insisted(vec![place], options).remove(0))
}

/// What the caller says about safety stands above all files.
fn insisted(mut places: Vec<Endpoint>, options: &RegistryOptions) -> Vec<Endpoint> {
    for place in &mut places {
        place.insecure = options.tls_verify.map_or(place.insecure, |verify| !verify);
    }
    places
}

fn origin(name: &str, registry: Option<&Registry>) -> Endpoint {
    let location = registry.and_then(|registry| registry.location.as_deref());
    endpoint(&rewritten(name, registry, location), registry.is_some_and(|registry| registry.insecure), false)
}

fn endpoint(place: &str, insecure: bool, mirror: bool) -> Endpoint {
    let (registry, repository) = place.split_once('/').unwrap_or((place, ""));
    Endpoint { host: host_of(registry).to_owned(), repository: repository.to_owned(), insecure, mirror }
}

/// The name with the part that the registry's entry is for replaced by a location.
fn rewritten(name: &str, registry: Option<&Registry>, location: Option<&str>) -> String {
    let (Some(registry), Some(location)) = (registry, location) else { return name.to_owned() };
    let prefix = registry.prefix();
    let rest = match prefix.strip_prefix("*.") {
        Some(_) => name.split_once('/').map_or("", |(_, rest)| rest),
        None => name[prefix.len()..].trim_start_matches('/'),
    };
    format!("{}/{rest}", location.trim_end_matches('/')).trim_end_matches('/').to_owned()
}

impl Registry {
    fn prefix(&self) -> &str {
        self.prefix.as_deref().or(self.location.as_deref()).unwrap_or_default()
    }

    /// How many bytes of the name it is for; `None` when it is for others.
    fn covers(&self, name: &str) -> Option<usize> {
        let prefix = self.prefix();
        if let Some(domain) = prefix.strip_prefix("*.") {
            let host = name.split(['/', ':']).next().unwrap_or(name);
            return host.strip_suffix(domain)?.ends_with('.').then_some(domain.len());
        }
        let rest = name.strip_prefix(prefix)?;
        (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
    }
}

/// The entry that is closest to the name.
fn matching<'r>(registries: &'r [Registry], name: &str) -> Result<Option<&'r Registry>, RegistryError> {
    let covering = registries.iter().filter_map(|registry| Some((registry.covers(name)?, registry)));
    match covering.max_by_key(|(length, _)| *length).map(|(_, registry)| registry) {
        Some(registry) if registry.blocked => {
            Err(RegistryError::Blocked { name: registry.prefix().to_owned(), path: registry.path.clone() })
        }
        found => Ok(found),
    }
}

/// All entries; of equal ones the last counts, so later files change earlier ones.
fn registries(options: &RegistryOptions) -> Result<Vec<Registry>, RegistryError> {
    let mut all = Vec::new();
    match &options.registries_conf {
        Some(path) => all.extend(read(path)?.ok_or_else(|| RegistryError::Settings {
            path: path.clone(),
            reason: "there is no such file".into(),
        })?),
        None => {
            for path in usual() {
                all.extend(read(&path)?.into_iter().flatten());
            }
        }
    }
    Ok(all)
}

/// What podman reads: one main file, then the pieces of it.
fn usual() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("CONTAINERS_REGISTRIES_CONF").filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let own = config.map(|config| config.join("containers"));
    let system = PathBuf::from("/etc/containers");
    let main = own.iter().chain([&system]).map(|dir| dir.join("registries.conf")).find(|path| path.exists());
    let mut paths: Vec<PathBuf> = main.into_iter().collect();
    for dir in [Some(&system), own.as_ref()].into_iter().flatten() {
        let entries = std::fs::read_dir(dir.join("registries.conf.d")).into_iter().flatten();
        let mut pieces: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        pieces.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
        pieces.sort();
        paths.extend(pieces);
    }
    paths
}

fn read(path: &Path) -> Result<Option<Vec<Registry>>, RegistryError> {
    let wrong = |reason: String| RegistryError::Settings { path: path.to_owned(), reason };
    let bytes = match read_limited(path, MAX_CONF_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    let conf: Conf = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
    let from_here = |registry| Registry { path: path.to_owned(), ..registry };
    Ok(Some(conf.registry.into_iter().map(from_here).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        unqualified-search-registries = ["docker.io"]
        short-name-mode = "permissive"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "old.example/team"
        location = "new.example/group"
        insecure = true
        [[registry]]
        prefix = "*.blocked.example"
        blocked = true
        [aliases]
        "x" = "y"
    "#;

    fn ask(text: &str, adapt: impl Fn(&mut RegistryOptions)) -> Result<Vec<String>, RegistryError> {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("registries.conf");
        std::fs::write(&conf, CONF).unwrap();
        let mut options = RegistryOptions { registries_conf: Some(conf), ..RegistryOptions::default() };
        adapt(&mut options);
        let places = for_pull(&Reference::parse(text)?, &options)?;
        let show = |place: &Endpoint| {
            format!("{}{}/{}", if place.insecure { "!" } else { "" }, place.host, place.repository)
        };
        Ok(places.iter().map(show).collect())
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_counts() {
        let plain = |_: &mut RegistryOptions| {};
        assert_eq!(
            ask("alpine", plain).unwrap(),
            ["!mirror.example:5000/hub/library/alpine", "index.docker.io/library/alpine"]
        );
        let digest = format!("alpine@sha256:{}", "0a".repeat(32));
        assert_eq!(
            ask(&digest, plain).unwrap(),
            [
                "!mirror.example:5000/hub/library/alpine",
                "digests.example/library/alpine",
                "index.docker.io/library/alpine"
            ]
        );
        assert_eq!(ask("old.example/team/tool:1", plain).unwrap(), ["!new.example/group/tool"]);
        assert_eq!(ask("old.example/teamwork:1", plain).unwrap(), ["old.example/teamwork"]);
        let refused = ask("a.blocked.example/x", plain).unwrap_err();
        assert!(refused.to_string().contains("blocks *.blocked.example"), "{refused}");
    }

    #[test]
    fn what_the_caller_says_stands_above_the_file() {
        let asked = ask("alpine", |options| {
            options.mirrors = vec!["near.example/x/".into()];
            options.tls_verify = Some(true);
        });
        assert_eq!(
            asked.unwrap(),
            [
                "near.example/x/library/alpine",
                "mirror.example:5000/hub/library/alpine",
                "index.docker.io/library/alpine"
            ]
        );
    }
}
