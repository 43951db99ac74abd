//! Making what is new, putting it into place, and taking away what is gone.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::check::{Check, look};
use super::{Ground, PlannedChange, STAGING_PREFIX, UpdateOptions, Updated, open_below, split};
use crate::disk::{DiskError, remove_tree};
use crate::worktree::layer::build::LayerBuilder;
use crate::worktree::layer::entry::{LayerEntry, LayerError};
use crate::worktree::layer::inode::{Dir, dress, kind_of, mtime_of, set_mode, set_time};

/// What the owner of a directory needs to change names in it.
const OWNER_BITS: u32 = 0o700;

pub(super) struct Settling<'o> {
    root: Dir,
    options: &'o UpdateOptions,
    check: Check,
    updated: Updated,
}

impl<'o> Settling<'o> {
    pub(super) fn new(root: Dir, options: &'o UpdateOptions, check: Check) -> Self {
        Self { root, options, check, updated: Updated::default() }
    }

    pub(super) fn perform(mut self, changes: &[PlannedChange]) -> Result<Updated, LayerError> {
        self.open_up(&self.root)?;
        self.sweep()?;
        let stage = self.stage()?;
        let settled = self.fill(&stage, changes).and_then(|()| {
            self.remove(changes)?;
            Ok(self.settle(&stage)?)
        });
        // Whatever happened, nothing half-made stays.
        let swept = remove_tree(&stage.path);
        settled?;
        swept?;
        self.finish(changes)?;
        Ok(self.updated)
    }

    /// Removes what a killed update left half-made.
    fn sweep(&self) -> Result<(), DiskError> {
        if self.options.ground == Ground::Written {
            for name in self.root.names()? {
                if name.starts_with(STAGING_PREFIX.as_bytes()) {
                    remove_tree(&self.root.join(&name))?;
                }
            }
        }
        Ok(())
    }

    fn stage(&self) -> Result<Dir, DiskError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{STAGING_PREFIX}{}-{number}", std::process::id());
            match rustix::fs::mkdirat(&self.root.fd, &name, Mode::from_raw_mode(0o700)) {
                Ok(()) => return self.root.open_child(name.as_bytes()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.root.error("create directory", name.as_bytes(), errno)),
            }
        }
    }

    /// Makes everything new where nobody looks.
    fn fill(&mut self, stage: &Dir, changes: &[PlannedChange]) -> Result<(), LayerError> {
        let mut builder = LayerBuilder::new(&stage.path, self.options.build.clone())?;
        for change in changes {
            if let Some(new) = &change.new {
                if !change.path.is_empty() {
                    builder.add(new)?;
                }
                self.updated.written += u64::from(!change.is_on_the_way());
            }
        }
        self.updated.skipped = builder.leave_open().skipped;
        Ok(())
    }

    /// Takes away what is gone, and directories in whose place something else comes.
    fn remove(&mut self, changes: &[PlannedChange]) -> Result<(), LayerError> {
        for change in changes.iter().rev() {
            let gone = change.new.is_none();
            if !gone && (!change.was_directory() || change.becomes_directory()) {
                continue;
            }
            let (above, name) = split(&change.path);
            let Some(dir) = open_below(&self.root, above)? else { continue };
            let Some(stat) = look(&dir, name)? else { continue };
            self.open_up(&dir)?;
            let is_directory = kind_of(&stat) == FileType::Directory;
            let flags = match is_directory {
                true if !change.was_directory() => {
                    self.updated.left.push(change.path.clone());
                    continue;
                }
                true => AtFlags::REMOVEDIR,
                false => AtFlags::empty(),
            };
            match rustix::fs::unlinkat(&dir.fd, name, flags) {
                Ok(()) => self.updated.removed += u64::from(gone),
                Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) if gone => self.updated.left.push(change.path.clone()),
                Err(errno) => return Err(dir.error("remove", name, errno).into()),
            }
        }
        Ok(())
    }

    /// Renames what was made into its place. Directories are opened from the top again, however deep they lie: one that stays open for each
    /// level would be more than a process may have.
    fn settle(&self, stage: &Dir) -> Result<(), DiskError> {
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            let (Some(made), Some(dest)) = (open_below(stage, &path)?, open_below(&self.root, &path)?) else {
                continue;
            };
            self.open_up(&dest)?;
            for name in made.names()? {
                let made_directory = kind_of(&made.stat(&name)?) == FileType::Directory;
                if made_directory && let Some(there) = look(&dest, &name)? {
                    if kind_of(&there) == FileType::Directory {
                        let slash = if path.is_empty() { &b""[..] } else { b"/" };
                        todo.push([path.as_slice(), slash, &name].concat());
                        continue;
                    }
                    rustix::fs::unlinkat(&dest.fd, &name, AtFlags::empty())
                        .map_err(|errno| dest.error("remove", &name, errno))?;
                }
                rustix::fs::renameat(&made.fd, &name, &dest.fd, &name)
                    .map_err(|errno| dest.error("rename into place", &name, errno))?;
            }
        }
        Ok(())
    }

    /// Gives directories their attributes, the deepest first: their times changed with what came and went, and one may shut its owner out.
    fn finish(&mut self, changes: &[PlannedChange]) -> Result<(), LayerError> {
        for change in changes.iter().rev() {
            let Some(new) = change.new.as_ref().filter(|_| change.becomes_directory()) else { continue };
            let standing = self.check.standing.contains(&change.path);
            if standing && self.options.ground == Ground::Foreign {
                continue;
            }
            let Some(dir) = open_below(&self.root, &change.path)? else { continue };
            if standing && !change.is_on_the_way() {
                self.redress(&dir, change, new)?;
            }
            let stat = dir.stat(b"")?;
            // A look first: what is right already keeps its time of change.
            if stat.st_mode & 0o7777 != u32::from(new.meta.mode) {
                set_mode(&dir, b"", new.meta.mode)?;
            }
            if mtime_of(&stat) != new.meta.mtime {
                set_time(&dir, b"", new.meta.mtime)?;
            }
        }
        Ok(())
    }

    /// Gives a directory that was there another owner and other attributes.
    fn redress(&mut self, dir: &Dir, change: &PlannedChange, new: &LayerEntry) -> Result<(), LayerError> {
        for known in change.known.iter().flat_map(|known| known.meta.xattrs.iter()) {
            if !new.meta.xattrs.iter().any(|xattr| xattr.name == known.name) {
                // One that is not there, or could not be set, need not go.
                let _ = rustix::fs::removexattr(dir.proc_path(b"."), known.name.as_slice());
            }
        }
        let owner = self.options.build.owner(&new.meta);
        for missing in dress(dir, b"", FileType::Directory, &new.meta, owner)? {
            self.updated.skipped.push((change.path.clone(), LayerBuilder::reason_of_attribute(&missing)));
        }
        Ok(())
    }

    /// Lets the owner of a directory change names in it; [`finish`](Self::finish) sets the mode that it is to have. A person's own directories
    /// stay as they are.
    fn open_up(&self, dir: &Dir) -> Result<(), DiskError> {
        let mode = dir.stat(b"")?.st_mode & 0o7777;
        if self.options.ground == Ground::Written && mode & OWNER_BITS != OWNER_BITS {
            // Somebody else's directory can be written to, or the next call says that it cannot.
            let _ = rustix::fs::fchmod(&dir.fd, Mode::from_raw_mode(mode | OWNER_BITS));
        }
        Ok(())
    }
}
