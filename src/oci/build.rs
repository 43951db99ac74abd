//! From a state to an image that is ready to go out: layers, config, manifest.
//!
//! # Invariants
//! - An image that nobody changed has the bytes it came with.
//! - Everything else depends on the trees, the commits and the options alone: not on a clock, nor on the machine.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use super::compress::{Compression, Compressor};
use super::describe::{self, HistoryStep};
use super::digest::{Algorithm, Digest, Hasher};
use super::error::ImportError;
use super::export::write_layer;
use super::import::{DocumentFacts, ImageFacts, LayerFacts};
use super::limits::Limits;
use super::originals::{Form, Originals};
use super::skeleton::{AssembleError, assemble};
use super::tarwrite::ExportError;
use crate::disk::{DiskError, Scratch, create_new};
use crate::object::{self, TreeId, TreePath};
use crate::store::{Store, StoreError};

/// How the file system is cut into layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layering {
    /// As it came when nobody changed it, else one layer.
    #[default]
    Auto,
    /// One layer in any case.
    One,
    /// The layers of the image it grew from, and one for each commit since.
    PerCommit,
}

/// How an image is made.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Which layers.
    pub layering: Layering,
    /// How layers that are made are compressed; those that an image came with stay as they are.
    pub compression: Compression,
    /// Times later than these seconds since 1970 are set to it, in the layers that are made and in the config.
    pub epoch: Option<i64>,
}

/// How a state came to be.
#[derive(Debug, Clone)]
pub struct Lineage {
    /// The state.
    pub state: object::State,
    /// The image it grew from and the state that this was.
    pub base: Option<(ImageFacts, object::State)>,
    /// What happened since, oldest first. Without a base the first is how it all began.
    pub steps: Vec<LineageStep>,
}

/// One commit on the way to a state.
#[derive(Debug, Clone)]
pub struct LineageStep {
    /// The file system it led to.
    pub root: TreeId,
    /// What was done.
    pub text: String,
    /// The commit's date, in seconds since 1970.
    pub time_seconds: i64,
}

/// An image that is ready to go out. Its scratch files vanish with it.
#[derive(Debug)]
pub struct Built {
    /// The manifest.
    pub manifest: Part,
    /// The image config.
    pub config: Part,
    /// The layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// Whether this is, byte for byte, the image that came in.
    pub unchanged: bool,
    /// What the layers cannot hold, with the reason.
    pub skipped: Vec<(TreePath, &'static str)>,
    /// What is not as one would expect, for people.
    pub notes: Vec<String>,
    scratch: Scratch,
}

/// A layer that is ready to go out.
#[derive(Debug)]
pub struct BuiltLayer {
    /// Its bytes.
    pub part: Part,
    /// The digest of its tar archive.
    pub diff_id: Digest,
}

/// Bytes with their digest.
#[derive(Debug)]
pub struct Part {
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// What they are.
    pub media_type: String,
    /// Where they are.
    pub bytes: PartBytes,
}

/// Where the bytes of a part are.
#[derive(Debug)]
pub enum PartBytes {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file that was just made: they have their digest.
    Made(PathBuf),
    /// In a file that is kept for long: whoever reads it checks the digest.
    Original(PathBuf),
}

/// An image could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A layer could not be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A document of the image that the state grew from cannot be read.
    #[error(transparent)]
    Document(#[from] ImportError),
    /// An object could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file verb failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// One layer before it has bytes.
enum Plan<'l> {
    Original(&'l LayerFacts),
    Change { old: Option<TreeId>, new: TreeId },
}

impl Built {
    /// A path for a file that is needed on the way out.
    pub(super) fn scratch_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// Makes an image of a state.
pub fn build(
    store: &Store,
    originals: &Originals,
    lineage: &Lineage,
    options: &BuildOptions,
) -> Result<Built, BuildError> {
    // An original that turns out to be damaged is thrown away, and all begins anew without it.
    loop {
        if let Some(built) = attempt(store, originals, lineage, options)? {
            return Ok(built);
        }
    }
}

fn attempt(
    store: &Store,
    originals: &Originals,
    lineage: &Lineage,
    options: &BuildOptions,
) -> Result<Option<Built>, BuildError> {
    let mut builder = Builder {
        store,
        originals,
        options,
        scratch: Scratch::new(&store.layout().tmp())?,
        files: 0,
        skipped: Vec::new(),
        notes: Vec::new(),
    };
    if let Some((facts, base)) = &lineage.base
        && *base == lineage.state
        && options.layering == Layering::Auto
    {
        match builder.unchanged(facts)? {
            Some((manifest, config, layers)) => {
                return Ok(Some(builder.done(manifest, config, layers, true)));
            }
            None => builder.notes.push(
                "parts of the image as it came are not in the store any more, so this one has other digests"
                    .into(),
            ),
        }
    }
    builder.changed(lineage)
}

struct Builder<'b> {
    store: &'b Store,
    originals: &'b Originals,
    options: &'b BuildOptions,
    scratch: Scratch,
    /// How many files were made in it.
    files: usize,
    skipped: Vec<(TreePath, &'static str)>,
    notes: Vec<String>,
}

impl Builder<'_> {
    fn done(self, manifest: Part, config: Part, layers: Vec<BuiltLayer>, unchanged: bool) -> Built {
        let Self { scratch, skipped, notes, .. } = self;
        Built { manifest, config, layers, unchanged, skipped, notes, scratch }
    }

    /// The image as it came; `None` when a part of it is gone. What came without a manifest gets one.
    fn unchanged(&mut self, facts: &ImageFacts) -> Result<Option<(Part, Part, Vec<BuiltLayer>)>, BuildError> {
        let Some(config) = self.document(&facts.config)? else { return Ok(None) };
        let mut layers = Vec::new();
        for layer in &facts.layers {
            let Some(layer) = self.original(layer, facts.manifest.is_some())? else { return Ok(None) };
            layers.push(layer);
        }
        let manifest = match &facts.manifest {
            Some(manifest) => match self.document(manifest)? {
                Some(manifest) => manifest,
                None => return Ok(None),
            },
            None => describe::manifest(&config, &layers),
        };
        Ok(Some((manifest, config, layers)))
    }

    /// An image of its own; `None` when an original turned out to be damaged.
    fn changed(mut self, lineage: &Lineage) -> Result<Option<Built>, BuildError> {
        let base = lineage.base.as_ref();
        let mut plans: Vec<Plan<'_>> = Vec::new();
        if self.options.layering == Layering::PerCommit {
            let mut below = None;
            if let Some((facts, state)) = base {
                below = Some(state.root);
                plans.extend(facts.layers.iter().map(Plan::Original));
                if !self.all_here(facts)? {
                    self.notes.push(
                        "layers of the image that this grew from are not in the store any more: they become one".into(),
                    );
                    plans = vec![Plan::Change { old: None, new: state.root }];
                }
            }
            for step in &lineage.steps {
                if below != Some(step.root) {
                    plans.push(Plan::Change { old: below, new: step.root });
                    below = Some(step.root);
                }
            }
        } else {
            plans.push(Plan::Change { old: None, new: lineage.state.root });
        }
        let mut layers = Vec::new();
        for plan in &plans {
            layers.push(match plan {
                Plan::Change { old, new } => self.change(*old, *new)?,
                Plan::Original(facts) => match self.original(facts, has_manifest(base))? {
                    Some(layer) => layer,
                    None => return Ok(None),
                },
            });
        }
        if layers.len() > MANY_LAYERS {
            self.notes.push(format!("{} layers: many tools take {MANY_LAYERS} at the most", layers.len()));
        }
        let raw = match base {
            Some((facts, _)) => self.document_bytes(&facts.config)?,
            None => None,
        };
        let raw = raw.and_then(|bytes| describe::raw_config(&bytes));
        let history = self.history(lineage, plans.len(), raw.as_ref());
        let last = lineage.steps.last().map(|step| step.time_seconds);
        let created = last.or_else(|| raw.as_ref().and_then(describe::created_seconds));
        let created = created.map(|created| self.options.epoch.map_or(created, |epoch| created.min(epoch)));
        // A time that nothing changes stays as it was written.
        let created = created.filter(|_| last.is_some() || self.options.epoch.is_some());
        let config = describe::config(
            &lineage.state.config,
            base.map(|(_, state)| &state.config),
            raw,
            created,
            &layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>(),
            history,
        );
        let manifest = describe::manifest(&config, &layers);
        Ok(Some(self.done(manifest, config, layers, false)))
    }

    /// What the config says of how each layer came about.
    fn history(
        &self,
        lineage: &Lineage,
        layers: usize,
        raw: Option<&serde_json::Value>,
    ) -> Vec<serde_json::Value> {
        let time = |seconds: i64| self.options.epoch.map_or(seconds, |epoch| seconds.min(epoch));
        let mut below = lineage.base.as_ref().map(|(_, state)| state.root);
        let steps = lineage.steps.iter().map(|step| {
            let empty = below == Some(step.root);
            below = Some(step.root);
            HistoryStep { text: &step.text, time_seconds: time(step.time_seconds), empty }
        });
        let steps: Vec<_> = steps.collect();
        if self.options.layering == Layering::PerCommit {
            let layers_below = layers - steps.iter().filter(|step| !step.empty).count();
            describe::history(raw, layers_below, &steps)
        } else {
            describe::history_of_one(raw, &steps)
        }
    }

    fn all_here(&self, facts: &ImageFacts) -> Result<bool, DiskError> {
        for layer in &facts.layers {
            if self.originals.form(&layer.digest)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A document as it came; `None` when it is gone or damaged.
    fn document(&self, facts: &DocumentFacts) -> Result<Option<Part>, BuildError> {
        Ok(self.document_bytes(facts)?.map(|bytes| Part {
            digest: facts.digest.clone(),
            size: bytes.len() as u64,
            media_type: facts.media_type.clone(),
            bytes: PartBytes::Memory(bytes),
        }))
    }

    fn document_bytes(&self, facts: &DocumentFacts) -> Result<Option<Vec<u8>>, BuildError> {
        match self.originals.document(&facts.digest, Limits::MANIFEST_BYTES) {
            Err(ImportError::Mismatch { .. }) => {
                self.originals.discard(&facts.digest)?;
                Ok(None)
            }
            found => Ok(found?),
        }
    }

    /// A layer as it came; `None` when it is gone. With `exact` its bytes count, else the archive in it does.
    fn original(&mut self, facts: &LayerFacts, exact: bool) -> Result<Option<BuiltLayer>, BuildError> {
        let path = self.originals.path(&facts.digest);
        let (form, media_type) = (self.originals.form(&facts.digest)?, facts.media_type.clone());
        let diff_id = facts.diff_id.clone();
        match form {
            None => Ok(None),
            Some(Form::Whole) => {
                let (digest, size) = (facts.digest.clone(), facts.size);
                let part = Part { digest, size, media_type, bytes: PartBytes::Original(path) };
                Ok(Some(BuiltLayer { part, diff_id }))
            }
            Some(Form::Skeleton) => {
                let compression = if exact { Compression::None } else { self.options.compression };
                let Some(skeleton) = self.originals.open_form(&facts.digest, Form::Skeleton)? else {
                    return Ok(None);
                };
                let algorithm = facts.digest.algorithm();
                let mut made = Making::new(&self.next_file(), compression, algorithm)?;
                let layer = match assemble(skeleton.reader(), self.store, &mut made) {
                    Ok(()) => Some(made.finish(Ok(()))?),
                    Err(AssembleError::Io(error)) => return made.finish(Err(error)).map(Some),
                    Err(AssembleError::Damaged) => None,
                };
                let Some(layer) = layer.filter(|layer| layer.diff_id == facts.digest) else {
                    self.originals.discard_form(&facts.digest, Form::Skeleton)?;
                    return Ok(None);
                };
                let media_type = if exact { media_type } else { layer.part.media_type };
                Ok(Some(BuiltLayer { part: Part { media_type, ..layer.part }, diff_id }))
            }
        }
    }

    fn next_file(&mut self) -> PathBuf {
        self.files += 1;
        self.scratch.path().join(format!("layer-{}", self.files))
    }

    fn change(&mut self, old: Option<TreeId>, new: TreeId) -> Result<BuiltLayer, BuildError> {
        let old = old.map(|old| self.store.root(&old)).transpose()?;
        let new = self.store.root(&new)?;
        let mut made = Making::new(&self.next_file(), self.options.compression, Algorithm::Sha256)?;
        let written = write_layer(self.store, old.as_ref(), &new, self.options.epoch, &mut made);
        match written {
            Ok(written) => {
                self.skipped.extend(written.skipped);
                made.finish(Ok(()))
            }
            Err(error) => Err(made.explain(error)),
        }
    }
}

/// More layers than this are refused by tools that stack each as one overlay lower.
const MANY_LAYERS: usize = 127;

fn has_manifest(base: Option<&(ImageFacts, object::State)>) -> bool {
    base.is_some_and(|(facts, _)| facts.manifest.is_some())
}

/// How many bytes go to the threads of a layer at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// How many such pieces wait for each.
const CHUNKS_WAITING: usize = 16;

/// A layer being written: one thread hashes it, one compresses it and hashes that, while this one reads its files.
struct Making {
    path: PathBuf,
    compression: Compression,
    chunk: Vec<u8>,
    archive: Lane<Digest>,
    compressed: Lane<io::Result<HashedFile>>,
    /// Whether the compressing thread gave up, which the writer of the archive must not be blamed for.
    stopped: bool,
}

/// A thread that takes the bytes of an archive.
struct Lane<T> {
    chunks: SyncSender<Arc<Vec<u8>>>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Lane<T> {
    fn new(work: impl FnOnce(&Receiver<Arc<Vec<u8>>>) -> T + Send + 'static) -> io::Result<Self> {
        let (chunks, taken) = mpsc::sync_channel(CHUNKS_WAITING);
        let thread = std::thread::Builder::new().name("treebox-layer".into());
        Ok(Self { chunks, thread: thread.spawn(move || work(&taken))? })
    }

    fn finish(self) -> io::Result<T> {
        drop(self.chunks);
        self.thread.join().map_err(|_| io::Error::other("a thread that writes a layer has stopped"))
    }
}

struct HashedFile {
    out: BufWriter<File>,
    hasher: Hasher,
    size: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Making {
    fn new(path: &Path, compression: Compression, algorithm: Algorithm) -> Result<Self, DiskError> {
        let out = BufWriter::with_capacity(1 << 18, create_new(path)?);
        let out = HashedFile { out, hasher: Hasher::new(algorithm), size: 0 };
        let failed = |error| DiskError::new("write to", path, error);
        let mut compressor = Compressor::new(compression, out).map_err(failed)?;
        let compressed = Lane::new(move |chunks| {
            while let Ok(chunk) = chunks.recv() {
                compressor.write_all(&chunk)?;
            }
            let mut file = compressor.finish()?;
            file.flush()?;
            Ok(file)
        });
        let archive = Lane::new(move |chunks| {
            let mut hasher = Hasher::new(algorithm);
            while let Ok(chunk) = chunks.recv() {
                hasher.update(&chunk);
            }
            hasher.finish()
        });
        Ok(Self {
            path: path.to_owned(),
            compression,
            chunk: Vec::with_capacity(CHUNK_BYTES),
            archive: archive.map_err(failed)?,
            compressed: compressed.map_err(failed)?,
            stopped: false,
        })
    }

    fn explain(self, error: ExportError) -> BuildError {
        match (self.stopped, self.compressed.finish()) {
            (true, Ok(Err(failure)) | Err(failure)) => DiskError::new("write to", &self.path, failure).into(),
            _ => error.into(),
        }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let chunk = Arc::new(chunk);
        let sent =
            self.archive.chunks.send(Arc::clone(&chunk)).is_ok() & self.compressed.chunks.send(chunk).is_ok();
        if !sent {
            self.stopped = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    fn finish(mut self, written: io::Result<()>) -> Result<BuiltLayer, BuildError> {
        if let Err(error) = written.and_then(|()| self.pass_on()) {
            return Err(self.explain(ExportError::Io(error)));
        }
        let Self { path, compression, archive, compressed, .. } = self;
        let failed = |error| DiskError::new("write to", &path, error);
        let file = compressed.finish().and_then(|file| file).map_err(failed)?;
        let diff_id = archive.finish().map_err(failed)?;
        let (digest, size) = (file.hasher.finish(), file.size);
        let media_type = describe::layer_media_type(compression).to_owned();
        let part = Part { digest, size, media_type, bytes: PartBytes::Made(path) };
        Ok(BuiltLayer { part, diff_id })
    }
}

impl Write for &mut Making {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.pass_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
