//! An environment of its own for every test: home, store, variables.
//!
//! The binary may be copied elsewhere and run as another user: then `TREEBOX_TEST_BIN` says where treebox is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The treebox under test.
pub fn treebox() -> PathBuf {
    std::env::var_os("TREEBOX_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_treebox").into(), PathBuf::from)
}

/// A temporary home with a store in it. When it goes away the store must hold nothing half-made.
pub struct TestEnv {
    dir: TempDir,
}

/// What one call of treebox gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("this is a bug"), "{stderr}");
        Self { code, stdout: output.stdout, stderr }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}

impl TestEnv {
    /// With a store that does not exist yet.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The same in memory where that can hold a store, for tests that make a thousand of them.
    pub fn in_memory() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").ok().filter(|dir| {
            let path = dir.path();
            treebox::disk::features(path).is_ok_and(|found| found.user_xattrs && found.free_bytes > 64 << 20)
        });
        dir.map_or_else(Self::empty, |dir| Self { dir })
    }

    /// With the host's own programs imported as `host`.
    pub fn new() -> Self {
        let env = Self::empty();
        env.ok(&["import", "host", "-q"]);
        env
    }

    /// With `host`, and a branch `main` there that is the current one.
    pub fn on_main() -> Self {
        let env = Self::new();
        env.ok(&["switch", "-c", "main", "host"]);
        env
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file in the home and gives its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A call of treebox that stands in the home and sees nothing of the caller's environment.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(treebox());
        self.isolate(&mut command);
        command.args(args);
        command
    }

    pub fn isolate(&self, command: &mut Command) {
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("TREEBOX_STORE", self.store())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("COLUMNS", "100")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs with these bytes on standard input, through a pipe.
    pub fn run_with_input<A: AsRef<OsStr>>(&self, args: &[A], input: &[u8]) -> Ran {
        use std::io::Write;
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran::of(output)
    }

    /// Must succeed; gives stdout.
    pub fn ok<A: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[A]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.text()
    }

    /// Must fail with that code and one line (perhaps one more that begins with `hint:`); gives that line.
    pub fn fails<A: AsRef<OsStr> + std::fmt::Debug>(&self, code: i32, args: &[A]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{args:?} gave results: {}", ran.text());
        let lines: Vec<_> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("treebox: "), "{args:?}: {}", ran.stderr);
        assert!(
            lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("hint: "),
            "{args:?}: {}",
            ran.stderr
        );
        ran.stderr
    }

    /// The one JSON document that a call gives, whatever its exit code.
    pub fn json<A: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[A]) -> Value {
        let mut lines = self.json_lines(args);
        assert_eq!(lines.len(), 1, "{args:?} gives one document");
        lines.remove(0)
    }

    /// The JSON documents that a call gives, one a line.
    pub fn json_lines<A: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[A]) -> Vec<Value> {
        let args: Vec<&OsStr> =
            std::iter::once(OsStr::new("--json")).chain(args.iter().map(AsRef::as_ref)).collect();
        let ran = self.run(&args);
        let parsed = ran.text().lines().map(serde_json::from_str).collect::<Result<_, _>>();
        parsed.unwrap_or_else(|error| panic!("{args:?}: {error}: {} {}", ran.text(), ran.stderr))
    }

    /// What calls say, as a person sees it: each command, its output, its comments, its exit code unless 0; masked.
    pub fn transcript(&self, calls: &[&[&str]]) -> String {
        let mut text = String::new();
        for args in calls {
            let ran = self.run(args);
            text += &format!("$ treebox {}\n", args.join(" "));
            text += &if args.contains(&"--json") { masked_json(&ran.text()) } else { masked(&ran.text()) };
            text.extend(masked(&ran.stderr).lines().map(|line| format!("! {line}\n")));
            if ran.code != 0 {
                text += &format!("(exit {})\n", ran.code);
            }
        }
        text.replace(self.dir.path().to_str().unwrap(), "[HOME]")
    }

    /// Runs shell text somewhere and gives the JSON of it.
    pub fn shell(&self, from: &str, text: &str) -> Value {
        self.json(&["run", "--from", from, "-c", text])
    }

    /// Runs shell text on a state and gives the id of the state it made.
    pub fn step(&self, from: &str, text: &str) -> String {
        let ran = self.shell(from, text);
        assert_eq!(ran["exit_code"], 0, "{text}: {ran}");
        ran["state"].as_str().unwrap().to_owned()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(names(&self.store().join("tmp")), Vec::<String>::new(), "left in the store's tmp/");
        }
    }
}

/// An argument for `sleep` that no other run of the tests on this machine has.
pub fn nap(seconds: u32) -> String {
    format!("{seconds}.{}", std::process::id())
}

/// How many processes of this machine are a `sleep` with that argument.
pub fn sleepers(argument: &str) -> usize {
    let line = format!("sleep\0{argument}\0").into_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|one| std::fs::read(one.path().join("cmdline")).is_ok_and(|found| found == line)).count()
}

/// Waits until so many processes are a `sleep` with that argument.
pub fn wait_for_sleepers(argument: &str, count: usize) {
    let began = std::time::Instant::now();
    while sleepers(argument) != count {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "not {count} of `sleep {argument}`");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// How many bytes the files below a directory have.
pub fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        meta if meta.is_dir() => bytes_below(&entry.path()),
        meta => meta.len(),
    });
    bytes.sum()
}

/// The names in a directory, sorted; none if it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A text with what differs from run to run taken out: ids, times, durations.
pub fn masked(text: &str) -> String {
    let mask = |word: &str| {
        let end = if word.ends_with(',') { "," } else { ":" };
        let (word, colon) = word.strip_suffix(end).map_or((word, ""), |word| (word, end));
        let hex = word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let masked = if hex && matches!(word.len(), 12 | 32 | 40 | 64) {
            "[ID]"
        } else if word.len() > 19 && word.as_bytes()[10] == b'T' && word.ends_with('Z') {
            "[DATE]"
        } else if word.ends_with('s') && word[..word.len() - 1].parse::<f64>().is_ok() {
            "[TIME]"
        } else {
            word
        };
        format!("{masked}{colon}")
    };
    if text.lines().any(|line| line.ends_with(" ago")) {
        let cut = |line: &str| match line.rsplit_once("  ") {
            Some((rest, ago)) if ago.ends_with(" ago") => format!("{rest}  [AGO]\n"),
            _ => format!("{line}\n"),
        };
        return masked(&text.lines().map(cut).collect::<String>());
    }
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_whitespace() || matches!(c, '(' | ')') {
            out += &mask(&word);
            word.clear();
            out.push(c);
        } else {
            word.push(c);
        }
    }
    out.pop();
    out
}

/// JSON Lines with what differs from run to run taken out: ids, dates, and what was measured.
pub fn masked_json(text: &str) -> String {
    fn mask(key: &str, value: &mut Value) {
        let measured = key.ends_with("_ms") || matches!(key, "max_rss_kib" | "read_bytes" | "written_bytes");
        match value {
            Value::Number(_) if measured => *value = "[MEASURED]".into(),
            Value::String(text) if key == "date" && !text.is_empty() => *text = "[DATE]".into(),
            Value::String(text) => *text = masked(text),
            Value::Array(values) => values.iter_mut().for_each(|value| mask(key, value)),
            Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| mask(key, value)),
            _ => {}
        }
    }
    let mut out = String::new();
    for line in text.lines() {
        let mut value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        mask("", &mut value);
        out += &format!("{value}\n");
    }
    out
}
