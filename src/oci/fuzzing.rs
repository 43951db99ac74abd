//! What the fuzz targets do with any bytes: read them as this room reads an image, in memory, and hold the reader to its promises.
//!
//! `fuzz/` calls these functions from libFuzzer, the tests of this room from changed seeds. No build but those two has this module.
//!
//! # Invariants
//! - No input makes a target panic, take much memory or run long; what is promised of the reader is asserted here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use super::blobs::Parts;
use super::config::runtime_config;
use super::decompress::{Decoder, Format};
use super::digest::{Algorithm, Digest};
use super::document::{self, Document};
use super::entry::{TarEntry, TarKind};
use super::error::{ImportError, LayerError};
use super::image::{Image, open_docker, open_oci};
use super::import::ImportOptions;
use super::layer::{Change, Changes, LayerChanges};
use super::limits::{Limits, within};
use super::section::Section;
use super::source::search;
use super::tarball::{Input, Tar, read_buffered};
use crate::object::{
    BlobId, Draft, Entry, Meta, NewNode, Platform, SourceError, Timestamp, Tree, TreeId, TreeSink, TreeSource,
};

/// Small, so that a target's memory and time are.
fn limits() -> Limits {
    Limits {
        entries: 300,
        header_bytes: 1 << 16,
        sparse_regions: 200,
        file_bytes: 1 << 18,
        total_bytes: 1 << 20,
        metadata_bytes: 1 << 18,
        zstd_window_log: 20,
        ..Limits::default()
    }
}

/// A layer: any compression, any tar archive.
pub fn layer(bytes: &[u8]) {
    for bytes in [bytes, &with_check_sums(bytes)] {
        if let Ok(plain) = decompressed(bytes) {
            check_archive(&plain);
        }
    }
}

/// A manifest and its config, each also read as every other document; they are separated by a NUL byte.
pub fn manifest(bytes: &[u8]) {
    let mut documents: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    for bytes in &documents {
        check_document(bytes);
    }
    // An index that lists the first.
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":99991}}]}}"#,
        "1".repeat(64),
    );
    documents.insert(0, index.as_bytes());
    check_layout(&documents);
}

/// The index of a layout, and what it lists, separated by NUL bytes.
///
/// Document number N is named by the digest of 64 digits N (in hexadecimal) and the size 99990 + N: both are put right here, so that a
/// change does not end at a wrong digest.
pub fn index(bytes: &[u8]) {
    let documents: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    check_layout(&documents);
}

/// What `docker save` writes.
pub fn docker_archive(bytes: &[u8]) {
    let open = |parts: &Parts, options: &ImportOptions| open_docker(parts, None, options);
    for bytes in [bytes, &with_check_sums(bytes)] {
        check_image_archive(bytes, &open);
    }
}

/// An archive of a layout.
pub fn oci_archive(bytes: &[u8]) {
    let open = |parts: &Parts, options: &ImportOptions| open_oci(parts, None, options);
    for bytes in [bytes, &with_digests(&with_check_sums(bytes))] {
        check_image_archive(bytes, &open);
    }
}

/// Takes the compression off, within the limits.
fn decompressed(bytes: &[u8]) -> Result<Vec<u8>, LayerError> {
    let limits = limits();
    let mut decoder = Decoder::new(Format::sniff(bytes), bytes, &limits)?;
    let (mut plain, mut buffer) = (Vec::new(), vec![0; 8192]);
    loop {
        match decoder.read(&mut buffer)? {
            0 => break,
            count => plain.extend_from_slice(&buffer[..count]),
        }
        within("total_bytes", limits.total_bytes, plain.len() as u64, String::new)?;
    }
    let rest = decoder.finish()?;
    assert!(rest.is_empty(), "all of the input is read");
    Ok(plain)
}

/// An entry with its body.
type Whole = (TarEntry, Vec<u8>);

fn entries(input: impl Input) -> Result<Vec<Whole>, LayerError> {
    let limits = limits();
    let mut tar = Tar::new(input, &limits);
    let (mut found, mut total) = (Vec::new(), 0);
    while let Some(entry) = tar.next()? {
        within("entries", limits.entries, found.len() as u64 + 1, String::new)?;
        let mut body = Vec::new();
        if let TarKind::File { size, regions } = &entry.kind {
            total += size;
            within("total_bytes", limits.total_bytes, total, String::new)?;
            tar.copy_body(*size, regions.as_deref(), |piece| {
                body.extend_from_slice(piece);
                Ok(())
            })?;
            assert_eq!(body.len() as u64, *size, "a body is as long as its entry says");
        }
        assert!(!entry.path.is_empty() && entry.path.len() as u64 <= limits.path_bytes);
        found.push((entry, body));
    }
    Ok(found)
}

/// Gives its bytes in small pieces of several lengths.
struct Slowly<'b>(&'b [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, to)
    }
}

impl BufRead for Slowly<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        const PIECES: [usize; 5] = [1, 511, 3, 513, 64];
        Ok(&self.0[..self.0.len().min(PIECES[self.1 % PIECES.len()])])
    }

    fn consume(&mut self, count: usize) {
        self.0 = &self.0[count..];
        self.1 += 1;
    }
}

impl Input for Slowly<'_> {}

/// Reads an archive in two ways, and applies it to nothing, to itself and to another tree.
fn check_archive(plain: &[u8]) {
    let read = entries(plain);
    let slowly = entries(Slowly(plain, 0));
    match (&read, &slowly) {
        (Ok(read), Ok(slowly)) => assert!(read == slowly, "pieces make no difference"),
        (Err(read), Err(slowly)) => assert_eq!(read.to_string(), slowly.to_string()),
        _ => panic!("in one piece {:?}, in several {:?}", read.is_ok(), slowly.is_ok()),
    }
    let Ok(read) = read else { return };
    let mut memory = Memory::default();
    if let Ok(first) = applied(&mut memory, None, &read, true) {
        let again = applied(&mut memory, Some(first.clone()), &read, false).map(|(id, _)| id);
        assert_eq!(again.ok(), Some(first.0), "the same layer twice is the same tree");
        let plain = applied(&mut memory, None, &read, false).map(|(id, _)| id);
        assert_eq!(
            plain.ok(),
            Some(first.0),
            "over nothing it makes no difference whether a layer is the lowest"
        );
    }
    let base = base(&mut memory);
    // Whether it fits is the archive's business.
    let _ = applied(&mut memory, Some(base), &read, false);
}

/// Trees in memory.
#[derive(Default)]
struct Memory(HashMap<TreeId, Vec<u8>>);

impl TreeSource for Memory {
    fn tree(&self, id: &TreeId) -> Result<Tree, SourceError> {
        let bytes = self.0.get(id).expect("only trees that were put are named");
        Tree::decode(bytes).map_err(|error| SourceError(Box::new(error)))
    }
}

impl TreeSink for Memory {
    fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.0.insert(id, bytes);
        Ok(())
    }
}

/// A root in memory.
type Root = (TreeId, Entry);

fn root_meta() -> Meta {
    Meta::root_owned(0o755, Timestamp::from_seconds(0))
}

/// Applies a layer's entries as an import does.
fn applied(
    memory: &mut Memory,
    base: Option<Root>,
    entries: &[Whole],
    lowest: bool,
) -> Result<Root, LayerError> {
    let mut sink = Memory::default();
    let mut draft = match base {
        Some((id, entry)) => Draft::from_root(memory, id, entry),
        None => Draft::empty(memory, root_meta()),
    };
    let mut changes = LayerChanges::new(&mut draft, lowest, true);
    for (TarEntry { path, meta, kind }, body) in entries {
        let place = changes.place(path)?;
        let meta = meta.clone();
        let change = match kind.clone() {
            TarKind::Directory => Change::Directory(meta),
            TarKind::HardLink { target } => Change::HardLink(target),
            TarKind::Symlink { target } => Change::Leaf(meta, NewNode::Symlink { target }),
            TarKind::Fifo => Change::Leaf(meta, NewNode::Fifo),
            TarKind::Char { major, minor } => Change::Leaf(meta, NewNode::Char { major, minor }),
            TarKind::Block { major, minor } => Change::Leaf(meta, NewNode::Block { major, minor }),
            TarKind::File { size, .. } => {
                Change::Leaf(meta, NewNode::File { blob: BlobId::of(body), size, link: None })
            }
        };
        changes.add(place, change)?;
    }
    changes.finish()?;
    let root = draft.finish(&mut sink)?;
    // The root's own record is no directory's tree.
    for (_, bytes) in sink.0.iter().filter(|(id, _)| **id != root.0) {
        let tree = Tree::decode(bytes).expect("a tree that was written is read");
        assert_eq!(tree.encode().expect("it was encoded before").1, *bytes, "trees are canonical");
    }
    memory.0.extend(sink.0);
    Ok(root)
}

/// A tree with something of each kind under short names.
fn base(memory: &mut Memory) -> Root {
    let mut sink = Memory::default();
    let mut draft = Draft::empty(memory, root_meta());
    let path =
        |text: &str| crate::object::TreePath::parse(text.as_bytes()).expect("a constant path is valid");
    let file = |bytes: &[u8]| NewNode::File { blob: BlobId::of(bytes), size: bytes.len() as u64, link: None };
    let put = |draft: &mut Draft<'_>, at: &str, node| draft.put(&path(at), root_meta(), node);
    let made = (|| {
        draft.put_directory(&path("d"), root_meta())?;
        draft.put_directory(&path("d/sub"), root_meta())?;
        for at in ["a", "f", "d/old", "d/sub/x"] {
            put(&mut draft, at, file(at.as_bytes()))?;
        }
        put(&mut draft, "l", NewNode::Symlink { target: b"d".to_vec() })?;
        put(&mut draft, "p", NewNode::Fifo)?;
        draft.hard_link(&path("h"), &path("f"))?;
        draft.finish(&mut sink)
    })();
    let root = made.expect("a constant tree is valid");
    memory.0.extend(sink.0);
    root
}

/// Reads bytes as every kind of document there is.
fn check_document(bytes: &[u8]) {
    let what = "a document";
    if let Ok(Document::Manifest(manifest)) = Document::read(bytes, what) {
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            if let Ok(digest) = Digest::require(descriptor.digest().as_ref(), what) {
                check_digest(&digest);
            }
        }
    }
    if let Ok(config) = document::config(bytes, what) {
        let runtime = runtime_config(&config);
        assert!(runtime.env.iter().all(|entry| entry.find('=').is_some_and(|at| at > 0)));
        for text in config.rootfs().diff_ids() {
            if let Ok(digest) = Digest::require(text, what) {
                check_digest(&digest);
            }
        }
    }
    // What they give is looked at elsewhere.
    let _ = document::check_layout(bytes, what);
    let _ = document::docker_images(bytes, what);
}

/// A digest becomes a path: it must be a plain one.
fn check_digest(digest: &Digest) {
    let path = digest.blob_path();
    let plain =
        path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'/') && path.split('/').count() == 3;
    assert!(plain && !path.contains("//"), "{path}");
}

/// Opens a layout of these documents, of which the first is its index.
fn check_layout(documents: &[&[u8]]) {
    let mut named: Vec<(String, Vec<u8>)> = documents
        .iter()
        .zip(0..16)
        .map(|(bytes, at)| (format!("{at:x}").repeat(64), bytes.to_vec()))
        .collect();
    // What a document names is put right first, so the last come first.
    for at in (1..named.len()).rev() {
        let hex = Digest::of(Algorithm::Sha256, &named[at].1).hex().to_owned();
        let (old, len) = (named[at].0.clone(), named[at].1.len().to_string());
        let size = format!("{}", 99990 + at);
        for (_, bytes) in &mut named[..at] {
            *bytes =
                replaced(&replaced(bytes, old.as_bytes(), hex.as_bytes()), size.as_bytes(), len.as_bytes());
        }
        named[at].0 = hex;
    }
    let mut archive = tar::Builder::new(Vec::new());
    for (at, (hex, bytes)) in named.iter().enumerate() {
        let name = if at == 0 { "index.json".to_owned() } else { format!("blobs/sha256/{hex}") };
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, &bytes[..]).expect("memory takes all");
    }
    let archive = archive.into_inner().expect("memory takes all");
    check_image_archive(&archive, &|parts, options| open_oci(parts, None, options));
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    for found in memchr::memmem::find_iter(bytes, old) {
        out.extend_from_slice(&bytes[at..found]);
        out.extend_from_slice(new);
        at = found + old.len();
    }
    out.extend_from_slice(&bytes[at..]);
    out
}

type Open<'o> = &'o dyn Fn(&Parts, &ImportOptions) -> Result<Image, ImportError>;

/// Opens an image that lies in an archive, for this machine and for others, and reads its layers.
fn check_image_archive(bytes: &[u8], open: Open<'_>) {
    let Ok(plain) = decompressed(bytes) else { return };
    let limits = limits();
    // Which kind of archive it is makes no difference here.
    let _ = search(Tar::new(&plain[..], &limits));
    let whole = in_memory(&plain);
    let Ok(parts) = Parts::of_archive(Path::new("archive"), &whole, &limits) else { return };
    let arm = Platform { os: "linux".into(), architecture: "arm".into(), variant: "v7".into() };
    for platform in [None, Some(arm)] {
        let Ok(image) = open(&parts, &ImportOptions { platform, limits }) else { continue };
        for layer in &image.layers {
            let digests = layer.digest.iter().chain(&layer.diff_id);
            digests.for_each(check_digest);
            let mut bytes = Vec::new();
            // A member may say that it is longer than its archive.
            if layer.section.reader().read_to_end(&mut bytes).is_ok() {
                assert!(bytes.len() <= plain.len(), "a member lies within its archive");
                if let Ok(plain) = decompressed(&bytes) {
                    check_archive(&plain);
                }
            }
        }
    }
}

fn in_memory(bytes: &[u8]) -> Section {
    let file = rustix::fs::memfd_create("treebox-fuzzing", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(file.expect("the kernel gives a file in memory"));
    file.write_all(bytes).expect("memory takes all");
    Section::of(file).expect("a file in memory is a file")
}

/// Makes the check sum of everything that looks like a header right, so that changes reach the code behind it.
fn with_check_sums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// Makes the digests of the members below `blobs/sha256/` right, in their names and wherever they are named.
fn with_digests(bytes: &[u8]) -> Vec<u8> {
    const DIRECTORY: &[u8] = b"blobs/sha256/";
    let limits = limits();
    let mut bytes = bytes.to_vec();
    // A layer's digest stands in the manifest, the manifest's in an index, and that one's in another.
    for _ in 0..6 {
        let mut changes = Vec::new();
        let mut tar = Tar::new(&bytes[..], &limits);
        while let Ok(Some(entry)) = tar.next() {
            let (TarKind::File { size, regions: None }, Some(hex)) =
                (&entry.kind, entry.path.strip_prefix(DIRECTORY))
            else {
                continue;
            };
            let body = tar.offset().try_into().ok().and_then(|at: usize| {
                let end = at.checked_add(usize::try_from(*size).ok()?)?;
                bytes.get(at..end)
            });
            let digest = body.map(|body| Digest::of(Algorithm::Sha256, body));
            if let Some(digest) = digest.filter(|digest| hex.len() == 64 && digest.hex().as_bytes() != hex) {
                changes.push((hex.to_vec(), digest.hex().as_bytes().to_vec()));
            }
        }
        if changes.is_empty() {
            break;
        }
        for (old, new) in changes.iter().take(8) {
            bytes = with_check_sums(&replaced(&bytes, old, new));
        }
    }
    bytes
}

/// A skeleton among the originals, as it is, and as the records of one.
pub fn skeleton(bytes: &[u8]) {
    let compressed = zstd::encode_all(bytes, 1).expect("memory takes all");
    super::skeleton::fuzz(bytes);
    super::skeleton::fuzz(&[&b"tbskel\0\x01"[..], &compressed].concat());
}
