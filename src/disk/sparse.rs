//! Files with holes: long runs of zeros take no space on disk.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

/// Zeros that fill one block are left out: the block size of ext4, XFS and btrfs, and the page of tmpfs.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes a new file from its beginning to its end, and leaves out blocks of zeros.
#[derive(Debug)]
pub struct SparseWriter {
    file: File,
    at: u64,
}

impl SparseWriter {
    /// Writes to an empty file.
    pub fn new(file: File) -> Self {
        Self { file, at: 0 }
    }

    /// The file, with the length of what was written.
    pub fn finish(self) -> io::Result<File> {
        self.file.set_len(self.at)?;
        Ok(self.file)
    }
}

impl Write for SparseWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeros = zero_blocks(self.at, rest);
            self.at += zeros as u64;
            rest = &rest[zeros..];
            let data = data_blocks(self.at, rest);
            self.file.write_all_at(&rest[..data], self.at)?;
            self.at += data as u64;
            rest = &rest[data..];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many of the first bytes are whole blocks of zeros.
fn zero_blocks(at: u64, bytes: &[u8]) -> usize {
    if !at.is_multiple_of(BLOCK as u64) {
        return 0;
    }
    bytes.chunks_exact(BLOCK).take_while(|block| *block == ZEROS).count() * BLOCK
}

/// How many bytes there are before the first whole block of zeros.
fn data_blocks(at: u64, bytes: &[u8]) -> usize {
    let first = (BLOCK - (at % BLOCK as u64) as usize) % BLOCK;
    if first >= bytes.len() {
        return bytes.len();
    }
    let found = bytes[first..].chunks_exact(BLOCK).position(|block| *block == ZEROS);
    found.map_or(bytes.len(), |blocks| first + blocks * BLOCK)
}

/// Copies a whole file into an empty one; where it has holes the copy has them too. Gives its length.
pub fn copy_sparse(mut from: &File, mut to: &File) -> io::Result<u64> {
    let len = from.metadata()?.len();
    let mut at = 0;
    while at < len {
        let data = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            // There is nothing but a hole from here on.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(data))?;
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(data))?;
        io::copy(&mut from.take(end - data), &mut to)?;
        at = end;
    }
    to.set_len(len)?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;

    use super::*;

    /// Pieces of zeros and of other bytes, as lengths.
    fn pieces() -> impl Strategy<Value = Vec<(bool, usize)>> {
        let length = prop_oneof![1..20usize, Just(4096), 4000..9000usize, 20_000..60_000usize];
        prop::collection::vec((any::<bool>(), length), 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_and_copied_is_what_is_read(pieces in pieces(), step in 1..70_000usize) {
            let bytes: Vec<u8> = pieces
                .iter()
                .flat_map(|(zeros, length)| std::iter::repeat_n(if *zeros { 0 } else { 7 }, *length))
                .collect();
            let mut writer = SparseWriter::new(tempfile::tempfile().unwrap());
            bytes.chunks(step).for_each(|chunk| writer.write_all(chunk).unwrap());
            let file = writer.finish().unwrap();
            let copy = tempfile::tempfile().unwrap();
            prop_assert_eq!(copy_sparse(&file, &copy).unwrap(), bytes.len() as u64);
            for file in [&file, &copy] {
                let mut read = vec![0; bytes.len()];
                file.read_exact_at(&mut read, 0).unwrap();
                prop_assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64);
                prop_assert!(read == bytes);
            }
        }
    }

    #[test]
    fn zeros_take_no_space() {
        let mut writer = SparseWriter::new(tempfile::tempfile().unwrap());
        writer.write_all(&vec![0; 8 << 20]).unwrap();
        writer.write_all(b"end").unwrap();
        let file = writer.finish().unwrap();
        let copy = tempfile::tempfile().unwrap();
        copy_sparse(&file, &copy).unwrap();
        for file in [file, copy] {
            let meta = file.metadata().unwrap();
            assert_eq!(meta.len(), (8 << 20) + 3);
            assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        }
    }
}
