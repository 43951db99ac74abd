//! `REV:/path` on the command line: telling it from a host path, and what it names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use treebox::blocking::{Engine, State};
use treebox::object::TreePath;

use super::exit::Failure;

/// One side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side<'a> {
    /// `REV:/path`: the revision (empty for HEAD) and the path with its slash.
    State { rev: &'a str, path: &'a str },
    /// `-`
    Stream,
    /// A host path.
    Host(&'a OsStr),
}

impl<'a> Side<'a> {
    /// A text with `:/` in it is a state's path, unless it begins as host paths do: with `/`, `./` or `../`.
    pub(super) fn parse(text: &'a OsStr) -> Self {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Self::Stream;
        }
        let host = bytes.starts_with(b"/") || bytes.starts_with(b"./") || bytes.starts_with(b"../");
        match text.to_str().and_then(|text| Some((text, text.find(":/")?))) {
            Some((text, at)) if !host => Self::State { rev: &text[..at], path: &text[at + 1..] },
            _ => Self::Host(text),
        }
    }
}

/// The state and path of a `REV:/path`; a bare REV is its root, nothing at all is HEAD's root.
pub(super) fn resolve(engine: &Engine, text: Option<&str>) -> Result<(State, TreePath), Failure> {
    match text {
        None => Ok((engine.head_state()?, TreePath::root())),
        Some(text) if text.starts_with('/') || text.contains(":/") => Ok(engine.resolve_path(text)?),
        Some(rev) => Ok((engine.resolve(rev.strip_suffix(':').unwrap_or(rev))?, TreePath::root())),
    }
}

/// Paths given behind `--`, absolute or seen from the root.
pub(super) fn paths(texts: &[std::ffi::OsString]) -> Result<Vec<TreePath>, Failure> {
    let parse = |text: &std::ffi::OsString| TreePath::parse(text.as_bytes());
    texts.iter().map(parse).collect::<Result<_, _>>().map_err(|error| Failure::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_path_is_told_from_a_host_path() {
        let side = |text| Side::parse(OsStr::new(text));
        assert_eq!(side("main:/etc"), Side::State { rev: "main", path: "/etc" });
        assert_eq!(side("busybox:latest:/a:/b"), Side::State { rev: "busybox:latest", path: "/a:/b" });
        assert_eq!(side(":/etc"), Side::State { rev: "", path: "/etc" });
        assert_eq!(side("-"), Side::Stream);
        for host in ["./a:/b", "../a:/b", "/a:/b", "a:b", "a", "C"] {
            assert_eq!(side(host), Side::Host(OsStr::new(host)), "{host}");
        }
    }
}
