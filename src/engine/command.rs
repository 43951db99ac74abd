//! What is to be run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limits::Limits;
use super::mounts::Mount;
use crate::object::{Feature, Network, Program};
use crate::sandbox::TerminalSize;

/// When a remembered run is used instead of running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reuse {
    /// When it exited 0 and changed the file system: a build step. A pure observation runs again.
    #[default]
    Auto,
    /// Whenever it exited 0; its output is given again.
    Always,
    /// Never; the new result is remembered.
    Never,
}

/// What the command reads on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stdin {
    /// Nothing.
    #[default]
    Empty,
    /// These bytes; they count in the run key.
    Bytes(Vec<u8>),
    /// What comes through a live handle. Such a run is never used again, for its input is not known beforehand.
    Piped,
}

/// How many bytes of each output stream are kept unless a command says otherwise.
pub const DEFAULT_MAX_OUTPUT_BYTES: u64 = 16 * 1024 * 1024;

/// A command and everything its result may depend on.
///
/// ```
/// use treebox::Command;
/// use std::time::Duration;
///
/// let build = Command::shell("make -j2").env("CC", "gcc").workdir("/src").timeout(Duration::from_secs(600));
/// let list = Command::new("ls").arg("-l").arg("/");
/// # let _ = (build, list);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub(super) program: Program,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) hostname: String,
    pub(super) umask: u16,
    pub(super) stdin: Stdin,
    pub(super) network: Network,
    pub(super) injected: Vec<(PathBuf, String)>,
    pub(super) mounts: Vec<Mount>,
    pub(super) read_only: bool,
    pub(super) epoch: Option<i64>,
    pub(super) keep_env: bool,
    pub(super) keep_workdir: bool,
    pub(super) reuse: Reuse,
    pub(super) disposable: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) max_output_bytes: u64,
    pub(super) limits: Limits,
    pub(super) terminal: Option<TerminalSize>,
    pub(super) allow: BTreeSet<Feature>,
}

impl Command {
    fn with(program: Program) -> Self {
        Self {
            program,
            env: Vec::new(),
            workdir: None,
            user: None,
            hostname: "treebox".to_owned(),
            umask: 0o022,
            stdin: Stdin::Empty,
            network: Network::None,
            injected: Vec::new(),
            mounts: Vec::new(),
            read_only: false,
            epoch: None,
            keep_env: false,
            keep_workdir: false,
            reuse: Reuse::Auto,
            disposable: false,
            timeout: None,
            max_output_bytes: DEFAULT_MAX_OUTPUT_BYTES,
            limits: Limits::default(),
            terminal: None,
            allow: BTreeSet::new(),
        }
    }

    /// Text for `/bin/sh -c` inside the state.
    pub fn shell(text: impl Into<String>) -> Self {
        Self::with(Program::Shell(text.into()))
    }

    /// A program; a name without a slash is searched on the `PATH` of the command's environment, inside the state.
    pub fn new(program: impl Into<Vec<u8>>) -> Self {
        Self::with(Program::Argv(vec![program.into()]))
    }

    /// Adds an argument. On shell text it becomes `$0`, `$1` and so on of an argument list with `/bin/sh -c`.
    pub fn arg(mut self, arg: impl Into<Vec<u8>>) -> Self {
        match &mut self.program {
            Program::Argv(argv) => argv.push(arg.into()),
            Program::Shell(text) => {
                let text = std::mem::take(text).into_bytes();
                self.program = Program::Argv(vec![b"/bin/sh".to_vec(), b"-c".to_vec(), text, arg.into()]);
            }
        }
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<Vec<u8>>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable, over the state's own. Nothing of the host's environment is ever passed.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// The command as a person would type it: shell text, or arguments quoted where a shell needs it.
    pub fn text(&self) -> String {
        self.program.text()
    }

    /// Whether it sets this environment variable itself.
    pub fn sets(&self, key: &str) -> bool {
        self.env.iter().any(|(name, _)| name == key)
    }

    /// Sets the working directory; it must exist in the state.
    pub fn workdir(mut self, path: impl Into<String>) -> Self {
        self.workdir = Some(path.into());
        self
    }

    /// Sets the user, as `user`, `uid`, `user:group` or `uid:gid`, looked up in the state's own `/etc/passwd` and `/etc/group`.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the host name inside; the default is `treebox`.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = name.into();
        self
    }

    /// Sets the file mode creation mask; the default is 022.
    pub fn umask(mut self, mask: u16) -> Self {
        self.umask = mask & 0o777;
        self
    }

    /// Sets what the command reads on standard input.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Gives the command a terminal of its own. Its output is then one stream, [`super::Stream::Stdout`], and `TERM` is `xterm` unless
    /// it is set. Such a run is remembered, but never used again.
    pub fn terminal(mut self, size: TerminalSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// Sets what the command can reach; the default is nothing.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Places a host file or directory in the state before the run. Contents and modes count in the run key, times do not.
    pub fn copy(mut self, source: impl AsRef<Path>, dest: impl Into<String>) -> Self {
        self.injected.push((source.as_ref().to_owned(), dest.into()));
        self
    }

    /// Allows something that a sandbox refuses otherwise; `SECURITY.md` says what each opens.
    pub fn allow(mut self, feature: Feature) -> Self {
        self.allow.insert(feature);
        self
    }

    /// Shows something besides the state: a host directory, memory, a cache, a secret.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Refuses changes of the root file system.
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// Clamps modification times of what the run writes to this many seconds since 1970.
    pub fn epoch(mut self, seconds: i64) -> Self {
        self.epoch = Some(seconds);
        self
    }

    /// Keeps the environment variables given here in the resulting state.
    pub fn keep_env(mut self, yes: bool) -> Self {
        self.keep_env = yes;
        self
    }

    /// Keeps the working directory given here in the resulting state.
    pub fn keep_workdir(mut self, yes: bool) -> Self {
        self.keep_workdir = yes;
        self
    }

    /// Says when a remembered run is used instead of running.
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// Whether nothing remembered can answer it: it is disposable, must run afresh, or its input is not known beforehand.
    pub fn always_runs(&self) -> bool {
        self.disposable || self.reuse == Reuse::Never || !self.has_key()
    }

    /// Whether it has a terminal whose input comes while it runs.
    pub fn is_typed_to(&self) -> bool {
        self.terminal.is_some() && self.stdin == Stdin::Piped
    }

    /// Whether everything that it depends on is known beforehand.
    pub(super) fn has_key(&self) -> bool {
        self.stdin != Stdin::Piped && self.terminal.is_none()
    }

    /// The bytes on its standard input that are kept with its result, so that it can be run again.
    pub(super) fn kept_stdin(&self) -> Option<Vec<u8>> {
        match &self.stdin {
            Stdin::Bytes(bytes) if !bytes.is_empty() && !self.disposable => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Leaves no state and remembers nothing: only output, exit status and metrics.
    pub fn disposable(mut self, yes: bool) -> Self {
        self.disposable = yes;
        self
    }

    /// Kills everything that the command started when the time is up.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Limits the memory of everything that runs in the sandbox together, in bytes; what goes over is killed.
    ///
    /// Where no cgroup can be had it is sampled; [`super::Outcome::limits`] tells.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.limits.memory_bytes = Some(bytes);
        self
    }

    /// Limits processor time to so many processors' worth, such as 1.5.
    ///
    /// Where no cgroup can be had it is a number of processors, rounded up. Precise to a thousandth.
    pub fn cpus(mut self, count: f64) -> Self {
        // The cast saturates, and gives 0 for what is no number; 0 is refused when it runs.
        self.limits.cpu_milli = Some((count * 1000.0).round() as u64);
        self
    }

    /// Limits how many processes and threads there may be at a time.
    pub fn pids(mut self, count: u64) -> Self {
        self.limits.pids = Some(count);
        self
    }

    /// Limits what the run may add to the file system, in bytes on disk, and the length of any file it writes.
    ///
    /// A run that goes over is stopped with [`super::ErrorKind::OverLimit`], and nothing of it is kept.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.limits.disk_bytes = Some(bytes);
        self
    }

    /// Keeps at most this many bytes of each output stream; the rest is read and dropped.
    pub fn max_output(mut self, bytes: u64) -> Self {
        self.max_output_bytes = bytes;
        self
    }
}
