//! Bad neighbours: disks that lack something or are full, odd paths and names, wrong clocks, strange locales. treebox works there, or says in
//! one line why it does not, and leaves nothing half-made.

mod clocks;
mod disks;
mod full;
mod names;
mod paths;
mod sizes;

use std::process::{Command, Stdio};

use crate::support::{Ran, TestEnv, treebox};

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a shell script in a mount namespace of its own, so that no mount outlives it. `$TB` is treebox, `$DISK` an empty directory to mount on.
///
/// A user is root of a user namespace there, and may mount a tmpfs and an overlay, but no device.
fn script(env: &TestEnv, text: &str) -> Ran {
    let mut command = Command::new("unshare");
    command.arg(if is_root() { "-m" } else { "-rm" }).args(["bash", "-uc", text]);
    env.isolate(&mut command);
    let disk = env.path("disk");
    std::fs::create_dir_all(&disk).unwrap();
    command.env("TB", treebox()).env("DISK", disk).env("TREEBOX_STORE", env.path("disk/store"));
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    Ran::of(command.output().expect("`unshare` of util-linux is needed"))
}

/// What a script says went wrong: nothing but lines of treebox, each error one line.
fn complaints(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| line.starts_with("treebox: ")).collect()
}
