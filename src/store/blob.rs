//! Reading blobs.

use std::fs::File;
use std::io::{self, Read};

use super::segment::ObjectKind;
use super::{Store, StoreError};
use crate::disk::DiskError;
use crate::object::{BlobHasher, BlobId};

/// A blob's bytes as a stream; the last read fails when the bytes are not what the name says.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    id: BlobId,
    hasher: BlobHasher,
    len: u64,
    checked: bool,
    place: Option<String>,
}

impl Store {
    /// Opens a blob as a stream that checks itself.
    pub fn open_blob(&self, id: &BlobId) -> Result<BlobReader, StoreError> {
        let path = self.blob_path(id);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::missing(ObjectKind::Blob, id),
            _ => DiskError::new("open", &path, error).into(),
        })?;
        let len = file.metadata().map_err(|error| DiskError::new("look at", &path, error))?.len();
        Ok(BlobReader { file, id: *id, hasher: BlobHasher::new(), len, checked: false, place: None })
    }

    /// Reads a whole blob and checks it.
    pub fn read_blob(&self, id: &BlobId) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.open_blob(id)?;
        let mut bytes = Vec::with_capacity(usize::try_from(reader.len).unwrap_or(0));
        reader.read_to_end(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                StoreError::damaged(ObjectKind::Blob, id, "its bytes have another hash")
            }
            _ => DiskError::new("read", self.blob_path(id), error).into(),
        })?;
        Ok(bytes)
    }

    /// How many bytes a blob's file has; `None` when it is not there. Its bytes are not read.
    pub fn blob_len(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        let path = self.blob_path(id);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::new("look at", &path, error).into()),
        }
    }
}

impl BlobReader {
    /// Has the error of damaged bytes say where they were met.
    pub(crate) fn met_at(mut self, place: String) -> Self {
        self.place = Some(place);
        self
    }

    /// How many bytes the file has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() && !self.checked {
            if self.hasher.finish() != self.id {
                let place = self.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
                let reason = format!("{place}blob {} is damaged: its bytes have another hash", self.id);
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            self.checked = true;
        }
        Ok(count)
    }
}
