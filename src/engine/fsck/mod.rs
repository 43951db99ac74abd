//! Looking for damage in a store, and mending what can be mended.
//!
//! A check reads what is on disk for itself: the segments are scanned, refs are read as files, and neither the index nor Git's library is asked
//! where something is. So a store is checked that cannot be opened. It changes nothing and takes no lock for longer than a moment.
//!
//! # Invariants
//! - Every part is looked at whatever is wrong with the others.
//! - What other processes write at the same time is no damage: refs and the index are read before the objects that they lead to, and what
//!   is found is looked for a second time before it is told.

mod facts;
mod kinds;
mod layers;
mod mend;
mod objects;
mod places;
mod refetch;
mod refs;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use kinds::{DamageKind, Severity};

use super::blocking::Engine;
use super::error::Result;
use super::types::EngineOptions;
use crate::index::{Index, IndexError};
use crate::object::{BlobId, CommitId, StateId};
use crate::oci::DocumentFacts;
use crate::store::Layout;
use crate::store::check::BlobState;

/// How many of the paths that a damage hits are named.
const MAX_HITS: usize = 5;

type Hear = Arc<dyn Fn(&FsckProgress) + Send + Sync>;

/// How a store is checked.
#[derive(Clone, Default)]
pub struct FsckOptions {
    full: bool,
    repair: bool,
    hear: Option<Hear>,
}

impl fmt::Debug for FsckOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FsckOptions");
        shown.field("full", &self.full).field("repair", &self.repair).finish_non_exhaustive()
    }
}

impl FsckOptions {
    /// The structure: every ref, commit, state, tree and row, and of blobs that they are there with the right length.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads and hashes everything: blobs, Git objects, what images brought, files in layers.
    #[must_use]
    pub fn full(mut self, on: bool) -> Self {
        self.full = on;
        self
    }

    /// Mends what can be mended, after everything was read and hashed. What is bad is moved to `damaged/` in the store.
    #[must_use]
    pub fn repair(mut self, on: bool) -> Self {
        self.repair = on;
        self.full |= on;
        self
    }

    /// Tells how far it has come, from several threads.
    #[must_use]
    pub fn progress(mut self, hear: impl Fn(&FsckProgress) + Send + Sync + 'static) -> Self {
        self.hear = Some(Arc::new(hear));
        self
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsckProgress {
    /// What is being read.
    pub what: &'static str,
    /// Bytes that were read of it.
    pub done_bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
}

/// One damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What kind of damage.
    pub kind: DamageKind,
    /// How bad it is here.
    pub severity: Severity,
    /// What is damaged: an object's id, a ref's full name, a path below the store.
    pub subject: String,
    /// What is wrong with it.
    pub detail: String,
    /// What it hits, the first few: `main~3:/usr/bin/foo`, or the name of a ref.
    pub hits: Vec<String>,
    /// Whether it hits more than those.
    pub more_hits: bool,
    /// What was mended, by who mends.
    pub mended: Option<String>,
}

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Every damage, the worst first.
    pub damages: Vec<Damage>,
    /// Refs that were followed, HEAD not counted.
    pub refs: u64,
    /// Commits that were read.
    pub commits: u64,
    /// Trees and states that were read.
    pub packed: u64,
    /// Blobs there are.
    pub blobs: u64,
    /// Layers there are.
    pub layers: u64,
    /// Bytes of blobs that were hashed.
    pub hashed_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Checked {
    /// How many damages are that bad.
    pub fn count(&self, severity: Severity) -> usize {
        self.damages.iter().filter(|damage| damage.severity == severity).count()
    }

    /// Whether nothing is damaged. What dead processes left, and what nothing needs, is no damage.
    pub fn is_clean(&self) -> bool {
        self.damages.iter().all(|damage| damage.severity == Severity::Info)
    }
}

impl Engine {
    /// Looks for damage in the open store.
    pub fn fsck(&self, options: &FsckOptions) -> Result<Checked> {
        check(self.core.layout().root(), &self.core.options, options)
    }

    /// Looks for damage in a store that need not be one that can be opened. Nothing is made where there is none.
    pub fn fsck_at(engine: &EngineOptions, options: &FsckOptions) -> Result<Checked> {
        check(&engine.store, engine, options)
    }
}

fn check(store: &Path, engine: &EngineOptions, options: &FsckOptions) -> Result<Checked> {
    let began = Instant::now();
    let layout = Layout::inspect(store)?;
    if let Err(error @ IndexError::Newer { .. }) = Index::open_read_only(&layout.index()) {
        return Err(error.into());
    }
    if options.repair {
        layout.writable()?;
    }
    let mut known = Known::default();
    let first = Pass::new(&layout, engine, options, &mut known).run();
    let mut checked = first;
    if !checked.is_clean() {
        // Another process may have removed, in between, what it had led to before.
        known.again = true;
        let second = Pass::new(&layout, engine, options, &mut known).run();
        let found: std::collections::BTreeSet<_> =
            checked.damages.iter().map(|damage| (damage.kind, damage.subject.clone())).collect();
        let hashed_bytes = checked.hashed_bytes;
        checked = second;
        checked.hashed_bytes = hashed_bytes;
        checked.damages.retain(|damage| {
            damage.severity == Severity::Info || found.contains(&(damage.kind, damage.subject.clone()))
        });
    }
    checked.damages.sort_by(|a, b| (b.severity, a.kind, &a.subject).cmp(&(a.severity, b.kind, &b.subject)));
    if options.repair {
        mend::mend(&layout, engine, &known, &mut checked)?;
    }
    checked.duration = began.elapsed();
    Ok(checked)
}

/// What a second look need not read again.
#[derive(Default)]
struct Known {
    again: bool,
    /// Blobs that were hashed and are not sound.
    blobs: BTreeMap<BlobId, BlobState>,
    /// Originals whose digest was wrong.
    originals: Vec<PathBuf>,
    /// Layers in which something was wrong.
    layers: Vec<String>,
    /// Blobs that are not there or not sound, with their sizes.
    wanted: HashMap<BlobId, u64>,
    /// The segments in which objects with damaged records are.
    flipped: HashMap<String, u32>,
    /// What commits hold of which a row says something else.
    states: HashMap<String, StateId>,
    /// Commits that are damaged, and which of their Git objects is.
    git_damaged: HashMap<CommitId, CommitId>,
    /// Manifests of images that were imported.
    manifests: Vec<DocumentFacts>,
    /// Whether a blob had more names than are known.
    links: bool,
}

/// One look at everything.
struct Pass<'p> {
    layout: &'p Layout,
    engine: &'p EngineOptions,
    options: &'p FsckOptions,
    known: &'p mut Known,
    checked: Checked,
}

impl<'p> Pass<'p> {
    fn new(
        layout: &'p Layout,
        engine: &'p EngineOptions,
        options: &'p FsckOptions,
        known: &'p mut Known,
    ) -> Self {
        Self { layout, engine, options, known, checked: Checked::default() }
    }

    fn run(mut self) -> Checked {
        self.format();
        // In this order: what leads to something is read before that.
        let refs = self.refs();
        let facts = self.facts();
        let found = self.objects();
        let walked = self.walk(&refs, &facts, &found);
        self.compare_facts(&facts, &refs, &found, &walked);
        self.places(&facts, &refs, &found);
        self.checked
    }

    /// Notes a damage of its kind's own severity.
    fn tell(&mut self, kind: DamageKind, subject: impl Into<String>, detail: impl Into<String>) {
        self.tell_as(kind, kind.severity(), subject, detail, Vec::new());
    }

    fn tell_as(
        &mut self,
        kind: DamageKind,
        severity: Severity,
        subject: impl Into<String>,
        detail: impl Into<String>,
        mut hits: Vec<String>,
    ) {
        let more_hits = hits.len() > MAX_HITS;
        hits.truncate(MAX_HITS);
        let (subject, detail) = (subject.into(), detail.into());
        self.checked.damages.push(Damage { kind, severity, subject, detail, hits, more_hits, mended: None });
    }

    /// A path as it is told: below the store.
    fn below(&self, path: &Path) -> String {
        path.strip_prefix(self.layout.root()).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn hear(&self, what: &'static str, done_bytes: u64, total_bytes: u64) {
        if let Some(hear) = &self.options.hear {
            hear(&FsckProgress { what, done_bytes, total_bytes });
        }
    }

    fn format(&mut self) {
        if let Some(reason) = self.layout.format_flaw() {
            self.tell(DamageKind::FormatDamaged, "format", reason);
        }
    }
}

/// How things are reached: by a ref, by a log, or by what the index remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Named,
    Logged,
    Remembered,
}

/// What an object is reached by, and how it is told.
type Reached<T> = HashMap<T, Reach>;
