//! Whether what images brought is still what it was.

use std::io::{self, Write};
use std::path::PathBuf;

use super::digest::{Digest, Hasher};
use super::originals::{Form, Originals};
use super::section::Section;
use super::skeleton::{AssembleError, assemble};
use crate::disk::DiskError;
use crate::store::Store;

/// A file of the originals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whose bytes it should have; `None` when its name is no digest's.
    pub digest: Option<Digest>,
    form: Form,
    /// How many bytes it has.
    pub len: u64,
}

impl Originals {
    /// Every file but downloads that are not complete.
    pub fn files(&self) -> Result<Vec<OriginalFile>, DiskError> {
        let mut files = Vec::new();
        for word in ["sha256", "sha512"] {
            let directory = self.root().join(word);
            let listed = match std::fs::read_dir(&directory) {
                Ok(listed) => listed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(DiskError::new("list", &directory, error)),
            };
            for entry in listed.filter_map(Result::ok) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let (hex, form) = match name.strip_suffix(".skeleton") {
                    Some(hex) => (hex, Form::Skeleton),
                    None => (name.as_str(), Form::Whole),
                };
                let digest = Digest::parse(&format!("{word}:{hex}"));
                let len = entry.metadata().map_or(0, |meta| meta.len());
                files.push(OriginalFile { path: entry.path(), digest, form, len });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Whether the bytes of a digest are here in some form; they are not read.
    pub fn keeps(&self, digest: &Digest) -> bool {
        // Whoever looks for damage uses nothing, so the time of the last use stays.
        let whole = self.path(digest);
        whole.exists() || whole.with_extension("skeleton").exists()
    }

    /// Reads a file and says what is wrong with it. What is wrong with blobs that a skeleton needs is not its fault.
    pub fn flaw(&self, file: &OriginalFile, store: &Store) -> Option<String> {
        let Some(digest) = &file.digest else { return Some("its name is no digest's".to_owned()) };
        let mut hashed = Hashed(Hasher::new(digest.algorithm()));
        let section = match Section::open(&file.path) {
            Ok(section) => section,
            Err(error) if error.is_not_found() => return None,
            Err(error) => return Some(error.to_string()),
        };
        let read = match file.form {
            Form::Whole => io::copy(&mut section.reader(), &mut hashed).map(drop).map_err(AssembleError::Io),
            Form::Skeleton => assemble(section.reader(), store, &mut hashed),
        };
        match read {
            Ok(()) if hashed.0.finish() == *digest => None,
            Ok(()) => Some("its bytes have another digest".to_owned()),
            Err(AssembleError::Damaged) => Some("it is no skeleton, or not all of one".to_owned()),
            Err(AssembleError::Io(_)) if file.form == Form::Skeleton => None,
            Err(AssembleError::Io(error)) => Some(error.to_string()),
        }
    }
}

struct Hashed(Hasher);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
