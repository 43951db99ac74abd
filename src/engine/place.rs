//! A path in the trees of many commits: where nothing changed on the way to it, nothing is read again.

use super::core::Core;
use super::error::Result;
use crate::object::{CommitId, Entry, Node, TreeId, TreePath, TreeSource as _};

/// A path in one commit: the trees on the way to it, the root first, and what is there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) trees: Vec<TreeId>,
    pub(super) entry: Entry,
}

impl Core {
    /// The root tree of a commit's state.
    pub(super) fn tree_of_commit(&self, commit: &CommitId) -> Result<TreeId> {
        Ok(self.store.state(&self.state_of_commit(commit)?)?.root)
    }

    /// What is at exactly that path. Where the way meets a tree of a known place, the rest is known too.
    pub(super) fn place(
        &self,
        root: &TreeId,
        path: &TreePath,
        known: Option<&Place>,
    ) -> Result<Option<Place>> {
        let same = |level: usize, tree: &TreeId| known.filter(|known| known.trees.get(level) == Some(tree));
        if let Some(known) = same(0, root) {
            return Ok(Some(known.clone()));
        }
        let mut trees = vec![*root];
        let mut entry = self.store.root(root)?;
        for name in path.names() {
            let Node::Directory { tree, .. } = &entry.node else { return Ok(None) };
            let tree = *tree;
            if let Some(known) = same(trees.len(), &tree) {
                trees.extend(&known.trees[trees.len()..]);
                return Ok(Some(Place { trees, entry: known.entry.clone() }));
            }
            trees.push(tree);
            match self.store.tree(&tree)?.get(name) {
                Some(found) => entry = found.clone(),
                None => return Ok(None),
            }
        }
        Ok(Some(Place { trees, entry }))
    }
}
