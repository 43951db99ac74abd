//! Whether a store is whole: everything that any ref leads to is there and is what its name says, for treebox and for stock git.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use treebox::blocking::Engine;
use treebox::history::{History, HistoryError, Options, RefKind, RefName, WalkOptions};
use treebox::object::TreePath;
use treebox::{CommitId, Durability, EngineOptions, FsckOptions, Operation, Severity};

/// Which records of the operation log tell what is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    All,
    AllButOne,
    Some,
}

/// Where every ref is, by its full name, and HEAD.
pub(super) type Refs = BTreeMap<String, String>;

/// The refs of a store.
pub(super) fn refs(store: &Path) -> Refs {
    match open_history(store) {
        Some(history) => refs_of(&history, store),
        None => Refs::new(),
    }
}

fn open_history(store: &Path) -> Option<History> {
    match History::open(&store.join("history.git"), Options { durability: Durability::Batch }) {
        Err(HistoryError::Missing(_)) => None,
        opened => Some(opened.unwrap_or_else(|error| panic!("the history does not open: {error}"))),
    }
}

fn refs_of(history: &History, store: &Path) -> Refs {
    let mut refs = Refs::new();
    for kind in RefKind::ALL {
        for (name, commit) in history.refs(kind).unwrap() {
            // Commits of notes have the time of day in them, so no two are alike.
            let at = if name.kind() == RefKind::Notes { "somewhere".to_owned() } else { commit.to_string() };
            refs.insert(name.full(), at);
        }
    }
    let head = std::fs::read_to_string(store.join("history.git/HEAD")).unwrap();
    refs.insert("HEAD".to_owned(), head.trim_end().to_owned());
    refs
}

/// Panics unless the store is whole; gives its refs.
pub(super) fn whole(store: &Path) -> Refs {
    look(store, Records::All)
}

/// The same after a power cut: the newest record of the operation log may tell of what did not come about.
pub(super) fn whole_after_power_cut(store: &Path, durability: Durability) -> Refs {
    look(store, if durability == Durability::Batch { Records::Some } else { Records::AllButOne })
}

fn look(store: &Path, records: Records) -> Refs {
    let engine =
        Engine::open(EngineOptions::at(store)).unwrap_or_else(|error| panic!("does not open: {error}"));
    let index = treebox::index::Index::open(&store.join("index.db")).unwrap();
    assert_eq!(index.check().unwrap(), Vec::<String>::new(), "the index");
    drop(index);
    let checked = engine.fsck(&FsckOptions::new().full(true)).unwrap();
    // A power cut may take rows of the index, which are found again.
    let worst = if records == Records::All { Severity::Warning } else { Severity::Error };
    let damages: Vec<_> = checked.damages.iter().filter(|damage| damage.severity >= worst).collect();
    assert!(damages.is_empty(), "fsck finds {damages:?}");
    let Some(history) = open_history(store) else { return Refs::new() };
    let refs = refs_of(&history, store);
    let mut tips = BTreeSet::new();
    for kind in RefKind::OF_STATES {
        tips.extend(history.refs(kind).unwrap().into_iter().map(|(_, commit)| commit));
    }
    tips.extend(history.head().unwrap().commit());
    // What was once there can be asked for again.
    let operations = history.operations().unwrap();
    for operation in &operations {
        let moves = operation.refs.iter().filter(|moved| !moved.full.starts_with("refs/notes/"));
        tips.extend(moves.flat_map(|moved| [moved.old, moved.new]).flatten());
        tips.extend(operation.head.iter().flat_map(|head| [head.old_commit, head.new_commit]).flatten());
    }
    history.notes().unwrap().list().unwrap();
    states_are_whole(&engine, &history, tips);
    operations_agree(&history, &refs, records);
    git_agrees(store);
    refs
}

fn states_are_whole(engine: &Engine, history: &History, tips: BTreeSet<CommitId>) {
    let options = WalkOptions { tips: tips.into_iter().collect(), ..WalkOptions::default() };
    let mut seen = BTreeSet::new();
    let mut files = BTreeSet::new();
    for walked in history.walk(&options).unwrap() {
        let commit = walked.unwrap_or_else(|error| panic!("a commit cannot be read: {error}")).id;
        let record = history.read_commit(&commit).unwrap_or_else(|error| panic!("{commit}: {error}"));
        let record: serde_json::Value = serde_json::from_slice(&record.record).unwrap();
        if !seen.insert(record["state"].as_str().unwrap().to_owned()) {
            continue;
        }
        let state = engine.state(record["state"].as_str().unwrap().parse().unwrap());
        let state = state.unwrap_or_else(|error| panic!("the state of {commit}: {error}"));
        let root = TreePath::root();
        for entry in engine.list(&state, &root, true).unwrap_or_else(|error| panic!("{commit}: {error}")) {
            if let treebox::Node::File { blob, .. } = &entry.entry.node
                && files.insert(*blob)
            {
                let read = engine.read_file(&state, &entry.path);
                read.unwrap_or_else(|error| panic!("{} of {commit}: {error}", entry.path));
            }
        }
    }
}

/// Every ref is where the newest operation on record that moved it says.
fn operations_agree(history: &History, refs: &Refs, records: Records) {
    let mut operations = history.operations().unwrap();
    if records == Records::Some {
        return;
    }
    if records == Records::AllButOne && !disagreeing(&operations, refs).is_empty() {
        operations.pop();
    }
    let wrong = disagreeing(&operations, refs);
    assert!(wrong.is_empty(), "the operation log tells otherwise of {wrong:?}");
}

fn disagreeing(operations: &[Operation], refs: &Refs) -> Vec<String> {
    let mut said: BTreeMap<&str, Option<CommitId>> = BTreeMap::new();
    for operation in operations {
        said.extend(operation.refs.iter().map(|moved| (moved.full.as_str(), moved.new)));
    }
    let is_elsewhere = |full: &str, commit: Option<CommitId>| {
        let known = RefName::from_full(full).is_some_and(|name| name.kind() != RefKind::Notes);
        known && refs.get(full).map(String::as_str) != commit.map(|id| id.to_string()).as_deref()
    };
    said.retain(|full, commit| is_elsewhere(full, *commit));
    said.into_keys().map(str::to_owned).collect()
}

fn git_agrees(store: &Path) {
    let git = Command::new("git")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .arg("--git-dir")
        .arg(store.join("history.git"))
        .args(["fsck", "--strict", "--no-dangling", "--no-progress"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[git.stdout, git.stderr].concat()).into_owned();
    // A HEAD without commits is what every new repository has.
    let said: Vec<_> = said.lines().filter(|line| !line.starts_with("notice: ")).collect();
    assert!(git.status.success() && said.is_empty(), "git fsck: {said:?}");
}
