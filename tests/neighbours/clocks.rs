//! Clocks that jump.

use super::*;

#[test]
fn a_clock_that_jumps_changes_no_id_and_orders_nothing() {
    let outcome = |jumps: [&str; 3]| {
        let env = TestEnv::on_main();
        let ran = script(
            &env,
            &format!(
                "export TREEBOX_STORE={}; set -e
                 {} $TB run -q --epoch 5 -c 'echo 1 > /n'
                 {} $TB run -q --epoch 5 -c 'echo 2 > /n'
                 {} $TB run -q --epoch 5 -c 'echo 3 > /n'
                 $TB log --oneline; $TB reflog | sed 's/ main@/ /'; $TB op log --json | grep -c run: ; $TB cat 'main@{{1}}:/n'
                 $TB undo -q; $TB cat :/n; $TB run -c 'echo 3 > /n' --epoch 5 2>&1",
                env.store().display(),
                jumps[0],
                jumps[1],
                jumps[2]
            ),
        );
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{jumps:?}");
        ran.text()
    };
    let steady = outcome(["", "", ""]);
    assert!(steady.ends_with("reused\n"), "{steady}");
    let back = "faketime -f -4000d";
    let far = "faketime -f +9000d";
    for jumps in [["", back, ""], [far, "", back], [back, far, "faketime '1969-12-30 00:00:00'"]] {
        assert_eq!(outcome(jumps), steady, "{jumps:?}");
    }
}

#[test]
fn a_lock_from_the_future_is_named_and_no_wait_is_endless() {
    let env = TestEnv::on_main();
    let lock = env.store().join("history.git/refs/heads/main.lock");
    let file = std::fs::File::create(&lock).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1_000_000)).unwrap();
    let said = env.fails(125, &["run", "-c", "echo x > /x"]);
    assert!(
        said.contains("main.lock is held by another program; remove it if no git process is running"),
        "{said}"
    );
    std::fs::remove_file(&lock).unwrap();
    env.ok(&["run", "-c", "echo x > /x"]);
}
