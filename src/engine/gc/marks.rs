//! What is to stay: everything that roots lead to.
//!
//! Ids are all that is kept in memory: some 40 to 75 bytes for an object, so a million objects take at most 75 MB.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::object::{BlobId, Entry, Node, StateId, TreeId};
use crate::store::{StoreError, record_bytes};

/// A set of ids. They are hashes already: eight of their bytes are as good as any hash of them.
pub(in crate::engine) type Ids = HashSet<[u8; 32], BuildHasherDefault<FirstBytes>>;

/// Takes the first eight bytes for a hash.
#[derive(Debug, Default)]
pub(in crate::engine) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Something that a root names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::engine) enum Thing {
    State(StateId),
    Root(TreeId),
    Directory(TreeId),
    Blob(BlobId),
}

/// Everything that was found to stay.
#[derive(Debug, Default)]
pub(in crate::engine) struct Marks {
    /// Trees and states.
    pub(in crate::engine) packed: Ids,
    pub(in crate::engine) blobs: Ids,
}

impl Marks {
    pub(in crate::engine) fn has(&self, thing: Thing) -> bool {
        match thing {
            Thing::State(id) => self.packed.contains(id.as_bytes()),
            Thing::Root(id) | Thing::Directory(id) => self.packed.contains(id.as_bytes()),
            Thing::Blob(id) => self.blobs.contains(id.as_bytes()),
        }
    }

    /// Whether it was new.
    pub(in crate::engine) fn insert(&mut self, thing: Thing) -> bool {
        match thing {
            Thing::State(id) => self.packed.insert(*id.as_bytes()),
            Thing::Root(id) | Thing::Directory(id) => self.packed.insert(*id.as_bytes()),
            Thing::Blob(id) => self.blobs.insert(*id.as_bytes()),
        }
    }

    pub(in crate::engine) fn remove(&mut self, thing: Thing) {
        match thing {
            Thing::State(id) => self.packed.remove(id.as_bytes()),
            Thing::Root(id) | Thing::Directory(id) => self.packed.remove(id.as_bytes()),
            Thing::Blob(id) => self.blobs.remove(id.as_bytes()),
        };
    }
}

impl Core {
    /// Marks a thing and all that it leads to, as far as it was not marked; `fresh` hears of each that was not.
    ///
    /// What is missing leads nowhere. What is damaged could lead anywhere, so nothing may be deleted then.
    pub(in crate::engine) fn mark(
        &self,
        marks: &mut Marks,
        thing: Thing,
        fresh: &mut dyn FnMut(Thing) -> Result<()>,
    ) -> Result<()> {
        let mut todo = vec![thing];
        while let Some(thing) = todo.pop() {
            if !marks.insert(thing) {
                continue;
            }
            fresh(thing)?;
            for below in self.leads_to(thing)? {
                if !marks.has(below) {
                    todo.push(below);
                }
            }
        }
        Ok(())
    }

    /// What a thing names directly; nothing when it is missing.
    pub(in crate::engine) fn leads_to(&self, thing: Thing) -> Result<Vec<Thing>> {
        fn there<T>(read: Result<T, StoreError>) -> Result<Option<T>> {
            match read {
                Ok(read) => Ok(Some(read)),
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => Err(Error::from(error)),
            }
        }
        let of_entry = |entry: &Entry| match &entry.node {
            Node::Directory { tree, .. } => Some(Thing::Directory(*tree)),
            Node::File { blob, .. } => Some(Thing::Blob(*blob)),
            _ => None,
        };
        Ok(match thing {
            Thing::Blob(_) => Vec::new(),
            Thing::State(id) => {
                there(self.store.state(&id))?.map(|state| Thing::Root(state.root)).into_iter().collect()
            }
            Thing::Root(id) => there(self.store.root(&id))?.iter().filter_map(of_entry).collect(),
            Thing::Directory(id) => match there(self.store.directory(&id))? {
                Some(tree) => tree.entries().iter().filter_map(|(_, entry)| of_entry(entry)).collect(),
                None => Vec::new(),
            },
        })
    }

    /// What a thing takes on disk, in bytes.
    pub(in crate::engine) fn disk_bytes(&self, thing: Thing) -> Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        let id = match thing {
            Thing::Blob(id) => {
                let stat = std::fs::symlink_metadata(self.store.blob_path(&id));
                return Ok(stat.map_or(0, |stat| stat.blocks() * 512));
            }
            Thing::State(id) => *id.as_bytes(),
            Thing::Root(id) | Thing::Directory(id) => *id.as_bytes(),
        };
        Ok(self.index.locate(&id)?.map_or(0, |location| record_bytes(u64::from(location.len))))
    }
}
