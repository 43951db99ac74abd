//! Where a ref has been.

use std::fs::{OpenOptions, create_dir_all};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{Durability, History, HistoryError, RefName, Who};
use crate::object::CommitId;

/// One move of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReflogEntry {
    /// Where it was; `None` when it was made by this move.
    pub old: Option<CommitId>,
    /// Where it went; `None` when it was deleted.
    pub new: Option<CommitId>,
    /// When, in seconds since 1970.
    pub time_seconds: i64,
    /// Why.
    pub message: String,
}

/// The last line of nearly every log is within this many bytes of its end.
const TAIL_BYTES: u64 = 4096;

const NOTHING: CommitId = CommitId::from_bytes([0; 20]);

impl History {
    /// The moves of a ref, newest first; none when it has no log.
    pub fn reflog(&self, name: &RefName) -> Result<Vec<ReflogEntry>, HistoryError> {
        self.read_log(&name.full())
    }

    /// The moves of HEAD, newest first.
    pub fn head_reflog(&self) -> Result<Vec<ReflogEntry>, HistoryError> {
        self.read_log("HEAD")
    }

    /// When a ref last moved, in seconds since 1970: the end of its log tells. `None` when it has none.
    pub fn last_moved(&self, name: &RefName) -> Result<Option<i64>, HistoryError> {
        let path = self.log_path(&name.full());
        let failed = |source| HistoryError::io("reading", &path, source);
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if has_no_log(&error) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let len = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES))).map_err(failed)?;
        let mut tail = Vec::new();
        match file.read_to_end(&mut tail) {
            Ok(_) => {}
            Err(error) if has_no_log(&error) => return Ok(None),
            Err(source) => return Err(failed(source)),
        }
        let last = tail.split(|byte| *byte == b'\n').rev().find_map(parse);
        if last.is_none() && len > TAIL_BYTES {
            // A line longer than what was read.
            return Ok(self.read_log(&name.full())?.first().map(|entry| entry.time_seconds));
        }
        Ok(last.map(|entry| entry.time_seconds))
    }

    fn read_log(&self, full: &str) -> Result<Vec<ReflogEntry>, HistoryError> {
        let path = self.log_path(full);
        match std::fs::read(&path) {
            // A power cut may have torn the last line; it is passed over, as Git does.
            Ok(bytes) => Ok(bytes.split(|byte| *byte == b'\n').rev().filter_map(parse).collect()),
            Err(error) if has_no_log(&error) => Ok(Vec::new()),
            Err(source) => Err(HistoryError::io("reading", &path, source)),
        }
    }

    /// Where the log of a ref is.
    pub(super) fn log_path(&self, full: &str) -> PathBuf {
        self.directory.join("logs").join(full)
    }
}

/// Whether there is just no log of that name: nothing, a directory where a ref was and one below it is now, or the log of a ref above.
fn has_no_log(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory)
}

/// A log's line, in Git's format.
pub(super) fn line(old: Option<CommitId>, new: Option<CommitId>, who: &Who, message: &str) -> String {
    let (old, new) = (old.unwrap_or(NOTHING), new.unwrap_or(NOTHING));
    let (signature, message) = (who.signature(), one_line(message));
    if message.is_empty() {
        return format!("{old} {new} {signature}\n");
    }
    format!("{old} {new} {signature}\t{message}\n")
}

/// A message as a log can hold it: runs of white space, newlines among them, become one space.
pub(super) fn one_line(message: &str) -> String {
    message.replace('\0', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Adds a line to a ref's log. Called under the lock.
pub(super) fn append(history: &History, full: &str, line: &str) -> Result<(), HistoryError> {
    let path = history.log_path(full);
    let failed = |source| HistoryError::io("adding to", &path, source);
    let parent = path.parent().expect("a log lies in `logs`");
    let made = !parent.exists();
    if made {
        create_dir_all(parent).map_err(failed)?;
    }
    let open = || OpenOptions::new().read(true).append(true).create(true).open(&path);
    let mut file = match open() {
        // Names below this one had logs there once. Only what is empty goes.
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            remove_empty(&path);
            open()
        }
        opened => opened,
    }
    .map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let mut end = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut end, len - 1).map_err(failed)?;
    }
    // A line that a power cut has torn must not take this one with it.
    let text = if end == *b"\n" { line.to_owned() } else { format!("\n{line}") };
    file.write_all(text.as_bytes()).map_err(failed)?;
    if history.durability() == Durability::Commit {
        history.must_sync([path.clone()]);
        if made || len == 0 {
            history.must_sync([parent.to_owned()]);
        }
    }
    Ok(())
}

fn remove_empty(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(directory);
}

/// Reads a log's line.
pub(super) fn parse(line: &[u8]) -> Option<ReflogEntry> {
    let line = String::from_utf8_lossy(line);
    let (head, message) = line.split_once('\t').unwrap_or((&line, ""));
    let (old, rest) = head.split_once(' ')?;
    let (new, rest) = rest.split_once(' ')?;
    let (_, time) = rest.rsplit_once("> ")?;
    let some = |text: &str| text.parse::<CommitId>().ok().map(|id| (id != NOTHING).then_some(id));
    Some(ReflogEntry {
        old: some(old)?,
        new: some(new)?,
        time_seconds: time.split(' ').next()?.parse().ok()?,
        message: message.to_owned(),
    })
}
