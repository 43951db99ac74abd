//! Mending a history: torn refs, logs and `packed-refs`. What is taken out is kept where the caller says.

use std::path::Path;

use super::check::PackedLine;
use super::operations::{LOG_REF, whole_lines};
use super::sync::{Replacement, create};
use super::{Durability, EditError, Expected, HeadTo, History, HistoryError, RefEdit, RefName, Who, reflog};
use crate::object::CommitId;

impl History {
    /// Makes what a repository needs and lacks; a config that cannot be read is moved aside.
    pub fn complete(directory: &Path, aside: &Path) -> Result<(), HistoryError> {
        let failed = |source| HistoryError::io("completing", directory, source);
        super::layout::complete(directory).map_err(failed)?;
        if matches!(Self::inspect(directory, Default::default()), Err(HistoryError::NotARepository { .. })) {
            std::fs::rename(directory.join("config"), aside).map_err(failed)?;
            super::layout::complete(directory).map_err(failed)?;
        }
        Self::inspect(directory, Default::default()).map(drop)
    }

    /// The newest commit of a ref that its log or the operation log knows, and that is whole.
    pub fn last_known(&self, full: &str) -> Result<Option<CommitId>, HistoryError> {
        let logged = self.check_logs()?.into_iter().find(|log| log.full == full);
        let logged = logged.into_iter().flat_map(|log| log.entries.into_iter().rev());
        let logged = logged.flat_map(|entry| [entry.new, entry.old]);
        let operations = self.operations()?.into_iter().rev();
        let moved = operations.flat_map(|operation| operation.refs.into_iter().rev());
        let moved = moved.filter(|one| one.full == full).flat_map(|one| [one.new, one.old]);
        Ok(logged.chain(moved).flatten().find(|commit| self.check_commit(commit).is_ok()))
    }

    /// Brings a ref that is torn, or that leads nowhere, back to a commit.
    pub fn bring_back(&self, name: &RefName, commit: CommitId, who: &Who) -> Result<(), EditError> {
        let edit = RefEdit { name: name.clone(), expected: Expected::Any, new: Some(commit) };
        self.edit(&[edit], "fsck: brought back", who)
    }

    /// Moves the file of a ref aside of which no commit is known. One that is in `packed-refs` alone goes with its line.
    pub fn give_up_ref(&self, full: &str, aside: &Path) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let path = self.directory.join(full);
        if path.is_file() {
            std::fs::rename(&path, aside).map_err(|source| HistoryError::io("moving", &path, source))?;
        }
        self.rewrite_packed_refs(None, &|line| line.split_once(' ').is_none_or(|(_, name)| name != full))
    }

    /// Takes the lines out of `packed-refs` that are none; the file as it was is kept.
    pub fn mend_packed_refs(&self, aside: &Path) -> Result<(), EditError> {
        let _lock = self.lock()?;
        self.rewrite_packed_refs(Some(aside), &|line| !matches!(PackedLine::parse(line), PackedLine::Bad))
    }

    fn rewrite_packed_refs(
        &self,
        aside: Option<&Path>,
        keep: &dyn Fn(&str) -> bool,
    ) -> Result<(), EditError> {
        let path = self.directory.join("packed-refs");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(HistoryError::io("reading", &path, source).into()),
        };
        let text = String::from_utf8_lossy(&bytes);
        let kept: String = text.lines().filter(|line| keep(line)).map(|line| format!("{line}\n")).collect();
        if kept.as_bytes() == bytes {
            return Ok(());
        }
        self.replace(&path, &bytes, kept.as_bytes(), aside)
    }

    /// Takes what is no line of it out of a log; the file as it was is kept.
    pub fn mend_log(&self, full: &str, aside: &Path) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let path = self.log_path(full);
        let bytes = std::fs::read(&path).map_err(|source| HistoryError::io("reading", &path, source))?;
        let kept = match full == LOG_REF {
            true => whole_lines(&bytes),
            false => {
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| reflog::parse(line).is_some());
                lines.flat_map(|line| [line, b"\n"].concat()).collect()
            }
        };
        self.replace(&path, &bytes, &kept, Some(aside))
    }

    fn replace(&self, path: &Path, old: &[u8], new: &[u8], aside: Option<&Path>) -> Result<(), EditError> {
        let failed = |source| HistoryError::io("replacing", path, source);
        if let Some(aside) = aside {
            create(aside, old, true).map_err(failed)?;
        }
        let durable = self.durability() == Durability::Commit;
        Ok(Replacement::begin(path).and_then(|file| file.finish(new, durable)).map_err(failed)?)
    }

    /// Puts HEAD where its log or the operation log last had it, else on a branch that there is. Gives where.
    pub fn mend_head(&self, who: &Who) -> Result<HeadTo, EditError> {
        let heads = self.operations()?.into_iter().rev().filter_map(|operation| operation.head);
        let known = heads.flat_map(|head| [head.new, head.old]).flatten().find(|to| match to {
            HeadTo::Branch(_) => true,
            HeadTo::Detached(commit) => self.check_commit(commit).is_ok(),
        });
        let branches = self.refs(super::RefKind::Branch).unwrap_or_default();
        let first = branches.into_iter().find_map(|(name, _)| match name {
            RefName::Branch(name) => Some(HeadTo::Branch(name)),
            _ => None,
        });
        let main = || super::BranchName::new("main").map(HeadTo::Branch);
        let to = match known.or(first) {
            Some(to) => to,
            None => main().expect("`main` is a branch's name"),
        };
        self.edit_with_head(&[], &to.clone().into(), "", who)?;
        Ok(to)
    }

    /// The file of a loose Git object.
    pub fn loose_file(&self, id: &CommitId) -> std::path::PathBuf {
        self.loose_path(id)
    }
}
