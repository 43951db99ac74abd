//! Bounds of a whole sandbox.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::fixture::Case;
use treebox::sandbox::{Ending, Exceeded};

/// A new cgroup where this user may make one: anywhere for root on a machine with cgroup v2.
fn own_cgroup(name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let dir = PathBuf::from(line.split(' ').nth(4)?).join(format!("{name}-{}", std::process::id()));
    fs::create_dir(&dir).ok().map(|()| dir)
}

#[test]
fn a_sandbox_is_in_its_cgroup_from_the_first_instant_and_leaves_it_empty() {
    let Some(dir) = own_cgroup("treebox.test") else {
        eprintln!("NOT TESTED: being put into a cgroup: this user may not make one here");
        return;
    };
    let case = Case::new();
    let mut plan = case.plan(&["sh", "-c", "sleep 1 & cat /proc/self/cgroup; wait"]);
    plan.bounds.cgroup = Some(dir.clone());
    let procs = dir.join("cgroup.procs");
    let seen = std::thread::spawn(move || {
        let began = Instant::now();
        let inside = || fs::read_to_string(&procs).unwrap_or_default().lines().count();
        while inside() < 3 && began.elapsed() < Duration::from_secs(10) {}
        inside()
    });
    let said = case.run(plan);
    let seen = seen.join().unwrap();
    // Empty now, or this would fail.
    let removed = fs::remove_dir(&dir);
    assert_eq!(said.exit.ending, Ending::Code(0), "{}", said.err);
    // Init, the shell and its sleep; and nothing of what is above is told inside.
    assert!(seen >= 3, "{seen}");
    assert!(said.out.lines().any(|line| line == "0::/"), "{}", said.out);
    removed.unwrap();
    let mut plan = case.plan(&["true"]);
    plan.bounds.cgroup = Some(dir);
    assert!(case.try_run(plan).is_err_and(|err| err.to_string().contains("cgroup")));
}

#[test]
fn what_goes_over_a_bound_is_killed_with_everything_and_the_bound_is_named() {
    let case = Case::new();
    let began = Instant::now();
    let mut plan = case.plan(&["sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1021 & done; wait"]);
    plan.bounds.tasks = Some(4);
    let exit = case.run(plan).exit;
    assert_eq!(exit.ending, Ending::Signal(9));
    assert!(matches!(exit.exceeded, Some(Exceeded::Tasks(5..))), "{exit:?}");
    let mut plan = case.plan(&["sh", "-c", "while :; do head -c 100000 /dev/zero >> /grows; done"]);
    plan.bounds.written_bytes = Some(1 << 20);
    let exit = case.run(plan).exit;
    assert!(matches!(exit.exceeded, Some(Exceeded::Written(_))), "{exit:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let mut plan = case.plan(&["sh", "-c", "rm -f /grows; sleep 0.2; echo fine"]);
    plan.bounds.written_bytes = Some(1 << 20);
    plan.bounds.tasks = Some(4);
    plan.bounds.memory_bytes = Some(1 << 30);
    let said = case.run(plan);
    assert_eq!((said.out.as_str(), said.exit.exceeded), ("fine\n", None));
}
