//! Recipes of damage: what is done to a sound store, a line for each step.
//!
//! `{name}` is an id of `fixtures/store-v1.txt`, `{blob NAME}` the file of a blob, `{git NAME}` that of a loose Git object. Paths are below
//! the store; a path and bytes are text with `\xNN` and `\n`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use treebox::history::{BranchName, Expected, History, NewCommit, Options, RefEdit, RefName, Who};
use treebox::object::{Entry, Meta, Name, Node, Platform, State, Summary, Timestamp, Tree};

pub(super) struct Recipe {
    pub(super) name: String,
    /// Names that are found besides, since the one damage shows there as well.
    pub(super) also: Vec<String>,
    /// Whether something is lost that nothing can bring back.
    pub(super) lost: bool,
    steps: Vec<String>,
}

/// Every recipe of `fixtures/damaged`.
pub(super) fn all() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for entry in fs::read_dir(super::fixtures().join("damaged")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (mut also, mut lost, mut steps) = (Vec::new(), false, Vec::new());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(' ') {
                Some(("also", names)) => also.extend(names.split(' ').map(str::to_owned)),
                None if line == "lost" => lost = true,
                _ => steps.push(line.to_owned()),
            }
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        recipes.push(Recipe { name, also, lost, steps });
    }
    recipes.sort_by(|a, b| a.name.cmp(&b.name));
    recipes
}

impl Recipe {
    /// Does all of it to a store.
    pub(super) fn apply(&self, store: &Path) {
        let known = super::known();
        for step in &self.steps {
            let step = filled(step, &known);
            let (verb, rest) = step.split_once(' ').unwrap_or((&step, ""));
            perform(store, verb, rest).unwrap_or_else(|| panic!("{}: `{step}` is no step", self.name));
        }
    }
}

fn filled(step: &str, known: &BTreeMap<String, String>) -> String {
    let mut filled = String::new();
    let mut rest = step;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap();
        filled += before;
        let id = |name: &str| known.get(name).unwrap_or_else(|| panic!("{name} is not in store-v1.txt"));
        filled += &match name.split_once(' ') {
            Some(("blob", name)) => format!("objects/{}/{}", &id(name)[..2], &id(name)[2..]),
            Some(("git", name)) => format!("history.git/objects/{}/{}", &id(name)[..2], &id(name)[2..]),
            _ => id(name).clone(),
        };
        rest = after;
    }
    filled + rest
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [b'n', after @ ..]) => {
                bytes.push(b'\n');
                rest = after;
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

fn perform(store: &Path, verb: &str, rest: &str) -> Option<()> {
    let mut words = rest.splitn(2, ' ');
    let (first, more) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = store.join(first);
    match verb {
        "flip" => flip(&path, more.parse().unwrap()),
        "truncate" => writable(&path).set_len(more.parse().unwrap()).unwrap(),
        "append" => {
            let len = fs::metadata(&path).unwrap().len();
            writable(&path).write_all_at(&bytes(more), len).unwrap();
        }
        "write" => {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            drop(fs::remove_file(&path));
            fs::write(&path, bytes(more)).unwrap();
        }
        "remove" if path.is_dir() => fs::remove_dir_all(&path).unwrap(),
        "remove" => fs::remove_file(&path).unwrap(),
        "mkdir" => fs::create_dir_all(&path).unwrap(),
        "rename" => fs::rename(&path, store.join(more)).unwrap(),
        "link" => fs::hard_link(&path, store.join(more)).unwrap(),
        "old" => {
            let file = fs::File::open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
        "sql" => rusqlite::Connection::open(store.join("index.db")).unwrap().execute_batch(rest).unwrap(),
        "flip-record" => {
            let (file, at) = record(store, first);
            flip(&file, at + 37 + more.parse::<u64>().unwrap());
        }
        "flip-segment" => flip(&last_segment(store), rest.parse().unwrap()),
        "append-segment" => {
            let path = last_segment(store);
            let len = fs::metadata(&path).unwrap().len();
            writable(&path).write_all_at(&bytes(rest), len).unwrap();
        }
        // Bytes in the middle: a record that is there already stands behind them once more.
        "garbage-segment" => {
            let (path, at) = record(store, first);
            let segment = fs::read(&path).unwrap();
            let len = u32::from_le_bytes(segment[at as usize + 1..at as usize + 5].try_into().unwrap());
            let record = &segment[at as usize..at as usize + 37 + len as usize];
            let end = [&segment, bytes(more).as_slice(), record].concat();
            fs::write(&path, end).unwrap();
        }
        "drop-record" => {
            let (path, at) = record(store, first);
            let segment = fs::read(&path).unwrap();
            let len = u32::from_le_bytes(segment[at as usize + 1..at as usize + 5].try_into().unwrap());
            let end = at as usize + 37 + len as usize;
            fs::write(&path, [&segment[..at as usize], &segment[end..]].concat()).unwrap();
            fs::remove_file(store.join("index.db")).unwrap();
        }
        "plant" => plant(store, rest),
        _ => return None,
    }
    Some(())
}

fn writable(path: &Path) -> fs::File {
    // Blobs are read-only for their owner as well.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::File::options().read(true).write(true).open(path).unwrap()
}

fn flip(path: &Path, at: u64) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mode = fs::metadata(path).unwrap().permissions();
    let file = writable(path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.set_modified(modified).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

fn segments(store: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(store.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = listed.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    found.sort();
    found
}

fn last_segment(store: &Path) -> PathBuf {
    segments(store).pop().unwrap()
}

/// Where the record of an object begins.
fn record(store: &Path, id: &str) -> (PathBuf, u64) {
    let id: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).unwrap()).collect();
    for path in segments(store) {
        let bytes = fs::read(&path).unwrap();
        let mut at = 8;
        while at < bytes.len() {
            if bytes[at + 5..at + 37] == *id {
                return (path, at as u64);
            }
            at += 37 + u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        }
    }
    panic!("no segment holds {id:?}");
}

/// Puts something into the store that a program with a fault would write: hashes are right, and a branch `planted` leads there.
fn plant(store: &Path, what: &str) {
    let file = |bytes: &[u8]| {
        let id = blake3::hash(bytes).to_string();
        let path = store.join("objects").join(&id[..2]).join(&id[2..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        id.parse().unwrap()
    };
    let meta = Meta::root_owned(0o644, Timestamp::default());
    let mut link = None;
    if what == "tree-links" {
        link = Some(treebox::object::LinkGroup::from_bytes([7; 16]));
    }
    let blob = file(b"planted\n");
    let entry = |name: &[u8]| {
        let node = Node::File { blob, size: 8, link };
        (Name::new(name).unwrap(), Entry { meta: meta.clone(), node })
    };
    let mut names = vec![entry(b"a")];
    if link.is_some() {
        names.push(entry(b"b"));
    }
    let tree = Tree::from_sorted(names);
    let (mut id, mut bytes) = tree.encode().unwrap();
    let mut below = tree.summary().unwrap();
    match what {
        "tree-malformed" => {
            bytes.truncate(bytes.len() - 1);
            id = treebox::TreeId::from_bytes(*blake3::hash(&bytes).as_bytes());
        }
        "tree-sums" => below = Summary { bytes: 9, ..below },
        _ => {}
    }
    let root = Entry {
        meta: Meta::root_owned(0o755, Timestamp::default()),
        node: Node::Directory { tree: id, below },
    };
    let (root_id, root_bytes) = Tree::encode_root(&root);
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
    let config = treebox::Config { platform, ..treebox::Config::default() };
    let (mut state_id, mut state_bytes) = State { root: root_id, config }.encode();
    if what == "state-malformed" {
        state_bytes.push(0);
        state_id = treebox::StateId::from_bytes(*blake3::hash(&state_bytes).as_bytes());
    }
    let mut segment = b"tbseg\0\0\x01".to_vec();
    for (kind, bytes) in [(1, &bytes), (1, &root_bytes), (2, &state_bytes)] {
        segment.push(kind);
        segment.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        segment.extend(blake3::hash(bytes).as_bytes());
        segment.extend(bytes);
    }
    fs::write(store.join("objects/pack/00000009.seg"), segment).unwrap();
    let said_tree = match what {
        "commit-contradiction" => "00".repeat(32),
        _ => root_id.to_string(),
    };
    let record = json!({"version": 1, "kind": "state", "state": state_id.to_string(), "tree": said_tree});
    let history = History::open(&store.join("history.git"), Options::default()).unwrap();
    let record = match what {
        "commit-record" => b"{}".to_vec(),
        _ => record.to_string().into_bytes(),
    };
    let parents = match what {
        "commit-missing" => vec![treebox::CommitId::from_bytes([0x11; 20])],
        _ => Vec::new(),
    };
    let commit = NewCommit { parents, message: "planted".into(), record, time_seconds: 0 };
    let id = history.write_commit(&commit).unwrap();
    let name = RefName::Branch(BranchName::new("planted").unwrap());
    let edit = RefEdit { name, expected: Expected::Absent, new: Some(id) };
    history.edit(&[edit], "planted", &Who::treebox(0)).unwrap();
}
