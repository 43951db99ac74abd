//! Where images go: OCI layouts and archives, and what `docker load` reads.
//!
//! What is written depends on the image alone. A file appears under its name when it is complete; a layout names an image when all of it
//! is there.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::build::{Built, Part, PartBytes};
use super::decompress::{Decoder, Format};
use super::digest::{Digest, Hasher};
use super::document::annotation_key;
use super::error::LayerError;
use super::limits::Limits;
use super::section::Section;
use super::source::Reading;
use super::tarball::from_io;
use crate::disk::{DiskError, create_new, exists, read_limited};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image could not be written out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The directory is used for something else.
    #[error("{} is not empty and no OCI layout: give another directory", .0.display())]
    Occupied(PathBuf),
    /// The index of the layout cannot be added to.
    #[error("{} cannot be added to: {reason}; give another directory", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was kept of the image is not what it was.
    #[error("the original {} is damaged: it was removed, so try again", .0)]
    Original(Digest),
    /// A layer could not be unpacked.
    #[error("layer {digest}: {source}")]
    Layer {
        /// The layer.
        digest: Digest,
        /// What is wrong.
        source: LayerError,
    },
    /// A file verb failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The stream did not take the bytes.
    #[error("cannot write the archive: {0}")]
    Io(#[from] io::Error),
}

/// Adds an image to a layout, which is made when there is none; an image that has the tag loses it. Gives the bytes written.
pub fn write_layout(built: &Built, dir: &Path, tag: Option<&str>) -> Result<u64, OutputError> {
    let index_path = dir.join("index.json");
    if !exists(&index_path)? {
        match fs::read_dir(dir).map(Iterator::count) {
            Ok(1..) => return Err(OutputError::Occupied(dir.to_owned())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DiskError::new("list", dir, error).into());
            }
            _ => {}
        }
    }
    let index = layout_index(built, tag, read_index(&index_path)?)?;
    let mut written = 0;
    for part in parts(built) {
        let path = dir.join(part.digest.blob_path());
        let have = fs::metadata(&path).map(|meta| meta.len()).ok();
        if have == Some(part.size) {
            continue;
        }
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent).map_err(|error| DiskError::new("create directory", parent, error))?;
        replace(&path, |file| part.write_to(file))?;
        written += part.size;
    }
    replace(&dir.join("oci-layout"), |file| Ok::<_, OutputError>(file.write_all(LAYOUT)?))?;
    replace(&index_path, |file| Ok::<_, OutputError>(file.write_all(&index)?))?;
    Ok(written)
}

/// Writes a file as a whole: under its name it is complete. Something else than a file, a pipe for one, is written to as it is.
pub fn write_file<T, E: From<DiskError>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let other = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    if other {
        let opened = fs::OpenOptions::new().write(true).open(path);
        let mut file = opened.map_err(|error| DiskError::new("open", path, error))?;
        return write(&mut file);
    }
    replace(path, write)
}

fn replace<T, E: From<DiskError>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = create_new(&temporary)?;
    let attempt = || {
        let value = write(&mut file)?;
        // As the caller's umask would have it for a new file, which the private one is not.
        let mode = 0o666 & !umask();
        let dressed = file.set_permissions(fs::Permissions::from_mode(mode));
        dressed.map_err(|error| DiskError::new("set the mode of", &temporary, error))?;
        crate::disk::rename(&temporary, path)?;
        Ok(value)
    };
    attempt().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// The caller's umask, which only a process's own status tells without changing it.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let told = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    told.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077)
}

/// Writes a layout as a tar archive.
pub fn write_oci_archive(built: &Built, tag: Option<&str>, out: &mut dyn Write) -> Result<u64, OutputError> {
    let mut archive = Archive::new(out);
    let parts: BTreeMap<String, &Part> = parts(built).map(|part| (part.digest.blob_path(), part)).collect();
    archive.directory("blobs")?;
    let mut directory = String::new();
    for (name, part) in &parts {
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        if parent != directory {
            archive.directory(parent)?;
            directory = parent.to_owned();
        }
        archive.part(name, part)?;
    }
    archive.document("index.json", &layout_index(built, tag, None)?)?;
    archive.document("oci-layout", LAYOUT)?;
    archive.finish()
}

/// Writes what `docker load` and `podman load` read: images, each with the name it has then. The layers are written without compression, as
/// `docker save` does, and those that images share are written once.
pub fn write_docker_archive(
    images: &[(&Built, Option<&str>)],
    out: &mut dyn Write,
) -> Result<u64, OutputError> {
    let mut archive = Archive::new(out);
    let mut members = HashSet::new();
    let mut manifest = Vec::new();
    for (built, name) in images {
        let config = format!("{}.json", built.config.digest.hex());
        if members.insert(config.clone()) {
            archive.part(&config, &built.config)?;
        }
        let mut layers = Vec::new();
        for layer in &built.layers {
            let member = format!("{}.tar", layer.diff_id.hex());
            if members.insert(member.clone()) {
                // One that is not compressed is its archive already.
                if layer.part.digest == layer.diff_id {
                    archive.part(&member, &layer.part)?;
                } else {
                    let plain = plain(built, &layer.part, &layer.diff_id)?;
                    archive.part(&member, &plain)?;
                    if let PartBytes::Made(path) = &plain.bytes {
                        let _ = fs::remove_file(path);
                    }
                }
            }
            layers.push(member);
        }
        let tags: Vec<_> = name.iter().collect();
        manifest.push(json!({"Config": config, "RepoTags": tags, "Layers": layers}));
    }
    archive.document("manifest.json", json!(manifest).to_string().as_bytes())?;
    archive.finish()
}

/// A layer without its compression.
fn plain(built: &Built, part: &Part, diff_id: &Digest) -> Result<Part, OutputError> {
    let (PartBytes::Made(path) | PartBytes::Original(path)) = &part.bytes else {
        unreachable!("a layer is a file");
    };
    let failed = |source| OutputError::Layer { digest: part.digest.clone(), source };
    let section = Section::open(path)?;
    let mut reader = section.reader();
    let head = io::BufRead::fill_buf(&mut reader).map_err(|error| DiskError::new("read", path, error))?;
    let format = Format::sniff(head);
    let unpacked = built.scratch_file(&format!("plain-{}", diff_id.hex()));
    let mut file = create_new(&unpacked)?;
    // What an image was let in with has been looked at then.
    let mut reading = Reading(Decoder::new(format, reader, &Limits::default()).map_err(failed)?);
    let mut hasher = Hasher::new(diff_id.algorithm());
    let mut buffer = vec![0; 1 << 17];
    let mut size = 0;
    loop {
        let count = match reading.read(&mut buffer) {
            Ok(count) => count,
            Err(error) => {
                return Err(match from_io(error) {
                    // Its digest has not been looked at yet: it is not what it was.
                    LayerError::Compression { .. } => damaged(part),
                    other => failed(other),
                });
            }
        };
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
        file.write_all(&buffer[..count]).map_err(|error| DiskError::new("write to", &unpacked, error))?;
    }
    if hasher.finish() != *diff_id {
        return Err(damaged(part));
    }
    Ok(Part {
        digest: diff_id.clone(),
        size,
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        bytes: PartBytes::Made(unpacked),
    })
}

/// An original that is not what it was is thrown away, so that the next try makes a layer anew.
fn damaged(part: &Part) -> OutputError {
    if let PartBytes::Original(path) = &part.bytes {
        let _ = fs::remove_file(path);
    }
    OutputError::Original(part.digest.clone())
}

fn parts(built: &Built) -> impl Iterator<Item = &Part> {
    built.layers.iter().map(|layer| &layer.part).chain([&built.config, &built.manifest])
}

impl Part {
    /// Writes the bytes; those that are kept for long are checked on the way.
    pub(super) fn write_to(&self, out: &mut dyn Write) -> Result<(), OutputError> {
        let (path, mut hasher) = match &self.bytes {
            PartBytes::Memory(bytes) => return Ok(out.write_all(bytes)?),
            PartBytes::Made(path) => (path, None),
            PartBytes::Original(path) => (path, Some(Hasher::new(self.digest.algorithm()))),
        };
        let mut file = File::open(path).map_err(|error| DiskError::new("open", path, error))?;
        let mut buffer = vec![0; 1 << 17];
        let mut left = self.size;
        loop {
            let count = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| DiskError::new("read", path, error))?,
            };
            if count as u64 > left || (count == 0 && left > 0) {
                return Err(damaged(self));
            }
            if count == 0 {
                break;
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..count]);
            }
            out.write_all(&buffer[..count])?;
            left -= count as u64;
        }
        match hasher.map(Hasher::finish) {
            Some(found) if found != self.digest => Err(damaged(self)),
            _ => Ok(()),
        }
    }
}

/// A tar archive of an image's parts: no owner, no time.
struct Archive<'o> {
    out: &'o mut dyn Write,
    written: u64,
}

impl<'o> Archive<'o> {
    fn new(out: &'o mut dyn Write) -> Self {
        Self { out, written: 0 }
    }

    fn header(&mut self, kind: tar::EntryType, name: &str, mode: u32, size: u64) -> Result<(), OutputError> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name)?;
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.written += 512;
        Ok(())
    }

    fn directory(&mut self, name: &str) -> Result<(), OutputError> {
        self.header(tar::EntryType::Directory, &format!("{name}/"), 0o755, 0)
    }

    fn part(&mut self, name: &str, part: &Part) -> Result<(), OutputError> {
        self.header(tar::EntryType::Regular, name, 0o644, part.size)?;
        part.write_to(self.out)?;
        self.pad(part.size)
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        self.header(tar::EntryType::Regular, name, 0o644, bytes.len() as u64)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, size: u64) -> Result<(), OutputError> {
        let padded = size.next_multiple_of(512);
        let padding = usize::try_from(padded - size).unwrap_or(0);
        self.out.write_all(&[0; 512][..padding])?;
        self.written += padded;
        Ok(())
    }

    fn finish(self) -> Result<u64, OutputError> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.written + 1024)
    }
}

fn read_index(path: &Path) -> Result<Option<Value>, OutputError> {
    if !exists(path)? {
        return Ok(None);
    }
    let bytes = read_limited(path, Limits::MANIFEST_BYTES)?;
    let failed = |reason: String| OutputError::Index { path: path.to_owned(), reason };
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    match value.get("manifests").is_some_and(Value::is_array) {
        true => Ok(Some(value)),
        false => Err(failed("it has no list of manifests".into())),
    }
}

/// The index of a layout with the image in it.
fn layout_index(built: &Built, tag: Option<&str>, have: Option<Value>) -> Result<Vec<u8>, OutputError> {
    let mut descriptor = json!({
        "mediaType": built.manifest.media_type,
        "digest": built.manifest.digest.to_string(),
        "size": built.manifest.size,
    });
    if let Some(tag) = tag {
        descriptor["annotations"] = json!({ annotation_key::REF_NAME: tag });
    }
    let mut index = have.unwrap_or_else(|| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
    });
    if let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) {
        let name = |entry: &Value| {
            entry.pointer("/annotations").and_then(|all| all.get(annotation_key::REF_NAME)).cloned()
        };
        let tag = tag.map(|tag| json!(tag));
        let digest = descriptor["digest"].clone();
        // A tag names one image, and an image without one is there once.
        manifests
            .retain(|entry| name(entry) != tag || (tag.is_none() && entry.get("digest") != Some(&digest)));
        manifests.push(descriptor);
    }
    Ok(index.to_string().into_bytes())
}
