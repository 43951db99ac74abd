//! The history: refs, logs and commits, and what each commit is called.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde_json::Value;

use super::{DamageKind, Pass, Reach, Reached, Severity};
use crate::disk::Durability;
use crate::engine::image_record;
use crate::history::{
    CheckedLog, CommitFlaw, HeadFound, History, HistoryError, LOG_REF, Options, RefKind, RefName, RefTip,
};
use crate::object::{CommitId, StateId, TreeId};
use crate::oci::ImageFacts;

/// Commits in the order in which they are named: refs first, then logs.
#[derive(Default)]
pub(super) struct Refs {
    pub(super) history: Option<History>,
    pub(super) commits: Vec<Commit>,
    pub(super) by_id: HashMap<CommitId, usize>,
    /// Git objects that were told of with their commits.
    damaged: BTreeSet<CommitId>,
}

/// A commit that was reached.
pub(super) struct Commit {
    pub(super) id: CommitId,
    /// As a person would write it: `main~3`.
    pub(super) name: String,
    pub(super) reach: Reach,
    /// What its `state.json` says, if that can be read.
    pub(super) state: Option<StateId>,
    pub(super) tree: Option<TreeId>,
    pub(super) image: Option<ImageFacts>,
}

/// A commit that waits for its turn.
struct Waiting {
    id: CommitId,
    name: String,
    /// Whether it needs a `state.json`.
    is_state: bool,
    /// The ref or log that leads here first.
    from: String,
}

impl Pass<'_> {
    pub(super) fn refs(&mut self) -> Refs {
        let mut refs = Refs::default();
        let directory = self.layout.history();
        let history = match History::inspect(&directory, Options { durability: Durability::Batch }) {
            Ok(history) => history,
            Err(HistoryError::Missing(_)) if !directory.exists() => return refs,
            Err(error) => {
                let more = std::error::Error::source(&error).map(|more| format!(": {more}"));
                let detail = format!("{error}{}", more.unwrap_or_default());
                self.tell(DamageKind::HistoryUnusable, "history.git", detail);
                return refs;
            }
        };
        // Logs first: what a ref leads to now it led to when its log was read, or it has moved since.
        let logs = match history.check_logs() {
            Ok(logs) => logs,
            Err(error) => {
                self.tell(DamageKind::HistoryUnusable, "history.git/logs", error.to_string());
                Vec::new()
            }
        };
        self.torn_logs(&history, &logs);
        let mut waiting = self.tips(&history);
        self.follow(&history, &mut waiting, Reach::Named, &mut refs);
        let mut waiting = log_tips(&logs);
        self.follow(&history, &mut waiting, Reach::Logged, &mut refs);
        self.checked.commits = refs.commits.len() as u64;
        self.git_leftovers(&history);
        if self.options.full {
            self.git_objects(&history, &refs.damaged);
        }
        refs.history = Some(history);
        refs
    }

    /// What every ref and HEAD lead to.
    fn tips(&mut self, history: &History) -> VecDeque<Waiting> {
        let mut waiting = VecDeque::new();
        let (mut found, bad) = match history.check_refs() {
            Ok(found) => found,
            Err(error) => {
                self.tell(DamageKind::HistoryUnusable, "history.git/refs", error.to_string());
                return waiting;
            }
        };
        if let Some(first) = bad.first() {
            let detail = format!("{} bad, the first: {first}", count(bad.len(), "line is", "lines are"));
            self.tell(DamageKind::PackedRefsTorn, "history.git/packed-refs", detail);
        }
        self.checked.refs = found.len() as u64;
        // Branches name commits best, then tags, then images.
        let rank = |full: &str| RefKind::ALL.iter().position(|kind| full.starts_with(kind.prefix()));
        found.sort_by_key(|one| (rank(&one.full).unwrap_or(usize::MAX), one.full.clone()));
        for one in &found {
            let label = label(&one.full);
            match &one.tip {
                RefTip::Torn(reason) => self.tell_hit(DamageKind::RefTorn, &one.full, reason, &label),
                RefTip::Dangling(id, reason) => {
                    let detail = format!("it leads to {id}: {reason}");
                    self.tell_hit(DamageKind::RefDangling, &one.full, &detail, &label);
                }
                RefTip::Commit(id) => waiting.push_back(Waiting {
                    id: *id,
                    name: label,
                    is_state: RefKind::OF_STATES.iter().any(|kind| one.full.starts_with(kind.prefix())),
                    from: one.full.clone(),
                }),
            }
        }
        match history.found_head() {
            HeadFound::Torn(reason) => self.tell_hit(DamageKind::HeadTorn, "HEAD", &reason, "HEAD"),
            HeadFound::Detached(id) => waiting.push_back(Waiting {
                id,
                name: "HEAD".to_owned(),
                is_state: true,
                from: "HEAD".to_owned(),
            }),
            HeadFound::Branch(_) => {}
        }
        waiting
    }

    fn tell_hit(&mut self, kind: DamageKind, subject: &str, detail: &str, hit: &str) {
        self.tell_as(kind, kind.severity(), subject, detail, vec![hit.to_owned()]);
    }

    /// Reads commits and their ancestors, each once, the nearest first.
    fn follow(&mut self, history: &History, waiting: &mut VecDeque<Waiting>, reach: Reach, refs: &mut Refs) {
        let tips: BTreeSet<CommitId> = waiting.iter().map(|one| one.id).collect();
        let mut gone: BTreeMap<String, BTreeSet<CommitId>> = BTreeMap::new();
        let mut missing: Reached<CommitId> = HashMap::new();
        while let Some(one) = waiting.pop_front() {
            if refs.by_id.contains_key(&one.id) || missing.contains_key(&one.id) && !tips.contains(&one.id) {
                continue;
            }
            let mut commit =
                Commit { id: one.id, name: one.name.clone(), reach, state: None, tree: None, image: None };
            let parents = match history.check_commit(&one.id) {
                Ok(whole) => {
                    if one.is_state {
                        self.read_record(&one, whole.record.as_deref(), &mut commit);
                    }
                    whole.parents
                }
                Err(CommitFlaw::Missing) => {
                    missing.insert(one.id, reach);
                    match reach {
                        Reach::Named if one.name == label(&one.from) => {
                            let detail = format!("commit {} is not there", one.id);
                            let kind = if one.from == "HEAD" {
                                DamageKind::HeadTorn
                            } else {
                                DamageKind::RefDangling
                            };
                            self.tell_hit(kind, &one.from, &detail, &one.name);
                        }
                        Reach::Named => {
                            let detail = format!("{} leads to it", one.from);
                            self.tell_hit(DamageKind::CommitMissing, &one.id.to_string(), &detail, &one.name);
                        }
                        _ => drop(gone.entry(one.from.clone()).or_default().insert(one.id)),
                    }
                    continue;
                }
                Err(CommitFlaw::Damaged { object, reason, parents }) => {
                    refs.damaged.insert(object);
                    self.known.git_damaged.insert(one.id, object);
                    let severity = if reach == Reach::Named { Severity::Error } else { Severity::Warning };
                    let hits = vec![one.name.clone()];
                    self.tell_as(DamageKind::CommitDamaged, severity, one.id.to_string(), reason, hits);
                    parents
                }
            };
            for (at, parent) in parents.iter().enumerate() {
                let name = if at == 0 { older(&one.name) } else { format!("{}^{}", one.name, at + 1) };
                let (from, is_state) = (one.from.clone(), one.is_state);
                waiting.push_back(Waiting { id: *parent, name, is_state, from });
            }
            refs.by_id.insert(one.id, refs.commits.len());
            refs.commits.push(commit);
        }
        for (log, ids) in gone {
            let detail = format!("{} that it names", count(ids.len(), "commit is gone", "commits are gone"));
            self.tell(DamageKind::ReflogDangling, format!("history.git/logs/{log}"), detail);
        }
    }

    fn read_record(&mut self, one: &Waiting, record: Option<&[u8]>, commit: &mut Commit) {
        let said = record.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let id = |key: &str| said.as_ref().and_then(|said| said.get(key)).and_then(Value::as_str);
        commit.state = id("state").and_then(|text| text.parse().ok());
        commit.tree = id("tree").and_then(|text| text.parse().ok());
        commit.image = said.as_ref().and_then(|said| said.get("image")).and_then(image_record::read);
        if let Some(manifest) = commit.image.as_ref().and_then(|image| image.manifest.as_ref())
            && !self.known.manifests.contains(manifest)
        {
            self.known.manifests.push(manifest.clone());
        }
        if commit.state.is_none() {
            let detail = match record {
                None => "it has no state.json: treebox did not make it",
                Some(_) => "its state.json names no state",
            };
            self.tell_hit(DamageKind::CommitRecord, &one.id.to_string(), detail, &one.name);
        }
    }

    fn torn_logs(&mut self, history: &History, logs: &[CheckedLog]) {
        for log in logs {
            let is_operations = log.full == LOG_REF;
            let mut torn = log.torn;
            if is_operations && torn == 0 {
                // A line may be sound for Git and belong to no whole record.
                let named = history.operations().map_or(0, |operations| {
                    operations.iter().map(|one| one.refs.len() + usize::from(one.head.is_some())).sum()
                });
                torn = log.entries.len().saturating_sub(named);
            }
            if torn > 0 {
                let kind = if is_operations { DamageKind::OplogTorn } else { DamageKind::ReflogTorn };
                let detail = format!("{} bad", count(torn, "line is", "lines are"));
                self.tell(kind, format!("history.git/logs/{}", log.full), detail);
            }
        }
    }

    fn git_leftovers(&mut self, history: &History) {
        if history.has_unfinished_edit() {
            self.tell(DamageKind::EditUnfinished, "history.lock", "the process that began it is dead");
        }
        for left in history.leftovers().unwrap_or_default() {
            let kind = if left.is_lock { DamageKind::LockStale } else { DamageKind::LeftoverFile };
            let detail = if left.is_lock {
                "nobody has held it for some time"
            } else {
                "a process that is dead left it half-made"
            };
            self.tell(kind, self.below(&left.path), detail);
        }
    }

    fn git_objects(&mut self, history: &History, told: &BTreeSet<CommitId>) {
        match history.check_objects() {
            Ok(flaws) => {
                for flaw in flaws {
                    let what = flaw.id.map(|id| format!("object {id}: ")).unwrap_or_default();
                    let subject = self.below(&flaw.path);
                    if flaw.id.is_some_and(|id| told.contains(&id)) {
                        continue;
                    }
                    self.tell(DamageKind::GitObjectDamaged, subject, format!("{what}{}", flaw.reason));
                }
            }
            Err(error) => {
                self.tell(DamageKind::HistoryUnusable, "history.git/objects", error.to_string());
            }
        }
    }
}

/// Where logs lead that no ref does: the newest lines first.
fn log_tips(logs: &[CheckedLog]) -> VecDeque<Waiting> {
    let mut waiting = VecDeque::new();
    for log in logs {
        let is_state = log.full == "HEAD"
            || log.full == LOG_REF
            || RefKind::OF_STATES.iter().any(|kind| log.full.starts_with(kind.prefix()));
        // The log of all operations moves notes as well.
        let is_notes = |entry_message: &str| entry_message.contains(RefKind::Notes.prefix());
        for (at, entry) in log.entries.iter().rev().enumerate() {
            for (id, at) in [(entry.new, at), (entry.old, at + 1)] {
                let Some(id) = id else { continue };
                let name = format!("{}@{{{at}}}", label(&log.full));
                let is_state = is_state && !is_notes(&entry.message);
                waiting.push_back(Waiting { id, name, is_state, from: log.full.clone() });
            }
        }
    }
    waiting
}

/// A ref as a revision names it.
fn label(full: &str) -> String {
    RefName::from_full(full).map_or_else(|| full.to_owned(), |name| name.short().to_owned())
}

/// The name of the first parent.
fn older(name: &str) -> String {
    match name.rsplit_once('~').and_then(|(base, number)| Some((base, number.parse::<u64>().ok()?))) {
        Some((base, number)) => format!("{base}~{}", number + 1),
        None => format!("{name}~1"),
    }
}

pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}
