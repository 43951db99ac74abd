//! The operation log: every change of refs and of HEAD as one record, what it was before and after, what did it and when.
//!
//! It is the reflog of a ref that nothing moves, [`LOG_REF`], with one line for each ref that changed. So stock git reads it, and `git gc`
//! keeps every commit that it leads to: a deleted branch can be brought back. A line's message is
//!
//! ```text
//! operation ID 1/2 refs/heads/main run: make
//! operation ID 2/2 HEAD:refs/heads/old:refs/heads/main run: make
//! ```
//!
//! where `undo` or `restore` with the id of an earlier operation may stand for `operation`. The lines of one record are written together, before
//! anything moves, under the lock; a record that is not complete is no record.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek as _, SeekFrom};

use super::edit::HeadStep;
use super::git::Step;
use super::sync::{self, Replacement};
use super::{BranchName, Durability, History, HistoryError, RefKind, RefName, ReflogEntry, Who, reflog};
use crate::object::{CommitId, OperationId};

/// The ref whose log it is. It stays at the first commit that an operation had to do with, for Git keeps no log of a ref that is not there.
pub const LOG_REF: &str = "refs/treebox/operations";
/// How much of the log's end is read first to find the newest record, in bytes.
const TAIL_BYTES: u64 = 8 << 10;

/// Where HEAD points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadTo {
    /// To a branch, which need not exist.
    Branch(BranchName),
    /// To a commit by itself.
    Detached(CommitId),
}

impl HeadTo {
    /// What the file HEAD holds then.
    pub(super) fn content(&self) -> String {
        match self {
            Self::Branch(name) => format!("ref: {}{name}\n", RefKind::Branch.prefix()),
            Self::Detached(commit) => format!("{commit}\n"),
        }
    }
}

/// How one ref changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// Git's full name of it: `refs/heads/main`.
    pub full: String,
    /// Where it was; `None` when it was made.
    pub old: Option<CommitId>,
    /// Where it went; `None` when it was deleted.
    pub new: Option<CommitId>,
}

impl RefMove {
    /// The ref as people name it: `main`, `tag v1`, `image busybox:latest`.
    pub fn label(&self) -> String {
        match RefName::from_full(&self.full) {
            Some(RefName::Branch(name)) => name.to_string(),
            Some(name) => format!("{} {}", name.kind().as_str(), name.short()),
            None => self.full.clone(),
        }
    }
}

/// How HEAD changed. That the branch it is on moved is no change of HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadMove {
    /// Where it pointed; `None` when that could not be read.
    pub old: Option<HeadTo>,
    /// Where it points.
    pub new: Option<HeadTo>,
    /// Its commit before.
    pub old_commit: Option<CommitId>,
    /// Its commit after.
    pub new_commit: Option<CommitId>,
}

/// What an operation is to the one that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It names none.
    Change,
    /// It took that one back.
    Undo(OperationId),
    /// It brought everything to what that one had left.
    Restore(OperationId),
}

/// One change of refs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it is to another.
    pub purpose: Purpose,
    /// What did it.
    pub message: String,
    /// When, in seconds since 1970.
    pub time_seconds: i64,
    /// The refs that changed.
    pub refs: Vec<RefMove>,
    /// How HEAD changed.
    pub head: Option<HeadMove>,
}

impl History {
    /// Every operation, oldest first.
    pub fn operations(&self) -> Result<Vec<Operation>, HistoryError> {
        let path = self.log_path(LOG_REF);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(HistoryError::io("reading", &path, source)),
        };
        Ok(parse(&bytes))
    }

    /// Adds a record to the log. Called under the lock.
    pub(super) fn record_operation(
        &self,
        steps: &[Step],
        head: Option<&HeadStep>,
        purpose: Purpose,
        message: &str,
        who: &Who,
    ) -> Result<(), HistoryError> {
        let path = self.log_path(LOG_REF);
        let failed = |source| HistoryError::io("adding to", &path, source);
        // Git's own lock of the ref: a `git gc` that thins out logs holds it while it writes this one anew.
        let reference = self.directory.join(LOG_REF);
        let parent = reference.parent().expect("a ref's name has slashes");
        if !parent.exists() {
            std::fs::create_dir_all(parent).map_err(failed)?;
            self.must_sync([parent.to_owned(), self.directory.join("refs")]);
        }
        let lock = Replacement::begin(&reference).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => HistoryError::Locked(sync::lock_path(&reference)),
            _ => HistoryError::io("replacing", &reference, source),
        })?;
        let before = self.newest_operation()?.map(|operation| operation.id);
        let lines = lines(before, steps, head, purpose, message, who);
        let first = before.is_none();
        reflog::append(self, LOG_REF, &lines)?;
        let commit = |step: &Step| step.new.or(step.old.commit());
        let commit = steps.iter().find_map(commit).or_else(|| head.and_then(HeadStep::any_commit));
        if let (true, Some(commit)) = (first, commit) {
            let durable = self.durability() == Durability::Commit;
            lock.finish(format!("{commit}\n").as_bytes(), durable).map_err(failed)?;
        }
        Ok(())
    }

    /// How long the log is, in bytes.
    pub(super) fn operations_len(&self) -> u64 {
        std::fs::metadata(self.log_path(LOG_REF)).map_or(0, |metadata| metadata.len())
    }

    /// Cuts off the record of a change that did not happen. Called under the lock.
    pub(super) fn forget_operation(&self, len: u64) -> Result<(), HistoryError> {
        let path = self.log_path(LOG_REF);
        let cut = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            if file.metadata()?.len() > len { file.set_len(len) } else { Ok(()) }
        };
        match cut() {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(HistoryError::io("cutting", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Cuts the log off where the record of that operation begins. Called under the lock.
    pub(super) fn cut_operations_at(&self, id: &OperationId) -> Result<(), HistoryError> {
        let path = self.log_path(LOG_REF);
        let bytes = std::fs::read(&path).map_err(|source| HistoryError::io("reading", &path, source))?;
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if Line::parse(line.strip_suffix(b"\n").unwrap_or(line)).is_some_and(|line| line.id == *id) {
                return self.forget_operation(at);
            }
            at += line.len() as u64;
        }
        Ok(())
    }

    /// The newest operation, found without reading the whole log.
    pub fn newest_operation(&self) -> Result<Option<Operation>, HistoryError> {
        let path = self.log_path(LOG_REF);
        let failed = |source| HistoryError::io("reading", &path, source);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let len = file.metadata().map_err(failed)?.len();
        let mut tail = TAIL_BYTES;
        loop {
            file.seek(SeekFrom::Start(len.saturating_sub(tail))).map_err(failed)?;
            let mut bytes = Vec::new();
            Read::by_ref(&mut file).take(tail).read_to_end(&mut bytes).map_err(failed)?;
            let newest = parse(&bytes).pop();
            if newest.is_some() || tail >= len {
                return Ok(newest);
            }
            // A record of thousands of refs is longer than that.
            tail *= 16;
        }
    }
}

/// The lines of a record. Its id is BLAKE3 over the id before it and what it says, so no two are the same.
fn lines(
    before: Option<OperationId>,
    steps: &[Step],
    head: Option<&HeadStep>,
    purpose: Purpose,
    message: &str,
    who: &Who,
) -> String {
    let mut moves: Vec<(Option<CommitId>, Option<CommitId>, String)> =
        steps.iter().map(|step| (step.old.commit(), step.new, step.full.clone())).collect();
    if let Some(head) = head {
        let label = |to: Option<&HeadTo>| match to {
            Some(HeadTo::Branch(name)) => format!("{}{name}", RefKind::Branch.prefix()),
            Some(HeadTo::Detached(_)) => "detached".to_owned(),
            None => "unknown".to_owned(),
        };
        let name = format!("HEAD:{}:{}", label(head.old.as_ref()), label(Some(&head.new)));
        moves.push((head.old_commit, head.new_commit, name));
    }
    let (word, other) = match purpose {
        Purpose::Change => ("operation", String::new()),
        Purpose::Undo(other) => ("undo", format!("{other} ")),
        Purpose::Restore(other) => ("restore", format!("{other} ")),
    };
    let message = format!("{other}{}", reflog::one_line(message));
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"treebox operation 1\0").update(word.as_bytes()).update(&[0]);
    hasher.update(before.map_or([0; 16], |id| *id.as_bytes()).as_slice());
    for (old, new, name) in &moves {
        let id = |id: &Option<CommitId>| id.map_or([0; 20], |id| *id.as_bytes());
        hasher.update(&id(old)).update(&id(new)).update(name.as_bytes()).update(&[0]);
    }
    hasher.update(who.signature().as_bytes()).update(&[0]).update(message.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    let id = OperationId::from_bytes(id);
    let count = moves.len();
    let line = |(at, (old, new, name)): (usize, &(Option<CommitId>, Option<CommitId>, String))| {
        reflog::line(*old, *new, who, &format!("{word} {id} {}/{count} {name} {message}", at + 1))
    };
    moves.iter().enumerate().map(line).collect()
}

/// One line of the log.
struct Line {
    purpose: Purpose,
    id: OperationId,
    at: usize,
    count: usize,
    name: String,
    message: String,
    entry: ReflogEntry,
}

impl Line {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let entry = reflog::parse(bytes)?;
        let mut words = entry.message.splitn(5, ' ');
        let (word, id) = (words.next()?, words.next()?.parse().ok()?);
        let (at, count) = words.next()?.split_once('/')?;
        let (at, count) = (at.parse().ok()?, count.parse().ok()?);
        let (name, rest) = (words.next()?.to_owned(), words.next().unwrap_or_default());
        let other = || rest.split(' ').next()?.parse::<OperationId>().ok();
        let purpose = match word {
            "operation" => Purpose::Change,
            "undo" => Purpose::Undo(other()?),
            "restore" => Purpose::Restore(other()?),
            _ => return None,
        };
        let message = match purpose {
            Purpose::Change => rest,
            _ => rest.split_once(' ').map_or("", |(_, message)| message),
        };
        let message = message.to_owned();
        Some(Self { purpose, id, at, count, name, message, entry })
    }

    fn head(&self) -> Option<HeadMove> {
        let (old, new) = self.name.strip_prefix("HEAD:")?.split_once(':')?;
        let (old_commit, new_commit) = (self.entry.old, self.entry.new);
        let to = |text: &str, commit: Option<CommitId>| match text.strip_prefix(RefKind::Branch.prefix()) {
            Some(name) => BranchName::new(name).ok().map(HeadTo::Branch),
            None => commit.filter(|_| text == "detached").map(HeadTo::Detached),
        };
        Some(HeadMove { old: to(old, old_commit), new: to(new, new_commit), old_commit, new_commit })
    }
}

/// The complete records of a log, oldest first.
pub(super) fn parse(bytes: &[u8]) -> Vec<Operation> {
    records(bytes).iter().map(|record| operation(record)).collect()
}

/// The lines of a log that belong to complete records, as they are.
pub(super) fn whole_lines(bytes: &[u8]) -> Vec<u8> {
    records(bytes).into_iter().flatten().flat_map(|(_, text)| [text, b"\n"].concat()).collect()
}

/// The lines of complete records. What is torn or strange is passed over, as Git does.
fn records(bytes: &[u8]) -> Vec<Vec<(Line, &[u8])>> {
    let mut whole = Vec::new();
    let mut begun: Vec<(Line, &[u8])> = Vec::new();
    for text in bytes.split(|byte| *byte == b'\n') {
        let Some(line) = Line::parse(text) else { continue };
        if line.at == 1 {
            begun.clear();
        } else if begun.last().is_none_or(|(last, _)| last.id != line.id || last.at + 1 != line.at) {
            begun.clear();
            continue;
        }
        let is_last = line.at == line.count;
        begun.push((line, text));
        if is_last {
            whole.push(std::mem::take(&mut begun));
        }
    }
    whole
}

fn operation(record: &[(Line, &[u8])]) -> Operation {
    let lines = || record.iter().map(|(line, _)| line);
    let first = &record[0].0;
    let refs = lines().filter(|line| !line.name.starts_with("HEAD:")).map(|line| RefMove {
        full: line.name.clone(),
        old: line.entry.old,
        new: line.entry.new,
    });
    Operation {
        id: first.id,
        purpose: first.purpose,
        message: first.message.clone(),
        time_seconds: first.entry.time_seconds,
        refs: refs.collect(),
        head: lines().find_map(Line::head),
    }
}
