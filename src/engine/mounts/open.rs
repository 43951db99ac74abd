//! The mounts of one run: everything opened, locked and read.

use std::path::Path;
use std::time::{Duration, Instant};

use super::cache::{Held, Made, name_of};
use super::points::{Points, Stubs};
use super::secret::{Secrets, too_short};
use super::{Owner, ReadSecret, ResolvedMount, Sharing, What};
use crate::engine::core::Core;
use crate::engine::error::Result;
use crate::engine::network::RESOLVER_FILE;
use crate::engine::spec::Resolved;
use crate::object::TreePath;
use crate::sandbox::Mount;
use crate::worker::Session;

/// The mounts of one run. Caches are held until it is dropped.
#[derive(Debug, Default)]
pub(in crate::engine) struct RunMounts {
    /// For the plan, in order.
    pub(in crate::engine) plan: Vec<Mount>,
    pub(in crate::engine) stubs: Stubs,
    pub(in crate::engine) secrets: Secrets,
    /// By id.
    caches: Vec<(String, Held)>,
}

impl Core {
    /// Opens what a run mounts; `resolver` is the file to be seen as the resolver file. `timeout` limits how long it waits for caches.
    pub(in crate::engine) fn open_mounts(
        &self,
        session: &Session,
        resolved: &Resolved,
        resolver: Option<&Path>,
        timeout: Option<Duration>,
    ) -> Result<RunMounts> {
        let mut run = RunMounts::default();
        if resolved.mounts.is_empty() && resolver.is_none() {
            return Ok(run);
        }
        let deadline = timeout.map(|limit| Instant::now() + limit);
        let spec = &resolved.spec;
        let owner = |owner: &Owner| (owner.uid.unwrap_or(spec.uid), owner.gid.unwrap_or(spec.gid));
        let mut points = Points::new(&self.store, self.store.root(&resolved.base)?);
        let mut secrets = Vec::new();
        for mount in self.in_locking_order(&resolved.mounts)? {
            let ResolvedMount { target, what, source } = mount;
            match (what, source) {
                (What::Bind { writable, .. }, Some(source)) => {
                    let bind = bind(&source.path, source.identity, !writable);
                    points.add(target, source.directory, bind);
                    if let Some(below) = &source.store_below {
                        points.add(&joined(target, below)?, true, cover());
                    }
                }
                (What::Tmpfs { size_bytes, mode }, _) => {
                    let (size_bytes, mode) = (*size_bytes, u32::from(*mode));
                    let tmpfs = Mount::Tmpfs { target: "/".into(), size_bytes, mode, read_only: false };
                    points.add(target, true, tmpfs);
                }
                (What::Cache { id, sharing, owner: given, mode, read_only }, _) => {
                    let (uid, gid) = owner(given);
                    let made = Made { mode: *mode, uid, gid };
                    // A run that mounts one cache twice must not wait for itself.
                    let again = *sharing != Sharing::Private;
                    let held = run.caches.iter().position(|(held, _)| again && held == id);
                    let at = match held {
                        Some(at) => at,
                        None => {
                            let held = self.hold_cache(session, id, *sharing, made, deadline)?;
                            run.caches.push((id.clone(), held));
                            run.caches.len() - 1
                        }
                    };
                    let (_, held) = &run.caches[at];
                    let mount = bind(&held.path, held.identity, *read_only);
                    match read_only {
                        true => points.add(target, true, mount),
                        false => points.add_own(target, mount),
                    }
                }
                (What::Secret { id, source, owner: given, mode, .. }, _) => {
                    let bytes = source.read(id)?;
                    let (uid, gid) = owner(given);
                    let content = bytes.clone();
                    let secret =
                        Mount::Secret { target: "/".into(), content, mode: u32::from(*mode), uid, gid };
                    points.add(target, false, secret);
                    secrets.push(ReadSecret { id: id.clone(), bytes });
                }
                (What::Bind { .. }, None) => unreachable!("every bind mount is resolved with its source"),
            }
        }
        if let Some(source) = resolver {
            let bind =
                Mount::Bind { source: source.into(), found: None, target: "/".into(), read_only: false };
            points.add_unless_covered(&parsed(RESOLVER_FILE.as_bytes())?, bind);
        }
        (run.plan, run.stubs) = points.finish()?;
        if !resolved.disposable {
            let (searched, short) = Secrets::new(&secrets);
            short.into_iter().for_each(|id| self.notice(&too_short(id)));
            searched.check_command(&spec.encode())?;
            run.secrets = searched;
        }
        Ok(run)
    }

    /// The mounts, caches in the order of their names: two runs that take the same ones never wait for each other in a circle.
    fn in_locking_order<'m>(&self, mounts: &'m [ResolvedMount]) -> Result<Vec<&'m ResolvedMount>> {
        let mut ordered: Vec<&ResolvedMount> = mounts.iter().collect();
        if mounts.iter().any(|mount| matches!(mount.what, What::Cache { .. })) {
            let identity = self.layer_identity()?;
            ordered.sort_by_cached_key(|mount| match &mount.what {
                // Of one cache that is mounted twice, the stricter lock is taken.
                What::Cache { id, sharing, .. } => {
                    Some((name_of(id, &identity), *sharing != Sharing::Locked, *sharing == Sharing::Private))
                }
                _ => None,
            });
        }
        Ok(ordered)
    }
}

fn bind(source: &Path, found: crate::sandbox::FileIdentity, read_only: bool) -> Mount {
    Mount::Bind { source: source.to_owned(), found: Some(found), target: "/".into(), read_only }
}

/// What hides the store where it lies in a bound directory.
fn cover() -> Mount {
    Mount::Tmpfs { target: "/".into(), size_bytes: 4096, mode: 0o755, read_only: true }
}

fn joined(target: &TreePath, below: &Path) -> Result<TreePath> {
    let mut bytes = target.to_bytes();
    bytes.push(b'/');
    bytes.extend_from_slice(below.as_os_str().as_encoded_bytes());
    parsed(&bytes)
}

fn parsed(path: &[u8]) -> Result<TreePath> {
    TreePath::parse(path).map_err(|error| crate::engine::error::Error::invalid(error.to_string()))
}
