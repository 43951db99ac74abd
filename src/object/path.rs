//! An absolute path within a state.

use std::fmt;

use super::name::{InvalidName, Name};

/// A normalised absolute path within a state; the root is the path with no names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<Name>);

/// Why some bytes cannot be a path within a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPath {
    /// One component is not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// `..` leads out of the root.
    #[error("path `{}` leaves the root through `..`", .0.escape_ascii())]
    Escapes(Vec<u8>),
}

impl TreePath {
    /// The root directory.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path: slashes separate, empty and `.` components vanish, `..` takes back one component.
    ///
    /// `..` is lexical, as in tar archives; a `..` that would leave the root is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPath> {
        let mut names = Vec::new();
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    names.pop().ok_or_else(|| InvalidPath::Escapes(bytes.to_vec()))?;
                }
                name => names.push(Name::new(name)?),
            }
        }
        Ok(Self(names))
    }

    /// The names from the root down.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path with one more name.
    pub fn join(&self, name: &Name) -> Self {
        let mut names = Vec::with_capacity(self.0.len() + 1);
        names.extend_from_slice(&self.0);
        names.push(name.clone());
        Self(names)
    }

    /// Adds a name at the end.
    pub fn push(&mut self, name: Name) {
        self.0.push(name);
    }

    /// Takes the last name off.
    pub fn pop(&mut self) -> Option<Name> {
        self.0.pop()
    }

    /// The directory that holds this path and the name in it; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &Name)> {
        let (last, parents) = self.0.split_last()?;
        Some((Self(parents.to_vec()), last))
    }

    /// Whether `prefix` is this path or a directory above it.
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The bytes: `/` for the root, else `/a/b`.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return b"/".to_vec();
        }
        let mut bytes = Vec::new();
        for name in &self.0 {
            bytes.push(b'/');
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes
    }

    /// The bytes without the leading slash; empty for the root.
    pub fn to_relative_bytes(&self) -> Vec<u8> {
        self.to_bytes().split_off(1)
    }
}

impl From<Vec<Name>> for TreePath {
    fn from(names: Vec<Name>) -> Self {
        Self(names)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.to_bytes()).fmt(f)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.to_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_equal() {
        let plain = TreePath::parse(b"/a/b").unwrap();
        for spelling in [&b"a/b"[..], b"./a/b", b"//a//b/", b"/a/./b", b"a/c/../b"] {
            assert_eq!(TreePath::parse(spelling).unwrap(), plain);
        }
        assert_eq!(plain.to_bytes(), b"/a/b");
        assert_eq!(TreePath::parse(b"./").unwrap(), TreePath::root());
    }

    #[test]
    fn a_path_cannot_leave_the_root() {
        assert!(matches!(TreePath::parse(b"../etc/passwd"), Err(InvalidPath::Escapes(_))));
        assert!(matches!(TreePath::parse(b"a/../../b"), Err(InvalidPath::Escapes(_))));
    }
}
