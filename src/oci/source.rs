//! Where an image comes from: as a user writes it, or as a file shows it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::decompress::{Decoder, Format};
use super::error::{ImportError, LayerError};
use super::limits::{Limits, within};
use super::section::Section;
use super::tarball::{Input, Tar};
use crate::disk::{DiskError, exists};

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSource {
    /// A directory in the OCI image layout.
    OciLayout {
        /// The directory.
        dir: PathBuf,
        /// Which image: a name from its index, or a digest.
        reference: Option<String>,
    },
    /// A tar archive of an OCI image layout.
    OciArchive {
        /// The archive, compressed or not.
        file: PathBuf,
        /// Which image: a name from its index, or a digest.
        reference: Option<String>,
    },
    /// What `docker save` writes.
    DockerArchive {
        /// The archive, compressed or not.
        file: PathBuf,
        /// Which image: one of its tags.
        name: Option<String>,
    },
    /// A tar archive of a root file system.
    Tar {
        /// The archive, compressed or not; a pipe such as `/dev/stdin` will do.
        file: PathBuf,
    },
}

impl ImageSource {
    /// Reads `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]` or `tar:FILE`.
    ///
    /// The path ends at the first colon, so a tag may hold colons and a path may not. Nothing is looked up.
    pub fn parse(text: &str) -> Result<Self, ImportError> {
        let wrong = || ImportError::Source(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) if kind != "tar" => (path, Some(name.to_owned())),
            _ => (rest, None),
        };
        if path.is_empty() || name.as_ref().is_some_and(String::is_empty) {
            return Err(wrong());
        }
        let path = PathBuf::from(path);
        match kind {
            "oci" => Ok(Self::OciLayout { dir: path, reference: name }),
            "oci-archive" => Ok(Self::OciArchive { file: path, reference: name }),
            "docker-archive" => Ok(Self::DockerArchive { file: path, name }),
            "tar" => Ok(Self::Tar { file: path }),
            _ => Err(wrong()),
        }
    }

    /// Finds out what a file or directory is from what it holds.
    ///
    /// A directory with `index.json` is an OCI layout. An archive with a `manifest.json` that is a list at its top is what `docker save`
    /// writes, one with `oci-layout` an OCI archive, and any other a root file system.
    pub fn detect(path: &Path) -> Result<Self, ImportError> {
        let owned = path.to_owned();
        let wrong = |reason: String| ImportError::NotAnImage { path: owned.clone(), reason };
        let meta = std::fs::metadata(path).map_err(|error| DiskError::new("look at", path, error))?;
        if meta.is_dir() {
            if exists(&path.join("index.json"))? {
                return Ok(Self::OciLayout { dir: owned, reference: None });
            }
            return Err(wrong("the directory has no index.json".into()));
        }
        if !meta.is_file() {
            // A pipe can be read once only.
            return Ok(Self::Tar { file: owned });
        }
        match look_into(path) {
            Ok(Found::Docker) => Ok(Self::DockerArchive { file: owned, name: None }),
            Ok(Found::Oci) => Ok(Self::OciArchive { file: owned, reference: None }),
            Ok(Found::Root) => Ok(Self::Tar { file: owned }),
            Err(error) => Err(wrong(format!("it is no tar archive: {error}"))),
        }
    }

    /// The file or directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::OciLayout { dir, .. } => dir,
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } | Self::Tar { file } => file,
        }
    }
}

pub(super) enum Found {
    Docker,
    Oci,
    Root,
}

/// Top-level names that root file systems have and image archives do not: they end the search early.
const ROOT_NAMES: [&str; 8] = ["bin", "dev", "etc", "home", "lib", "root", "usr", "var"];

fn look_into(path: &Path) -> Result<Found, LayerError> {
    let limits = Limits::default();
    let section = Section::of(File::open(path)?)?;
    let mut reader = section.reader();
    let format = Format::sniff(reader.fill_buf()?);
    if format == Format::Plain {
        return search(Tar::new(reader, &limits));
    }
    let decoder = Decoder::new(format, reader, &limits)?;
    search(Tar::new(Decoded(BufReader::with_capacity(1 << 16, Reading(decoder))), &limits))
}

pub(super) fn search<R: Input>(mut tar: Tar<'_, R>) -> Result<Found, LayerError> {
    let mut found = Found::Root;
    while let Some(entry) = tar.next()? {
        within("total_bytes", Limits::TOTAL_BYTES, tar.offset(), || "the size of the archive".into())?;
        let name = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
        let first = name.split(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or_default();
        if ROOT_NAMES.iter().any(|root| root.as_bytes() == first) {
            return Ok(Found::Root);
        }
        match name {
            b"manifest.json" => return Ok(Found::Docker),
            b"oci-layout" => found = Found::Oci,
            _ => {}
        }
    }
    Ok(found)
}

/// A decoder as a plain reader.
pub(super) struct Reading<R: BufRead>(pub(super) Decoder<R>);

impl<R: BufRead> io::Read for Reading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(io::Error::other)
    }
}

struct Decoded<R>(R);

impl<R: io::Read> io::Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: BufRead> BufRead for Decoded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

impl<R: BufRead> Input for Decoded<R> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_kind_a_path_and_perhaps_a_name() {
        let parse = |text: &str| ImageSource::parse(text).unwrap();
        assert_eq!(parse("oci:/a/b"), ImageSource::OciLayout { dir: "/a/b".into(), reference: None });
        assert_eq!(
            parse("oci:d:docker.io/x:1"),
            ImageSource::OciLayout { dir: "d".into(), reference: Some("docker.io/x:1".into()) }
        );
        assert_eq!(
            parse("docker-archive:f.tar:alpine:3"),
            ImageSource::DockerArchive { file: "f.tar".into(), name: Some("alpine:3".into()) }
        );
        assert_eq!(parse("tar:a:b"), ImageSource::Tar { file: "a:b".into() });
        for bad in ["alpine", "oci:", "oci::x", "oci:d:", "dir:x", ""] {
            assert!(ImageSource::parse(bad).is_err(), "{bad}");
        }
    }
}
