//! Commands that are resolved once and run many times.

use std::sync::Arc;

use super::command::{Command, Reuse};
use super::error::{Error, Result};
use super::outcome::Outcome;
use super::spec::Resolved;
use super::state::State;
use crate::object::RunKey;

/// A command resolved against one state: users looked up, files to inject read and hashed, the key computed.
///
/// It can be run from several threads at once. Its key is fixed: with [`Reuse::Auto`] a build step runs once.
#[derive(Clone)]
pub struct Prepared {
    state: State,
    command: Arc<Command>,
    resolved: Arc<Resolved>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("state", &self.state)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    pub(super) fn new(state: &State, command: &Command) -> Result<Self> {
        if !command.has_key() {
            return Err(Error::invalid(
                "a command with piped input or a terminal cannot be prepared: use State::spawn",
            ));
        }
        let resolved = state.core.resolve_command(state, command)?;
        if resolved.key.is_none() {
            return Err(Error::invalid(
                "a command with a writable bind mount, or a disposable one with any, has no key to prepare: use State::run",
            ));
        }
        Ok(Self { state: state.clone(), command: Arc::new(command.clone()), resolved: Arc::new(resolved) })
    }

    /// The key under which its result is remembered.
    pub fn key(&self) -> RunKey {
        self.resolved.key.expect("a prepared command's input is known")
    }

    /// Runs it, or uses what is remembered, as its command says.
    pub fn run(&self) -> Result<Outcome> {
        let core = &self.state.core;
        core.run_resolved(&self.state, &self.command, (*self.resolved).clone(), None, None)
    }

    /// Runs it whatever is remembered.
    pub fn run_fresh(&self) -> Result<Outcome> {
        let command = Command { reuse: Reuse::Never, ..(*self.command).clone() };
        self.state.core.run_resolved(&self.state, &command, (*self.resolved).clone(), None, None)
    }
}
