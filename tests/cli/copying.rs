//! `cp`, both ways and as a tar stream.

use crate::support::{TestEnv, masked, names};

#[test]
fn a_copy_into_a_branch_is_a_commit() {
    let env = TestEnv::on_main();
    env.file("greeting", "hello\n");
    let ran = env.run(&["cp", "greeting", "main:/tmp/greeting"]);
    assert_eq!((ran.code, ran.text().as_str()), (0, ""));
    assert_eq!(masked(&ran.stderr), "treebox: main [ID] (+1 ~0 -0)\n");
    assert_eq!(env.ok(&["cat", ":/tmp/greeting"]), "hello\n");
    let commits = env.json_lines(&["log"]);
    assert_eq!(commits.len(), 2);
    assert!(commits[0]["command"].as_str().unwrap().starts_with("cp "), "{}", commits[0]);
    assert_eq!(commits[0]["exit_code"], serde_json::Value::Null);
    let again = env.json(&["cp", "greeting", ":/tmp/greeting"]);
    assert_eq!((&again["branch"], &again["state"]), (&"main".into(), &env.json(&["status"])["state"]));
}

#[test]
fn a_directory_goes_into_a_directory_that_is_there() {
    let env = TestEnv::on_main();
    env.file("src/a", "a");
    env.file("src/b/c", "c");
    env.ok(&["cp", "src", ":/tmp"]);
    env.ok(&["cp", "src", ":/new"]);
    assert_eq!(env.ok(&["cat", ":/tmp/src/a", ":/tmp/src/b/c", ":/new/a"]), "aca");
    env.fails(125, &["cp", "src", ":/missing/"]);
}

#[test]
fn a_copy_out_of_a_state_lands_under_its_name() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "mkdir /d; echo 1 > /d/one; chmod 600 /d/one"]);
    env.ok(&["cp", "main:/d", "out"]);
    assert_eq!(std::fs::read(env.path("out/one")).unwrap(), b"1\n");
    env.ok(&["cp", "main:/d/one", "out"]);
    env.file("x:/z", "");
    env.ok(&["cp", ":/d/one", "./x:/y"]);
    assert_eq!(names(&env.path("x:")), ["y", "z"]);
    assert_eq!(names(&env.path("out")), ["one"]);
    env.fails(125, &["cp", "main:/none", "out"]);
}

#[test]
fn a_minus_is_a_tar_stream_both_ways() {
    let env = TestEnv::on_main();
    env.ok(&["run", "-q", "-c", "mkdir /d /copy; echo 1 > /d/one; ln -s one /d/two"]);
    let stream = env.run(&["cp", "main:/d", "-"]);
    assert_eq!((stream.code, stream.stdout.len() % 512), (0, 0));
    let ran = env.run_with_input(&["cp", "-", "main:/copy"], &stream.stdout);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let below = env.ok(&["ls", "-R", ":/copy"]);
    assert!(below.contains("one\n") && below.contains("two\n"), "{below}");
    let broken = env.run_with_input(&["cp", "-", "main:/copy"], b"this is no tar stream");
    assert_eq!(broken.code, 125, "{}", broken.stderr);
}

#[test]
fn a_copy_from_state_to_branch_needs_no_host() {
    let env = TestEnv::on_main();
    env.ok(&["run", "--from", "host", "--branch", "dev", "-q", "-c", "echo 1 > /one"]);
    env.ok(&["cp", "dev:/one", "main:/tmp/one"]);
    assert_eq!(env.ok(&["cat", "main:/tmp/one"]), "1\n");
}

#[test]
fn only_branches_are_copied_into() {
    let env = TestEnv::on_main();
    env.file("f", "f");
    env.ok(&["tag", "v1"]);
    for into in ["v1:/f", "host:/f", "nothing:/f", "main~0:/f"] {
        assert!(env.fails(125, &["cp", "f", into]).contains("is no branch"));
    }
    env.fails(2, &["cp", "f", "g"]);
    env.ok(&["checkout", "v1"]);
    assert!(env.fails(125, &["cp", "f", ":/f"]).contains("on no branch"));
}
