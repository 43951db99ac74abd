//! Trees as tar streams: part of a tree for `cp`, all of it as a root archive, and what changed from one to another as an image's layer.

use std::io::Write;

use super::tarwrite::{ExportError, TarWriter, TarWritten};
use crate::object::{Entry, Name, Node, SourceError, TreePath, TreeSource, diff, entry_at};
use crate::store::Store;

/// What begins the names that say what is deleted.
const WHITEOUT: &[u8] = b".wh.";

/// Writes what is at a path of a root tree, under its last name, with everything below it. The root itself becomes `./`.
///
/// Symlinks are not followed: the path is taken as it is. A name such as `.wh.x` is a name like others: this is no image layer. Modification
/// times after `epoch`, in seconds since 1970, are set to it.
pub fn write_tar(
    store: &Store,
    root: &Entry,
    path: &TreePath,
    epoch: Option<i64>,
    out: &mut dyn Write,
) -> Result<TarWritten, ExportError> {
    let entry = entry_at(store, root, path)?.ok_or_else(|| ExportError::NotFound(path.clone()))?;
    let name = path.split_last().map_or(b".".to_vec(), |(_, name)| name.as_bytes().to_vec());
    let mut tar = TarWriter::new(store, out).clamped(epoch);
    let result = tar.with_all_below(path, name, &entry);
    tar.conclude(result)
}

/// Writes what changed from one root to another as a layer of the image specification; from nothing, all of the new one.
///
/// Whiteouts come first, each explicit, then entries in the order of their names. Every directory on the way to a change stands before it, so
/// that unpacking leaves its attributes and time as they are.
pub(super) fn write_layer<W: Write>(
    store: &Store,
    old: Option<&Entry>,
    new: &Entry,
    epoch: Option<i64>,
    out: W,
) -> Result<TarWritten, ExportError> {
    let mut layer = LayerWriter { store, new, tar: TarWriter::new(store, out).clamped(epoch), entered: None };
    let result = match old {
        None => layer.all(&TreePath::root(), new),
        Some(old) => layer.whiteouts(old).and_then(|()| layer.changes(old)),
    };
    layer.tar.conclude(result)
}

struct LayerWriter<'a, W: Write> {
    store: &'a Store,
    new: &'a Entry,
    tar: TarWriter<'a, W>,
    /// The directories below the root on the way to what was written last, which are written; `None` before the root is.
    entered: Option<Vec<Name>>,
}

impl<W: Write> LayerWriter<'_, W> {
    fn whiteouts(&mut self, old: &Entry) -> Result<(), ExportError> {
        // What is below something that is gone or is no directory any more goes with it.
        let mut gone: Option<TreePath> = None;
        let mut failure = None;
        let walked = diff(self.store, old, self.new, &mut |change| {
            if gone.as_ref().is_some_and(|gone| change.path.starts_with(gone)) {
                return Ok(());
            }
            let was_directory = change.old.as_ref().is_some_and(is_directory);
            match &change.new {
                None => {
                    gone = Some(change.path.clone());
                    let (parent, name) =
                        change.path.split_last().ok_or_else(|| SourceError("the root is gone".into()))?;
                    let name = [WHITEOUT, name.as_bytes()].concat();
                    let name = match parent.names().is_empty() {
                        true => name,
                        false => [&parent.to_relative_bytes()[..], b"/", &name].concat(),
                    };
                    self.tar.whiteout(&name).map_err(|error| stop(&mut failure, error))?;
                }
                Some(new) if was_directory && !is_directory(new) => gone = Some(change.path.clone()),
                Some(_) => {}
            }
            Ok(())
        });
        finished(walked, failure)
    }

    fn changes(&mut self, old: &Entry) -> Result<(), ExportError> {
        let mut failure = None;
        let walked = diff(self.store, old, self.new, &mut |change| {
            let written = match &change.new {
                Some(entry) => self.change(&change.path, entry),
                // Its directory is written, so that its time survives.
                None => change.path.split_last().map_or(Ok(()), |(parent, _)| self.enter(parent.names())),
            };
            written.map_err(|error| stop(&mut failure, error))
        });
        finished(walked, failure)
    }

    fn change(&mut self, path: &TreePath, entry: &Entry) -> Result<(), ExportError> {
        if is_directory(entry) {
            return self.enter(path.names());
        }
        if let Some((parent, _)) = path.split_last() {
            self.enter(parent.names())?;
        }
        self.one(path, entry)
    }

    /// Writes the directories of a path that are not yet written, from the top.
    fn enter(&mut self, names: &[Name]) -> Result<(), ExportError> {
        let mut entered = match self.entered.take() {
            Some(entered) => entered,
            None => {
                self.one(&TreePath::root(), self.new)?;
                Vec::new()
            }
        };
        let common = entered.iter().zip(names).take_while(|(have, want)| have == want).count();
        entered.truncate(common);
        for name in &names[common..] {
            let path = TreePath::from([&entered[..], std::slice::from_ref(name)].concat());
            match entry_at(self.store, self.new, &path)? {
                Some(entry) if is_directory(&entry) => self.one(&path, &entry)?,
                // What was below something that is no directory any more is gone with it.
                _ => break,
            }
            entered.push(name.clone());
        }
        self.entered = Some(entered);
        Ok(())
    }

    fn all(&mut self, path: &TreePath, entry: &Entry) -> Result<(), ExportError> {
        self.one(path, entry)?;
        if let Node::Directory { tree, .. } = &entry.node {
            for (name, entry) in self.store.tree(tree)?.entries() {
                self.all(&path.join(name), entry)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, path: &TreePath, entry: &Entry) -> Result<(), ExportError> {
        let name = match path.split_last() {
            None => b".".to_vec(),
            Some((_, name)) if name.as_bytes().starts_with(WHITEOUT) => {
                return Err(ExportError::Reserved(path.clone()));
            }
            Some(_) => path.to_relative_bytes(),
        };
        self.tar.entry(path, &name, entry)
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.node, Node::Directory { .. })
}

/// Ends a walk because of something that is no failure of the walk.
fn stop(failure: &mut Option<ExportError>, error: ExportError) -> SourceError {
    *failure = Some(error);
    SourceError("stopped".into())
}

fn finished(walked: Result<(), SourceError>, failure: Option<ExportError>) -> Result<(), ExportError> {
    match failure {
        Some(error) => Err(error),
        None => Ok(walked?),
    }
}
