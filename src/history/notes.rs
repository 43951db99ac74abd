//! Notes on commits, as `git notes` keeps them.
//!
//! `refs/notes/commits` is a line of commits of its own. The Git tree of its tip has one blob per note, named by the 40 hex digits of the
//! commit it is on. Stock git spreads many notes over directories (`ab/cdef…`); both are read. A note that is there is changed where it lies, a new
//! one goes into the deepest directory that there is for it.

use super::commits::encode;
use super::git::{Kind, Local, TreeEntry};
use super::{EditError, Expected, History, HistoryError, NewCommit, RefEdit, RefName, Who};
use crate::object::CommitId;

/// The longest note.
pub const MAX_NOTE_BYTES: usize = 1 << 20;

/// How often a change begins anew because somebody else changed the notes meanwhile.
const MAX_TRIES: usize = 16;

const DIRECTORY: u16 = 0o040_000;
const FILE: u16 = 0o100_644;

/// The notes as they were at one moment.
pub struct Notes<'h> {
    history: &'h History,
    git: Local,
    /// The tip of the notes, and its tree; `None` when there never was a note.
    tip: Option<(CommitId, CommitId)>,
}

impl std::fmt::Debug for Notes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes").field("tip", &self.tip).finish_non_exhaustive()
    }
}

/// Where a note is in a tree, or would be.
enum Place {
    Blob(CommitId),
    Directory(CommitId),
    Nothing,
}

impl History {
    /// The notes as they are now.
    pub fn notes(&self) -> Result<Notes<'_>, HistoryError> {
        match self.read_ref(&RefName::Notes)? {
            Some(tip) => self.notes_at(&tip),
            None => Ok(Notes { history: self, git: self.git.local(), tip: None }),
        }
    }

    /// The notes as they were at a commit of theirs.
    pub(super) fn notes_at(&self, tip: &CommitId) -> Result<Notes<'_>, HistoryError> {
        let git = self.git.local();
        let commit = git.commit(tip).map_err(|source| self.git_error("reading the notes", source))?;
        let tree = commit.ok_or(HistoryError::MissingCommit(*tip))?.tree;
        Ok(Notes { history: self, git, tip: Some((*tip, tree)) })
    }

    /// Changes the note on a commit: `change` gets the one that is there and gives the new one, or `None` to remove it.
    ///
    /// When somebody else changes notes at the same moment `change` is called again. Gives whether anything changed.
    pub fn edit_note<E: From<EditError>>(
        &self,
        commit: &CommitId,
        message: &str,
        who: &Who,
        change: &mut dyn FnMut(Option<Vec<u8>>) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<bool, E> {
        let failed = |error: HistoryError| E::from(EditError::from(error));
        let mut tries = 0;
        loop {
            let notes = self.notes().map_err(failed)?;
            let old = notes.get(commit).map_err(failed)?;
            let new = change(old.clone())?;
            if new == old {
                return Ok(false);
            }
            let tip = notes.write(commit, new.as_deref(), message, who).map_err(failed)?;
            let expected = notes.tip.map_or(Expected::Absent, |(tip, _)| Expected::Is(tip));
            let edit = RefEdit { name: RefName::Notes, expected, new: Some(tip) };
            match self.edit(&[edit], message, who) {
                Err(EditError::Conflict { .. }) if tries < MAX_TRIES => tries += 1,
                other => return other.map(|()| true).map_err(E::from),
            }
        }
    }
}

impl Notes<'_> {
    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.tip.is_none()
    }

    /// The note on a commit.
    pub fn get(&self, commit: &CommitId) -> Result<Option<Vec<u8>>, HistoryError> {
        let Some((_, mut tree)) = self.tip else { return Ok(None) };
        let hex = commit.to_string();
        let mut rest = hex.as_bytes();
        loop {
            match place(&self.entries(&tree)?, rest) {
                Place::Blob(blob) => return self.blob(&blob).map(Some),
                Place::Directory(below) => (tree, rest) = (below, &rest[2..]),
                Place::Nothing => return Ok(None),
            }
        }
    }

    /// Every note, in the order of the commits' ids.
    pub fn list(&self) -> Result<Vec<(CommitId, Vec<u8>)>, HistoryError> {
        let mut found = Vec::new();
        let mut todo: Vec<(CommitId, Vec<u8>)> =
            self.tip.iter().map(|(_, tree)| (*tree, Vec::new())).collect();
        while let Some((tree, above)) = todo.pop() {
            for entry in self.entries(&tree)? {
                let name = [above.as_slice(), &entry.name].concat();
                if entry.mode == DIRECTORY && entry.name.len() == 2 {
                    todo.push((entry.id, name));
                } else if entry.mode != DIRECTORY
                    && let Some(commit) = std::str::from_utf8(&name).ok().and_then(|hex| hex.parse().ok())
                {
                    found.push((commit, self.blob(&entry.id)?));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn entries(&self, tree: &CommitId) -> Result<Vec<TreeEntry>, HistoryError> {
        self.git.entries(tree).map_err(|source| self.history.git_error("reading the notes", source))
    }

    fn blob(&self, id: &CommitId) -> Result<Vec<u8>, HistoryError> {
        self.git.blob(id).map_err(|source| self.history.git_error("reading a note", source))
    }

    /// Writes the commit after this one, in which the note is another.
    fn write(
        &self,
        commit: &CommitId,
        note: Option<&[u8]>,
        message: &str,
        who: &Who,
    ) -> Result<CommitId, HistoryError> {
        if let Some(note) = note
            && note.len() > MAX_NOTE_BYTES
        {
            return Err(HistoryError::NoteTooLong { len: note.len(), max: MAX_NOTE_BYTES });
        }
        let blob = note.map(|note| self.history.write_object(&self.git, Kind::Blob, note)).transpose()?;
        let hex = commit.to_string();
        let tree = self.with(self.tip.as_ref().map(|(_, tree)| tree), hex.as_bytes(), blob)?;
        let tree = match tree {
            Some(tree) => tree,
            None => self.history.write_object(&self.git, Kind::Tree, b"")?,
        };
        let new = NewCommit {
            parents: self.tip.iter().map(|(tip, _)| *tip).collect(),
            message: message.to_owned(),
            record: Vec::new(),
            time_seconds: who.time_seconds,
        };
        self.history.write_object(&self.git, Kind::Commit, encode(&new, &tree).as_bytes())
    }

    /// The tree with the note on what the hex digits name changed; `None` when nothing is left in it.
    fn with(
        &self,
        tree: Option<&CommitId>,
        rest: &[u8],
        blob: Option<CommitId>,
    ) -> Result<Option<CommitId>, HistoryError> {
        let mut entries = tree.map_or_else(|| Ok(Vec::new()), |tree| self.entries(tree))?;
        let (name, changed) = match place(&entries, rest) {
            Place::Directory(below) => {
                let below = self.with(Some(&below), &rest[2..], blob)?;
                (&rest[..2], below.map(|id| TreeEntry { mode: DIRECTORY, name: rest[..2].to_vec(), id }))
            }
            Place::Blob(_) | Place::Nothing => {
                (rest, blob.map(|id| TreeEntry { mode: FILE, name: rest.to_vec(), id }))
            }
        };
        entries.retain(|entry| entry.name != name);
        entries.extend(changed);
        if entries.is_empty() {
            return Ok(None);
        }
        // Git sorts a directory as if a slash ended its name.
        entries.sort_by_cached_key(|entry| {
            let slash = if entry.mode == DIRECTORY { &b"/"[..] } else { b"" };
            [entry.name.as_slice(), slash].concat()
        });
        let mut bytes = Vec::new();
        for entry in &entries {
            bytes.extend(format!("{:o} ", entry.mode).bytes());
            bytes.extend(&entry.name);
            bytes.push(0);
            bytes.extend(entry.id.as_bytes());
        }
        self.history.write_object(&self.git, Kind::Tree, &bytes).map(Some)
    }
}

/// Where the note on what these hex digits name is in a directory.
fn place(entries: &[TreeEntry], rest: &[u8]) -> Place {
    if let Some(found) = entries.iter().find(|entry| entry.mode != DIRECTORY && entry.name == rest) {
        return Place::Blob(found.id);
    }
    let shard = rest.get(..2).filter(|_| rest.len() > 2);
    let found = entries.iter().find(|entry| entry.mode == DIRECTORY && Some(&entry.name[..]) == shard);
    found.map_or(Place::Nothing, |found| Place::Directory(found.id))
}
