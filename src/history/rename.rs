//! Renaming a branch.

use super::edit::Change;
use super::operations::HeadTo;
use super::{
    BranchName, Durability, EditError, Expected, Head, History, HistoryError, RefEdit, RefName, Who,
};

impl History {
    /// Renames a branch with its log; HEAD follows. The new name must not be taken.
    ///
    /// The new name is complete before the old one goes: whoever is killed in between leaves both.
    pub fn rename_branch(&self, from: &BranchName, to: &BranchName, who: &Who) -> Result<(), EditError> {
        self.settle()?;
        let lock = self.lock()?;
        let (old, new) = (RefName::from(from.clone()), RefName::from(to.clone()));
        let commit = self.read_ref(&old)?.ok_or_else(|| EditError::NoSuchRef(old.clone()))?;
        if from == to {
            return Ok(());
        }
        let edits = [
            RefEdit { name: new.clone(), expected: Expected::Absent, new: Some(commit) },
            RefEdit { name: old.clone(), expected: Expected::Is(commit), new: None },
        ];
        let message = format!("Branch: renamed {} to {}", old.full(), new.full());
        let head = HeadTo::Branch(to.clone()).into();
        let head = matches!(self.head()?, Head::Branch { name, .. } if name == *from).then_some(&head);
        let renames = Some((&old, &new));
        self.change_locked(&lock, &Change { edits: &edits, head, renames, ..Change::new(&message, who) })
    }

    /// Copies a log to the new name: removing the old one is for the deletion of its ref.
    pub(super) fn copy_log(&self, old: &RefName, new: &RefName) -> Result<(), HistoryError> {
        let (old, new) = (self.log_path(&old.full()), self.log_path(&new.full()));
        let bytes = match std::fs::read(&old) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(HistoryError::io("reading", &old, source)),
        };
        let failed = |source| HistoryError::io("writing", &new, source);
        let parent = new.parent().expect("a log lies in `logs`");
        std::fs::create_dir_all(parent).map_err(failed)?;
        std::fs::write(&new, bytes).map_err(failed)?;
        if self.durability() == Durability::Commit {
            self.must_sync([new.clone(), parent.to_owned()]);
        }
        Ok(())
    }
}
