//! A tar stream that is no file: read once, and unpacked below a directory of a tree.

use std::io::{self, BufRead, Read};

use super::decompress::Format;
use super::error::{ImportError, LayerError};
use super::layer::{Change, Changes, Place};
use super::limits::Limits;
use super::section::SectionReader;
use super::tarball::read_buffered;
use super::unpack;
use crate::object::{Draft, Existing, Meta, Placing, Timestamp, TreePath};
use crate::store::Batch;

const BUFFER_BYTES: usize = 128 * 1024;

/// What was read from a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TarRead {
    /// Entries in the stream.
    pub entries: u64,
    /// Sizes of its files, in bytes.
    pub bytes: u64,
}

/// Unpacks a tar stream, compressed or not, below a directory of a draft.
///
/// As `tar -x` does: directories that are there keep their other entries and take the attributes, symlinks on the way are followed within
/// the tree, and names that lead out of the directory through `..` are refused. A directory and something else never replace each other. The
/// stream is read to its end. On an error the draft should be dropped.
pub fn read_tar(
    input: &mut (dyn Read + Send),
    batch: &Batch<'_>,
    draft: &mut Draft<'_>,
    at: &TreePath,
    limits: &Limits,
) -> Result<TarRead, ImportError> {
    // A directory that the stream only implies is root's, and its time is fixed so that ids are.
    let implied = Meta::root_owned(0o755, Timestamp::from_seconds(0));
    let changes = StreamChanges { placing: Placing::new(draft, implied), at };
    let unpacked = unpack::unpack_stream(input, changes, batch, limits)?;
    Ok(TarRead { entries: unpacked.entries, bytes: unpacked.bytes })
}

struct StreamChanges<'c, 'd, 's> {
    placing: Placing<'d, 's>,
    at: &'c TreePath,
}

impl StreamChanges<'_, '_, '_> {
    /// The path in the tree; `..` is counted in the stream, so it cannot leave the directory.
    fn below(&self, written: &[u8]) -> Result<TreePath, LayerError> {
        let path = TreePath::parse(written)?;
        Ok(path.names().iter().fold(self.at.clone(), |path, name| path.join(name)))
    }
}

impl Changes for StreamChanges<'_, '_, '_> {
    fn place(&self, written: &[u8]) -> Result<Place, LayerError> {
        Ok(Place::plain(self.below(written)?))
    }

    fn add(&mut self, place: Place, change: Change) -> Result<(), LayerError> {
        let path = place.into_path();
        match change {
            Change::Directory(meta) => self.placing.directory(&path, meta, Existing::Replaced)?,
            Change::Leaf(meta, node) => self.placing.leaf(&path, meta, node)?,
            Change::HardLink(target) => {
                let target = self.below(&target)?;
                self.placing.hard_link(&path, &target)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), LayerError> {
        Ok(())
    }
}

/// A reader that knows how many bytes it took from its source.
pub(super) trait Counted: BufRead {
    fn taken(&self) -> u64;
}

impl Counted for SectionReader {
    fn taken(&self) -> u64 {
        SectionReader::taken(self)
    }
}

/// A buffered reader whose first buffer holds enough to tell the compression, however small the pieces are that a pipe gives.
pub(super) struct Stream<'i> {
    input: &'i mut (dyn Read + Send),
    buffer: Vec<u8>,
    used: usize,
    taken: u64,
}

impl<'i> Stream<'i> {
    pub(super) fn new(input: &'i mut (dyn Read + Send)) -> Self {
        Self { input, buffer: Vec::new(), used: 0, taken: 0 }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, to)
    }
}

impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            let wanted = if self.taken == 0 { Format::SNIFF_BYTES } else { 1 };
            self.buffer.resize(BUFFER_BYTES, 0);
            let (mut filled, mut result) = (0, Ok(()));
            while filled < wanted {
                match self.input.read(&mut self.buffer[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
            self.buffer.truncate(filled);
            self.used = 0;
            self.taken += filled as u64;
            result?;
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }
}

impl Counted for Stream<'_> {
    fn taken(&self) -> u64 {
        self.taken
    }
}
