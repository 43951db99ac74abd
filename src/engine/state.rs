//! A state, ready to be run on.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::core::Core;
use super::hold::Held;
use crate::object::{self, CommitId, Config, StateId, TreeId};

/// A file system with its runtime config, in one store. Cheap to clone.
#[derive(Clone)]
pub struct State {
    pub(super) core: Arc<Core>,
    pub(super) id: StateId,
    pub(super) value: Arc<object::State>,
    pub(super) origin: Arc<Origin>,
    /// Nobody deletes it while there is a handle.
    pub(super) held: Held,
}

/// How a state came to be, as far as its handle knows: what naming it will write into history.
#[derive(Default)]
pub(super) struct Origin {
    /// A commit that holds it.
    pub(super) commit: Mutex<Option<CommitId>>,
    /// The run that made it and the state that ran on.
    pub(super) run: Option<(i64, State)>,
    /// The revision by which it was asked for, for messages.
    pub(super) said: OnceLock<String>,
}

impl Origin {
    /// The origin of a run's result.
    pub(super) fn of_run(seq: i64, parent: State) -> Arc<Self> {
        Arc::new(Self { commit: Mutex::new(None), run: Some((seq, parent)), said: OnceLock::new() })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Chains of thousands of runs are taken apart one by one: dropping them nested would use up the stack.
        let mut next = self.run.take();
        while let Some((_, parent)) = next {
            next = match Arc::try_unwrap(parent.origin) {
                Ok(mut origin) => origin.run.take(),
                Err(_) => None,
            };
        }
    }
}

impl State {
    /// The state's id: what a user sees and compares.
    pub fn id(&self) -> StateId {
        self.id
    }

    /// As a person knows it: the revision that was asked for, else its commit, else its id.
    pub(super) fn label(&self) -> String {
        match (self.origin.said.get(), self.commit()) {
            (Some(said), _) => said.clone(),
            (None, Some(commit)) => commit.short().to_string(),
            (None, None) => self.id.short().to_string(),
        }
    }

    /// The root tree's id: two states with the same files have the same one.
    pub fn tree(&self) -> TreeId {
        self.value.root
    }

    /// How commands run in it unless they say otherwise.
    pub fn config(&self) -> &Config {
        &self.value.config
    }

    /// The commit this state was reached by, when it is named by one.
    pub fn commit(&self) -> Option<CommitId> {
        *self.origin.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for State {}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("id", &self.id).field("tree", &self.value.root).finish_non_exhaustive()
    }
}
