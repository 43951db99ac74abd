//! Images in: OCI layouts and archives, what `docker save` writes, and archives of a root file system. Tar streams in and out for `cp`.
//!
//! An import reads an image's documents, chooses one image, and turns its layers into one tree and the blobs of its files. Three kinds of
//! threads work at once with bounded queues between them: one reads, checks digests and decompresses; one parses and edits the tree; some write
//! small files.
//!
//! This room never extracts onto a file system, never runs or trusts anything in an image, never follows a link out of an image's
//! directory or archive, never fetches but in [`registry`], and never commits: the caller does. No type of the tar or image formats leaves it.
//!
//! # Invariants
//! - Bytes that an image gives a digest or size for have that digest and size, or the import fails.
//! - Everything an image's author chooses is bounded by [`Limits`].
//! - Nothing outside panics this room: damaged input is an [`ImportError`].
//! - The same image gives the same tree on every machine, whatever compression or archive it comes in.

mod blobs;
mod build;
mod chain;
mod check;
mod compress;
mod config;
mod decompress;
mod describe;
mod digest;
mod document;
mod entry;
mod error;
mod export;
mod feed;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod image;
mod import;
mod layer;
mod limits;
mod normalize;
mod originals;
mod outputs;
mod pax;
mod recorder;
pub mod registry;
mod section;
mod select;
mod skeleton;
mod source;
mod sparse;
mod stream;
mod tarball;
mod tarwrite;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unpack;
mod writers;

pub use build::{
    BuildError, BuildOptions, Built, BuiltLayer, Layering, Lineage, LineageStep, Part, PartBytes, build,
};
pub use chain::{ChainFact, KnownLayers, LAYER_RULES};
pub use check::OriginalFile;
pub use compress::{Compression, Compressor, InvalidCompression};
pub use digest::Digest;
pub use error::{ImportError, LayerError};
pub use export::write_tar;
pub use import::{
    DocumentFacts, ImageFacts, ImportOptions, Imported, LayerFacts, Opened, import, open, open_original,
};
pub use limits::{LimitError, Limits};
pub use originals::{Original, Originals};
pub use outputs::{OutputError, write_docker_archive, write_file, write_layout, write_oci_archive};
pub use source::ImageSource;
pub use stream::{TarRead, read_tar};
pub use tarwrite::{ExportError, TarWritten};
