//! Placing entries into a draft as `cp -r` and `tar -x` do in a running system.

use super::draft::{Draft, DraftError, NewNode};
use super::lookup::MAX_SYMLINKS;
use super::meta::Meta;
use super::name::Name;
use super::path::TreePath;
use super::tree::Kind;

/// Why an entry cannot be placed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlacingError {
    /// A directory is where something else should go; nothing below it is thrown away unasked.
    #[error("{path}: a directory is there, and a {new} cannot replace it", new = new.as_str())]
    Directory {
        /// Where.
        path: TreePath,
        /// What should go there.
        new: Kind,
    },
    /// Something that is no directory is where a directory is needed.
    #[error("{0}: it is there and is not a directory")]
    NotADirectory(TreePath),
    /// More symlinks on the way than are followed.
    #[error("too many symbolic links on the way to {0}")]
    TooManyLinks(TreePath),
    /// The draft does not take it.
    #[error(transparent)]
    Draft(#[from] DraftError),
}

impl From<super::tree::SourceError> for PlacingError {
    fn from(error: super::tree::SourceError) -> Self {
        Self::Draft(error.into())
    }
}

/// What becomes of the attributes of a directory that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stay, as with `cp -r`.
    Kept,
    /// The new ones take their place, as with `tar -x`.
    Replaced,
}

/// Places entries one after the other.
///
/// Symlinks on the way are followed as if the draft's root were `/`, so that `bin/x` lands in `/usr/bin` where `/bin` is a link to it, and
/// a directory goes into the directory that a link of its name leads to. The last name of anything else is not followed. A directory never
/// replaces something else, nor the other way round.
pub struct Placing<'d, 's> {
    draft: &'d mut Draft<'s>,
    /// What a directory gets that nobody describes.
    implied: Meta,
    /// The parent that the last entry was written with, and where that is: most entries share it with the one before.
    parent: Option<(TreePath, TreePath)>,
}

impl<'d, 's> Placing<'d, 's> {
    /// Placing into a draft; directories on the way that are not there get `implied`.
    pub fn new(draft: &'d mut Draft<'s>, implied: Meta) -> Self {
        Self { draft, implied, parent: None }
    }

    /// The draft.
    pub fn draft(&mut self) -> &mut Draft<'s> {
        self.draft
    }

    /// Places a directory.
    pub fn directory(&mut self, path: &TreePath, meta: Meta, existing: Existing) -> Result<(), PlacingError> {
        let beside = self.beside(path)?;
        let real = match self.draft.get(&beside)? {
            Some((_, Kind::Symlink)) => self.follow(&beside)?,
            _ => beside,
        };
        match self.draft.get(&real)? {
            None => {
                self.make_parents(&real)?;
                self.draft.put_directory(&real, meta)?;
            }
            Some((_, Kind::Directory)) if existing == Existing::Kept => {}
            Some((_, Kind::Directory)) => self.draft.set_meta(&real, meta)?,
            Some(_) => return Err(PlacingError::NotADirectory(real)),
        }
        Ok(())
    }

    /// Places something that is no directory; what is there and is none either is replaced.
    pub fn leaf(&mut self, path: &TreePath, meta: Meta, node: NewNode) -> Result<(), PlacingError> {
        let real = self.free(path, node.kind())?;
        Ok(self.draft.put(&real, meta, node)?)
    }

    /// Makes a path the same file as another one.
    pub fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), PlacingError> {
        let target = self.beside(target)?;
        let real = self.free(path, Kind::File)?;
        Ok(self.draft.hard_link(&real, &target)?)
    }

    /// The real path of something that is to be no directory.
    fn free(&mut self, path: &TreePath, new: Kind) -> Result<TreePath, PlacingError> {
        let real = self.beside(path)?;
        self.make_parents(&real)?;
        match self.draft.get(&real)? {
            Some((_, Kind::Directory)) => Err(PlacingError::Directory { path: real, new }),
            _ => Ok(real),
        }
    }

    fn make_parents(&mut self, real: &TreePath) -> Result<(), PlacingError> {
        let Some((mut parent, _)) = real.split_last() else { return Ok(()) };
        loop {
            match self.draft.get(&parent)? {
                Some((_, Kind::Directory)) => break,
                Some(_) => return Err(PlacingError::NotADirectory(parent)),
                None => parent.pop(),
            };
        }
        Ok(self.draft.make_parents(real, &self.implied)?)
    }

    /// The path with all but its last name followed.
    fn beside(&mut self, path: &TreePath) -> Result<TreePath, PlacingError> {
        let Some((parent, name)) = path.split_last() else { return Ok(path.clone()) };
        if let Some((written, real)) = &self.parent
            && *written == parent
        {
            return Ok(real.join(name));
        }
        let real = self.follow(&parent)?;
        let joined = real.join(name);
        // A directory stays where it is, whatever is placed; what is not there yet could become a link.
        if matches!(self.draft.get(&real)?, Some((_, Kind::Directory))) {
            self.parent = Some((parent, real));
        }
        Ok(joined)
    }

    /// Where a path leads; names that are not there are taken as they are.
    fn follow(&mut self, path: &TreePath) -> Result<TreePath, PlacingError> {
        let mut real = TreePath::root();
        let mut todo: Vec<Vec<u8>> = path.names().iter().rev().map(|name| name.as_bytes().to_vec()).collect();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    real.pop();
                    continue;
                }
                _ => {}
            }
            real.push(Name::new(&component).map_err(|_| PlacingError::NotADirectory(path.clone()))?);
            let Some((_, NewNode::Symlink { target })) = self.draft.leaf(&real)? else { continue };
            links += 1;
            if links > MAX_SYMLINKS {
                return Err(PlacingError::TooManyLinks(path.clone()));
            }
            todo.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            if target.starts_with(b"/") {
                real = TreePath::root();
            } else {
                real.pop();
            }
        }
        Ok(real)
    }
}
