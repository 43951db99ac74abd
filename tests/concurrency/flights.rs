//! Equal runs and equal imports at once: one works, the others wait for what comes of it.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use treebox::blocking::Engine;
use treebox::{Cancel, Command, EngineOptions, ErrorKind};

use crate::support::{TestEnv, bytes_below, names, nap, sleepers, treebox, wait_for_sleepers};

/// A call under way whose streams are read at its end.
fn start(env: &TestEnv, args: &[&str]) -> Child {
    env.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run_json(env: &TestEnv, text: &str) -> Child {
    start(env, &["--json", "run", "--from", "host", "-c", text])
}

/// Its JSON, once it has ended with 0.
fn ended(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {stderr}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An argument for `sleep` that is this test's alone.
fn own_nap(seconds: u32, test: u32) -> String {
    format!("{}{test}", nap(seconds))
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// Waits until so many processes wait for one that has begun: they are there, and only one of them has its command running.
fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

fn engine(env: &TestEnv) -> Engine {
    Engine::open(EngineOptions::at(env.store()).worker(treebox())).unwrap()
}

/// What every test ends with: nobody has left a flight.
fn landed(env: &TestEnv) {
    assert_eq!(names(&env.store().join("flights")), Vec::<String>::new());
}

#[test]
fn of_eight_processes_one_runs_a_command_and_the_others_use_its_result() {
    let env = TestEnv::new();
    let nap = own_nap(1, 1);
    let text = format!("head -c 8 /dev/urandom > /random; sleep {nap}");
    let children: Vec<Child> = (0..8).map(|_| run_json(&env, &text)).collect();
    wait_for_sleepers(&nap, 1);
    settle();
    assert_eq!(sleepers(&nap), 1, "only one runs");
    let results: Vec<Value> = children.into_iter().map(ended).collect();
    assert_eq!(results.iter().filter(|result| result["reused"] == false).count(), 1);
    assert!(results.iter().all(|result| result["state"] == results[0]["state"]), "{results:?}");
    landed(&env);
}

#[test]
fn threads_of_one_program_wait_for_each_other_and_for_other_programs() {
    let env = TestEnv::new();
    let (first, second) = (engine(&env), engine(&env));
    let command = Command::shell("head -c 8 /dev/urandom > /random; sleep 0.3");
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let engine = if number % 2 == 0 { &first } else { &second };
                let command = &command;
                scope.spawn(move || engine.resolve("host").unwrap().run(command).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.reused).count(), 1);
    assert!(outcomes.iter().all(|outcome| outcome.state().id() == outcomes[0].state().id()));
    landed(&env);
}

#[test]
fn when_the_one_that_runs_is_killed_another_takes_over_and_the_rest_wait_on() {
    let env = TestEnv::new();
    let nap = own_nap(2, 2);
    let text = format!("head -c 8 /dev/urandom > /random; sleep {nap}");
    let mut owner = run_json(&env, &text);
    wait_for_sleepers(&nap, 1);
    let children: Vec<Child> = (0..5).map(|_| run_json(&env, &text)).collect();
    settle();
    let killed = Instant::now();
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_for_sleepers(&nap, 0);
    wait_for_sleepers(&nap, 1);
    assert!(
        killed.elapsed() < Duration::from_millis(1500),
        "the death was seen after {:?}",
        killed.elapsed()
    );
    let results: Vec<Value> = children.into_iter().map(ended).collect();
    assert_eq!(results.iter().filter(|result| result["reused"] == false).count(), 1, "{results:?}");
    env.ok(&["run", "--from", "host", "-c", "echo sweeps > /what-the-dead-left"]);
    landed(&env);
}

#[test]
fn those_who_waited_for_a_command_that_fails_run_it_all_at_once() {
    let env = TestEnv::new();
    let nap = own_nap(1, 3);
    let text = format!("echo x > /x; sleep {nap}; exit 3");
    let owner = run_json(&env, &text);
    wait_for_sleepers(&nap, 1);
    let children: Vec<Child> = (0..3).map(|_| run_json(&env, &text)).collect();
    settle();
    assert_eq!(sleepers(&nap), 1);
    wait_for_sleepers(&nap, 3);
    for child in children.into_iter().chain([owner]) {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3));
    }
    landed(&env);
}

#[test]
fn nobody_waits_for_what_would_run_anyway() {
    let env = TestEnv::new();
    let nap = own_nap(1, 4);
    let look = format!("cat /dev/null; sleep {nap}");
    let host = ["run", "-q", "--from", "host"];
    let args = |more: &[&'static str]| [&host[..], more].concat();
    let begin = |args: &[&str], text: &str| start(&env, &[args, &["-c", text]].concat());
    // Known to change nothing; asked to run afresh; disposable.
    ended_well(begin(&host, &look));
    for (more, text) in [
        (args(&[]), look.clone()),
        (args(&["--fresh"]), format!("echo x > /x; sleep {nap}")),
        (args(&["--disposable"]), format!("echo y > /y; sleep {nap}")),
    ] {
        let both = [begin(&more, &text), begin(&more, &text)];
        wait_for_sleepers(&nap, 2);
        both.into_iter().for_each(ended_well);
    }
    // What it says is wanted again, whoever makes it: then even a look is waited for.
    let always = args(&["--reuse", "always"]);
    let look = format!("echo always; sleep {nap}");
    let both = [begin(&always, &look), begin(&always, &look)];
    wait_for_sleepers(&nap, 1);
    settle();
    assert_eq!(sleepers(&nap), 1);
    both.into_iter().for_each(ended_well);
    landed(&env);
}

fn ended_well(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn who_waits_is_told_for_whom_and_ends_with_a_signal_or_when_its_time_is_up() {
    let env = TestEnv::new();
    let nap = own_nap(4, 5);
    let text = format!("echo x > /x; sleep {nap}");
    let owner = start(&env, &["run", "-q", "--from", "host", "-c", &text]);
    wait_for_sleepers(&nap, 1);
    let interrupted = start(&env, &["run", "--from", "host", "-c", &text]);
    let quiet = start(&env, &["run", "-q", "--from", "host", "-c", &text]);
    let late = start(&env, &["run", "--from", "host", "--timeout", "300ms", "-c", &text]);
    let output = late.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(124), "{said}");
    let whom = format!("process {}", owner.id());
    assert_eq!(
        said,
        format!(
            "treebox: the time was up before {whom} had ended, which runs the same command on the same state\n"
        )
    );
    std::thread::sleep(Duration::from_millis(1200));
    signal(&interrupted, Signal::SIGINT);
    signal(&quiet, Signal::SIGTERM);
    let asked = Instant::now();
    let output = interrupted.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(said, format!("treebox: waiting for {whom}, which runs the same command on the same state\n"));
    let output = quiet.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(143), Vec::new()));
    assert!(asked.elapsed() < Duration::from_secs(1), "a signal is heard at once");
    assert_eq!(sleepers(&nap), 1, "the owner goes on");
    ended_well(owner);
    assert_eq!(env.shell("host", &text)["reused"], true);
    landed(&env);
}

#[test]
fn a_wait_ends_when_the_engine_is_told_to_wait_no_more() {
    let env = TestEnv::new();
    let nap = own_nap(3, 6);
    let text = format!("echo x > /x; sleep {nap}");
    let owner = run_json(&env, &text);
    wait_for_sleepers(&nap, 1);
    let cancel = Cancel::new();
    let options = EngineOptions::at(env.store()).worker(treebox()).cancel(cancel.clone());
    let state = Engine::open(options).unwrap().resolve("host").unwrap();
    let waiting = std::thread::spawn(move || state.run(&Command::shell(text)));
    settle();
    assert!(!waiting.is_finished());
    cancel.cancel();
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    ended(owner);
}

#[test]
fn a_race_that_stops_the_one_that_runs_lets_one_who_waits_take_over() {
    let env = TestEnv::new();
    let nap = own_nap(2, 7);
    let slow = Command::shell(format!("head -c 8 /dev/urandom > /random; sleep {nap}"));
    let engine = engine(&env);
    let base = engine.resolve("host").unwrap();
    let quick = Command::shell("sleep 0.7; echo quick > /way");
    let (race, others) = std::thread::scope(|scope| {
        let racing = scope.spawn(|| base.race(&[slow.clone(), quick], 2));
        wait_for_sleepers(&nap, 1);
        let others: Vec<_> = (0..3).map(|_| scope.spawn(|| base.run(&slow).unwrap())).collect();
        let race = racing.join().unwrap();
        (race, others.into_iter().map(|other| other.join().unwrap()).collect::<Vec<_>>())
    });
    assert_eq!(race.winner, Some(1));
    assert_eq!(others.iter().filter(|outcome| !outcome.reused).count(), 1);
    assert!(others.iter().all(|outcome| outcome.state().id() == others[0].state().id()));
    // One who waits in a race is stopped with it, and what it waited for goes on.
    let other = Command::shell(format!("echo other > /other; sleep {nap}"));
    let (race, outcome) = std::thread::scope(|scope| {
        let running = scope.spawn(|| base.run(&other).unwrap());
        wait_for_sleepers(&nap, 1);
        let ways = [other.clone(), Command::shell("sleep 0.1; echo quick > /second-way")];
        (base.race(&ways, 2), running.join().unwrap())
    });
    assert_eq!(race.winner, Some(1));
    assert!(matches!(race.fates[0], treebox::Fate::Cancelled), "{:?}", race.fates);
    assert!(!outcome.reused);
    landed(&env);
}

#[test]
fn of_eight_processes_one_reads_an_image_and_nothing_is_kept_twice() {
    let env = TestEnv::new();
    env.ok(&[
        "run",
        "-q",
        "--from",
        "host",
        "--branch",
        "main",
        "-c",
        "seq 300000 > /numbers; mkdir /d; touch /d/e",
    ]);
    env.ok(&["export", "main", "oci:image", "--layers", "-q"]);
    let once = TestEnv::empty();
    let source = format!("oci:{}", env.path("image").display());
    once.ok(&["import", &source, "-q", "--name", "image"]);

    let many = TestEnv::empty();
    // The store is there, so that all of them come to the image at about the same time.
    many.ok(&["branch"]);
    let children: Vec<Child> =
        (0..8).map(|_| start(&many, &["--json", "import", &source, "--name", "image"])).collect();
    let results: Vec<Value> = children.into_iter().map(ended).collect();
    assert!(results.iter().all(|result| result["state"] == results[0]["state"]), "{results:?}");
    assert_eq!(many.ok(&["ls", "-R", "image:/"]), once.ok(&["ls", "-R", "image:/"]));
    let kept = |env: &TestEnv, part: &str| bytes_below(&env.store().join(part));
    assert_eq!(kept(&many, "objects"), kept(&once, "objects"), "trees, states or files are there twice");
    assert_eq!(kept(&many, "originals"), kept(&once, "originals"));
    landed(&many);
}
