//! `treebox verify`.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{TestEnv, masked, nap, sleepers, wait_for_sleepers};

/// Moves `main` by a command that does one thing now and another when it is verified: what a cache holds is not kept with a run.
fn twofold(env: &TestEnv, now: &str, verified: &str) {
    let run =
        |text: &str| env.ok(&["run", "-q", "--mount", "type=cache,id=c,dst=/c", "--epoch", "0", "-c", text]);
    env.ok(&["run", "-q", "--from", "host", "--mount", "type=cache,id=c,dst=/c", "-c", "touch /c/now"]);
    run(&format!("if test -e /c/now; then {now}; else {verified}; fi"));
}

/// The path, how and hint of each difference that `verify` tells of HEAD.
fn differences(env: &TestEnv) -> String {
    let told = env.json(&["verify", "--epoch", "0"]);
    assert_eq!(told["reproducible"], false, "{told}");
    let paths = told["paths"].as_array().unwrap().iter();
    let lines = paths.map(|one| {
        let how: Vec<_> = one["how"].as_array().unwrap().iter().map(|how| how.as_str().unwrap()).collect();
        let text = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
        let hint = text("hint").split(':').next().unwrap().to_owned();
        format!("{} {} | {} | {hint}", text("path"), how.join(","), text("detail"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_step_that_gives_the_same_again_is_reproducible() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo a > /a; mkdir /d; echo b > /d/b"]);
    // Times are a difference that people want to know of, and one that is clamped.
    let ran = env.run(&["verify"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(masked(&(ran.text() + &ran.stderr)), @r#"
    differs [ID] echo a > /a; mkdir /d; echo b > /d/b
        mtime            /a
        mtime            /d/b
        hint: only times differ: --epoch SECONDS clamps them, here and in run
    treebox: 1 step: 0 reproducible, 1 not
    "#);
    assert_eq!(env.run(&["verify", "--epoch", "0"]).code, 0);
    let mut from_environment = env.command(&["verify"]);
    assert_eq!(from_environment.env("SOURCE_DATE_EPOCH", "0").output().unwrap().status.code(), Some(0));

    // What was clamped when it ran is the same without a word.
    env.ok(&["run", "-q", "--epoch", "0", "-c", "echo c > /c"]);
    assert_eq!(env.run(&["verify"]).code, 0);
    // So is a failure that was kept.
    let failed = env.run(&["run", "-q", "--epoch", "0", "--keep-failed", "-c", "echo d > /d/d; exit 3"]);
    assert_eq!((failed.code, env.ok(&["cat", "main:/d/d"])), (3, "d\n".to_owned()));
    let ran = env.run(&["verify"]);
    assert_eq!((ran.code, ran.text().lines().count()), (0, 1), "{}", ran.text());
}

#[test]
fn every_step_back_to_the_root_is_verified_from_its_own_parent() {
    let env = TestEnv::on_main();
    for text in ["echo a > /a", "date +%N > /n", "cat /n > /copy", "sleep 0.1; echo z > /z"] {
        env.ok(&["run", "-q", "-c", text]);
    }
    let ran = env.run(&["verify", "--all", "--jobs", "3", "--epoch", "0"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stderr, "treebox: 4 steps: 3 reproducible, 1 not\n");
    let steps = env.json_lines(&["verify", "--all", "--jobs", "2", "--epoch", "0"]);
    let of = |command: &str| steps.iter().find(|step| step["command"] == command).unwrap();
    assert_eq!(steps.len(), 5);
    assert_eq!(of("import host:latest")["reproducible"], Value::Null);
    assert_eq!(of("import host:latest")["reason"], "no command made it");
    assert_eq!(of("date +%N > /n")["reproducible"], false);
    assert_eq!(of("date +%N > /n")["paths"][0]["path"], "/n");
    assert_eq!(of("date +%N > /n")["paths"][0]["how"], serde_json::json!(["content"]));
    // Its parent is what was recorded, not what came of verifying that.
    assert_eq!(of("cat /n > /copy")["reproducible"], true);
    assert_eq!(of("echo a > /a")["exit_now"], 0);

    // Nothing was made that a later run would use.
    let number = env.ok(&["cat", "main:/n"]);
    let again = env.json(&["run", "--from", "main~3", "-c", "date +%N > /n"]);
    assert_eq!(
        (&again["reused"], env.ok(&["cat", &format!("{}:/n", again["state"].as_str().unwrap())])),
        (&true.into(), number)
    );
}

#[test]
fn both_sides_of_a_merge_are_verified_and_the_merge_is_named() {
    let env = TestEnv::on_main();
    env.ok(&["switch", "-q", "-c", "side"]);
    env.ok(&["run", "-q", "-c", "echo side > /side"]);
    env.ok(&["switch", "-q", "main"]);
    env.ok(&["run", "-q", "-c", "echo main > /main"]);
    env.ok(&["merge", "-q", "side"]);
    let steps = env.json_lines(&["verify", "--all", "--epoch", "0"]);
    let mut told: Vec<_> =
        steps.iter().map(|step| format!("{} {}", step["reproducible"], step["command"])).collect();
    told.sort();
    insta::assert_snapshot!(told.join("\n"), @r#"
    null "import host:latest"
    null "merge side"
    true "echo main > /main"
    true "echo side > /side"
    "#);
}

#[test]
fn what_differs_is_told_with_its_likely_cause() {
    let env = TestEnv::on_main();
    twofold(
        &env,
        "echo 1 > /random-a; printf 'a\\nb\\n' > /order; echo x > /mode; echo x > /owner; echo x > /kind; \
         ln -s a /link; echo x > /h1; ln /h1 /h2; mkdir -p /var/log /__pycache__; echo at 10:20 > /stamp; \
         echo 1 > /var/log/x.log; echo 1 > /__pycache__/m.pyc; mkdir /only; echo y > /only/then",
        "echo 1 > /random-b; printf 'b\\na\\n' > /order; echo x > /mode; chmod 600 /mode; echo x > /owner; mkdir /kind; \
         ln -s b /link; echo x > /h1; echo x > /h2; mkdir -p /var/log /__pycache__; echo at 11:59 > /stamp; \
         echo 2 > /var/log/x.log; echo 2 > /__pycache__/m.pyc",
    );
    insta::assert_snapshot!(differences(&env), @r#"
    /__pycache__/m.pyc content | line 1: `1` then, `2` now | Python writes the source's time into .pyc files
    /h1 links | - | -
    /h2 links | - | -
    /kind kind,mode | a file then, a directory now; mode 0644 then, 0755 now | -
    /link content | to `a` then, to `b` now | -
    /mode mode | mode 0644 then, 0600 now | -
    /only missing | - | -
    /only/then missing | - | -
    /order order | the same lines in another order; line 1: `a` then, `b` now | the order of a directory's entries is the file system's
    /random-a missing | - | the same is at /random-b on the other side
    /random-b new | - | the same is at /random-a on the other side
    /stamp content | line 1: `at 10:20` then, `at 11:59` now | a time or number differs
    /var/log/x.log content | line 1: `1` then, `2` now | logs hold times
    "#);
    let ran = env.run(&["verify", "--epoch", "0"]);
    assert_eq!(ran.code, 1);
    let text = ran.text();
    let hints: Vec<_> = text.lines().filter(|line| line.starts_with("    hint: ")).collect();
    assert_eq!(hints.len(), 6, "each is told once: {text}");
    assert!(text.contains(
        "\n    order            /order: the same lines in another order; line 1: `a` then, `b` now\n"
    ));
    assert!(
        text.contains(
            "\n    kind,mode        /kind: a file then, a directory now; mode 0644 then, 0755 now\n"
        )
    );
}

#[test]
fn another_exit_code_is_a_difference() {
    let env = TestEnv::on_main();
    twofold(&env, "echo x > /x", "echo x > /x; exit 4");
    let told = env.json(&["verify", "--epoch", "0"]);
    assert_eq!(
        (&told["reproducible"], &told["exit_then"], &told["exit_now"]),
        (&false.into(), &0.into(), &4.into())
    );
    assert_eq!(told["paths"], serde_json::json!([]));
    assert_eq!(told["notes"], serde_json::json!(["it had a cache, which holds something else now"]));
    assert!(env.run(&["verify", "--epoch", "0"]).text().contains("    exit 0 then, 4 now\n"));
}

#[test]
fn steps_that_cannot_be_run_again_are_named() {
    let env = TestEnv::on_main();
    env.file("token", "correct horse");
    env.ok(&["run", "-q", "--secret", "id=t,src=token", "--epoch", "0", "-c", "echo x > /x"]);
    let ran = env.run(&["verify"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(masked(&(ran.text() + &ran.stderr)), @r#"
    cannot  [ID] echo x > /x
        cannot run `echo x > /x` again: the secret that was mounted at /run/secrets/t is not kept
    treebox: 1 step: 0 reproducible, 0 not, 1 cannot be run again
    "#);
    let told = env.json(&["verify"]);
    assert_eq!(told["reproducible"], Value::Null);
    assert!(told["reason"].as_str().unwrap().contains("secret"), "{told}");

    env.ok(&["run", "-q", "--network", "host", "--epoch", "0", "-c", "echo y > /y"]);
    let told = env.json(&["verify"]);
    assert_eq!(told["reproducible"], true);
    assert_eq!(told["notes"], serde_json::json!(["it had the host's network, where answers change"]));

    assert_eq!(env.run(&["verify", "host"]).code, 1, "nothing was verified");
    env.fails(125, &["verify", "nowhere"]);
}

#[test]
fn what_a_run_brought_along_is_brought_again() {
    let env = TestEnv::on_main();
    let file = env.file("brought", "brought\n");
    let copy = format!("{}:/brought", file.display());
    env.ok(&[
        "run",
        "-q",
        "--epoch",
        "0",
        "--copy",
        &copy,
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-c",
        "cat /brought > /out; echo $A $PWD >> /out",
    ]);
    std::fs::remove_file(file).unwrap();
    let told = env.json(&["verify"]);
    assert_eq!(told["reproducible"], true, "{told}");
}

#[test]
fn an_interrupt_or_the_time_ends_it() {
    let env = TestEnv::on_main();
    let nap = nap(1083);
    twofold(&env, "echo x > /x", &format!("echo x > /x; sleep {nap}"));
    let told = env.json(&["verify", "--epoch", "0", "--timeout", "0.3"]);
    assert_eq!((&told["reproducible"], &told["exit_now"]), (&false.into(), &124.into()));

    let child = env.command(&["verify"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_sleepers(&nap, 1);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), sleepers(&nap)), (Some(130), 0, 0));
}
