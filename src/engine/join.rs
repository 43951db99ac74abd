//! Merging states: the base of two commits, and contents in the store.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::core::Core;
use super::error::Result;
use super::state::State;
use crate::object::{
    self, BlobId, CommitId, Config, ConfigConflict, Conflict, Contents, Entry, Settled, Side, SourceError,
    Tree, TreeId, TreePath, TreeSink, TreeSource, merge, merge_configs,
};
use crate::store::{Batch, Store};

/// How many merges may go into one base. Histories in which branches were merged both ways again and again could ask for any number; the
/// oldest bases are then taken as they are, the first of several.
const MOST_BASE_MERGES: usize = 64;

/// Where conflicts go: each at or below a path by a side, the longest path first. The root path settles all, also those of the config.
pub(super) type Settlements = [(TreePath, Side)];

/// What two states have in common.
pub(super) struct Base {
    root: Entry,
    tree: TreeId,
    config: Config,
}

/// What did not join.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    pub(super) paths: Vec<Conflict>,
    pub(super) config: Vec<ConfigConflict>,
}

/// The store, and what is made on the way and not kept: bases that are merges themselves.
pub(super) struct Workspace<'c> {
    store: &'c Store,
    trees: RefCell<HashMap<TreeId, Vec<u8>>>,
    contents: RefCell<HashMap<BlobId, Vec<u8>>>,
}

impl TreeSource for Workspace<'_> {
    fn tree(&self, id: &TreeId) -> Result<Tree, SourceError> {
        match self.trees.borrow().get(id) {
            Some(bytes) => Tree::decode(bytes).map_err(|error| SourceError(error.into())),
            None => self.store.tree(id),
        }
    }
}

impl TreeSink for &Workspace<'_> {
    fn put_tree(&mut self, id: TreeId, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.trees.borrow_mut().insert(id, bytes);
        Ok(())
    }
}

impl Contents for &Workspace<'_> {
    fn read(&mut self, blob: &BlobId) -> Result<Vec<u8>, SourceError> {
        if let Some(content) = self.contents.borrow().get(blob) {
            return Ok(content.clone());
        }
        self.store.read_blob(blob).map_err(|error| SourceError(error.into()))
    }

    fn write(&mut self, content: Vec<u8>) -> Result<BlobId, SourceError> {
        let blob = BlobId::of(&content);
        self.contents.borrow_mut().insert(blob, content);
        Ok(blob)
    }
}

/// Contents of a merge that is kept.
struct Kept<'w, 'b> {
    workspace: &'w Workspace<'w>,
    batch: &'w Batch<'b>,
}

impl Contents for Kept<'_, '_> {
    fn read(&mut self, blob: &BlobId) -> Result<Vec<u8>, SourceError> {
        let mut workspace = self.workspace;
        workspace.read(blob)
    }

    fn write(&mut self, content: Vec<u8>) -> Result<BlobId, SourceError> {
        self.batch.put_blob(&content, None).map_err(|error| SourceError(error.into()))
    }
}

impl Core {
    pub(super) fn workspace(&self) -> Workspace<'_> {
        Workspace { store: &self.store, trees: RefCell::default(), contents: RefCell::default() }
    }

    /// A state as the base of a merge.
    pub(super) fn base_of_state(&self, state: &object::State) -> Result<Base> {
        Ok(Base { root: self.store.root(&state.root)?, tree: state.root, config: state.config.clone() })
    }

    /// What two commits have in common: their merge base. Of several, which there are after merges both ways, the merge, as in Git; where
    /// they do not join it has something that neither side has.
    pub(super) fn common_base(
        &self,
        workspace: &Workspace<'_>,
        ours: &CommitId,
        theirs: &CommitId,
    ) -> Result<Option<Base>> {
        self.common_base_within(workspace, ours, theirs, &mut 0)
    }

    fn common_base_within(
        &self,
        workspace: &Workspace<'_>,
        ours: &CommitId,
        theirs: &CommitId,
        merges: &mut usize,
    ) -> Result<Option<Base>> {
        let bases = self.history()?.merge_bases(ours, theirs)?;
        let Some((first, more)) = bases.split_first() else { return Ok(None) };
        let state_of = |commit: &CommitId| -> Result<Base> {
            self.base_of_state(&self.store.state(&self.state_of_commit(commit)?)?)
        };
        let mut joined = state_of(first)?;
        for next in more {
            if *merges >= MOST_BASE_MERGES {
                break;
            }
            *merges += 1;
            let below = self.common_base_within(workspace, first, next, merges)?;
            let next = state_of(next)?;
            let (below_root, below_config) =
                (below.as_ref().map(|below| &below.root), below.as_ref().map(|below| &below.config));
            let neither = |_: &Conflict| Some(Settled::Neither);
            let mut contents = workspace;
            let ours = (joined.tree, &joined.root);
            let (draft, _) = merge(workspace, below_root, ours, &next.root, &mut contents, &neither)?;
            let (tree, root) = draft.finish(&mut &*workspace)?;
            let favour = Some(Settled::Neither);
            let (config, _) = merge_configs(below_config, &joined.config, &next.config, favour);
            joined = Base { root, tree, config };
        }
        Ok(Some(joined))
    }

    /// Merges `theirs` into `ours`. Nothing is kept when something does not join.
    pub(super) fn join_states(
        self: &Arc<Self>,
        workspace: &Workspace<'_>,
        base: Option<&Base>,
        ours: &object::State,
        theirs: &object::State,
        settlements: &Settlements,
    ) -> Result<Result<State, Conflicts>> {
        let (ours_root, theirs_root) = (self.store.root(&ours.root)?, self.store.root(&theirs.root)?);
        let settle = |conflict: &Conflict| side_for(settlements, &conflict.path).map(Settled::By);
        let mut batch = self.store.batch()?;
        let (draft, paths) = merge(
            workspace,
            base.map(|base| &base.root),
            (ours.root, &ours_root),
            &theirs_root,
            &mut Kept { workspace, batch: &batch },
            &settle,
        )?;
        let everywhere = side_for(settlements, &TreePath::root()).map(Settled::By);
        let (config, settings) =
            merge_configs(base.map(|base| &base.config), &ours.config, &theirs.config, everywhere);
        if !paths.is_empty() || !settings.is_empty() {
            return Ok(Err(Conflicts { paths, config: settings }));
        }
        let (root, _) = draft.finish(&mut batch)?;
        let joined = object::State { root, config };
        batch.put_state(&joined)?;
        let _undeleted = batch.commit()?;
        Ok(Ok(self.made_state(joined)?))
    }
}

fn side_for(settlements: &Settlements, path: &TreePath) -> Option<Side> {
    let fitting = settlements.iter().filter(|(above, _)| path.starts_with(above));
    fitting.max_by_key(|(above, _)| above.names().len()).map(|(_, side)| *side)
}
