//! The few encodings that canonical bytes are made of.
//!
//! Integers are little-endian and of fixed width; byte strings carry their length before them.

use super::time::Timestamp;

/// Why bytes are not a value: what was wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged {what}: {reason} at byte {offset}")]
pub struct DecodeError {
    what: &'static str,
    reason: &'static str,
    offset: usize,
}

/// Builds canonical bytes.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(magic: &[u8; 8]) -> Self {
        Self(magic.to_vec())
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn timestamp(&mut self, time: Timestamp) {
        self.raw(&time.seconds().to_le_bytes());
        self.u32(time.nanoseconds());
    }

    pub(super) fn bytes16(&mut self, bytes: &[u8]) {
        self.u16(u16::try_from(bytes.len()).expect("the caller bounds this string to 65535 bytes"));
        self.raw(bytes);
    }

    pub(super) fn bytes32(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("the caller bounds this string to 4 GiB"));
        self.raw(bytes);
    }

    pub(super) fn count32(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("the caller bounds this list to 2^32 items"));
    }

    /// A list of texts: count, then each with its length.
    pub(super) fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t String>) {
        self.count32(texts.len());
        for text in texts {
            self.bytes32(text.as_bytes());
        }
    }

    /// A value that may be absent: 0, or 1 and the value.
    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }
}

/// Takes canonical bytes apart.
pub(super) struct Reader<'b> {
    what: &'static str,
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(what: &'static str, magic: &[u8; 8], bytes: &'b [u8]) -> Result<Self, DecodeError> {
        let mut reader = Self { what, bytes, at: 0 };
        if reader.take(8)? != magic {
            reader.at = 0;
            return Err(reader.error("unknown magic or version"));
        }
        Ok(reader)
    }

    pub(super) fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError { what: self.what, reason, offset: self.at }
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'b [u8], DecodeError> {
        if self.remaining() < len {
            return Err(self.error("it ends too early"));
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N)?.try_into().expect("take returns exactly N bytes"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn timestamp(&mut self) -> Result<Timestamp, DecodeError> {
        let (seconds, nanoseconds) = (self.i64()?, self.u32()?);
        Timestamp::new(seconds, nanoseconds).ok_or_else(|| self.error("nanoseconds of a second or more"))
    }

    pub(super) fn bytes16(&mut self) -> Result<&'b [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    pub(super) fn bytes32(&mut self) -> Result<&'b [u8], DecodeError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// A list's length, refused when that many items of `min_bytes` each cannot follow.
    pub(super) fn count32(&mut self, min_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > self.remaining() / min_bytes.max(1) {
            return Err(self.error("a list longer than the bytes that follow"));
        }
        Ok(count)
    }

    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes32()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error("a text that is not UTF-8")),
        }
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, DecodeError> {
        let count = self.count32(4)?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.error("a presence byte that is neither 0 nor 1")),
        }
    }

    /// Says that the value must end here.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error("bytes after the end")) }
    }
}
