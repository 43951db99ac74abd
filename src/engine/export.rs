//! States out, as images others accept.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkout::CheckoutOptions;
use super::core::Core;
use super::error::{Error, Result};
use super::state::State;
use crate::object::TreePath;
use crate::oci::{
    self, BuildOptions, Built, Compression, Compressor, Layering, OutputError, write_docker_archive,
    write_file, write_layout, write_oci_archive,
};

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportTarget {
    /// A directory in the OCI image layout, to which the image is added.
    OciLayout {
        /// The directory; it is made.
        dir: PathBuf,
        /// The tag of the image in the layout.
        tag: String,
    },
    /// A tar archive of an OCI image layout.
    OciArchive {
        /// The archive.
        file: PathBuf,
        /// The tag of the image in the layout.
        tag: String,
    },
    /// What `docker load` and `podman load` read.
    DockerArchive {
        /// The archive.
        file: PathBuf,
        /// The name that the image has after it is loaded.
        name: Option<String>,
    },
    /// A tar archive of the file system alone.
    Tar {
        /// The archive.
        file: PathBuf,
    },
    /// The files themselves.
    Directory {
        /// The directory, which must be new or empty.
        dir: PathBuf,
    },
}

impl ExportTarget {
    /// The tag where none is given.
    pub const DEFAULT_TAG: &'static str = "latest";

    /// Reads `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`, `tar:FILE` or `dir:DIR`. Of the first three the path ends at
    /// the first colon.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "`{text}` names no place for an image: write oci:DIR[:TAG], oci-archive:FILE[:TAG], \
                 docker-archive:FILE[:NAME], tar:FILE or dir:DIR"
            ))
        };
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) if !matches!(kind, "tar" | "dir") => (path, Some(name)),
            _ => (rest, None),
        };
        if path.is_empty() || name.is_some_and(str::is_empty) {
            return Err(wrong());
        }
        let tag = || name.unwrap_or(Self::DEFAULT_TAG).to_owned();
        match kind {
            "oci" => Ok(Self::OciLayout { dir: path.into(), tag: tag() }),
            "oci-archive" => Ok(Self::OciArchive { file: path.into(), tag: tag() }),
            "docker-archive" => Ok(Self::DockerArchive { file: path.into(), name: name.map(str::to_owned) }),
            "tar" => Ok(Self::Tar { file: path.into() }),
            "dir" => Ok(Self::Directory { dir: path.into() }),
            _ => Err(wrong()),
        }
    }

    /// The directory or file.
    pub fn path(&self) -> &Path {
        match self {
            Self::OciLayout { dir, .. } | Self::Directory { dir } => dir,
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } | Self::Tar { file } => file,
        }
    }
}

/// How a state is exported.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExportOptions {
    /// How the file system is cut into layers.
    pub layering: Layering,
    /// How what is written is compressed: the layers of an OCI image, gzip by default, or the other archives as a whole, by default not.
    pub compression: Option<Compression>,
    /// Times later than these seconds since 1970 are set to it.
    pub epoch: Option<i64>,
}

impl ExportOptions {
    /// As it came when nobody changed it, else one layer, compressed by gzip.
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the layers.
    pub fn layering(mut self, layering: Layering) -> Self {
        self.layering = layering;
        self
    }

    /// Chooses the compression.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Clamps times to this many seconds since 1970.
    pub fn epoch(mut self, seconds: i64) -> Self {
        self.epoch = Some(seconds);
        self
    }

    pub(super) fn for_layers(&self, compression: Compression) -> BuildOptions {
        BuildOptions { layering: self.layering, compression, epoch: self.epoch }
    }
}

/// What was exported.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Exported {
    /// The digest of the manifest; a root archive and a docker-archive have none.
    pub manifest: Option<String>,
    /// The digest of the config, which is Docker's image id; a root archive has none.
    pub config: Option<String>,
    /// How many layers.
    pub layers: usize,
    /// How many bytes were written.
    pub written_bytes: u64,
    /// Whether this is, byte for byte, the image that came in.
    pub unchanged: bool,
    /// What could not be written, with the reason.
    pub skipped: Vec<(String, String)>,
    /// What is not as one would expect, for people.
    pub notes: Vec<String>,
}

impl Core {
    /// Makes an image of a state.
    pub(super) fn build_image(self: &Arc<Self>, state: &State, options: &BuildOptions) -> Result<Built> {
        let lineage = self.lineage(state)?;
        Ok(oci::build(&self.store, &self.originals(), &lineage, options)?)
    }

    pub(super) fn export(
        self: &Arc<Self>,
        state: &State,
        target: &ExportTarget,
        options: &ExportOptions,
    ) -> Result<Exported> {
        let exported = self.exported(state, target, options);
        exported.map_err(|error| error.met_at(state.label()))
    }

    fn exported(
        self: &Arc<Self>,
        state: &State,
        target: &ExportTarget,
        options: &ExportOptions,
    ) -> Result<Exported> {
        match target {
            ExportTarget::OciLayout { dir, tag } => {
                self.retried(state, &options.for_layers(options.compression.unwrap_or_default()), |built| {
                    write_layout(built, dir, Some(tag))
                })
            }
            ExportTarget::Directory { dir } => {
                let options = CheckoutOptions::new().new_only(true);
                let done = self.checkout_with(state, &TreePath::root(), dir, &options)?;
                Ok(Exported { skipped: done.written.skipped, ..Exported::default() })
            }
            _ => write_file(target.path(), |out| self.export_stream(state, target, options, out)),
        }
    }

    /// Writes what `target` is, without its file, to a stream.
    pub(super) fn export_stream(
        self: &Arc<Self>,
        state: &State,
        target: &ExportTarget,
        options: &ExportOptions,
        out: &mut dyn Write,
    ) -> Result<Exported> {
        match target {
            ExportTarget::OciLayout { .. } | ExportTarget::Directory { .. } => {
                Err(Error::invalid("a directory cannot be written to a stream: use oci-archive:- or tar:-"))
            }
            ExportTarget::OciArchive { tag, .. } => {
                let built =
                    self.build_image(state, &options.for_layers(options.compression.unwrap_or_default()))?;
                let written = write_oci_archive(&built, Some(tag), out)?;
                Ok(exported(&built, written, true))
            }
            ExportTarget::DockerArchive { name, .. } => {
                self.export_docker(&[(state.clone(), name.clone())], options, out)
            }
            ExportTarget::Tar { .. } => self.export_tar(state, options, out),
        }
    }

    /// Writes several states as one docker-archive to a file.
    pub(super) fn export_several(
        self: &Arc<Self>,
        images: &[(State, Option<String>)],
        file: &Path,
        options: &ExportOptions,
    ) -> Result<Exported> {
        write_file(file, |out| self.export_docker(images, options, out))
    }

    fn export_docker(
        self: &Arc<Self>,
        images: &[(State, Option<String>)],
        options: &ExportOptions,
        out: &mut dyn Write,
    ) -> Result<Exported> {
        let built = images.iter().map(|(state, name)| {
            Ok((self.build_image(state, &options.for_layers(Compression::None))?, name.as_deref()))
        });
        let built = built.collect::<Result<Vec<_>>>()?;
        let compression = options.compression.unwrap_or(Compression::None);
        let mut out = Compressor::new(compression, out).map_err(OutputError::Io)?;
        let named: Vec<_> = built.iter().map(|(built, name)| (built, *name)).collect();
        let written = write_docker_archive(&named, &mut out)?;
        out.finish().and_then(|out| out.flush()).map_err(OutputError::Io)?;
        let mut all = Exported { unchanged: true, written_bytes: written, ..Exported::default() };
        for (built, _) in &built {
            let one = exported(built, 0, false);
            all.config = one.config.filter(|_| images.len() == 1);
            all.layers += one.layers;
            all.unchanged &= one.unchanged;
            all.skipped.extend(one.skipped);
            all.notes.extend(one.notes);
        }
        Ok(all)
    }

    fn export_tar(&self, state: &State, options: &ExportOptions, out: &mut dyn Write) -> Result<Exported> {
        let compression = options.compression.unwrap_or(Compression::None);
        let mut out = Compressor::new(compression, out).map_err(OutputError::Io)?;
        let root = self.store.root(&state.tree())?;
        let written = oci::write_tar(&self.store, &root, &TreePath::root(), options.epoch, &mut out)?;
        out.finish().and_then(|out| out.flush()).map_err(OutputError::Io)?;
        Ok(Exported {
            written_bytes: written.bytes,
            skipped: reasons(written.skipped),
            ..Exported::default()
        })
    }

    /// Builds and writes; once more when an original turned out to be damaged, which is gone then.
    fn retried(
        self: &Arc<Self>,
        state: &State,
        options: &BuildOptions,
        write: impl Fn(&Built) -> Result<u64, OutputError>,
    ) -> Result<Exported> {
        let built = self.build_image(state, options)?;
        match write(&built) {
            Ok(written) => Ok(exported(&built, written, true)),
            Err(OutputError::Original(_)) => {
                let built = self.build_image(state, options)?;
                Ok(exported(&built, write(&built)?, true))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn exported(built: &Built, written_bytes: u64, with_manifest: bool) -> Exported {
    Exported {
        manifest: with_manifest.then(|| built.manifest.digest.to_string()),
        config: Some(built.config.digest.to_string()),
        layers: built.layers.len(),
        written_bytes,
        unchanged: built.unchanged,
        skipped: reasons(built.skipped.clone()),
        notes: built.notes.clone(),
    }
}

pub(super) fn reasons(skipped: Vec<(TreePath, &'static str)>) -> Vec<(String, String)> {
    skipped.into_iter().map(|(path, reason)| (path.to_string(), reason.to_owned())).collect()
}
