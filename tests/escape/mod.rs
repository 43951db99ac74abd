//! What a hostile command tries, and that it comes to nothing.
//!
//! Each attack really runs: `attack.rs` is this very test program, copied into a state. A refusal is asserted by its error number, and
//! the same attack is made outside of a sandbox, or with `--allow`, where it can succeed, so that a test cannot pass because the
//! attack is broken. What a machine cannot express is said aloud, and fails where `CI` is set.

mod attack;
mod calls;
mod files;
mod images;
mod processes;
mod store;

use std::process::Command as Process;
use std::sync::OnceLock;

use nix::libc;
use treebox::blocking::{Engine, State};
use treebox::{Command, EngineOptions, ImportSource};

struct Shared {
    engine: Engine,
    base: State,
    dir: tempfile::TempDir,
}

/// One engine for all attacks; its base has the host's programs and `/attack`.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let options = EngineOptions::at(dir.path().join("store")).worker(crate::support::treebox());
        let engine = Engine::open(options).unwrap();
        let host = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
        let copy = Command::shell("chmod 755 /attack").copy(std::env::current_exe().unwrap(), "/attack");
        let base = host.run(&copy).unwrap().state().clone();
        Shared { engine, base, dir }
    })
}

/// An attack with its arguments, as words.
type Attack<'a> = &'a str;

/// What attacks say that are made one after the other in one sandbox.
fn inside_with(change: impl Fn(Command) -> Command, attacks: &[Attack<'_>]) -> Vec<String> {
    let script: Vec<String> =
        attacks.iter().map(|attack| format!("/attack {} {attack} || echo died", attack::ARGUMENT)).collect();
    let command = change(Command::shell(script.join("\n")).disposable(true));
    let outcome = shared().base.run(&command).unwrap();
    let out = String::from_utf8(outcome.stdout).unwrap();
    let said: Vec<String> = out.lines().map(str::to_owned).collect();
    assert_eq!(said.len(), attacks.len(), "{out}\n{}", String::from_utf8_lossy(&outcome.stderr));
    said
}

fn inside(attack: Attack<'_>) -> String {
    inside_with(|command| command, &[attack]).remove(0)
}

/// What the same attack says on the host, as the user that the tests run as.
fn outside(attack: Attack<'_>) -> String {
    let mut process = Process::new(std::env::current_exe().unwrap());
    let output = process.arg(attack::ARGUMENT).args(attack.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Makes attacks in one sandbox; each must be refused with its error number.
fn refused(cases: &[(Attack<'_>, i32)]) {
    refused_with(|command| command, cases);
}

fn refused_with(change: impl Fn(Command) -> Command, cases: &[(Attack<'_>, i32)]) {
    let attacks: Vec<Attack<'_>> = cases.iter().map(|(attack, _)| *attack).collect();
    let said = inside_with(change, &attacks);
    let wrong: Vec<String> = cases
        .iter()
        .zip(&said)
        .filter(|((_, errno), said)| **said != errno.to_string())
        .map(|((attack, errno), said)| format!("{attack}: {said}, not {errno}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What this machine cannot show: said aloud, and no success where all must be shown.
fn not_here(what: &str) {
    eprintln!("NOT SHOWN on this machine: {what}");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "not shown on this machine: {what}");
}

/// Whether the kernel is of that version or later.
fn kernel_has(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= version
}

/// Whether the tests run as real root, whom some protections of the host do not bind.
fn real_root() -> bool {
    nix::unistd::geteuid().is_root()
}
