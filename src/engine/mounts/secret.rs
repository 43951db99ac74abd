//! Secrets: read when a run begins, shown from memory, looked for in what is kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::ReadSecret;
use crate::engine::error::{Error, Result};
use crate::object::{Draft, NewNode, TreePath};
use crate::sandbox::SecretBytes;
use crate::worktree::layer::{Captured, CapturedNode};
use crate::worktree::leak::{Leak, LeakPart, MIN_SECRET_BYTES, Needles};

/// Where secrets are unless a mount says otherwise.
pub(super) const DIRECTORY: &str = "/run/secrets";

/// The largest secret in bytes.
pub const MAX_SECRET_BYTES: usize = 512 * 1024;

/// How many places an error names.
const MAX_NAMED_PLACES: usize = 5;

/// Where the bytes of a secret come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource(Origin);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Bytes(SecretBytes),
}

impl SecretSource {
    /// A file of the host, read when the command is about to start; a pipe will do.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self(Origin::File(path.as_ref().to_owned()))
    }

    /// These bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Origin::Bytes(SecretBytes::new(bytes.into())))
    }

    /// Whether there is something to read.
    pub(super) fn exists(&self) -> bool {
        match &self.0 {
            Origin::File(path) => path.exists(),
            Origin::Bytes(_) => true,
        }
    }

    pub(super) fn read(&self, id: &str) -> Result<SecretBytes> {
        let refuse = |why: String| Error::invalid(format!("cannot read secret `{id}`: {why}"));
        let bytes = match &self.0 {
            Origin::Bytes(bytes) => bytes.clone(),
            Origin::File(path) => {
                let mut bytes = Vec::new();
                let read = File::open(path)
                    .and_then(|file| file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes));
                read.map_err(|error| refuse(format!("{}: {error}", path.display())))?;
                SecretBytes::new(bytes)
            }
        };
        let len = bytes.reveal().len();
        if len > MAX_SECRET_BYTES {
            return Err(refuse(format!("it is larger than {MAX_SECRET_BYTES} bytes")));
        }
        if len == 0 {
            return Err(refuse("it is empty".into()));
        }
        Ok(bytes)
    }
}

/// The secrets of one run.
#[derive(Debug, Default)]
pub(in crate::engine) struct Secrets {
    ids: Vec<String>,
    needles: Needles,
}

impl Secrets {
    /// Takes the secrets of a run; the ids of those that are too short to be searched for come back.
    pub(super) fn new(secrets: &[ReadSecret]) -> (Self, Vec<&str>) {
        let mut needles = Needles::default();
        let short = secrets.iter().enumerate().filter_map(|(number, secret)| {
            let searchable = needles.add(number, secret.bytes.reveal());
            (!searchable).then_some(secret.id.as_str())
        });
        let short: Vec<&str> = short.collect();
        (Self { ids: secrets.iter().map(|secret| secret.id.clone()).collect(), needles }, short)
    }

    pub(in crate::engine) fn needles(&self) -> &Needles {
        &self.needles
    }

    /// Refuses a command whose own text or environment, which is kept in the clear, holds a secret.
    pub(in crate::engine) fn check_command(&self, spec: &[u8]) -> Result<()> {
        match self.needles.find(spec) {
            None => Ok(()),
            Some(number) => Err(Error::Leak(format!(
                "the command itself or its environment holds secret `{}`, and both are kept in the clear: let the command read the \
                 secret's file, or run with --disposable",
                self.id(number)
            ))),
        }
    }

    /// Output as it may be kept.
    pub(in crate::engine) fn mask(&self, output: &mut Vec<u8>, cut: bool) {
        if let Some(masked) = self.needles.mask(output, cut) {
            *output = masked;
        }
    }

    /// The leaks without those in files that are as the parent has them: those bytes were there before, and were only copied up.
    pub(in crate::engine) fn new_leaks(
        draft: &mut Draft<'_>,
        captured: &[Captured],
        leaks: Vec<Leak>,
    ) -> Result<Vec<Leak>> {
        let mut new = Vec::new();
        if leaks.is_empty() {
            return Ok(new);
        }
        let nodes: HashMap<&[u8], &CapturedNode> =
            captured.iter().map(|entry| (entry.path.as_slice(), &entry.node)).collect();
        for leak in leaks {
            let before = match TreePath::parse(&leak.path) {
                Ok(path) => draft.leaf(&path)?.map(|(_, node)| node.clone()),
                Err(_) => None,
            };
            let same = match (leak.part, nodes.get(leak.path.as_slice()), before) {
                (
                    LeakPart::Content,
                    Some(CapturedNode::File { blob, .. }),
                    Some(NewNode::File { blob: old, .. }),
                ) => *blob == old,
                _ => false,
            };
            if !same {
                new.push(leak);
            }
        }
        Ok(new)
    }

    /// The error that names the places of leaks, and no secret.
    pub(in crate::engine) fn refusal(&self, leaks: &[Leak]) -> Error {
        let place = |leak: &Leak| {
            let path = self.needles.mask(&leak.path, false).unwrap_or_else(|| leak.path.clone());
            let path = path.escape_ascii();
            match leak.part {
                LeakPart::Content => format!("/{path}"),
                LeakPart::Name => format!("the name of /{path}"),
                LeakPart::Target => format!("the target of /{path}"),
                LeakPart::Attribute => format!("an attribute of /{path}"),
            }
        };
        let mut places: Vec<String> = leaks.iter().map(place).collect();
        places.dedup();
        let more = places.len().saturating_sub(MAX_NAMED_PLACES);
        places.truncate(MAX_NAMED_PLACES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let id = leaks.first().map_or("", |leak| self.id(leak.secret));
        Error::Leak(format!(
            "secret `{id}` is in what the command left: {}{more}; nothing of this run was kept",
            places.join(", ")
        ))
    }

    fn id(&self, number: usize) -> &str {
        self.ids.get(number).map_or("", String::as_str)
    }
}

/// What is said of a secret that cannot be searched for.
pub(super) fn too_short(id: &str) -> String {
    format!(
        "secret `{id}` is shorter than {MIN_SECRET_BYTES} bytes: what the run leaves is not searched for it"
    )
}
