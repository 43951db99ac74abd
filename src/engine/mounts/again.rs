//! Mounts of a recorded run, as far as they can be made again.

use super::{DEFAULT_TMPFS_BYTES, Owner, ResolvedMount, Sharing, What};
use crate::object::{MountContent, MountSpec, TreePath};

impl ResolvedMount {
    /// The mount that a record tells of; else what of it was not kept.
    ///
    /// Memory is empty each time. Of a cache nothing counts, so one of its own for that path stands in, which later runs find again.
    /// What the host showed, and secrets, are nowhere but on the host.
    pub(in crate::engine) fn again(spec: &MountSpec) -> Result<Self, String> {
        let target = TreePath::parse(&spec.path)
            .map_err(|error| format!("its mount at {} is damaged: {error}", spec.path.escape_ascii()))?;
        let what = match &spec.content {
            MountContent::Tmpfs { mode } => What::Tmpfs { size_bytes: DEFAULT_TMPFS_BYTES, mode: *mode },
            MountContent::Cache => What::Cache {
                id: format!("again:{target}"),
                sharing: Sharing::default(),
                owner: Owner::default(),
                mode: 0o755,
                read_only: false,
            },
            MountContent::Directory(_) => return Err(lack(&target, "the host directory")),
            MountContent::File { .. } => return Err(lack(&target, "the host file")),
            MountContent::Special => return Err(lack(&target, "the host's socket or FIFO")),
            MountContent::Host => return Err(lack(&target, "the writable host directory")),
            MountContent::Secret { .. } => return Err(lack(&target, "the secret")),
        };
        Ok(Self { target, what, source: None })
    }
}

fn lack(target: &TreePath, what: &str) -> String {
    format!("{what} that was mounted at {target} is not kept")
}
