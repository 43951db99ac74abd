//! Compressing layers so that the same archive gives the same bytes on every machine.
//!
//! # Compatibility
//! What is written is pinned by tests. gzip: pieces of [`PIECE_BYTES`] are deflated each by itself, all but the last end with a sync flush, and
//! all together are one member without name and time. zstd: one frame with check sum, in jobs of [`ZSTD_JOB_BYTES`]. So the bytes do not depend
//! on how many threads there are; that leaves the versions of zlib-rs and libzstd, which `Cargo.lock` has and the tests watch.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, available_parallelism};

use flate2::Crc;
use zlib_rs::{Deflate, DeflateFlush, Status};

/// How much of an archive is deflated as one piece.
const PIECE_BYTES: usize = 1 << 20;
/// How much of an archive one zstd job takes.
const ZSTD_JOB_BYTES: u32 = 8 << 20;
/// The largest window of deflate, 32 KiB.
const WINDOW_BITS: u8 = 15;
/// Pieces that wait for each thread.
const PIECES_WAITING: usize = 2;
/// Threads that compress, at the most.
const MAX_THREADS: usize = 16;
/// Deflate, no name, no time, nothing said of effort, Unix.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, which everything reads; the level is 1 to 9.
    Gzip(u32),
    /// zstd, faster and smaller, which older tools do not read; the level is 1 to 19.
    Zstd(i32),
}

impl Compression {
    /// gzip as most tools do it.
    pub const GZIP: Self = Self::Gzip(6);
    /// zstd at its own default.
    pub const ZSTD: Self = Self::Zstd(3);
}

impl Default for Compression {
    fn default() -> Self {
        Self::GZIP
    }
}

/// Text that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a compression: write none, gzip, zstd, gzip:LEVEL with 1 to 9, or zstd:LEVEL with 1 to 19"
)]
pub struct InvalidCompression(String);

impl std::str::FromStr for Compression {
    type Err = InvalidCompression;

    fn from_str(text: &str) -> Result<Self, InvalidCompression> {
        let (word, level) = match text.split_once(':') {
            Some((word, level)) => (word, Some(level)),
            None => (text, None),
        };
        let level = |default: u32, most: u32| match level {
            None => Some(default),
            Some(level) => level.parse().ok().filter(|level| (1..=most).contains(level)),
        };
        let read = match word {
            "none" => (!text.contains(':')).then_some(Self::None),
            "gzip" => level(6, 9).map(Self::Gzip),
            "zstd" => level(3, 19).map(|level| Self::Zstd(level.cast_signed())),
            _ => None,
        };
        read.ok_or_else(|| InvalidCompression(text.chars().take(40).collect()))
    }
}

/// Compresses what is written to it.
pub enum Compressor<W: Write> {
    /// Hands it on.
    None(W),
    /// By several threads.
    Gzip(Gzip<W>),
    /// By several threads.
    Zstd(Box<zstd::Encoder<'static, W>>),
}

impl<W: Write> Compressor<W> {
    /// Begins.
    pub fn new(compression: Compression, out: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(out),
            Compression::Gzip(level) => Self::Gzip(Gzip::new(level, out)?),
            Compression::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(out, level)?;
                encoder.include_checksum(true)?;
                encoder.include_contentsize(false)?;
                // With no thread at all the frame would be another one.
                encoder.multithread(u32::try_from(threads()).unwrap_or(1))?;
                encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB_BYTES))?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    /// Writes what is left, and gives back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn threads() -> usize {
    available_parallelism().map_or(1, |count| count.get().min(MAX_THREADS))
}

struct Piece {
    bytes: Vec<u8>,
    last: bool,
    done: SyncSender<Deflated>,
}

struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
}

/// One gzip member, deflated by several threads.
pub struct Gzip<W: Write> {
    out: W,
    piece: Vec<u8>,
    crc: Crc,
    /// Closed at the end, which ends the threads.
    pieces: Option<SyncSender<Piece>>,
    /// Pieces under way, in order.
    waiting: std::collections::VecDeque<Receiver<Deflated>>,
    most_waiting: usize,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Write> Gzip<W> {
    fn new(level: u32, mut out: W) -> io::Result<Self> {
        out.write_all(&GZIP_HEADER)?;
        let count = threads();
        let (pieces, taken) = mpsc::sync_channel::<Piece>(count * PIECES_WAITING);
        let taken = Arc::new(Mutex::new(taken));
        let mut threads = Vec::new();
        for _ in 0..count {
            let taken = Arc::clone(&taken);
            let thread = std::thread::Builder::new().name("treebox-deflate".into());
            threads.push(thread.spawn(move || work(level, &taken))?);
        }
        Ok(Self {
            out,
            piece: Vec::with_capacity(PIECE_BYTES),
            crc: Crc::new(),
            pieces: Some(pieces),
            waiting: std::collections::VecDeque::new(),
            most_waiting: count * (PIECES_WAITING + 1),
            threads,
        })
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        if self.waiting.len() >= self.most_waiting {
            self.take_one()?;
        }
        let bytes = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let (done, deflated) = mpsc::sync_channel(1);
        let pieces = self.pieces.as_ref().ok_or_else(stopped)?;
        pieces.send(Piece { bytes, last, done }).map_err(|_| stopped())?;
        self.waiting.push_back(deflated);
        Ok(())
    }

    /// Writes the piece that is next in order.
    fn take_one(&mut self) -> io::Result<()> {
        let Some(next) = self.waiting.pop_front() else { return Ok(()) };
        let deflated = next.recv().map_err(|_| stopped())?;
        self.crc.combine(&deflated.crc);
        self.out.write_all(&deflated.bytes)
    }

    fn finish(mut self) -> io::Result<W> {
        self.send(true)?;
        self.pieces = None;
        while !self.waiting.is_empty() {
            self.take_one()?;
        }
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| stopped())?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Sent only when more comes: the last piece is marked as such.
        if self.piece.len() == PIECE_BYTES {
            self.send(false)?;
        }
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One thread that deflates pieces until there are no more.
fn work(level: u32, pieces: &Mutex<Receiver<Piece>>) {
    loop {
        let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Piece { bytes, last, done }) = next else { return };
        let mut crc = Crc::new();
        crc.update(&bytes);
        // Without an answer the writer says that the thread has stopped.
        if let Some(bytes) = deflate(level, &bytes, last) {
            let _ = done.send(Deflated { bytes, crc });
        }
    }
}

/// One piece as blocks of a deflate stream that end at a byte.
fn deflate(level: u32, bytes: &[u8], last: bool) -> Option<Vec<u8>> {
    let mut deflater = Deflate::new(i32::try_from(level).ok()?, false, WINDOW_BITS);
    // What cannot be deflated grows by five bytes for each 16 KiB at the most; the rest is for the flush.
    let mut out = vec![0; bytes.len() + bytes.len() / 1024 + 1024];
    let flush = if last { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
    loop {
        let taken = usize::try_from(deflater.total_in()).ok()?;
        let filled = usize::try_from(deflater.total_out()).ok()?;
        let status = deflater.compress(&bytes[taken..], &mut out[filled..], flush).ok()?;
        let filled = usize::try_from(deflater.total_out()).ok()?;
        // A flush is over when it leaves room.
        let flushed = !last && filled < out.len() && deflater.total_in() == bytes.len() as u64;
        if flushed || status == Status::StreamEnd {
            out.truncate(filled);
            return Some(out);
        }
        if filled == out.len() {
            out.resize(filled + PIECE_BYTES / 4, 0);
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("a compressing thread has stopped")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Text that repeats itself now and then, the same on every machine.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *state >> 24
        };
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let word = next(&mut state) % 64;
            bytes.extend_from_slice(format!("word{word} ").as_bytes());
            bytes.push(u8::try_from(next(&mut state) % 256).unwrap());
        }
        bytes.truncate(len);
        bytes
    }

    fn compressed(compression: Compression, bytes: &[u8], step: usize) -> Vec<u8> {
        let mut compressor = Compressor::new(compression, Vec::new()).unwrap();
        for piece in bytes.chunks(step.max(1)) {
            compressor.write_all(piece).unwrap();
        }
        compressor.finish().unwrap()
    }

    #[test]
    fn what_is_compressed_is_read_back_whatever_its_length() {
        for len in [0, 1, 1000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 5_000_001] {
            let bytes = sample(len);
            for level in [1, 6, 9] {
                let gzip = compressed(Compression::Gzip(level), &bytes, 100_000);
                let mut back = Vec::new();
                // One member: not every reader takes several.
                flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut back).unwrap();
                assert!(back == bytes, "gzip {len} {level}");
            }
            let zstd = compressed(Compression::ZSTD, &bytes, 100_000);
            assert!(zstd::decode_all(&zstd[..]).unwrap() == bytes, "zstd {len}");
            assert!(compressed(Compression::None, &bytes, 100_000) == bytes);
        }
    }

    #[test]
    fn bytes_that_cannot_be_compressed_survive() {
        let mut state = 7u64;
        let bytes: Vec<u8> = (0..2_500_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56).to_le_bytes()[0]
            })
            .collect();
        let mut back = Vec::new();
        let gzip = compressed(Compression::GZIP, &bytes, 1 << 16);
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_they_are_written() {
        let bytes = sample(3_000_000);
        for compression in [Compression::GZIP, Compression::ZSTD] {
            let whole = compressed(compression, &bytes, bytes.len());
            assert!(compressed(compression, &bytes, 4099) == whole, "{compression:?}");
        }
    }

    #[test]
    fn the_bytes_are_the_pinned_ones() {
        // A change here changes the digests of everything that is exported: it needs a line in the change log.
        let bytes = sample(3_000_000);
        let digest = |compression| {
            let bytes = compressed(compression, &bytes, 1 << 16);
            crate::oci::digest::Digest::of(crate::oci::digest::Algorithm::Sha256, &bytes).to_string()
        };
        assert_eq!(
            [digest(Compression::GZIP), digest(Compression::ZSTD)],
            [
                "sha256:4ce8edd3f2dcf230603f7470a7a15b90332a1230234d0ca35675b15f809bac37",
                "sha256:4ae98f150bbc47e6d19fe880405b38c54106a391983c23f70e780d4d1744a22b",
            ]
        );
    }

    #[test]
    fn a_compression_is_read_as_it_is_written() {
        let read = |text: &str| text.parse::<Compression>().ok();
        assert_eq!(read("none"), Some(Compression::None));
        assert_eq!(read("gzip"), Some(Compression::Gzip(6)));
        assert_eq!(read("gzip:9"), Some(Compression::Gzip(9)));
        assert_eq!(read("zstd:19"), Some(Compression::Zstd(19)));
        for bad in ["", "gz", "gzip:0", "gzip:10", "zstd:20", "zstd:x", "none:1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
