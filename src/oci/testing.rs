//! Stores and archives made by code, for the tests of this room.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{ImageSource, ImportError, ImportOptions, Imported, Originals, import};
use crate::disk::Durability;
use crate::object::{Entry, Node, TreePath, TreeSource};
use crate::store::testing::MemoryCatalog;
use crate::store::{Layout, Store};

#[path = "../../fixtures/images/mod.rs"]
pub(crate) mod fixtures;

pub(crate) use fixtures::archive::TarMaker;
pub(crate) use fixtures::layout::{LAYER_TYPE, OciImage, descriptor, index_of, sha256};
pub(crate) use fixtures::stored::gzip;

/// A store in a temporary directory, and room for archives beside it.
pub(crate) struct Place {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) store: Store,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Durability::Batch)
    }

    pub(crate) fn with(durability: Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(&dir.path().join("store")).unwrap();
        let store = Store::open(layout, Arc::new(MemoryCatalog::default()), durability).unwrap();
        Self { dir: Arc::new(dir), store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn try_import(
        &self,
        source: &ImageSource,
        options: &ImportOptions,
    ) -> Result<Imported, ImportError> {
        let mut batch = self.store.batch().unwrap();
        let imported = import(source, &mut batch, &self.store, &self.originals(), &(), options)?;
        batch.commit().unwrap();
        Ok(imported)
    }

    pub(crate) fn originals(&self) -> Originals {
        Originals::new(self.store.layout().originals(), self.store.durability())
    }

    pub(crate) fn import(&self, source: &ImageSource) -> Imported {
        self.try_import(source, &ImportOptions::default()).unwrap()
    }

    /// Imports an OCI layout of these uncompressed layers.
    pub(crate) fn layers(&self, layers: &[Vec<u8>]) -> Result<Files, ImportError> {
        let dir = self.path("layout");
        OciImage::of(layers).write_layout(&dir);
        let source = ImageSource::OciLayout { dir: dir.clone(), reference: None };
        let imported = self.try_import(&source, &ImportOptions::default());
        std::fs::remove_dir_all(dir).unwrap();
        Ok(self.files(&imported?))
    }

    /// Imports a root archive.
    pub(crate) fn tar(&self, bytes: &[u8]) -> Result<Files, ImportError> {
        let file = self.file("root.tar", bytes);
        let imported = self.try_import(&ImageSource::Tar { file }, &ImportOptions::default())?;
        Ok(self.files(&imported))
    }

    /// All entries by path, the root as the empty one.
    pub(crate) fn files(&self, imported: &Imported) -> Files {
        let mut entries = BTreeMap::new();
        let root = self.store.root(&imported.root).unwrap();
        self.walk(&root, &TreePath::root(), &mut entries);
        Files { entries, store: self.store.clone(), _dir: Arc::clone(&self.dir) }
    }

    fn walk(&self, entry: &Entry, path: &TreePath, into: &mut BTreeMap<String, Entry>) {
        let text = path.to_relative_bytes().escape_ascii().to_string();
        into.insert(text, entry.clone());
        if let Node::Directory { tree, .. } = &entry.node {
            for (name, entry) in self.store.tree(tree).unwrap().entries() {
                self.walk(entry, &path.join(name), into);
            }
        }
    }
}

/// What an import made.
pub(crate) struct Files {
    pub(crate) entries: BTreeMap<String, Entry>,
    store: Store,
    _dir: Arc<tempfile::TempDir>,
}

impl Files {
    pub(crate) fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).filter(|path| !path.is_empty()).collect()
    }

    pub(crate) fn get(&self, path: &str) -> &Entry {
        self.entries.get(path).unwrap_or_else(|| panic!("no {path} among {:?}", self.paths()))
    }

    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.bytes(path)).into_owned()
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let Node::File { blob, size, .. } = &self.get(path).node else { panic!("{path} is no file") };
        let bytes = self.store.read_blob(blob).unwrap();
        assert_eq!(bytes.len() as u64, *size);
        bytes
    }

    pub(crate) fn link(&self, path: &str) -> Option<crate::object::LinkGroup> {
        let Node::File { link, .. } = &self.get(path).node else { panic!("{path} is no file") };
        *link
    }
}
