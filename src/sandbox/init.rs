//! The two processes inside a sandbox before there is a program: init (pid 1) and the payload's first moments.
//!
//! # Invariants
//! - Between clone and execve there are system calls only, on memory prepared by the parent.
//! - Neither function returns: both processes end here or become another program.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::libc;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::fault::{self, Aspect, Fault};
use super::kernel;
use super::plan::{Resource, TerminalSize};
use super::scene::{Scene, exists};
use super::step::{Exercise, Program, Step};
use super::sys::{self, Cloned, Pointers};

/// What a container's root may do; podman's default set.
const CONTAINER_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Added to the badness of everything inside, in thousandths of the memory. A payload can take it back down to the caller's
/// own, and not below.
const OOM_SCORE: &[u8] = b"300";

/// Capabilities are numbered from 0; no kernel has 64 of them.
const MAX_CAPABILITIES: u32 = 64;

/// Sent by the parent when the id maps are written. Signals to forward are sent as their number.
pub(crate) const GO: u8 = 0xff;

/// Length of the record in which init says how the payload ended: the raw wait status, then six usage numbers.
pub(crate) const ENDED_BYTES: usize = 8 * 7;

/// What init holds of its parent, all of it closed on execve.
pub(crate) struct Lines {
    /// Both directions: `GO` and signal numbers come in, the final record goes out. Packets.
    pub(crate) link: OwnedFd,
    /// Takes packets: the report of a failed step, the pid of a process that joined, the master of a terminal. Its closing means
    /// that the program runs.
    pub(crate) report: OwnedFd,
    /// The payload's standard streams.
    pub(crate) streams: [OwnedFd; 3],
}

/// Everything the child needs, made before the clone.
pub(crate) struct Script {
    steps: Vec<Step>,
    argv: Pointers,
    env: Pointers,
    groups: Vec<rustix::thread::Gid>,
    seal: Vec<libc::sock_filter>,
}

impl Script {
    pub(crate) fn new(steps: Vec<Step>) -> Self {
        let (argv, env) = match steps.last() {
            Some(Step::Exec(program)) => (Pointers::of(&program.argv), Pointers::of(&program.env)),
            _ => (Pointers::of(&[]), Pointers::of(&[])),
        };
        let groups = steps.iter().find_map(|step| match step {
            Step::Groups(groups) => {
                Some(groups.iter().map(|id| rustix::thread::Gid::from_raw(*id)).collect())
            }
            _ => None,
        });
        let seal = steps.iter().find_map(|step| match step {
            Step::Seal(allow) => Some(super::seccomp::seal(allow).compile()),
            _ => None,
        });
        Self { steps, argv, env, groups: groups.unwrap_or_default(), seal: seal.unwrap_or_default() }
    }

    pub(crate) fn step(&self, number: usize) -> Option<&Step> {
        self.steps.get(number)
    }
}

/// The life of init: sets the scene, starts the payload, collects the dead, and reports.
pub(crate) fn live(script: &Script, lines: Lines) -> ! {
    let mut scene = Scene::default();
    let mut lines = Some(lines);
    for (number, step) in script.steps.iter().enumerate() {
        let Some(held) = &lines else { sys::exit_now(1) };
        let done = match step {
            Step::AwaitMaps => await_maps(held),
            Step::Seal(_) => seal(script),
            Step::Fork => {
                let Some(held) = lines.take() else { sys::exit_now(1) };
                start_payload(script, number, held)
            }
            Step::Idle => {
                let Some(held) = lines.take() else { sys::exit_now(1) };
                idle(number, held)
            }
            step => set(step, &mut scene),
        };
        if let Err(fault) = done {
            match &lines {
                Some(held) => fail(&held.report, number, fault),
                None => sys::exit_now(1),
            }
        }
    }
    // A script without a payload, as probes use: everything worked.
    if let Some(held) = &lines {
        let _ = sys::send_packet(&held.link, &ended(0));
    }
    sys::exit_now(0)
}

/// What a process that joins a sandbox holds, all of it closed on execve.
pub(crate) struct Joining<'s> {
    /// The sandbox's namespaces, the user namespace first: it gives the right to enter the others.
    pub(crate) namespaces: &'s [OwnedFd],
    /// As in [`Lines`].
    pub(crate) report: OwnedFd,
    /// The payload's standard streams.
    pub(crate) streams: [OwnedFd; 3],
}

/// The life of the process that brings a payload into a sandbox: it joins, creates the payload beside itself, and ends.
pub(crate) fn join(script: &Script, joining: &Joining<'_>) -> ! {
    // First of all: what is inside already must not trace this process, nor see its memory or its executable. The
    // payload inherits it and keeps it until execve.
    end_first();
    let mut done = undumpable();
    for (number, step) in script.steps.iter().enumerate() {
        if done.is_ok() {
            done = match step {
                Step::Join => enter(joining.namespaces).and_then(|()| {
                    // A sibling of this process, so that the caller can wait for it. SAFETY: this process has one thread, and
                    // both sides go on with system calls only.
                    match unsafe { sys::clone3(libc::CLONE_PARENT, false) }? {
                        Cloned::Child => payload(script, number + 1, &joining.report, &joining.streams),
                        Cloned::Parent(pid, _) => {
                            let _ = sys::send_packet(&joining.report, &pid.to_ne_bytes());
                            sys::exit_now(0)
                        }
                    }
                }),
                step => set(step, &mut Scene::default()),
            };
        }
        if let Err(fault) = done {
            fail(&joining.report, number, fault);
        }
    }
    sys::exit_now(1)
}

fn seal(script: &Script) -> Result<(), Fault> {
    sys::install_filter(&script.seal, false).map(drop).map_err(Fault::from)
}

fn enter(namespaces: &[OwnedFd]) -> Result<(), Fault> {
    for namespace in namespaces {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None)?;
    }
    Ok(())
}

/// Of the processes here the sandbox's are what the kernel is to end first when memory runs out.
///
/// Done while this process is dumpable and /proc the host's: the files of an undumpable one belong to real root. Some containers
/// refuse it, and a sandbox without it is sound.
fn end_first() {
    let _ = sys::write_to(CWD, c"/proc/self/oom_score_adj", OOM_SCORE);
}

fn undumpable() -> Result<(), Fault> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}

fn fail(report: &OwnedFd, number: usize, fault: Fault) -> ! {
    let _ = sys::send_packet(report, &fault::encode(number, fault));
    sys::exit_now(1)
}

fn await_maps(lines: &Lines) -> Result<(), Fault> {
    // First the wish to die with the parent, then the proof that it was still there after the wish.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if sys::receive_byte(&lines.link, 0)? != Some(GO) {
        sys::exit_now(1);
    }
    end_first();
    // Only now: an undumpable process's id maps cannot be written. From here on nothing inside can trace init
    // or look at its memory, its executable or its descriptors.
    undumpable()?;
    // No terminal, and no signals meant for the caller's process group.
    rustix::process::setsid()?;
    Ok(())
}

fn set(step: &Step, scene: &mut Scene) -> Result<(), Fault> {
    match step {
        Step::PrivateMounts => {
            use rustix::mount::MountPropagationFlags as Propagation;
            Ok(rustix::mount::mount_change(c"/", Propagation::PRIVATE | Propagation::REC)?)
        }
        // Refused by some container engines' filters, and when the user's key quota is used up: then the session
        // keyring stays the caller's.
        Step::OwnKeyring => {
            let _ = sys::join_new_keyring();
            Ok(())
        }
        Step::OrdinaryProcess => Ok(sys::become_ordinary()?),
        Step::ProcessIds { most } => scene.bound_process_ids(*most),
        Step::Hostname(name) => Ok(sys::set_hostname(name)?),
        Step::LoopbackUp => Ok(sys::loopback_up()?),
        Step::Overlay(layers) => scene.overlay(layers),
        Step::BindRoot { source, read_only } => scene.bind_root(source, *read_only),
        Step::FreshProc => scene.fresh_proc(),
        Step::FreshSys => scene.fresh_sys(),
        Step::HostSys => scene.host_sys(),
        Step::Mask(path) => scene.mask(path),
        Step::MaskOfHost(path) => scene.mask_of_host(path),
        Step::ReadOnly(path) => scene.make_read_only(path),
        Step::Dev => scene.empty_dev(),
        Step::Device { name, host, major, minor } => scene.device(name, host, *major, *minor),
        Step::DevLink { name, target } => scene.dev_link(name, target),
        Step::DevPts { tty_group } => scene.dev_pts(*tty_group),
        Step::DevShm => scene.dev_shm(),
        Step::DevMqueue => scene.dev_mqueue(),
        Step::Bind { source, found, target, read_only } => scene.bind(source, *found, target, *read_only),
        Step::Tmpfs { target, size, mode, read_only } => scene.tmpfs(target, size, mode, *read_only),
        Step::Secret { target, content, mode, uid, gid } => {
            scene.secret(target, content.reveal(), *mode, (*uid, *gid))
        }
        Step::Point { parent, name, directory } => scene.point(parent, name, *directory),
        Step::Pivot => scene.pivot(),
        Step::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
        Step::Exercise(exercise) => scene.exercise(*exercise),
        _ => Err(Fault::new(Aspect::Check, Errno::INVAL)),
    }
}

/// Keeps some of the processors that this process may use: the one it is on, and those after it.
fn use_processors(count: u32) -> Result<(), Fault> {
    use rustix::thread::CpuSet;
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let here = rustix::thread::sched_getcpu();
    let mut kept = CpuSet::new();
    for offset in 0..CpuSet::MAX_CPU {
        let processor = (here + offset) % CpuSet::MAX_CPU;
        if kept.count() < count && allowed.is_set(processor) {
            kept.set(processor);
        }
    }
    Ok(rustix::thread::sched_setaffinity(None, &kept)?)
}

/// A descriptor that tells of dead children. SIGCHLD is blocked before the first fork, so that no death is missed; a payload
/// puts its own mask back.
fn deaths_of_children(report: &OwnedFd, number: usize) -> OwnedFd {
    let child_dies = 1u64 << (libc::SIGCHLD - 1);
    match sys::block_signals(child_dies).and_then(|()| sys::signal_fd(child_dies)) {
        Ok(deaths) => deaths,
        Err(errno) => fail(report, number, errno.into()),
    }
}

/// The rest of the life of an init without a payload of its own: collects the orphans of what joins.
fn idle(number: usize, lines: Lines) -> ! {
    let deaths = deaths_of_children(&lines.report, number);
    let Lines { link, report, streams } = lines;
    // The parent must see the report line close: the sandbox is ready.
    drop((report, streams));
    watch(None, &link, &deaths)
}

fn start_payload(script: &Script, number: usize, lines: Lines) -> ! {
    let deaths = deaths_of_children(&lines.report, number);
    // SAFETY: init has one thread, and both sides go on with system calls only.
    match unsafe { sys::clone3(0, false) } {
        Err(errno) => fail(&lines.report, number, errno.into()),
        Ok(Cloned::Child) => payload(script, number + 1, &lines.report, &lines.streams),
        Ok(Cloned::Parent(pid, _)) => {
            let Lines { link, report, streams } = lines;
            // The reader of a payload's output must see its end when the payload closes it, and the parent must see
            // the report line close when the program starts.
            drop((report, streams));
            watch(Some(pid), &link, &deaths)
        }
    }
}

/// Collects the dead and forwards signals until the payload ends.
fn watch(payload: Option<libc::pid_t>, link: &OwnedFd, deaths: &OwnedFd) -> ! {
    loop {
        let [died, spoke] = sys::wait_readable([deaths.as_raw_fd(), link.as_raw_fd()]);
        if spoke {
            match sys::receive_byte(link, libc::MSG_DONTWAIT) {
                Ok(Some(signal)) => {
                    if let Some(payload) = payload {
                        forward(payload, i32::from(signal));
                    }
                }
                // The parent is gone, and with it everybody who could want a result.
                Ok(None) => sys::exit_now(1),
                Err(_) => {}
            }
        }
        if died {
            let mut record = [0; 128];
            let _ = rustix::io::read(deaths, &mut record);
            while let Some((pid, status)) = sys::reap_any() {
                if Some(pid) == payload {
                    let _ = sys::send_packet(link, &ended(status));
                    // The kernel now kills whatever is left in this pid namespace.
                    sys::exit_now(0);
                }
            }
        }
    }
}

/// What a terminal would send goes to the payload's process group, as a terminal would send it; the rest to the
/// payload alone.
fn forward(payload: libc::pid_t, signal: i32) {
    // The group does not exist before the payload has called setsid.
    if !of_terminal(signal) || sys::kill(-payload, signal).is_err() {
        let _ = sys::kill(payload, signal);
    }
}

/// Whether a signal is one that terminals send.
pub(crate) fn of_terminal(signal: i32) -> bool {
    let from_terminal =
        [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP, libc::SIGCONT, libc::SIGWINCH];
    from_terminal.contains(&signal)
}

fn ended(status: i32) -> [u8; ENDED_BYTES] {
    record(status, &sys::children_usage())
}

/// How a process ended and what it used, as init tells it.
pub(crate) fn record(status: i32, usage: &libc::rusage) -> [u8; ENDED_BYTES] {
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    let numbers = [
        status as u32 as u64,
        micros(usage.ru_utime),
        micros(usage.ru_stime),
        usage.ru_maxrss as u64 * 1024,
        usage.ru_inblock as u64 * 512,
        usage.ru_oublock as u64 * 512,
        0,
    ];
    let mut bytes = [0; ENDED_BYTES];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// Descriptor of the report line in the payload, right after the standard streams.
const REPORT_FD: RawFd = 3;

fn payload(script: &Script, first: usize, line: &OwnedFd, given: &[OwnedFd; 3]) -> ! {
    let mut report = line.as_raw_fd();
    let mut terminal = None;
    for (offset, step) in script.steps.iter().skip(first).enumerate() {
        let done = match step {
            Step::Terminal { size, owner } => {
                open_terminal(line, *size, *owner).map(|slave| terminal = Some(slave))
            }
            Step::Streams { owner } => {
                let result = match &terminal {
                    Some(slave) => streams([slave, slave, slave], line, 0),
                    None => streams([&given[0], &given[1], &given[2]], line, *owner),
                };
                result.map(|()| report = REPORT_FD)
            }
            // Of one that joined; the payload of init has inherited both.
            Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true).map_err(Fault::from),
            Step::Seal(_) => seal(script),
            Step::Exec(program) => Err(execute(script, program)),
            Step::Groups(_) => rustix::thread::set_thread_groups(&script.groups).map_err(Fault::from),
            // The parent serves from the moment on when the report line closes.
            Step::Exercise(Exercise::BecomeOther) => sys::exit_now(i32::from(!become_other())),
            step => become_payload(step),
        };
        if let Err(fault) = done {
            // SAFETY: the descriptor is open: either the original or its duplicate made by `streams`.
            let report = unsafe { std::os::fd::BorrowedFd::borrow_raw(report) };
            // A write on a socket of packets is one packet.
            let _ = rustix::io::write(report, &fault::encode(first + offset, fault));
            sys::exit_now(1);
        }
    }
    sys::exit_now(0)
}

/// Opens a terminal in the sandbox's own /dev/pts and sends its master out; gives the slave.
fn open_terminal(line: &OwnedFd, size: TerminalSize, owner: u32) -> Result<OwnedFd, Fault> {
    const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let master = rustix::fs::open(c"/dev/pts/ptmx", flags, rustix::fs::Mode::empty())?;
    // Whatever the image or another process has put there: only a terminal of devpts may leave the sandbox.
    if rustix::fs::fstatfs(&master)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(Fault::new(Aspect::Check, Errno::NODEV));
    }
    let slave = sys::open_slave(&master, size.rows, size.columns)?;
    if owner != 0 {
        rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(owner)), None)?;
    }
    sys::send_descriptor(line.as_fd(), &master, sys::TERMINAL)?;
    Ok(slave)
}

fn streams(given: [&OwnedFd; 3], line: &OwnedFd, owner: u32) -> Result<(), Fault> {
    for (target, stream) in given.iter().enumerate() {
        if owner != 0 {
            own_pipe(stream, owner);
        }
        sys::duplicate_onto(stream.as_raw_fd(), target as RawFd, false)?;
    }
    if line.as_raw_fd() != REPORT_FD {
        sys::duplicate_onto(line.as_raw_fd(), REPORT_FD, true)?;
    }
    Ok(sys::close_from(REPORT_FD as u32 + 1)?)
}

/// Gives an anonymous pipe to the payload's user, who could otherwise not open /dev/stdout. Files are left alone.
fn own_pipe(stream: &OwnedFd, owner: u32) {
    const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;
    if rustix::fs::fstatfs(stream).is_ok_and(|stat| stat.f_type == PIPEFS_MAGIC) {
        let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(owner)), None);
    }
}

fn become_payload(step: &Step) -> Result<(), Fault> {
    match step {
        Step::NewSession { tty } => {
            rustix::process::setsid()?;
            if *tty {
                sys::take_terminal()?;
            }
        }
        Step::Limit { resource, soft, hard } => {
            let value = |limit: u64| (limit != u64::MAX).then_some(limit);
            let limits = rustix::process::Rlimit { current: value(*soft), maximum: value(*hard) };
            rustix::process::setrlimit(kernel_resource(*resource), limits)?;
        }
        Step::LimitAtMost { resource: Resource::Processes, .. }
            if !kernel::processes_are_counted_per_namespace() => {}
        Step::LimitAtMost { resource, soft, hard } => {
            limit_at_most(kernel_resource(*resource), *soft, *hard)?
        }
        Step::Processors(count) => use_processors(*count)?,
        Step::Umask(mask) => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(*mask));
        }
        Step::WorkDir(path) => rustix::process::chdir(path.as_c_str())?,
        Step::OwnProgram(program) => own_program(program)?,
        Step::BoundCapabilities => bound_capabilities()?,
        Step::Gid(gid) => {
            let gid = rustix::thread::Gid::from_raw(*gid);
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        }
        Step::Uid(uid) => {
            let uid = rustix::thread::Uid::from_raw(*uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        Step::Capabilities { root } => {
            let kept = if *root { CONTAINER_CAPABILITIES } else { CapabilitySet::empty() };
            let sets =
                CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
            rustix::thread::set_capabilities(None, sets)?;
            rustix::thread::clear_ambient_capability_set()?;
        }
        Step::Emulate { filter, identity } => emulate(filter, *identity)?,
        Step::DefaultSignals => sys::default_signals()?,
        _ => return Err(Fault::new(Aspect::Check, Errno::INVAL)),
    }
    Ok(())
}

/// Becomes a group as a program would; whether it then is that group.
fn become_other() -> bool {
    const OTHER: u32 = 4711;
    let other = rustix::thread::Gid::from_raw(OTHER);
    sys::close_from(REPORT_FD as u32).is_ok()
        && rustix::thread::set_thread_res_gid(other, other, other).is_ok()
        && rustix::process::getgid().as_raw() == OTHER
}

/// Hands the supervisor's end of a new filter to the parent.
fn emulate(filter: &[libc::sock_filter], identity: u64) -> Result<(), Errno> {
    super::emulate::mark_self(identity)?;
    let Some(listener) = sys::install_filter(filter, true)? else { return Err(Errno::NOSYS) };
    // SAFETY: `streams` has put the report line there, and only execve closes it.
    let line = unsafe { BorrowedFd::borrow_raw(REPORT_FD) };
    sys::send_descriptor(line, &listener, sys::LISTENER)
}

fn bound_capabilities() -> Result<(), Errno> {
    for number in 0..MAX_CAPABILITIES {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if CONTAINER_CAPABILITIES.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Past the last capability this kernel knows.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn limit_at_most(resource: rustix::process::Resource, soft: u64, hard: u64) -> Result<(), Errno> {
    let ceiling = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let hard = hard.min(ceiling);
    let value = |limit: u64| (limit != u64::MAX).then_some(limit);
    let limits = rustix::process::Rlimit { current: value(soft.min(hard)), maximum: value(hard) };
    rustix::process::setrlimit(resource, limits)
}

fn kernel_resource(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Kernel;
    match resource {
        Resource::AddressSpace => Kernel::As,
        Resource::Core => Kernel::Core,
        Resource::Cpu => Kernel::Cpu,
        Resource::Data => Kernel::Data,
        Resource::FileSize => Kernel::Fsize,
        Resource::LockedMemory => Kernel::Memlock,
        Resource::MessageQueue => Kernel::Msgqueue,
        Resource::Niceness => Kernel::Nice,
        Resource::OpenFiles => Kernel::Nofile,
        Resource::Processes => Kernel::Nproc,
        Resource::RealTimePriority => Kernel::Rtprio,
        Resource::Stack => Kernel::Stack,
    }
}

/// Refuses a program that only a link in /proc leads to: /proc/self/exe is treebox itself until the payload has become something else
/// (CVE-2019-5736), and what other such links lead to may lie outside.
fn own_program(program: &Program) -> Result<(), Fault> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    for candidate in &program.candidates {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(CWD, candidate.as_c_str(), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::LOOP) => return Err(Errno::LOOP.into()),
            // What is missing or forbidden the kernel says again when it is executed.
            Err(_) => {}
            Ok(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Tries the candidates in order, with execvp's rules: what is missing is passed over, what is forbidden is
/// remembered, anything else is final.
fn execute(script: &Script, program: &Program) -> Fault {
    let mut forbidden = false;
    for candidate in &program.candidates {
        // SAFETY: the script owns both the strings (in its last step) and the pointers to them.
        let errno = unsafe { sys::execute(candidate, &script.argv, &script.env) };
        match errno {
            Errno::NOENT if exists(candidate) => return Fault::new(Aspect::Interpreter, errno),
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => forbidden = true,
            other => return other.into(),
        }
    }
    if forbidden { Errno::ACCESS.into() } else { Fault::new(Aspect::Absent, Errno::NOENT) }
}
