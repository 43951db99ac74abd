//! Copies of host files at the paths they have on the host.

use std::collections::HashSet;

use super::HostError;
use super::root::{Found, HostRoot, Link};
use crate::object::{Draft, DraftError, Kind, Meta, NewNode, Timestamp, TreePath, Xattrs};
use crate::store::Batch;
use crate::worktree::scan::{FileReader, Owners};

/// The attributes of every directory that is not made for something special.
pub(super) const DIRECTORY: Meta = Meta::root_owned(0o755, Timestamp::from_seconds(0));

/// Places host files in a draft, each once.
pub(super) struct Placer<'a, 'b, 's, 'd> {
    host: &'a HostRoot,
    reader: FileReader<'b, 's>,
    pub(super) draft: &'a mut Draft<'d>,
    placed: HashSet<TreePath>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl<'a, 'b, 's, 'd> Placer<'a, 'b, 's, 'd> {
    pub(super) fn new(host: &'a HostRoot, batch: &'b Batch<'s>, draft: &'a mut Draft<'d>) -> Self {
        let reader = FileReader::new(batch);
        Self { host, reader, draft, placed: HashSet::new(), entries: 0, bytes: 0 }
    }

    /// Places a file with every symlink on the way to it. A directory becomes an empty one; whether there was something to place.
    pub(super) fn place(&mut self, path: &TreePath) -> Result<bool, HostError> {
        let Some(Found { links, real, inode }) = self.host.find(path)? else { return Ok(false) };
        for link in links {
            self.link(link)?;
        }
        match inode.kind {
            Kind::Directory => self.directory(&real)?,
            Kind::File => self.file(&real)?,
            // A device or a FIFO of the host is nothing to copy.
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Places a directory with everything below it; gives the regular files.
    pub(super) fn place_all(&mut self, path: &TreePath) -> Result<Vec<TreePath>, HostError> {
        let mut files = Vec::new();
        let Some(Found { real, .. }) = self.host.find(path)? else { return Ok(files) };
        self.place(path)?;
        let mut todo = vec![real];
        while let Some(directory) = todo.pop() {
            for name in self.host.list(&directory)? {
                let path = directory.join(&name);
                let Some(inode) = self.host.look(&path)? else { continue };
                match inode.kind {
                    Kind::Directory => {
                        self.directory(&path)?;
                        todo.push(path);
                    }
                    Kind::File => {
                        self.file(&path)?;
                        files.push(path);
                    }
                    Kind::Symlink => {
                        // A link that leads nowhere is copied too.
                        let target = self.host.read_link(&path)?;
                        self.link(Link { path: path.clone(), target, inode })?;
                        self.place(&path)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(files)
    }

    /// Places a directory that is made, not copied, where the draft has nothing yet.
    pub(super) fn make_directory(&mut self, path: &TreePath, mode: u16) -> Result<(), HostError> {
        match self.draft.get(path).map_err(DraftError::from)? {
            // A symlink of the host stands for the directory it leads to.
            Some((_, kind)) if kind != Kind::Directory => return Ok(()),
            Some(_) => {}
            None => {
                self.make_parents(path)?;
                self.entries += 1;
            }
        }
        Ok(self.draft.put_directory(path, Meta { mode, ..DIRECTORY })?)
    }

    /// Makes the directories above a path.
    pub(super) fn make_parents(&mut self, path: &TreePath) -> Result<(), HostError> {
        let mut directory = TreePath::root();
        let Some((_, above)) = path.names().split_last() else { return Ok(()) };
        for name in above {
            directory.push(name.clone());
            self.directory(&directory)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &TreePath) -> Result<(), HostError> {
        if path.is_root() || self.placed.contains(path) {
            return Ok(());
        }
        self.make_parents(path)?;
        self.placed.insert(path.clone());
        self.entries += 1;
        Ok(self.draft.put_directory(path, DIRECTORY)?)
    }

    fn link(&mut self, link: Link) -> Result<(), HostError> {
        if !self.placed.insert(link.path.clone()) {
            return Ok(());
        }
        self.make_parents(&link.path)?;
        let meta = Meta { mode: 0o777, ..link.inode.meta(Owners::AllRoot, Xattrs::none()) };
        self.draft.put(&link.path, meta, NewNode::Symlink { target: link.target })?;
        self.entries += 1;
        Ok(())
    }

    fn file(&mut self, real: &TreePath) -> Result<(), HostError> {
        if !self.placed.insert(real.clone()) {
            return Ok(());
        }
        self.make_parents(real)?;
        let mut file = self.host.open(real)?;
        let stored = self.reader.store(&mut file, &self.host.outside(real), |inode| {
            // Setuid and setgid would mean the host's root, and nothing here is meant to gain rights.
            Meta { mode: inode.mode & 0o777, ..inode.meta(Owners::AllRoot, Xattrs::none()) }
        })?;
        let node = NewNode::File { blob: stored.blob, size: stored.size, link: None };
        self.draft.put(real, stored.meta, node)?;
        self.entries += 1;
        self.bytes += stored.size;
        Ok(())
    }
}
