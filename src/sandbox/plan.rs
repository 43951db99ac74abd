//! The plan of one sandbox: a plain value that says what is to be there, not how it is done.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::emulate::Emulation;
use super::seccomp::Feature;
use super::uplink::Uplink;

/// The search path for a program name without a slash when the plan's environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The kernel's limit for a host name (`__NEW_UTS_LEN`).
pub const MAX_HOSTNAME_BYTES: usize = 64;

/// Everything that decides what one sandbox looks like and what runs in it.
///
/// A plan carries no file descriptors and nothing of the host's environment; ids are the ids inside. Paths of the
/// host are absolute. It can be printed: `Display` lists the ordered steps that would be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What becomes `/`.
    pub rootfs: Rootfs,
    /// The host name inside; empty keeps the host's.
    pub hostname: String,
    /// The program and its arguments; never empty. A first word without a slash is searched in `PATH`, inside.
    pub argv: Vec<Vec<u8>>,
    /// The environment as `K=V`, exactly this.
    pub env: Vec<Vec<u8>>,
    /// The working directory inside; it must exist.
    pub cwd: Vec<u8>,
    /// The user id inside.
    pub uid: u32,
    /// The group id inside.
    pub gid: u32,
    /// The supplementary group ids inside.
    pub groups: Vec<u32>,
    /// The file creation mask.
    pub umask: u32,
    /// What of the network is visible.
    pub network: Network,
    /// Mounts on top of the root, done in this order; every mount point must exist.
    pub mounts: Vec<Mount>,
    /// Resource limits. What is not named here has the default of [`DEFAULT_LIMITS`](super::DEFAULT_LIMITS).
    pub rlimits: Vec<Rlimit>,
    /// Limits of the sandbox as a whole.
    pub bounds: Bounds,
    /// A terminal of the sandbox's own, of this size, takes the place of the standard streams.
    pub terminal: Option<TerminalSize>,
    /// Parts of the seal that are lifted.
    pub allow: Vec<Feature>,
    /// Emulates root over one id: the ids above are then those that the payload believes to have, mapped or not.
    pub emulation: Option<Emulation>,
}

impl Plan {
    /// A plan with defaults: user 0, `/`, umask 022, no network, an empty environment.
    pub fn new(rootfs: Rootfs, argv: Vec<Vec<u8>>) -> Self {
        Self {
            rootfs,
            hostname: "treebox".to_owned(),
            argv,
            env: Vec::new(),
            cwd: b"/".to_vec(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            umask: 0o022,
            network: Network::None,
            mounts: Vec::new(),
            rlimits: Vec::new(),
            bounds: Bounds::default(),
            terminal: None,
            allow: Vec::new(),
            emulation: None,
        }
    }

    /// The value of `PATH` in this plan's environment, else [`DEFAULT_PATH`].
    pub fn search_path(&self) -> &[u8] {
        // The last assignment wins, as in a shell that reads its environment.
        self.env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix(b"PATH=".as_slice()))
            .unwrap_or(DEFAULT_PATH.as_bytes())
    }
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Default for TerminalSize {
    /// That of the VT100, which programs assume where nobody tells them.
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// What becomes the root directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay of directories.
    Overlay {
        /// The lower directories, the top one first.
        #[serde(with = "path_list")]
        lowers: Vec<PathBuf>,
        /// A lower that is only the target of `user.overlay.redirect` files and is itself invisible.
        #[serde(with = "path_option")]
        data_lower: Option<PathBuf>,
        /// Where changes go; without it the root is read-only and needs two lowers at least.
        upper: Option<Upper>,
    },
    /// A directory as it is; changes go straight into it.
    Directory {
        /// The directory on the host.
        #[serde(with = "path_bytes")]
        path: PathBuf,
        /// Refuse changes.
        read_only: bool,
    },
}

/// The writable part of an overlay. Both directories are on one file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    /// The directory that receives the changes.
    #[serde(with = "path_bytes")]
    pub upper: PathBuf,
    /// An empty directory of the kernel's own.
    #[serde(with = "path_bytes")]
    pub work: PathBuf,
}

/// What of the network a sandbox sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A network of its own, with nothing but a loopback interface.
    None,
    /// The host's network.
    Host,
    /// A network of its own with a way out, but none in, through a helper program that ends with the sandbox.
    Private(Uplink),
}

/// One mount on top of the root. Its target is a path inside without any symbolic link: whoever makes the plan has followed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A file or directory of the host, with everything mounted below it.
    Bind {
        /// The path on the host.
        #[serde(with = "path_bytes")]
        source: PathBuf,
        /// What must be found there; `None` takes whatever it is. With it no symbolic link is followed.
        found: Option<FileIdentity>,
        /// The path inside.
        #[serde(with = "path_bytes")]
        target: PathBuf,
        /// Refuse changes, also below mounts that the source contains.
        read_only: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// The path inside.
        #[serde(with = "path_bytes")]
        target: PathBuf,
        /// The largest size in bytes; 0 is the kernel's own limit.
        size_bytes: u64,
        /// The mode of its root directory.
        mode: u32,
        /// Refuse changes: it stays empty.
        read_only: bool,
    },
    /// A read-only file whose bytes are in memory alone.
    Secret {
        /// The path inside.
        #[serde(with = "path_bytes")]
        target: PathBuf,
        /// Its bytes.
        content: SecretBytes,
        /// Its mode.
        mode: u32,
        /// Its owner inside.
        uid: u32,
        /// Its group inside.
        gid: u32,
    },
    /// No mount, but a place for the next ones: made where nothing is yet, inside a mount that was done before.
    Point {
        /// The path inside.
        #[serde(with = "path_bytes")]
        target: PathBuf,
        /// Whether it is a directory; else an empty file.
        directory: bool,
    },
}

impl Mount {
    /// The same at another path inside.
    pub fn aimed_at(mut self, path: PathBuf) -> Self {
        match &mut self {
            Self::Bind { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Secret { target, .. }
            | Self::Point { target, .. } => *target = path,
        }
        self
    }
}

/// Which file something is, however its name changes while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The device number, as stat(2) gives it.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
}

/// Bytes that must not be printed; its `Debug` says only how many there are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, to be used and not shown.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secret bytes", self.0.len())
    }
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which resource.
    pub resource: Resource,
    /// The limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// The ceiling for the limit in force; `u64::MAX` is none.
    pub hard: u64,
}

/// The resources that can be limited; units are those of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the RLIMIT_ constants")]
pub enum Resource {
    AddressSpace,
    Core,
    Cpu,
    Data,
    FileSize,
    LockedMemory,
    MessageQueue,
    Niceness,
    OpenFiles,
    Processes,
    RealTimePriority,
    Stack,
}

/// What keeps a sandbox as a whole within bounds, besides the limits of each process.
///
/// Those from `memory_bytes` on are looked after from outside while the sandbox runs, and whoever goes over one is killed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// A cgroup v2 directory, with limits set, that every process of the sandbox is to be in.
    #[serde(with = "path_option")]
    pub cgroup: Option<PathBuf>,
    /// How many processors are used; a process may undo that.
    pub processors: Option<u32>,
    /// The most memory of all processes together, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most processes and threads.
    pub tasks: Option<u64>,
    /// The most that may be in the upper directory, in bytes on disk, and the longest file there.
    pub written_bytes: Option<u64>,
}

/// Which bound was gone over, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exceeded {
    /// So many bytes of memory were in use.
    Memory(u64),
    /// There were so many processes and threads.
    Tasks(u64),
    /// So many bytes were in the upper directory, or in one file.
    Written(u64),
}

/// Paths are bytes on the wire: serde's own form refuses names that are not UTF-8.
pub(super) mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::sandbox) fn serialize<S: Serializer>(
        path: &Path,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(from_bytes(Vec::deserialize(deserializer)?))
    }

    pub(super) fn from_bytes(bytes: Vec<u8>) -> PathBuf {
        PathBuf::from(OsString::from_vec(bytes))
    }
}

mod path_list {
    use super::*;
    use serde::{Deserializer, Serializer};
    use std::os::unix::ffi::OsStrExt;

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        let list: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
        list.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        let list = Vec::<Vec<u8>>::deserialize(deserializer)?;
        Ok(list.into_iter().map(path_bytes::from_bytes).collect())
    }
}

mod path_option {
    use super::*;
    use serde::{Deserializer, Serializer};
    use std::os::unix::ffi::OsStrExt;

    pub(super) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_deref().map(|path: &Path| path.as_os_str().as_bytes()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Vec<u8>>::deserialize(deserializer)?.map(path_bytes::from_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_plan_survives_the_wire_even_with_names_that_are_not_utf8() {
        let odd = PathBuf::from(std::ffi::OsString::from_vec(b"/l\xff".to_vec()));
        let mut plan = Plan::new(
            Rootfs::Overlay {
                lowers: vec![odd.clone(), "/b".into()],
                data_lower: Some(odd.clone()),
                upper: Some(Upper { upper: "/u".into(), work: "/w".into() }),
            },
            vec![b"true".to_vec()],
        );
        let found = Some(FileIdentity { device: u64::MAX, inode: 1 });
        plan.mounts.push(Mount::Bind { source: odd.clone(), found, target: odd.clone(), read_only: true });
        let content = SecretBytes::new(b"hush".to_vec());
        assert!(!format!("{content:?}").contains("hush"));
        plan.mounts.push(Mount::Secret { target: odd, content, mode: 0o400, uid: 0, gid: 0 });
        let bytes = postcard::to_stdvec(&plan).unwrap();
        assert_eq!(postcard::from_bytes::<Plan>(&bytes).unwrap(), plan);
    }

    #[test]
    fn the_search_path_is_the_plans_own_or_the_default() {
        let mut plan =
            Plan::new(Rootfs::Directory { path: "/x".into(), read_only: true }, vec![b"true".to_vec()]);
        assert_eq!(plan.search_path(), DEFAULT_PATH.as_bytes());
        plan.env = vec![b"PATH=/a".to_vec(), b"PATH=/b:/c".to_vec()];
        assert_eq!(plan.search_path(), b"/b:/c");
    }
}
