//! Which credentials a registry gets: those of podman's and docker's files and helpers.

use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use serde_json::Value;

use super::error::RegistryError;
use super::mirrors::Endpoint;
use super::options::{Credentials, RegistryOptions, Secret};
use super::reference::host_of;
use crate::disk::read_limited;

/// Such files have a few kilobytes; some keep certificates in them.
const MAX_AUTH_BYTES: u64 = 1 << 20;
/// How docker calls its registry in its own file.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// What is known for a place; nothing for most.
pub(super) fn credentials(
    endpoint: &Endpoint,
    options: &RegistryOptions,
) -> Result<Option<Credentials>, RegistryError> {
    // Those that were given are for the registry of the reference and for nobody who stands in for it.
    if let Some(given) = options.credentials.as_ref().filter(|_| !endpoint.mirror) {
        return Ok(Some(given.clone()));
    }
    let keys = keys(endpoint);
    for path in options.auth_files.clone().unwrap_or_else(usual) {
        let bytes = match read_limited(&path, MAX_AUTH_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(found) = look_up(&bytes, &path, &keys, endpoint)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The files in the order in which podman looks at them.
fn usual() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.clone()?.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home.clone()?.join(".docker")));
    [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
        home.map(|dir| dir.join(".docker/config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What an entry may be called, the closest first: podman has them for parts of a registry too.
fn keys(endpoint: &Endpoint) -> Vec<String> {
    let docker = endpoint.host == host_of("docker.io");
    let registry = if docker { "docker.io" } else { &endpoint.host };
    let whole = format!("{registry}/{}", endpoint.repository);
    let mut keys: Vec<String> =
        whole.match_indices('/').map(|(at, _)| whole[..at].to_owned()).rev().collect();
    keys.insert(0, whole.clone());
    if docker {
        keys.extend([DOCKER_KEY.to_owned(), endpoint.host.clone()]);
    }
    for scheme in ["https://", "http://"] {
        keys.extend(["", "/", "/v1/", "/v2/"].map(|ending| format!("{scheme}{registry}{ending}")));
    }
    keys
}

fn look_up(
    bytes: &[u8],
    path: &Path,
    keys: &[String],
    endpoint: &Endpoint,
) -> Result<Option<Credentials>, RegistryError> {
    let wrong = |reason: &str| RegistryError::Settings { path: path.to_owned(), reason: reason.to_owned() };
    let file: Value = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
    let entry = |part: &str, key: &String| file.get(part).and_then(|part| part.get(key));
    // The crate would take an entry of the same host for any path on it, so it is asked for the very key.
    let known = keys.iter().find(|key| entry("credHelpers", key).is_some() || entry("auths", key).is_some());
    let store = file.get("credsStore").and_then(Value::as_str).filter(|store| !store.is_empty());
    let key = match (known, store) {
        (Some(key), _) => key.clone(),
        (None, Some(_)) if endpoint.host == host_of("docker.io") => DOCKER_KEY.to_owned(),
        (None, Some(_)) => endpoint.host.clone(),
        (None, None) => return Ok(None),
    };
    let helper = entry("credHelpers", &key).and_then(Value::as_str).or(store).unwrap_or_default().to_owned();
    let failed = |reason| RegistryError::Helper {
        helper: helper.clone(),
        path: path.to_owned(),
        host: endpoint.host.clone(),
        reason,
    };
    match get_credential_from_reader(bytes, &key) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credentials { user, secret: Secret::Password(password) }))
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(Credentials { user: "<token>".into(), secret: Secret::IdentityToken(token) }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // What every helper says of a registry it does not know, word for word.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { .. }) => Err(failed("it ends with an error")),
        Err(CredentialRetrievalError::HelperCommunicationError) => Err(failed("it cannot be run")),
        Err(CredentialRetrievalError::MalformedHelperResponse) => Err(failed("its answer is not understood")),
        Err(_) => Err(wrong("its entry for the registry is not understood")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, repository: &str, mirror: bool) -> Endpoint {
        Endpoint { host: host.into(), repository: repository.into(), insecure: false, mirror }
    }

    fn found(
        files: &[&str],
        endpoint: &Endpoint,
        adapt: impl Fn(&mut RegistryOptions),
    ) -> Option<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = vec![dir.path().join("missing.json")];
        for (at, text) in files.iter().enumerate() {
            let path = dir.path().join(at.to_string());
            std::fs::write(&path, text).unwrap();
            paths.push(path);
        }
        let mut options = RegistryOptions { auth_files: Some(paths), ..RegistryOptions::default() };
        adapt(&mut options);
        credentials(endpoint, &options).unwrap().map(|found| match found.secret {
            Secret::Password(secret) | Secret::IdentityToken(secret) => (found.user, secret),
        })
    }

    #[test]
    fn the_closest_entry_of_the_first_file_that_knows_the_registry_counts() {
        // someone:first, team:second, hub:third
        let first = r#"{"auths":{"r.example":{"auth":"c29tZW9uZTpmaXJzdA=="},"r.example/team":{"auth":"dGVhbTpzZWNvbmQ="}}}"#;
        let second = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnRoaXJk"},"r.example":{"auth":"eDp5"}}}"#;
        let files = [first, second];
        let is = |host: &str, repository: &str| found(&files, &endpoint(host, repository, false), |_| {});
        let pair = |user: &str, secret: &str| Some((user.to_owned(), secret.to_owned()));
        assert_eq!(is("r.example", "tool"), pair("someone", "first"));
        assert_eq!(is("r.example", "team/tool"), pair("team", "second"));
        assert_eq!(is("index.docker.io", "library/alpine"), pair("hub", "third"));
        assert_eq!(is("r.example:5000", "tool"), None);
        assert_eq!(is("other.example", "tool"), None);
    }

    #[test]
    fn given_credentials_are_for_the_registry_and_for_no_mirror() {
        let give =
            |options: &mut RegistryOptions| options.credentials = Some(Credentials::password("me", "x"));
        assert_eq!(found(&[], &endpoint("r.example", "a", false), give), Some(("me".into(), "x".into())));
        assert_eq!(found(&[], &endpoint("m.example", "a", true), give), None);
    }

    #[test]
    fn a_damaged_file_is_named_and_nothing_of_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let options = RegistryOptions { auth_files: Some(vec![path.clone()]), ..RegistryOptions::default() };
        for text in [r#"{"auths": {"r.example": {"auth": "hunter2!"}}}"#, r#"{"auths": hunter2"#] {
            std::fs::write(&path, text).unwrap();
            let error = credentials(&endpoint("r.example", "a", false), &options).unwrap_err().to_string();
            assert!(error.contains("auth.json") && !error.contains("hunter2"), "{error}");
        }
    }
}
