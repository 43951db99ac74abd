//! Patterns that leave paths out, in the language of `.gitignore`.
//!
//! Each line is a pattern; the last one that matches a path decides. `#` begins a comment, `!` takes back what an earlier line left
//! out, `/` at the end means directories only, a `/` anywhere else ties the pattern to the root, and without one it matches at any
//! depth. Spaces at the end do not count unless a `\` stands before them. See [`Glob`] for the wildcards.
//!
//! What is below a directory that is left out is left out, and as in Git no `!` brings it back: `dir/*` with `!dir/kept` does what
//! `dir/` with `!dir/kept` does not.

mod glob;
#[cfg(test)]
mod tests;

pub use glob::{Glob, Slashes};

/// A list of patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    glob: Glob,
    /// Matched against the last name of a path, not against the path.
    name_only: bool,
    directories_only: bool,
    negated: bool,
}

impl Patterns {
    /// The patterns of a file's text.
    pub fn parse(text: &[u8]) -> Self {
        let mut patterns = Self::default();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            patterns.push(line.strip_suffix(b"\r").unwrap_or(line));
        }
        patterns
    }

    /// Adds a pattern behind the others. An empty line or a comment adds none.
    pub fn push(&mut self, line: &[u8]) {
        self.rules.extend(Rule::parse(line));
    }

    /// Adds the patterns of another list behind these.
    pub fn extend(&mut self, others: Self) {
        self.rules.extend(others.rules);
    }

    /// Whether nothing can be left out.
    pub fn is_empty(&self) -> bool {
        self.rules.iter().all(|rule| rule.negated)
    }

    /// Whether a path is left out, given that no directory above it is. For those who walk from the root down.
    ///
    /// The path is relative, as `a/b`: without a slash at either end.
    pub fn excludes(&self, path: &[u8], directory: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let rule = self.rules.iter().rev().find(|rule| {
            (directory || !rule.directories_only)
                && rule.glob.matches(if rule.name_only { name } else { path })
        });
        rule.is_some_and(|rule| !rule.negated)
    }

    /// Whether a path or a directory above it is left out.
    pub fn excludes_below(&self, path: &[u8], directory: bool) -> bool {
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        above.into_iter().any(|parent| self.excludes(parent, true)) || self.excludes(path, directory)
    }
}

impl Rule {
    fn parse(line: &[u8]) -> Option<Self> {
        if line.starts_with(b"#") {
            return None;
        }
        let line = trimmed(line);
        let (negated, pattern) = match line.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (directories_only, pattern) = match pattern.strip_suffix(b"/") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if pattern.is_empty() {
            return None;
        }
        let name_only = !pattern.contains(&b'/');
        let glob = Glob::new(pattern.strip_prefix(b"/").unwrap_or(pattern), Slashes::Separate);
        Some(Self { glob, name_only, directories_only, negated })
    }
}

/// A line without the spaces at its end; one behind a `\` stays.
fn trimmed(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        at += if *byte == b'\\' { 2 } else { 1 };
        if *byte != b' ' {
            end = at.min(line.len());
        }
    }
    &line[..end]
}
