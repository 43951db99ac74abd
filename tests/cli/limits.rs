//! What a run may use, and what happens when it uses more.

use std::time::{Duration, Instant};

use crate::support::TestEnv;

#[test]
fn a_run_over_its_memory_is_killed_and_told_so() {
    let env = TestEnv::new();
    // Two processes, neither of which is over the limit alone.
    let greedy = "hold() { x=$(head -c 48M /dev/zero | tr '\\0' x); sleep 20; }; hold & hold & wait";
    let began = Instant::now();
    let ran =
        env.json(&["run", "--from", "host", "--disposable", "--memory", "80m", "--", "bash", "-c", greedy]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!((&ran["signal"], &ran["limits"]["killed_for"]), (&9.into(), &"memory".into()), "{ran}");
    assert_eq!(ran["limits"]["memory"]["value"], 80 << 20);
    let args = ["run", "--from", "host", "--disposable", "--memory", "80m", "--", "bash", "-c", greedy];
    let told = env.run(&args);
    assert_eq!(told.code, 137);
    assert!(told.stderr.contains("killed: over the memory limit of 80.0 MiB"), "{}", told.stderr);
    assert!(told.stderr.starts_with("treebox: limits: memory 80.0 MiB "), "{}", told.stderr);
    // What stays below is left alone, and with -q nothing is said about it.
    let quiet =
        env.run(&["run", "--from", "host", "-q", "--disposable", "--memory", "80m", "-c", "echo fine"]);
    assert_eq!((quiet.code, quiet.text().as_str(), quiet.stderr.as_str()), (0, "fine\n", ""));
}

#[test]
fn more_processes_than_allowed_cannot_be_had() {
    let env = TestEnv::new();
    let many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 30 & done; sleep 0.5; echo all; kill $(jobs -p)";
    let run = |limit: &str| {
        let args = ["run", "--from", "host", "--disposable", "--timeout", "4s", "--pids", limit];
        env.json(&[&args[..], &["--", "bash", "-c", many]].concat())
    };
    let ran = run("10");
    let refused = ran["stderr"].as_str().unwrap().contains("fork");
    assert!(refused || ran["limits"]["killed_for"] == "pids", "{ran}");
    assert_ne!(ran["stdout"], "all\n", "{ran}");
    let ran = run("40");
    assert_eq!((&ran["stdout"], &ran["limits"]["pids"]["value"]), (&"all\n".into(), &40.into()), "{ran}");
}

#[test]
fn processors_are_limited() {
    let env = TestEnv::new();
    let args = ["run", "--from", "host", "--disposable", "--cpus", "0.5", "-c"];
    let ran = env.json(&[&args[..], &["grep Cpus_allowed_list /proc/self/status"]].concat());
    assert_eq!(ran["limits"]["cpus"]["value"], 0.5, "{ran}");
    let allowed = ran["stdout"].as_str().unwrap().rsplit_once('\t').unwrap().1;
    let one = allowed.trim().parse::<u32>().is_ok();
    assert!(one || ran["limits"]["cpus"]["by"] == "cgroup", "{ran}");
}

#[test]
fn limits_do_not_count_in_the_key_and_say_nothing_where_there_are_none() {
    let env = TestEnv::new();
    let first = env.json(&["run", "--from", "host", "-c", "echo x > /x"]);
    assert!(first.get("limits").is_none(), "{first}");
    let limited = ["--memory", "1g", "--cpus", "1", "--pids", "100", "--disk", "1g"];
    let again = env.json(&[&["run", "--from", "host"], &limited[..], &["-c", "echo x > /x"]].concat());
    assert_eq!((&again["reused"], &again["state"]), (&true.into(), &first["state"]));
    assert!(again.get("limits").is_none(), "{again}");
}

#[test]
fn senseless_limits_are_refused() {
    let env = TestEnv::new();
    for (option, value) in [
        ("--memory", "12q"),
        ("--memory", ""),
        ("--cpus", "0"),
        ("--cpus", "-1"),
        ("--pids", "0"),
        ("--disk", "x"),
    ] {
        env.fails(2, &["run", "--from", "host", option, value, "-c", "true"]);
    }
    for timeout in ["0", "-1", "0s"] {
        env.fails(2, &["run", "--from", "host", "--timeout", timeout, "-c", "true"]);
    }
    let line = env.fails(125, &["run", "--from", "host", "--memory", "1k", "-c", "true"]);
    assert!(line.contains("at least 1 MiB"), "{line}");
}

#[test]
fn a_run_that_writes_too_much_is_stopped_and_leaves_nothing() {
    let env = TestEnv::on_main();
    let before = env.ok(&["log", "--oneline"]);
    let one_file = "exec 2>/dev/null; head -c 64M /dev/zero > /big; echo survived; sleep 30";
    let many_files = "i=0; while :; do i=$((i+1)); head -c 200000 /dev/zero > /file$i; done";
    let deaf = "trap '' XFSZ; head -c 64M /dev/zero > /big; true";
    let linked =
        "mkdir /d; i=0; while :; do i=$((i+1)); head -c 200000 /dev/zero > /d/$i; ln /d/$i /d/again$i; done";
    for script in [one_file, many_files, deaf, linked] {
        let began = Instant::now();
        let ran = env.run(&["run", "--disk", "8m", "--timeout", "60s", "--", "bash", "-c", script]);
        assert_eq!(ran.code, 125, "{script}: {}", ran.stderr);
        assert!(ran.stderr.contains("its limit is 8388608"), "{script}: {}", ran.stderr);
        assert!(began.elapsed() < Duration::from_secs(40), "{script}: {:?}", began.elapsed());
    }
    assert_eq!(env.ok(&["log", "--oneline"]), before);
    // What stays below is kept, also when many names lead to the same bytes.
    let below = "head -c 6M /dev/zero | tr '\\0' x > /a; ln /a /b; ln /a /c";
    let kept = env.json(&["run", "--disk", "8m", "-c", below]);
    assert_eq!((&kept["exit_code"], &kept["changes"]["added"]), (&0.into(), &3.into()), "{kept}");
    let nearly = env.json(&[
        "run",
        "--disk",
        "8m",
        "-c",
        "head -c 8000000 /dev/zero | tr '\\0' y > /tmp/hole; rm /tmp/hole",
    ]);
    assert_eq!(nearly["exit_code"], 0, "{nearly}");
}

#[test]
fn a_run_out_of_time_ends_with_everything_that_it_started() {
    let env = TestEnv::new();
    let stubborn = "trap '' TERM INT HUP; echo begun; (setsid sh -c 'trap \"\" TERM HUP; sleep 1011 & sleep 1011' \
                    >/dev/null 2>&1 &); sleep 1011; sleep 1011";
    let began = Instant::now();
    let ran = env.json(&["run", "--from", "host", "--timeout", "1s", "-c", stubborn]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((&ran["timed_out"], &ran["stdout"]), (&true.into(), &"begun\n".into()), "{ran}");
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x001011\0")
    });
    assert_eq!(left.count(), 0);
    let args = ["run", "--from", "host", "--timeout", "1s", "-c", "echo begun; sleep 1012"];
    let told = env.run(&args);
    assert_eq!((told.code, told.text().as_str()), (124, "begun\n"));
    assert!(told.stderr.contains("timed out"), "{}", told.stderr);
}

#[test]
fn a_flood_of_output_is_cut_in_what_is_kept_and_passed_on_whole() {
    let env = TestEnv::new();
    let flood = "head -c 30M /dev/zero | tr '\\0' x; head -c 5M /dev/zero | tr '\\0' y >&2";
    let ran = env.json(&["run", "--from", "host", "--disposable", "--max-output", "1000", "-c", flood]);
    assert_eq!((&ran["truncated"], &ran["exit_code"]), (&true.into(), &0.into()));
    assert_eq!(
        (ran["stdout"].as_str().unwrap(), ran["stderr"].as_str().unwrap()),
        (&*"x".repeat(1000), &*"y".repeat(1000))
    );
    let whole =
        env.run(&["run", "--from", "host", "--disposable", "-q", "--max-output", "1000", "-c", flood]);
    assert_eq!((whole.stdout.len(), whole.stderr.len()), (30 << 20, 5 << 20));
}
