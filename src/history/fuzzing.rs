//! What the fuzz targets do with any bytes that stand where this room's own files should; see `object::fuzzing`.

use std::path::Path;

use super::{
    Durability, Expected, Head, History, Options, RefEdit, RefKind, RefName, Who, journal, operations, reflog,
};
use crate::disk::Scratch;
use crate::object::CommitId;

/// A log of refs, or the operation log, read in every way.
pub fn logs(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(entry) = reflog::parse(line) {
            let who = Who::treebox(entry.time_seconds);
            let again = reflog::line(entry.old, entry.new, &who, &entry.message);
            let again = reflog::parse(again.trim_end_matches('\n').as_bytes())
                .expect("a line that was written is read");
            assert_eq!(
                (again.old, again.new, again.time_seconds),
                (entry.old, entry.new, entry.time_seconds)
            );
            assert_eq!(again.message, reflog::one_line(&entry.message));
        }
    }
    let complete = operations::parse(bytes);
    let torn = operations::parse(&[bytes, b"\n0000000000000000000000000000000000000000 torn"].concat());
    assert_eq!(complete, torn, "what is torn takes nothing with it");
}

/// The note in `history.lock`.
pub fn note(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for full in journal::names_in(text).unwrap_or_default() {
        // A note makes its reader remove lock files of these names and nothing else.
        assert!(!full.contains("..") && !full.starts_with('/'), "{full}");
    }
}

/// A repository whose files were damaged: `HEAD`, `refs/heads/main`, `packed-refs`, the operation log, the log of `main` and `history.lock`, separated by NUL bytes.
///
/// It is opened, read in every way, and a branch is moved.
pub fn files(bytes: &[u8]) {
    let (dir, commit) = repository();
    lay_out(dir.path(), bytes);
    let directory = dir.path().join("history.git");
    let Ok(history) = History::open(&directory, Options { durability: Durability::Batch }) else { return };
    if let Ok(Head::Branch { name, .. }) = history.head() {
        assert!(!name.to_string().contains(".."));
    }
    let main = RefName::from_full("refs/heads/main").expect("a constant name is valid");
    for kind in [RefKind::Branch, RefKind::Tag, RefKind::Image] {
        // Errors are for those who use them.
        let _ = history.refs(kind);
    }
    let _ = (history.reflog(&main), history.head_reflog(), history.operations());
    let edit = RefEdit { name: main.clone(), expected: Expected::Any, new: Some(commit) };
    if history.edit(&[edit], "fuzz", &Who::treebox(1)).is_ok() {
        let found = history.read_ref(&main);
        assert!(
            matches!(found, Ok(Some(found)) if found == commit),
            "what was moved is there: {found:?} {:?}",
            String::from_utf8_lossy(bytes)
        );
        // An operation log in which nothing can be read yet may take no record; what it took is whole.
        let _ = history.undo(&Who::treebox(2));
    }
}

const FILES: [&str; 6] = [
    "history.git/HEAD",
    "history.git/refs/heads/main",
    "history.git/packed-refs",
    "history.git/logs/refs/treebox/operations",
    "history.git/logs/refs/heads/main",
    "history.lock",
];

fn repository() -> (Scratch, CommitId) {
    let dir = Scratch::new(&std::env::temp_dir()).expect("there is a place for temporary files");
    let options = Options { durability: Durability::Batch };
    let history = History::open_or_init(&dir.path().join("history.git"), options)
        .expect("an empty place takes a repository");
    let commit = history.write_commit(&super::NewCommit {
        parents: Vec::new(),
        record: b"{}\n".to_vec(),
        message: "fuzz".to_owned(),
        time_seconds: 1,
    });
    (dir, commit.expect("a repository takes a commit"))
}

/// Puts the pieces where the files are.
fn lay_out(dir: &Path, bytes: &[u8]) {
    let mut pieces = bytes.split(|byte| *byte == 0);
    for file in FILES {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().expect("a file lies in a directory"))
            .expect("directories are made");
        match pieces.next() {
            Some(piece) if !piece.is_empty() => std::fs::write(&path, piece).expect("files are written"),
            _ => drop(std::fs::remove_file(&path)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::object::fuzzing::shaking::shake;

    const COMMIT: &str = "b3a1c0ffee00112233445566778899aabbccddee";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn log() -> String {
        let who = "treebox <treebox@localhost> 1763780000 +0000";
        let id = "0123456789abcdef0123456789abcdef";
        let (one, two) = ("refs/heads/main", "HEAD:refs/heads/main:refs/heads/side");
        format!(
            "{NONE} {COMMIT} {who}\toperation {id} 1/2 {one} run: make\n{COMMIT} {COMMIT} {who}\toperation {id} 2/2 {two} run: make\n\
             {COMMIT} {NONE} {who}\tundo {id} 1/1 {one} {id} run: make\n{NONE} {COMMIT} {who}\trestore {id} 1/1 {one} {id} back\n"
        )
    }

    fn note() -> String {
        format!(
            "treebox history edit 2\nwho treebox <treebox@localhost> 1763780000 +0000\nwhy run: make\nref {NONE} {COMMIT} refs/heads/main\n\
             ref {COMMIT} {NONE} refs/images/a%3ab\nhead unknown refs/heads/main\nfile refs/treebox/operations\nfile HEAD\nfile packed-refs\nlog 12\nend\n"
        )
    }

    #[test]
    fn logs_and_notes_take_any_bytes() {
        shake("ref_logs", super::logs, vec![log().into_bytes()], 6_000);
        let old = note().replace("edit 2", "edit 1");
        shake("edit_note", super::note, vec![note().into_bytes(), old.into_bytes()], 12_000);
    }

    #[test]
    fn a_repository_with_damaged_files_is_read_or_refused_and_moves_refs_whole() {
        let files = |head: &str, main: &str, packed: &str, note: &str| {
            [head, main, packed, &log(), &log(), note].join("\0").into_bytes()
        };
        let id = super::repository().1.to_string();
        let packed = format!(
            "# pack-refs with: peeled fully-peeled sorted \n{id} refs/heads/main\n{id} refs/tags/v1\n^{id}\n"
        );
        let note = note().replace(COMMIT, &id);
        let seeds = vec![
            files("ref: refs/heads/main\n", &format!("{id}\n"), "", ""),
            files(&format!("{id}\n"), "", &packed, ""),
            files("ref: refs/heads/side\n", &format!("{id}\n"), &packed, &note),
        ];
        shake("history_files", super::files, seeds, 120);
    }
}
