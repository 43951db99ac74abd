//! From mounts as asked for to opened sources and what counts in the run key.

use super::source::Source;
use super::{Mount, What, secret};
use crate::engine::command::{Command, Reuse};
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::object::{MountContent, MountSpec, TreePath};

/// One mount, checked, with its source open.
#[derive(Debug, Clone)]
pub(in crate::engine) struct ResolvedMount {
    pub(super) target: TreePath,
    pub(super) what: What,
    pub(super) source: Option<Source>,
}

/// The mounts of a command.
#[derive(Debug, Default)]
pub(in crate::engine) struct ResolvedMounts {
    pub(in crate::engine) mounts: Vec<ResolvedMount>,
    /// What of them counts in the key.
    pub(in crate::engine) specs: Vec<MountSpec>,
    /// Whether all that a result may depend on is known beforehand.
    pub(in crate::engine) known: bool,
}

impl Core {
    pub(in crate::engine) fn resolve_mounts(&self, command: &Command) -> Result<ResolvedMounts> {
        let mut resolved = ResolvedMounts { known: true, ..ResolvedMounts::default() };
        for mount in &command.mounts {
            let target = target_of(mount)?;
            let mut source = None;
            let content = match &mount.what {
                What::Bind { source: path, writable } => {
                    let opened = source.insert(Source::open(self, path)?);
                    if *writable {
                        resolved.known &= command.reuse == Reuse::Always;
                        MountContent::Host
                    } else if command.disposable {
                        // Nothing is remembered, so nothing needs to be known.
                        resolved.known = false;
                        MountContent::Host
                    } else {
                        opened.content(self)?
                    }
                }
                What::Tmpfs { mode, size_bytes } => {
                    if *size_bytes == 0 {
                        return Err(refused(&target, "a tmpfs needs a size above 0"));
                    }
                    MountContent::Tmpfs { mode: *mode }
                }
                What::Cache { id, .. } => {
                    if id.is_empty() {
                        return Err(refused(&target, "a cache needs an id"));
                    }
                    MountContent::Cache
                }
                What::Secret { id, source, version, required, .. } => {
                    check_secret(id, mount, &target)?;
                    if !required && !source.exists() {
                        continue;
                    }
                    MountContent::Secret { version: version.clone() }
                }
            };
            resolved.specs.push(MountSpec { path: target.to_bytes(), content });
            resolved.mounts.push(ResolvedMount { target, what: mount.what.clone(), source });
        }
        resolved.specs.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = resolved.specs.windows(2).find(|pair| pair[0].path == pair[1].path) {
            let target = String::from_utf8_lossy(&pair[0].path);
            return Err(Error::invalid(format!("cannot mount at {target}: two mounts are to go there")));
        }
        Ok(resolved)
    }
}

impl ResolvedMount {
    /// The source of a mount whose content went into the key and is another by now.
    pub(in crate::engine) fn changed_source(&self) -> Option<&std::path::Path> {
        self.source.as_ref().filter(|source| source.changed()).map(|source| source.path.as_path())
    }
}

fn target_of(mount: &Mount) -> Result<TreePath> {
    let text = &mount.target;
    if !text.starts_with('/') {
        return Err(Error::invalid(format!(
            "cannot mount at `{text}`: a mount needs an absolute path inside"
        )));
    }
    TreePath::parse(text.as_bytes())
        .map_err(|error| Error::invalid(format!("cannot mount at `{text}`: {error}")))
}

fn check_secret(id: &str, mount: &Mount, target: &TreePath) -> Result<()> {
    if id.is_empty() {
        return Err(refused(target, "a secret needs an id"));
    }
    // An id that is a path would put the file elsewhere than /run/secrets without a word.
    let default = mount.target == format!("{}/{id}", secret::DIRECTORY);
    if default && (id.contains('/') || matches!(id, "." | "..")) {
        return Err(refused(target, "the id of a secret is a path: give dst= as well"));
    }
    Ok(())
}

fn refused(target: &TreePath, why: &str) -> Error {
    Error::invalid(format!("cannot mount at {target}: {why}"))
}
