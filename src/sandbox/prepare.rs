//! From a plan to its ordered steps. Pure: nothing is opened, looked up or changed here.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::emulate::{self, Owned};
use super::idmap::IdMap;
use super::plan::{MAX_HOSTNAME_BYTES, Mount, Network, Plan, Resource, Rlimit, Rootfs, Upper};
use super::step::{OverlayLayers, Program, Step};

/// Paths that the default container configuration of moby covers.
const MASKED: &[&str] = &[
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
];

/// Paths that the default container configuration of moby makes read-only.
/// The last is not among them: real root could turn messages of the host's kernel on and off there.
const READ_ONLY: &[&str] =
    &["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", "proc/dynamic_debug"];

/// What else is mounted on the host's /sys, where that is all there is to show. A sysfs of the sandbox's own has nothing there.
const MASKED_OF_HOST: &[&str] = &[
    "sys/fs/bpf",
    "sys/fs/cgroup",
    "sys/fs/pstore",
    "sys/fs/selinux",
    "sys/kernel/config",
    "sys/kernel/debug",
    "sys/kernel/security",
    "sys/kernel/tracing",
];

/// The resource limits of a sandbox as name, soft and hard limit; never more than the caller has itself.
///
/// They do not follow the caller's soft limits, so that a result does not depend on the shell it was asked for from. Processes and
/// threads are counted per user id and, since Linux 5.14, per user namespace, so for each sandbox alone; for real root the
/// kernel does not count them. A core limit of one byte also keeps the host's core dump handler from being started.
pub const DEFAULT_LIMITS: &[Rlimit] = &[
    at_most(Resource::AddressSpace, UNLIMITED, UNLIMITED),
    at_most(Resource::Core, 1, 1),
    at_most(Resource::Cpu, UNLIMITED, UNLIMITED),
    at_most(Resource::Data, UNLIMITED, UNLIMITED),
    at_most(Resource::FileSize, UNLIMITED, UNLIMITED),
    at_most(Resource::LockedMemory, 8 << 20, 8 << 20),
    at_most(Resource::MessageQueue, 819_200, 819_200),
    at_most(Resource::Niceness, 0, 0),
    at_most(Resource::OpenFiles, 1024, 524_288),
    at_most(Resource::Processes, 4096, 4096),
    at_most(Resource::RealTimePriority, 0, 0),
    at_most(Resource::Stack, 8 << 20, UNLIMITED),
];

/// Process ids of one sandbox, threads included: a fork bomb ends there even for real root (Linux ≥ 6.14).
const MAX_PROCESS_IDS: u32 = 8192;

/// The kernel's own limit on 64-bit machines (linux/threads.h).
const PID_MAX_LIMIT: u32 = 4 << 20;

const UNLIMITED: u64 = u64::MAX;

const fn at_most(resource: Resource, soft: u64, hard: u64) -> Rlimit {
    Rlimit { resource, soft, hard }
}

/// The devices a sandbox has, with their numbers (Documentation/admin-guide/devices.txt of the kernel).
const DEVICES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const DEV_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The group that owns terminals on every distribution.
const TTY_GROUP: u32 = 5;

/// Most lower directories the kernel stacks (`OVL_MAX_STACK`).
pub const MAX_LOWERS: usize = 500;

/// Why a plan cannot be carried out, known before anything is tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no program.
    #[error("the plan names no program to run")]
    NoProgram,
    /// A zero byte cannot be passed to the kernel.
    #[error("{what} holds a zero byte: {text}")]
    ZeroByte {
        /// Which part of the plan.
        what: String,
        /// The text, escaped.
        text: String,
    },
    /// A path that must be absolute is not.
    #[error("{what} must be an absolute path: {path}")]
    RelativePath {
        /// Which part of the plan.
        what: String,
        /// The path, escaped.
        path: String,
    },
    /// The overlay's stack is too short or too tall.
    #[error("an overlay of {count} lower directories {} cannot be mounted (at least {least}, at most {MAX_LOWERS})",
        if *least > 1 { "without an upper one" } else { "and an upper one" })]
    Lowers {
        /// How many there are.
        count: usize,
        /// How many are needed.
        least: usize,
    },
    /// The host name is longer than the kernel's limit.
    #[error("the host name is {bytes} bytes long; {MAX_HOSTNAME_BYTES} is the kernel's limit")]
    Hostname {
        /// Its length.
        bytes: usize,
    },
    /// An id has no counterpart outside the sandbox.
    #[error("{kind} {id} is not mapped here: {fix}")]
    UnmappedId {
        /// `user id` or `group id`.
        kind: String,
        /// The id asked for.
        id: u32,
        /// What to do about it.
        fix: String,
    },
}

/// Builds the steps of a plan under the id maps that the sandbox will have.
pub(crate) fn prepare(plan: &Plan, map: &IdMap) -> Result<Vec<Step>, PlanError> {
    check_ids(plan, map)?;
    let mut steps = scene(plan, map)?;
    steps.push(Step::Fork);
    payload(plan, map, &mut steps)?;
    Ok(steps)
}

/// The steps of a sandbox that waits for commands. What the plan says about a payload does not count.
pub(crate) fn prepare_idle(plan: &Plan, map: &IdMap) -> Result<Vec<Step>, PlanError> {
    let mut steps = scene(plan, map)?;
    steps.push(Step::Idle);
    Ok(steps)
}

/// The steps of one command in a sandbox that is there. Of the plan only what it says about the payload counts; from the join on
/// they are those of [`prepare`], so that a command is sealed in the same way.
pub(crate) fn prepare_joining(plan: &Plan, map: &IdMap) -> Result<Vec<Step>, PlanError> {
    check_ids(plan, map)?;
    let mut steps = vec![Step::OwnKeyring, Step::OrdinaryProcess, Step::Join];
    seal(plan, &mut steps);
    payload(plan, map, &mut steps)?;
    Ok(steps)
}

/// The steps of init until its root is in place.
fn scene(plan: &Plan, map: &IdMap) -> Result<Vec<Step>, PlanError> {
    let mut steps = vec![Step::AwaitMaps, Step::PrivateMounts, Step::OwnKeyring, Step::OrdinaryProcess];
    if !plan.hostname.is_empty() {
        if plan.hostname.len() > MAX_HOSTNAME_BYTES {
            return Err(PlanError::Hostname { bytes: plan.hostname.len() });
        }
        steps.push(Step::Hostname(plan.hostname.clone().into_bytes()));
    }
    if plan.network != Network::Host {
        steps.push(Step::LoopbackUp);
    }
    steps.push(root(&plan.rootfs)?);
    // /proc before everything that could hide the host's: a fresh one is only granted while a whole one is visible.
    steps.push(Step::FreshProc);
    steps.push(if plan.network == Network::Host { Step::HostSys } else { Step::FreshSys });
    // Twice what is asked for: after the last number the kernel begins again at 300, and a number is taken until its process is collected.
    let asked = plan.rlimits.iter().find(|limit| limit.resource == Resource::Processes);
    let asked = asked.map_or(0, |limit| u32::try_from(limit.soft).unwrap_or(u32::MAX).saturating_mul(2));
    steps.push(Step::ProcessIds { most: asked.clamp(MAX_PROCESS_IDS, PID_MAX_LIMIT) });
    steps.extend(READ_ONLY.iter().map(|path| Step::ReadOnly(fixed(path))));
    steps.extend(MASKED.iter().map(|path| Step::Mask(fixed(path))));
    steps.extend(MASKED_OF_HOST.iter().map(|path| Step::MaskOfHost(fixed(path))));
    steps.extend(device_steps(map.has_gid(TTY_GROUP)));
    for mount in &plan.mounts {
        steps.push(extra_mount(mount)?);
    }
    // Sealed before there is a payload, so that init and everything after it is.
    steps.push(Step::Pivot);
    seal(plan, &mut steps);
    Ok(steps)
}

/// What no process of a sandbox may do from here on.
fn seal(plan: &Plan, steps: &mut Vec<Step>) {
    steps.extend([Step::NoNewPrivileges, Step::Seal(plan.allow.clone())]);
}

/// The steps that build /dev.
pub(crate) fn device_steps(tty_group: bool) -> Vec<Step> {
    let mut steps = vec![Step::Dev];
    for (name, major, minor) in DEVICES {
        let host = fixed(&format!("/dev/{name}"));
        steps.push(Step::Device { name: fixed(name), host, major: *major, minor: *minor });
    }
    steps.extend([Step::DevPts { tty_group }, Step::DevShm, Step::DevMqueue]);
    steps.extend(DEV_LINKS.iter().map(|(name, to)| Step::DevLink { name: fixed(name), target: fixed(to) }));
    steps
}

/// The steps after the fork. Their order is that of what each still needs: limits and groups need privileges, the
/// bounding set needs CAP_SETPCAP, the user id takes them all away.
fn payload(plan: &Plan, map: &IdMap, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let emulated = plan.emulation.is_some();
    // The one id there is, whoever the payload believes to be.
    let (uid, gid) = if emulated { (0, 0) } else { (plan.uid, plan.gid) };
    if let Some(size) = plan.terminal {
        steps.push(Step::Terminal { size, owner: uid });
    }
    steps.push(Step::Streams { owner: uid });
    steps.push(Step::NewSession { tty: plan.terminal.is_some() });
    let named = |limit: &&Rlimit| plan.rlimits.iter().any(|named| named.resource == limit.resource);
    for Rlimit { resource, soft, hard } in DEFAULT_LIMITS.iter().copied().filter(|limit| !named(&limit)) {
        steps.push(Step::LimitAtMost { resource, soft, hard });
    }
    for limit in &plan.rlimits {
        steps.push(Step::Limit { resource: limit.resource, soft: limit.soft, hard: limit.hard });
    }
    if let Some(count) = plan.bounds.processors {
        steps.push(Step::Processors(count));
    }
    steps.push(Step::Umask(plan.umask & 0o777));
    steps.push(Step::WorkDir(c_string("the working directory", &plan.cwd)?));
    let program = program(plan)?;
    steps.push(Step::OwnProgram(program.clone()));
    steps.push(Step::BoundCapabilities);
    if map.setgroups && !emulated {
        steps.push(Step::Groups(plan.groups.clone()));
    }
    steps.extend([Step::Gid(gid), Step::Uid(uid)]);
    steps.extend([Step::Capabilities { root: plan.uid == 0 }, Step::DefaultSignals]);
    if let Some(emulation) = &plan.emulation {
        // The very last: from here on the supervisor answers, and it begins when the program runs.
        let lists = emulation.owned.iter().any(Owned::has_xattrs);
        let filter = emulate::filter(lists).compile();
        steps.push(Step::Emulate { filter, identity: emulation.identity });
    }
    steps.push(Step::Exec(program));
    Ok(())
}

fn check_ids(plan: &Plan, map: &IdMap) -> Result<(), PlanError> {
    if plan.emulation.is_some() {
        return Ok(());
    }
    let unmapped = |kind: &str, id: u32| {
        PlanError::UnmappedId {
        kind: kind.to_owned(),
        id,
        fix: "give the calling user subordinate ids (a line `name:100000:65536` in /etc/subuid and /etc/subgid, and \
              the package uidmap), or choose an id that is"
            .to_owned(),
    }
    };
    if !map.has_uid(plan.uid) {
        return Err(unmapped("user id", plan.uid));
    }
    if let Some(gid) = std::iter::once(&plan.gid).chain(&plan.groups).find(|gid| !map.has_gid(**gid)) {
        return Err(unmapped("group id", *gid));
    }
    Ok(())
}

/// The step that mounts the root.
pub(crate) fn root(rootfs: &Rootfs) -> Result<Step, PlanError> {
    match rootfs {
        Rootfs::Directory { path, read_only } => {
            Ok(Step::BindRoot { source: absolute("the root directory", path)?, read_only: *read_only })
        }
        Rootfs::Overlay { lowers, data_lower, upper } => {
            let least = if upper.is_some() { 1 } else { 2 };
            if lowers.len() < least || lowers.len() > MAX_LOWERS {
                return Err(PlanError::Lowers { count: lowers.len(), least });
            }
            Ok(Step::Overlay(overlay(lowers, data_lower.as_deref(), upper.as_ref())?))
        }
    }
}

fn overlay(
    lowers: &[std::path::PathBuf],
    data_lower: Option<&Path>,
    upper: Option<&Upper>,
) -> Result<OverlayLayers, PlanError> {
    let writable = upper.iter().flat_map(|upper| [upper.upper.as_path(), upper.work.as_path()]);
    let all: Vec<&Path> =
        lowers.iter().map(|lower| lower.as_path()).chain(data_lower).chain(writable).collect();
    let base = common_ancestor(&all);
    let short = |path: &Path| escape_option(path.strip_prefix(&base).unwrap_or(path).as_os_str());

    // What follows is for mount(2), which has one page for all options: hence the short, relative names.
    let mut options = b"userxattr,lowerdir=".to_vec();
    options.extend(lowers.iter().map(|lower| short(lower)).collect::<Vec<_>>().join(&b':'));
    if let Some(data) = data_lower {
        options.extend_from_slice(b"::");
        options.extend(short(data));
    }
    if let Some(upper) = upper {
        options.extend_from_slice(b",volatile,upperdir=");
        options.extend(short(&upper.upper));
        options.extend_from_slice(b",workdir=");
        options.extend(short(&upper.work));
    }
    let lower_names: Vec<CString> =
        lowers.iter().map(|path| absolute("a lower directory", path)).collect::<Result<_, _>>()?;
    let upper_names = match upper {
        Some(upper) => Some((
            absolute("the upper directory", &upper.upper)?,
            absolute("the work directory", &upper.work)?,
        )),
        None => None,
    };
    let attach_at = match &upper_names {
        Some((upper, _)) => upper.clone(),
        None => lower_names[0].clone(),
    };
    Ok(OverlayLayers {
        lowers: lower_names,
        data_lower: data_lower.map(|path| absolute("the data directory", path)).transpose()?,
        upper: upper_names,
        base: c_string("the layers' common directory", base.as_os_str().as_bytes())?,
        options: c_string("the layers", &options)?,
        attach_at,
        old_mount: false,
    })
}

fn common_ancestor(paths: &[&Path]) -> std::path::PathBuf {
    let first = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/"));
    // A layer must keep a name of its own below the base, hence `parent`.
    let shared =
        |base: &&Path| paths.iter().all(|path| path.parent().is_some_and(|dir| dir.starts_with(base)));
    first.ancestors().find(shared).unwrap_or(Path::new("/")).to_path_buf()
}

/// Escapes a name for overlayfs's own option parser.
fn escape_option(name: &OsStr) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name.as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

fn extra_mount(mount: &Mount) -> Result<Step, PlanError> {
    Ok(match mount {
        Mount::Bind { source, found, target, read_only } => Step::Bind {
            source: absolute("the source of a bind mount", source)?,
            found: *found,
            target: absolute("the target of a bind mount", target)?,
            read_only: *read_only,
        },
        Mount::Tmpfs { target, size_bytes, mode, read_only } => Step::Tmpfs {
            target: absolute("the target of a tmpfs", target)?,
            size: fixed(&size_bytes.to_string()),
            mode: fixed(&format!("{:o}", mode & 0o7777)),
            read_only: *read_only,
        },
        Mount::Secret { target, content, mode, uid, gid } => Step::Secret {
            target: absolute("the target of a secret", target)?,
            content: content.clone(),
            mode: mode & 0o777,
            uid: *uid,
            gid: *gid,
        },
        Mount::Point { target, directory } => {
            let parent = target.parent().unwrap_or(Path::new("/"));
            let name = target.file_name().unwrap_or_default();
            Step::Point {
                parent: absolute("a mount point", parent)?,
                name: c_string("a mount point", name.as_bytes())?,
                directory: *directory,
            }
        }
    })
}

fn program(plan: &Plan) -> Result<Program, PlanError> {
    let name = plan.argv.first().filter(|name| !name.is_empty()).ok_or(PlanError::NoProgram)?;
    let candidates = if name.contains(&b'/') {
        vec![c_string("the program", name)?]
    } else {
        // An empty element of PATH means the working directory; that rule is a trap, so it is not followed.
        plan.search_path()
            .split(|byte| *byte == b':')
            .filter(|dir| !dir.is_empty())
            .map(|dir| c_string("PATH", &[dir, name].join(&b'/')))
            .collect::<Result<_, _>>()?
    };
    let words = |what: &str, list: &[Vec<u8>]| {
        list.iter().map(|word| c_string(what, word)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Program {
        candidates,
        argv: words("an argument", &plan.argv)?,
        env: words("the environment", &plan.env)?,
    })
}

fn absolute(what: &str, path: &Path) -> Result<CString, PlanError> {
    if path.is_absolute() {
        c_string(what, path.as_os_str().as_bytes())
    } else {
        let path = path.as_os_str().as_bytes().escape_ascii().to_string();
        Err(PlanError::RelativePath { what: what.to_owned(), path })
    }
}

fn c_string(what: &str, bytes: &[u8]) -> Result<CString, PlanError> {
    CString::new(bytes)
        .map_err(|_| PlanError::ZeroByte { what: what.to_owned(), text: bytes.escape_ascii().to_string() })
}

/// A string of this file, which holds no zero byte.
fn fixed(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

impl fmt::Display for Plan {
    /// Lists the steps in order, one per line, as they would be taken with every id mapped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match prepare(self, &IdMap::everything()) {
            Ok(steps) => {
                steps.iter().enumerate().try_for_each(|(at, step)| writeln!(f, "{:>3}. {step}", at + 1))
            }
            Err(err) => write!(f, "impossible: {err}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let upper = Upper { upper: "/s/tmp/1/upper".into(), work: "/s/tmp/1/work".into() };
        let lowers = vec!["/s/layers/a:b".into(), "/s/layers/c".into()];
        let rootfs = Rootfs::Overlay { lowers, data_lower: Some("/s/objects".into()), upper: Some(upper) };
        Plan::new(rootfs, vec![b"ls".to_vec()])
    }

    #[test]
    fn old_mount_options_are_short_and_escaped() {
        let steps = prepare(&plan(), &IdMap::everything()).unwrap();
        let Some(Step::Overlay(layers)) = steps.iter().find(|step| matches!(step, Step::Overlay(_))) else {
            panic!("no overlay in {steps:?}")
        };
        assert_eq!(layers.base.to_bytes(), b"/s");
        assert_eq!(
            layers.options.to_str().unwrap(),
            "userxattr,lowerdir=layers/a\\:b:layers/c::objects,volatile,upperdir=tmp/1/upper,workdir=tmp/1/work"
        );
    }

    #[test]
    fn a_plan_prints_its_steps_in_order() {
        let text = plan().to_string();
        let position = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} not in\n{text}"));
        assert!(position("mount /proc") < position("make the new root the root"));
        assert!(position("make the new root the root") < position("refuse dangerous system calls"));
        assert!(position("refuse dangerous system calls") < position("create the payload"));
        assert!(position("execute ls") > position("drop capabilities"));
    }

    #[test]
    fn impossible_plans_are_refused_before_anything_happens() {
        let all = IdMap::everything();
        let broken = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            prepare(&plan, &all).unwrap_err()
        };
        assert_eq!(broken(|plan| plan.argv.clear()), PlanError::NoProgram);
        assert!(matches!(broken(|plan| plan.env = vec![b"A=\0".to_vec()]), PlanError::ZeroByte { .. }));
        assert!(matches!(broken(|plan| plan.hostname = "h".repeat(65)), PlanError::Hostname { bytes: 65 }));
        let relative = |plan: &mut Plan| {
            plan.rootfs = Rootfs::Directory { path: "x".into(), read_only: false };
        };
        assert!(matches!(broken(relative), PlanError::RelativePath { .. }));
        let single = IdMap::single();
        let mut other = plan();
        other.uid = 5;
        assert!(matches!(prepare(&other, &single), Err(PlanError::UnmappedId { id: 5, .. })));
        other.uid = 0;
        other.groups = vec![7];
        assert!(matches!(prepare(&other, &single), Err(PlanError::UnmappedId { id: 7, .. })));
    }

    #[test]
    fn a_program_is_searched_in_every_directory_of_path() {
        let mut plan = plan();
        plan.env = vec![b"PATH=/a::/b".to_vec()];
        let found = program(&plan).unwrap().candidates;
        assert_eq!(found, [c"/a/ls".to_owned(), c"/b/ls".to_owned()]);
    }
}
