//! Renaming a branch.

use super::{
    BranchName, Durability, EditError, Expected, Head, History, HistoryError, RefEdit, RefName, Who, reflog,
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
        let head = self.head()?;
        let make = RefEdit { name: new.clone(), expected: Expected::Absent, new: Some(commit) };
        self.edit_locked(&lock, &[make], "", who, false)?;
        let message = format!("Branch: renamed {} to {}", old.full(), new.full());
        self.move_log(&old, &new)?;
        reflog::append(self, &new.full(), &reflog::line(Some(commit), Some(commit), who, &message))?;
        if matches!(&head, Head::Branch { name, .. } if name == from) {
            let head = Head::Branch { name: to.clone(), commit: Some(commit) };
            self.switch_head(&lock, &head, Some(&message), who)?;
        }
        let remove = RefEdit { name: old, expected: Expected::Is(commit), new: None };
        self.edit_locked(&lock, &[remove], "", who, true)
    }

    /// Copies a log to the new name: removing the old one is for the deletion of its ref.
    fn move_log(&self, old: &RefName, new: &RefName) -> Result<(), HistoryError> {
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
