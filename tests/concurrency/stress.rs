//! Everything at once: 32 workers on one store, some of them killed, and nothing is lost.
//!
//! A minute where CI is set and root runs it, a part of that for other users there, a few seconds elsewhere; `TREEBOX_STRESS_SECONDS` says otherwise.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use treebox::blocking::Engine;
use treebox::{Command, EngineOptions, Error, ErrorKind, ImportSource, MergeOptions, Node, Target, TreePath};

use super::{git, git_finds_nothing_wrong};
use crate::support::{TestEnv, names, treebox};

/// Workers that call the program, and can be killed.
const PROCESSES: usize = 18;
/// Workers that are threads of this program, on few engines.
const THREADS: usize = 10;
const ENGINES: usize = 3;
// Besides: one that collects garbage, one that kills, two that use stock git. Together 32.

/// How many keys there are at a time: few, so that many ask for the same.
const KEYS: u64 = 6;

fn seconds() -> u64 {
    if let Some(given) = std::env::var("TREEBOX_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()) {
        return given;
    }
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    match (ci, nix::unistd::geteuid().is_root()) {
        (true, true) => 60,
        (true, false) => 15,
        (false, _) => 5,
    }
}

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

#[derive(Default)]
struct Field {
    over: AtomicBool,
    /// Garbage is collected without mercy at first, and so are remembered runs. Then no more, and each key is run once.
    calm: AtomicBool,
    alive: Mutex<HashSet<i32>>,
    done: AtomicU64,
    /// Others were first.
    refused: AtomicU64,
    reused: AtomicU64,
    killed: AtomicU64,
    collected: AtomicU64,
    /// For each key of the calm time the results of those who ran it and were not killed.
    ran: Mutex<BTreeMap<String, Vec<String>>>,
    wrong: Mutex<Vec<String>>,
}

impl Field {
    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Whether there was something of everything that is to be looked at.
    fn has_seen_all(&self) -> bool {
        let some = |counter: &AtomicU64| counter.load(Ordering::Relaxed) > 0;
        let ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner).len() > 2;
        ran && some(&self.reused) && some(&self.killed) && some(&self.collected)
    }

    fn is_wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// The text of a command that many run; its result is another each time it really runs.
    fn key(&self, dice: &mut Dice, begun: Instant) -> (String, bool) {
        let calm = self.calm.load(Ordering::SeqCst);
        let number = begun.elapsed().as_millis() as u64 / 400 * KEYS + dice.roll(KEYS);
        let word = if calm { "calm" } else { "wild" };
        (format!("echo {word} {number} > /key; head -c 8 /dev/urandom | od >> /key"), calm)
    }

    fn saw(&self, key: &str, calm: bool, reused: bool, state: String) {
        if reused {
            self.count(&self.reused);
        } else if calm {
            let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
            ran.entry(key.to_owned()).or_default().push(state);
        }
    }

    fn refused_or_wrong(&self, doing: &str, kind: Option<ErrorKind>, said: &str) {
        // What is told to somebody who came second; anything else is a fault.
        const OTHERS_WERE_FIRST: [&str; 13] = [
            "is already there",
            "there is no ",
            "no branch is called",
            "neither where this run started",
            "HEAD was moved",
            "nothing to take back",
            "is the current one",
            "expected ",
            "names nothing",
            "has no commit",
            "no common commit",
            "is not there",
            "is called `",
        ];
        let by_kind = matches!(kind, Some(ErrorKind::Conflict | ErrorKind::NotFound));
        // A `git gc` that a user started holds locks as long as it likes, and longer on a busy machine.
        let by_git = said.contains("is held by another program");
        match by_kind
            || by_git
            || kind.is_none() && OTHERS_WERE_FIRST.iter().any(|words| said.contains(words))
        {
            true => self.count(&self.refused),
            false => self.is_wrong(format!("{doing}: {}", said.trim_end())),
        }
    }
}

/// Calls the program, which may be killed meanwhile.
fn call(env: &TestEnv, field: &Field, args: &[&str]) -> Option<Value> {
    let mut command = env.command(&[&["--json"], args].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id() as i32;
    field.alive.lock().unwrap().insert(pid);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    // Both are short.
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    // The number is not given to another process before it was waited for, nor killed after.
    let status = {
        let mut alive = field.alive.lock().unwrap();
        alive.remove(&pid);
        child.wait().unwrap()
    };
    field.count(&field.done);
    match status.code() {
        Some(0 | 1) => stdout.lines().next().and_then(|line| serde_json::from_str(line).ok()),
        Some(125) => {
            field.refused_or_wrong(&args.join(" "), None, &stderr);
            None
        }
        None => None,
        Some(code) => {
            field.is_wrong(format!("{}: exit {code}: {stderr}", args.join(" ")));
            None
        }
    }
}

fn process(env: &TestEnv, field: &Field, number: usize, begun: Instant) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1) << 20);
    let own = format!("own-{number}");
    let image = format!("oci:{}", env.path("image").display());
    while field.goes_on() {
        let shared = format!("shared-{}", dice.roll(3));
        let branch = if dice.roll(2) == 0 { &own } else { &shared };
        match dice.roll(14) {
            0..=3 => {
                let (key, calm) = field.key(&mut dice, begun);
                if let Some(ran) = call(env, field, &["run", "--from", "base", "-c", &key]) {
                    let state = ran["state"].as_str().unwrap_or_default().to_owned();
                    field.saw(&key, calm, ran["reused"] == true, state);
                }
            }
            4 => drop(call(env, field, &["import", &image, "--name", "again"])),
            5 | 6 => {
                let text = format!("echo {} >> /log", dice.roll(1000));
                drop(call(env, field, &["run", "--branch", branch, "-c", &text]));
            }
            7 => drop(call(env, field, &["branch", branch, "base"])),
            8 => drop(call(env, field, &["switch", branch])),
            9 => drop(call(env, field, &["tag", &format!("tag-{}", dice.roll(4)), branch])),
            10 => drop(call(env, field, &["merge", branch])),
            // Rarely, or it would take back what all of them stand on.
            11 if dice.roll(4) == 0 => drop(call(env, field, &["undo"])),
            12 => drop(call(env, field, &["tag", "-d", &format!("tag-{}", dice.roll(4))])),
            _ => drop(call(env, field, &["log", "-n", "3", branch])),
        }
    }
}

fn thread(engine: &Engine, image: &ImportSource, field: &Field, number: usize, begun: Instant) {
    let mut dice = Dice(0xd1b5_4a32_d192_ed03 ^ (number as u64 + 1) << 24);
    let own = format!("thread-{number}");
    while field.goes_on() {
        let shared = format!("shared-{}", dice.roll(3));
        let branch = if dice.roll(2) == 0 { &own } else { &shared };
        let what = dice.roll(10);
        let mut run_key = || -> Result<(), Error> {
            let (key, calm) = field.key(&mut dice, begun);
            let outcome = engine.resolve("base")?.run(&Command::shell(&key))?;
            field.saw(&key, calm, outcome.reused, outcome.state().id().to_string());
            Ok(())
        };
        let done = match what {
            0..=2 => run_key(),
            3 => engine.import(image, Some("again")).map(drop),
            4 | 5 => {
                let target = Target { branch: Some(branch.clone()), ..Target::default() };
                engine.step(&target, &Command::shell(format!("echo {what} >> /log")), None).map(drop)
            }
            6 => engine.resolve("base").and_then(|base| engine.create_branch(branch, &base, false)).map(drop),
            7 => engine.merge(branch, &MergeOptions::default()).map(drop),
            8 => engine.delete_branch(branch).map(drop),
            _ => engine
                .resolve(branch)
                .and_then(|state| state.run(&Command::shell("cat /etc/passwd")))
                .map(drop),
        };
        field.count(&field.done);
        if let Err(error) = done {
            field.refused_or_wrong(&format!("thread: {what}"), Some(error.kind()), &error.to_string());
        }
    }
}

/// Kills one of the processes every now and then.
fn killer(field: &Field) {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    while field.goes_on() {
        std::thread::sleep(Duration::from_millis(20 + dice.roll(120)));
        let alive = field.alive.lock().unwrap();
        let at = dice.roll(alive.len().max(1) as u64) as usize;
        // It is a child that was not waited for: nobody else has its number.
        if let Some(pid) = alive.iter().nth(at)
            && kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()
        {
            field.count(&field.killed);
        }
    }
}

fn collector(env: &TestEnv, field: &Field, until: Instant) {
    while field.goes_on() {
        let harsh = Instant::now() < until;
        if !harsh {
            field.calm.store(true, Ordering::SeqCst);
        }
        let ran = env.run(&["gc", "--keep-days", if harsh { "0" } else { "30" }, "-q"]);
        if ran.code != 0 {
            field.is_wrong(format!("gc: exit {}: {}", ran.code, ran.stderr));
        }
        field.count(&field.collected);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn stock_git(env: &TestEnv, field: &Field, args: &[&str], pause: Duration) {
    while field.goes_on() {
        let ended = git(env, args);
        field.count(&field.done);
        let said = String::from_utf8_lossy(&ended.stderr);
        // Git gives up when somebody holds a ref's lock or removes it while it looks: so it would among its own.
        let races = [
            "cannot lock ref",
            "Unable to create",
            "failed to run reflog",
            "failed to run pack-refs",
            "gc is already running",
            // It had seen a ref that is gone by now, and treebox has collected what that led to. What is left is checked at the end.
            "failed to run repack",
        ];
        if !ended.status.success() && !races.iter().any(|words| said.contains(words)) {
            field.is_wrong(format!("git {}: {said}", args.join(" ")));
        }
        std::thread::sleep(pause);
    }
}

/// Tells figures also of a test that passes, of which the test program shows nothing that is printed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "stress: {line}");
}

#[test]
fn thirty_two_workers_and_a_killer_lose_nothing() {
    let env = TestEnv::empty();
    env.ok(&["import", "host", "--name", "base", "-q"]);
    env.ok(&["run", "-q", "--from", "base", "--branch", "main", "-c", "seq 2000 > /numbers"]);
    env.ok(&["switch", "main"]);
    for shared in ["shared-0", "shared-1", "shared-2"] {
        env.ok(&["branch", shared, "base"]);
    }
    env.ok(&["export", "main", "oci:image", "--layers", "-q"]);
    let field = Field::default();
    let image = ImportSource::parse(&format!("oci:{}", env.path("image").display())).unwrap();
    let engines: Vec<Engine> = (0..ENGINES)
        .map(|_| Engine::open(EngineOptions::at(env.store()).worker(treebox())).unwrap())
        .collect();
    let length = Duration::from_secs(seconds());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..PROCESSES {
            let (env, field) = (&env, &field);
            scope.spawn(move || process(env, field, number, begun));
        }
        for number in 0..THREADS {
            let (engine, image, field) = (&engines[number % ENGINES], &image, &field);
            scope.spawn(move || thread(engine, image, field, number, begun));
        }
        scope.spawn(|| killer(&field));
        scope.spawn(|| collector(&env, &field, begun + length / 2));
        scope.spawn(|| stock_git(&env, &field, &["log", "--all", "--oneline"], Duration::from_millis(50)));
        scope.spawn(|| stock_git(&env, &field, &["gc", "--quiet"], Duration::from_millis(700)));
        // On a busy machine it may take longer until everything has happened once.
        let grace = Duration::from_secs(90);
        while begun.elapsed() < length || !field.has_seen_all() && begun.elapsed() < length + grace {
            std::thread::sleep(Duration::from_millis(50));
        }
        field.over.store(true, Ordering::Relaxed);
    });
    drop(engines);
    let took = begun.elapsed();
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    say(&format!(
        "32 workers for {:.0} s: {} operations, {} refused because others were first, {} runs used another's result, {} workers killed, {} collections",
        took.as_secs_f64(),
        number(&field.done),
        number(&field.refused),
        number(&field.reused),
        number(&field.killed),
        number(&field.collected),
    ));
    assert!(field.has_seen_all());
    let wrong = field.wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
    let ran = field.ran.into_inner().unwrap();
    let twice: Vec<_> = ran.iter().filter(|(_, states)| states.len() > 1).collect();
    assert!(twice.is_empty(), "run more than once: {twice:?}");

    // The next command sweeps what killed workers left.
    env.ok(&["run", "-q", "--from", "base", "-c", "echo sweep > /sweep"]);
    for dir in ["tmp", "flights", "leases"] {
        assert_eq!(names(&env.store().join(dir)), Vec::<String>::new(), "left in {dir}/");
    }
    let (files, bytes) = everything_can_be_read(&env);
    say(&format!("{files} files with {bytes} bytes of every ref read and checked, none lost"));
    git_finds_nothing_wrong(&env);
    // Killed workers may leave something that is in nobody's way, which it warns of.
    let checked = env.run(&["fsck", "--full"]);
    let errors = checked.text().lines().filter(|line| line.starts_with("error")).count();
    assert!(checked.code <= 1 && errors == 0, "{}{}", checked.text(), checked.stderr);
}

/// Reads every file of every ref once; reading checks hashes.
fn everything_can_be_read(env: &TestEnv) -> (usize, u64) {
    let engine = Engine::open(EngineOptions::at(env.store()).worker(treebox())).unwrap();
    let mut states: HashSet<_> = engine.branches().unwrap().into_iter().map(|found| found.state).collect();
    states.extend(engine.tags().unwrap().into_iter().map(|found| found.state));
    states.extend(engine.images().unwrap().into_iter().map(|image| image.state));
    // The whole history behind them too.
    let all = treebox::LogQuery { revs: refs(&engine), ..treebox::LogQuery::default() };
    states.extend(engine.log(&all).unwrap().into_iter().map(|commit| commit.state));
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    for id in states {
        let state = engine.state(id).unwrap();
        for listed in engine.list(&state, &TreePath::root(), true).unwrap() {
            if let Node::File { blob, .. } = listed.entry.node
                && seen.insert(blob)
            {
                bytes += engine.read_file(&state, &listed.path).unwrap().len() as u64;
            }
        }
    }
    (seen.len(), bytes)
}

fn refs(engine: &Engine) -> Vec<String> {
    let named = engine.branches().unwrap().into_iter().chain(engine.tags().unwrap());
    named.map(|found| found.name).collect()
}
