//! The reading half of an import: a thread that reads layers one after the other, takes their compression off, checks their digests,
//! and hands the tar bytes on in chunks.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use super::decompress::{Decoder, Format};
use super::digest::{Algorithm, Digest, Hasher};
use super::error::LayerError;
use super::limits::{Limits, within, within_ratio};
use super::section::{Copy, Section};
use super::stream::{Counted, Stream};
use super::tarball::{Input, read_buffered};

/// How many bytes one chunk has.
const CHUNK_BYTES: usize = 256 * 1024;
/// How many chunks wait between the two threads: enough that neither waits while the other waits for the disk.
pub(super) const CHUNKS_WAITING: usize = 48;

/// One layer as its image describes it.
#[derive(Debug, Clone)]
pub(super) struct LayerInput {
    /// For messages: its digest or file.
    pub(super) name: String,
    pub(super) section: Section,
    /// What the compressed bytes must be.
    pub(super) digest: Option<Digest>,
    /// What the tar archive must be.
    pub(super) diff_id: Option<Digest>,
    pub(super) media_type: String,
    pub(super) keep: Keep,
}

/// What is kept of a layer besides its files, and in which new file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    /// Its bytes as they are.
    Copy(PathBuf),
    /// The skeleton of its archive.
    Skeleton(PathBuf),
}

impl LayerInput {
    /// Its compression, by its first bytes.
    pub(super) fn format(&self) -> io::Result<Format> {
        sniff(&mut self.section.reader())
    }
}

/// What a layer turned out to be.
#[derive(Debug, Clone)]
pub(super) struct LayerSums {
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
    /// Sizes in bytes: as it lies in the image, and without compression.
    pub(super) size: u64,
    pub(super) tar_size: u64,
}

/// From the reading thread.
pub(super) enum Message {
    Chunk(Vec<u8>),
    /// The layer is over and was what it should be; a stream has no sums.
    End(Option<LayerSums>),
    Failed(LayerError),
}

/// Reads all layers in order. Ends early when nobody listens any more.
pub(super) fn run(
    layers: &[LayerInput],
    limits: &Limits,
    chunks: &SyncSender<Message>,
    recycled: &Receiver<Vec<u8>>,
) {
    let mut total = 0;
    for layer in layers {
        let message = match read_layer(layer, limits, &mut total, chunks, recycled) {
            Ok(Some(sums)) => Message::End(Some(sums)),
            Ok(None) => return,
            Err(error) => Message::Failed(error),
        };
        let failed = matches!(message, Message::Failed(_));
        if chunks.send(message).is_err() || failed {
            return;
        }
    }
}

/// Reads one stream to its end. Ends early when nobody listens any more.
pub(super) fn run_stream(
    input: &mut (dyn Read + Send),
    limits: &Limits,
    chunks: &SyncSender<Message>,
    recycled: &Receiver<Vec<u8>>,
) {
    let mut total = 0;
    let mut pump = Pump { limits, total: &mut total, chunks, recycled, hasher: None };
    let message = match pump.run(Stream::new(input)) {
        Ok(Some(_)) => Message::End(None),
        Ok(None) => return,
        Err(error) => Message::Failed(error),
    };
    // Who listens no more needs no end.
    let _ = chunks.send(message);
}

fn read_layer(
    layer: &LayerInput,
    limits: &Limits,
    total: &mut u64,
    chunks: &SyncSender<Message>,
    recycled: &Receiver<Vec<u8>>,
) -> Result<Option<LayerSums>, LayerError> {
    let algorithm = |digest: &Option<Digest>| digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let copy = match &layer.keep {
        Keep::Copy(path) => {
            Some(Copy::create(path.clone()).map_err(|error| LayerError::Store(error.into()))?)
        }
        Keep::Nothing | Keep::Skeleton(_) => None,
    };
    let mut reader = layer.section.reader().hashed(algorithm(&layer.digest)).copied(copy);
    // Of a layer without compression both digests are over the same bytes.
    let same = sniff(&mut reader)? == Format::Plain && algorithm(&layer.digest) == algorithm(&layer.diff_id);
    let hasher = (!same).then(|| Hasher::new(algorithm(&layer.diff_id)));
    let before = *total;
    let mut pump = Pump { limits, total, chunks, recycled, hasher };
    let Some(reader) = pump.run(reader)? else { return Ok(None) };
    let inner = pump.hasher.take();
    let tar_size = *total - before;
    let (digest, size) = reader.finish();
    let digest = digest.unwrap_or_else(|| Digest::of(Algorithm::Sha256, b""));
    let diff_id = inner.map_or_else(|| digest.clone(), Hasher::finish);
    expect("its digest differs", layer.digest.as_ref(), &digest)?;
    expect("the digest of its tar archive (diff_id) differs", layer.diff_id.as_ref(), &diff_id)?;
    Ok(Some(LayerSums { digest, diff_id, size, tar_size }))
}

/// Reads a layer for its copy alone, and checks its digest.
pub(super) fn copy_layer(layer: &LayerInput, limits: &Limits) -> Result<LayerSums, LayerError> {
    // With nobody to take chunks the pump would end early: the archive goes nowhere.
    let (chunks, taken) = std::sync::mpsc::sync_channel(CHUNKS_WAITING);
    let (recycle, recycled) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(message) = taken.recv() {
                if let Message::Chunk(chunk) = message {
                    let _ = recycle.send(chunk);
                }
            }
        });
        let read = read_layer(layer, limits, &mut 0, &chunks, &recycled)?;
        drop(chunks);
        read.ok_or_else(|| io::Error::other("the reading thread has stopped").into())
    })
}

fn sniff(reader: &mut impl BufRead) -> io::Result<Format> {
    let head = reader.fill_buf()?;
    Ok(Format::sniff(&head[..head.len().min(Format::SNIFF_BYTES)]))
}

/// Takes the compression off and hands the bytes on.
struct Pump<'p> {
    limits: &'p Limits,
    /// Bytes of all layers so far.
    total: &'p mut u64,
    chunks: &'p SyncSender<Message>,
    recycled: &'p Receiver<Vec<u8>>,
    /// Of the bytes without compression.
    hasher: Option<Hasher>,
}

impl Pump<'_> {
    /// Reads to the end and gives the reader back; `None` when nobody listens any more.
    fn run<R: Counted>(&mut self, mut reader: R) -> Result<Option<R>, LayerError> {
        let limits = self.limits;
        let format = sniff(&mut reader)?;
        let mut decoder = Decoder::new(format, reader, limits)?;
        let mut expanded = 0u64;
        loop {
            let mut chunk = self.recycled.try_recv().unwrap_or_default();
            chunk.resize(CHUNK_BYTES, 0);
            let mut filled = 0;
            while filled < chunk.len() {
                match decoder.read(&mut chunk[filled..])? {
                    0 => break,
                    count => filled += count,
                }
            }
            if filled == 0 {
                return Ok(Some(decoder.finish()?));
            }
            chunk.truncate(filled);
            expanded += filled as u64;
            *self.total += filled as u64;
            within("total_bytes", limits.total_bytes, *self.total, || "the size of all layers".into())?;
            if format != Format::Plain {
                let taken = decoder.input().map_or(0, Counted::taken);
                within_ratio(limits, expanded, taken, || "how far the layer expands".into())?;
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&chunk);
            }
            if self.chunks.send(Message::Chunk(chunk)).is_err() {
                return Ok(None);
            }
        }
    }
}

fn expect(what: &'static str, expected: Option<&Digest>, found: &Digest) -> Result<(), LayerError> {
    match expected {
        Some(expected) if expected != found => {
            Err(LayerError::Mismatch { what, expected: expected.to_string(), found: found.to_string() })
        }
        _ => Ok(()),
    }
}

/// The receiving end: the tar bytes of one layer at a time.
pub(super) struct Chunks {
    messages: Receiver<Message>,
    recycle: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
    /// Set at the end of a layer.
    ended: Option<Option<LayerSums>>,
}

impl Chunks {
    pub(super) fn new(messages: Receiver<Message>, recycle: Sender<Vec<u8>>) -> Self {
        Self { messages, recycle, chunk: Vec::new(), used: 0, ended: None }
    }

    /// What [`BufRead::fill_buf`] gave last and was not taken yet.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.chunk[self.used..]
    }

    /// Passes over what is left of the layer, and gives what it turned out to be. The next bytes are the next layer's.
    pub(super) fn finish_layer(&mut self) -> Result<Option<LayerSums>, LayerError> {
        loop {
            if let Some(sums) = self.ended.take() {
                return Ok(sums);
            }
            let have = self.fill_buf().map_err(super::tarball::from_io)?.len();
            self.consume(have);
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, to)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.chunk.len() && self.ended.is_none() {
            let spent = std::mem::take(&mut self.chunk);
            self.used = 0;
            if spent.capacity() > 0 {
                // Nobody listens at the end of the last layer.
                let _ = self.recycle.send(spent);
            }
            match self.messages.recv() {
                Ok(Message::Chunk(chunk)) => self.chunk = chunk,
                Ok(Message::End(sums)) => self.ended = Some(sums),
                Ok(Message::Failed(error)) => return Err(io::Error::other(error)),
                Err(_) => return Err(io::Error::other("the reading thread has stopped")),
            }
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.chunk.len());
    }
}

impl Input for Chunks {}
