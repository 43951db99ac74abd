//! From commits down to blobs: is everything there, and what does it hit if not?

use std::collections::{BTreeMap, HashMap, HashSet};

use super::facts::Facts;
use super::objects::Found;
use super::refs::{Refs, count};
use super::{DamageKind, MAX_HITS, Pass, Reach, Severity};
use crate::object::{BlobId, MAX_DEPTH, Node, StateId, Summary, Tree, TreeId, TreePath};
use crate::store::check::{BlobState, check_blob};
use crate::store::{ObjectKind, StoreError};

/// Commits that are looked through for paths that a damage hits, at most.
const MAX_SEARCHED_COMMITS: usize = 10_000;

/// An object with something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Object {
    Blob(BlobId),
    Tree(TreeId),
    State(StateId),
}

struct Problem {
    kind: DamageKind,
    detail: String,
    reach: Reach,
    hits: Vec<String>,
}

/// What was reached, and what is wrong there.
#[derive(Default)]
pub(super) struct Walked {
    problems: BTreeMap<Object, Problem>,
    trees: HashMap<TreeId, Mark>,
    roots: HashMap<TreeId, bool>,
    states: HashMap<StateId, Option<TreeId>>,
    blobs: HashSet<BlobId>,
    /// Trees and states that a ref leads to.
    pub(super) named: HashSet<[u8; 32]>,
}

/// A directory that was looked at.
#[derive(Clone, Copy)]
struct Mark {
    /// Whether something at or below it is wrong.
    dirty: bool,
    /// What it comes to, if it can be read.
    sums: Option<Summary>,
}

impl Walked {
    /// Whether everything below a root tree is there, as far as that was looked at.
    pub(super) fn is_whole(&self, root: &TreeId) -> bool {
        self.roots.get(root).is_some_and(|dirty| !dirty)
    }

    /// What was reached so far is what refs lead to.
    fn note_named(&mut self) {
        let trees = self.trees.keys().chain(self.roots.keys()).map(|id| *id.as_bytes());
        self.named = trees.chain(self.states.keys().map(|id| *id.as_bytes())).collect();
    }
}

impl Pass<'_> {
    pub(super) fn walk(&mut self, refs: &Refs, facts: &Facts, found: &Found) -> Walked {
        let mut walk = Walk { pass: self, found, walked: Walked::default(), reach: Reach::Named };
        for reach in [Reach::Named, Reach::Logged] {
            walk.reach = reach;
            for commit in refs.commits.iter().filter(|commit| commit.reach == reach) {
                let Some(state) = commit.state else { continue };
                let root = walk.state(state);
                if let (Some(root), Some(said)) = (root, commit.tree)
                    && root != said
                {
                    let detail = format!("its state.json says tree {said}, its state has {root}");
                    let severity = if reach == Reach::Named { Severity::Error } else { Severity::Warning };
                    let (id, hits) = (commit.id.to_string(), vec![commit.name.clone()]);
                    walk.pass.tell_as(DamageKind::CommitRecord, severity, id, detail, hits);
                }
            }
            if reach == Reach::Named {
                walk.walked.note_named();
            }
        }
        walk.reach = Reach::Remembered;
        for state in &facts.states {
            walk.state(*state);
        }
        for tree in &facts.trees {
            walk.root(*tree);
        }
        walk.walked.blobs.extend(&facts.blobs);
        let mut walked = walk.walked;
        name_hits(refs, found, &mut walked);
        self.unreached(found, &mut walked);
        for (object, problem) in &walked.problems {
            let id = match object {
                Object::Blob(id) => id.to_string(),
                Object::Tree(id) => id.to_string(),
                Object::State(id) => id.to_string(),
            };
            let gone = matches!(
                problem.kind,
                DamageKind::BlobMissing | DamageKind::TreeMissing | DamageKind::StateMissing
            );
            let severity = match problem.reach {
                Reach::Named => Severity::Error,
                // What a log names may have been removed as too old.
                Reach::Logged if gone => Severity::Info,
                // What is remembered and gone is a miss, as it should be.
                Reach::Remembered if gone => continue,
                _ => Severity::Warning,
            };
            self.tell_as(problem.kind, severity, id, problem.detail.clone(), problem.hits.clone());
        }
        walked
    }

    /// Objects that nothing led to.
    fn unreached(&mut self, found: &Found, walked: &mut Walked) {
        let mut extra = [(0usize, 0u64); 3];
        for (id, file) in &found.blobs.blobs {
            if !walked.blobs.contains(id) {
                extra[0].0 += 1;
                extra[0].1 += file.len;
            }
        }
        for (id, kind, located) in found.segments.iter() {
            let (reached, at) = match kind {
                ObjectKind::State => (walked.states.contains_key(&StateId::from_bytes(*id)), 2),
                _ => {
                    let id = TreeId::from_bytes(*id);
                    (walked.trees.contains_key(&id) || walked.roots.contains_key(&id), 1)
                }
            };
            if !reached {
                extra[at].0 += 1;
                extra[at].1 += u64::from(located.len);
            }
        }
        let kinds = [DamageKind::BlobExtra, DamageKind::TreeExtra, DamageKind::StateExtra];
        let places = ["objects", "objects/pack", "objects/pack"];
        for ((kind, place), (number, bytes)) in kinds.into_iter().zip(places).zip(extra) {
            if number > 0 {
                let detail = format!("{}, {bytes} bytes", count(number, "object", "objects"));
                self.tell(kind, place, detail);
            }
        }
        for (id, state) in &found.bad_blobs {
            let object = Object::Blob(*id);
            if !walked.problems.contains_key(&object)
                && let Some((kind, detail)) = blob_problem(state)
            {
                let problem = Problem { kind, detail, reach: Reach::Remembered, hits: Vec::new() };
                walked.problems.insert(object, problem);
            }
        }
        for (id, (kind, place)) in &found.flipped {
            let (object, kind) = match kind {
                ObjectKind::State => (Object::State(StateId::from_bytes(*id)), DamageKind::StateFlipped),
                _ => (Object::Tree(TreeId::from_bytes(*id)), DamageKind::TreeFlipped),
            };
            walked.problems.entry(object).or_insert_with(|| Problem {
                kind,
                detail: place.clone(),
                reach: Reach::Remembered,
                hits: Vec::new(),
            });
        }
    }
}

fn blob_problem(state: &BlobState) -> Option<(DamageKind, String)> {
    match state {
        BlobState::Sound | BlobState::Missing => None,
        BlobState::Flipped(_) => Some((DamageKind::BlobFlipped, "its bytes have another hash".to_owned())),
        BlobState::Unreadable(reason) => Some((DamageKind::BlobUnreadable, reason.clone())),
    }
}

struct Walk<'w, 'p> {
    pass: &'w mut Pass<'p>,
    found: &'w Found,
    walked: Walked,
    reach: Reach,
}

impl Walk<'_, '_> {
    fn problem(&mut self, object: Object, kind: DamageKind, detail: impl Into<String>) {
        let reach = self.reach;
        let (detail, hits) = (detail.into(), Vec::new());
        self.walked.problems.entry(object).or_insert(Problem { kind, detail, reach, hits });
    }

    /// Looks at a state and everything in it; gives its root tree.
    fn state(&mut self, id: StateId) -> Option<TreeId> {
        if let Some(root) = self.walked.states.get(&id) {
            return *root;
        }
        let root = match self.found.store.state(&id) {
            Ok(state) => Some(state.root),
            Err(error) => {
                let (kind, detail) = self.packed_problem(
                    id.as_bytes(),
                    &error,
                    [DamageKind::StateMissing, DamageKind::StateFlipped, DamageKind::StateMalformed],
                );
                self.problem(Object::State(id), kind, detail);
                None
            }
        };
        self.walked.states.insert(id, root);
        if let Some(root) = root {
            self.root(root);
        }
        root
    }

    fn packed_problem(
        &self,
        id: &[u8; 32],
        error: &StoreError,
        [missing, flipped, malformed]: [DamageKind; 3],
    ) -> (DamageKind, String) {
        if let Some((_, place)) = self.found.flipped.get(id) {
            return (flipped, place.clone());
        }
        match error {
            StoreError::Missing { .. } => (missing, "no segment holds it".to_owned()),
            StoreError::Damaged { reason, .. } => (malformed, reason.clone()),
            other => (flipped, other.to_string()),
        }
    }

    /// Looks at a root tree and everything below it; gives whether something is wrong.
    fn root(&mut self, id: TreeId) -> bool {
        if let Some(dirty) = self.walked.roots.get(&id) {
            return *dirty;
        }
        let dirty = match self.found.store.root(&id) {
            Ok(entry) => match &entry.node {
                Node::Directory { tree, below } => {
                    let mark = self.tree(*tree, 1);
                    let mut dirty = mark.dirty | self.sums(Object::Tree(id), b"/", below, &mark);
                    // Who writes a tree with wrong groups writes it with right hashes: only reading everything tells.
                    if self.pass.options.full && !dirty && below.links > 0 {
                        dirty |= self.links(id, *tree);
                    }
                    dirty
                }
                _ => {
                    self.problem(Object::Tree(id), DamageKind::TreeMalformed, "its root is no directory");
                    true
                }
            },
            Err(error) => self.tree_problem(id, &error),
        };
        self.walked.roots.insert(id, dirty);
        dirty
    }

    fn tree_problem(&mut self, id: TreeId, error: &StoreError) -> bool {
        let (kind, detail) = self.packed_problem(
            id.as_bytes(),
            error,
            [DamageKind::TreeMissing, DamageKind::TreeFlipped, DamageKind::TreeMalformed],
        );
        self.problem(Object::Tree(id), kind, detail);
        true
    }

    fn tree(&mut self, id: TreeId, depth: usize) -> Mark {
        if let Some(mark) = self.walked.trees.get(&id) {
            return *mark;
        }
        let mut mark = Mark { dirty: false, sums: None };
        if depth > MAX_DEPTH {
            let detail = format!("it is more than {MAX_DEPTH} directories deep");
            self.problem(Object::Tree(id), DamageKind::TreeMalformed, detail);
            return Mark { dirty: true, sums: None };
        }
        match self.found.store.directory(&id) {
            Ok(tree) => {
                mark.sums = tree.summary().ok();
                for (name, entry) in tree.entries() {
                    mark.dirty |= match &entry.node {
                        Node::File { blob, size, .. } => self.blob(id, name.as_bytes(), *blob, *size),
                        Node::Directory { tree, below } => {
                            let child = self.tree(*tree, depth + 1);
                            child.dirty | self.sums(Object::Tree(id), name.as_bytes(), below, &child)
                        }
                        _ => false,
                    };
                }
            }
            Err(error) => mark.dirty = self.tree_problem(id, &error),
        }
        self.walked.trees.insert(id, mark);
        mark
    }

    fn sums(&mut self, object: Object, name: &[u8], said: &Summary, mark: &Mark) -> bool {
        let wrong = mark.sums.is_some_and(|sums| sums != *said);
        if wrong {
            let detail = format!("what it says of the size of {} is not what is there", name.escape_ascii());
            self.problem(object, DamageKind::TreeSums, detail);
        }
        wrong
    }

    /// Looks at a blob that a directory has under a name.
    fn blob(&mut self, tree: TreeId, name: &[u8], blob: BlobId, size: u64) -> bool {
        self.walked.blobs.insert(blob);
        let object = Object::Blob(blob);
        if self.walked.problems.contains_key(&object) {
            return true;
        }
        let Some(file) = self.found.blobs.blobs.get(&blob) else {
            self.pass.known.wanted.insert(blob, size);
            self.problem(object, DamageKind::BlobMissing, "no file holds it");
            return true;
        };
        let problem = match self.found.bad_blobs.get(&blob) {
            Some(BlobState::Flipped(len)) if *len < size => Some(DamageKind::BlobTruncated),
            Some(BlobState::Flipped(len)) if *len > size => Some(DamageKind::BlobLonger),
            Some(state) => {
                let Some((kind, detail)) = blob_problem(state) else { return false };
                self.pass.known.wanted.insert(blob, size);
                self.problem(object, kind, detail);
                return true;
            }
            None if file.len < size => Some(DamageKind::BlobTruncated),
            None if file.len > size => Some(DamageKind::BlobLonger),
            None => None,
        };
        let Some(kind) = problem else { return false };
        // The name is the hash of the bytes: if that is right the tree is wrong.
        if !self.found.bad_blobs.contains_key(&blob)
            && check_blob(self.pass.layout, &blob) == BlobState::Sound
        {
            let name = name.escape_ascii();
            let detail = format!("it says that {name} has {size} bytes, and its blob has {}", file.len);
            self.problem(Object::Tree(tree), DamageKind::TreeMalformed, detail);
            return true;
        }
        self.pass.known.wanted.insert(blob, size);
        self.problem(object, kind, format!("it has {} bytes, and the trees say {size}", file.len));
        true
    }

    /// Whether the groups of hard links below a root are wrong.
    fn links(&mut self, root: TreeId, tree: TreeId) -> bool {
        let mut groups: BTreeMap<_, Vec<(TreePath, crate::object::Entry)>> = BTreeMap::new();
        let mut todo = vec![(TreePath::root(), tree)];
        while let Some((path, tree)) = todo.pop() {
            let Ok(tree) = self.found.store.directory(&tree) else { return false };
            for (name, entry) in tree.into_entries() {
                let mut path = path.clone();
                path.push(name);
                match &entry.node {
                    Node::Directory { tree, below } if below.links > 0 => todo.push((path, *tree)),
                    Node::File { link: Some(group), .. } => {
                        groups.entry(*group).or_default().push((path, entry));
                    }
                    _ => {}
                }
            }
        }
        for (group, mut members) in groups {
            members.sort_by(|a, b| a.0.cmp(&b.0));
            let paths: Vec<TreePath> = members.iter().map(|(path, _)| path.clone()).collect();
            let equal = members.iter().all(|(_, entry)| *entry == members[0].1);
            if members.len() < 2 || !equal || crate::object::group_of(&paths) != group {
                let detail =
                    format!("the group of hard links {group} of {} is not what it should be", paths[0]);
                self.problem(Object::Tree(root), DamageKind::TreeLinks, detail);
                return true;
            }
        }
        false
    }
}

/// Finds the paths that problems hit, as a person names them.
fn name_hits(refs: &Refs, found: &Found, walked: &mut Walked) {
    if walked.problems.is_empty() {
        return;
    }
    let mut hits: HashMap<Object, Vec<String>> = HashMap::new();
    let mut searched = HashSet::new();
    for commit in refs.commits.iter().take(MAX_SEARCHED_COMMITS) {
        let Some(state) = commit.state else { continue };
        let mut hit = |object: Object, path: &str| {
            let hits = hits.entry(object).or_default();
            // One more than are told: then it is known that there are more.
            if walked.problems.contains_key(&object) && hits.len() <= MAX_HITS {
                hits.push(format!("{}{path}", commit.name));
            }
        };
        hit(Object::State(state), "");
        let Some(root) = walked.states.get(&state).copied().flatten() else { continue };
        if walked.roots.get(&root) != Some(&true) || !searched.insert(root) {
            continue;
        }
        hit(Object::Tree(root), ":/");
        let Ok(entry) = found.store.root(&root) else { continue };
        let Node::Directory { tree, .. } = entry.node else { continue };
        let mut todo = vec![(String::from(":"), tree)];
        let mut left = MAX_SEARCHED_COMMITS;
        while let Some((path, tree)) = todo.pop() {
            hit(Object::Tree(tree), if path == ":" { ":/" } else { &path });
            let Ok(tree) = found.store.directory(&tree) else { continue };
            for (path, object, below) in dirty_entries(&tree, &path, walked) {
                match below {
                    Some(tree) if left > 0 => {
                        left -= 1;
                        todo.push((path, tree));
                    }
                    Some(_) => {}
                    None => hit(object, &path),
                }
            }
        }
    }
    for (object, hits) in hits {
        if let Some(problem) = walked.problems.get_mut(&object) {
            problem.hits = hits;
        }
    }
}

/// The entries of a directory at or below which something is wrong, last first.
fn dirty_entries(tree: &Tree, path: &str, walked: &Walked) -> Vec<(String, Object, Option<TreeId>)> {
    let mut dirty = Vec::new();
    for (name, entry) in tree.entries().iter().rev() {
        let path = format!("{path}/{}", String::from_utf8_lossy(name.as_bytes()));
        match &entry.node {
            Node::File { blob, .. } if walked.problems.contains_key(&Object::Blob(*blob)) => {
                dirty.push((path, Object::Blob(*blob), None));
            }
            Node::Directory { tree, .. } if walked.trees.get(tree).is_none_or(|mark| mark.dirty) => {
                dirty.push((path, Object::Tree(*tree), Some(*tree)));
            }
            _ => {}
        }
    }
    dirty
}
