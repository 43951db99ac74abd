//! Probes for `treebox doctor`: each really does the thing, in a throw-away child with namespaces of its own.
//!
//! They need no worker and no engine, and may be called from a program with threads: the children make system calls
//! only. What they leave behind is below the scratch directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::cgroup::{Limits, Place};
use super::emulate::{Emulation, Emulator};
use super::error::LaunchError;
use super::identity::{Identity, IdentityChoice, assign};
use super::idmap::{IdMap, IdRange};
use super::init::Script;
use super::launch::{Ending, start};
use super::plan::{Plan, Rootfs, Upper};
use super::prepare::{device_steps, root};
use super::step::{Exercise, Step};
use super::uplink::Uplink;

/// How a probe came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Ok,
    /// treebox works without it, with less comfort or speed.
    Degraded,
    /// Commands cannot be run.
    Failed,
}

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was probed.
    pub name: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen.
    pub detail: String,
    /// Why, where that is known.
    pub cause: String,
    /// What to do about it, in one line; empty when nothing has to be done.
    pub fix: String,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, detail: detail.into(), cause: String::new(), fix: String::new() }
    }

    fn bad(name: &'static str, outcome: Outcome, detail: impl ToString, cause: &str, fix: &str) -> Self {
        Self { name, outcome, detail: detail.to_string(), cause: cause.to_owned(), fix: fix.to_owned() }
    }
}

/// Runs every probe. `scratch` is a writable directory on the file system the store is to live on.
pub fn all(scratch: &Path) -> Vec<Finding> {
    let spaces = user_namespaces();
    if spaces.outcome == Outcome::Failed {
        // Everything else would fail for the same reason.
        return vec![spaces, cgroups()];
    }
    let mut findings = vec![spaces, security_modules(), subordinate_ids(), emulation()];
    let overlay = overlay(scratch);
    // Without an overlay at all, what one could do besides says nothing new.
    let data_only = (overlay.outcome == Outcome::Ok).then(|| data_only(scratch));
    findings.push(overlay);
    findings.extend(data_only);
    findings.extend([proc(scratch), devices(scratch), loopback(), cgroups()]);
    findings.push(private_network(OsStr::new("")));
    findings
}

/// Creates a user namespace and becomes its root.
pub fn user_namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    match act(vec![Step::AwaitMaps], libc::CLONE_NEWUSER | libc::CLONE_NEWNS) {
        Ok(()) => Finding::ok(NAME, "one can be created"),
        Err(err) => {
            let (cause, fix) = namespace_cause();
            Finding::bad(NAME, Outcome::Failed, err, cause, fix)
        }
    }
}

fn sysctl(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_owned()
}

/// AppArmor keeps what a user namespace gives from programs without a profile (Ubuntu 23.10 and newer), and how to name this one.
fn apparmor_cause() -> Option<(&'static str, &'static str)> {
    (sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1").then_some((
        "AppArmor restricts unprivileged user namespaces to programs that have a profile",
        "treebox doctor --apparmor-profile | sudo tee /etc/apparmor.d/treebox >/dev/null && sudo apparmor_parser -r /etc/apparmor.d/treebox",
    ))
}

fn namespace_cause() -> (&'static str, &'static str) {
    if sysctl("user/max_user_namespaces") == "0" {
        return ("user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=15000");
    }
    if let Some(restricted) = apparmor_cause() {
        return restricted;
    }
    if sysctl("kernel/unprivileged_userns_clone") == "0" {
        return (
            "kernel.unprivileged_userns_clone is 0 (Debian)",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    (
        "most likely a container's seccomp filter or another security module",
        "in Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined",
    )
}

/// Says which security modules there are, and whether AppArmor knows this program where it must.
pub fn security_modules() -> Finding {
    const NAME: &str = "security modules";
    let list = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let list = if list.trim().is_empty() { "unknown" } else { list.trim() };
    let label = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let label = label.trim_end_matches(['\0', '\n']);
    let detail =
        if label.is_empty() { list.to_owned() } else { format!("{list}; this program runs as {label}") };
    match apparmor_cause() {
        // With the profile of ours the label is its name; without any it is the word for none.
        Some((cause, fix)) if label == "unconfined" || label.is_empty() => {
            Finding::bad(NAME, Outcome::Degraded, detail, cause, fix)
        }
        _ => Finding::ok(NAME, detail),
    }
}

/// Maps the caller's subordinate ids.
pub fn subordinate_ids() -> Finding {
    const NAME: &str = "subordinate ids";
    if nix::unistd::geteuid().is_root() {
        return Finding::ok(NAME, "not needed: the caller is root, every id is mapped as itself");
    }
    let mut detail = String::new();
    let mut refusal = None;
    let outcome = act_with(vec![Step::AwaitMaps], libc::CLONE_NEWUSER, &mut |pid| match assign(
        pid,
        IdentityChoice::Subordinate,
    ) {
        Ok(identity) => {
            detail = described(&identity);
            Ok(())
        }
        Err(err) => {
            refusal = Some(err.to_string());
            Err(LaunchError::maps(libc::EPERM))
        }
    });
    match (outcome, refusal) {
        (Ok(()), _) => Finding::ok(NAME, detail),
        (Err(err), refusal) => Finding::bad(
            NAME,
            Outcome::Degraded,
            refusal.unwrap_or_else(|| err.to_string()),
            "without them root is emulated over one id, which costs time where owners and many files are looked at",
            "sudo apt install uidmap; sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
        ),
    }
}

/// The ids of a worker, for a person.
fn described(identity: &Identity) -> String {
    match identity {
        Identity::Single { .. } => "one id".to_owned(),
        Identity::Subordinate { uid_ranges, gid_ranges } | Identity::Full { uid_ranges, gid_ranges } => {
            let text = |ranges: &[IdRange]| {
                let ranges = ranges.iter().map(|range| {
                    let last = |first: u32| first.saturating_add(range.count.saturating_sub(1));
                    format!("{}-{} are {}-{}", range.inner, last(range.inner), range.outer, last(range.outer))
                });
                ranges.collect::<Vec<_>>().join(", ")
            };
            format!("users {}; groups {}", text(uid_ranges), text(gid_ranges))
        }
    }
}

/// Mounts an overlay, removes through it, and reads back what that left in the upper directory.
pub fn overlay(scratch: &Path) -> Finding {
    const NAME: &str = "overlay";
    let fix = "put the store on ext4, XFS, btrfs or tmpfs (not on another overlay or NFS); load the module with `sudo modprobe overlay`";
    let failed = |detail: &dyn ToString, cause: &str| {
        let (cause, fix) = apparmor_cause().unwrap_or((cause, fix));
        Finding::bad(NAME, Outcome::Failed, detail.to_string(), cause, fix)
    };
    let prepared = Layers::create(scratch, "overlay");
    let layers = match prepared {
        Ok(layers) => layers,
        Err(err) => return failed(&format!("cannot write to {}: {err}", scratch.display()), ""),
    };
    let mut steps = match layers.steps(None) {
        Ok(steps) => steps,
        Err(err) => return failed(&err, ""),
    };
    steps.push(Step::Exercise(Exercise::RemoveAndReplace));
    let acted = act(steps, libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    let whiteout = fs::symlink_metadata(layers.upper.join("gone"))
        .is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0);
    let mut value = [0u8; 4];
    let opaque = rustix::fs::getxattr(layers.upper.join("dir"), "user.overlay.opaque", &mut value);
    layers.clear();
    match (acted, whiteout, opaque) {
        (Err(err), ..) => failed(&err, ""),
        (Ok(()), true, Ok(1)) if value[0] == b'y' => {
            Finding::ok(NAME, "mounts; whiteouts and opaque directories are as expected")
        }
        (Ok(()), true, _) => {
            failed(&"an emptied directory was not marked as opaque", "no user xattrs on this file system")
        }
        (Ok(()), false, _) => {
            failed(&"a removal left no whiteout", "the file system cannot hold character devices 0:0")
        }
    }
}

/// Mounts an overlay whose files are redirects into a data-only lower.
pub fn data_only(scratch: &Path) -> Finding {
    const NAME: &str = "data-only layers";
    let degraded = |detail: String| {
        let cause = "Linux 6.16 or newer is needed for them in a user namespace";
        Finding::bad(
            NAME,
            Outcome::Degraded,
            detail,
            cause,
            "nothing has to be done: layers are linked or copied instead",
        )
    };
    let attempt = || -> Result<(), String> {
        let layers = Layers::create(scratch, "data-only").map_err(|err| err.to_string())?;
        let data = layers.dir.join("data");
        let redirect = layers.dir.join("lower/redirected");
        let made = fs::create_dir(&data)
            .and_then(|()| fs::write(data.join("blob"), Exercise::CONTENT))
            .and_then(|()| fs::write(&redirect, ""))
            .and_then(|()| {
                fs::File::options().write(true).open(&redirect)?.set_len(Exercise::CONTENT.len() as u64)
            })
            .and_then(|()| {
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(&redirect, "user.overlay.metacopy", b"", flags)?;
                Ok(rustix::fs::setxattr(&redirect, "user.overlay.redirect", b"/blob", flags)?)
            });
        made.map_err(|err| err.to_string())?;
        let mut steps = layers.steps(Some(data)).map_err(|err| err.to_string())?;
        steps.push(Step::Exercise(Exercise::ReadRedirected));
        let acted = act(steps, libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
        layers.clear();
        acted.map_err(|err| err.to_string())
    };
    match attempt() {
        Ok(()) => Finding::ok(NAME, "redirects into them are followed"),
        Err(detail) => degraded(detail),
    }
}

/// Mounts a fresh /proc.
pub fn proc(scratch: &Path) -> Finding {
    const NAME: &str = "proc";
    let spaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    match act_on_root(scratch, vec![Step::FreshProc], spaces) {
        Ok(()) => Finding::ok(NAME, "a fresh one can be mounted"),
        Err(detail) => {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let covered = covered_below_proc(&mounts);
            let cause = match (covered.as_slice(), apparmor_cause()) {
                ([], Some((cause, fix))) => return Finding::bad(NAME, Outcome::Failed, detail, cause, fix),
                ([], None) => "the kernel or a security module refuses it".to_owned(),
                (covered, _) => format!(
                    "the visible /proc is covered in parts, as inside a container: {}",
                    covered.join(", ")
                ),
            };
            let fix = "give the outer container a whole /proc; docker and podman: --security-opt systempaths=unconfined (podman: unmask=ALL)";
            Finding::bad(NAME, Outcome::Failed, detail, &cause, fix)
        }
    }
}

/// What is mounted below /proc, from the text of a mountinfo file (proc(5)): the mount point is its fifth field.
fn covered_below_proc(mountinfo: &str) -> Vec<&str> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    // Binary formats are commonly mounted there and hide nothing.
    points.filter(|point| point.starts_with("/proc/") && *point != "/proc/sys/fs/binfmt_misc").collect()
}

/// Builds a /dev.
pub fn devices(scratch: &Path) -> Finding {
    const NAME: &str = "devices";
    match act_on_root(
        scratch,
        device_steps(false),
        libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWIPC,
    ) {
        Ok(()) => {
            Finding::ok(NAME, "null, zero, full, random, urandom, tty, terminals and shared memory are there")
        }
        Err(detail) => Finding::bad(
            NAME,
            Outcome::Failed,
            detail,
            "a device of the host is missing or is not what its name says",
            "look at `ls -l /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty`",
        ),
    }
}

/// Lets a process over one id become another group, and answers it.
pub fn emulation() -> Finding {
    const NAME: &str = "root emulation";
    match emulate() {
        Ok(()) => Finding::ok(NAME, "a supervisor answers for root where one id is all there is"),
        Err(detail) => Finding::bad(
            NAME,
            Outcome::Degraded,
            detail,
            "seccomp user notification (Linux 5.5) is missing, forbidden, or used by a supervisor outside",
            "nothing has to be done with subordinate ids; without them owners inside are lost",
        ),
    }
}

/// Whether root can be emulated over one id.
pub fn emulates() -> bool {
    emulate().is_ok()
}

fn emulate() -> Result<(), String> {
    let plan = Plan {
        emulation: Some(Emulation::default()),
        ..Plan::new(Rootfs::Directory { path: "/".into(), read_only: true }, Vec::new())
    };
    let steps = vec![
        Step::AwaitMaps,
        Step::Fork,
        Step::Streams { owner: 0 },
        Step::NoNewPrivileges,
        Step::Emulate { filter: super::emulate::filter(false).compile(), identity: 0 },
        Step::Exercise(Exercise::BecomeOther),
    ];
    let attempt = || -> Result<Ending, LaunchError> {
        let mut emulator = Emulator::for_plan(&plan)?;
        let spaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID;
        let mut sandbox = start(&Script::new(steps), spaces, None, &mut write_one_id, null_streams()?)?;
        if let (Some(emulator), Some(listener)) = (&mut emulator, sandbox.take_listener()) {
            emulator.attach(listener);
            // Until its process is gone.
            loop {
                let Some(listener) = emulator.listeners().next().map(|fd| fd.as_raw_fd()) else { break };
                super::sys::wait_readable([listener]);
                emulator.serve_all();
            }
        }
        Ok(sandbox.wait().0)
    };
    match attempt() {
        Ok(Ending::Code(0)) => Ok(()),
        Ok(_) => Err("an answer did not arrive".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Brings a loopback interface up in a network of its own.
pub fn loopback() -> Finding {
    const NAME: &str = "loopback";
    match act(vec![Step::AwaitMaps, Step::LoopbackUp], libc::CLONE_NEWUSER | libc::CLONE_NEWNET) {
        Ok(()) => Finding::ok(NAME, "a network of its own can be had"),
        Err(err) => {
            let (cause, fix) = namespace_cause();
            Finding::bad(NAME, Outcome::Failed, err, cause, fix)
        }
    }
}

/// Makes a cgroup v2 with limits, and removes it.
pub fn cgroups() -> Finding {
    const NAME: &str = "cgroups";
    const FIX: &str = "start treebox with `systemd-run --user --scope -p Delegate=yes treebox …`";
    let limits = Limits { memory_bytes: Some(1 << 30), cpu_milli: Some(1000), pids: Some(100) };
    let (made, reason) =
        Place::of_this_process().map_or_else(|reason| (None, Some(reason)), |place| place.make(&limits));
    match (made, reason) {
        (Some(_), None) => Finding::ok(NAME, "memory, processors and processes can be limited exactly"),
        (_, reason) => {
            let cause = "limits are kept by watching, and by those of single processes";
            Finding::bad(NAME, Outcome::Degraded, reason.unwrap_or_default(), cause, FIX)
        }
    }
}

/// Looks for what a private network needs: a helper program, the right to make an interface, and a way out of this machine.
///
/// `search_path` is where programs are looked for besides the usual places.
pub fn private_network(search_path: &OsStr) -> Finding {
    const NAME: &str = "private network";
    let bad = |detail: String, fix| {
        let cause = "`--network private` does not work; none and host do";
        Finding::bad(NAME, Outcome::Degraded, detail, cause, fix)
    };
    let Some(uplink) = Uplink::find(search_path) else {
        let fix = "sudo apt install passt";
        return bad("neither pasta nor slirp4netns is there".to_owned(), fix);
    };
    if let Err(err) = fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return bad(
            format!("cannot open /dev/net/tun: {err}"),
            "sudo modprobe tun; sudo chmod 666 /dev/net/tun",
        );
    }
    Finding::ok(NAME, format!("by {}", uplink.program.display()))
}

/// The directories of a probe's overlay.
struct Layers {
    dir: PathBuf,
    upper: PathBuf,
}

impl Layers {
    fn create(scratch: &Path, name: &str) -> io::Result<Self> {
        let dir = scratch.join(format!("probe-{name}-{}", std::process::id()));
        let layers = Self { upper: dir.join("upper"), dir };
        layers.clear();
        for name in ["lower/dir", "stub", "upper", "work"] {
            fs::create_dir_all(layers.dir.join(name))?;
        }
        fs::write(layers.dir.join("lower/gone"), "")?;
        fs::write(layers.dir.join("lower/dir/inner"), "")?;
        Ok(layers)
    }

    fn steps(&self, data_lower: Option<PathBuf>) -> Result<Vec<Step>, LaunchError> {
        let rootfs = Rootfs::Overlay {
            // Redirects are followed in the lowest layer only.
            lowers: vec![self.dir.join("stub"), self.dir.join("lower")],
            data_lower,
            upper: Some(Upper { upper: self.upper.clone(), work: self.dir.join("work") }),
        };
        Ok(vec![Step::AwaitMaps, Step::PrivateMounts, root(&rootfs)?])
    }

    fn clear(&self) {
        // What resists lies in a scratch directory, which its owner clears.
        let _ = super::remove::remove_tree(&self.dir);
    }
}

/// Performs steps on a root of empty mount points.
fn act_on_root(scratch: &Path, more: Vec<Step>, namespaces: i32) -> Result<(), String> {
    let dir = scratch.join(format!("probe-root-{}-{}", std::process::id(), namespaces));
    for name in ["proc", "dev", "sys"] {
        fs::create_dir_all(dir.join(name))
            .map_err(|err| format!("cannot write to {}: {err}", scratch.display()))?;
    }
    let bound =
        root(&Rootfs::Directory { path: dir.clone(), read_only: false }).map_err(|err| err.to_string());
    let acted = bound.and_then(|bound| {
        let mut steps = vec![Step::AwaitMaps, Step::PrivateMounts, bound];
        steps.extend(more);
        act(steps, namespaces).map_err(|err| err.to_string())
    });
    let _ = super::remove::remove_tree(&dir);
    acted
}

/// Performs steps in a throw-away child that is root over one id.
fn act(steps: Vec<Step>, namespaces: i32) -> Result<(), LaunchError> {
    act_with(steps, namespaces, &mut write_one_id)
}

fn write_one_id(pid: i32) -> Result<(), LaunchError> {
    let one = |outer: u32| vec![IdRange { inner: 0, outer, count: 1 }];
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let map = IdMap { uids: one(uid), gids: one(gid), setgroups: false };
    map.write(pid, true).map_err(|err| LaunchError::maps(err.raw_os_error().unwrap_or(libc::EIO)))
}

fn null_streams() -> Result<[OwnedFd; 3], LaunchError> {
    let null = || fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let streams = || -> io::Result<[OwnedFd; 3]> { Ok([null()?, null()?, null()?]) };
    streams().map_err(|err| LaunchError::system("open /dev/null", err.raw_os_error().unwrap_or(0)))
}

fn act_with(
    steps: Vec<Step>,
    namespaces: i32,
    write_maps: &mut dyn FnMut(i32) -> Result<(), LaunchError>,
) -> Result<(), LaunchError> {
    let streams = null_streams()?;
    let script = Script::new(steps);
    match start(&script, namespaces, None, write_maps, streams)?.wait() {
        (Ending::Code(0), _) => Ok(()),
        _ => Err(LaunchError::system("finish a probe: its process was killed", libc::EINTR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_comes_to_a_finding_and_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let findings = all(scratch.path());
        assert!(findings.iter().all(|finding| !finding.detail.is_empty()), "{findings:#?}");
        let helpless = |finding: &&Finding| finding.outcome == Outcome::Failed && finding.fix.is_empty();
        assert_eq!(findings.iter().find(helpless), None);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_covers_a_proc_is_named() {
        let text = "22 1 0:21 / /proc rw shared:5 - proc proc rw\n\
                    23 22 0:5 /null /proc/kcore rw - devtmpfs udev rw\n\
                    24 22 0:40 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\nodd\n";
        assert_eq!(covered_below_proc(text), ["/proc/kcore"]);
        assert_eq!(covered_below_proc(""), [""; 0]);
    }

    #[test]
    fn the_old_mount_call_takes_names_with_every_special_character() {
        let scratch = tempfile::Builder::new().prefix("a:b,c\\d e").tempdir().unwrap();
        let layers = Layers::create(scratch.path(), "old:,\\").unwrap();
        // Special characters below the common directory, which is not part of the options.
        let dir = layers.dir.join("o:,\\");
        fs::create_dir(&dir).unwrap();
        let lowers = vec![dir, layers.dir.join("lower")];
        let upper = Some(Upper { upper: layers.upper.clone(), work: layers.dir.join("work") });
        let mut step = root(&Rootfs::Overlay { lowers, data_lower: None, upper }).unwrap();
        if let Step::Overlay(overlay) = &mut step {
            overlay.old_mount = true;
        }
        let exercise = Step::Exercise(Exercise::RemoveAndReplace);
        let spaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
        act(vec![Step::AwaitMaps, Step::PrivateMounts, step, exercise], spaces).unwrap();
        assert!(fs::symlink_metadata(layers.upper.join("gone")).unwrap().file_type().is_char_device());
        layers.clear();
    }

    #[test]
    fn on_a_machine_that_runs_sandboxes_nothing_fails() {
        let scratch = tempfile::tempdir().unwrap();
        let failed: Vec<Finding> =
            all(scratch.path()).into_iter().filter(|finding| finding.outcome == Outcome::Failed).collect();
        assert_eq!(failed, []);
    }
}
