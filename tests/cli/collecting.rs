//! `gc` and `du`: what goes, what stays and why, and a bound that is kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::{TestEnv, masked_json, names};

/// What `du -s` says of the store, in bytes.
fn du(env: &TestEnv) -> u64 {
    let output = std::process::Command::new("du").args(["-s", "-B1"]).arg(env.store()).output().unwrap();
    // Files that go meanwhile are no failure.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {value}"))
}

/// A text with sizes taken out.
fn sizeless(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut kept = Vec::new();
        for word in line.split_whitespace() {
            let unit = ["B", "KiB", "MiB", "GiB"].iter().any(|unit| *unit == word.trim_end_matches(';'));
            if unit {
                kept.pop();
                kept.push("[SIZE]");
            } else {
                kept.push(word);
            }
        }
        words.push(kept.join(" "));
    }
    words.join("\n")
}

/// A store with something of every kind that can go.
fn with_garbage() -> TestEnv {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "echo kept > /kept"]);
    env.ok(&["switch", "-q", "-c", "side"]);
    env.ok(&["run", "-q", "-c", "echo gone > /gone"]);
    env.ok(&["switch", "-q", "main"]);
    env.ok(&["branch", "-q", "-d", "side"]);
    env.ok(&["run", "-q", "--from", "main", "-c", "echo nameless > /nameless"]);
    env
}

#[test]
fn a_plan_is_printed_and_then_carried_out_and_what_refs_lead_to_stays() {
    let env = with_garbage();
    let plan = env.run(&["gc", "-n", "--keep-days", "0"]);
    insta::assert_snapshot!(sizeless(&plan.text()), @"
    layers 4 [SIZE]
    remembered runs 2
    log lines 13
    states, trees 6 [SIZE]
    blobs 2 [SIZE]
    ");
    insta::assert_snapshot!(sizeless(&plan.stderr), @"treebox: nothing was touched; the store takes [SIZE]");
    let before = names(&env.store().join("layers")).len();
    assert!(before > 2, "a dry run touches nothing");
    // By default nothing of it is old enough.
    assert_eq!(env.ok(&["gc"]), "");
    assert_eq!(names(&env.store().join("layers")).len(), before);
    let done = env.json(&["gc", "--keep-days", "0"]);
    assert_eq!((number(&done, "/blobs"), number(&done, "/runs"), number(&done, "/over_bytes")), (2, 2, 0));
    assert_eq!(done["states"].as_array().unwrap().len(), 2);
    assert_eq!(number(&done, "/history_objects"), 3);
    assert_eq!(names(&env.store().join("layers")), Vec::<String>::new());
    assert_eq!(env.ok(&["cat", "main:/kept"]), "kept\n");
    assert_eq!(env.shell("main", "cat /kept")["stdout"], "kept\n");
    assert!(env.fails(125, &["undo"]).contains("nothing to take back: `treebox gc` keeps"));
    assert_eq!(env.json_lines(&["op", "log"]).len(), 0);
    // It is a history like any other.
    env.ok(&["run", "-q", "-c", "echo more > /more"]);
    env.ok(&["undo"]);
    assert_eq!(env.json_lines(&["log"]).len(), 2);
}

#[test]
fn the_parts_of_a_store_come_to_what_du_says_and_each_ref_has_its_share() {
    let env = with_garbage();
    let dir = env.path("from");
    for number in 0..200 {
        env.file(&format!("from/{number}"), "x".repeat(number * 40));
    }
    env.ok(&["import", "-q", &format!("dir:{}", dir.display()), "--name", "files"]);
    env.ok(&["tag", "-q", "v1", "main"]);
    let found = env.json(&["du"]);
    let (ours, theirs) = (number(&found, "/size/total"), du(&env));
    assert!(ours.abs_diff(theirs) * 50 <= theirs, "{ours} {theirs}");
    let holder = |kind: &str, name: &str| {
        let holders = found["holders"].as_array().unwrap();
        let one = holders.iter().find(|one| one["kind"] == kind && one["name"] == name).unwrap();
        (number(one, "/total_bytes"), number(one, "/exclusive_bytes"))
    };
    let (host, files) = (holder("image", "host:latest"), holder("image", "files:latest"));
    assert_eq!(host.1, 0, "main has all of it too");
    assert!(files.1 > 500_000 && files.0 - files.1 < 16_384, "{files:?}");
    assert_eq!(holder("branch", "main"), holder("tag", "v1"));
    assert!(holder("branch", "main").0 > host.0);
    assert!(holder("logs", "").0 > 0 && holder("runs", "").1 > 0, "nothing else leads to what has no name");
    assert_eq!(found["garbage_bytes"], 0);
    let text = env.ok(&["du"]);
    assert!(text.contains("  image files:latest\n") && text.contains("  together\n"), "{text}");
}

#[test]
fn each_state_and_layer_says_why_it_is_kept() {
    let env = with_garbage();
    insta::assert_snapshot!(masked_json(&env.run(&["--json", "du", "--why", "main"]).text()), @r#"{"kind":"state","name":"[ID]","why":["HEAD","branch main","recorded run"]}"#);
    insta::assert_snapshot!(masked_json(&env.run(&["--json", "du", "--why", "main~"]).text()), @r#"{"kind":"state","name":"[ID]","why":["branch main","image host:latest"]}"#);
    let all = env.ok(&["du", "--why"]);
    assert!(all.contains("remembered run, last used today: echo nameless > /nameless\n"), "{all}");
    assert!(all.contains("    log of HEAD, today\n"), "{all}");
    assert_eq!(all.matches("layer ").count(), names(&env.store().join("layers")).len());
    env.fails(2, &["du", "main"]);
}

#[test]
fn a_store_that_may_not_grow_drops_what_was_not_used_for_longest_and_then_refuses() {
    const CAP: u64 = 60 << 20;
    let env = TestEnv::on_main();
    env.ok(&["gc", "-q", "--max-size", "60M"]);
    let (most, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(du(&env), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let grow = |name: &str| format!("head -c 9000000 /dev/urandom > /{name}");
        let first = env.step("main", &grow("0"));
        let second = env.step("main", &grow("1"));
        for name in ["2", "3", "4", "5", "6"] {
            env.step("main", &grow(name));
        }
        // The oldest results are gone, what refs lead to is not.
        env.fails(125, &["ls", &format!("{first}:/")]);
        env.fails(125, &["ls", &format!("{second}:/")]);
        assert_eq!(env.shell("main", "test -e /bin/sh && echo ok")["stdout"], "ok\n");
        let from = format!("dir:{}", env.path("from").display());
        for file in 0..8 {
            env.file(&format!("from/{file}"), vec![file; 3 << 20]);
        }
        env.ok(&["import", "-q", &from, "--name", "files"]);
        let states = || env.json_lines(&["images"]).len();
        for file in 8..24 {
            env.file(&format!("from/{file}"), vec![file; 3 << 20]);
        }
        let refused = env.fails(125, &["import", "-q", &from, "--name", "more"]);
        assert!(refused.contains("nothing more can be removed"), "{refused}");
        assert_eq!(states(), 2);
        let killed = env.run(&["run", "-q", "-c", "head -c 90000000 /dev/urandom > /huge"]);
        assert_eq!(killed.code, 125, "{}", killed.stderr);
        assert!(killed.stderr.contains("since the store may take 62914560"), "{}", killed.stderr);
        over.store(true, Ordering::Relaxed);
    });
    let most = most.load(Ordering::Relaxed);
    assert!(most > CAP / 2, "{most}");
    // What a run wrote since it was last looked at, and what is on its way to its place while it is counted.
    const SLACK: u64 = 2 << 20;
    assert!(most <= CAP + SLACK, "{most} is more than {CAP} and {SLACK}");
    // What must stay is more than it may be: that is said, and nothing is lost.
    let too_small = env.run(&["gc", "--max-size", "1M"]);
    assert_eq!(too_small.code, 1);
    assert!(too_small.stderr.contains("more than --max-size"), "{}", too_small.stderr);
    assert_eq!(env.json(&["show", "main"])["commit"], env.json(&["show", "host"])["commit"]);
    env.ok(&["gc", "-q", "--max-size", "none"]);
    env.step("main", "head -c 9000000 /dev/urandom > /again");
}

#[test]
fn the_bound_can_be_given_by_the_environment_and_must_be_a_size() {
    let env = TestEnv::on_main();
    let run = |bound: &str| {
        let mut command = env.command(&["run", "-c", "head -c 9000000 /dev/urandom > /big"]);
        command.env("TREEBOX_MAX_SIZE", bound).output().unwrap()
    };
    assert_eq!(run("much").status.code(), Some(2));
    assert_eq!(run("24M").status.code(), Some(125));
    assert_eq!(run("100M").status.code(), Some(0));
    assert!(!env.store().join("max-size").exists());
}

#[test]
fn caches_and_originals_that_nothing_uses_go_too() {
    let env = TestEnv::on_main();
    env.ok(&[
        "run",
        "-q",
        "--mount",
        "type=cache,id=c,dst=/cache",
        "-c",
        "head -c 100000 /dev/zero > /cache/x; echo > /y",
    ]);
    let archive = format!("oci-archive:{}", env.path("out.tar").display());
    env.ok(&["export", "-q", "main", &archive]);
    env.ok(&["import", "-q", &archive, "--name", "copy"]);
    let originals = || names(&env.store().join("originals/sha256")).len();
    let all = originals();
    assert!(all >= 2);
    env.ok(&["gc", "-q", "--keep-days", "1"]);
    assert_eq!(originals(), all, "an image consists of them");
    env.ok(&["images", "rm", "copy"]);
    let done = env.json(&["gc", "--keep-days", "0"]);
    assert_eq!(done["caches"][0]["name"], "c");
    assert_eq!(done["originals"].as_array().unwrap().len(), all);
    assert_eq!(originals(), 0);
    // A cache is made anew.
    let again = env.json(&["run", "--mount", "type=cache,id=c,dst=/cache", "-c", "ls /cache"]);
    assert_eq!((&again["exit_code"], again["stdout"].as_str()), (&0.into(), Some("")));
}
