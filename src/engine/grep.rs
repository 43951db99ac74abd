//! Searching the files of a state. The only file that names the library for regular expressions.
//!
//! Several threads search files at once, a batch at a time, and results come in the order of the paths. Symlinks are not followed; of the
//! paths of one hard-linked file the first is searched.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex::bytes::{Regex, RegexBuilder};

use super::core::Core;
use super::error::{Error, Result};
use super::explore::at_once;
use super::state::State;
use crate::object::{BlobId, Entry, Glob, LinkGroup, Node, Slashes, TreeId, TreePath, TreeSource as _};

/// How much of a file is held at a time, in bytes; a longer line is searched in pieces of this size.
pub const MAX_GREP_LINE_BYTES: usize = 4 << 20;
/// How much of a line that matches is given, in bytes.
pub const MAX_GREP_SHOWN_BYTES: usize = 64 << 10;
/// Matches in one line whose places are given.
const MAX_PLACES: usize = 100;
/// Files that are searched before their results are handed on.
const BATCH_FILES: usize = 512;
/// Threads that search at once.
const MAX_THREADS: usize = 8;
/// As much of a file as tells whether it is binary.
const PROBE_BYTES: usize = 32 << 10;

/// What is searched for, and what is told of it.
#[derive(Debug, Clone, Default)]
pub struct GrepOptions {
    /// A regular expression.
    pub pattern: String,
    /// The pattern is text, no expression.
    pub fixed: bool,
    /// Case does not matter.
    pub ignore_case: bool,
    /// Only whole words.
    pub word: bool,
    /// The lines that do not match.
    pub invert: bool,
    /// At most so many lines of a file.
    pub max_count: Option<u64>,
    /// Lines are counted and not given.
    pub count_only: bool,
    /// A file is left as soon as one line is found.
    pub files_only: bool,
    /// Binary files are passed over.
    pub text_only: bool,
    /// Only files whose last name matches one of these wildcard patterns; all when empty.
    pub include: Vec<String>,
    /// No files whose last name matches one of these.
    pub exclude: Vec<String>,
    /// Nothing below directories whose last name matches one of these.
    pub exclude_directories: Vec<String>,
}

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrepFile {
    /// Which.
    pub path: TreePath,
    /// Whether it is binary: lines of it are counted as far as that is asked for, and never given.
    pub binary: bool,
    /// How many lines were found; where they are only to be listed, 1.
    pub count: u64,
    /// The lines.
    pub lines: Vec<GrepLine>,
}

/// A line that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrepLine {
    /// Its number, from 1.
    pub number: u64,
    /// Its text without the newline, at most [`MAX_GREP_SHOWN_BYTES`].
    pub text: Vec<u8>,
    /// Whether there is more of it.
    pub cut: bool,
    /// Where in the text it matches.
    pub places: Vec<Range<usize>>,
}

/// Takes what was found in a file and says whether to go on.
pub type GrepVisit<'v> = dyn FnMut(GrepFile) -> bool + 'v;

/// A file to be searched.
struct Target {
    path: TreePath,
    blob: BlobId,
}

/// Which files are searched, by their names and by what was seen.
struct Names {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
    exclude_directories: Vec<Glob>,
    seen: HashSet<LinkGroup>,
}

impl Names {
    fn new(options: &GrepOptions) -> Self {
        let globs = |patterns: &[String]| {
            patterns.iter().map(|pattern| Glob::new(pattern.as_bytes(), Slashes::Ordinary)).collect()
        };
        Self {
            include: globs(&options.include),
            exclude: globs(&options.exclude),
            exclude_directories: globs(&options.exclude_directories),
            seen: HashSet::new(),
        }
    }

    fn want(&self, path: &TreePath, entry: &Entry) -> bool {
        let Some(name) = path.names().last() else { return true };
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name.as_bytes()));
        match entry.node {
            Node::Directory { .. } => !any(&self.exclude_directories),
            _ => (self.include.is_empty() || any(&self.include)) && !any(&self.exclude),
        }
    }
}

impl Core {
    pub(super) fn grep(
        &self,
        state: &State,
        path: &TreePath,
        options: &GrepOptions,
        visit: &mut GrepVisit<'_>,
    ) -> Result<()> {
        let pattern = compiled(options)?;
        let (path, entry) = self.find(state, path, true)?;
        let mut batch =
            Batch { core: self, state, options, pattern: &pattern, files: Vec::new(), ended: false };
        let mut names = Names::new(options);
        self.each_file(&path, &entry, &mut names, &mut |target| {
            batch.files.push(target);
            if batch.files.len() >= BATCH_FILES { batch.search(visit) } else { Ok(true) }
        })?;
        batch.search(visit)?;
        Ok(())
    }

    /// Calls `visit` with every file at and below an entry, in order, until it says stop.
    fn each_file(
        &self,
        path: &TreePath,
        entry: &Entry,
        names: &mut Names,
        visit: &mut dyn FnMut(Target) -> Result<bool>,
    ) -> Result<bool> {
        match &entry.node {
            _ if !names.want(path, entry) => Ok(true),
            Node::File { link: Some(group), .. } if !names.seen.insert(*group) => Ok(true),
            Node::File { blob, size: 1.., .. } => visit(Target { path: path.clone(), blob: *blob }),
            Node::Directory { tree, below } if below.bytes > 0 => self.each_below(path, tree, names, visit),
            _ => Ok(true),
        }
    }

    fn each_below(
        &self,
        path: &TreePath,
        tree: &TreeId,
        names: &mut Names,
        visit: &mut dyn FnMut(Target) -> Result<bool>,
    ) -> Result<bool> {
        for (name, entry) in self.store.tree(tree)?.entries() {
            if !self.each_file(&path.join(name), entry, names, visit)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn compiled(options: &GrepOptions) -> Result<Regex> {
    let mut pattern = if options.fixed { regex::escape(&options.pattern) } else { options.pattern.clone() };
    if options.word {
        pattern = format!(r"\b{{start-half}}(?:{pattern})\b{{end-half}}");
    }
    RegexBuilder::new(&pattern).case_insensitive(options.ignore_case).multi_line(true).build().map_err(
        |error| {
            // The library draws where in the pattern it is; the last line says what.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Error::invalid(format!("`{}` is no regular expression: {last}", options.pattern))
        },
    )
}

/// Files that wait to be searched.
struct Batch<'b> {
    core: &'b Core,
    state: &'b State,
    options: &'b GrepOptions,
    pattern: &'b Regex,
    files: Vec<Target>,
    ended: bool,
}

impl Batch<'_> {
    /// Searches the files that wait and hands on what was found; whether more is wanted.
    fn search(&mut self, visit: &mut GrepVisit<'_>) -> Result<bool> {
        let files = std::mem::take(&mut self.files);
        if self.ended || files.is_empty() {
            return Ok(!self.ended);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let next = AtomicUsize::new(0);
        let found: Mutex<Vec<(usize, Result<Option<GrepFile>>)>> = Mutex::new(Vec::new());
        let work = || {
            let mut buffer = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(target) = files.get(at) else { break };
                let place = || format!("{}:{}", self.state.label(), target.path);
                let result = self.one(target, &mut buffer).map_err(|error| error.met_at(place()));
                if !matches!(result, Ok(None)) {
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
                }
            }
        };
        at_once(threads, files.len(), work);
        let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        found.sort_by_key(|(at, _)| *at);
        for (_, result) in found {
            if let Some(file) = result?
                && !visit(file)
            {
                self.ended = true;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn one(&self, target: &Target, buffer: &mut Vec<u8>) -> Result<Option<GrepFile>> {
        let mut reader = self.core.store.open_blob(&target.blob)?;
        let failed = |error| Error::disk("read", target.path.to_string(), error);
        let mut search = Search::new(self.options, self.pattern);
        buffer.clear();
        let mut first = true;
        loop {
            let before = buffer.len();
            let room = (MAX_GREP_LINE_BYTES - before) as u64;
            reader.by_ref().take(room).read_to_end(buffer).map_err(failed)?;
            let last = buffer.len() < MAX_GREP_LINE_BYTES;
            if std::mem::take(&mut first) {
                search.binary = memchr::memchr(0, &buffer[..buffer.len().min(PROBE_BYTES)]).is_some();
                if search.binary && self.options.text_only {
                    return Ok(None);
                }
            }
            // Up to the last newline there are whole lines; what is behind it waits for the rest.
            let whole = match memchr::memrchr(b'\n', buffer) {
                Some(at) if !last => at + 1,
                _ => buffer.len(),
            };
            search.lines(&buffer[..whole]);
            buffer.drain(..whole);
            if last || search.done {
                break;
            }
        }
        let file = GrepFile {
            path: target.path.clone(),
            binary: search.binary,
            count: search.count,
            lines: search.lines,
        };
        Ok((file.count > 0).then_some(file))
    }
}

/// The search in one file.
struct Search<'s> {
    options: &'s GrepOptions,
    pattern: &'s Regex,
    binary: bool,
    count: u64,
    lines: Vec<GrepLine>,
    /// Lines before the piece that is searched now.
    before: u64,
    done: bool,
}

impl<'s> Search<'s> {
    fn new(options: &'s GrepOptions, pattern: &'s Regex) -> Self {
        let done = options.max_count == Some(0);
        Self { options, pattern, binary: false, count: 0, lines: Vec::new(), before: 0, done }
    }

    /// Searches whole lines.
    fn lines(&mut self, text: &[u8]) {
        if self.options.invert { self.each_line(text) } else { self.each_match(text) }
    }

    /// Line by line, for what does not match.
    fn each_line(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if self.done {
                return;
            }
            let bare = line.strip_suffix(b"\n").unwrap_or(line);
            if !self.pattern.is_match(bare) {
                self.found(bare, self.before);
            }
            self.before += 1;
        }
    }

    /// From match to match, and only there line by line: most lines are never looked at by themselves.
    fn each_match(&mut self, text: &[u8]) {
        let (mut at, mut counted) = (0, 0);
        while !self.done && at < text.len() {
            let Some(found) = self.pattern.find_at(text, at) else { break };
            // A match of nothing behind the last newline is in no line.
            if found.start() >= text.len() && text.ends_with(b"\n") {
                break;
            }
            let start = memchr::memrchr(b'\n', &text[..found.start()]).map_or(0, |at| at + 1);
            let end =
                memchr::memchr(b'\n', &text[found.start()..]).map_or(text.len(), |at| found.start() + at);
            let line = &text[start..end];
            // One that goes over the end of the line may be none in the line itself.
            if found.end() <= end || self.pattern.is_match(line) {
                self.before += memchr::memchr_iter(b'\n', &text[counted..start]).count() as u64;
                counted = start;
                self.found(line, self.before);
            }
            at = end + 1;
        }
        self.before += memchr::memchr_iter(b'\n', &text[counted..]).count() as u64;
    }

    fn found(&mut self, line: &[u8], before: u64) {
        self.count += 1;
        let only_one = self.options.files_only || (self.binary && !self.options.count_only);
        self.done = only_one || self.options.max_count.is_some_and(|most| self.count >= most);
        if only_one || self.options.count_only {
            return;
        }
        let shown = &line[..line.len().min(MAX_GREP_SHOWN_BYTES)];
        let places = match self.options.invert {
            true => Vec::new(),
            false => {
                let places = self.pattern.find_iter(shown).map(|found| found.range());
                places.filter(|place| !place.is_empty()).take(MAX_PLACES).collect()
            }
        };
        let cut = shown.len() < line.len();
        self.lines.push(GrepLine { number: before + 1, text: shown.to_vec(), cut, places });
    }
}

impl super::blocking::Engine {
    /// Searches a file, or every file below a directory, and calls `visit` for each in which something is found, in the order of the paths,
    /// until it says stop.
    pub fn grep(
        &self,
        state: &State,
        path: &TreePath,
        options: &GrepOptions,
        visit: &mut GrepVisit<'_>,
    ) -> Result<()> {
        self.core.grep(state, path, options, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the lines that are found, the text searched in pieces cut behind newlines.
    fn numbers(pattern: &str, text: &str, adapt: impl FnOnce(&mut GrepOptions)) -> Vec<u64> {
        let mut options = GrepOptions { pattern: pattern.to_owned(), ..GrepOptions::default() };
        adapt(&mut options);
        let pattern = compiled(&options).unwrap();
        let mut search = Search::new(&options, &pattern);
        let half = text.as_bytes()[..text.len() / 2].iter().rposition(|byte| *byte == b'\n');
        let (first, second) = text.as_bytes().split_at(half.map_or(0, |at| at + 1));
        search.lines(first);
        search.lines(second);
        search.lines.iter().map(|line| line.number).collect()
    }

    #[test]
    fn a_match_is_in_one_line() {
        assert_eq!(numbers(r"a\sb", "a\nb\na b\n", |_| ()), [3]);
        assert_eq!(numbers(r"[^x]*z", "a\nb\nz\n", |_| ()), [3]);
        assert_eq!(numbers(r"(?s)a.*b", "a\nab\nb", |_| ()), [2]);
        assert_eq!(numbers("^b$", "a\nb\nab\nb", |_| ()), [2, 4]);
        assert_eq!(numbers("^$", "a\n\nb\n", |_| ()), [2], "no line begins behind the last newline");
        assert_eq!(numbers("", "a\nb", |_| ()), [1, 2]);
    }

    #[test]
    fn words_case_text_and_the_opposite() {
        assert_eq!(numbers("ab", "ab\ncab\n ab.\nab_", |options| options.word = true), [1, 3]);
        assert_eq!(numbers("AB", "ab\nb\nAb", |options| options.ignore_case = true), [1, 3]);
        assert_eq!(numbers("a.b", "axb\na.b", |options| options.fixed = true), [2]);
        assert_eq!(numbers("a", "a\nb\n\nca", |options| options.invert = true), [2, 3]);
        assert_eq!(numbers("a", "a\na\na", |options| options.max_count = Some(2)), [1, 2]);
    }

    proptest::proptest! {
        /// From match to match the same lines are found as one by one.
        #[test]
        fn what_is_found_is_what_each_line_by_itself_matches(
            pattern in r"[ab.]{0,2}(\*|\\s|\$|\n)?", text in "[ab \n]{0,40}",
        ) {
            let regex = Regex::new(&pattern);
            proptest::prop_assume!(regex.is_ok());
            let regex = RegexBuilder::new(&pattern).multi_line(true).build().unwrap();
            let lines = text.split_inclusive('\n').map(|line| line.trim_end_matches('\n'));
            let one_by_one: Vec<u64> = lines
                .enumerate()
                .filter(|(_, line)| regex.is_match(line.as_bytes()))
                .map(|(at, _)| at as u64 + 1)
                .collect();
            proptest::prop_assert_eq!(numbers(&pattern, &text, |_| ()), one_by_one);
        }
    }
}
