#![allow(clippy::unwrap_used)]

mod commits;
mod crash;
mod damage;
mod model;
mod names;
mod notes;
mod operations;
mod pack;
mod refs;
mod resolve;
mod stock_git;
mod thin;
mod times;

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::object::CommitId;

struct Fixture {
    root: tempfile::TempDir,
    history: History,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Durability::Batch)
    }

    fn with(durability: Durability) -> Self {
        let root = tempfile::tempdir().unwrap();
        let history =
            History::open_or_init(&root.path().join("history.git"), Options { durability }).unwrap();
        Self { root, history }
    }

    fn again(&self) -> History {
        History::open(&self.root.path().join("history.git"), Options { durability: Durability::Batch })
            .unwrap()
    }

    /// Runs stock git, away from its user's configuration, and gives what it printed.
    fn git(&self, arguments: &[&str]) -> String {
        let output = git_command(self.history.directory()).args(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "git {arguments:?}: {err}");
        out.trim_end().to_owned()
    }

    /// A commit with that message on those parents.
    fn commit(&self, message: &str, parents: &[CommitId]) -> CommitId {
        self.history.write_commit(&new_commit(message, parents)).unwrap()
    }

    /// `count` commits in a row.
    fn chain(&self, count: usize) -> Vec<CommitId> {
        let commits = (0..count).map(|n| new_commit(&format!("step {n}"), &[])).enumerate();
        let dated = commits.map(|(n, commit)| NewCommit { time_seconds: 1_000 + n as i64, ..commit });
        self.history.write_chain(dated.collect()).unwrap()
    }

    fn set(&self, name: impl Into<RefName>, commit: CommitId) {
        let edit = RefEdit { name: name.into(), expected: Expected::Any, new: Some(commit) };
        self.history.edit(&[edit], "set", &who(1)).unwrap();
    }

    fn fsck(&self) {
        let output =
            git_command(self.history.directory()).args(["fsck", "--strict", "--full"]).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let bad: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("dangling") && !line.starts_with("notice"))
            .collect();
        assert!(output.status.success() && bad.is_empty(), "{text}");
    }
}

fn git_command(directory: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(directory).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    git.env("GIT_AUTHOR_NAME", "a").env("GIT_AUTHOR_EMAIL", "a@b");
    git.env("GIT_COMMITTER_NAME", "a").env("GIT_COMMITTER_EMAIL", "a@b");
    git
}

fn new_commit(message: &str, parents: &[CommitId]) -> NewCommit {
    NewCommit {
        parents: parents.to_vec(),
        message: message.to_owned(),
        record: format!("{{\"command\":\"{message}\"}}\n").into_bytes(),
        time_seconds: 1_000,
    }
}

fn who(time_seconds: i64) -> Who {
    Who::treebox(time_seconds)
}

fn branch(name: &str) -> BranchName {
    BranchName::new(name).unwrap()
}

fn set(name: &str, expected: Expected, new: CommitId) -> RefEdit {
    RefEdit { name: branch(name).into(), expected, new: Some(new) }
}

fn lock_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { lock_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "lock"))
        .collect()
}

/// Makes a file look as if its owner had died long ago.
fn age(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - 2 * STALE_LOCK_AGE).unwrap();
}
