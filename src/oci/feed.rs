//! The reading half of an import: a thread that reads layers one after the other, takes their compression off, checks their digests,
//! and hands the tar bytes on in chunks.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use super::decompress::{Decoder, Format};
use super::digest::{Algorithm, Digest, Hasher};
use super::error::LayerError;
use super::limits::{Limits, within};
use super::section::Section;
use super::stream::{Counted, Stream};
use super::tarball::Input;

/// How many bytes one chunk has.
const CHUNK_BYTES: usize = 256 * 1024;
/// How many chunks wait between the two threads.
pub(super) const CHUNKS_WAITING: usize = 16;

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
}

/// What a layer turned out to be.
#[derive(Debug, Clone)]
pub(super) struct LayerSums {
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
    pub(super) size: u64,
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
    let mut reader = layer.section.reader().hashed(algorithm(&layer.digest));
    // Of a layer without compression both digests are over the same bytes.
    let same = sniff(&mut reader)? == Format::Plain && algorithm(&layer.digest) == algorithm(&layer.diff_id);
    let hasher = (!same).then(|| Hasher::new(algorithm(&layer.diff_id)));
    let mut pump = Pump { limits, total, chunks, recycled, hasher };
    let Some(reader) = pump.run(reader)? else { return Ok(None) };
    let inner = pump.hasher;
    let (digest, size) = reader.finish();
    let digest = digest.unwrap_or_else(|| Digest::of(Algorithm::Sha256, b""));
    let diff_id = inner.map_or_else(|| digest.clone(), Hasher::finish);
    expect("its digest differs", layer.digest.as_ref(), &digest)?;
    expect("the digest of its tar archive (diff_id) differs", layer.diff_id.as_ref(), &diff_id)?;
    Ok(Some(LayerSums { digest, diff_id, size }))
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
            if expanded > limits.ratio_free_bytes && format != Format::Plain {
                let ratio = expanded / decoder.input().map_or(0, Counted::taken).max(1);
                within("expansion_ratio", limits.expansion_ratio, ratio, || {
                    "how far the layer expands".into()
                })?;
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
        let have = self.fill_buf()?;
        let count = have.len().min(to.len());
        to[..count].copy_from_slice(&have[..count]);
        self.consume(count);
        Ok(count)
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
