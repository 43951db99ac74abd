//! Which commit last wrote what: lines of a text, a file, the entries of a directory.
//!
//! One walk from the newest commit back. What is looked for is passed to the parent that has it already; what no parent has is the commit's
//! own. A commit that did not touch the path costs a few look-ups, since equal directories are known by their ids.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::compare::Content;
use super::core::Core;
use super::error::{Error, Result};
use super::place::Place;
use super::types::CommitInfo;
use crate::history::{Order, WalkOptions};
use crate::object::{
    BlobId, CommitId, Entry, Kind, LineRun, Name, Node, Tree, TreePath, TreeSource as _, line_hunks, lines,
    pass_lines,
};

/// Who wrote what is at a path.
#[derive(Debug, Clone)]
pub struct Blame {
    /// The path, symlinks followed.
    pub path: TreePath,
    /// Who wrote it.
    pub what: Blamed,
    /// The commits that are named.
    pub commits: HashMap<CommitId, CommitInfo>,
}

/// Who wrote something.
#[derive(Debug, Clone)]
pub enum Blamed {
    /// A text, line by line.
    Lines(Vec<BlamedLine>),
    /// A file that has no lines: the commit that last wrote its content, and the path it had there.
    File(CommitId, TreePath),
    /// A directory: every entry with the commit that last changed something at or below it.
    Directory(Vec<BlamedEntry>),
}

/// A line and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlamedLine {
    /// Its number, from 1.
    pub number: usize,
    /// Its text, with its newline if it has one.
    pub text: Vec<u8>,
    /// The commit that wrote it.
    pub commit: CommitId,
    /// The file's path in that commit.
    pub path: TreePath,
    /// Its number in that commit, from 1.
    pub original: usize,
}

/// An entry of a directory and who changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlamedEntry {
    /// Its path.
    pub path: TreePath,
    /// What is there.
    pub entry: Entry,
    /// The commit that last changed it.
    pub commit: CommitId,
}

/// A file some lines of which are looked for, as a commit has it.
struct Suspect {
    path: TreePath,
    place: Place,
    runs: Vec<LineRun>,
}

/// Entries of a directory that are looked for, as a commit has it.
struct Listing {
    place: Place,
    tree: Arc<Tree>,
    names: Vec<Name>,
}

/// Texts that were compared last; a file is compared with its parents' one after the other.
const MAX_TEXTS: usize = 8;

/// Follows the lines of one file.
struct Search<'c> {
    core: &'c Core,
    /// Whether lines can be told apart; else the file is one piece.
    by_line: bool,
    texts: HashMap<BlobId, Option<Arc<Vec<u8>>>>,
    pending: HashMap<CommitId, Vec<Suspect>>,
    found: Vec<(CommitId, TreePath, LineRun)>,
}

impl Core {
    pub(super) fn blame(self: &Arc<Self>, text: &str, only: Option<&RangeInclusive<usize>>) -> Result<Blame> {
        let (state, path) = self.resolve_path(text)?;
        let commit = self.name(&state)?;
        let (path, entry) = self.find(&state, &path, true)?;
        let what = match &entry.node {
            Node::Directory { .. } if only.is_none() => {
                Blamed::Directory(self.blame_directory(commit, &path)?)
            }
            Node::File { blob, .. } => self.blame_file(commit, &path, *blob, &entry, only)?,
            node => {
                return Err(Error::invalid(match node.kind() {
                    Kind::Directory => format!("{path} is a directory: only a file has lines"),
                    kind => {
                        format!("{path} is a {}: only files and directories can be blamed", kind.as_str())
                    }
                }));
            }
        };
        let refs = self.refs_by_commit()?;
        let named: Vec<CommitId> = match &what {
            Blamed::Lines(lines) => lines.iter().map(|line| line.commit).collect(),
            Blamed::File(commit, _) => vec![*commit],
            Blamed::Directory(entries) => entries.iter().map(|one| one.commit).collect(),
        };
        let distinct: HashSet<CommitId> = named.into_iter().collect();
        let told = distinct.into_iter().map(|commit| Ok((commit, self.commit_info(commit, &refs)?.0)));
        let commits = told.collect::<Result<_>>()?;
        Ok(Blame { path, what, commits })
    }

    fn blame_file(
        &self,
        commit: CommitId,
        path: &TreePath,
        blob: BlobId,
        entry: &Entry,
        only: Option<&RangeInclusive<usize>>,
    ) -> Result<Blamed> {
        let content = self.content_of(Some(&entry.node));
        let text = match content.map_err(|error| error.met_at(format!("{}:{path}", commit.short())))? {
            Content::Text(text) if !text.is_empty() => Some(Arc::new(text)),
            _ => None,
        };
        let all = text.as_ref().map_or_else(Vec::new, |text| lines(text));
        if only.is_some() && all.is_empty() {
            return Err(Error::invalid(format!("{path} is no text: it has no lines")));
        }
        let (start, end) = match only {
            Some(range)
                if *range.start() == 0 || range.start() > range.end() || *range.start() > all.len() =>
            {
                return Err(Error::invalid(format!(
                    "{path} has {} lines, and {},{} are none of them",
                    all.len(),
                    range.start(),
                    range.end()
                )));
            }
            Some(range) => (range.start() - 1, all.len().min(*range.end())),
            None => (0, all.len().max(1)),
        };
        let place = self.place(&self.tree_of_commit(&commit)?, path, None)?;
        let place = place.ok_or_else(|| Error::not_found(format!("{path} is not in {}", commit.short())))?;
        let runs = vec![LineRun { first: start, here: start, len: end - start }];
        let mut search = Search {
            core: self,
            by_line: text.is_some(),
            texts: HashMap::from([(blob, text.clone())]),
            pending: HashMap::from([(commit, vec![Suspect { path: path.clone(), place, runs }])]),
            found: Vec::new(),
        };
        search.run()?;
        search.found.sort_by_key(|(_, _, run)| run.first);
        if text.is_none() {
            let (commit, path, _) = search.found.pop().expect("a file was written by some commit");
            return Ok(Blamed::File(commit, path));
        }
        let mut blamed = Vec::with_capacity(end - start);
        for (commit, path, run) in &search.found {
            blamed.extend((0..run.len).map(|at| BlamedLine {
                number: run.first + at + 1,
                text: all[run.first + at].to_vec(),
                commit: *commit,
                path: path.clone(),
                original: run.here + at + 1,
            }));
        }
        Ok(Blamed::Lines(blamed))
    }

    fn blame_directory(&self, commit: CommitId, path: &TreePath) -> Result<Vec<BlamedEntry>> {
        let start = self.place(&self.tree_of_commit(&commit)?, path, None)?;
        let start = start.ok_or_else(|| Error::not_found(format!("{path} is not in {}", commit.short())))?;
        let entries = self.directory(&start)?;
        let names: Vec<Name> = entries.entries().iter().map(|(name, _)| name.clone()).collect();
        let mut found: HashMap<Name, CommitId> = HashMap::new();
        let wanted = Listing { place: start, tree: Arc::clone(&entries), names };
        let mut pending = HashMap::from([(commit, wanted)]);
        self.back(&mut pending, |commit, parents, here: Listing, pending| {
            let mut names = here.names;
            for parent in parents {
                let root = self.tree_of_commit(parent)?;
                let Some(place) = self.place(&root, path, Some(&here.place))? else { continue };
                let (tree, passed) = if place.entry.node == here.place.entry.node {
                    (Arc::clone(&here.tree), std::mem::take(&mut names))
                } else {
                    let tree = self.directory(&place)?;
                    let (mut passed, mut kept) = (Vec::new(), Vec::new());
                    for name in names {
                        let same = !self.differ(tree.get(&name), here.tree.get(&name))?;
                        if same { passed.push(name) } else { kept.push(name) }
                    }
                    names = kept;
                    (tree, passed)
                };
                if !passed.is_empty() {
                    let there = Listing { place, tree, names: Vec::new() };
                    pending.entry(*parent).or_insert(there).names.extend(passed);
                }
            }
            found.extend(names.into_iter().map(|name| (name, commit)));
            Ok(())
        })?;
        let blamed = entries.entries().iter().filter_map(|(name, entry)| {
            Some(BlamedEntry { path: path.join(name), commit: *found.get(name)?, entry: entry.clone() })
        });
        Ok(blamed.collect())
    }

    /// Goes back through history, newest first, as long as something is looked for.
    fn back<T>(
        &self,
        pending: &mut HashMap<CommitId, T>,
        mut visit: impl FnMut(CommitId, &[CommitId], T, &mut HashMap<CommitId, T>) -> Result<()>,
    ) -> Result<()> {
        // Dates of commits made here grow from parent to child, so one walk meets every parent after its children. Others' commits may
        // have other dates: what was passed to a commit that had been seen by then is looked for from there.
        while !pending.is_empty() {
            let options = WalkOptions {
                tips: pending.keys().copied().collect(),
                order: Order::Time,
                ..WalkOptions::default()
            };
            for walked in self.history()?.walk(&options)? {
                let walked = walked?;
                if let Some(wanted) = pending.remove(&walked.id) {
                    visit(walked.id, &walked.parents, wanted, pending)?;
                }
                if pending.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn directory(&self, place: &Place) -> Result<Arc<Tree>> {
        match &place.entry.node {
            Node::Directory { tree, .. } => Ok(Arc::new(self.store.tree(tree)?)),
            _ => Ok(Arc::default()),
        }
    }
}

fn blob_of(place: &Place) -> Option<BlobId> {
    match place.entry.node {
        Node::File { blob, .. } => Some(blob),
        _ => None,
    }
}

impl Search<'_> {
    fn run(&mut self) -> Result<()> {
        let core = self.core;
        let mut pending = std::mem::take(&mut self.pending);
        core.back(&mut pending, |commit, parents, suspects, pending| {
            for suspect in suspects {
                self.look(commit, parents, suspect, pending)?;
            }
            Ok(())
        })
    }

    /// Passes what a parent has to it; the rest is the commit's own.
    fn look(
        &mut self,
        commit: CommitId,
        parents: &[CommitId],
        suspect: Suspect,
        pending: &mut HashMap<CommitId, Vec<Suspect>>,
    ) -> Result<()> {
        let Suspect { path, place, mut runs } = suspect;
        let blob = blob_of(&place);
        let mut there = Vec::new();
        for parent in parents {
            let found = self.core.place(&self.core.tree_of_commit(parent)?, &path, Some(&place))?;
            match found {
                // The very same file: whatever is looked for, it is older.
                Some(found) if blob_of(&found) == blob => {
                    pass(pending, *parent, Suspect { path, place: found, runs });
                    return Ok(());
                }
                found => there.push((*parent, found.filter(|found| blob_of(found).is_some()))),
            }
        }
        for (parent, _) in there.iter().filter(|(_, found)| found.is_none()) {
            if let Some((path, place)) = self.moved_from(parent, commit, blob)? {
                pass(pending, *parent, Suspect { path, place, runs });
                return Ok(());
            }
        }
        for (parent, found) in there {
            let (Some(found), Some(new), true) = (found, blob, self.by_line) else { continue };
            let Some(old) = blob_of(&found) else { continue };
            let (Some(old), Some(new)) = (self.text(old, &found)?, self.text(new, &place)?) else { continue };
            let (passed, kept) = pass_lines(&runs, &line_hunks(&old, &new));
            if !passed.is_empty() {
                pass(pending, parent, Suspect { path: path.clone(), place: found, runs: passed });
            }
            runs = kept;
        }
        self.found.extend(runs.into_iter().map(|run| (commit, path.clone(), run)));
        Ok(())
    }

    /// Where a file that a parent does not have at its path was in that parent, when it is gone from there.
    fn moved_from(
        &self,
        parent: &CommitId,
        commit: CommitId,
        blob: Option<BlobId>,
    ) -> Result<Option<(TreePath, Place)>> {
        let (old, new) = (self.core.tree_of_commit(parent)?, self.core.tree_of_commit(&commit)?);
        let mut from = None;
        self.core.each_change(&old, &new, &mut |change| {
            if let (Some(Node::File { blob: gone, size: 1.., .. }), None) =
                (change.old.as_ref().map(|old| &old.node), &change.new)
                && Some(*gone) == blob
            {
                from = Some(change.path);
            }
            from.is_none()
        })?;
        let Some(path) = from else { return Ok(None) };
        Ok(self.core.place(&old, &path, None)?.map(|place| (path, place)))
    }

    fn text(&mut self, blob: BlobId, place: &Place) -> Result<Option<Arc<Vec<u8>>>> {
        if let Some(text) = self.texts.get(&blob) {
            return Ok(text.clone());
        }
        if self.texts.len() >= MAX_TEXTS {
            self.texts.clear();
        }
        let text = match self.core.content_of(Some(&place.entry.node))? {
            Content::Text(text) => Some(Arc::new(text)),
            _ => None,
        };
        self.texts.insert(blob, text.clone());
        Ok(text)
    }
}

fn pass(pending: &mut HashMap<CommitId, Vec<Suspect>>, parent: CommitId, suspect: Suspect) {
    let there = pending.entry(parent).or_default();
    match there.iter_mut().find(|known| known.path == suspect.path) {
        Some(known) => known.runs.extend(suspect.runs),
        None => there.push(suspect),
    }
}

impl super::blocking::Engine {
    /// Which commit last wrote what `REV:/path` names: each line of a text, or only those of a range counted from 1; the file, where it is
    /// no text; each entry of a directory.
    ///
    /// A file that was moved is followed where the bytes are gone from their old path.
    pub fn blame(&self, place: &str, lines: Option<RangeInclusive<usize>>) -> Result<Blame> {
        self.core.blame(place, lines.as_ref())
    }
}
