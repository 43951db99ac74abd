//! Finding a path in a tree, with symlinks followed inside it.

use super::name::Name;
use super::path::TreePath;
use super::tree::{Entry, Node, SourceError, Tree, TreeSource};

/// How many symlinks one lookup follows before it gives up (Linux `MAXSYMLINKS`).
pub const MAX_SYMLINKS: usize = 40;

/// Why a path was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no such entry.
    #[error("no such file or directory: {0}")]
    NotFound(TreePath),
    /// A component on the way is not a directory.
    #[error("not a directory: {0}")]
    NotADirectory(TreePath),
    /// More symlinks than [`MAX_SYMLINKS`].
    #[error("too many symbolic links on the way to {0}")]
    TooManyLinks(TreePath),
    /// A stored tree cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// The entry at exactly that path; symlinks are not followed, `None` when there is none.
pub fn entry_at(
    source: &dyn TreeSource,
    root: &Entry,
    path: &TreePath,
) -> Result<Option<Entry>, SourceError> {
    let mut here = root.clone();
    for name in path.names() {
        let Node::Directory { tree, .. } = &here.node else { return Ok(None) };
        match source.tree(tree)?.get(name) {
            Some(entry) => here = entry.clone(),
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// The real path and the entry that a path leads to, symlinks followed as if the root were `/`.
///
/// The last component is followed only when `follow_last` says so.
pub fn resolve(
    source: &dyn TreeSource,
    root: &Entry,
    path: &TreePath,
    follow_last: bool,
) -> Result<(TreePath, Entry), LookupError> {
    let mut todo: Vec<Vec<u8>> = path.names().iter().rev().map(|name| name.as_bytes().to_vec()).collect();
    // The directories from the root down to where the walk stands; the root itself never leaves the list.
    let mut trail: Vec<(Option<Name>, Entry)> = vec![(None, root.clone())];
    let mut links = 0;
    while let Some(component) = todo.pop() {
        match component.as_slice() {
            b"" | b"." => continue,
            b".." => {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            _ => {}
        }
        let name = Name::new(&component).map_err(|_| LookupError::NotFound(path.clone()))?;
        let (_, here) = trail.last().expect("the root stays on the trail");
        let Node::Directory { tree, .. } = &here.node else {
            return Err(LookupError::NotADirectory(path_of(&trail)));
        };
        let tree: Tree = source.tree(tree)?;
        let Some(entry) = tree.get(&name).cloned() else {
            return Err(LookupError::NotFound(path_of(&trail).join(&name)));
        };
        match &entry.node {
            Node::Symlink { target } if follow_last || !todo.iter().all(|rest| rest.is_empty()) => {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(LookupError::TooManyLinks(path.clone()));
                }
                if target.starts_with(b"/") {
                    trail.truncate(1);
                }
                todo.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            }
            _ => trail.push((Some(name), entry)),
        }
    }
    let real = path_of(&trail);
    let (_, entry) = trail.pop().expect("the root stays on the trail");
    Ok((real, entry))
}

fn path_of(trail: &[(Option<Name>, Entry)]) -> TreePath {
    trail.iter().filter_map(|(name, _)| name.clone()).collect::<Vec<_>>().into()
}
