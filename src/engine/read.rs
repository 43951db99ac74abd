//! Reading and comparing states without running anything.

use std::collections::HashMap;
use std::io::Read;

use super::core::Core;
use super::error::{Error, Result};
use super::outcome::ChangeCounts;
use super::state::State;
use super::types::Listed;
use crate::object::{
    Change, ChangeKind, Entry, Kind, LinkGroup, Node, SourceError, TreeId, TreePath, TreeSource, diff,
    resolve,
};
use crate::store::BlobReader;

impl ChangeCounts {
    pub(super) fn add(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Added => self.added += 1,
            ChangeKind::Modified => self.modified += 1,
            ChangeKind::Deleted => self.deleted += 1,
        }
    }
}

impl Core {
    /// Calls `visit` for every change between two root trees until it says stop; directories of which only the time differs are passed over.
    pub(super) fn each_change(
        &self,
        old: &TreeId,
        new: &TreeId,
        visit: &mut dyn FnMut(Change) -> bool,
    ) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let (old, new) = (self.store.root(old)?, self.store.root(new)?);
        let mut stopped = false;
        let walked = diff(&self.store, &old, &new, &mut |change| {
            if change.is_directory_time_only() || visit(change) {
                return Ok(());
            }
            stopped = true;
            Err(SourceError("stopped".into()))
        });
        if stopped { Ok(()) } else { Ok(walked?) }
    }

    pub(super) fn count_changes(&self, old: &TreeId, new: &TreeId) -> Result<ChangeCounts> {
        let mut counts = ChangeCounts::default();
        self.each_change(old, new, &mut |change| {
            counts.add(change.kind());
            true
        })?;
        Ok(counts)
    }

    /// Whether two trees differ in nothing but modification times.
    pub(super) fn differ_in_times_only(&self, old: &TreeId, new: &TreeId) -> Result<bool> {
        let mut only = true;
        self.each_change(old, new, &mut |change| {
            only = match (&change.old, &change.new) {
                (Some(old), Some(new)) => old.meta.same_but_time(&new.meta) && new.node == old.node,
                _ => false,
            };
            only
        })?;
        Ok(only)
    }

    pub(super) fn diff(&self, old: &State, new: &State, paths: &[TreePath]) -> Result<Vec<Change>> {
        self.changes_at(old, new, paths, false)
    }

    /// What differs at or below any of the paths (all when empty); directories of which only the time differs if `directory_times` says so.
    pub(super) fn changes_at(
        &self,
        old: &State,
        new: &State,
        paths: &[TreePath],
        directory_times: bool,
    ) -> Result<Vec<Change>> {
        let (left, right) = (old.tree(), new.tree());
        let mut changes = Vec::new();
        if left == right {
            return Ok(changes);
        }
        diff(&self.store, &self.store.root(&left)?, &self.store.root(&right)?, &mut |change| {
            let wanted = paths.is_empty() || paths.iter().any(|path| change.path.starts_with(path));
            if wanted && (directory_times || !change.is_directory_time_only()) {
                changes.push(change);
            }
            Ok(())
        })?;
        Ok(changes)
    }

    /// The real path and entry, symlinks followed; the last one only with `follow`.
    pub(super) fn find(&self, state: &State, path: &TreePath, follow: bool) -> Result<(TreePath, Entry)> {
        Ok(resolve(&self.store, &self.store.root(&state.tree())?, path, follow)?)
    }

    pub(super) fn entry(&self, state: &State, path: &TreePath) -> Result<Listed> {
        let (path, entry) = self.find(state, path, false)?;
        let mut listed = [Listed { path, entry, links: 1 }];
        self.count_links(state, &mut listed)?;
        let [listed] = listed;
        Ok(listed)
    }

    pub(super) fn list(&self, state: &State, path: &TreePath, recursive: bool) -> Result<Vec<Listed>> {
        let (path, entry) = self.find(state, path, true)?;
        let mut listed = Vec::new();
        match &entry.node {
            Node::Directory { tree, .. } => self.list_below(&path, tree, recursive, &mut listed)?,
            _ => listed.push(Listed { path, entry, links: 1 }),
        }
        self.count_links(state, &mut listed)?;
        Ok(listed)
    }

    /// Counts the paths of the whole state that are the same file; reads no tree when no listed file has more than one.
    fn count_links(&self, state: &State, listed: &mut [Listed]) -> Result<()> {
        let group = |entry: &Entry| match entry.node {
            Node::File { link, .. } => link,
            _ => None,
        };
        let mut counts: HashMap<LinkGroup, u64> = HashMap::new();
        counts.extend(listed.iter().filter_map(|one| Some((group(&one.entry)?, 0))));
        // Directories without links below are passed by.
        let mut todo =
            if counts.is_empty() { Vec::new() } else { vec![self.store.root(&state.tree())?.node] };
        while let Some(node) = todo.pop() {
            let Node::Directory { tree, below } = node else { continue };
            if below.links == 0 {
                continue;
            }
            for (_, entry) in self.store.tree(&tree)?.into_entries() {
                if let Some(count) = group(&entry).and_then(|group| counts.get_mut(&group)) {
                    *count += 1;
                }
                todo.push(entry.node);
            }
        }
        for one in listed {
            one.links = group(&one.entry).and_then(|group| counts.get(&group).copied()).unwrap_or(1);
        }
        Ok(())
    }

    fn list_below(
        &self,
        path: &TreePath,
        tree: &TreeId,
        recursive: bool,
        listed: &mut Vec<Listed>,
    ) -> Result<()> {
        for (name, entry) in self.store.tree(tree)?.into_entries() {
            let path = path.join(&name);
            let below = match &entry.node {
                Node::Directory { tree, .. } if recursive => Some(*tree),
                _ => None,
            };
            listed.push(Listed { path: path.clone(), entry, links: 1 });
            if let Some(tree) = below {
                self.list_below(&path, &tree, recursive, listed)?;
            }
        }
        Ok(())
    }

    pub(super) fn open_file(&self, state: &State, path: &TreePath) -> Result<BlobReader> {
        let (real, entry) = self.find(state, path, true)?;
        match entry.node {
            Node::File { blob, .. } => {
                let place = || format!("{}:{real}", state.label());
                let reader = self.store.open_blob(&blob);
                Ok(reader.map_err(|error| Error::from(error).met_at(place()))?.met_at(place()))
            }
            node => Err(Error::invalid(match node.kind() {
                Kind::Directory => format!("{real} is a directory: `treebox ls` lists it"),
                kind => format!("{real} is a {}, not a regular file", kind.as_str()),
            })),
        }
    }

    pub(super) fn read_file(&self, state: &State, path: &TreePath) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open_file(state, path)?.read_to_end(&mut bytes);
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => Error::Damaged(error.to_string()),
            _ => Error::disk("read", path.to_string(), error),
        })?;
        Ok(bytes)
    }
}
