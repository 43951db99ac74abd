//! Looks after the bounds of a run that the kernel does not keep by itself.
//!
//! Memory and processes are sampled. What is written is estimated by how full the file system is, which costs a
//! microsecond, and added up only when that says that the cap may be reached, or now and then for what does not show.
//!
//! # How far over
//! - Memory and processes: what can be had in [`SAMPLE`], or in fifty times what a look takes if that is more.
//! - Writing: what can be written in [`GLANCE`] and while the upper directory is added up once. Where others free space
//!   on the same file system meanwhile: in [`EXACT_AT_LEAST`], or in fifty times what adding up takes if that is more.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::sandbox::{Bounds, Exceeded, Plan, Rootfs, meter};

/// Between two looks at the processes.
const SAMPLE: Duration = Duration::from_millis(50);
/// Between two looks at how full the file system is.
const GLANCE: Duration = Duration::from_millis(10);
/// Between two exact looks at what was written, however little has changed.
const EXACT_AT_LEAST: Duration = Duration::from_secs(1);
/// A look that took a time is not repeated before this many times that: so watching takes 2 % of one processor at most.
const REST: u32 = 50;

/// Watches one run.
pub(super) struct Watch {
    bounds: Bounds,
    next_sample: Instant,
    disk: Option<Disk>,
}

/// What a run has written so far, as far as it is known.
struct Disk {
    upper: PathBuf,
    cap: u64,
    file_system: OwnedFd,
    /// What was found when it was last added up, and how full the file system was then.
    known: u64,
    used_then: u64,
    next_glance: Instant,
    /// Not before this time, whatever a glance says.
    rested: Instant,
    /// At this time, whatever a glance says.
    due: Instant,
}

impl Watch {
    /// A watch over the sandbox of that plan; `None` when nothing has to be looked after.
    pub(super) fn new(plan: &Plan) -> Option<Self> {
        let bounds = plan.bounds.clone();
        let disk = bounds.written_bytes.zip(upper(plan)).and_then(|(cap, upper)| Disk::new(cap, upper));
        let watched = disk.is_some() || bounds.memory_bytes.is_some() || bounds.tasks.is_some();
        let now = Instant::now();
        watched.then_some(Self { bounds, next_sample: now, disk })
    }

    /// How long nothing has to be looked at; `None` is for ever.
    pub(super) fn pause(&self) -> Option<Duration> {
        let sampled = self.samples().then_some(self.next_sample);
        let next = sampled.into_iter().chain(self.disk.as_ref().map(|disk| disk.next_glance)).min()?;
        // Rounded up to what poll knows, so that nobody wakes up too early for anything.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_micros(999))
    }

    /// Looks where it is time, and says what is over its bound. `joined` are the processes beside init that have no parent inside.
    pub(super) fn look(&mut self, init: i32, joined: impl Iterator<Item = i32>) -> Option<Exceeded> {
        let now = Instant::now();
        if self.samples() && now >= self.next_sample {
            let found = self.sample(init, joined);
            self.next_sample = now + SAMPLE.max(now.elapsed() * REST);
            if found.is_some() {
                return found;
            }
        }
        let disk = self.disk.as_mut().filter(|disk| now >= disk.next_glance)?;
        disk.glance(now)
    }

    /// Looks once more at what the run has written, now that it is over.
    pub(super) fn last_look(&mut self) -> Option<Exceeded> {
        self.disk.as_mut()?.add_up()
    }

    fn samples(&self) -> bool {
        self.bounds.memory_bytes.is_some() || self.bounds.tasks.is_some()
    }

    fn sample(&self, init: i32, joined: impl Iterator<Item = i32>) -> Option<Exceeded> {
        let census = meter::census(init, joined);
        if self.bounds.tasks.is_some_and(|most| census.tasks > most) {
            return Some(Exceeded::Tasks(census.tasks));
        }
        let most = self.bounds.memory_bytes?;
        let memory = meter::memory(&census.pids, most);
        (memory > most).then_some(Exceeded::Memory(memory))
    }
}

fn upper(plan: &Plan) -> Option<PathBuf> {
    match &plan.rootfs {
        Rootfs::Overlay { upper: Some(upper), .. } => Some(upper.upper.clone()),
        _ => None,
    }
}

impl Disk {
    fn new(cap: u64, upper: PathBuf) -> Option<Self> {
        let file_system = std::fs::File::open(&upper).ok()?.into();
        let used_then = meter::used_bytes(&file_system).unwrap_or(0);
        let now = Instant::now();
        let due = now + EXACT_AT_LEAST;
        Some(Self { upper, cap, file_system, known: 0, used_then, next_glance: now, rested: now, due })
    }

    fn glance(&mut self, now: Instant) -> Option<Exceeded> {
        self.next_glance = now + GLANCE;
        let grown = meter::used_bytes(&self.file_system).unwrap_or(u64::MAX).saturating_sub(self.used_then);
        let suspicious = self.known.saturating_add(grown) > self.cap && now >= self.rested;
        if suspicious || now >= self.due { self.add_up() } else { None }
    }

    fn add_up(&mut self) -> Option<Exceeded> {
        let began = Instant::now();
        let used = meter::used_bytes(&self.file_system).unwrap_or(0);
        let held = meter::held_by(&self.upper);
        let took = began.elapsed();
        let now = Instant::now();
        self.rested = now + GLANCE.max(took * REST);
        self.due = now + EXACT_AT_LEAST.max(took * REST);
        // Something was moved under the walk: the next look is as good.
        let against = held.ok()?.against(self.cap);
        (self.known, self.used_then) = (against, used);
        (against > self.cap).then_some(Exceeded::Written(against))
    }
}
