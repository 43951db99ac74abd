//! Comparing two states: which paths differ, which were moved, and which lines of a text.

use std::io::Read as _;

use super::core::Core;
use super::error::{Error, Result};
use super::state::State;
use crate::object::{
    Difference, Entry, Hunk, MAX_TEXT_BYTES, Moved, Node, TEXT_PROBE_BYTES, TreePath, find_renames, is_text,
    line_hunks,
};

/// What of two states is compared, and how what was moved is told.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// Only what is at or below these; everything when empty.
    pub paths: Vec<TreePath>,
    /// Whether what was moved is recognised by equal content; otherwise it is deleted and added.
    pub renames: bool,
    /// What stands for a directory that was moved.
    pub moved: Moved,
    /// Whether directories are listed of which only the modification time differs.
    pub directory_times: bool,
}

/// How the contents of two entries differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// They do not, or there are none.
    Equal,
    /// Both are text; a side that is not there is empty.
    Text {
        /// The older text.
        old: Vec<u8>,
        /// The newer text.
        new: Vec<u8>,
        /// The lines that differ.
        hunks: Vec<Hunk>,
    },
    /// At least one is no text, or is longer than texts are compared.
    Binary {
        /// Whether it was the length, see [`MAX_TEXT_BYTES`].
        too_long: bool,
    },
}

/// A content, read as far as it is text.
pub(super) enum Content {
    Text(Vec<u8>),
    Binary,
    TooLong,
}

impl Core {
    pub(super) fn compare(
        &self,
        old: &State,
        new: &State,
        options: &CompareOptions,
    ) -> Result<Vec<Difference>> {
        let changes = self.changes_at(old, new, &options.paths, options.directory_times)?;
        if options.renames {
            return Ok(find_renames(changes, options.moved));
        }
        Ok(changes.into_iter().map(|change| Difference { change, renamed_from: None }).collect())
    }

    pub(super) fn compare_contents(&self, old: Option<&Entry>, new: Option<&Entry>) -> Result<Contents> {
        let node = |entry: Option<&Entry>| entry.map(|entry| entry.node.clone());
        let (left, right) = (node(old), node(new));
        if same_content(left.as_ref(), right.as_ref()) {
            return Ok(Contents::Equal);
        }
        let (old, new) = match (self.content_of(left.as_ref())?, self.content_of(right.as_ref())?) {
            (Content::Text(old), Content::Text(new)) => (old, new),
            (old, new) => {
                let too_long = matches!(old, Content::TooLong) || matches!(new, Content::TooLong);
                return Ok(Contents::Binary { too_long });
            }
        };
        let hunks = line_hunks(&old, &new);
        Ok(Contents::Text { old, new, hunks })
    }

    /// A file's bytes or a symlink's target, when it is text; of anything else nothing.
    pub(super) fn content_of(&self, node: Option<&Node>) -> Result<Content> {
        let (blob, size) = match node {
            Some(Node::File { blob, size, .. }) => (blob, *size),
            Some(Node::Symlink { target }) => return Ok(Content::Text(target.clone())),
            _ => return Ok(Content::Text(Vec::new())),
        };
        // The beginning alone tells what is binary, so that a large program is not read for nothing.
        let mut reader = self.store.open_blob(blob)?;
        let mut bytes = Vec::new();
        let failed = |error| Error::disk("read", format!("blob {blob}"), error);
        reader.by_ref().take(TEXT_PROBE_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
        if !is_text(&bytes) {
            return Ok(Content::Binary);
        }
        if size > MAX_TEXT_BYTES as u64 {
            return Ok(Content::TooLong);
        }
        reader.read_to_end(&mut bytes).map_err(failed)?;
        Ok(Content::Text(bytes))
    }
}

/// Whether two nodes hold the same bytes, as far as their kind holds any.
fn same_content(old: Option<&Node>, new: Option<&Node>) -> bool {
    match (old, new) {
        (Some(Node::File { blob: old, .. }), Some(Node::File { blob: new, .. })) => old == new,
        (Some(Node::Symlink { target: old }), Some(Node::Symlink { target: new })) => old == new,
        (old, new) => {
            let holds = |node: Option<&Node>| matches!(node, Some(Node::File { .. } | Node::Symlink { .. }));
            !holds(old) && !holds(new)
        }
    }
}

impl super::blocking::Engine {
    /// What differs between two states, by path; what was moved as one difference where the options say so.
    ///
    /// The cost follows the difference: equal directories are passed by. No content is read.
    pub fn compare(&self, old: &State, new: &State, options: &CompareOptions) -> Result<Vec<Difference>> {
        self.core.compare(old, new, options)
    }

    /// How the contents of two entries differ: files by their bytes, symlinks by their targets. Equal ones are not read.
    pub fn compare_contents(&self, old: Option<&Entry>, new: Option<&Entry>) -> Result<Contents> {
        self.core.compare_contents(old, new)
    }

    /// The state of the best common ancestor of two revisions, from which `a...b` compares.
    pub fn common_ancestor(&self, a: &str, b: &str) -> Result<State> {
        let (left, right) = (self.core.resolve_commit(a)?, self.core.resolve_commit(b)?);
        match self.core.history()?.merge_base(&left, &right)? {
            Some(base) => self.core.state_at(base),
            None => Err(Error::not_found(format!(
                "{} and {} have no common ancestor: compare them with `..` instead of `...`",
                left.short(),
                right.short()
            ))),
        }
    }
}
