//! Refs against a simple model: two handles and stock git change them in turn, and after every step both handles must see what the model says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BRANCHES: [&str; 4] = ["main", "b", "b/x", "c"];
const TAG: usize = BRANCHES.len();
const COMMITS: usize = 4;

/// Where HEAD is: a branch or a commit, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Branch(usize),
    Commit(usize),
}

#[derive(Debug, Clone, Copy)]
enum Want {
    Any,
    Absent,
    Is(usize),
    /// Where it is, whatever that is.
    Right,
}

#[derive(Debug, Clone)]
enum Deed {
    Set(usize, Want, usize),
    Both(usize, usize, usize),
    Delete(usize),
    Rename(usize, usize),
    Switch(To),
    SwitchNew(usize, usize),
    Undo,
    UndoTo(prop::sample::Index),
    Pack,
    Open,
    GitUpdate(usize, usize),
    GitDelete(usize),
    GitSwitch(usize),
    GitPackRefs,
    GitGc,
}

fn deed() -> impl Strategy<Value = Deed> {
    let (name, branch, commit) = (0..=TAG, 0..TAG, 0..COMMITS);
    let want = prop_oneof![
        3 => Just(Want::Any),
        1 => Just(Want::Absent),
        1 => (0..COMMITS).prop_map(Want::Is),
        2 => Just(Want::Right),
    ];
    let to = prop_oneof![(0..TAG).prop_map(To::Branch), (0..COMMITS).prop_map(To::Commit)];
    prop_oneof![
        6 => (name.clone(), want, commit.clone()).prop_map(|(name, want, commit)| Deed::Set(name, want, commit)),
        2 => (name.clone(), name.clone(), commit.clone()).prop_map(|(one, two, commit)| Deed::Both(one, two, commit)),
        3 => name.clone().prop_map(Deed::Delete),
        3 => (branch.clone(), branch.clone()).prop_map(|(from, to)| Deed::Rename(from, to)),
        3 => to.prop_map(Deed::Switch),
        2 => (branch.clone(), commit.clone()).prop_map(|(branch, commit)| Deed::SwitchNew(branch, commit)),
        4 => Just(Deed::Undo),
        2 => any::<prop::sample::Index>().prop_map(Deed::UndoTo),
        1 => Just(Deed::Pack),
        1 => Just(Deed::Open),
        2 => (name.clone(), commit).prop_map(|(name, commit)| Deed::GitUpdate(name, commit)),
        2 => name.prop_map(Deed::GitDelete),
        1 => branch.prop_map(Deed::GitSwitch),
        1 => Just(Deed::GitPackRefs),
        1 => Just(Deed::GitGc),
    ]
}

type Move = (Option<usize>, Option<usize>);

/// What an operation is to an earlier one, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Change,
    Undo(usize),
    Restore(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    means: Means,
    refs: BTreeMap<usize, Move>,
    head: Option<(To, To)>,
}

/// Everything that is said of refs, in the plainest form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    refs: BTreeMap<usize, usize>,
    logs: BTreeMap<usize, Vec<Move>>,
    head: To,
    head_log: Vec<Move>,
    operations: Vec<Record>,
}

/// An edit was refused.
#[derive(Debug, PartialEq, Eq)]
struct Refused;

impl Model {
    fn new() -> Self {
        let (refs, logs) = (BTreeMap::new(), BTreeMap::new());
        Self { refs, logs, head: To::Branch(0), head_log: Vec::new(), operations: Vec::new() }
    }

    fn at(&self, to: To) -> Option<usize> {
        match to {
            To::Branch(name) => self.refs.get(&name).copied(),
            To::Commit(commit) => Some(commit),
        }
    }

    /// Git cannot have `b` and `b/x` at once.
    fn in_the_way(&self, name: usize) -> bool {
        let (b, bx) = (1, 2);
        name == b && self.refs.contains_key(&bx) || name == bx && self.refs.contains_key(&b)
    }

    /// Moves one ref and says so in its log, and in HEAD's when HEAD is on it.
    fn move_one(&mut self, name: usize, new: Option<usize>) {
        let old = self.refs.get(&name).copied();
        match new {
            Some(new) => {
                self.refs.insert(name, new);
                self.logs.entry(name).or_default().push((old, Some(new)));
            }
            None => {
                self.refs.remove(&name);
                self.logs.remove(&name);
            }
        }
        if self.head == To::Branch(name) {
            self.head_log.push((old, new));
        }
    }

    fn move_head(&mut self, to: To) {
        let (old, new) = (self.at(self.head), self.at(to));
        if new.is_some() {
            self.head_log.push((old, new));
        }
        self.head = to;
    }

    /// Moves refs and HEAD, all or nothing.
    fn change(
        &mut self,
        edits: &[(usize, Want, Option<usize>)],
        head: Option<(To, Option<To>)>,
        means: Means,
    ) -> Result<(), Refused> {
        let mut moves = BTreeMap::new();
        for (name, want, new) in edits {
            let old = self.refs.get(name).copied();
            let fits = match want {
                Want::Any | Want::Right => true,
                Want::Absent => old.is_none(),
                Want::Is(commit) => old == Some(*commit),
            };
            let twice = edits.iter().filter(|(other, ..)| other == name).count() > 1;
            if !fits || twice || new.is_some() && old.is_none() && self.in_the_way(*name) {
                return Err(Refused);
            }
            if *new != old {
                moves.insert(*name, (old, *new));
            }
        }
        // Two new names of one edit may be in each other's way too.
        let both_new = |at: usize| moves.get(&at).is_some_and(|(old, new)| old.is_none() && new.is_some());
        if both_new(1) && both_new(2) {
            return Err(Refused);
        }
        if let Some((_, Some(expected))) = head
            && expected != self.head
        {
            return Err(Refused);
        }
        let head = head.map(|(to, _)| to).filter(|to| *to != self.head);
        if moves.is_empty() && head.is_none() {
            return Ok(());
        }
        self.operations.push(Record { means, refs: moves.clone(), head: head.map(|to| (self.head, to)) });
        match head {
            None => moves.iter().for_each(|(name, (_, new))| self.move_one(*name, *new)),
            Some(to) => {
                // HEAD's line tells from where it came to where that branch is in the end.
                let old = self.at(self.head);
                let new = match to {
                    To::Branch(name) => moves.get(&name).map_or(self.at(to), |(_, new)| *new),
                    To::Commit(commit) => Some(commit),
                };
                let (made, deleted): (Vec<_>, Vec<_>) =
                    moves.into_iter().partition(|(_, (_, new))| new.is_some());
                made.into_iter().for_each(|(name, (_, new))| self.move_one(name, new));
                if new.is_some() {
                    self.head_log.push((old, new));
                }
                self.head = to;
                deleted.into_iter().for_each(|(name, _)| self.move_one(name, None));
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: usize, to: usize) -> Result<(), Refused> {
        let commit = *self.refs.get(&from).ok_or(Refused)?;
        if from == to {
            return Ok(());
        }
        if self.refs.contains_key(&to) || self.in_the_way(to) {
            return Err(Refused);
        }
        let moves = BTreeMap::from([(from, (Some(commit), None)), (to, (None, Some(commit)))]);
        let head = (self.head == To::Branch(from)).then_some((self.head, To::Branch(to)));
        self.operations.push(Record { means: Means::Change, refs: moves, head });
        let mut log = self.logs.remove(&from).unwrap_or_default();
        log.push((Some(commit), Some(commit)));
        self.logs.insert(to, log);
        self.refs.remove(&from);
        self.refs.insert(to, commit);
        if head.is_some() {
            self.head = To::Branch(to);
            self.head_log.push((Some(commit), Some(commit)));
        }
        Ok(())
    }

    fn is_as_before(&self, record: &Record) -> bool {
        record.refs.iter().all(|(name, (old, _))| self.refs.get(name) == old.as_ref())
            && record.head.is_none_or(|(old, _)| old == self.head)
    }

    fn undo(&mut self) -> Result<(), Refused> {
        let mut standing: Vec<usize> = Vec::new();
        for (number, record) in self.operations.iter().enumerate() {
            match record.means {
                Means::Undo(other) => standing.retain(|number| *number != other),
                _ => standing.push(number),
            }
        }
        while let Some(last) = standing.pop() {
            if !self.is_as_before(&self.operations[last]) {
                return self.take_back(vec![last], Means::Undo(last));
            }
        }
        Err(Refused)
    }

    fn undo_to(&mut self, number: usize) -> Result<(), Refused> {
        self.take_back((number + 1..self.operations.len()).rev().collect(), Means::Restore(number))
    }

    fn take_back(&mut self, newest_first: Vec<usize>, means: Means) -> Result<(), Refused> {
        let (mut refs, mut head): (BTreeMap<usize, Move>, Option<(To, To)>) = (BTreeMap::new(), None);
        for number in newest_first {
            let record = &self.operations[number];
            for (name, (old, new)) in &record.refs {
                refs.entry(*name).or_insert((*old, *new)).0 = *old;
            }
            if let Some((old, new)) = record.head {
                head.get_or_insert((old, new)).0 = old;
            }
        }
        let edits: Vec<_> = refs
            .into_iter()
            .filter(|(_, (before, after))| before != after)
            .map(|(name, (before, after))| (name, after.map_or(Want::Absent, Want::Is), before))
            .collect();
        self.change(&edits, head.map(|(before, after)| (before, Some(after))), means)
    }
}

/// The same of the real thing.
fn seen(history: &History, commits: &[CommitId]) -> Model {
    let number = |id: &CommitId| commits.iter().position(|commit| commit == id).unwrap();
    let moved =
        |old: &Option<CommitId>, new: &Option<CommitId>| (old.as_ref().map(number), new.as_ref().map(number));
    let mut model = Model::new();
    for at in 0..=TAG {
        if let Some(commit) = history.read_ref(&name(at)).unwrap() {
            model.refs.insert(at, number(&commit));
        }
        let log = history.reflog(&name(at)).unwrap();
        if !log.is_empty() {
            model.logs.insert(at, log.iter().rev().map(|entry| moved(&entry.old, &entry.new)).collect());
        }
    }
    let listed: Vec<_> =
        [RefKind::Branch, RefKind::Tag].iter().flat_map(|kind| history.refs(*kind).unwrap()).collect();
    assert_eq!(listed.len(), model.refs.len(), "{listed:?}");
    let to = |to: &HeadTo| match to {
        HeadTo::Branch(name) => To::Branch(BRANCHES.iter().position(|known| branch(known) == *name).unwrap()),
        HeadTo::Detached(commit) => To::Commit(number(commit)),
    };
    model.head = to(&history.head().unwrap().to());
    model.head_log =
        history.head_reflog().unwrap().iter().rev().map(|entry| moved(&entry.old, &entry.new)).collect();
    let operations = history.operations().unwrap();
    let by_id = |id| operations.iter().position(|operation| operation.id == id).unwrap();
    model.operations = operations
        .iter()
        .map(|operation| Record {
            means: match operation.purpose {
                Purpose::Change => Means::Change,
                Purpose::Undo(id) => Means::Undo(by_id(id)),
                Purpose::Restore(id) => Means::Restore(by_id(id)),
            },
            refs: operation
                .refs
                .iter()
                .map(|one| {
                    let at = (0..=TAG).find(|at| name(*at).full() == one.full).unwrap();
                    (at, moved(&one.old, &one.new))
                })
                .collect(),
            head: operation
                .head
                .as_ref()
                .map(|head| (to(head.old.as_ref().unwrap()), to(head.new.as_ref().unwrap()))),
        })
        .collect();
    model
}

fn name(at: usize) -> RefName {
    match BRANCHES.get(at) {
        Some(name) => branch(name).into(),
        None => RefName::Tag(TagName::new("v1").unwrap()),
    }
}

/// Does it in both; they must agree whether it can be done.
fn perform(fixture: &Fixture, handle: &mut History, commits: &[CommitId], model: &mut Model, deed: &Deed) {
    let git = |args: &[&str]| drop(fixture.git(args));
    let edit = |at: usize, expected, new| RefEdit { name: name(at), expected, new };
    let real_to = |to: To| match to {
        To::Branch(at) => HeadTo::Branch(branch(BRANCHES[at])),
        To::Commit(at) => HeadTo::Detached(commits[at]),
    };
    let want = |model: &Model, at: usize, want| match want {
        Want::Any => Expected::Any,
        Want::Absent => Expected::Absent,
        Want::Is(commit) => Expected::Is(commits[commit]),
        Want::Right => model.refs.get(&at).map_or(Expected::Absent, |commit| Expected::Is(commits[*commit])),
    };
    let (real, ideal): (Result<(), EditError>, Result<(), Refused>) = match *deed {
        Deed::Set(at, wanted, new) => (
            handle.edit(&[edit(at, want(model, at, wanted), Some(commits[new]))], "set", &who(1)),
            model.change(&[(at, wanted, Some(new))], None, Means::Change),
        ),
        Deed::Both(one, two, new) => (
            handle.edit(
                &[edit(one, Expected::Any, Some(commits[new])), edit(two, Expected::Any, Some(commits[0]))],
                "both",
                &who(1),
            ),
            model.change(&[(one, Want::Any, Some(new)), (two, Want::Any, Some(0))], None, Means::Change),
        ),
        Deed::Delete(at) => (
            handle.delete(&name(at), Expected::Any, &who(1)).map(drop),
            match model.refs.contains_key(&at) {
                true => model.change(&[(at, Want::Any, None)], None, Means::Change),
                false => Err(Refused),
            },
        ),
        Deed::Rename(from, to) => (
            handle.rename_branch(&branch(BRANCHES[from]), &branch(BRANCHES[to]), &who(1)),
            model.rename(from, to),
        ),
        Deed::Switch(to) => (
            handle.edit_with_head(&[], &real_to(to).into(), "", &who(1)),
            model.change(&[], Some((to, None)), Means::Change),
        ),
        Deed::SwitchNew(at, new) => {
            let to = To::Branch(at);
            let edits = [edit(at, Expected::Absent, Some(commits[new]))];
            (
                handle.edit_with_head(&edits, &real_to(to).into(), "new", &who(1)),
                model.change(&[(at, Want::Absent, Some(new))], Some((to, None)), Means::Change),
            )
        }
        Deed::Undo => (handle.undo(&who(1)).map(drop), model.undo()),
        Deed::UndoTo(ref index) => match handle.operations().unwrap() {
            none if none.is_empty() => return,
            all => {
                let number = index.index(all.len());
                (handle.undo_to(&all[number].id, &who(1)).map(drop), model.undo_to(number))
            }
        },
        Deed::Pack => {
            handle.pack().unwrap();
            return;
        }
        Deed::Open => return *handle = fixture.again(),
        Deed::GitUpdate(at, new) => {
            if !model.refs.contains_key(&at) && model.in_the_way(at) || model.refs.get(&at) == Some(&new) {
                return;
            }
            git(&["update-ref", "-m", "git", &name(at).full(), &commits[new].to_string()]);
            return model.move_one(at, Some(new));
        }
        Deed::GitDelete(at) => {
            if model.refs.contains_key(&at) {
                git(&["update-ref", "-m", "git", "-d", &name(at).full()]);
                model.move_one(at, None);
            }
            return;
        }
        Deed::GitSwitch(at) => {
            if model.head != To::Branch(at) {
                git(&["symbolic-ref", "-m", "git", "HEAD", &name(at).full()]);
                model.move_head(To::Branch(at));
            }
            return;
        }
        Deed::GitPackRefs => return git(&["pack-refs", "--all"]),
        Deed::GitGc => return git(&["gc", "--quiet"]),
    };
    assert_eq!(real.is_ok(), ideal.is_ok(), "{deed:?}: {real:?}, and the model says {ideal:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_handles_and_stock_git_agree_with_a_simple_model_after_every_step(
        deeds in prop::collection::vec((any::<bool>(), deed()), 1..28),
    ) {
        let fixture = Fixture::new();
        let commits = fixture.chain(COMMITS);
        let mut handles = [fixture.again(), fixture.again()];
        let mut model = Model::new();
        for (which, deed) in &deeds {
            perform(&fixture, &mut handles[usize::from(*which)], &commits, &mut model, deed);
            for handle in &handles {
                prop_assert_eq!(&seen(handle, &commits), &model, "after {:?}", deed);
            }
        }
        // Stock git reads the same places in the same logs.
        for (at, log) in &model.logs {
            for (back, (_, new)) in log.iter().rev().enumerate().filter(|_| model.refs.contains_key(at)) {
                let told = fixture.git(&["rev-parse", &format!("{}@{{{back}}}", name(*at).full())]);
                prop_assert_eq!(told, commits[new.unwrap()].to_string());
            }
        }
        fixture.fsck();
    }
}
