//! What a command sees besides its state: host directories, memory, caches, secrets.
//!
//! [`Mount`] is what is asked for. `resolve.rs` opens sources and says what counts in the run key; `points.rs` finds where in the tree each
//! mount goes and what stands in for mount points that the tree lacks; `cache.rs` and `secret.rs` are what their names say; `open.rs`
//! joins them for one run; `again.rs` makes those of a recorded run.
//!
//! # Invariants
//! - A mount point that the tree lacks stands in a lower layer of the run's own. Nothing is ever made in the state, and nothing in a host
//!   directory that is bound.
//! - What is hashed into the key is what is shown: the same open file, looked at again after the run.
//! - A secret's bytes are in memory alone. What is kept of a run is searched for them first.

mod again;
mod cache;
mod open;
mod points;
mod resolve;
mod secret;
mod source;

use std::path::{Path, PathBuf};

pub(super) use open::RunMounts;
pub(super) use resolve::ResolvedMount;
pub(super) use secret::Secrets;

/// What a fuzz target does with what the index knows of a mounted path.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz_known(text: &str) {
    let _ = source::parse(text);
}

pub use secret::{MAX_SECRET_BYTES, SecretSource};

use crate::sandbox::SecretBytes;

/// How large a tmpfs may grow unless a mount says otherwise.
pub const DEFAULT_TMPFS_BYTES: u64 = 1 << 30;

/// One mount of a command.
///
/// ```
/// use treebox::{Command, Mount, SecretSource};
///
/// let build = Command::shell("cd /src && make O=/build")
///     .mount(Mount::bind("./src", "/src"))
///     .mount(Mount::tmpfs("/build"))
///     .mount(Mount::cache("ccache", "/root/.ccache"))
///     .mount(Mount::secret("token", SecretSource::file("token.txt")));
/// # let _ = build;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub(super) target: String,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Bind {
        source: PathBuf,
        writable: bool,
    },
    Tmpfs {
        size_bytes: u64,
        mode: u16,
    },
    Cache {
        id: String,
        sharing: Sharing,
        owner: Owner,
        mode: u16,
        read_only: bool,
    },
    Secret {
        id: String,
        source: SecretSource,
        owner: Owner,
        mode: u16,
        version: Option<String>,
        required: bool,
    },
}

/// Who owns something; what is not said is the command's own user or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Owner {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// How several runs use one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// All at once, as programs do that lock their cache themselves.
    #[default]
    Shared,
    /// One after the other; a run waits for its turn.
    Locked,
    /// Each has one of its own: the first that is free, or a new one.
    Private,
}

impl Mount {
    /// A file or directory of the host, read-only. Its content counts in the run key: names, bytes, modes and targets of links, not owners,
    /// times or extended attributes. So all of it must be readable. A relative path begins at this process's working directory.
    pub fn bind(source: impl AsRef<Path>, target: impl Into<String>) -> Self {
        let source = source.as_ref().to_owned();
        Self { target: target.into(), what: What::Bind { source, writable: false } }
    }

    /// A file or directory of the host that the command may change. What it finds there is not known beforehand, so the run is only
    /// remembered with [`super::Reuse::Always`]. What it leaves there is no part of the resulting state.
    pub fn bind_writable(source: impl AsRef<Path>, target: impl Into<String>) -> Self {
        let source = source.as_ref().to_owned();
        Self { target: target.into(), what: What::Bind { source, writable: true } }
    }

    /// An empty directory in memory, gone after the run; at most [`DEFAULT_TMPFS_BYTES`] large, with mode 1777.
    pub fn tmpfs(target: impl Into<String>) -> Self {
        Self { target: target.into(), what: What::Tmpfs { size_bytes: DEFAULT_TMPFS_BYTES, mode: 0o1777 } }
    }

    /// A directory that is kept in the store between runs, whatever becomes of them. What is in it does not count in the run key.
    ///
    /// Any text can be an id. Runs with subordinate ids and runs with one id have separate caches of one name.
    pub fn cache(id: impl Into<String>, target: impl Into<String>) -> Self {
        let (id, sharing, owner) = (id.into(), Sharing::default(), Owner::default());
        Self {
            target: target.into(),
            what: What::Cache { id, sharing, owner, mode: 0o755, read_only: false },
        }
    }

    /// A file at `/run/secrets/ID` that exists in memory alone, readable by the command's user. Its bytes do not count in the run key.
    ///
    /// When they turn up in what the run leaves, as they are or in base64, nothing of the run is kept and it fails. In kept output they are
    /// masked. Parts of a secret, other encodings, and secrets below 8 bytes are not found.
    pub fn secret(id: impl Into<String>, source: SecretSource) -> Self {
        let id = id.into();
        let target = format!("{}/{id}", secret::DIRECTORY);
        let (owner, version) = (Owner::default(), None);
        Self { target, what: What::Secret { id, source, owner, mode: 0o400, version, required: true } }
    }

    /// Puts it elsewhere.
    pub fn at(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Sets the largest size of a tmpfs in bytes; nothing else has one.
    pub fn size(mut self, bytes: u64) -> Self {
        if let What::Tmpfs { size_bytes, .. } = &mut self.what {
            *size_bytes = bytes;
        }
        self
    }

    /// Sets the mode of a tmpfs, of a cache when it is made, or of a secret; a bound file keeps its own.
    pub fn mode(mut self, bits: u16) -> Self {
        match &mut self.what {
            What::Tmpfs { mode, .. } | What::Cache { mode, .. } | What::Secret { mode, .. } => {
                *mode = bits & 0o7777;
            }
            What::Bind { .. } => {}
        }
        self
    }

    /// Sets the owner of a cache when it is made, or of a secret, as ids inside; by default the command's user and group.
    pub fn owner(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        if let What::Cache { owner, .. } | What::Secret { owner, .. } = &mut self.what {
            *owner = Owner { uid, gid };
        }
        self
    }

    /// Refuses changes of a cache.
    pub fn read_only(mut self, yes: bool) -> Self {
        if let What::Cache { read_only, .. } = &mut self.what {
            *read_only = yes;
        }
        self
    }

    /// Says how several runs use a cache.
    pub fn sharing(mut self, how: Sharing) -> Self {
        if let What::Cache { sharing, .. } = &mut self.what {
            *sharing = how;
        }
        self
    }

    /// Gives a secret a version that counts in the run key, so that a new one makes commands run again.
    pub fn version(mut self, text: impl Into<String>) -> Self {
        if let What::Secret { version, .. } = &mut self.what {
            *version = Some(text.into());
        }
        self
    }

    /// Whether a secret whose file is not there is an error, as by default, or simply not shown.
    pub fn required(mut self, yes: bool) -> Self {
        if let What::Secret { required, .. } = &mut self.what {
            *required = yes;
        }
        self
    }
}

/// A secret as it was read for one run.
#[derive(Debug)]
struct ReadSecret {
    id: String,
    bytes: SecretBytes,
}
