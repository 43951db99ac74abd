//! How long it takes, next to bubblewrap on the same directories. Run with `--ignored --nocapture speed`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::fixture::{Case, start_worker};
use treebox::sandbox::{IdentityChoice, Network, Rootfs, Upper};

const ROUNDS: usize = 60;

#[test]
#[ignore = "a measurement"]
fn speed_next_to_bubblewrap() {
    let case = Case::new();
    println!("identity: {:?}", case.worker.identity());
    let choice = if case.many_ids() { IdentityChoice::Auto } else { IdentityChoice::Single };
    // Made beforehand: file creation on a busy ext4 would be measured instead.
    for round in 0..ROUNDS {
        for run in ["a", "b", "c", "d"] {
            fs::create_dir_all(case.dir.join(format!("u{run}{round}"))).unwrap();
            fs::create_dir_all(case.dir.join(format!("w{run}{round}"))).unwrap();
        }
    }
    let plan = |round: &str| {
        let mut plan = case.plan(&["/bin/true"]);
        let upper =
            Upper { upper: case.dir.join(format!("u{round}")), work: case.dir.join(format!("w{round}")) };
        plan.rootfs = Rootfs::Overlay { lowers: case.lowers(), data_lower: None, upper: Some(upper) };
        plan
    };
    let null = || -> std::os::fd::OwnedFd {
        fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap().into()
    };
    report("worker start", |_| drop(start_worker(choice)));
    report("worker start + run + end of worker", |round| {
        let plan = plan(&format!("a{round}"));
        let began = Instant::now();
        let worker = start_worker(choice);
        worker.session().unwrap().run(plan, [null(), null(), null()]).unwrap().wait().unwrap();
        drop(worker);
        assert!(began.elapsed() < Duration::from_secs(10));
    });
    report("run in a new session", |round| {
        let plan = plan(&format!("b{round}"));
        case.worker.session().unwrap().run(plan, [null(), null(), null()]).unwrap().wait().unwrap();
    });
    report("run in the same session", |round| {
        let plan = plan(&format!("c{round}"));
        case.session.run(plan, [null(), null(), null()]).unwrap().wait().unwrap();
    });
    report("the same on the host's network", |round| {
        let mut plan = plan(&format!("d{round}"));
        plan.network = Network::Host;
        case.session.run(plan, [null(), null(), null()]).unwrap().wait().unwrap();
    });
    for dir in ["proc", "dev", "sys"] {
        fs::create_dir_all(case.dir.join("lower").join(dir)).unwrap();
    }
    report("run on the lower directory itself, read-only", |_| {
        let mut plan = case.plan(&["/bin/true"]);
        plan.rootfs = Rootfs::Directory { path: case.dir.join("lower"), read_only: true };
        case.session.run(plan, [null(), null(), null()]).unwrap().wait().unwrap();
    });
    report("bwrap --unshare-all on the lower directory", |_| {
        let status = Command::new("bwrap")
            .args(["--unshare-all", "--die-with-parent", "--ro-bind"])
            .arg(case.dir.join("lower"))
            .args(["/", "--proc", "/proc", "--dev", "/dev", "/bin/true"])
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    });
}

fn report(what: &str, mut action: impl FnMut(usize)) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let began = Instant::now();
            action(round);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("{what:<45} min {:>8.2?}  median {:>8.2?}", times[0], times[ROUNDS / 2]);
}
