//! Live sandboxes: several commands, one result.

use std::time::{Duration, Instant};

use treebox::blocking::Live;
use treebox::{Finished, SandboxOptions, Stdin, Stream, TerminalSize};

use super::*;

fn open() -> Live {
    base().open(&SandboxOptions::new()).unwrap()
}

fn sh(live: &Live, text: &str) -> Finished {
    live.run(&Command::shell(text)).unwrap()
}

fn said(live: &Live, text: &str) -> String {
    let finished = sh(live, text);
    assert!(finished.success(), "{text}: {}", String::from_utf8_lossy(&finished.stderr));
    String::from_utf8(finished.stdout).unwrap()
}

#[test]
fn commands_share_files_and_processes_and_nothing_else() {
    let options = SandboxOptions::new().env("A", "all").workdir("/tmp").hostname("box");
    let live = base().open(&options).unwrap();
    assert_eq!(said(&live, "echo $A; pwd; cat /proc/sys/kernel/hostname; echo x > /x"), "all\n/tmp\nbox\n");
    let own = Command::shell("echo $A$B; pwd; cat /x").env("A", "own").env("B", "b").workdir("/");
    assert_eq!(live.run(&own).unwrap().stdout, b"ownb\n/\nx\n");
    assert_eq!(said(&live, "echo $A$B; umask"), "all\n0022\n");
    assert_eq!(sh(&live, "exit 3").exit_code, Some(3));
    assert_eq!(sh(&live, "kill -9 $$").signal, Some(9));
    // A server that one command starts answers the next, though it holds the first one's streams open.
    let began = Instant::now();
    assert_eq!(
        said(&live, "mkfifo /fifo; (while read -r w </fifo; do echo $w >> /heard; done) & echo up"),
        "up\n"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    said(&live, "echo hello > /fifo; while ! test -s /heard; do sleep 0.01; done; cat /heard");
    let bytes = live.run(&Command::new("cat").stdin(Stdin::Bytes(b"in".to_vec()))).unwrap();
    assert_eq!(bytes.stdout, b"in");
    let kind = live.run(&Command::new("no-such-program")).unwrap_err().kind();
    assert_eq!(kind, treebox::ErrorKind::CommandNotFound);
}

#[test]
fn the_result_is_one_state_with_the_text_of_all_commands() {
    let live = base().open(&SandboxOptions::new().epoch(7)).unwrap();
    sh(&live, "echo one > /one");
    sh(&live, "echo two > /two; rm /one");
    live.run(&Command::new("touch").arg("/a b")).unwrap();
    let kept = live.keep().unwrap();
    assert!(kept.changed && !kept.reused && kept.key.is_none());
    assert_eq!((kept.changes.added, kept.exit_code), (2, Some(0)));
    // The same as the same done at once.
    let once = Command::shell("echo two > /two; touch '/a b'").epoch(7);
    assert_eq!(base().run(&once).unwrap().state, kept.state);
    engine().create_branch("from-live", kept.state(), false).unwrap();
    let shown = engine().show("from-live").unwrap();
    assert_eq!(shown.info.command, "echo one > /one\necho two > /two; rm /one\ntouch '/a b'");
    // Never used again: what runs in a live sandbox is asked for while it runs.
    let live = base().open(&SandboxOptions::new()).unwrap();
    assert_eq!(said(&live, "ls /"), said(&live, "ls /"));
    let kept = live.keep().unwrap();
    assert_eq!((kept.changed, kept.state()), (false, &base()));
}

#[test]
fn dropping_it_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = super::open(dir.path());
    let base = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    let live = base.open(&SandboxOptions::new()).unwrap();
    said(&live, "echo x > /x; mkdir -p /d/e; chmod 0 /d/e");
    let (pid, running) = (live.pid(), live.spawn(&Command::new("sleep").arg("1040")).unwrap());
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    drop(live);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(running.wait().unwrap().signal, Some(9));
    assert_eq!(crate::support::names(&dir.path().join("store/tmp")), Vec::<String>::new());
    // The store is as good as before.
    assert!(base.run(&Command::shell("echo y > /y")).unwrap().changed);
}

#[test]
fn handles_poll_signal_and_kill_one_command_of_several() {
    let live = open();
    let spawn = |text: &str| live.spawn(&Command::shell(text)).unwrap();
    let (mut first, mut second) = (
        spawn("echo $$; sleep 1041; echo no"),
        spawn("trap 'exit 4' TERM; echo r; while :; do sleep 0.02; done"),
    );
    assert_eq!(second.read().unwrap(), (Stream::Stdout, b"r\n".to_vec()));
    assert!(first.read().is_some());
    assert_eq!(first.try_wait().unwrap(), None);
    assert_eq!(first.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    second.signal(15).unwrap();
    let ended = second.wait_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert_eq!((ended.exit_code, ended.shell_code()), (Some(4), 4));
    assert!(second.poll().unwrap());
    assert!(!first.poll().unwrap());
    first.kill().unwrap();
    let finished = first.wait().unwrap();
    assert_eq!((finished.signal, finished.stdout.ends_with(b"no\n")), (Some(9), false));
    // The time of one is not that of another.
    let late =
        live.run(&Command::shell("(sleep 1042 &) ; sleep 1042").timeout(Duration::from_millis(200))).unwrap();
    assert!(late.timed_out && late.shell_code() == 124);
    assert_eq!(said(&live, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep [1]04' || true"), "0\n");
    assert_eq!(second.wait().unwrap().exit_code, Some(4));
    // Killed as a whole it can still be kept.
    said(&live, "echo x > /x");
    let last = spawn("sleep 1043");
    live.kill().unwrap();
    assert_eq!(last.wait().unwrap().signal, Some(9));
    assert!(live.run(&Command::shell("true")).is_err());
    assert_eq!(live.keep().unwrap().changes.added, 1);
}

#[test]
fn a_command_whose_time_is_up_ends_though_nobody_asks() {
    let mut running =
        base().spawn(&Command::shell("sleep 1044").timeout(Duration::from_millis(200))).unwrap();
    // Reading alone would wait for ever.
    assert_eq!(running.read(), None);
    let ended = running.wait_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert!(ended.timed_out);
    assert!(running.wait().unwrap().timed_out);
}

#[test]
fn a_command_in_a_terminal_is_typed_to_and_resized() {
    let live = open();
    let size = TerminalSize { rows: 10, columns: 20 };
    let script = "tty; stty size; read -r x; stty size; echo got $x; cat; echo end";
    let mut shell = live.spawn(&Command::shell(script).terminal(size).stdin(Stdin::Piped)).unwrap();
    let mut seen = String::new();
    while !seen.contains("10 20") {
        seen += &String::from_utf8_lossy(&shell.read().unwrap().1);
    }
    shell.terminal().unwrap().resize(TerminalSize { rows: 11, columns: 21 }).unwrap();
    shell.write(b"word\n").unwrap();
    // The end of input is that of `cat`, not of the shell.
    shell.close_stdin();
    let seen = String::from_utf8(shell.wait().unwrap().stdout).unwrap();
    assert!(seen.contains("/dev/pts/0\r\n") && seen.contains("11 21\r\ngot word\r\n"), "{seen}");
    assert!(seen.ends_with("end\r\n"), "{seen}");
    let typed =
        live.run(&Command::new("sh").terminal(size).stdin(Stdin::Bytes(b"exit 8\n".to_vec()))).unwrap();
    assert_eq!(typed.exit_code, Some(8));
    // What is left open by a process that goes on does not hold up the end.
    let left =
        live.run(&Command::shell("(trap '' HUP; sleep 1045) & seq 5000; echo last").terminal(size)).unwrap();
    assert!(left.stdout.ends_with(b"last\r\n"));
}

#[test]
fn much_goes_in_and_out_of_a_handle() {
    let live = open();
    let mut sum = live.spawn(&Command::shell("cat | wc -c; seq 300000").stdin(Stdin::Piped)).unwrap();
    let block = vec![7; 1 << 20];
    for _ in 0..50 {
        sum.write(&block).unwrap();
    }
    sum.close_stdin();
    let mut total = 0;
    while let Some((_, bytes)) = sum.read() {
        total += bytes.len();
    }
    let finished = sum.wait().unwrap();
    assert!(finished.success() && finished.stdout.starts_with(b"52428800\n"));
    assert_eq!(finished.stdout.len(), total);
}

#[test]
fn what_a_sandbox_is_for_all_is_not_for_one_command_to_say() {
    let live = open();
    let copied = Command::shell("true").copy("/etc/passwd", "/p");
    assert_eq!(live.run(&copied).unwrap_err().kind(), treebox::ErrorKind::InvalidInput);
    let single = live.run(&Command::shell("id -u; echo $HOME").user("0:0")).unwrap();
    assert_eq!(single.stdout, b"0\n/root\n");
}

#[test]
#[ignore = "a measurement"]
fn speed_of_a_command_in_a_live_sandbox_next_to_a_disposable_run() {
    let median = |work: &dyn Fn()| {
        let mut times: Vec<_> = (0..100)
            .map(|_| {
                let began = Instant::now();
                work();
                began.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let nothing = Command::new("true");
    let disposable = nothing.clone().disposable(true);
    let (base, live) = (base(), open());
    let alone = median(&|| assert!(base.run(&disposable).unwrap().success()));
    let joined = median(&|| assert!(live.run(&nothing).unwrap().success()));
    println!("disposable run {alone:?}, command in a live sandbox {joined:?}");
    assert!(joined < alone);
}
