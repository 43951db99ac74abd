//! Going through three file systems at once, and through one side alone. Without recursion: a tree may be deeper than a thread's stack.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::{Merging, Three, has_links};
use crate::object::{DraftError, Entry, Name, Node, SourceError, TreeSource};

/// A directory whose names are being gone through.
struct Open {
    sides: [Option<Entry>; 3],
    names: [Peekable<IntoIter<(Name, Entry)>>; 3],
    /// How many conflicts there were before it.
    conflicts: usize,
}

impl Open {
    fn new(source: &dyn TreeSource, sides: Three<'_>, conflicts: usize) -> Result<Self, SourceError> {
        let [base, ours, theirs] = sides;
        let names = [names(source, base)?, names(source, ours)?, names(source, theirs)?];
        Ok(Self { sides: sides.map(|side| side.cloned()), names, conflicts })
    }

    /// The next name that any side has, and what each side has there.
    fn next(&mut self) -> Option<(Name, [Option<Entry>; 3])> {
        let name =
            self.names.iter_mut().filter_map(|names| names.peek()).map(|(name, _)| name).min()?.clone();
        let found = self.names.each_mut().map(|names| names.next_if(|(have, _)| *have == name));
        Some((name, found.map(|found| found.map(|(_, entry)| entry))))
    }
}

fn names(
    source: &dyn TreeSource,
    side: Option<&Entry>,
) -> Result<Peekable<IntoIter<(Name, Entry)>>, SourceError> {
    let entries = match side.map(|entry| &entry.node) {
        Some(Node::Directory { tree, .. }) => source.tree(tree)?.into_entries(),
        _ => Vec::new(),
    };
    Ok(entries.into_iter().peekable())
}

impl Merging<'_, '_> {
    /// Merges what is at the current path with all below it.
    pub(super) fn walk(&mut self, sides: Three<'_>) -> Result<(), DraftError> {
        if !self.entry(sides)? {
            return Ok(());
        }
        let mut open = vec![Open::new(self.source, sides, self.conflicts.len())?];
        while let Some(here) = open.last_mut() {
            let Some((name, sides)) = here.next() else {
                let before = here.conflicts;
                let sides = here.sides.clone();
                self.end_directory(sides.each_ref().map(Option::as_ref), before)?;
                open.pop();
                self.path.pop();
                continue;
            };
            self.path.push(name);
            let sides = sides.each_ref().map(Option::as_ref);
            if self.entry(sides)? {
                open.push(Open::new(self.source, sides, self.conflicts.len())?);
            } else {
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Makes a path as the other side has it.
    pub(super) fn take(&mut self, theirs: Option<&Entry>) -> Result<(), DraftError> {
        let Some(theirs) = theirs else { return self.draft.remove(&self.path).map(|_| ()) };
        if self.path.is_root() {
            // As ours was not changed, all in it becomes theirs.
            self.draft.clear(&self.path)?;
        } else {
            self.draft.remove(&self.path)?;
        }
        self.each_below(theirs, |merging, entry| match &entry.node {
            Node::File { .. } => {
                merging.put_leaf([None, None, Some(entry)], entry.meta.clone(), entry.node.clone())?;
                Ok(false)
            }
            Node::Directory { below, .. } if below.links > 0 || merging.path.is_root() => {
                merging.draft.put_directory(&merging.path, entry.meta.clone())?;
                Ok(true)
            }
            _ => merging.draft.put_entry(&merging.path, entry.clone()).map(|()| false),
        })
    }

    /// Notes the hard links of what stays as our side has it.
    pub(super) fn note_below(&mut self, kept: Option<&Entry>) -> Result<(), DraftError> {
        let Some(kept) = kept else { return Ok(()) };
        self.each_below(kept, |merging, entry| match &entry.node {
            _ if !has_links(Some(entry)) => Ok(false),
            Node::Directory { .. } => Ok(true),
            node => {
                merging.put_leaf([None, Some(entry), None], entry.meta.clone(), node.clone()).map(|()| false)
            }
        })
    }

    /// Visits an entry at the current path, and what is in it as long as the visitor says so.
    fn each_below(
        &mut self,
        entry: &Entry,
        mut visit: impl FnMut(&mut Self, &Entry) -> Result<bool, DraftError>,
    ) -> Result<(), DraftError> {
        let start = self.path.clone();
        let mut todo = vec![(start.clone(), entry.clone())];
        while let Some((path, entry)) = todo.pop() {
            self.path = path;
            if visit(self, &entry)? {
                let below = names(self.source, Some(&entry))?;
                todo.extend(below.map(|(name, entry)| (self.path.join(&name), entry)));
            }
        }
        self.path = start;
        Ok(())
    }
}
