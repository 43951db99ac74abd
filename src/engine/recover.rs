//! After a power cut: what was not synced is looked at before anything relies on it.
//!
//! The history knows by the kernel's id of the boot that the machine went down. Nothing here runs otherwise but one look at a small file.

use std::collections::{HashMap, HashSet};

use super::core::Core;
use super::error::Result;
use super::refs::who;
use crate::history::{Expected, Head, History, Interrupted, RefEdit, RefName, RefTip, WalkOptions};
use crate::object::{BlobId, CommitId, Node, StateId, TreeId};

/// Layers are not synced. What was made so long before the last thing that is known to have happened, the kernel has written by itself: it
/// keeps nothing for more than 30 s (`vm.dirty_expire_centisecs`).
const SETTLED_AFTER_MS: i64 = 120_000;

/// What is known to be whole, so that it is looked at once.
#[derive(Default)]
struct Whole {
    trees: HashSet<TreeId>,
    blobs: HashMap<BlobId, bool>,
    states: HashMap<StateId, bool>,
}

impl Core {
    /// Puts right what a power cut left, if there was one. Called when the store is opened.
    pub(super) fn after_power_cut(&self) -> Result<()> {
        if !History::was_interrupted(&self.layout().history()) {
            return Ok(());
        }
        self.forget_young_layers()?;
        let history = self.history()?;
        let _alone = history.recovery_lock()?;
        // Another process may have done it meanwhile.
        history.after_boot()?;
        let Some(interrupted) = history.interruption() else { return Ok(()) };
        self.store.remove_unsound(interrupted.since)?;
        self.fall_back(history, &interrupted)?;
        Ok(history.recovered()?)
    }

    /// Whether bytes of a layer reached the disk nobody knows, and nobody would notice: a file that is missing in it is missing in a sandbox.
    fn forget_young_layers(&self) -> Result<()> {
        if let Some(newest) = self.index.newest_layer()? {
            self.index.forget_layers_since(newest - SETTLED_AFTER_MS)?;
        }
        Ok(())
    }

    /// Brings every ref that leads to something that is not whole back to the newest commit in its log that is.
    fn fall_back(&self, history: &History, interrupted: &Interrupted) -> Result<()> {
        let mut whole = Whole::default();
        let synced: HashMap<&RefName, CommitId> =
            interrupted.refs.iter().map(|(name, commit)| (name, *commit)).collect();
        let mut names: HashSet<RefName> = history.ref_names()?.into_iter().collect();
        names.extend(interrupted.refs.iter().map(|(name, _)| name.clone()));
        // Git's library reads an id with something behind it, which stock git does not: such a file is written anew.
        let (checked, _) = history.check_refs()?;
        let torn: HashSet<String> = checked
            .into_iter()
            .filter(|checked| matches!(checked.tip, RefTip::Torn(_)))
            .map(|checked| checked.full)
            .collect();
        let mut edits = Vec::new();
        for name in names {
            let found = history.read_ref(&name);
            let is_torn = torn.contains(&name.full());
            // One that is not there was deleted, or never came about.
            let Some(now) =
                found.as_ref().ok().copied().flatten().or_else(|| found.is_err().then_some(NOTHING))
            else {
                continue;
            };
            let before = synced.get(&name).copied();
            let log = history.reflog(&name).unwrap_or_default();
            let tried =
                std::iter::once(now).chain(log.into_iter().filter_map(|entry| entry.new)).chain(before);
            let mut new = None;
            for commit in tried {
                if before == Some(commit) || self.is_whole(history, &name, commit, interrupted, &mut whole)? {
                    new = Some(commit);
                    break;
                }
            }
            if is_torn {
                history.remove_torn(&name)?;
            }
            if found.is_err() || is_torn || new != Some(now) {
                edits.push(RefEdit { name, expected: Expected::Any, new });
            }
        }
        let head_is_whole = match history.head() {
            Ok(Head::Detached(commit)) => {
                let known = interrupted.refs.iter().any(|(_, synced)| *synced == commit);
                known || self.state_of_commit_is_whole(history, commit, interrupted, &mut whole)?
            }
            Ok(Head::Branch { .. }) => true,
            // It leads to a branch whose file is torn, which is mended below.
            Err(_) => history.has_sound_head(),
        };
        if !head_is_whole {
            history.restore_head(interrupted)?;
        }
        if !edits.is_empty() {
            history.edit(&edits, "back to what a power cut left whole", &who())?;
        }
        Ok(history.forget_in_logs(&mut |commit| {
            let state = self.state_of_commit_is_whole(history, *commit, interrupted, &mut whole);
            state.is_ok_and(|is_whole| is_whole) || history.notes_are_whole(commit, interrupted)
        })?)
    }

    fn is_whole(
        &self,
        history: &History,
        name: &RefName,
        commit: CommitId,
        interrupted: &Interrupted,
        whole: &mut Whole,
    ) -> Result<bool> {
        match name {
            RefName::Notes => Ok(history.notes_are_whole(&commit, interrupted)),
            _ => self.state_of_commit_is_whole(history, commit, interrupted, whole),
        }
    }

    /// Whether a commit, and all before it that is not older than the list, can be read with their states.
    fn state_of_commit_is_whole(
        &self,
        history: &History,
        commit: CommitId,
        interrupted: &Interrupted,
        whole: &mut Whole,
    ) -> Result<bool> {
        if !history.has_commit(&commit) {
            return Ok(false);
        }
        let hidden = interrupted.refs.iter().filter(|(name, _)| *name != RefName::Notes);
        let hidden = hidden.map(|(_, commit)| *commit).collect();
        let options = WalkOptions { tips: vec![commit], hidden, ..WalkOptions::default() };
        let Ok(walk) = history.walk(&options) else { return Ok(false) };
        for walked in walk {
            let Ok(walked) = walked else { return Ok(false) };
            // The index may know the state of a commit that cannot be read.
            let record = history.read_commit(&walked.id);
            let state = record.ok().and_then(|_| self.state_of_commit(&walked.id).ok());
            let Some(state) = state else { return Ok(false) };
            if !self.state_is_whole(state, whole)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn state_is_whole(&self, id: StateId, whole: &mut Whole) -> Result<bool> {
        if let Some(known) = whole.states.get(&id) {
            return Ok(*known);
        }
        let found = match self.store.state(&id) {
            Ok(state) => match self.store.root(&state.root) {
                Ok(root) => self.nodes_are_whole(root.node, whole)?,
                Err(_) => false,
            },
            Err(_) => false,
        };
        whole.states.insert(id, found);
        Ok(found)
    }

    fn nodes_are_whole(&self, node: Node, whole: &mut Whole) -> Result<bool> {
        let mut entered = Vec::new();
        let found = self.look_through(node, whole, &mut entered)?;
        if !found {
            // What was entered may have what is missing somewhere below.
            whole.trees.retain(|tree| !entered.contains(tree));
        }
        Ok(found)
    }

    fn look_through(&self, node: Node, whole: &mut Whole, entered: &mut Vec<TreeId>) -> Result<bool> {
        let mut todo = vec![node];
        while let Some(node) = todo.pop() {
            match node {
                Node::File { blob, size, .. } => {
                    // Those with other bytes are gone by now.
                    let is_there = match whole.blobs.get(&blob) {
                        Some(known) => *known,
                        None => self.store.blob_len(&blob)? == Some(size),
                    };
                    whole.blobs.insert(blob, is_there);
                    if !is_there {
                        return Ok(false);
                    }
                }
                Node::Directory { tree, .. } if whole.trees.insert(tree) => {
                    entered.push(tree);
                    let Ok(directory) = self.store.directory(&tree) else { return Ok(false) };
                    todo.extend(directory.entries().iter().map(|(_, entry)| entry.node.clone()));
                }
                _ => {}
            }
        }
        Ok(true)
    }
}

/// Where a ref is that cannot be read.
const NOTHING: CommitId = CommitId::from_bytes([0; 20]);
