//! A file system together with how to run things in it.

use std::collections::BTreeMap;
use std::fmt;

use super::codec::{DecodeError, Reader, Writer};
use super::id::{StateId, TreeId};

const MAGIC: &[u8; 8] = b"tbstate\x01";

/// What a program's processor and system must be, in the words of the OCI image specification.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Platform {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Processor, such as `amd64` or `arm64`.
    pub architecture: String,
    /// Variant of the processor, such as `v8`; empty when there is none.
    pub variant: String,
}

impl Platform {
    /// The platform this program runs on.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: String::new() }
    }
}

/// Text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform such as linux/amd64 or linux/arm/v7")]
pub struct InvalidPlatform(String);

impl std::str::FromStr for Platform {
    type Err = InvalidPlatform;

    /// Reads `OS/ARCHITECTURE[/VARIANT]`; names that the kernel and other tools use for a processor become OCI's.
    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let wrong = || InvalidPlatform(text.chars().take(80).collect());
        let mut parts = text.split('/');
        let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?);
        let variant = parts.next().unwrap_or_default();
        let word =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if os.is_empty() || architecture.is_empty() || parts.next().is_some() || text.ends_with('/') {
            return Err(wrong());
        }
        if ![os, architecture, variant].into_iter().all(word) {
            return Err(wrong());
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" | "x86" => "386",
            "armhf" | "armv7l" => "arm",
            other => other,
        };
        Ok(Self { os: os.into(), architecture: architecture.into(), variant: variant.into() })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// How commands run in a state unless they say otherwise: the runtime part of an OCI image config.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// What the file system's programs are built for.
    pub platform: Platform,
    /// Environment, each `KEY=VALUE`, in order.
    pub env: Vec<String>,
    /// Working directory; empty means `/`.
    pub workdir: String,
    /// User, as `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    pub user: String,
    /// What a container of this image always runs.
    pub entrypoint: Vec<String>,
    /// Its arguments, or the command when there is no entrypoint.
    pub cmd: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports a service listens on, such as `80/tcp`, sorted.
    pub exposed_ports: Vec<String>,
    /// Paths meant for volumes, sorted.
    pub volumes: Vec<String>,
    /// Signal that stops a container; empty means SIGTERM.
    pub stop_signal: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            env: Vec::new(),
            workdir: String::new(),
            user: String::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            labels: BTreeMap::new(),
            exposed_ports: Vec::new(),
            volumes: Vec::new(),
            stop_signal: String::new(),
        }
    }
}

/// A file system and its runtime config: what a user names, compares and branches from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The root tree.
    pub root: TreeId,
    /// The runtime config.
    pub config: Config,
}

impl State {
    /// The canonical bytes and their name.
    pub fn encode(&self) -> (StateId, Vec<u8>) {
        let mut out = Writer::new(MAGIC);
        out.raw(self.root.as_bytes());
        let config = &self.config;
        for text in [&config.platform.os, &config.platform.architecture, &config.platform.variant] {
            out.bytes32(text.as_bytes());
        }
        out.texts(config.env.iter());
        out.bytes32(config.workdir.as_bytes());
        out.bytes32(config.user.as_bytes());
        out.texts(config.entrypoint.iter());
        out.texts(config.cmd.iter());
        out.count32(config.labels.len());
        for (key, value) in &config.labels {
            out.bytes32(key.as_bytes());
            out.bytes32(value.as_bytes());
        }
        out.texts(config.exposed_ports.iter());
        out.texts(config.volumes.iter());
        out.bytes32(config.stop_signal.as_bytes());
        let bytes = out.finish();
        (StateId::from_bytes(*blake3::hash(&bytes).as_bytes()), bytes)
    }

    /// The name of this state.
    pub fn id(&self) -> StateId {
        self.encode().0
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new("state", MAGIC, bytes)?;
        let root = TreeId::from_bytes(input.array()?);
        let platform = Platform { os: input.text()?, architecture: input.text()?, variant: input.text()? };
        let env = input.texts()?;
        let workdir = input.text()?;
        let user = input.text()?;
        let entrypoint = input.texts()?;
        let cmd = input.texts()?;
        let mut labels = BTreeMap::new();
        for _ in 0..input.count32(8)? {
            let (key, value) = (input.text()?, input.text()?);
            if labels.last_key_value().is_some_and(|(before, _)| *before >= key) {
                return Err(input.error("labels out of order"));
            }
            labels.insert(key, value);
        }
        let exposed_ports = input.texts()?;
        let volumes = input.texts()?;
        let stop_signal = input.text()?;
        input.end()?;
        let config = Config {
            platform,
            env,
            workdir,
            user,
            entrypoint,
            cmd,
            labels,
            exposed_ports,
            volumes,
            stop_signal,
        };
        Ok(Self { root, config })
    }
}
