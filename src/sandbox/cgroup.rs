//! A cgroup v2 of its own for one sandbox, where the caller may make one.
//!
//! The caller's own cgroup and those above it are tried in turn for one that the caller may make children of, with the controllers that
//! the limits need. On a machine with systemd that is one with `Delegate=yes`; for real root it is nearly any.
//!
//! # Locking
//! A cgroup directory `treebox-PID-N` is held locked (flock) by its owner. Every later owner removes those beside its own whose lock is free: their
//! owner is dead, and with it everything inside.
//!
//! # Compatibility
//! cgroup v2 and clone3 with `CLONE_INTO_CGROUP` (Linux 5.7). Version 1 is not used: it cannot be delegated safely.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// How the names of all our cgroups begin.
const MARK: &str = "treebox-";

/// The length of a period of `cpu.max`, in microseconds; the kernel's default.
const PERIOD_MICROS: u64 = 100_000;

/// The least share of a period that the kernel takes, in microseconds.
const MIN_QUOTA_MICROS: u64 = 1000;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A controller of the kernel that a limit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Limits memory.
    Memory,
    /// Limits processor time.
    Cpu,
    /// Limits the number of processes and threads.
    Pids,
}

impl Controller {
    /// Its name in `cgroup.controllers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// What is to be limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, swap included.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_milli: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Limits {
    /// The controllers that are needed.
    pub fn controllers(&self) -> Vec<Controller> {
        let memory = self.memory_bytes.map(|_| Controller::Memory);
        let cpu = self.cpu_milli.map(|_| Controller::Cpu);
        memory.into_iter().chain(cpu).chain(self.pids.map(|_| Controller::Pids)).collect()
    }
}

/// Where this process stands in the hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the hierarchy is mounted.
    root: PathBuf,
    /// The process's own cgroup, below `root`.
    own: PathBuf,
}

impl Place {
    /// The place of this process, or why it has none.
    pub fn of_this_process() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::parse(&mounts, &own)
    }

    /// The same from the texts of /proc/self/mountinfo and /proc/self/cgroup.
    fn parse(mounts: &str, own: &str) -> Result<Self, String> {
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).ok_or("there is no cgroup v2")?;
        let (top, root) = mounts
            .lines()
            .find_map(|line| {
                let (left, right) = line.split_once(" - ")?;
                let words: Vec<&str> = left.split(' ').collect();
                (right.split(' ').next() == Some("cgroup2")).then_some((*words.get(3)?, *words.get(4)?))
            })
            .ok_or("cgroup v2 is not mounted")?;
        // Inside a container the mount may show a part of the hierarchy only.
        let below =
            own.strip_prefix(top.trim_end_matches('/')).ok_or("this process's cgroup is out of sight")?;
        if Path::new(below).components().any(|part| part == std::path::Component::ParentDir) {
            return Err("this process's cgroup is out of sight".to_owned());
        }
        let root = PathBuf::from(root);
        // Joining an empty name would leave a slash at the end.
        let own = Path::new(below).strip_prefix("/").map_or_else(|_| root.clone(), |below| root.join(below));
        Ok(Self { own: own.components().collect(), root })
    }

    /// Makes a cgroup for one sandbox with as many of the limits as can be had; says which those are, and why not all.
    ///
    /// `None` for the cgroup when none of them can.
    pub fn make(&self, limits: &Limits) -> (Option<Cgroup>, Option<String>) {
        let wanted = limits.controllers();
        let mut best: Option<(PathBuf, Vec<Controller>)> = None;
        let mut reason = None;
        for dir in self.own.ancestors().take_while(|dir| dir.starts_with(&self.root)) {
            match usable(dir, &wanted, dir == self.own) {
                Ok(found) if found.len() > best.as_ref().map_or(0, |(_, found)| found.len()) => {
                    let all = found.len() == wanted.len();
                    best = Some((dir.to_owned(), found));
                    if all {
                        break;
                    }
                }
                Ok(found) => {
                    let missing = wanted.iter().find(|one| !found.contains(one)).map(|one| one.name());
                    reason.get_or_insert(format!(
                        "{} has no controller {}",
                        dir.display(),
                        missing.unwrap_or_default()
                    ));
                }
                Err(why) => drop(reason.get_or_insert(why)),
            }
        }
        let Some((parent, controllers)) = best else {
            return (None, Some(reason.unwrap_or_else(|| "no delegated cgroup".to_owned())));
        };
        sweep(&parent);
        let missing = wanted.iter().find(|one| !controllers.contains(one));
        let reason = missing.map(|one| {
            reason.unwrap_or_else(|| format!("{} has no controller {}", parent.display(), one.name()))
        });
        match Cgroup::create(&parent, limits, controllers) {
            Ok(cgroup) => (Some(cgroup), reason),
            Err(err) => (None, Some(format!("cannot make a cgroup in {}: {err}", parent.display()))),
        }
    }
}

/// Which of the wanted controllers a child of this cgroup would have; they are switched on where that has to be done.
fn usable(dir: &Path, wanted: &[Controller], own: bool) -> Result<Vec<Controller>, String> {
    let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    // Moving a process needs this right on the lowest cgroup above both places, which is this one.
    if !writable(dir) || !writable(&dir.join("cgroup.procs")) {
        return Err(format!("{} is not delegated to this user", dir.display()));
    }
    let listed = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let has = |list: &str, one: Controller| list.split_ascii_whitespace().any(|word| word == one.name());
    let (there, on) = (listed("cgroup.controllers"), listed("cgroup.subtree_control"));
    let mut found = Vec::new();
    let mut stepped_aside = false;
    for one in wanted.iter().copied().filter(|one| has(&there, *one)) {
        let switch_on = || fs::write(dir.join("cgroup.subtree_control"), format!("+{}", one.name()));
        let mut done = if has(&on, one) { Ok(()) } else { switch_on() };
        let busy = |done: &io::Result<()>| {
            done.as_ref().is_err_and(|err| err.raw_os_error() == Some(Errno::BUSY.raw_os_error()))
        };
        if busy(&done) && own && !stepped_aside {
            // A cgroup with processes of its own cannot hand controllers down.
            stepped_aside = true;
            if step_aside(dir) {
                done = switch_on();
            }
        }
        if done.is_ok() {
            found.push(one);
        }
    }
    Ok(found)
}

/// Moves this process and what it has started into a child of its cgroup, if nobody else is in there.
fn step_aside(dir: &Path) -> bool {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = procs.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    let me = std::process::id() as i32;
    if !pids.iter().all(|pid| descends(*pid, me)) {
        return false;
    }
    // Its name is not swept: it is in use as long as this process lives.
    let aside = dir.join(format!("treebox.host-{me}"));
    let made = fs::create_dir(&aside).is_ok() || aside.is_dir();
    made && pids.iter().all(|pid| fs::write(aside.join("cgroup.procs"), pid.to_string()).is_ok())
}

fn descends(mut pid: i32, ancestor: i32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in brackets may hold anything; the parent is the second word after it.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        pid = parent.unwrap_or(0);
    }
    false
}

/// Removes the cgroups of dead owners.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(MARK) {
            // Held by its owner: busy. Gone meanwhile: the better.
            if let Ok(_lock) = locked(&entry.path()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

fn locked(dir: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// A cgroup for one sandbox. Dropping it kills what is still inside and removes it.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
    controllers: Vec<Controller>,
    _lock: OwnedFd,
}

impl Cgroup {
    fn create(parent: &Path, limits: &Limits, controllers: Vec<Controller>) -> io::Result<Self> {
        let cgroup = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = parent.join(format!("{MARK}{}-{number}", std::process::id()));
            match fs::create_dir(&dir) {
                // Of a process with our number in another pid namespace.
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            match locked(&dir) {
                // Swept by another owner between its making and its locking: if so it is gone, and this lock holds nothing.
                Ok(lock) if dir.exists() => break Self { dir, controllers, _lock: lock },
                Ok(_) | Err(Errno::NOENT | Errno::WOULDBLOCK) => {}
                Err(errno) => {
                    let _ = fs::remove_dir(&dir);
                    return Err(errno.into());
                }
            }
        };
        cgroup.limit(limits)?;
        Ok(cgroup)
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let set = |name: &str, value: String| fs::write(self.dir.join(name), value);
        let on = |one| self.controllers.contains(&one);
        if let Some(bytes) = limits.memory_bytes.filter(|_| on(Controller::Memory)) {
            set("memory.max", bytes.to_string())?;
            // Absent without swap accounting; then there is only memory to limit.
            let _ = set("memory.swap.max", "0".to_owned());
            // All or nothing: a build whose compiler alone is killed would go on with half of its results.
            let _ = set("memory.oom.group", "1".to_owned());
        }
        if let Some(milli) = limits.cpu_milli.filter(|_| on(Controller::Cpu)) {
            let quota = (milli.saturating_mul(PERIOD_MICROS) / 1000).max(MIN_QUOTA_MICROS);
            set("cpu.max", format!("{quota} {PERIOD_MICROS}"))?;
        }
        if let Some(pids) = limits.pids.filter(|_| on(Controller::Pids)) {
            set("pids.max", pids.to_string())?;
        }
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a limit that needs this controller is kept here.
    pub fn keeps(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// Whether the memory limit has killed something inside.
    pub fn out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.dir.join("memory.events")).unwrap_or_default();
        let kills = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok();
        events.lines().find_map(kills).is_some_and(|kills| kills > 0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Linux 5.14; without it nothing is lost, for a sandbox dies whole by its pid namespace.
        let kill = fs::File::options().write(true).open(self.dir.join("cgroup.kill"));
        let _ = kill.and_then(|mut file| io::Write::write_all(&mut file, b"1"));
        // The last process counts until it is collected.
        for _ in 0..100 {
            match fs::remove_dir(&self.dir) {
                Err(err) if err.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                // What cannot be removed now a later owner sweeps.
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Limits = Limits { memory_bytes: Some(1 << 29), cpu_milli: Some(1500), pids: Some(100) };

    /// A directory that looks like a cgroup with these controllers there, and these handed down.
    fn group(dir: &Path, there: &str, on: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("cgroup.procs"), "").unwrap();
        fs::write(dir.join("cgroup.controllers"), there).unwrap();
        fs::write(dir.join("cgroup.subtree_control"), on).unwrap();
    }

    fn read(cgroup: &Cgroup, name: &str) -> String {
        fs::read_to_string(cgroup.dir().join(name)).unwrap_or_default()
    }

    /// Plain directories are not removed with their files in them, as cgroups are.
    fn discard(cgroup: Cgroup) {
        let dir = cgroup.dir().to_owned();
        drop(cgroup);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_place_is_found_in_every_kind_of_hierarchy() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let place = Place::parse(unified, "0::/user.slice/a.scope\n").unwrap();
        assert_eq!(place.own, Path::new("/sys/fs/cgroup/user.slice/a.scope"));
        let hybrid = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        let place = Place::parse(hybrid, "3:cpu:/x\n0::/\n").unwrap();
        assert_eq!(place.own, Path::new("/sys/fs/cgroup/unified"));
        let part = "30 23 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(Place::parse(part, "0::/docker/c1/x\n").unwrap().own, Path::new("/sys/fs/cgroup/x"));
        assert!(Place::parse(part, "0::/elsewhere\n").is_err());
        assert!(Place::parse(unified, "0::/../outside\n").is_err());
        assert!(Place::parse("", "0::/\n").is_err() && Place::parse(unified, "3:cpu:/x\n").is_err());
    }

    #[test]
    fn limits_are_written_where_the_controllers_are() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        group(&root, "cpu memory pids", "cpu memory pids");
        group(&root.join("user"), "cpu memory pids", "");
        let place = Place { own: root.join("user"), root };
        let (cgroup, reason) = place.make(&ALL);
        let cgroup = cgroup.unwrap();
        assert_eq!(reason, None);
        // The nearest one that can be had; switching on is a plain write.
        assert_eq!(cgroup.dir().parent().unwrap(), place.own);
        assert_eq!(read(&cgroup, "memory.max"), (1u64 << 29).to_string());
        assert_eq!(read(&cgroup, "cpu.max"), "150000 100000");
        assert_eq!(read(&cgroup, "pids.max"), "100");
        assert_eq!(
            (read(&cgroup, "memory.swap.max").as_str(), read(&cgroup, "memory.oom.group").as_str()),
            ("0", "1")
        );
        assert!(!cgroup.out_of_memory());
        fs::write(cgroup.dir().join("memory.events"), "low 0\noom 2\noom_kill 1\n").unwrap();
        assert!(cgroup.out_of_memory());
        discard(cgroup);
    }

    #[test]
    fn a_cgroup_above_serves_where_the_own_one_cannot_and_a_missing_controller_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        group(&root, "memory pids", "memory pids");
        group(&root.join("own"), "", "");
        let place = Place { own: root.join("own"), root: root.clone() };
        let (cgroup, reason) = place.make(&ALL);
        let cgroup = cgroup.unwrap();
        assert_eq!(cgroup.dir().parent().unwrap(), root);
        assert!(cgroup.keeps(Controller::Memory) && !cgroup.keeps(Controller::Cpu));
        assert!(reason.unwrap().contains("no controller"));
        assert_eq!(read(&cgroup, "cpu.max"), "");
        discard(cgroup);
        group(&root, "", "");
        let (none, reason) = place.make(&ALL);
        assert!(none.is_none() && reason.unwrap().contains("no controller memory"));
    }

    #[test]
    fn the_cgroups_of_dead_owners_are_swept_and_those_of_the_living_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        group(&root, "memory pids cpu", "memory pids cpu");
        let dead = root.join("treebox-999999999-0");
        fs::create_dir(&dead).unwrap();
        let place = Place { own: root.clone(), root: root.clone() };
        let first = place.make(&ALL).0.unwrap();
        assert!(!dead.exists());
        for name in ["memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max"] {
            fs::remove_file(first.dir().join(name)).unwrap();
        }
        let second = place.make(&ALL).0.unwrap();
        assert!(first.dir().exists());
        assert_ne!(first.dir(), second.dir());
        discard(second);
        let gone = first.dir().to_owned();
        drop(first);
        assert!(!gone.exists());
    }
}
