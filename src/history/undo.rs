//! Taking operations back.

use std::collections::BTreeMap;

use super::edit::{Change, HeadEdit};
use super::operations::{HeadMove, HeadTo, LOG_REF, Operation, Purpose};
use super::{EditError, Expected, History, HistoryError, RefEdit, RefName, Who};
use crate::object::{CommitId, OperationId};

/// What taking back came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The operation that did it; `None` when everything already was as it was to be.
    pub operation: Option<Operation>,
    /// What it took back, newest first.
    pub taken_back: Vec<Operation>,
}

impl History {
    /// Takes back the newest operation that has not been taken back. Called again it goes one further.
    ///
    /// That is an operation itself, so [`undo_to`](Self::undo_to) gets back what it took away.
    ///
    /// # Errors
    /// [`EditError::NothingToUndo`]; [`EditError::Conflict`] and [`EditError::HeadMoved`] when a ref is no longer where the operation
    /// had put it, which only a program that keeps no record can do, such as stock git.
    pub fn undo(&self, who: &Who) -> Result<Undone, EditError> {
        self.settle()?;
        let lock = self.lock()?;
        let mut standing: Vec<Operation> = Vec::new();
        for operation in self.operations()? {
            match operation.purpose {
                Purpose::Undo(other) => standing.retain(|operation| operation.id != other),
                _ => standing.push(operation),
            }
        }
        // A power cut may leave the record of an operation that did not come about: there is nothing to take back of it.
        let last = loop {
            let last = standing.pop().ok_or_else(|| self.nothing_to_undo())?;
            if !self.is_as_before(&last)? {
                break last;
            }
        };
        let message = format!("undo: {}", last.message);
        let purpose = Purpose::Undo(last.id);
        self.take_back(&lock, vec![last], purpose, &message, who)
    }

    fn nothing_to_undo(&self) -> EditError {
        // The log's ref is made with the first record, and outlasts it.
        match self.git.local().find(LOG_REF) {
            Ok(Some(_)) if matches!(self.newest_operation(), Ok(None)) => EditError::OperationsForgotten,
            _ => EditError::NothingToUndo,
        }
    }

    /// Brings all refs to where that operation had left them, by taking back every later one.
    pub fn undo_to(&self, id: &OperationId, who: &Who) -> Result<Undone, EditError> {
        self.settle()?;
        let lock = self.lock()?;
        let mut operations = self.operations()?;
        let at = operations.iter().position(|operation| operation.id == *id);
        let at = at.ok_or(EditError::NoOperation(*id))?;
        let mut later = operations.split_off(at + 1);
        later.reverse();
        let message = format!("undo: back to {}", operations[at].message);
        self.take_back(&lock, later, Purpose::Restore(*id), &message, who)
    }

    /// Takes back operations that follow each other, newest first, as one.
    fn take_back(
        &self,
        lock: &super::journal::Lock,
        taken_back: Vec<Operation>,
        purpose: Purpose,
        message: &str,
        who: &Who,
    ) -> Result<Undone, EditError> {
        let net = Net::of(&taken_back);
        let mut edits = Vec::new();
        for (full, (before, after)) in &net.refs {
            // Every record names refs that treebox has; one that does not was written by nobody.
            let Some(name) = RefName::from_full(full) else { continue };
            if before != after {
                let expected = after.map_or(Expected::Absent, Expected::Is);
                edits.push(RefEdit { name, expected, new: *before });
            }
        }
        let mut head = None;
        if let Some((before, after)) = &net.head {
            head = before.clone().map(|to| HeadEdit { to, expected: after.clone() });
        }
        let newest = self.newest_operation()?.map(|operation| operation.id);
        self.change_locked(
            lock,
            &Change { edits: &edits, head: head.as_ref(), purpose, ..Change::new(message, who) },
        )?;
        let operation = self.newest_operation()?.filter(|operation| Some(operation.id) != newest);
        Ok(Undone { operation, taken_back })
    }

    /// Whether everything that an operation changed is where it was before.
    fn is_as_before(&self, operation: &Operation) -> Result<bool, HistoryError> {
        for moved in &operation.refs {
            let Some(name) = RefName::from_full(&moved.full) else { continue };
            if self.read_ref(&name)? != moved.old {
                return Ok(false);
            }
        }
        match &operation.head {
            Some(HeadMove { old, .. }) => Ok(*old == self.head().ok().map(|head| head.to())),
            None => Ok(true),
        }
    }
}

/// What several operations changed together.
#[derive(Default)]
struct Net {
    /// By name, where each ref was before the first and after the last of them.
    refs: BTreeMap<String, (Option<CommitId>, Option<CommitId>)>,
    head: Option<(Option<HeadTo>, Option<HeadTo>)>,
}

impl Net {
    fn of(newest_first: &[Operation]) -> Self {
        let mut net = Self::default();
        for operation in newest_first {
            for moved in &operation.refs {
                let entry = net.refs.entry(moved.full.clone()).or_insert((moved.old, moved.new));
                entry.0 = moved.old;
            }
            if let Some(head) = &operation.head {
                let entry = net.head.get_or_insert((head.old.clone(), head.new.clone()));
                entry.0.clone_from(&head.old);
            }
        }
        net
    }
}
