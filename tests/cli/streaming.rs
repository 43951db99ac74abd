//! `run -i`: input and output of any size, readers and writers of any speed.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::TestEnv;

const MIB: usize = 1 << 20;

fn start(env: &TestEnv, script: &str) -> Child {
    let mut command = env.command(&["run", "-q", "-i", "--disposable", "--from", "host", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Writes so many MiB, or until nobody reads any more; gives how many.
fn write(child: &mut Child, mib: usize) -> std::thread::JoinHandle<usize> {
    let mut stdin = child.stdin.take().unwrap();
    let block: Vec<u8> = (0..MIB).map(|at| (at % 251) as u8).collect();
    std::thread::spawn(move || (0..mib).take_while(|_| stdin.write_all(&block).is_ok()).count())
}

#[test]
fn hundreds_of_megabytes_go_in_and_are_counted() {
    let env = TestEnv::new();
    let mut child = start(&env, "cat | wc -c");
    let writer = write(&mut child, 300);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(writer.join().unwrap(), 300);
    assert_eq!(String::from_utf8(ended.stdout).unwrap().trim(), (300 * MIB).to_string());
}

#[test]
fn much_goes_in_and_out_at_once_past_a_slow_reader_in_little_memory() {
    let env = TestEnv::new();
    let mut child = start(&env, "cat");
    let writer = write(&mut child, 200);
    std::thread::sleep(Duration::from_millis(500));
    // The writer waits: what nobody reads is held back, not gathered.
    assert!(!writer.is_finished());
    let (mut stdout, mut total, mut buffer) = (child.stdout.take().unwrap(), 0, vec![0; MIB]);
    let mut peak = String::new();
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        assert!(
            buffer[..count].iter().enumerate().all(|(at, byte)| *byte == ((total + at) % MIB % 251) as u8)
        );
        total += count;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:")) {
            peak = line.to_owned();
        }
    }
    assert_eq!((writer.join().unwrap(), total), (200, 200 * MIB));
    assert!(child.wait().unwrap().success());
    let kib: usize = peak.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    // 16 MiB of output are kept; a growing vector holds up to three times that while it moves.
    assert!(kib < 96 * 1024, "{peak}");
}

#[test]
fn a_command_that_reads_nothing_or_little_ends_when_it_wants() {
    let env = TestEnv::new();
    for (script, code, out) in
        [("exit 6", 6, ""), ("head -c 3; exit 7", 7, "\0\x01\x02"), ("exec <&-; sleep 0.2; echo x", 0, "x\n")]
    {
        let began = Instant::now();
        let mut child = start(&env, script);
        let writer = write(&mut child, usize::MAX);
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(code), out.as_bytes()), "{script}");
        assert!(ended.stderr.is_empty() && began.elapsed() < Duration::from_secs(20), "{script}");
        assert!(writer.join().unwrap() < 64);
    }
}

#[test]
fn input_that_never_ends_does_not_hold_up_the_end() {
    let env = TestEnv::new();
    let mut child = start(&env, "read -r line; echo got $line");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"word\n").unwrap();
    // It stays open.
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(0), &b"got word\n"[..]));
    drop(stdin);
}
