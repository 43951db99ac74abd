//! Commands that join a sandbox, and terminals.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::fixture::{Case, Said, read};
use treebox::sandbox::{Ending, LaunchError, Plan, TerminalSize, signals};
use treebox::worker::{Running, Sandbox, SessionError};

fn spawn(live: &Sandbox, plan: Plan) -> Result<(Running, OwnedFd, OwnedFd), SessionError> {
    let (out, out_end) = std::io::pipe().unwrap();
    let (err, err_end) = std::io::pipe().unwrap();
    let null: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let running = live.run(plan, [null, out_end.into(), err_end.into()])?;
    Ok((running, out.into(), err.into()))
}

fn run(live: &Sandbox, plan: Plan) -> Said {
    let (running, out, err) = spawn(live, plan).unwrap_or_else(|err| panic!("{err}"));
    let exit = running.wait().unwrap();
    Said { exit, out: read(out), err: read(err) }
}

fn shell(case: &Case, live: &Sandbox, script: &str) -> String {
    let said = run(live, case.plan(&["sh", "-c", script]));
    assert_eq!(said.exit.ending, Ending::Code(0), "{script}: {}", said.err);
    said.out
}

#[test]
fn commands_of_one_sandbox_share_files_processes_and_names() {
    let case = Case::new();
    let live = case.session.open(case.plan(&[])).unwrap();
    shell(&case, &live, "echo one > /shared; hostname");
    assert_eq!(shell(&case, &live, "cat /shared"), "one\n");
    // What one leaves behind goes on, and the next sees it.
    shell(&case, &live, "setsid sleep 1010 >/dev/null 2>&1 </dev/null & echo $! > /daemon");
    let seen =
        shell(&case, &live, "kill -0 $(cat /daemon) && tr '\\0' ' ' < /proc/$(cat /daemon)/cmdline || ps");
    assert!(seen.contains("sleep 1010"), "{seen}");
    let said = run(&live, case.plan(&["sh", "-c", "exit 7"]));
    assert_eq!(said.exit.ending, Ending::Code(7));
    // The namespaces are those of init.
    for kind in ["pid", "mnt", "net", "ipc", "uts", "user", "cgroup"] {
        let own = shell(&case, &live, &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(own, shell(&case, &live, &format!("readlink /proc/self/ns/{kind}")));
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(own.trim(), host.to_str().unwrap(), "{kind}");
    }
    let exit = live.end().unwrap();
    assert_eq!(exit.ending, Ending::Signal(9));
    assert_eq!(fs::read_to_string(case.dir.join("upper/shared")).unwrap(), "one\n");
    // The session is free again.
    case.session.remove(&case.dir.join("nothing")).unwrap();
}

#[test]
fn a_command_that_joins_is_sealed_like_one_that_runs_alone() {
    let case = Case::new();
    let look = "grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|SigBlk|SigIgn|SigCgt|Umask)' /proc/self/status; \
                cat /proc/self/limits; ls /proc/self/fd | wc -l; cat /proc/self/sessionid; pwd; id; umask; env; readlink /proc/self/exe";
    let alone = case.run(case.plan(&["sh", "-c", look])).out;
    case.session.remove(&case.dir.join("work")).unwrap();
    fs::create_dir(case.dir.join("work")).unwrap();
    let live = case.session.open(case.plan(&[])).unwrap();
    assert_eq!(shell(&case, &live, look), alone);
    // Nobody inside can look into init.
    assert_eq!(
        shell(
            &case,
            &live,
            "cat /proc/1/environ 2>/dev/null; readlink /proc/1/exe; readlink /proc/1/fd/*; true"
        ),
        ""
    );
}

#[test]
fn several_commands_run_at_once_and_are_signalled_and_killed_apart() {
    let case = Case::new();
    let live = case.session.open(case.plan(&[])).unwrap();
    let sleeper =
        |seconds: &str| spawn(&live, case.plan(&["sh", "-c", &format!("sleep {seconds}; exit 3")])).unwrap();
    let ((first, out1, _e1), (second, _o2, _e2)) = (sleeper("1011"), sleeper("1012"));
    let (mut third, _o3, _e3) = sleeper("1013");
    let began = Instant::now();
    assert!(third.wait_until(began + Duration::from_millis(50)).unwrap().is_none());
    // Waited for in another order than they end.
    let waiter = std::thread::spawn(move || third.wait().unwrap());
    first.kill().unwrap();
    assert_eq!(first.wait().unwrap().ending, Ending::Signal(9));
    // With its child, which held the pipe.
    assert_eq!(read(out1), "");
    second.signal(signals::INT).unwrap();
    assert_ne!(second.wait().unwrap().ending, Ending::Code(3));
    assert_eq!(shell(&case, &live, "ps | grep -c 'sleep 101[123]' || true").trim(), "2");
    let killer = live.killer();
    killer.kill().unwrap();
    assert_eq!(waiter.join().unwrap().ending, Ending::Signal(9));
    let late = spawn(&live, case.plan(&["true"])).map(|_| ()).unwrap_err();
    assert!(matches!(late, SessionError::Launch(LaunchError::Step { .. })), "{late}");
    live.end().unwrap();
}

#[test]
fn a_command_that_cannot_start_leaves_the_sandbox_as_it_was() {
    let case = Case::new();
    let live = case.session.open(case.plan(&[])).unwrap();
    for _ in 0..3 {
        let Err(SessionError::Launch(err)) = spawn(&live, case.plan(&["nonesuch"])) else {
            panic!("it started")
        };
        assert_eq!(err.exit_code(), Some(127));
        let mut plan = case.plan(&["true"]);
        plan.cwd = b"/no/such".to_vec();
        let Err(SessionError::Launch(err)) = spawn(&live, plan) else { panic!("it started") };
        assert!(matches!(err, LaunchError::WorkDir { .. }), "{err}");
        assert_eq!(shell(&case, &live, "echo on"), "on\n");
    }
}

#[test]
fn dropping_a_sandbox_ends_everything_in_it() {
    let case = Case::new();
    let live = case.session.open(case.plan(&[])).unwrap();
    let (running, out, _err) = spawn(&live, case.plan(&["sleep", "1014"])).unwrap();
    drop(live);
    assert_eq!(running.wait().unwrap().ending, Ending::Signal(9));
    assert_eq!(read(out), "");
    assert_eq!(case.shell("echo again"), "again\n");
}

fn nulls() -> [OwnedFd; 3] {
    [(); 3].map(|()| fs::File::open("/dev/null").unwrap().into())
}

/// Everything that a terminal gives until it closes; the slave's end is EIO at the master.
fn read_terminal(master: &OwnedFd) -> String {
    let mut master = fs::File::from(master.try_clone().unwrap());
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_terminal_is_the_sandboxes_own() {
    let case = Case::new();
    let mut plan = case.plan(&["sh", "-c", "readlink /proc/self/fd/0; test -t 0 && test -t 1 && test -t 2 && echo tty; ls /dev/pts; echo done > /dev/tty; read line; echo got $line"]);
    plan.terminal = Some(TerminalSize { rows: 33, columns: 77 });
    let mut running = case.session.run(plan, nulls()).unwrap();
    let master = running.take_terminal().unwrap();
    let mut writer = fs::File::from(master.try_clone().unwrap());
    let size = rustix::termios::tcgetwinsize(&master).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (33, 77));
    writer.write_all(b"hello\n").unwrap();
    let said = read_terminal(&master);
    assert_eq!(running.wait().unwrap().ending, Ending::Code(0), "{said}");
    assert!(said.contains("/dev/pts/0\n") && said.contains("\ntty\n"), "{said}");
    assert!(said.contains("\ndone\n") && said.contains("got hello\n"), "{said}");
}
