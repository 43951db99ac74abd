//! What a change of refs is about to do, kept in the lock file while it is done.
//!
//! A process that is killed leaves Git's lock files, and an edit of several refs half done. Whoever takes the kernel's lock next
//! finds the note, knows that its writer is dead, removes those lock files and finishes the edit.
//!
//! The note is text: a first line, then `who` and `why`, then per ref `ref OLD NEW NAME` (40 hex digits, zeros for
//! "not there"), `head OLD NEW` when HEAD moves (a branch's full name, a commit or `unknown`), per other file that is locked `file NAME`, `log LEN`
//! with the length that the operation log had, and `end`. One that does not end was never acted on.

use std::cell::Cell;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::edit::{Change, HeadStep};
use super::git::Step;
use super::operations::{HeadTo, LOG_REF};
use super::{
    BranchName, Durability, EditError, Expected, History, HistoryError, RefEdit, RefKind, RefName, Who, sync,
};
use crate::object::CommitId;

/// Opening must not wait for long; the next edit recovers as well.
const RECOVERY_TRIES: usize = 4;

const FIRST_LINE: &str = "treebox history edit 2";
/// Written before there was an operation log; it has no `head` and no `log`.
const FIRST_LINE_1: &str = "treebox history edit 1";
const NOTHING: CommitId = CommitId::from_bytes([0; 20]);

/// The kernel's lock on the history, with the note in it. Both end when it is dropped.
pub(super) struct Lock {
    file: File,
    keep: Cell<bool>,
}

/// A change that a dead process began.
struct Note {
    who: Who,
    message: String,
    refs: Vec<(String, Option<CommitId>, Option<CommitId>)>,
    head: Option<(Option<HeadTo>, HeadTo)>,
    files: Vec<String>,
    log_len: Option<u64>,
}

impl Lock {
    /// Notes a change of refs, and of other files in the repository, before it begins.
    ///
    /// One ref changes at one instant, so only what several do must survive a power cut.
    pub(super) fn note(
        &self,
        history: &History,
        steps: &[Step],
        head: Option<&HeadStep>,
        log_len: u64,
        message: &str,
        who: &Who,
    ) -> Result<(), HistoryError> {
        let mut text = format!("{FIRST_LINE}\nwho {}\nwhy {message}\n", who.signature());
        for step in steps {
            let (old, new) = (step.old.commit().unwrap_or(NOTHING), step.new.unwrap_or(NOTHING));
            text.push_str(&format!("ref {old} {new} {}\n", step.full));
        }
        let mut files = vec![LOG_REF];
        if let Some(head) = head {
            let old = head.old.as_ref().map_or_else(|| UNKNOWN.to_owned(), label);
            text.push_str(&format!("head {old} {}\n", label(&head.new)));
            files.push("HEAD");
        }
        // It is locked to delete a ref from it, and to pack one, which stays where it is.
        if steps.iter().any(|step| step.new.is_none() || step.new == step.old.commit()) {
            files.push("packed-refs");
        }
        for file in files {
            text.push_str(&format!("file {file}\n"));
        }
        text.push_str(&format!("log {log_len}\n"));
        text.push_str("end\n");
        let durable =
            steps.len() + usize::from(head.is_some()) > 1 && history.durability() == Durability::Commit;
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        let written = written.and_then(|()| if durable { self.file.sync_all() } else { Ok(()) });
        written.map_err(|source| HistoryError::io("writing", &history.lock_path, source))
    }
}

impl Lock {
    /// Notes that the locks of refs, HEAD among them, are about to be taken although nothing moves: should this process be killed, they are nobody's.
    pub(super) fn note_locks(&self, history: &History, names: &[String]) -> Result<(), HistoryError> {
        let git = history.git.local();
        let mut text = format!("{FIRST_LINE}\nwho {}\nwhy thin out logs\n", Who::treebox(0).signature());
        for full in names.iter().filter(|full| RefName::from_full(full).is_some()) {
            if let Some(commit) = git.find(full).ok().flatten().map(|value| value.commit) {
                text.push_str(&format!("ref {commit} {commit} {full}\n"));
            }
        }
        text.push_str(&format!("file {LOG_REF}\nfile HEAD\nlog {}\nend\n", history.operations_len()));
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        written.map_err(|source| HistoryError::io("writing", &history.lock_path, source))
    }

    /// Leaves the note for the next holder: the change failed when it had begun.
    pub(super) fn keep_note(&self) {
        self.keep.set(true);
    }

    /// The note has been acted on.
    fn drop_note(&self) {
        self.keep.set(false);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.keep.get() {
            // A note that stays is acted on by the next holder, who will find everything done.
            let _ = self.file.set_len(0);
        }
    }
}

impl History {
    /// Takes the lock that every change of a ref happens under, and finishes what its last holder could not.
    pub(super) fn lock(&self) -> Result<Lock, EditError> {
        if self.read_only {
            return Err(HistoryError::ReadOnly.into());
        }
        let mut file = sync::lock(&self.lock_path)
            .map_err(|source| HistoryError::io("locking", &self.lock_path, source))?;
        let mut text = String::new();
        // What is not text is no note.
        let _ = file.read_to_string(&mut text);
        let lock = Lock { file, keep: Cell::new(false) };
        if let Some(note) = parse(&text) {
            // Whoever fails here, or is killed, leaves the whole note to the next: what has moved already is told by it alone.
            lock.keep_note();
            match self.finish(&lock, &note) {
                Err(EditError::History(error)) if !matches!(error, HistoryError::MissingCommit(_)) => {
                    return Err(error.into());
                }
                // What stands in its way will stand there for ever, and nobody could change anything: it is left as it is.
                Err(_) | Ok(()) => lock.drop_note(),
            }
        }
        Ok(lock)
    }

    /// Finishes what a dead process began. Called when a history is opened: one look at the lock file.
    pub(super) fn recover(&self) -> Result<(), EditError> {
        for _ in 0..RECOVERY_TRIES {
            if std::fs::metadata(&self.lock_path).map_or(0, |metadata| metadata.len()) == 0 {
                return Ok(());
            }
            if sync::is_unlocked(&self.lock_path) {
                return self.lock().map(drop);
            }
            // Held by a living process, which needs no help, or for an instant by a child that a program with threads is about to
            // start: it has the lock until it executes.
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn finish(&self, lock: &Lock, note: &Note) -> Result<(), EditError> {
        let names = note.refs.iter().map(|(name, ..)| name).chain(&note.files);
        for name in names {
            // Nobody else's: while the dead one lived, stock git could not have made it.
            let _ = std::fs::remove_file(sync::lock_path(&self.directory.join(name)));
        }
        let git = self.git.local();
        let mut moved = false;
        let mut left = Vec::new();
        for (full, old, new) in &note.refs {
            let found = git.find(full).ok().flatten().map(|value| value.commit);
            moved |= found == *new;
            // After a power cut a commit may be missing that nobody had synced: nothing can be moved there.
            let can_be_done = new.is_none_or(|new| git.has_commit(&new));
            if found == *old
                && can_be_done
                && let Some(name) = RefName::from_full(full)
            {
                left.push(RefEdit { name, expected: old.map_or(Expected::Absent, Expected::Is), new: *new });
            }
        }
        let mut head = None;
        if let Some((old, new)) = &note.head {
            let now = self.head().ok().map(|head| head.to());
            moved |= now.as_ref() == Some(new);
            head = (now == *old).then(|| new.clone().into());
        }
        if !moved {
            // It is as if nothing had begun: neither its record stays nor the log of a name that was to be made.
            for (full, ..) in note.refs.iter().filter(|(_, old, _)| old.is_none()) {
                let _ = std::fs::remove_file(self.log_path(full));
            }
            return Ok(note.log_len.map_or(Ok(()), |len| self.forget_operation(len))?);
        }
        // The others follow.
        if left.is_empty() && head.is_none() {
            return Ok(());
        }
        let recorded = note.log_len.is_some();
        let change = Change::new(&note.message, &note.who);
        self.change_locked(
            lock,
            &Change { edits: &left, head: head.as_ref(), resumes: true, recorded, ..change },
        )
    }
}

const UNKNOWN: &str = "unknown";

fn label(to: &HeadTo) -> String {
    match to {
        HeadTo::Branch(name) => format!("{}{name}", RefKind::Branch.prefix()),
        HeadTo::Detached(commit) => commit.to_string(),
    }
}

fn read_label(text: &str) -> Option<HeadTo> {
    match text.strip_prefix(RefKind::Branch.prefix()) {
        Some(name) => BranchName::new(name).ok().map(HeadTo::Branch),
        None => text.parse().ok().map(HeadTo::Detached),
    }
}

/// The refs and files that a note names.
#[cfg(any(test, fuzzing))]
pub(super) fn names_in(text: &str) -> Option<Vec<String>> {
    let note = parse(text)?;
    Some(note.refs.into_iter().map(|(full, ..)| full).chain(note.files).collect())
}

fn parse(text: &str) -> Option<Note> {
    let text = text.strip_suffix("end\n")?;
    let mut lines = text.lines();
    if ![FIRST_LINE, FIRST_LINE_1].contains(&lines.next()?) {
        return None;
    }
    let (name, rest) = lines.next()?.strip_prefix("who ")?.split_once(" <")?;
    let (email, time) = rest.split_once("> ")?;
    let who = Who {
        name: name.to_owned(),
        email: email.to_owned(),
        time_seconds: time.split(' ').next()?.parse().ok()?,
    };
    let message = lines.next()?.strip_prefix("why ")?.to_owned();
    let mut note = Note { who, message, refs: Vec::new(), head: None, files: Vec::new(), log_len: None };
    if text.starts_with(FIRST_LINE_1) {
        // Who finishes such an edit has it recorded, and may be killed meanwhile.
        note.files.push(LOG_REF.to_owned());
    }
    for line in lines {
        if let Some(file) = line.strip_prefix("file ") {
            // Only names that are written above; a note must not make anybody remove other files.
            note.files.extend(["HEAD", "packed-refs", LOG_REF].contains(&file).then(|| file.to_owned()));
            continue;
        }
        if let Some(len) = line.strip_prefix("log ") {
            note.log_len = Some(len.parse().ok()?);
            continue;
        }
        if let Some((old, new)) = line.strip_prefix("head ").and_then(|line| line.split_once(' ')) {
            note.head = Some((read_label(old), read_label(new)?));
            continue;
        }
        let mut words = line.strip_prefix("ref ")?.splitn(3, ' ');
        let mut id = || Some(words.next()?.parse::<CommitId>().ok()).flatten();
        let (old, new) = (id()?, id()?);
        let full = words.next()?;
        RefName::from_full(full)?;
        let some = |id: CommitId| (id != NOTHING).then_some(id);
        note.refs.push((full.to_owned(), some(old), some(new)));
    }
    Some(note)
}
