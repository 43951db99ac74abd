//! What a text names.

use std::sync::Arc;

use super::core::Core;
use super::error::{Error, ErrorKind, Result};
use super::state::{Origin, State};
use crate::history::ResolveError;
use crate::object::{self, CommitId, IdPrefix, StateId, TreePath};
use crate::store::ObjectKind;

/// Candidates that an ambiguous id is reported with.
const MAX_CANDIDATES: usize = 8;

impl Core {
    /// The state that a revision names.
    pub(super) fn resolve(self: &Arc<Self>, rev: &str) -> Result<State> {
        let state = self.resolved(rev)?;
        // A handle that is shared keeps what it was first asked for as.
        let _ = state.origin.said.set(rev.to_owned());
        Ok(state)
    }

    fn resolved(self: &Arc<Self>, rev: &str) -> Result<State> {
        if rev == "HEAD" || rev == "@" {
            return self.head_state();
        }
        // A whole state id needs no history.
        if let Ok(id) = rev.parse::<StateId>()
            && self.store.has_packed(id.as_bytes())?
        {
            return self.state(id);
        }
        let by_history = self.history()?.resolve(rev);
        let (base, suffix) = rev.find(['~', '^', '@', ':']).map_or((rev, ""), |at| rev.split_at(at));
        let states = match IdPrefix::parse(base) {
            Some(prefix) => {
                let ids = self.index.ids_with_prefix(ObjectKind::State.code(), &prefix, MAX_CANDIDATES)?;
                ids.into_iter().map(StateId::from_bytes).collect()
            }
            None => Vec::new(),
        };
        match (by_history, states.as_slice()) {
            (Ok(commit), states) => {
                let is_short_id = base.len() < 40 && commit.to_string().starts_with(base);
                if is_short_id && suffix.is_empty() && !states.is_empty() {
                    return Err(ambiguous(rev, states, Some(commit)));
                }
                self.state_at(commit)
            }
            (Err(_), [id]) if suffix.is_empty() => self.state(*id),
            (Err(_), [id]) => {
                let commit = self.name(&self.state(*id)?)?;
                let commit = self.history()?.resolve(&format!("{commit}{suffix}")).map_err(revision_error)?;
                self.state_at(commit)
            }
            (Err(_), [_, ..]) => Err(ambiguous(rev, &states, None)),
            (Err(error), []) => Err(revision_error(error)),
        }
    }

    /// The commit that a revision names; an anonymous state gets one.
    pub(super) fn resolve_commit(self: &Arc<Self>, rev: &str) -> Result<CommitId> {
        let state = self.resolve(rev)?;
        self.name(&state)
    }

    /// A handle to the state of that id.
    pub(super) fn state(self: &Arc<Self>, id: StateId) -> Result<State> {
        self.handle(id, Arc::new(Origin::default()))
    }

    /// A handle to a state that is there.
    pub(super) fn handle(self: &Arc<Self>, id: StateId, origin: Arc<Origin>) -> Result<State> {
        let _undeleted = self.store.undeleted()?;
        let held = self.hold_state(id)?;
        let value = Arc::new(self.store.state(&id)?);
        Ok(State { core: Arc::clone(self), id, value, origin, held })
    }

    /// A handle to a state that was just made. The batch that made it still keeps deleters away.
    pub(super) fn made_state(self: &Arc<Self>, value: object::State) -> Result<State> {
        let id = value.id();
        let held = self.hold_state(id)?;
        let (value, origin) = (Arc::new(value), Arc::new(Origin::default()));
        Ok(State { core: Arc::clone(self), id, value, origin, held })
    }

    /// HEAD's state.
    pub(super) fn head_state(self: &Arc<Self>) -> Result<State> {
        let head = self.history()?.head()?;
        match head.commit() {
            Some(commit) => self.state_at(commit),
            None => Err(Error::not_found(
                "HEAD names nothing yet: begin with `treebox import host` and `treebox switch -c main host`, or give --from",
            )),
        }
    }

    /// What `REV:/path` names; without a revision HEAD's state is meant.
    pub(super) fn resolve_path(self: &Arc<Self>, text: &str) -> Result<(State, TreePath)> {
        let (rev, path) = match text.split_once(":/") {
            Some((rev, path)) => (rev, path),
            None if text.starts_with('/') => ("", text),
            None => (text, ""),
        };
        let path = TreePath::parse(path.as_bytes()).map_err(|error| Error::invalid(error.to_string()))?;
        let state = if rev.is_empty() { self.head_state()? } else { self.resolve(rev)? };
        Ok((state, path))
    }
}

pub(super) fn revision_error(error: ResolveError) -> Error {
    let kind = match &error {
        ResolveError::NotFound { .. } => ErrorKind::NotFound,
        ResolveError::Ambiguous { .. } => ErrorKind::Ambiguous,
        ResolveError::Unsupported { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::System,
    };
    Error::Revision(error.to_string(), kind)
}

fn ambiguous(text: &str, states: &[StateId], commit: Option<CommitId>) -> Error {
    let mut names: Vec<String> = states.iter().map(|id| format!("state {}", id.short())).collect();
    names.extend(commit.map(|commit| format!("commit {}", commit.short())));
    Error::Revision(
        format!("`{text}` fits several things, type more digits: {}", names.join(", ")),
        ErrorKind::Ambiguous,
    )
}
