//! Bringing images in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::chain_record;
use super::core::{Core, now_ms};
use super::error::{Error, Result};
use super::flight::Flight;
use super::naming::Made;
use super::refs::who;
use super::types::{Image, ImportOptions, ImportSource, Imported};
use crate::disk::Scratch;
use crate::history::{Expected, ImageName, RefEdit, RefKind, RefName};
use crate::index::{ChainRecord, ImageRecord};
use crate::object::{self, Config, Draft, Meta, Node, Timestamp, TreeId, TreePath};
use crate::oci::{self, ImageFacts, ImageSource};
use crate::store::Batch;
use crate::worktree::host::{self, HostBase};
use crate::worktree::scan::{Owners, ScanOptions, SkipReason, scan};

impl ImportSource {
    /// Reads `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`, `tar:FILE`, `dir:DIR`, `host[:PROGRAM,…]`, or a bare path,
    /// which is recognised by what it holds.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "host" {
            return Ok(Self::Host(Vec::new()));
        }
        if let Some(programs) = text.strip_prefix("host:") {
            let programs: Vec<String> = programs
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
            if programs.is_empty() {
                return Err(Error::invalid(
                    "host: needs the names of programs, as in host:sh,ls,cat; plain `host` takes the usual ones",
                ));
            }
            return Ok(Self::Host(programs));
        }
        if let Some(dir) = text.strip_prefix("dir:") {
            return Ok(Self::Directory(PathBuf::from(dir)));
        }
        let is_typed =
            ["oci:", "oci-archive:", "docker-archive:", "tar:"].iter().any(|kind| text.starts_with(kind));
        if is_typed {
            return Ok(Self::Image(ImageSource::parse(text)?));
        }
        let path = Path::new(text);
        match ImageSource::detect(path) {
            Ok(source) => Ok(Self::Image(source)),
            Err(oci::ImportError::NotAnImage { .. }) if path.is_dir() => Ok(Self::Directory(path.to_owned())),
            Err(error) => Err(error.into()),
        }
    }
}

/// A file system that was read, before it has a name.
pub(super) struct Taken {
    pub(super) root: TreeId,
    pub(super) config: Config,
    name: Option<String>,
    time_seconds: i64,
    skipped: Vec<(String, String)>,
    image: Option<ImageFacts>,
    chains: Vec<ChainRecord>,
}

impl From<oci::Imported> for Taken {
    fn from(imported: oci::Imported) -> Self {
        Self {
            root: imported.root,
            config: imported.state.config,
            name: imported.name_hint,
            time_seconds: imported.created_seconds.unwrap_or(0).max(0),
            skipped: Vec::new(),
            chains: imported.chains.iter().map(chain_record).collect(),
            image: imported.image,
        }
    }
}

impl Core {
    pub(super) fn import(
        self: &Arc<Self>,
        source: &ImportSource,
        options: &ImportOptions,
    ) -> Result<Imported> {
        // A bad name is told before gigabytes are read.
        let given = options.name.as_deref().map(ImageName::new).transpose()?;
        let named = |hint: Option<String>| match given.clone() {
            Some(name) => Ok(name),
            None => Ok(ImageName::new(&sanitized(hint.as_deref().unwrap_or("image")))?),
        };
        let _originals = self.hold_originals()?;
        let files = |take: &dyn Fn(&mut Batch<'_>) -> Result<Taken>| {
            self.in_long_batch(|mut batch| {
                let taken = take(&mut batch)?;
                let name = named(taken.name.clone())?;
                self.name_image(batch, taken, &name, source.describe())
            })
        };
        let image = match source {
            ImportSource::Image(image) => image,
            ImportSource::Directory(dir) => return files(&|batch| self.take_directory(batch, dir)),
            ImportSource::Host(programs) => return files(&|batch| self.take_host(batch, programs)),
        };
        let options = oci::ImportOptions { platform: options.platform.clone(), limits: options.limits };
        let scratch = Scratch::new(&self.layout().tmp())?;
        let open = || Ok(oci::open(image, scratch.path(), &options)?);
        self.take_image(&open, source.describe(), &|hint| {
            named(match (hint, file_name(image.path())) {
                // In a layout a name is often a tag alone, and the layout is called as the image is.
                (Some(tag), Some(file)) if is_tag(image, &tag) => Some(format!("{file}:{tag}")),
                (hint, file) => hint.or(file),
            })
        })
    }

    pub(super) fn take_directory(&self, batch: &mut Batch<'_>, dir: &Path) -> Result<Taken> {
        let mut draft = Draft::empty(&self.store, Meta::root_owned(0o755, Timestamp::default()));
        let options = ScanOptions {
            owners: Owners::for_caller(),
            exclude_directories: vec![self.layout().root().to_owned()],
            ..ScanOptions::default()
        };
        let report = scan(dir, batch, &mut draft, &TreePath::root(), &options)?;
        let (root, _) = draft.finish(batch)?;
        let real = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let skipped = report
            .skipped
            .into_iter()
            .map(|(path, reason)| (path.display().to_string(), skip_text(reason)))
            .collect();
        Ok(Taken {
            root,
            config: Config::default(),
            name: real.file_name().map(|name| name.to_string_lossy().into_owned()),
            time_seconds: 0,
            skipped,
            image: None,
            chains: Vec::new(),
        })
    }

    pub(super) fn take_host(&self, batch: &mut Batch<'_>, programs: &[String]) -> Result<Taken> {
        let mut draft = Draft::empty(&self.store, Meta::root_owned(0o755, Timestamp::default()));
        let mut base = HostBase::with_programs(programs.iter().cloned());
        base.path =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let report = host::build(&base, batch, &mut draft)?;
        let (root, _) = draft.finish(batch)?;
        Ok(Taken {
            root,
            config: report.config,
            name: Some("host".into()),
            time_seconds: 0,
            skipped: Vec::new(),
            image: None,
            chains: Vec::new(),
        })
    }

    /// Reads an image and names it as `named` says, which hears what it calls itself. Of several who bring the same in at once one reads its layers, and the others
    /// wait and find them known.
    pub(super) fn take_image(
        self: &Arc<Self>,
        open: &dyn Fn() -> Result<oci::Opened>,
        source: String,
        named: &dyn Fn(Option<String>) -> Result<ImageName>,
    ) -> Result<Imported> {
        let opened = open()?;
        let flight = self.board_image(opened.chain().as_ref())?;
        let mut opened = Some(opened);
        let imported = self.in_long_batch(|mut batch| {
            let opened = opened.take().map_or_else(open, Ok)?;
            let taken = opened.import(&mut batch, &self.store, &self.originals(), self.index.as_ref())?;
            let taken = Taken::from(taken);
            let name = named(taken.name.clone())?;
            self.name_image(batch, taken, &name, source.clone())
        });
        // What failed here fails elsewhere as well: nobody need try it alone first.
        Flight::land(flight);
        imported
    }

    /// Commits what was read, names it, and remembers where it came from.
    fn name_image(
        self: &Arc<Self>,
        mut batch: Batch<'_>,
        taken: Taken,
        image_name: &ImageName,
        source: String,
    ) -> Result<Imported> {
        let value = object::State { root: taken.root, config: taken.config };
        let id = batch.put_state(&value)?;
        let undeleted = batch.commit()?;
        let state = self.made_state(value)?;
        drop(undeleted);
        self.index.record_chains(&taken.chains)?;
        let made = Made {
            kind: "import",
            message: format!("import {image_name}"),
            root_time_seconds: taken.time_seconds,
            image: taken.image.as_ref(),
        };
        let commit = self.commit_made(&state, &[], &made)?;
        let edit =
            RefEdit { name: RefName::Image(image_name.clone()), expected: Expected::Any, new: Some(commit) };
        self.history()?.edit(&[edit], &format!("import: {image_name}"), &who())?;
        let (entries, size_bytes) = match self.store.root(&taken.root)?.node {
            Node::Directory { below, .. } => (below.entries, below.bytes),
            _ => (0, 0),
        };
        let name = image_name.as_str().to_owned();
        self.index.record_origin(&id, "import", &source, now_ms())?;
        self.index.record_image(&ImageRecord {
            name: name.clone(),
            state: id,
            size_bytes,
            entries,
            source,
            at_ms: now_ms(),
        })?;
        Ok(Imported { state, name, entries, size_bytes, skipped: taken.skipped })
    }

    pub(super) fn images(&self) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for (name, commit) in self.history()?.refs(RefKind::Image)? {
            let state = self.state_of_commit(&commit)?;
            let name = name.short().to_owned();
            let known = self.index.image(&name)?.filter(|known| known.state == state);
            let (size_bytes, entries) = match &known {
                Some(known) => (known.size_bytes, known.entries),
                None => match self.store.root(&self.store.state(&state)?.root)?.node {
                    Node::Directory { below, .. } => (below.bytes, below.entries),
                    _ => (0, 0),
                },
            };
            let (source, imported_ms) = known.map_or((String::new(), 0), |known| (known.source, known.at_ms));
            images.push(Image { name, state, commit, size_bytes, entries, source, imported_ms });
        }
        Ok(images)
    }

    pub(super) fn remove_image(&self, name: &str) -> Result<()> {
        let name = ImageName::new(name)?;
        // What the index knows of the image stays, for `undo` brings the name back.
        self.history()?.delete(&RefName::Image(name), Expected::Any, &who())?;
        Ok(())
    }
}

impl ImportSource {
    fn describe(&self) -> String {
        match self {
            Self::Image(image) => {
                let kind = match image {
                    ImageSource::OciLayout { .. } => "oci",
                    ImageSource::OciArchive { .. } => "oci-archive",
                    ImageSource::DockerArchive { .. } => "docker-archive",
                    ImageSource::Tar { .. } => "tar",
                };
                format!("{kind}:{}", image.path().display())
            }
            Self::Directory(dir) => format!("dir:{}", dir.display()),
            Self::Host(programs) if programs.is_empty() => "host".to_owned(),
            Self::Host(programs) => format!("host:{}", programs.join(",")),
        }
    }
}

/// Whether what a layout calls an image is a tag and no name.
fn is_tag(source: &ImageSource, hint: &str) -> bool {
    let layout = matches!(source, ImageSource::OciLayout { .. } | ImageSource::OciArchive { .. });
    layout && !hint.contains(['/', ':', '@'])
}

/// A name taken from a file, with what image names cannot hold replaced.
fn sanitized(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-/:@+".contains(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "image".to_owned() } else { name.to_owned() }
}

/// A file's name without the endings that say it is an archive.
fn file_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let stem = name.split(".tar").next().unwrap_or(&name);
    Some(stem.trim_end_matches(".tgz").to_owned())
}

fn skip_text(reason: SkipReason) -> String {
    match reason {
        SkipReason::Excluded => "it is excluded",
        SkipReason::Vanished => "it was removed meanwhile",
        SkipReason::OtherFileSystem => "it is on another file system",
    }
    .to_owned()
}
