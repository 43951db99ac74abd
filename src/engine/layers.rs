//! Which lowers show a tree.
//!
//! A tree's layer is looked up first. One that has none is made: as what differs from a tree whose layers are there, else whole.
//! A stack that grew longer than [`MAX_STACK`] is shortened by joining its upper layers.

use std::path::{Path, PathBuf};

use super::core::{Core, mapped_ids, now_ms};
use super::error::{Error, Result};
use super::hold::Held;
use crate::disk::Scratch;
use crate::index::LayerRecord;
use crate::object::{Entry, Meta, Name, Node, SourceError, Timestamp, TreeId, TreeSource};
use crate::sandbox::Identity;
use crate::worker::Session;
use crate::worktree::layer::{
    BuildOptions, LayerBuilder, LayerEntry, LayerNode, Linking, plan_delta, plan_whole,
};

/// The most lowers of an overlay: each costs a missing-name lookup about 2 µs.
pub(super) const MAX_STACK: usize = 8;

/// How old a layer's last use must be before a new one is noted.
const TOUCH_AFTER_MS: i64 = 60_000;

/// Directories that a sandbox mounts on: every stack shows them, so that nothing has to be made in a state.
pub(super) const MOUNT_POINTS: [&[u8]; 3] = [b"dev", b"proc", b"sys"];

/// The lowers of a tree by name, top first.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub(super) names: Vec<String>,
    /// Nobody deletes them meanwhile.
    _held: Vec<Held>,
}

/// A layer that is there with all below it, and stays while this lives.
struct LiveLayer {
    record: LayerRecord,
    held: Vec<Held>,
}

impl Core {
    /// The lowers that show a tree, made when they are not there. `hint` is a tree that it was made from.
    pub(super) fn stack(&self, session: &Session, tree: TreeId, hint: Option<TreeId>) -> Result<Stack> {
        let identity = self.layer_identity()?;
        let mut layer = match self.live_layer(&tree, &identity)? {
            Some(layer) => layer,
            None => self.make_layer(session, tree, hint, &identity)?,
        };
        if 1 + layer.record.below.len() > MAX_STACK {
            layer = self.join(session, layer)?;
        }
        let LiveLayer { record, held } = layer;
        let now = now_ms();
        if now - record.used_ms > TOUCH_AFTER_MS {
            self.index.touch_layer(&record.name, now)?;
        }
        let mut names = vec![record.name];
        names.extend(record.below);
        Ok(Stack { names, _held: held })
    }

    /// Paths of the lowers, top first.
    pub(super) fn lower_paths(&self, stack: &Stack) -> Vec<PathBuf> {
        let layers = self.layout().layers();
        stack.names.iter().map(|name| layers.join(name)).collect()
    }

    /// Enters a run's upper directory, which is a layer by now, as the layer of the tree it led to.
    pub(super) fn enter_layer(&self, name: String, tree: TreeId, below: &Stack, entries: u64) -> Result<()> {
        let identity = self.layer_identity()?;
        let now = now_ms();
        let record = LayerRecord {
            name,
            tree,
            identity,
            below: below.names.clone(),
            entries,
            bytes: 0,
            made_ms: now,
            used_ms: now,
        };
        Ok(self.index.put_layer(&record)?)
    }

    /// A name for a new layer: the tree it shows and what tells it from others.
    pub(super) fn layer_name(&self, tree: &TreeId, scratch: &Scratch) -> String {
        let unique = scratch.path().file_name().unwrap_or_default().to_string_lossy();
        format!("{}.{unique}.{:x}", &tree.to_string()[..16], now_ms())
    }

    pub(super) fn build_options(&self, identity: &Identity) -> Result<BuildOptions> {
        Ok(BuildOptions {
            objects: self.layout().objects(),
            mapped_ids: mapped_ids(identity),
            stand_ins: self.records_owners()?,
            redirects: crate::sandbox::follows_redirects(),
            linking: Linking::Always,
            exact: false,
        })
    }

    pub(super) fn layer_identity(&self) -> Result<String> {
        let worker = self.worker()?;
        Ok(match worker.identity() {
            Identity::Single { uid, gid } => {
                // They differ in what stands for a device.
                let mode = if self.records_owners()? { "recorded" } else { "single" };
                format!("{mode} {uid} {gid}")
            }
            Identity::Subordinate { uid_ranges, gid_ranges } | Identity::Full { uid_ranges, gid_ranges } => {
                let text = |ranges: &[crate::sandbox::IdRange]| {
                    ranges
                        .iter()
                        .map(|range| format!("{}:{}:{}", range.inner, range.outer, range.count))
                        .collect::<Vec<_>>()
                        .join(",")
                };
                format!("mapped {} {}", text(uid_ranges), text(gid_ranges))
            }
        })
    }

    /// The recorded layer of a tree, when its directories are all there; a record without them is forgotten.
    fn live_layer(&self, tree: &TreeId, identity: &str) -> Result<Option<LiveLayer>> {
        let _undeleted = self.store.undeleted()?;
        while let Some(record) = self.index.layer_for(tree, identity)? {
            let layers = self.layout().layers();
            let held = self.hold_layers(&record)?;
            if std::iter::once(&record.name).chain(&record.below).all(|name| layers.join(name).is_dir()) {
                return Ok(Some(LiveLayer { record, held }));
            }
            self.index.forget_layer(&record.name)?;
        }
        Ok(None)
    }

    /// Tells what bounds the store what a new layer takes besides links to blobs.
    fn count_layer(&self, name: &str) {
        if self.quota.is_some() {
            self.spent(self.held_alone_by(&self.layout().layers().join(name)));
        }
    }

    fn hold_layers(&self, record: &LayerRecord) -> Result<Vec<Held>> {
        std::iter::once(&record.name).chain(&record.below).map(|name| self.hold_layer(name)).collect()
    }

    fn make_layer(
        &self,
        session: &Session,
        tree: TreeId,
        hint: Option<TreeId>,
        identity: &str,
    ) -> Result<LiveLayer> {
        let below = match hint.filter(|hint| *hint != tree) {
            Some(hint) => self.live_layer(&hint, identity)?.map(|layer| (hint, layer)),
            None => None,
        };
        let entries = match &self.store.root(&tree)?.node {
            // What differs from a tree whose layers are there is not known before, and mostly little.
            Node::Directory { below: sums, .. } if below.is_none() => sums.entries,
            _ => 0,
        };
        let _room = self.room_for_layer(entries)?;
        let scratch = Scratch::new(&self.layout().tmp())?;
        let name = self.layer_name(&tree, &scratch);
        let dir = scratch.path().join("layer");
        let mut options = self.build_options(self.worker()?.identity())?;
        // Linux 6.18 follows redirects in the lowest layer only, and elsewhere refuses with EPERM.
        options.redirects &= below.is_none();
        if below.is_some() {
            options.linking = Linking::Unshared;
        }
        let root = self.store.root(&tree)?;
        let store = &self.store;
        let built = session.build_layer::<super::error::Error>(&dir, options, |upload| {
            let mut failed = None;
            let mut emit = |entry: LayerEntry| {
                if entry.node == LayerNode::Whiteout && MOUNT_POINTS.contains(&entry.path.as_slice()) {
                    return Ok(());
                }
                upload.add(entry).map_err(|error| {
                    failed = Some(error);
                    SourceError("the worker is gone".into())
                })
            };
            let planned = match &below {
                Some((hint, _)) => plan_delta(store, &store.root(hint)?, &root, &mut emit),
                None => plan_whole(store, &root, &mut emit)
                    .and_then(|()| missing_mount_points(store, &root)?.into_iter().try_for_each(&mut emit)),
            };
            match failed {
                Some(error) => Err(error.into()),
                None => Ok(planned?),
            }
        });
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                let _ = session.remove(&dir);
                return Err(error);
            }
        };
        let names = match &below {
            Some((_, LiveLayer { record, .. })) => {
                std::iter::once(&record.name).chain(&record.below).cloned().collect()
            }
            None => Vec::new(),
        };
        let _undeleted = self.store.undeleted()?;
        session.rename(&dir, &self.layout().layers().join(&name))?;
        self.count_layer(&name);
        let now = now_ms();
        let record = LayerRecord {
            name,
            tree,
            identity: identity.to_owned(),
            below: names,
            entries: built.entries,
            bytes: built.bytes,
            made_ms: now,
            used_ms: now,
        };
        self.index.put_layer(&record)?;
        let held = self.hold_layers(&record)?;
        Ok(LiveLayer { record, held })
    }

    /// Joins the upper layers of a stack until it is short enough. Sizes grow downwards, as in a log-structured merge, so each entry is
    /// linked again only a logarithmic number of times.
    fn join(&self, session: &Session, layer: LiveLayer) -> Result<LiveLayer> {
        let LiveLayer { record, held: _held } = layer;
        let names: Vec<String> =
            std::iter::once(record.name.clone()).chain(record.below.iter().cloned()).collect();
        let known = self.index.layers_named(&names)?;
        let size = |name: &String| {
            known.iter().find(|layer| layer.name == *name).map_or(u64::MAX / 1024, |layer| layer.entries)
        };
        // The lowest layer is the image: it is never linked again.
        let upper = names.len() - 1;
        let mut count = 2;
        let mut sum = size(&names[0]) + size(&names[1]);
        while count < upper && (sum > size(&names[count]) || names.len() - count + 1 > MAX_STACK) {
            sum += size(&names[count]);
            count += 1;
        }
        let layers = self.layout().layers();
        let scratch = Scratch::new(&self.layout().tmp())?;
        let dir = scratch.path().join("layer");
        let owners = mapped_ids(self.worker()?.identity()) > 1;
        let parts = names[..count].iter().map(|name| layers.join(name)).collect();
        let entries = session.merge_layers(parts, &dir, owners).inspect_err(|_| {
            let _ = session.remove(&dir);
        })?;
        let name = self.layer_name(&record.tree, &scratch);
        let _undeleted = self.store.undeleted()?;
        session.rename(&dir, &layers.join(&name))?;
        self.count_layer(&name);
        let joined =
            LayerRecord { name, below: names[count..].to_vec(), entries, made_ms: now_ms(), ..record };
        self.index.put_layer(&joined)?;
        let held = self.hold_layers(&joined)?;
        Ok(LiveLayer { record: joined, held })
    }
}

impl Core {
    /// A layer of stubs with what hides the tree's own entries where something else than a directory, such as a link, has the name of a
    /// fixed mount point.
    ///
    /// Nothing is mounted through a link of an image (CVE-2026-41579). A directory above hides it for one run, and the tree keeps it.
    pub(super) fn with_hidden(&self, tree: &TreeId, stubs: &[LayerEntry]) -> Result<Vec<LayerEntry>> {
        let mut layer = stubs.to_vec();
        let root = self.store.root(tree)?;
        let Node::Directory { tree, .. } = &root.node else { return Ok(layer) };
        let tree = self.store.tree(tree)?;
        for name in MOUNT_POINTS {
            let entry = Name::new(name).ok().and_then(|name| tree.get(&name));
            if entry.is_none_or(|entry| matches!(entry.node, Node::Directory { .. })) {
                continue;
            }
            let node = LayerNode::Directory { opaque: false };
            if layer.is_empty() {
                layer.push(LayerEntry { path: Vec::new(), meta: root.meta.clone(), node: node.clone() });
            }
            let meta = Meta::root_owned(0o755, Timestamp::default());
            layer.push(LayerEntry { path: name.to_vec(), meta, node });
        }
        Ok(layer)
    }
}

/// Empty directories for the mount points that a file system lacks.
fn missing_mount_points(source: &dyn TreeSource, root: &Entry) -> Result<Vec<LayerEntry>, SourceError> {
    let Node::Directory { tree, .. } = &root.node else { return Ok(Vec::new()) };
    let tree = source.tree(tree)?;
    let lacks = |name: &&[u8]| !Name::new(name).is_ok_and(|name| tree.get(&name).is_some());
    Ok(MOUNT_POINTS
        .into_iter()
        .filter(lacks)
        .map(|name| LayerEntry {
            path: name.to_vec(),
            meta: Meta::root_owned(0o755, Timestamp::default()),
            node: LayerNode::Directory { opaque: false },
        })
        .collect())
}

/// Makes a small layer of directories and empty files in a directory that does not exist yet.
pub(super) fn make_layer(
    session: &Session,
    dir: &Path,
    entries: &[LayerEntry],
    options: BuildOptions,
) -> Result<()> {
    let plain =
        |entry: &LayerEntry| entry.meta.uid == 0 && entry.meta.gid == 0 && entry.meta.xattrs.is_empty();
    if entries.iter().all(plain) {
        // Root inside is the caller outside, who needs no worker for this.
        std::fs::create_dir(dir).map_err(|error| Error::disk("create directory", dir, error))?;
        let mut builder = LayerBuilder::new(dir, BuildOptions { mapped_ids: 1, ..options })?;
        entries.iter().try_for_each(|entry| builder.add(entry))?;
        builder.finish()?;
        return Ok(());
    }
    session.build_layer::<Error>(dir, options, |upload| {
        Ok(entries.iter().try_for_each(|entry| upload.add(entry.clone()))?)
    })?;
    Ok(())
}
