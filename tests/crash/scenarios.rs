//! What is disturbed: a store, and a command on it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use treebox::Durability;
use treebox::history::{BranchName, Expected, History, NewCommit, Options, RefEdit, TagName, Who};

use crate::support::TestEnv;

#[expect(dead_code, reason = "only what makes an old index is asked for")]
#[path = "../../src/index/schema.rs"]
mod schema;

/// A command, and how the store is before it.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Makes the store.
    pub(super) prepare: fn(&TestEnv),
    /// The command; `[HOME]` stands for the home.
    pub(super) command: &'static [&'static str],
    /// Whether doing it again is the same as doing it once.
    pub(super) repeats: bool,
    /// Whether it prints the same whatever is done already.
    pub(super) same_words: bool,
}

const fn once(name: &'static str, prepare: fn(&TestEnv), command: &'static [&'static str]) -> Scenario {
    Scenario { name, prepare, command, repeats: false, same_words: true }
}

const fn repeatable(name: &'static str, prepare: fn(&TestEnv), command: &'static [&'static str]) -> Scenario {
    Scenario { name, prepare, command, repeats: true, same_words: true }
}

pub(super) const STEP: &[&str] =
    &["run", "--epoch", "1000000000", "-c", "echo hello > /hello; rm /etc/motd; ln /etc/name /etc/other"];

pub(super) const OPENING: Scenario = repeatable("open", nothing, &["branch"]);
pub(super) const IMPORT: Scenario =
    repeatable("import of a directory", many_files, &["import", "dir:[HOME]/many", "--name", "many"]);
pub(super) const IMAGE: Scenario =
    repeatable("import of an image", image, &["import", "oci:[HOME]/image", "--name", "image"]);
pub(super) const RUN: Scenario = once("run and commit", base, STEP);
pub(super) const LONG: Scenario = once("run on many layers", stack, STEP);
pub(super) const BRANCH: Scenario = once("branch", steps, &["branch", "new/one", "main"]);
pub(super) const COLLECT: Scenario =
    Scenario { same_words: false, ..repeatable("gc", garbage, &["gc", "--keep-days", "0", "-q"]) };
pub(super) const DELETE: Scenario = once("branch -d", steps, &["branch", "-d", "left"]);
pub(super) const RENAME: Scenario = once("branch -m", steps, &["branch", "-m", "main", "trunk"]);
pub(super) const SWITCH: Scenario = once("switch -c", steps, &["switch", "-c", "new", "left"]);
pub(super) const RESET: Scenario = once("reset", steps, &["reset", "base"]);
pub(super) const MERGE: Scenario = once("merge", sides, &["merge", "right"]);
pub(super) const TAG: Scenario = once("tag", steps, &["tag", "v1"]);
pub(super) const NOTE: Scenario = once("note", steps, &["note", "main", "a word"]);
pub(super) const UNDO: Scenario = once("undo", sides, &["undo"]);
pub(super) const COPY: Scenario = once("cp", steps, &["cp", "[HOME]/many", "main:/many"]);
pub(super) const CHECKOUT: Scenario =
    repeatable("checkout --to", steps, &["checkout", "main", "--to", "[HOME]/out"]);
pub(super) const PACK: Scenario = once("packing", grown, &["tag", "v1"]);
pub(super) const FINISH: Scenario = repeatable("the rest of an edit", half_edit, &["branch"]);
pub(super) const UPGRADE: Scenario = repeatable("upgrade", old_index, &["branch"]);

fn nothing(_: &TestEnv) {}

/// Files of the host to be brought in, and no store.
pub(super) fn only_files(env: &TestEnv) {
    input(env, 12);
    env.file("few/one", "one\n");
    env.file("few/two", "two\n");
}

/// A shell and a few files, as a file system without an image.
fn base(env: &TestEnv) {
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox (busybox-static) is what the tests' commands run in");
    std::fs::create_dir_all(env.path("base/bin")).unwrap();
    std::fs::copy(busybox, env.path("base/bin/sh")).unwrap();
    std::fs::set_permissions(env.path("base/bin/sh"), PermissionsExt::from_mode(0o755)).unwrap();
    for tool in ["rm", "ln", "sleep", "cat"] {
        std::fs::hard_link(env.path("base/bin/sh"), env.path("base/bin").join(tool)).unwrap();
    }
    env.file("base/etc/motd", "welcome\n");
    env.file("base/etc/name", "base\n");
    env.ok(&["import", &format!("dir:{}", env.path("base").display()), "--name", "base", "-q"]);
    env.ok(&["switch", "-c", "main", "base"]);
    input(env, 3);
}

/// A directory to be brought in.
fn input(env: &TestEnv, count: usize) {
    for number in 0..count {
        env.file(&format!("many/{}/{number}", number % 3), format!("file {number}\n").repeat(number + 1));
    }
    env.file("many/empty", "");
}

fn many_files(env: &TestEnv) {
    env.ok(&["branch"]);
    // Enough that some blobs get directories of their own.
    input(env, 68);
}

fn image(env: &TestEnv) {
    let other = TestEnv::empty();
    base(&other);
    other.ok(&["export", "main", &format!("oci:{}", env.path("image").display())]);
    env.ok(&["branch"]);
}

fn step(env: &TestEnv, branch: &str, text: &str) {
    env.ok(&["--identity", "recorded", "run", "--epoch", "1000000000", "--branch", branch, "-c", text, "-q"]);
}

/// Three branches, each with a commit of its own.
pub(super) fn steps(env: &TestEnv) {
    base(env);
    for branch in ["left", "right", "main"] {
        if branch != "main" {
            env.ok(&["branch", branch]);
        }
        step(env, branch, &format!("echo {branch} > /{branch}"));
    }
}

/// The current branch and another that can be merged, and a change of two refs that can be taken back.
fn sides(env: &TestEnv) {
    steps(env);
    env.ok(&["branch", "passing"]);
    env.ok(&["branch", "passed"]);
    env.ok(&["branch", "-d", "passing", "passed"]);
}

/// Branches, and what nothing leads to any more.
fn garbage(env: &TestEnv) {
    steps(env);
    env.ok(&["--identity", "recorded", "run", "--from", "base", "-c", "echo lost > /lost", "-q"]);
    env.ok(&["branch", "-d", "left"]);
}

/// So many steps that the next needs layers to be joined.
fn stack(env: &TestEnv) {
    base(env);
    for number in 0..8 {
        step(env, "main", &format!("echo {number} > /{number}"));
    }
}

/// So many loose objects and refs that the next change packs them.
pub(super) fn grown(env: &TestEnv) {
    steps(env);
    let directory = env.store().join("history.git");
    let history = History::open(&directory, Options { durability: Durability::Batch }).unwrap();
    let main = history.read_ref(&BranchName::new("main").unwrap().into()).unwrap().unwrap();
    let record = history.read_commit(&main).unwrap();
    let tagged = |count: usize, make: bool| {
        let commits = (0..count).map(|number| NewCommit {
            parents: vec![main],
            message: format!("{make} {number}"),
            record: record.record.clone(),
            time_seconds: record.time_seconds + 1,
        });
        history.write_commits(&commits.collect::<Vec<_>>()).unwrap()
    };
    // With the four refs that there are: one fewer than are packed.
    let made = tagged(124, true);
    let edits = made.iter().enumerate().map(|(at, commit)| RefEdit {
        name: TagName::new(&format!("t{at}")).unwrap().into(),
        expected: Expected::Absent,
        new: Some(*commit),
    });
    history.edit(&edits.collect::<Vec<_>>(), "tags", &Who::treebox(1_000_000_000)).unwrap();
    // How many there are is told from four directories, so the rest need not be there.
    let sampled = ["17", "57", "97", "d7"];
    for commit in tagged(1200, false) {
        let hex = commit.to_string();
        if !sampled.contains(&&hex[..2]) {
            std::fs::remove_file(directory.join("objects").join(&hex[..2]).join(&hex[2..])).unwrap();
        }
    }
}

/// Two refs were to move and one has, as an early version noted it, which kept no log of operations.
fn half_edit(env: &TestEnv) {
    steps(env);
    let git = env.store().join("history.git");
    let at = |branch: &str| std::fs::read_to_string(git.join("refs/heads").join(branch)).unwrap();
    let (left, right, main) = (at("left"), at("right"), at("main"));
    std::fs::write(git.join("refs/heads/left"), &main).unwrap();
    std::fs::write(git.join("refs/heads/right.lock"), &main).unwrap();
    std::fs::remove_dir_all(git.join("refs/treebox")).unwrap();
    std::fs::remove_dir_all(git.join("logs/refs/treebox")).unwrap();
    let line =
        |old: &str, name: &str| format!("ref {} {} refs/heads/{name}\n", old.trim_end(), main.trim_end());
    let head = "treebox history edit 1\nwho treebox <treebox@localhost> 1763780000 +0000\nwhy both\n";
    let note = format!("{head}{}{}end\n", line(&left, "left"), line(&right, "right"));
    std::fs::write(env.store().join("history.lock"), note).unwrap();
}

/// The index as the first version made it.
fn old_index(env: &TestEnv) {
    steps(env);
    let path = env.store().join("index.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    db.execute_batch(schema::MIGRATIONS[0]).unwrap();
    db.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
}
