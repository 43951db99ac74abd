//! Notes on commits: what a person wants to remember of a step. They change no id.

use std::sync::Arc;

use super::blocking::Engine;
use super::core::Core;
use super::error::{Error, Result};
use super::refs::who;
use super::types::CommitInfo;
use crate::object::CommitId;

/// A note and the commit it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The commit.
    pub commit: CommitId,
    /// The text, without the newline at its end.
    pub text: String,
}

/// How a note is put beside one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Refused,
    Replacing,
    Appended,
}

impl Engine {
    /// The note on the commit that a revision names.
    pub fn note(&self, rev: &str) -> Result<Option<Note>> {
        let commit = self.core.resolve_commit(rev)?;
        let text = self.core.history()?.notes()?.get(&commit)?;
        Ok(text.map(|text| Note { commit, text: shown(&text) }))
    }

    /// Every note.
    pub fn notes(&self) -> Result<Vec<Note>> {
        let notes = self.core.history()?.notes()?.list()?;
        Ok(notes.into_iter().map(|(commit, text)| Note { commit, text: shown(&text) }).collect())
    }

    /// Puts a note on a commit. One that is there is a conflict, unless `force` replaces it.
    pub fn add_note(&self, rev: &str, text: &str, force: bool) -> Result<Note> {
        self.core.put_note(rev, text, if force { Beside::Replacing } else { Beside::Refused })
    }

    /// Adds a paragraph to the note on a commit, or makes one.
    pub fn append_note(&self, rev: &str, text: &str) -> Result<Note> {
        self.core.put_note(rev, text, Beside::Appended)
    }

    /// Removes the note on a commit and gives it.
    pub fn remove_note(&self, rev: &str) -> Result<Note> {
        let commit = self.core.resolve_commit(rev)?;
        let mut removed = None;
        self.core.history()?.edit_note::<Error>(&commit, "notes: removed", &who(), &mut |old| {
            removed = old;
            Ok(None)
        })?;
        let text = removed
            .ok_or_else(|| Error::not_found(format!("there is no note on commit {}", commit.short())))?;
        Ok(Note { commit, text: shown(&text) })
    }
}

impl Core {
    fn put_note(self: &Arc<Self>, rev: &str, text: &str, beside: Beside) -> Result<Note> {
        let text = cleaned(text);
        if text.is_empty() {
            return Err(Error::invalid("a note needs a text"));
        }
        let commit = self.resolve_commit(rev)?;
        let mut kept = String::new();
        self.history()?.edit_note::<Error>(&commit, "notes: added", &who(), &mut |old| {
            kept.clone_from(&text);
            if let Some(old) = old {
                match beside {
                    Beside::Refused => {
                        return Err(Error::Conflict(format!(
                            "there is a note on commit {} already: append to it or force it",
                            commit.short()
                        )));
                    }
                    Beside::Replacing => {}
                    Beside::Appended => kept = format!("{}\n\n{text}", shown(&old)),
                }
            }
            Ok(Some(format!("{kept}\n").into_bytes()))
        })?;
        Ok(Note { commit, text: kept })
    }

    /// Puts the notes beside the commits that have one.
    pub(super) fn add_notes(&self, commits: &mut [CommitInfo]) -> Result<()> {
        let notes = self.history()?.notes()?;
        if notes.is_empty() {
            return Ok(());
        }
        for commit in commits {
            commit.note = notes.get(&commit.commit)?.map(|text| shown(&text));
        }
        Ok(())
    }
}

/// A note as it is shown. What is no UTF-8 stock git wrote, and it is shown as well as it can be.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim_end().to_owned()
}

/// A text as stock git would keep it: no space at the ends of lines, no empty lines at either end.
fn cleaned(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}
