//! Live handles: input, output, signals, time.

use std::time::{Duration, Instant};

use treebox::{Stdin, Stream};

use super::*;

#[test]
fn input_is_written_and_output_read_while_the_command_runs() {
    let command =
        Command::shell("while read line; do echo got $line; done; echo end > /end").stdin(Stdin::Piped);
    let mut running = base().spawn(&command).unwrap();
    for word in ["one", "two"] {
        running.write(format!("{word}\n").as_bytes()).unwrap();
        assert_eq!(running.read().unwrap(), (Stream::Stdout, format!("got {word}\n").into_bytes()));
    }
    assert!(!running.poll().unwrap());
    running.close_stdin();
    assert_eq!(running.read(), None);
    let outcome = running.wait().unwrap();
    assert!(outcome.success() && outcome.changed);
    assert_eq!(outcome.stdout, b"got one\ngot two\n");
}

#[test]
fn a_signal_reaches_the_command_and_a_kill_everything() {
    let mut running = base()
        .spawn(&Command::shell("trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"))
        .unwrap();
    assert_eq!(running.read().unwrap().1, b"ready\n");
    running.signal(15).unwrap();
    let outcome = running.wait().unwrap();
    assert_eq!((outcome.exit_code, outcome.stdout.ends_with(b"caught\n")), (Some(5), true));

    let mut running =
        base().spawn(&Command::shell("trap '' TERM; (sleep 1000 &) ; echo ready; sleep 1000")).unwrap();
    assert_eq!(running.read().unwrap().1, b"ready\n");
    running.kill().unwrap();
    assert_eq!(running.wait().unwrap().signal, Some(9));
}

#[test]
fn a_command_whose_time_is_up_is_killed_with_all_it_started() {
    let began = Instant::now();
    let command = Command::shell("echo before; (sleep 600 &); sleep 600").timeout(Duration::from_millis(300));
    let outcome = base().run(&command).unwrap();
    assert!(outcome.timed_out && !outcome.success());
    assert_eq!((outcome.shell_code(), outcome.stdout.as_slice()), (124, &b"before\n"[..]));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_dropped_handle_ends_the_command() {
    let running = base().spawn(&Command::shell("sleep 1000")).unwrap();
    let pid = running.pid();
    drop(running);
    assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
}

#[test]
fn output_beyond_the_limit_is_dropped_and_said_so() {
    let outcome =
        base().run(&Command::shell("head -c 3000000 /dev/zero; echo e >&2").max_output(1000)).unwrap();
    assert_eq!(
        (outcome.stdout.len(), outcome.truncated, outcome.stderr.as_slice()),
        (1000, true, &b"e\n"[..])
    );
}

#[test]
fn large_output_is_given_again_in_full() {
    let command = Command::shell("touch /large; seq 100000").reuse(treebox::Reuse::Always);
    let (first, again) = (base().run(&command).unwrap(), base().run(&command).unwrap());
    assert!(again.reused && first.stdout.len() > 500_000);
    assert_eq!(first.stdout, again.stdout);
}

#[test]
fn bytes_on_standard_input_count_in_the_key() {
    let command = |input: &str| Command::shell("cat > /in").stdin(Stdin::Bytes(input.as_bytes().to_vec()));
    let (a, b) = (base().run(&command("a")).unwrap(), base().run(&command("b")).unwrap());
    assert_ne!(a.state, b.state);
    assert!(base().run(&command("a")).unwrap().reused);
    assert_eq!(stdout(a.state(), "cat /in"), "a");
}

#[test]
fn a_missing_command_and_one_that_is_no_program_are_told_apart() {
    let kind = |command: Command| base().run(&command).unwrap_err().kind();
    assert_eq!(kind(Command::new("no-such-program")), treebox::ErrorKind::CommandNotFound);
    assert_eq!(kind(Command::new("/etc/passwd")), treebox::ErrorKind::CommandNotExecutable);
}
