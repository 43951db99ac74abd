//! Why an image could not be read.

use std::io;
use std::path::PathBuf;

use super::limits::LimitError;
use super::registry::RegistryError;
use crate::disk::DiskError;
use crate::object::{DraftError, InvalidPath, MetaError, PlacingError, SourceError};
use crate::store::StoreError;

/// An image could not be imported; the batch it went into holds nothing that would be committed by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The text names no image source.
    #[error(
        "`{0}` names no image: write oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or tar:FILE"
    )]
    Source(String),
    /// The file or directory holds no image of the kind asked for.
    #[error("{} holds no image: {reason}", path.display())]
    NotAnImage {
        /// The file or directory.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// An index, manifest or config is not what it should be.
    #[error(
        "{what} cannot be understood: {reason}; it may be damaged, or made by a program this one does not know"
    )]
    Document {
        /// Which document.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Text that should be a digest is none.
    #[error("{what}: `{text}` is not a digest such as sha256:<64 hex digits>")]
    Digest {
        /// Where it stands.
        what: String,
        /// The text, shortened.
        text: String,
    },
    /// Bytes differ from what was promised.
    #[error("{what} is damaged: expected {expected}, found {found}; get the image again")]
    Mismatch {
        /// What is damaged.
        what: String,
        /// The promised digest or size.
        expected: String,
        /// The real one.
        found: String,
    },
    /// The image names a part that is not there.
    #[error("{what} is missing: there is no {name}; get the image again, complete")]
    Missing {
        /// What is missing.
        what: String,
        /// The file or member.
        name: String,
    },
    /// A kind of image or layer that treebox does not read.
    #[error("{what} has the media type `{media_type}`: {reason}")]
    Unsupported {
        /// Which part.
        what: String,
        /// Its media type.
        media_type: String,
        /// Why it cannot be read, and what to do.
        reason: &'static str,
    },
    /// No image of that name.
    #[error("there is no image `{wanted}` in {}; it holds: {available}", path.display())]
    NoSuchName {
        /// The archive or layout.
        path: PathBuf,
        /// The name asked for.
        wanted: String,
        /// The names there are.
        available: String,
    },
    /// Several images, and none was asked for.
    #[error("{} holds several images; choose one by its name: {available}", path.display())]
    SeveralImages {
        /// The archive or layout.
        path: PathBuf,
        /// The names there are.
        available: String,
    },
    /// No image for the platform.
    #[error("there is no image for {wanted}; there are: {available}; choose one with --platform")]
    NoPlatform {
        /// The platform asked for.
        wanted: String,
        /// The platforms there are.
        available: String,
    },
    /// A layer could not be read.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Its digest, or the file it lies in.
        layer: String,
        /// What is wrong.
        source: LayerError,
    },
    /// A tar stream could not be read.
    #[error("the tar stream cannot be unpacked: {0}")]
    Stream(LayerError),
    /// A registry did not give a document.
    #[error(transparent)]
    Registry(Box<RegistryError>),
    /// Something is larger than allowed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A file could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is known could not be looked up.
    #[error(transparent)]
    Lookup(#[from] SourceError),
    /// The tree could not be made.
    #[error("the image's file system cannot be kept: {0}")]
    Draft(#[from] DraftError),
}

/// A layer's bytes are not a file system change that can be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The archive ends within an entry.
    #[error("the archive ends too early, {offset} bytes in; get the image again")]
    Truncated {
        /// Where, in decompressed bytes.
        offset: u64,
    },
    /// A header is damaged or of an unknown kind.
    #[error("no tar header at byte {offset}: {reason}")]
    Header {
        /// Where, in decompressed bytes.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry says something that cannot be.
    #[error("entry `{}`: {reason}", path.escape_ascii())]
    Entry {
        /// The entry's path as written.
        path: Vec<u8>,
        /// What is wrong.
        reason: String,
    },
    /// An entry of a type that has no place in a file system.
    #[error("entry `{}` has the unknown type `{}`", path.escape_ascii(), code.escape_ascii())]
    UnknownType {
        /// The entry's path as written.
        path: Vec<u8>,
        /// The type byte.
        code: u8,
    },
    /// An entry's path leads out of the root or is no path.
    #[error("{0}")]
    Path(#[from] InvalidPath),
    /// An entry would replace the root directory by something else.
    #[error("an entry would replace the root directory by something else")]
    Root,
    /// A whiteout names nothing, or a path runs through one.
    #[error("entry `{}` is no valid whiteout", .0.escape_ascii())]
    Whiteout(Vec<u8>),
    /// An extended attribute cannot be kept.
    #[error("entry `{}`: {source}", path.escape_ascii())]
    Xattr {
        /// The entry's path as written.
        path: Vec<u8>,
        /// What is wrong.
        source: MetaError,
    },
    /// The compressed stream is damaged.
    #[error("the {format} stream is damaged: {source}")]
    Compression {
        /// The compression.
        format: &'static str,
        /// What the decoder says.
        source: io::Error,
    },
    /// Bytes that belong to nothing follow the compressed stream.
    #[error("unknown data follows the {format} stream")]
    Trailing {
        /// The compression.
        format: &'static str,
    },
    /// Bytes differ from the digest or size that the manifest or config gives.
    #[error("{what}: expected {expected}, found {found}; get the image again")]
    Mismatch {
        /// Which of the layer's digests or sizes.
        what: &'static str,
        /// The promised value.
        expected: String,
        /// The real one.
        found: String,
    },
    /// Something is larger than allowed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The change does not fit the file system so far.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The entry cannot go where it says.
    #[error(transparent)]
    Placing(#[from] PlacingError),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layer's file could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}
