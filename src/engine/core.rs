//! The engine's inside: everything that both faces share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use super::catalog::IndexCatalog;
use super::command::Command;
use super::error::{Error, Result};
use super::room::Quota;
use super::types::EngineOptions;
use super::user::User;
use crate::disk::{Durability, FileLock, create_dir_all_private, exists, sweep, sweep_turns};
use crate::history::History;
use crate::index::Index;
use crate::object::TreeId;
use crate::oci::Originals;
use crate::sandbox::Identity;
use crate::store::{FormatError, Layout, MAX_STORE_PATH_BYTES, Store};
use crate::worker::{Session, Worker, WorkerOptions};

/// Idle sessions that are kept for the next run.
const MAX_IDLE_SESSIONS: usize = 8;

/// One open store and, once something runs, its worker.
pub(crate) struct Core {
    pub(super) store: Store,
    pub(super) index: Arc<Index>,
    pub(super) options: EngineOptions,
    history: OnceLock<History>,
    worker: Mutex<WorkerSlot>,
    idle: Mutex<Vec<Session>>,
    /// What user texts mean in root trees.
    pub(super) users: Mutex<HashMap<(TreeId, String), User>>,
    /// Whether dead owners left something in `tmp/` that only the worker can remove.
    leftovers: AtomicBool,
    /// What bounds the store on disk.
    pub(super) quota: Option<Arc<Quota>>,
    /// Held while this engine writes without syncs.
    batch: OnceLock<FileLock>,
}

impl Core {
    pub(super) fn open(options: EngineOptions) -> Result<Arc<Self>> {
        if options.store.to_str().is_none() {
            return Err(Error::invalid(format!(
                "the store's path {} is not UTF-8: choose another with --store",
                options.store.display()
            )));
        }
        // Before it is made.
        let named = std::path::absolute(&options.store).unwrap_or_else(|_| options.store.clone());
        if named.as_os_str().len() > MAX_STORE_PATH_BYTES {
            return Err(FormatError::PathTooLong(named).into());
        }
        let worker = if options.prestart { WorkerSlot::start(&options) } else { WorkerSlot::None };
        let was_there = exists(&options.store)?;
        let root = absolute(&options.store)?;
        let layout = Layout::open_or_create(&root).inspect_err(|_| {
            if !was_there {
                let _ = std::fs::remove_dir(&root);
            }
        })?;
        if layout.read_only().is_some() {
            return Self::open_for_reading(layout, options);
        }
        // What belongs to mapped ids waits for the first session of the worker.
        let leftovers = !sweep(&layout.tmp(), |path| crate::sandbox::remove_tree(path).is_ok())?.is_empty();
        sweep_turns(&layout.flights())?;
        let index = Arc::new(open_index(&layout)?);
        let store = Store::open(layout, Arc::new(IndexCatalog(Arc::clone(&index))), options.durability)?;
        let quota = Quota::of(store.layout(), options.max_size)?;
        let store = match &quota {
            Some(quota) => store.with_room(Arc::clone(quota) as _),
            None => store,
        };
        let core = Arc::new(Self {
            store,
            index,
            options,
            history: OnceLock::new(),
            worker: Mutex::new(worker),
            idle: Mutex::new(Vec::new()),
            users: Mutex::new(HashMap::new()),
            leftovers: AtomicBool::new(leftovers),
            quota,
            batch: OnceLock::new(),
        });
        core.after_power_cut()?;
        if core.options.durability == Durability::Batch {
            let held = core.history()?.begin_batch()?;
            core.batch.get_or_init(|| held);
        }
        if let Some(quota) = &core.quota {
            quota.serve(&core);
        }
        Ok(core)
    }

    /// Opens a store that must not or cannot be written: its segments are read anew, and nothing is swept.
    fn open_for_reading(layout: Layout, options: EngineOptions) -> Result<Arc<Self>> {
        let index = Arc::new(Index::open_read_only(&layout.index())?);
        let segments = Arc::new(crate::store::check::Segments::read(&layout));
        Ok(Arc::new(Self {
            store: Store::found_by(layout, segments),
            index,
            options,
            history: OnceLock::new(),
            worker: Mutex::default(),
            idle: Mutex::default(),
            users: Mutex::default(),
            leftovers: AtomicBool::new(false),
            quota: None,
            batch: OnceLock::new(),
        }))
    }

    pub(super) fn layout(&self) -> &Layout {
        self.store.layout()
    }

    /// What images brought, byte for byte.
    pub(super) fn originals(&self) -> Originals {
        let originals = Originals::new(self.layout().originals(), self.options.durability);
        match &self.quota {
            Some(quota) => originals.with_room(Arc::clone(quota) as _),
            None => originals,
        }
    }

    /// Tells whoever listens.
    pub(super) fn notice(&self, text: &str) {
        if let Some(hear) = &self.options.notices.0 {
            hear(text);
        }
    }

    /// The history, opened when it is first needed: library runs that name nothing never need it.
    pub(super) fn history(&self) -> Result<&History> {
        if let Some(history) = self.history.get() {
            return Ok(history);
        }
        let options = crate::history::Options { durability: self.options.durability };
        let opened = match self.layout().read_only() {
            Some(_) => History::inspect(&self.layout().history(), options)?,
            None => History::open_or_init(&self.layout().history(), options)?,
        };
        Ok(self.history.get_or_init(|| opened))
    }

    /// The worker, started when it is first needed.
    pub(super) fn worker(&self) -> Result<Arc<Worker>> {
        let mut slot = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let started = match std::mem::take(&mut *slot) {
            WorkerSlot::Running(worker) => Ok(worker),
            WorkerSlot::Starting(thread) => match thread.join() {
                Ok(started) => started,
                Err(panic) => std::panic::resume_unwind(panic),
            },
            WorkerSlot::None => start_worker(&self.options),
        };
        let worker = started?;
        *slot = WorkerSlot::Running(Arc::clone(&worker));
        Ok(worker)
    }

    /// Starts the worker in the background when nothing remembered can save a command: its start then overlaps with what comes before the run.
    pub(super) fn prestart_if_certain(&self, command: &Command) {
        let mut slot = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if command.always_runs() && matches!(*slot, WorkerSlot::None) {
            *slot = WorkerSlot::start(&self.options);
        }
    }

    /// A session of the worker that nobody else uses.
    pub(super) fn session(&self) -> Result<Session> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = match idle {
            Some(session) => session,
            None => self.worker()?.session()?,
        };
        if self.leftovers.swap(false, Ordering::Relaxed) {
            sweep(&self.layout().tmp(), |path| session.remove(path).is_ok())?;
        }
        Ok(session)
    }

    /// Gives a session back that has no request under way.
    pub(super) fn release(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_SESSIONS {
            idle.push(session);
        }
    }
}

/// The worker, or how far it has come.
#[derive(Default)]
enum WorkerSlot {
    /// Nobody has needed it yet.
    #[default]
    None,
    /// It is being started in the background.
    Starting(JoinHandle<Result<Arc<Worker>>>),
    /// It runs.
    Running(Arc<Worker>),
}

impl WorkerSlot {
    fn start(options: &EngineOptions) -> Self {
        let options = options.clone();
        let thread = std::thread::Builder::new().name("treebox-start".into());
        match thread.spawn(move || start_worker(&options)) {
            Ok(thread) => Self::Starting(thread),
            // Who needs the worker starts it then, and hears what is wrong.
            Err(_) => Self::None,
        }
    }
}

pub(super) fn start_worker(options: &EngineOptions) -> Result<Arc<Worker>> {
    let program = worker_program(options)?;
    Ok(Arc::new(Worker::start(&WorkerOptions { program, identity: options.identity })?))
}

fn worker_program(options: &EngineOptions) -> Result<PathBuf> {
    if let Some(program) = &options.worker {
        return Ok(program.clone());
    }
    let current = std::env::current_exe().map_err(|error| Error::disk("find", "this program", error))?;
    if crate::worker::hooked() {
        return Ok(current);
    }
    let mut tried = Vec::new();
    let beside = current.parent().map(|dir| dir.join("treebox"));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = beside.into_iter().chain(std::env::split_paths(&on_path).map(|dir| dir.join("treebox")));
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
        if tried.len() < 3 {
            tried.push(candidate);
        }
    }
    Err(Error::NoWorkerProgram(tried))
}

/// How many ids from 0 up are mapped.
pub(super) fn mapped_ids(identity: &Identity) -> u32 {
    let ranges = match identity {
        Identity::Single { .. } => return 1,
        Identity::Subordinate { uid_ranges, gid_ranges } | Identity::Full { uid_ranges, gid_ranges } => {
            [uid_ranges, gid_ranges]
        }
    };
    ranges
        .into_iter()
        .map(|ranges| {
            let mut ranges: Vec<_> = ranges.iter().map(|range| (range.inner, range.count)).collect();
            ranges.sort_unstable();
            ranges.iter().fold(
                0u32,
                |end, (inner, count)| if *inner <= end { inner.saturating_add(*count) } else { end },
            )
        })
        .min()
        .unwrap_or(1)
        .max(1)
}

/// Milliseconds since 1970; 0 on a clock before that.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    create_dir_all_private(path)?;
    std::fs::canonicalize(path).map_err(|error| Error::disk("find", path, error))
}

/// Opens the index; one that is damaged is moved aside, for everything in it can be found again.
fn open_index(layout: &Layout) -> Result<Index> {
    match Index::open(&layout.index()) {
        Err(error) if error.is_damage() => {
            let aside = layout.root().join(format!("index.db.damaged-{}", now_ms()));
            crate::disk::rename(&layout.index(), &aside)?;
            for suffix in ["-wal", "-shm"] {
                let mut path = layout.index().into_os_string();
                path.push(suffix);
                let _ = std::fs::remove_file(path);
            }
            Ok(Index::open(&layout.index())?)
        }
        other => Ok(other?),
    }
}
