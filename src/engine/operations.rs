//! The operation log: what changed refs, and taking it back.

use super::blocking::Engine;
use super::core::Core;
use super::error::{Error, ErrorKind, Result};
use super::refs::who;
use crate::history::{Operation, Undone};
use crate::object::{IdPrefix, OperationId};

impl Engine {
    /// The operations, newest first, at most `limit`: every change of branches, tags, image names and HEAD.
    pub fn operations(&self, limit: Option<usize>) -> Result<Vec<Operation>> {
        self.core.operations(limit)
    }

    /// The operation of that id, which may be shortened to four digits or more that only it begins with.
    pub fn operation(&self, id: &str) -> Result<Operation> {
        self.core.operation(id)
    }

    /// Takes back the newest operation that has not been taken back; called again it goes one further.
    ///
    /// States, commits and remembered runs stay: only what refs and HEAD name changes. A ref that something else has moved since is a conflict.
    pub fn undo(&self) -> Result<Undone> {
        Ok(self.core.history()?.undo(&who())?)
    }

    /// Brings branches, tags, image names and HEAD to where they were after that operation. It can be taken back as any other.
    pub fn undo_to(&self, id: &OperationId) -> Result<Undone> {
        Ok(self.core.history()?.undo_to(id, &who())?)
    }
}

impl Core {
    fn operations(&self, limit: Option<usize>) -> Result<Vec<Operation>> {
        let mut operations = self.history()?.operations()?;
        operations.reverse();
        operations.truncate(limit.unwrap_or(usize::MAX));
        Ok(operations)
    }

    fn operation(&self, id: &str) -> Result<Operation> {
        let unknown = || Error::not_found(format!("no operation {id}: `treebox op log` lists them"));
        let prefix = IdPrefix::parse(id).ok_or_else(unknown)?;
        let operations = self.history()?.operations()?;
        let mut found =
            operations.into_iter().filter(|operation| operation.id.to_string().starts_with(prefix.digits()));
        let first = found.next().ok_or_else(unknown)?;
        match found.next() {
            None => Ok(first),
            Some(second) => {
                let text =
                    format!("`{id}` fits several operations, type more digits: {}, {}", first.id, second.id);
                Err(Error::Revision(text, ErrorKind::Ambiguous))
            }
        }
    }
}
