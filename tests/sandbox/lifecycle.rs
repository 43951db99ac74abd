//! How sandboxes begin and end.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::fixture::{Case, read, start, start_worker};
use treebox::sandbox::{Ending, IdentityChoice, LaunchError, signals};
use treebox::worker::{SessionError, Worker, WorkerError, WorkerOptions};

#[test]
fn exit_codes_and_signals_are_told() {
    let case = Case::new();
    assert_eq!(case.run(case.plan(&["true"])).exit.ending, Ending::Code(0));
    assert_eq!(case.run(case.plan(&["sh", "-c", "exit 42"])).exit.ending, Ending::Code(42));
    let said = case.run(case.plan(&["sh", "-c", "kill -TERM $$"]));
    assert_eq!((said.exit.ending, said.exit.code()), (Ending::Signal(15), 143));
    // A program ignores SIGPIPE only by its own choice.
    assert_eq!(case.shell("(while :; do echo y; done; echo bad >&2) | head -n 1"), "y\n");
}

#[test]
fn missing_and_unusable_programs_are_told_apart() {
    let case = Case::new();
    let failure = |argv: &[&str]| match case.try_run(case.plan(argv)) {
        Err(SessionError::Launch(err)) => err,
        other => panic!("{:?}", other.map(|said| said.exit)),
    };
    let err = failure(&["nonesuch"]);
    assert!(matches!(err, LaunchError::NotFound { .. }), "{err}");
    assert_eq!(err.exit_code(), Some(127));
    assert_eq!(failure(&["/bin/nonesuch"]).exit_code(), Some(127));
    assert_eq!(failure(&["/etc/passwd"]).exit_code(), Some(126));
    assert_eq!(failure(&["/etc"]).exit_code(), Some(126));
    fs::write(case.dir.join("lower/bin/script"), "#!/no/such/shell\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(case.dir.join("lower/bin/script"), mode).unwrap();
    assert!(matches!(failure(&["script"]), LaunchError::NoInterpreter { .. }));
    let mut plan = case.plan(&["true"]);
    plan.cwd = b"/no/such".to_vec();
    let err = case.try_run(plan).map(|said| said.exit).unwrap_err();
    assert!(matches!(err, SessionError::Launch(LaunchError::WorkDir { .. })), "{err}");
    // The session is as good as before.
    assert_eq!(case.shell("echo on"), "on\n");
}

#[test]
fn orphans_are_reaped_and_daemons_end_with_the_run() {
    let case = Case::new();
    // The orphan's parent dies first; a zombie would still be listed when the shell looks.
    let listed =
        case.shell("(sh -c 'sleep 0.1' &) ; sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l");
    assert_eq!(listed, "0\n");
    let began = Instant::now();
    case.shell("setsid sleep 1000 >/dev/null 2>&1 & touch /started");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(processes_with("sleep\x001000"), 0);
}

#[test]
fn a_run_can_be_killed_and_signalled_from_another_thread() {
    let case = Case::new();
    let (running, out, _err) = start(&case.session, case.plan(&["sleep", "1001"])).unwrap();
    let killer = running.killer();
    let waiter = std::thread::spawn(move || running.wait());
    killer.kill().unwrap();
    assert_eq!(waiter.join().unwrap().unwrap().ending, Ending::Signal(9));
    assert_eq!(read(out), "");
    // Late words about a run that is over hit nobody.
    killer.kill().unwrap();
    killer.signal(signals::TERM).unwrap();
    let plan = case.plan_in(
        "upper2",
        &["sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"],
    );
    let (running, out, _err) = start(&case.session, plan).unwrap();
    wait_for_output(&out);
    running.signal(signals::TERM).unwrap();
    assert_eq!(running.wait().unwrap().ending, Ending::Code(3));
    assert_eq!(read(out), "ready\ncaught\n");
    // An interrupt reaches what the payload started, as from a terminal.
    let plan = case
        .plan_in("upper3", &["sh", "-c", "trap 'echo shell; exit 4' INT; echo ready; sleep 1002; echo no"]);
    let (running, out, _err) = start(&case.session, plan).unwrap();
    wait_for_output(&out);
    std::thread::sleep(Duration::from_millis(100));
    running.signal(signals::INT).unwrap();
    assert_eq!(running.wait().unwrap().ending, Ending::Code(4));
    assert_eq!(read(out), "ready\nshell\n");
}

/// Waits until something can be read, without reading it.
fn wait_for_output(out: &std::os::fd::OwnedFd) {
    let fd = nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(out), nix::poll::PollFlags::POLLIN);
    nix::poll::poll(&mut [fd], nix::poll::PollTimeout::NONE).unwrap();
    assert!(out.as_raw_fd() > 2);
}

#[test]
fn a_dropped_run_is_killed_and_a_dropped_worker_ends() {
    let case = Case::new();
    let (running, _out, _err) = start(&case.session, case.plan(&["sleep", "1003"])).unwrap();
    drop(running);
    assert_eq!(processes_with("sleep\x001003"), 0);
    let worker = start_worker(IdentityChoice::Auto);
    let session = worker.session().unwrap();
    drop(worker);
    assert!(matches!(session.remove(&case.dir.join("nothing")), Err(SessionError::Ended)));
}

#[test]
fn sessions_run_side_by_side() {
    let case = Case::new();
    let other = case.worker.session().unwrap();
    let began = Instant::now();
    let (first, out1, _e1) =
        start(&case.session, case.plan_in("upperA", &["sh", "-c", "sleep 1; echo a"])).unwrap();
    let (second, out2, _e2) =
        start(&other, case.plan_in("upperB", &["sh", "-c", "sleep 1; echo b"])).unwrap();
    let busy = case.session.run(case.plan_in("upperC", &["true"]), streams()).map(|run| run.pid());
    assert!(matches!(busy, Err(SessionError::Busy)));
    assert_eq!((read(out1), read(out2)), ("a\n".into(), "b\n".into()));
    assert_eq!(first.wait().unwrap().ending, Ending::Code(0));
    assert_eq!(second.wait().unwrap().ending, Ending::Code(0));
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
}

fn streams() -> [std::os::fd::OwnedFd; 3] {
    [(); 3].map(|()| fs::File::open("/dev/null").unwrap().into())
}

#[test]
fn usage_is_that_of_the_payload() {
    let case = Case::new();
    let said = case.run(case.plan(&["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]));
    let usage = said.exit.usage;
    assert!(usage.user_micros > 10_000 && usage.max_rss_bytes > 100_000, "{usage:?}");
    assert!(said.exit.duration.as_micros() as u64 > usage.user_micros / 2);
}

#[test]
fn trees_are_removed_and_renamed_by_the_sessions_root() {
    let case = Case::new();
    let owner = if case.many_ids() { "1000:1000" } else { "0:0" };
    case.shell(&format!("mkdir -p /d/e/f; touch /d/e/f/g; chown -R {owner} /d; chmod 000 /d/e/f /d/e"));
    let (from, to) = (case.dir.join("upper/d"), case.dir.join("moved"));
    case.session.rename(&from, &to).unwrap();
    assert!(!from.exists());
    case.session.remove(&to).unwrap();
    assert!(!to.exists());
    case.session.remove(&to).unwrap();
    let err = case.session.rename(&from, &to).unwrap_err();
    assert!(err.to_string().contains("upper/d"), "{err}");
}

#[test]
fn an_executable_that_is_no_worker_is_named() {
    let options = WorkerOptions { program: "/bin/true".into(), identity: IdentityChoice::Auto };
    assert!(matches!(Worker::start(&options), Err(WorkerError::Silent { .. })));
    let options = WorkerOptions { program: "/nonexistent".into(), identity: IdentityChoice::Auto };
    assert!(matches!(Worker::start(&options), Err(WorkerError::Spawn { .. })));
}

#[test]
fn the_death_of_the_host_ends_everything() {
    // The first part of the path is the test program's own name.
    let (_, module) = module_path!().split_once("::").unwrap();
    let helper = format!("{module}::helper_a_host_that_waits");
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &helper, "--ignored", "--nocapture"])
        .env("TREEBOX_TEST_HELPER", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the sandbox runs", || processes_with("sleep\x001004") == 1);
    host.kill().unwrap();
    host.wait().unwrap();
    wait_until("the sandbox is gone", || processes_with("sleep\x001004") == 0);
    let children = format!("PPid:\t{}", host.id());
    assert!(!fs::read_to_string("/proc/self/status").unwrap().contains(&children));
}

#[test]
#[ignore = "a helper process of the_death_of_the_host_ends_everything"]
fn helper_a_host_that_waits() {
    if std::env::var_os("TREEBOX_TEST_HELPER").is_some() {
        let case = Case::new();
        case.run(case.plan(&["sleep", "1004"]));
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many processes of this user have this in their command line.
fn processes_with(words: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(words))
        .count()
}
