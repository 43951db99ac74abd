//! Taking the compression off a stream: gzip, zstd, xz, bzip2 or none, told apart by their first bytes.
//!
//! Media types lie, so they are not asked. Several gzip members or zstd frames in a row are one stream (zstd:chunked and eStargz
//! layers are made so), zstd's skippable frames are passed over, and NUL bytes may follow the last one.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::error::LayerError;
use super::limits::Limits;
use super::tarball::from_io;

/// How much memory an xz stream may ask for: `xz -9` needs 65 MiB.
const XZ_MEMORY_BYTES: u64 = 128 << 20;

/// A compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Format {
    /// How many first bytes [`Format::sniff`] wants.
    pub(super) const SNIFF_BYTES: usize = 6;

    pub(super) fn sniff(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Self::Bzip2,
            _ => Self::Plain,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Plain => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// A stream without its compression.
pub(super) struct Decoder<R: BufRead> {
    format: Format,
    inner: Inner<R>,
}

enum Inner<R: BufRead> {
    Plain(R),
    Gzip(Gzip<R>),
    Zstd(Zstd<R>),
    Xz(liblzma::bufread::XzDecoder<R>),
    Bzip2(bzip2::bufread::MultiBzDecoder<R>),
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(format: Format, input: R, limits: &Limits) -> Result<Self, LayerError> {
        let failed = |source| LayerError::Compression { format: format.word(), source };
        let inner = match format {
            Format::Plain => Inner::Plain(input),
            Format::Gzip => Inner::Gzip(Gzip::Between(Some(input))),
            Format::Zstd => Inner::Zstd(Zstd::new(input, limits.zstd_window_log).map_err(failed)?),
            Format::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, flags);
                let stream = stream.map_err(|error| failed(io::Error::other(error)))?;
                Inner::Xz(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Format::Bzip2 => Inner::Bzip2(bzip2::bufread::MultiBzDecoder::new(input)),
        };
        Ok(Self { format, inner })
    }

    /// The next bytes; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        loop {
            let read = match &mut self.inner {
                Inner::Plain(input) => match input.read(buffer) {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(from_io(error)),
                    other => other,
                },
                Inner::Gzip(gzip) => gzip.read(buffer),
                Inner::Zstd(zstd) => zstd.read(buffer),
                Inner::Xz(xz) => xz.read(buffer),
                Inner::Bzip2(bzip2) => bzip2.read(buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    let format = self.format.word();
                    // What the input itself has to say, about its copy for one, is no damage of the stream.
                    return other.map_err(|error| match error.downcast::<LayerError>() {
                        Ok(error) => error,
                        Err(source) => LayerError::Compression { format, source },
                    });
                }
            }
        }
    }

    /// The input as far as it was read; `None` after a failure.
    pub(super) fn input(&self) -> Option<&R> {
        match &self.inner {
            Inner::Plain(input) => Some(input),
            Inner::Gzip(Gzip::Between(input)) => input.as_ref(),
            Inner::Gzip(Gzip::Member(member)) => Some(member.get_ref()),
            Inner::Zstd(zstd) => Some(&zstd.input),
            Inner::Xz(xz) => Some(xz.get_ref()),
            Inner::Bzip2(bzip2) => Some(bzip2.get_ref()),
        }
    }

    /// After the end: reads the rest of the input, in which only NUL bytes may be, and gives the input back.
    pub(super) fn finish(self) -> Result<R, LayerError> {
        let mut input = match self.inner {
            Inner::Plain(input) => input,
            Inner::Gzip(gzip) => gzip.into_input(),
            Inner::Zstd(zstd) => zstd.input,
            Inner::Xz(xz) => xz.into_inner(),
            Inner::Bzip2(bzip2) => bzip2.into_inner(),
        };
        loop {
            let have = input.fill_buf()?;
            if have.is_empty() {
                return Ok(input);
            }
            if have.iter().any(|byte| *byte != 0) {
                return Err(LayerError::Trailing { format: self.format.word() });
            }
            let len = have.len();
            input.consume(len);
        }
    }
}

enum Gzip<R: BufRead> {
    /// Between members; always filled, an option only so that it can be moved.
    Between(Option<R>),
    Member(Box<GzDecoder<R>>),
}

impl<R: BufRead> Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Between(input) => {
                    let waiting = input.as_mut().ok_or_else(|| io::Error::other("used after a failure"))?;
                    if waiting.fill_buf()?.first() != Some(&0x1f) {
                        return Ok(0);
                    }
                    let input = input.take().ok_or_else(|| io::Error::other("used after a failure"))?;
                    *self = Self::Member(Box::new(GzDecoder::new(input)));
                }
                Self::Member(member) => {
                    let count = member.read(buffer)?;
                    if count > 0 || buffer.is_empty() {
                        return Ok(count);
                    }
                    let Self::Member(member) = std::mem::replace(self, Self::Between(None)) else {
                        return Err(io::Error::other("used after a failure"));
                    };
                    *self = Self::Between(Some(member.into_inner()));
                }
            }
        }
    }

    fn into_input(self) -> R {
        match self {
            Self::Between(input) => input.expect("only a read that failed leaves nothing behind"),
            Self::Member(member) => member.into_inner(),
        }
    }
}

struct Zstd<R> {
    input: R,
    decoder: zstd::stream::raw::Decoder<'static>,
    /// Whether a frame has begun and not ended.
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(input: R, window_log: u32) -> io::Result<Self> {
        let mut decoder = zstd::stream::raw::Decoder::new()?;
        decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(window_log.clamp(10, 31)))?;
        Ok(Self { input, decoder, within: false })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
        loop {
            let have = self.input.fill_buf()?;
            if !self.within && !matches!(have.first(), Some(0x28 | 0x50..=0x5f)) {
                return Ok(0);
            }
            let ended = have.is_empty();
            let mut from = InBuffer::around(have);
            let mut to = OutBuffer::around(buffer);
            let hint = self.decoder.run(&mut from, &mut to)?;
            let (consumed, produced) = (from.pos(), to.pos());
            self.input.consume(consumed);
            self.within = hint != 0;
            if produced > 0 || buffer.is_empty() {
                return Ok(produced);
            }
            if ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, LayerError> {
        let mut decoder = Decoder::new(Format::sniff(bytes), bytes, &Limits::default())?;
        let (mut out, mut buffer) = (Vec::new(), [0; 7]);
        loop {
            match decoder.read(&mut buffer)? {
                0 => break,
                count => out.extend_from_slice(&buffer[..count]),
            }
        }
        decoder.finish()?;
        Ok(out)
    }

    #[test]
    fn members_and_frames_in_a_row_are_one_stream() {
        let two = [gzip(b"hello "), gzip(b""), gzip(b"world")].concat();
        assert_eq!(decode(&two).unwrap(), b"hello world");
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat();
        let frame = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        let four = [skippable.clone(), frame(b"hello "), skippable, frame(b"world")].concat();
        assert_eq!(decode(&four).unwrap(), b"hello world");
    }

    #[test]
    fn zeros_may_follow_a_stream_and_nothing_else() {
        let zstd = zstd::encode_all(&b"x"[..], 1).unwrap();
        for stream in [gzip(b"x"), zstd] {
            let padded = [stream.clone(), vec![0; 5000]].concat();
            assert_eq!(decode(&padded).unwrap(), b"x");
            let junk = [stream, b"junk".to_vec()].concat();
            assert!(matches!(decode(&junk), Err(LayerError::Trailing { .. })));
        }
    }

    #[test]
    fn a_cut_or_changed_stream_is_an_error() {
        let text: Vec<u8> = (0..5000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&text).unwrap();
        let zstd = {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        for stream in [gzip(&text), zstd, xz.finish().unwrap(), bzip2.finish().unwrap()] {
            assert_eq!(decode(&stream).unwrap(), text);
            assert!(decode(&stream[..stream.len() / 2]).is_err());
            assert!(decode(&stream[..stream.len() - 1]).is_err());
            let mut changed = stream;
            let middle = changed.len() / 2;
            changed[middle] ^= 0x10;
            assert!(decode(&changed).is_err());
        }
    }

    #[test]
    fn a_zstd_window_beyond_the_limit_is_refused_and_one_within_is_read() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![7; 300_000]).unwrap();
        let stream = encoder.finish().unwrap();
        assert_eq!(decode(&stream).unwrap().len(), 300_000);
        let small = Limits { zstd_window_log: 20, ..Limits::default() };
        let mut decoder = Decoder::new(Format::Zstd, &stream[..], &small).unwrap();
        assert!(decoder.read(&mut [0; 100]).is_err());
    }
}
