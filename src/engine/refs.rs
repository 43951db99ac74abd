//! Branches, tags, HEAD and their logs.

use std::sync::Arc;

use super::core::{Core, now_ms};
use super::error::{Error, Result};
use super::state::State;
use super::types::{Head, Ref, ReflogLine};
use crate::history::{
    self, BranchName, EditError, Expected, HeadEdit, HeadTo, NameError, RefEdit, RefKind, RefName,
    ReflogEntry, TagName, Who,
};
use crate::object::CommitId;

pub(super) fn who() -> Who {
    Who::treebox(now_ms().div_euclid(1000))
}

impl From<EditError> for Error {
    fn from(error: EditError) -> Self {
        match error {
            EditError::History(error) => Self::History(error),
            EditError::NoSuchRef(_) | EditError::NoOperation(_) | EditError::NothingToUndo => {
                Self::not_found(error.to_string())
            }
            other => Self::Conflict(other.to_string()),
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl Core {
    pub(super) fn head(&self) -> Result<Head> {
        let head = self.history()?.head()?;
        let commit = head.commit();
        let state = commit.map(|commit| self.state_of_commit(&commit)).transpose()?;
        let branch = head.branch().map(ToString::to_string);
        Ok(Head { branch, commit, state })
    }

    pub(super) fn branches(&self) -> Result<Vec<Ref>> {
        let current = self.head()?.branch;
        self.listed(RefKind::Branch, current.as_deref())
    }

    pub(super) fn tags(&self) -> Result<Vec<Ref>> {
        self.listed(RefKind::Tag, None)
    }

    fn listed(&self, kind: RefKind, current: Option<&str>) -> Result<Vec<Ref>> {
        let refs = self.history()?.refs(kind)?;
        refs.into_iter()
            .map(|(name, commit)| {
                let name = name.short().to_owned();
                let current = current == Some(&name);
                Ok(Ref { name, commit, state: self.state_of_commit(&commit)?, current })
            })
            .collect()
    }

    pub(super) fn create_branch(self: &Arc<Self>, name: &str, at: &State, force: bool) -> Result<Ref> {
        let branch = BranchName::new(name)?;
        let expected = if force { Expected::Any } else { Expected::Absent };
        self.move_ref(branch.into(), expected, at, &format!("branch: Created from {}", at.id().short()))
    }

    pub(super) fn create_tag(self: &Arc<Self>, name: &str, at: &State, force: bool) -> Result<Ref> {
        let tag = TagName::new(name)?;
        let expected = if force { Expected::Any } else { Expected::Absent };
        self.move_ref(tag.into(), expected, at, &format!("tag: {}", at.id().short()))
    }

    pub(super) fn move_branch(
        self: &Arc<Self>,
        name: &str,
        expected: Option<CommitId>,
        to: &State,
        message: &str,
    ) -> Result<Ref> {
        let branch = BranchName::new(name)?;
        self.move_ref(branch.into(), expected.map_or(Expected::Absent, Expected::Is), to, message)
    }

    pub(super) fn move_ref(
        self: &Arc<Self>,
        name: RefName,
        expected: Expected,
        to: &State,
        message: &str,
    ) -> Result<Ref> {
        let (edit, commit) = self.edit_to(name, expected, to)?;
        let name = edit.name.clone();
        self.history()?.edit(&[edit], first_line(message), &who())?;
        let current = matches!(&name, RefName::Branch(name) if self.is_current(name)?);
        Ok(Ref { name: name.short().to_owned(), commit, state: to.id(), current })
    }

    /// What moves a ref to a state, which gets a commit.
    pub(super) fn edit_to(
        self: &Arc<Self>,
        name: RefName,
        expected: Expected,
        to: &State,
    ) -> Result<(RefEdit, CommitId)> {
        // Git lets a name be made again where it already is; a user who asks for a new one is to hear of the old.
        if expected == Expected::Absent
            && let Some(found) = self.history()?.read_ref(&name)?
        {
            return Err(Error::Conflict(format!(
                "{name} is already there, at {}: choose another name or force it",
                found.short()
            )));
        }
        let commit = self.name(to)?;
        Ok((RefEdit { name, expected, new: Some(commit) }, commit))
    }

    fn is_current(&self, name: &BranchName) -> Result<bool> {
        Ok(matches!(self.history()?.head()?, history::Head::Branch { name: current, .. } if current == *name))
    }

    pub(super) fn delete_branch(&self, name: &str) -> Result<Ref> {
        let branch = BranchName::new(name)?;
        let history = self.history()?;
        let full = RefName::from(branch.clone());
        loop {
            let head = history.head()?;
            if head.branch() == Some(&branch) {
                return Err(Error::Conflict(format!(
                    "branch {name} is the current one: switch to another before deleting it"
                )));
            }
            let commit = history.read_ref(&full)?.ok_or_else(|| EditError::NoSuchRef(full.clone()))?;
            let edit = RefEdit { name: full.clone(), expected: Expected::Is(commit), new: None };
            // HEAD stays where it is: were it moved to this branch meanwhile, it would be left on nothing.
            let stays = HeadEdit { to: head.to(), expected: Some(head.to()) };
            match history.edit_with_head(&[edit], &stays, &format!("branch: deleted {name}"), &who()) {
                // Deleting asks for nothing but that the branch is there: look again.
                Err(EditError::HeadMoved | EditError::Conflict { .. }) => {}
                edited => {
                    edited?;
                    let state = self.state_of_commit(&commit)?;
                    return Ok(Ref { name: name.to_owned(), commit, state, current: false });
                }
            }
        }
    }

    pub(super) fn delete_tag(&self, name: &str) -> Result<Ref> {
        self.delete_ref(TagName::new(name)?.into())
    }

    fn delete_ref(&self, name: RefName) -> Result<Ref> {
        let commit = self.history()?.delete(&name, Expected::Any, &who())?;
        Ok(Ref {
            name: name.short().to_owned(),
            commit,
            state: self.state_of_commit(&commit)?,
            current: false,
        })
    }

    pub(super) fn rename_branch(&self, old: &str, new: &str) -> Result<()> {
        Ok(self.history()?.rename_branch(&BranchName::new(old)?, &BranchName::new(new)?, &who())?)
    }

    pub(super) fn switch(self: &Arc<Self>, name: &str) -> Result<Head> {
        let branch = BranchName::new(name)?;
        let history = self.history()?;
        loop {
            let Some(at) = history.read_ref(&RefName::Branch(branch.clone()))? else {
                return Err(Error::not_found(format!(
                    "no branch is called `{name}`: `treebox switch -c {name} REV` makes it"
                )));
            };
            // The branch stays where it is: were it deleted meanwhile, HEAD would be left on nothing.
            let stays = RefEdit { name: branch.clone().into(), expected: Expected::Is(at), new: Some(at) };
            let to = HeadTo::Branch(branch.clone()).into();
            match history.edit_with_head(&[stays], &to, "", &who()) {
                // It moved, which is no reason not to switch to it: look again.
                Err(EditError::Conflict { .. }) => {}
                edited => {
                    edited?;
                    return self.head();
                }
            }
        }
    }

    pub(super) fn switch_new(self: &Arc<Self>, name: &str, at: Option<&State>) -> Result<Head> {
        let branch = BranchName::new(name)?;
        let head_state;
        let at = match at {
            Some(at) => at,
            None => {
                head_state = self.head_state()?;
                &head_state
            }
        };
        let (edit, _) = self.edit_to(branch.clone().into(), Expected::Absent, at)?;
        let message = format!("branch: created {name} and switched to it");
        self.history()?.edit_with_head(&[edit], &HeadTo::Branch(branch).into(), &message, &who())?;
        self.head()
    }

    pub(super) fn checkout(self: &Arc<Self>, rev: &str) -> Result<Head> {
        if let Ok(branch) = BranchName::new(rev)
            && self.history()?.read_ref(&RefName::Branch(branch))?.is_some()
        {
            return self.switch(rev);
        }
        let commit = self.resolve_commit(rev)?;
        self.history()?.detach_head(&commit, &who())?;
        self.head()
    }

    pub(super) fn reset(self: &Arc<Self>, to: &State) -> Result<Head> {
        let history = self.history()?;
        let message = format!("reset: moving to {}", to.id().short());
        match history.head()? {
            history::Head::Branch { name, commit } => {
                self.move_ref(name.into(), commit.map_or(Expected::Absent, Expected::Is), to, &message)?;
            }
            history::Head::Detached(at) => {
                let edit =
                    HeadEdit { to: HeadTo::Detached(self.name(to)?), expected: Some(HeadTo::Detached(at)) };
                history.edit_with_head(&[], &edit, &message, &who())?;
            }
        }
        self.head()
    }

    pub(super) fn reflog(&self, name: Option<&str>) -> Result<Vec<ReflogLine>> {
        let history = self.history()?;
        let entries = match name {
            None | Some("HEAD") => history.head_reflog()?,
            Some(name) => {
                let kinds = [
                    BranchName::new(name).ok().map(RefName::Branch),
                    TagName::new(name).ok().map(RefName::Tag),
                    history::ImageName::new(name).ok().map(RefName::Image),
                ];
                let mut found = None;
                for candidate in kinds.into_iter().flatten() {
                    if history.read_ref(&candidate)?.is_some() {
                        found = Some(candidate);
                        break;
                    }
                }
                let found = found
                    .ok_or_else(|| Error::not_found(format!("no branch, tag or image is called `{name}`")))?;
                history.reflog(&found)?
            }
        };
        Ok(entries.into_iter().enumerate().map(line).collect())
    }
}

fn line((index, entry): (usize, ReflogEntry)) -> ReflogLine {
    let ReflogEntry { old, new, time_seconds, message, .. } = entry;
    ReflogLine { index, old, new, time_seconds, message }
}

/// Reflog messages have one line.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}
