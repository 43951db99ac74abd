//! Layers into a tree and blobs: the reading thread, the parser (here) and the writing threads.
//!
//! # Invariants
//! - Nothing is ever extracted onto a file system: entries become values, bodies become blobs.
//! - Memory is bounded by the queues between the threads and by the number of entries, never by the size of the layers.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};

use super::entry::{TarEntry, TarKind};
use super::error::{ImportError, LayerError};
use super::feed::{self, CHUNKS_WAITING, Chunks, Keep, LayerInput, LayerSums, Message};
use super::layer::{Change, Changes, LayerChanges};
use super::limits::{Limits, within};
use super::recorder::Recorder;
use super::skeleton::SkeletonWriter;
use super::tarball::Tar;
use super::writers::{Closing, Writers};
use crate::disk::DiskError;
use crate::object::{Draft, NewNode};
use crate::store::{Batch, HashedBytes};

/// A file up to this size goes to a writer as a whole; a larger one is streamed by the parser itself.
const WHOLE_FILE_BYTES: u64 = 2 << 20;

/// What unpacking found besides the tree.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub(super) sums: Vec<LayerSums>,
    /// Entries in all layers.
    pub(super) entries: u64,
    /// Bytes of regular files in all layers.
    pub(super) bytes: u64,
    metadata_bytes: u64,
}

/// Applies all layers to the draft, lowest first.
pub(super) fn unpack(
    layers: &[LayerInput],
    draft: &mut Draft<'_>,
    batch: &Batch<'_>,
    limits: &Limits,
    whiteouts: bool,
    mut after_layer: impl FnMut(&mut Draft<'_>) -> Result<(), ImportError>,
) -> Result<Unpacked, ImportError> {
    let feed = |chunks: &SyncSender<Message>, recycled: &Receiver<Vec<u8>>| {
        feed::run(layers, limits, chunks, recycled);
    };
    pipeline(batch, limits, feed, |unpacking, chunks| {
        for layer in layers {
            // The lowest layer has nothing below it.
            let lowest = draft.is_empty();
            let mut unpack = || {
                let skeleton = match &layer.keep {
                    Keep::Skeleton(path) => {
                        Some(SkeletonWriter::create(path).map_err(|error| LayerError::Store(error.into()))?)
                    }
                    Keep::Nothing | Keep::Copy(_) => None,
                };
                unpacking.layer(chunks, LayerChanges::new(draft, lowest, whiteouts), skeleton)
            };
            let failed = |source| ImportError::Layer { layer: layer.name.clone(), source };
            unpack().map_err(failed)?;
            after_layer(draft)?;
        }
        Ok(())
    })
}

/// Applies one stream.
pub(super) fn unpack_stream(
    input: &mut (dyn Read + Send),
    changes: impl Changes,
    batch: &Batch<'_>,
    limits: &Limits,
) -> Result<Unpacked, ImportError> {
    let feed = |chunks: &SyncSender<Message>, recycled: &Receiver<Vec<u8>>| {
        feed::run_stream(input, limits, chunks, recycled);
    };
    pipeline(batch, limits, feed, |unpacking, chunks| {
        unpacking.layer(chunks, changes, None).map_err(ImportError::Stream)
    })
}

/// Starts the threads, parses on this one, and waits for all.
fn pipeline(
    batch: &Batch<'_>,
    limits: &Limits,
    feed: impl FnOnce(&SyncSender<Message>, &Receiver<Vec<u8>>) + Send,
    parse: impl FnOnce(&mut Unpacking<'_, '_>, &mut Chunks) -> Result<(), ImportError>,
) -> Result<Unpacked, ImportError> {
    let (chunks, messages) = mpsc::sync_channel(CHUNKS_WAITING);
    let (recycle, recycled) = mpsc::channel();
    let writers = Writers::new();
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4));
    let unpacked = std::thread::scope(|scope| {
        scope.spawn(move || feed(&chunks, &recycled));
        for _ in 0..threads {
            scope.spawn(|| writers.work(batch));
        }
        scope.spawn(|| writers.sync(batch));
        let _closing = Closing(&writers);
        let mut chunks = Chunks::new(messages, recycle);
        let mut unpacked = Unpacked::default();
        let mut unpacking = Unpacking { batch, limits, writers: &writers, unpacked: &mut unpacked };
        parse(&mut unpacking, &mut chunks)?;
        Ok::<_, ImportError>(unpacked)
    })?;
    writers.finish()?;
    Ok(unpacked)
}

struct Unpacking<'u, 'b> {
    batch: &'u Batch<'b>,
    limits: &'u Limits,
    writers: &'u Writers,
    unpacked: &'u mut Unpacked,
}

impl Unpacking<'_, '_> {
    fn layer(
        &mut self,
        chunks: &mut Chunks,
        mut changes: impl Changes,
        skeleton: Option<SkeletonWriter>,
    ) -> Result<(), LayerError> {
        let mut recorder = Recorder::new(chunks, skeleton);
        let mut tar = Tar::new(&mut recorder, self.limits);
        while let Some(entry) = tar.next()? {
            self.unpacked.entries += 1;
            within("entries", self.limits.entries, self.unpacked.entries, || "the number of entries".into())?;
            self.unpacked.metadata_bytes += entry.metadata_bytes();
            within("metadata_bytes", self.limits.metadata_bytes, self.unpacked.metadata_bytes, || {
                "the size of all paths and extended attributes".into()
            })?;
            self.entry(&mut tar, entry, &mut changes)?;
        }
        // What follows the archive is part of the layer's digests.
        self.unpacked.sums.extend(recorder.finish_layer()?);
        changes.finish()
    }

    fn entry(
        &mut self,
        tar: &mut Tar<'_, &mut Recorder<'_>>,
        entry: TarEntry,
        changes: &mut impl Changes,
    ) -> Result<(), LayerError> {
        let TarEntry { path, meta, kind } = entry;
        let place = changes.place(&path)?;
        let change = match kind {
            TarKind::Directory => Change::Directory(meta),
            TarKind::HardLink { target } => Change::HardLink(target),
            TarKind::Symlink { target } => Change::Leaf(meta, NewNode::Symlink { target }),
            TarKind::Fifo => Change::Leaf(meta, NewNode::Fifo),
            TarKind::Char { major, minor } => Change::Leaf(meta, NewNode::Char { major, minor }),
            TarKind::Block { major, minor } => Change::Leaf(meta, NewNode::Block { major, minor }),
            TarKind::File { size, regions } => {
                self.unpacked.bytes = self.unpacked.bytes.saturating_add(size);
                within("total_bytes", self.limits.total_bytes, self.unpacked.bytes, || {
                    "the size of all files".into()
                })?;
                let blob = if !place.wants_bytes() {
                    // A whiteout's body means nothing; its entry still has to be a file of some kind.
                    HashedBytes::new(Vec::new()).id()
                } else if size <= WHOLE_FILE_BYTES {
                    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
                    tar.copy_body(size, regions.as_deref(), |piece| {
                        bytes.extend_from_slice(piece);
                        Ok(())
                    })?;
                    let blob = HashedBytes::new(bytes);
                    let id = blob.id();
                    self.writers.put(blob, meta.clone())?;
                    id
                } else {
                    let mut writer = self.batch.blob_writer()?;
                    tar.copy_body(size, regions.as_deref(), |piece| {
                        let written = writer.write_all(piece);
                        written.map_err(|error| {
                            LayerError::Store(DiskError::new("write to", self.batch.scratch(), error).into())
                        })
                    })?;
                    let (id, written) = self.batch.put_stream(writer, Some(&meta))?;
                    self.writers.streamed(written);
                    id
                };
                if regions.is_none() && place.wants_bytes() {
                    tar.input().kept_as(&blob, size)?;
                }
                Change::Leaf(meta, NewNode::File { blob, size, link: None })
            }
        };
        changes.add(place, change)
    }
}
