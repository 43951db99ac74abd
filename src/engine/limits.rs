//! The limits of a run, and by what means each is kept on this machine.

use rustix::process::{Resource as Kernel, getrlimit};

use super::error::{Error, Result};
use crate::sandbox::cgroup::{self, Cgroup, Controller, Place};
use crate::sandbox::{Exceeded, Plan, Resource, Rlimit, kernel_at_least};

/// What a command may use; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu_milli: Option<u64>,
    pub(super) pids: Option<u64>,
    pub(super) disk_bytes: Option<u64>,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitKind {
    /// Memory, in bytes.
    Memory,
    /// Processor time, in thousandths of a processor.
    Cpus,
    /// Processes and threads.
    Pids,
    /// What is written to the file system, in bytes.
    Disk,
}

impl LimitKind {
    pub(super) fn of(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Memory(_) => Self::Memory,
            Exceeded::Tasks(_) => Self::Pids,
            Exceeded::Written(_) => Self::Disk,
        }
    }
}

/// By what means a limit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// A cgroup: the kernel keeps it exactly, for the sandbox as a whole.
    Cgroup,
    /// treebox looks at the whole sandbox every now and then, and kills it when it is over.
    Watch,
    /// The kernel keeps it for each user id inside, and treebox looks at the whole sandbox.
    PerUser,
    /// The sandbox is put on so many processors, which a program inside may undo.
    Affinity,
}

/// A limit that was asked for, and how it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What was limited.
    pub kind: LimitKind,
    /// To how much, in the unit of its kind.
    pub value: u64,
    /// By what means.
    pub by: Mechanism,
    /// Why not by a better one.
    pub reason: Option<String>,
}

/// The limits of one run while it lasts.
#[derive(Debug)]
pub(super) struct Keeping {
    limits: Vec<Limit>,
    cgroup: Option<Cgroup>,
}

/// What treebox's own first process inside takes of the limit of processes.
const OWN_TASKS: u64 = 1;

/// A single process may ask for so many times the memory of the whole sandbox before its requests fail. What is asked for and never used,
/// such as the stacks of threads, is not memory in use, but a request beyond all measure should fail and not kill.
const SLACK: u64 = 4;

impl Keeping {
    /// Finds the best means for every limit and enters them in the plan.
    pub(super) fn arrange(limits: &Limits, plan: &mut Plan) -> Result<Self> {
        limits.check()?;
        let wanted = cgroup::Limits {
            memory_bytes: limits.memory_bytes,
            cpu_milli: limits.cpu_milli,
            pids: limits.pids.map(|count| count.saturating_add(OWN_TASKS)),
        };
        let (cgroup, reason) = match wanted.controllers().is_empty() {
            true => (None, None),
            false => Place::of_this_process()
                .map_or_else(|reason| (None, Some(reason)), |place| place.make(&wanted)),
        };
        plan.bounds.cgroup = cgroup.as_ref().map(|cgroup| cgroup.dir().to_owned());
        let mut keeping = Self { limits: Vec::new(), cgroup };
        keeping.memory(limits.memory_bytes, plan, &reason);
        keeping.cpus(limits.cpu_milli, plan, &reason);
        keeping.pids(limits.pids, plan, &reason);
        if let Some(cap) = limits.disk_bytes {
            plan.bounds.written_bytes = Some(cap);
            // One byte more, so that a file of just the cap is no excess and one that was stopped is.
            limit_process(plan, Resource::FileSize, Kernel::Fsize, cap.saturating_add(1));
            keeping.note(LimitKind::Disk, cap, Mechanism::Watch, None);
        }
        Ok(keeping)
    }

    fn memory(&mut self, bytes: Option<u64>, plan: &mut Plan, reason: &Option<String>) {
        let Some(bytes) = bytes else { return };
        if self.has(Controller::Memory) {
            return self.note(LimitKind::Memory, bytes, Mechanism::Cgroup, None);
        }
        plan.bounds.memory_bytes = Some(bytes);
        limit_process(plan, Resource::Data, Kernel::Data, bytes.saturating_mul(SLACK));
        self.note(LimitKind::Memory, bytes, Mechanism::Watch, reason.clone());
    }

    fn cpus(&mut self, milli: Option<u64>, plan: &mut Plan, reason: &Option<String>) {
        let Some(milli) = milli else { return };
        if self.has(Controller::Cpu) {
            return self.note(LimitKind::Cpus, milli, Mechanism::Cgroup, None);
        }
        plan.bounds.processors = Some(u32::try_from(milli.div_ceil(1000)).unwrap_or(u32::MAX));
        self.note(LimitKind::Cpus, milli, Mechanism::Affinity, reason.clone());
    }

    fn pids(&mut self, count: Option<u64>, plan: &mut Plan, reason: &Option<String>) {
        let Some(count) = count else { return };
        // Before Linux 5.14 it counts everything that the user runs anywhere, and real root is never bound by it. A cgroup counts
        // better; then it only takes the place of the sandbox's usual limit, which may be lower.
        let counted = kernel_at_least(5, 14);
        if counted {
            let own = if plan.uid == 0 { OWN_TASKS } else { 0 };
            limit_process(plan, Resource::Processes, Kernel::Nproc, count.saturating_add(own));
        }
        if self.has(Controller::Pids) {
            return self.note(LimitKind::Pids, count, Mechanism::Cgroup, None);
        }
        plan.bounds.tasks = Some(count);
        let per_user = counted && !nix::unistd::geteuid().is_root();
        let by = if per_user { Mechanism::PerUser } else { Mechanism::Watch };
        self.note(LimitKind::Pids, count, by, reason.clone());
    }

    fn has(&self, controller: Controller) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.keeps(controller))
    }

    fn note(&mut self, kind: LimitKind, value: u64, by: Mechanism, reason: Option<String>) {
        self.limits.push(Limit { kind, value, by, reason });
    }

    pub(super) fn limits(&self) -> Vec<Limit> {
        self.limits.clone()
    }

    /// The limit for which a run that is over was killed.
    pub(super) fn killed_for(&self, exceeded: Option<Exceeded>) -> Option<LimitKind> {
        let by_cgroup =
            || self.cgroup.as_ref().is_some_and(Cgroup::out_of_memory).then_some(LimitKind::Memory);
        exceeded.map(LimitKind::of).or_else(by_cgroup)
    }

    /// The error of a run that wrote too much.
    pub(super) fn over_disk(&self, exceeded: Option<Exceeded>) -> Option<Error> {
        let Some(Exceeded::Written(written_bytes)) = exceeded else { return None };
        let limit_bytes = self.limits.iter().find(|limit| limit.kind == LimitKind::Disk)?.value;
        Some(Error::OverDisk { limit_bytes, written_bytes })
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        /// Enough for a shell; the kernel kills what has less before it has begun.
        const MIN_MEMORY_BYTES: u64 = 1 << 20;
        if self.memory_bytes.is_some_and(|bytes| bytes < MIN_MEMORY_BYTES) {
            return Err(Error::invalid("a memory limit must be at least 1 MiB"));
        }
        if self.cpu_milli.is_some_and(|milli| milli < 10) {
            return Err(Error::invalid("a limit of processors must be at least 0.01"));
        }
        if self.pids == Some(0) {
            return Err(Error::invalid("a limit of processes must be at least 1"));
        }
        Ok(())
    }
}

/// Limits every process of the plan; the caller's own limit, which cannot be raised, stays if it is lower.
fn limit_process(plan: &mut Plan, resource: Resource, kernel: Kernel, value: u64) {
    let value = getrlimit(kernel).maximum.map_or(value, |most| most.min(value));
    plan.rlimits.push(Rlimit { resource, soft: value, hard: value });
}
