//! Many processes and threads on one store.

mod flights;
mod refs;
mod stress;

use crate::support::TestEnv;

/// Runs stock git on a store's history.
fn git(env: &TestEnv, args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new("git");
    env.isolate(&mut command);
    command.arg("--git-dir").arg(env.store().join("history.git")).args(args).output().expect("git runs")
}

fn git_finds_nothing_wrong(env: &TestEnv) {
    let checked = git(env, &["fsck", "--strict", "--no-dangling", "--no-progress"]);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.success() && said.is_empty(),
        "{said}{}",
        String::from_utf8_lossy(&checked.stdout)
    );
}
