//! Joining two file systems that came from one.
//!
//! [`merge`] puts into our side what the other side changed since the base. Where only one side changed a subtree nothing below is looked
//! at, so the cost follows the difference. `text.rs` joins texts, `attributes.rs` modes, owners and times, `walk.rs` goes through directories, `links.rs` hard links, `config.rs`
//! how commands run.
//!
//! # Rules
//! - A path that one side changed is as that side has it; what both changed in the same way is so.
//! - Content and each attribute merge for themselves. Text of both sides is joined line by line.
//! - A directory stays as long as something is left in it.
//! - Times never conflict. A file has the time of the side that changed its content, else of the side that changed the time; where both
//!   did, the later one.
//! - Which paths are one file merges pair by pair: what one side linked is linked, what one side took apart is apart. All paths of one file
//!   end with one content and one set of attributes, or they are a conflict.
//! - Everything else is a [`Conflict`]; the caller may settle each by a side.
//!
//! # Invariants
//! - Without conflicts the result does not depend on which side is called ours.
//! - The result has no path that neither side has.

mod attributes;
mod config;
mod links;
#[cfg(test)]
mod tests;
mod text;
mod walk;

pub use config::{ConfigConflict, merge_configs};
pub use text::merge_texts;

use super::diff::diff;
use super::draft::{Draft, DraftError, LinkKey, NewNode};
use super::id::{BlobId, LinkGroup, TreeId};
use super::lines::{MAX_TEXT_BYTES, is_text};
use super::meta::Meta;
use super::path::TreePath;
use super::tree::{Entry, Node, SourceError, TreeSource};
use attributes::{merge_attributes, merge_mtime};
use links::Linked;

/// One of the two file systems that are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The one that the other is merged into.
    Ours,
    /// The other one.
    Theirs,
}

/// Why two sides do not join at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConflictKind {
    /// Both changed the content, and it does not join.
    BothModified,
    /// Both changed the same attribute: mode, owner, group or an extended attribute.
    Attributes,
    /// One side changed what the other deleted.
    ModifyDelete,
    /// Both added different things.
    AddAdd,
    /// One side has a directory where the other has something else.
    FileDirectory,
    /// Paths that are to be one file differ.
    HardLinks,
}

impl ConflictKind {
    /// The word for it: both-modified, attributes, modify-delete, add-add, file-directory or hard-links.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BothModified => "both-modified",
            Self::Attributes => "attributes",
            Self::ModifyDelete => "modify-delete",
            Self::AddAdd => "add-add",
            Self::FileDirectory => "file-directory",
            Self::HardLinks => "hard-links",
        }
    }
}

/// A path at which two sides do not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub path: TreePath,
    /// Why.
    pub kind: ConflictKind,
    /// What was there before.
    pub base: Option<Entry>,
    /// What our side has there.
    pub ours: Option<Entry>,
    /// What the other side has there.
    pub theirs: Option<Entry>,
}

/// How a conflict is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// As one side has it. What did join stays joined.
    By(Side),
    /// By something that is neither side's, so that a later merge on top of it sees a change on every side. Only for a base that is itself
    /// a merge.
    Neither,
}

/// Where the contents of files are read and merged ones are put.
pub trait Contents {
    /// A whole content.
    fn read(&mut self, blob: &BlobId) -> Result<Vec<u8>, SourceError>;
    /// Keeps a content that merging made.
    fn write(&mut self, content: Vec<u8>) -> Result<BlobId, SourceError>;
}

/// Merges `theirs` into `ours`; without a base the two have nothing in common.
///
/// `settle` is asked about each conflict; those for which it knows nothing are given back, sorted by path. The draft is the
/// result only when there are none.
pub fn merge<'s>(
    source: &'s dyn TreeSource,
    base: Option<&Entry>,
    ours: (TreeId, &Entry),
    theirs: &Entry,
    contents: &mut dyn Contents,
    settle: &dyn Fn(&Conflict) -> Option<Settled>,
) -> Result<(Draft<'s>, Vec<Conflict>), DraftError> {
    let mut merging = Merging {
        source,
        draft: Draft::from_root(source, ours.0, ours.1.clone()),
        contents,
        settle,
        path: TreePath::root(),
        conflicts: Vec::new(),
        linked: Vec::new(),
    };
    merging.walk([base, Some(ours.1), Some(theirs)])?;
    merging.settle_links()?;
    merging.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((merging.draft, merging.conflicts))
}

/// What is at one path in the base, on our side and on the other.
type Three<'e> = [Option<&'e Entry>; 3];

struct Merging<'s, 'm> {
    source: &'s dyn TreeSource,
    /// Our side, with what was merged so far.
    draft: Draft<'s>,
    contents: &'m mut dyn Contents,
    settle: &'m dyn Fn(&Conflict) -> Option<Settled>,
    path: TreePath,
    conflicts: Vec<Conflict>,
    linked: Vec<Linked>,
}

/// The value on which a base and two sides agree: what both have, else what the side has that changed it.
fn three<'v, T: PartialEq + ?Sized>(base: Option<&T>, ours: &'v T, theirs: &'v T) -> Option<&'v T> {
    if ours == theirs || base == Some(theirs) {
        Some(ours)
    } else if base == Some(ours) {
        Some(theirs)
    } else {
        None
    }
}

fn link_of(entry: Option<&Entry>) -> Option<LinkGroup> {
    match entry?.node {
        Node::File { link, .. } => link,
        _ => None,
    }
}

fn is_directory(entry: Option<&Entry>) -> bool {
    matches!(entry, Some(Entry { node: Node::Directory { .. }, .. }))
}

/// Whether two nodes are the same content; which other paths are the same file is not looked at.
fn same_content(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::File { blob, .. }, Node::File { blob: other, .. }) => blob == other,
        _ => a == b,
    }
}

/// Whether an entry, or anything in or below a directory, is of a hard-linked file.
fn has_links(entry: Option<&Entry>) -> bool {
    match entry.map(|entry| &entry.node) {
        Some(Node::Directory { below, .. }) => below.links > 0,
        _ => link_of(entry).is_some(),
    }
}

impl Merging<'_, '_> {
    /// Merges what is at the current path; true when it is a directory in which the names have to be gone through.
    fn entry(&mut self, [base, ours, theirs]: Three<'_>) -> Result<bool, DraftError> {
        if ours == theirs || (theirs == base && !has_links(ours) && !has_links(theirs)) {
            return Ok(false);
        }
        if ours == base && !has_links(ours) && !has_links(theirs) {
            self.take(theirs)?;
            return Ok(false);
        }
        match [base, ours, theirs].map(is_directory) {
            [_, true, true] => return self.begin_directory([base, ours, theirs]),
            [true, true, false] if theirs.is_none() => return self.begin_directory([base, ours, theirs]),
            [true, false, true] if ours.is_none() => return self.begin_directory([base, ours, theirs]),
            are_directories => self.others(are_directories, [base, ours, theirs])?,
        }
        Ok(false)
    }

    /// What is not a directory on both sides, nor one that one side deleted.
    fn others(
        &mut self,
        [base_is, ours_is, theirs_is]: [bool; 3],
        [base, ours, theirs]: Three<'_>,
    ) -> Result<(), DraftError> {
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if !ours_is && !theirs_is => {
                self.leaves(base.filter(|_| !base_is), ours, theirs)
            }
            (Some(_), Some(_)) => self.directory_and_other([base, ours, theirs]),
            (Some(kept), None) => match base {
                Some(base) if base_is == ours_is => self.deleted(base, kept, [Some(base), ours, theirs]),
                // What was there before is gone on both sides.
                _ => self.note_below(ours),
            },
            (None, Some(kept)) => match base {
                Some(base) if base_is == theirs_is => self.deleted(base, kept, [Some(base), ours, theirs]),
                _ => self.take(theirs),
            },
            (None, None) => Ok(()),
        }
    }

    /// Something that is no directory, and that one side deleted.
    fn deleted(&mut self, base: &Entry, kept: &Entry, sides: Three<'_>) -> Result<(), DraftError> {
        if same_content(&base.node, &kept.node) && base.meta.same_but_time(&kept.meta) {
            if sides[1].is_some() {
                self.draft.remove(&self.path)?;
            }
            return Ok(());
        }
        self.conflict(ConflictKind::ModifyDelete, sides)
    }

    /// A directory on one side and something else on the other.
    fn directory_and_other(&mut self, [base, ours, theirs]: Three<'_>) -> Result<(), DraftError> {
        if self.is_as_before(base, ours)? {
            return self.take(theirs);
        }
        if self.is_as_before(base, theirs)? {
            return self.note_below(ours);
        }
        self.conflict(ConflictKind::FileDirectory, [base, ours, theirs])
    }

    /// Whether nothing changed at or below here; times and links alone are nothing.
    fn is_as_before(&self, base: Option<&Entry>, side: Option<&Entry>) -> Result<bool, SourceError> {
        let (Some(base), Some(side)) = (base, side) else { return Ok(false) };
        let mut same = true;
        let walked = diff(self.source, base, side, &mut |change| {
            same = match (&change.old, &change.new) {
                (Some(old), Some(new)) => {
                    let both = is_directory(Some(old)) && is_directory(Some(new));
                    (both || same_content(&old.node, &new.node)) && old.meta.same_but_time(&new.meta)
                }
                _ => false,
            };
            if same { Ok(()) } else { Err(SourceError("enough is known".into())) }
        });
        if same {
            walked?;
        }
        Ok(same)
    }

    /// Directories on both sides, or one that the other side deleted; true when the names in it have to be gone through.
    fn begin_directory(&mut self, [base, ours, theirs]: Three<'_>) -> Result<bool, DraftError> {
        if let (None, Some(theirs)) = (ours, theirs) {
            // There for what is merged in it; it goes again when nothing is.
            self.draft.put_directory(&self.path, theirs.meta.clone())?;
        }
        if self.settled_by_id([base, ours, theirs])? {
            self.end_directory([base, ours, theirs], self.conflicts.len())?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The directory itself, after what is in it. `before` is how many conflicts there were before that.
    fn end_directory(&mut self, [base, ours, theirs]: Three<'_>, before: usize) -> Result<(), DraftError> {
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                self.directory_attributes(base.filter(|base| is_directory(Some(base))), ours, theirs)
            }
            (Some(kept), None) | (None, Some(kept)) => {
                let left = self.draft.names(&self.path)?.is_some_and(|names| !names.is_empty());
                if left || self.conflicts.len() > before {
                    return Ok(());
                }
                match base {
                    Some(base) if !base.meta.same_but_time(&kept.meta) => {
                        self.conflict(ConflictKind::ModifyDelete, [Some(base), ours, theirs])
                    }
                    _ => self.draft.remove(&self.path).map(|_| ()),
                }
            }
            (None, None) => Ok(()),
        }
    }

    /// Merges what is in two directories by its id alone, when only one side changed it; whether that was so.
    fn settled_by_id(&mut self, [base, ours, theirs]: Three<'_>) -> Result<bool, DraftError> {
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return Ok(false) };
        if same_content(&ours.node, &theirs.node) {
            return Ok(true);
        }
        let base = base.map(|base| &base.node);
        if has_links(Some(ours)) || has_links(Some(theirs)) {
            return Ok(false);
        }
        if base == Some(&ours.node) && !self.path.is_root() {
            self.draft.put_entry(&self.path, Entry { meta: ours.meta.clone(), node: theirs.node.clone() })?;
            return Ok(true);
        }
        Ok(base == Some(&theirs.node))
    }

    fn directory_attributes(
        &mut self,
        base: Option<&Entry>,
        ours: &Entry,
        theirs: &Entry,
    ) -> Result<(), DraftError> {
        let old = base.map(|base| &base.meta);
        let mtime = merge_mtime(old, &ours.meta, &theirs.meta, [false, false]);
        let merged = merge_attributes(old, &ours.meta, &theirs.meta, None);
        let mut meta = match merged {
            Some(meta) => meta,
            None => match self.settled(ConflictKind::Attributes, [base, Some(ours), Some(theirs)]) {
                None => return Ok(()),
                Some(Settled::Neither) => nobody(),
                Some(Settled::By(side)) => {
                    merge_attributes(old, &ours.meta, &theirs.meta, Some(side)).expect("a side settles all")
                }
            },
        };
        meta.mtime = mtime;
        if meta != ours.meta {
            self.draft.set_meta(&self.path, meta)?;
        }
        Ok(())
    }

    /// Two entries of which none is a directory.
    fn leaves(&mut self, base: Option<&Entry>, ours: &Entry, theirs: &Entry) -> Result<(), DraftError> {
        let sides = [base, Some(ours), Some(theirs)];
        let changed =
            [ours, theirs].map(|side| base.is_none_or(|base| !same_content(&base.node, &side.node)));
        let old = base.map(|base| &base.meta);
        let content = if same_content(&ours.node, &theirs.node) || !changed[1] {
            Some(ours.node.clone())
        } else if !changed[0] {
            Some(theirs.node.clone())
        } else {
            self.joined(sides)?
        };
        let attributes = merge_attributes(old, &ours.meta, &theirs.meta, None);
        let kind = match (&content, &attributes, base) {
            (Some(_), Some(_), _) => None,
            (None, _, Some(_)) => Some(ConflictKind::BothModified),
            (_, _, None) => Some(ConflictKind::AddAdd),
            (Some(_), None, Some(_)) => Some(ConflictKind::Attributes),
        };
        let settled = match kind {
            None => None,
            Some(kind) => match self.settled(kind, sides) {
                None => return Ok(()),
                Some(Settled::Neither) => return self.put_neither(sides),
                Some(Settled::By(side)) => Some(side),
            },
        };
        let chosen = if settled == Some(Side::Theirs) { theirs } else { ours };
        let mtime = match &content {
            Some(_) => merge_mtime(old, &ours.meta, &theirs.meta, changed),
            None => chosen.meta.mtime,
        };
        let mut meta = attributes
            .or_else(|| merge_attributes(old, &ours.meta, &theirs.meta, settled))
            .expect("nothing is open, or a side settles it");
        meta.mtime = mtime;
        let node = content.unwrap_or_else(|| chosen.node.clone());
        self.put_leaf(sides, meta, node)
    }

    /// The content in which the changes of both sides are, when they join.
    fn joined(&mut self, sides: Three<'_>) -> Result<Option<Node>, DraftError> {
        let mut contents = Vec::with_capacity(3);
        for side in sides {
            match side.map(|entry| &entry.node) {
                Some(Node::File { blob, size, .. }) if *size <= MAX_TEXT_BYTES as u64 => {
                    contents.push(self.contents.read(blob)?);
                }
                _ => return Ok(None),
            }
        }
        let [base, ours, theirs] = [&contents[0], &contents[1], &contents[2]];
        if ![base, ours, theirs].into_iter().all(|content| is_text(content)) {
            return Ok(None);
        }
        let Some(merged) = merge_texts(base, ours, theirs) else { return Ok(None) };
        let size = merged.len() as u64;
        Ok(Some(Node::File { blob: self.contents.write(merged)?, size, link: None }))
    }

    fn settled(&mut self, kind: ConflictKind, [base, ours, theirs]: Three<'_>) -> Option<Settled> {
        let [base, ours, theirs] = [base, ours, theirs].map(|side| side.cloned());
        let conflict = Conflict { path: self.path.clone(), kind, base, ours, theirs };
        let settled = (self.settle)(&conflict);
        if settled.is_none() {
            self.conflicts.push(conflict);
        }
        settled
    }

    /// A conflict in which nothing joined: settled by one side it is as that side has it.
    fn conflict(&mut self, kind: ConflictKind, sides: Three<'_>) -> Result<(), DraftError> {
        match self.settled(kind, sides) {
            None => Ok(()),
            Some(Settled::By(Side::Ours)) if sides[1].is_none() => self.take(None),
            Some(Settled::By(Side::Ours)) => self.note_below(sides[1]),
            Some(Settled::By(Side::Theirs)) => self.take(sides[2]),
            Some(Settled::Neither) => self.put_neither(sides),
        }
    }

    /// A file that no side has and none will have.
    fn put_neither(&mut self, [_, ours, theirs]: Three<'_>) -> Result<(), DraftError> {
        let content = format!("{}\n{ours:?}\n{theirs:?}\n", self.path).into_bytes();
        let size = content.len() as u64;
        let blob = self.contents.write(content)?;
        self.draft.put(&self.path, nobody(), NewNode::File { blob, size, link: None })
    }

    /// Places what was merged at a path, unless our side has it already.
    fn put_leaf(&mut self, sides: Three<'_>, meta: Meta, node: Node) -> Result<(), DraftError> {
        let [ours, theirs] = [sides[1], sides[2]].map(link_of);
        if let Node::File { blob, size, .. } = node {
            let link = ours.filter(|_| ours == theirs).map(LinkKey::Stored);
            if ours.is_some() || theirs.is_some() {
                self.linked.push(Linked::new(self.path.clone(), sides, (meta.clone(), blob, size)));
            }
            let same = sides[1].is_some_and(|ours| ours.meta == meta && same_content(&ours.node, &node));
            // Links are settled when all of them are known.
            return if same {
                Ok(())
            } else {
                self.draft.put(&self.path, meta, NewNode::File { blob, size, link })
            };
        }
        if sides[1].is_some_and(|ours| ours.meta == meta && ours.node == node) {
            return Ok(());
        }
        self.draft.put_entry(&self.path, Entry { meta, node })
    }
}

/// Attributes that nothing has.
fn nobody() -> Meta {
    Meta { uid: u32::MAX, gid: u32::MAX, ..Meta::root_owned(0, Default::default()) }
}
