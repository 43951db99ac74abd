//! Stores and archives made by code, for the tests of this room.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::digest::{Algorithm, Digest};
use super::{ImageSource, ImportError, ImportOptions, Imported, Originals, import};
use crate::disk::Durability;
use crate::object::{Entry, Node, TreePath, TreeSource};
use crate::store::testing::MemoryCatalog;
use crate::store::{Layout, Store};

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

/// A tar archive under construction.
pub(crate) struct TarMaker(tar::Builder<Vec<u8>>);

impl TarMaker {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// A header of that type for that path, mode 0644, time 1000.
    pub(crate) fn header(code: u8, path: &[u8]) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(code));
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_mode(if code == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_size(0);
        header
    }

    pub(crate) fn add(mut self, mut header: tar::Header, body: &[u8]) -> Self {
        header.set_cksum();
        self.0.append(&header, body).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, body: &str) -> Self {
        let mut header = Self::header(b'0', path.as_bytes());
        header.set_size(body.len() as u64);
        self.add(header, body.as_bytes())
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.add(Self::header(b'5', path.as_bytes()), b"")
    }

    pub(crate) fn dir_mode(self, path: &str, mode: u32) -> Self {
        let mut header = Self::header(b'5', path.as_bytes());
        header.set_mode(mode);
        self.add(header, b"")
    }

    pub(crate) fn link(self, code: u8, path: &str, target: &str) -> Self {
        let mut header = Self::header(code, path.as_bytes());
        header.set_link_name_literal(target).unwrap();
        self.add(header, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(b'1', path, target)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(b'2', path, target)
    }

    /// Pax records for the next entry, or for all with code `g`.
    pub(crate) fn pax(self, code: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + rest.to_string().len();
            len = rest + len.to_string().len();
            data.extend_from_slice(format!("{len} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let mut header = Self::header(code, b"pax");
        header.set_size(data.len() as u64);
        self.add(header, &data)
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

/// An OCI image under construction: blobs by digest, then documents over them.
#[derive(Clone)]
pub(crate) struct OciImage {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) index: serde_json::Value,
    pub(crate) manifest: serde_json::Value,
    pub(crate) config: serde_json::Value,
}

pub(crate) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

impl OciImage {
    /// An image of these layers, which are stored as they are.
    pub(crate) fn of(layers: &[Vec<u8>]) -> Self {
        let stored: Vec<_> = layers.iter().map(|layer| (layer.clone(), layer.clone())).collect();
        Self::of_stored(&stored)
    }

    /// An image of layers given as the archive and the bytes that are stored for it.
    pub(crate) fn of_stored(layers: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let mut blobs = BTreeMap::new();
        let mut descriptors = Vec::new();
        for (_, stored) in layers {
            blobs.insert(sha256(stored), stored.clone());
            descriptors.push(descriptor(LAYER_TYPE, stored));
        }
        let diff_ids: Vec<_> = layers.iter().map(|(plain, _)| sha256(plain)).collect();
        let config = serde_json::json!({
            "os": "linux", "architecture": crate::object::Platform::host().architecture,
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": descriptors});
        Self { blobs, index: serde_json::Value::Null, manifest, config }
    }

    /// Puts the documents in place that are still missing.
    pub(crate) fn seal(mut self) -> Self {
        let config = self.config.to_string().into_bytes();
        if self.manifest.get("config").is_none() {
            self.manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &config);
        }
        self.blobs.insert(sha256(&config), config);
        let manifest = self.manifest.to_string().into_bytes();
        if self.index.is_null() {
            self.index = index_of(&[descriptor(MANIFEST_TYPE, &manifest)]);
        }
        self.blobs.insert(sha256(&manifest), manifest);
        self
    }

    /// The manifest's descriptor, once sealed.
    pub(crate) fn descriptor(&self) -> serde_json::Value {
        descriptor(MANIFEST_TYPE, self.manifest.to_string().as_bytes())
    }

    pub(crate) fn write_layout(self, dir: &Path) {
        let sealed = self.seal();
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        for (name, bytes) in sealed.files() {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    /// The layout as an archive.
    pub(crate) fn archive(self) -> Vec<u8> {
        let mut maker = TarMaker::new();
        for (name, bytes) in self.seal().files() {
            let mut header = TarMaker::header(b'0', name.as_bytes());
            header.set_size(bytes.len() as u64);
            maker = maker.add(header, &bytes);
        }
        maker.end()
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let blobs = self.blobs.iter();
        let mut files: Vec<_> = blobs
            .map(|(digest, bytes)| (format!("blobs/{}", digest.replace(':', "/")), bytes.clone()))
            .collect();
        files.push(("index.json".into(), self.index.to_string().into_bytes()));
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

pub(crate) fn index_of(manifests: &[serde_json::Value]) -> serde_json::Value {
    serde_json::json!({"schemaVersion": 2, "manifests": manifests})
}
