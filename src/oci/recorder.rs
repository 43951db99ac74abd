//! The tar bytes of a layer on their way to the parser, and the skeleton that is made of them.

use std::io::{self, BufRead, Read};

use super::error::LayerError;
use super::feed::{Chunks, LayerSums};
use super::skeleton::SkeletonWriter;
use super::tarball::{Input, from_io, read_buffered};
use crate::object::BlobId;

/// Hands bytes on and writes what is no file's bytes into a skeleton, when one is wanted.
pub(super) struct Recorder<'c> {
    chunks: &'c mut Chunks,
    skeleton: Option<SkeletonWriter>,
    in_body: bool,
    failure: Option<io::Error>,
}

impl<'c> Recorder<'c> {
    pub(super) fn new(chunks: &'c mut Chunks, skeleton: Option<SkeletonWriter>) -> Self {
        Self { chunks, skeleton, in_body: false, failure: None }
    }

    /// Says which blob the body just taken has become.
    pub(super) fn kept_as(&mut self, blob: &BlobId, size: u64) -> Result<(), LayerError> {
        match &mut self.skeleton {
            Some(skeleton) if size > 0 => Ok(skeleton.blob(blob, size)?),
            _ => Ok(()),
        }
    }

    /// Passes over what is left of the layer, and gives what it turned out to be.
    pub(super) fn finish_layer(mut self) -> Result<Option<LayerSums>, LayerError> {
        loop {
            let have = self.fill_buf().map_err(from_io)?.len();
            if have == 0 {
                break;
            }
            self.consume(have);
        }
        if let Some(skeleton) = self.skeleton {
            skeleton.finish()?;
        }
        self.chunks.finish_layer()
    }
}

impl Read for Recorder<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, to)
    }
}

impl BufRead for Recorder<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => self.chunks.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        if let Some(skeleton) = self.skeleton.as_mut().filter(|_| !self.in_body)
            && let Err(error) = skeleton.literal(&self.chunks.waiting()[..count])
        {
            // Consuming cannot fail: the next look does.
            self.failure = Some(error);
        }
        self.chunks.consume(count);
    }
}

impl Input for Recorder<'_> {
    fn body(&mut self, begins: bool) {
        self.in_body = begins;
    }
}
