//! `run -t` and `shell`, driven from a terminal as a person does.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{TestEnv, treebox};

const PATIENCE: Duration = Duration::from_secs(30);

/// treebox on a terminal of this test.
struct Session {
    master: File,
    slave: OwnedFd,
    child: Child,
    seen: Arc<Mutex<String>>,
    /// How much of it the test has looked at.
    read: usize,
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Session {
    /// The terminal is the controlling one of treebox, as in a terminal window.
    fn start(env: &TestEnv, args: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        tcsetwinsize(&pty.master, winsize(31, 91)).unwrap();
        let mut command = Command::new("setsid");
        env.isolate(&mut command);
        let stream = || Stdio::from(pty.slave.try_clone().unwrap());
        command.arg("--ctty").arg(treebox()).args(args).env("TERM", "vt220");
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let (theirs, mut master) = (Arc::clone(&seen), File::from(pty.master.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                *theirs.lock().unwrap() += &String::from_utf8_lossy(&buffer[..count]);
            }
        });
        Self { master: pty.master.into(), slave: pty.slave, child, seen, read: 0 }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(self.slave.as_fd()).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    fn key(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text after what was looked at before.
    fn expect(&mut self, text: &str) {
        let began = Instant::now();
        loop {
            let seen = self.seen.lock().unwrap();
            if let Some(at) = seen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            assert!(began.elapsed() < PATIENCE, "`{text}` does not come; there is {:?}", &seen[self.read..]);
            drop(seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// The exit code; the terminal is as it was.
    fn end(&mut self) -> (i32, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end; {:?}", self.seen.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(!self.is_raw(), "the terminal is left raw");
        // What was written just before the end is still on its way.
        std::thread::sleep(Duration::from_millis(50));
        let seen = self.seen.lock().unwrap().clone();
        (status.code().unwrap_or(-1), seen)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_gets_a_terminal_of_its_own_with_this_ones_size_and_kind() {
    let env = TestEnv::new();
    let script = "tty; stty size; echo kind $TERM; test -t 0 -a -t 1 -a -t 2 && echo all; read -r x; echo got $x; exit 3";
    let mut session = Session::start(&env, &["run", "-it", "--from", "host", "-c", script]);
    session.expect("/dev/pts/0\r\n31 91\r\nkind vt220\r\nall\r\n");
    wait_until("it is raw", || session.is_raw());
    session.key("word\r");
    session.expect("word\r\ngot word\r\n");
    let (code, seen) = session.end();
    assert_eq!(code, 3, "{seen}");
    assert!(seen.contains("treebox: exit 3; "), "{seen}");
}

#[test]
fn interrupts_and_sizes_reach_what_runs_inside() {
    let env = TestEnv::new();
    let script = "trap 'echo size $(stty size)' WINCH; trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done";
    let mut session = Session::start(&env, &["run", "-it", "--disposable", "--from", "host", "-c", script]);
    session.expect("ready");
    wait_until("it is raw", || session.is_raw());
    tcsetwinsize(&session.master, winsize(12, 34)).unwrap();
    session.expect("size 12 34");
    session.key("\x03");
    session.expect("caught");
    assert_eq!(session.end().0, 7);
}

#[test]
fn a_shell_inside_has_job_control() {
    let env = TestEnv::on_main();
    let mut session =
        Session::start(&env, &["shell", "-e", "PS1=ps> ", "-e", "HISTFILE=", "--", "bash", "--norc"]);
    session.expect("ps> ");
    session.key("sleep 1030\r");
    session.expect("sleep 1030");
    std::thread::sleep(Duration::from_millis(300));
    session.key("\x1a");
    session.expect("Stopped");
    session.key("jobs\r");
    session.expect("sleep 1030");
    session.key("fg\r");
    session.expect("sleep 1030");
    std::thread::sleep(Duration::from_millis(300));
    session.key("\x03");
    session.expect("ps> ");
    session.key("echo made > /made; exit 5\r");
    let (code, seen) = session.end();
    // The last status of a shell says little about the work: the result is kept.
    assert_eq!(code, 5, "{seen}");
    assert!(seen.contains("treebox: exit 5; main ") && seen.contains("(+1 ~0 -0)"), "{seen}");
    assert_eq!(env.ok(&["cat", "main:/made"]), "made\n");
    assert_eq!(env.json_lines(&["log", "main"]).len(), 2);
}

#[test]
fn the_terminal_is_put_back_whatever_ends_treebox() {
    let env = TestEnv::new();
    let start = |script: &str| {
        let mut session =
            Session::start(&env, &["run", "-it", "--disposable", "--from", "host", "-c", script]);
        session.expect("ready");
        wait_until("it is raw", || session.is_raw());
        session
    };
    // The command takes the first and ends by it, or does not; the second kills it.
    let mut session = start("trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    session.signal(Signal::SIGTERM);
    assert_eq!(session.end().0, 9);
    let mut session = start("trap 'echo no' TERM HUP INT QUIT; echo ready; while :; do sleep 0.05; done");
    for signal in [Signal::SIGQUIT, Signal::SIGHUP] {
        session.signal(signal);
        if signal == Signal::SIGQUIT {
            session.expect("no");
        }
    }
    assert_eq!(session.end().0, 137);
    // Stopped from elsewhere: meanwhile the terminal is the other job's.
    let mut session = start("echo ready; read -r x; echo got $x");
    session.signal(Signal::SIGTSTP);
    wait_until("it is put back for the time", || !session.is_raw());
    session.signal(Signal::SIGCONT);
    wait_until("it is raw again", || session.is_raw());
    session.key("on\r");
    session.expect("got on");
    assert_eq!(session.end().0, 0);
}

#[test]
fn a_terminal_without_input_is_one_stream_of_output() {
    let env = TestEnv::new();
    let ran = env.json(&["run", "-t", "--from", "host", "-c", "test -t 0 && echo out; echo err >&2"]);
    assert_eq!((ran["stdout"].as_str(), ran["stderr"].as_str()), (Some("out\r\nerr\r\n"), Some("")), "{ran}");
    // What was written last is there, and a process that keeps the terminal open holds nothing up.
    let script = "(trap '' HUP; sleep 1000) & seq 20000; echo last";
    let ran = env.json(&["run", "-t", "--from", "host", "-c", script]);
    assert!(ran["stdout"].as_str().unwrap().ends_with("20000\r\nlast\r\n"), "{}", ran["exit_code"]);
    // Such a run is not used again.
    let text = "echo x > /x";
    for _ in 0..2 {
        assert_eq!(env.json(&["run", "-t", "--from", "host", "-c", text])["reused"], false);
    }
}

#[test]
fn input_that_is_no_terminal_is_typed_and_then_ends() {
    let env = TestEnv::new();
    let input = b"echo 'hi' there\nexit 4\n";
    let ran = env.run_with_input(&["run", "-it", "--from", "host", "--", "sh"], input);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.text().contains("hi there\r\n"), "{}", ran.text());
    let ran = env.run_with_input(&["run", "-it", "--from", "host", "--", "cat"], b"line\n");
    assert_eq!((ran.code, ran.text().matches("line").count()), (0, 2), "{:?}", ran.text());
}

#[test]
fn a_shell_without_a_terminal_reads_a_script_and_commits_once() {
    let env = TestEnv::on_main();
    let ran = env.run_with_input(&["shell"], b"echo one > /one\necho two > /two\npwd\n");
    assert_eq!((ran.code, ran.text().as_str()), (0, "/\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("treebox: main ") && ran.stderr.contains("(+2 ~0 -0)"), "{}", ran.stderr);
    assert_eq!(env.ok(&["cat", "main:/one", "main:/two"]), "one\ntwo\n");
    // Nothing of this.
    let before = env.ok(&["log", "--oneline"]);
    let ran = env.run_with_input(&["shell", "--drop"], b"echo three > /three; test -e /one\n");
    assert_eq!((ran.code, ran.stderr.contains("nothing kept")), (0, true), "{}", ran.stderr);
    assert_eq!(env.ok(&["log", "--oneline"]), before);
    // From a revision no branch moves, unless one is made.
    let ran = env.run_with_input(&["shell", "host"], b"test ! -e /one && echo four > /four\n");
    assert_eq!(ran.code, 0);
    assert_eq!(env.ok(&["log", "--oneline"]), before);
    let ran = env.run_with_input(&["shell", "host", "--branch", "other"], b"echo five > /five\n");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(env.ok(&["cat", "other:/five"]), "five\n");
    // A failing shell is kept all the same.
    let ran = env.run_with_input(&["shell", "-w", "/tmp"], b"pwd; echo six > /six; false\n");
    assert_eq!((ran.code, ran.text().as_str()), (1, "/tmp\n"));
    assert_eq!(env.ok(&["cat", "main:/six"]), "six\n");
}

#[test]
fn a_shell_needs_a_place_to_begin_and_a_shell() {
    let env = TestEnv::new();
    assert!(env.fails(125, &["shell"]).contains("HEAD"));
    env.fails(2, &["shell", "--drop", "--branch", "x", "host"]);
    assert_eq!(env.run(&["shell", "host", "--", "no-such-shell"]).code, 127);
    let empty = env.path("empty");
    std::fs::create_dir(&empty).unwrap();
    env.ok(&["import", &format!("dir:{}", empty.display()), "--name", "empty"]);
    assert!(env.fails(125, &["shell", "empty"]).contains("neither /bin/bash nor /bin/sh"));
}

#[test]
fn nothing_runs_on_when_treebox_is_killed() {
    let env = TestEnv::new();
    let running = || {
        let lines = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with(b"sleep\x001031\0")).count()
    };
    let script = "(trap '' HUP; exec sleep 1031) & sleep 1031";
    let mut session = Session::start(&env, &["shell", "host", "--", "sh", "-c", script]);
    wait_until("both run", || running() == 2);
    wait_until("it is raw", || session.is_raw());
    session.child.kill().unwrap();
    session.child.wait().unwrap();
    wait_until("nothing runs", || running() == 0);
    // What is half-made is swept by the next call.
    env.ok(&["run", "--from", "host", "--disposable", "-c", "true"]);
}
