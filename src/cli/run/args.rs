//! What can be typed behind `treebox run`.

use std::ffi::OsString;
use std::time::Duration;

use clap::ValueEnum;

use super::mounts;
use crate::cli::values::{self, CopyPair};

/// Run a command on a state; a result that changed the file system becomes a commit
///
/// Without --from it starts from HEAD, or from the tip of --branch, and that branch moves to the result. With --from alone no
/// branch moves: the result is usable by its id. With both, the branch is made at the result.
///
/// With --commands every command of a file runs on the same state, several at once, and no branch moves; --race stops at the first
/// that succeeds, which moves the branch as a single run does. The exit code is then 0 if all succeeded, or one of a race, else 1.
///
/// Exits with the command's own code; 124 timed out, 125 treebox failed, 126 cannot be executed, 127 not found.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "treebox run [OPTIONS] -c TEXT\n       treebox run [OPTIONS] -- CMD [ARG…]\n       \
                    treebox run [OPTIONS] --commands FILE [--jobs N] [--race]"
)]
pub(in crate::cli) struct Args {
    /// Start from this revision [default: HEAD, or the tip of --branch]
    #[arg(long, value_name = "REV")]
    pub(super) from: Option<String>,
    /// Move this branch to the result; made if it is not there
    #[arg(long, value_name = "NAME")]
    pub(super) branch: Option<String>,
    /// Move --branch even if it is somewhere else
    #[arg(long, requires = "branch")]
    pub(super) force: bool,
    /// Tag the result
    #[arg(long, value_name = "NAME", conflicts_with = "disposable")]
    pub(super) tag: Option<String>,
    /// Leave no state and remember nothing: only output and exit code
    #[arg(long)]
    pub(super) disposable: bool,
    /// Use a remembered run: auto if it changed files, always if it exited 0, never
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(super) reuse: ReuseChoice,
    /// Run even if the result is remembered; the same as --reuse never
    #[arg(long, conflicts_with = "reuse")]
    pub(super) fresh: bool,
    /// Pass standard input; it is empty otherwise
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give the command a terminal; with -i from a terminal, this one's keys go to it
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Move the branch even when the command fails
    #[arg(long)]
    pub(super) keep_failed: bool,
    /// Run each command of this file, - for standard input, on the same state; one result a line
    ///
    /// One command a line: shell text, a JSON string of it, or a JSON array of a program and its arguments. Blank lines and those that
    /// begin with # are skipped. With -v what each wrote follows its line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "argv", "interactive", "tty", "keep_failed"])]
    pub(super) commands: Option<String>,
    /// How many of --commands run at once [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
    /// Stop with the first of --commands that succeeds; the others leave nothing
    #[arg(long)]
    pub(super) race: bool,
    #[command(flatten)]
    pub(super) shared: Shared,
    /// Text for /bin/sh -c
    #[arg(short = 'c', value_name = "TEXT", conflicts_with = "argv", allow_hyphen_values = true)]
    pub(super) text: Option<String>,
    /// The command and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    pub(super) argv: Vec<OsString>,
}

/// Options of the sandbox and what runs in it, which `run` and `shell` share.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Shared {
    /// Set an environment variable; KEY alone takes the host's value
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = values::env)]
    pub(super) env: Vec<(String, Option<String>)>,
    /// Working directory
    #[arg(short, long, value_name = "PATH")]
    pub(super) workdir: Option<String>,
    /// User, as name or id, with :GROUP if wanted; looked up inside the state
    #[arg(short, long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// Host name inside
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// Kill everything after this time, such as 30s or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(super) timeout: Option<Duration>,
    /// Limit the memory of everything that runs together, such as 512m or 2g
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    pub(super) memory: Option<u64>,
    /// Limit processor time, as a number of processors such as 1.5
    #[arg(long, value_name = "COUNT", value_parser = values::processors, allow_negative_numbers = true)]
    pub(super) cpus: Option<f64>,
    /// Limit how many processes and threads there are at a time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) pids: Option<u64>,
    /// Stop the command, and keep nothing of it, when it has written so many bytes to files
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    pub(super) disk: Option<u64>,
    /// What can be reached
    #[arg(long, value_enum, default_value = "none", value_name = "NETWORK")]
    pub(super) network: NetworkChoice,
    /// Place a host file or directory in the state before the run
    #[arg(long, value_name = "SRC:DEST", value_parser = values::copy_pair)]
    pub(super) copy: Vec<CopyPair>,
    /// Allow something that is refused otherwise; may be given several times
    #[arg(long, value_enum, value_name = "FEATURE")]
    pub(super) allow: Vec<FeatureChoice>,
    /// Show something besides the state; may be repeated
    ///
    /// type=bind,src=SRC,dst=DST[,rw]: a host file or directory, read-only unless rw is given. Read-only its content counts for reuse;
    /// with rw the run is only reused with --reuse always.
    ///
    /// type=tmpfs,dst=DST[,size=SIZE][,mode=MODE]: an empty directory in memory [size: 1G].
    ///
    /// type=cache,dst=DST[,id=ID][,sharing=shared|locked|private][,ro][,uid=UID][,gid=GID][,mode=MODE]: a directory kept between runs.
    ///
    /// type=secret,id=ID,src=FILE|env=VAR[,dst=DST][,version=TEXT][,required=false][,uid=UID][,gid=GID][,mode=MODE]: a file at
    /// /run/secrets/ID, in memory alone and never kept; a run that leaves its bytes somewhere fails.
    #[arg(long, value_name = "SPEC", value_parser = mounts::mount)]
    pub(super) mount: Vec<mounts::Typed>,
    /// The same as --mount type=bind; read-only unless :rw is given
    #[arg(long, value_name = "SRC:DST[:rw]", value_parser = mounts::volume)]
    pub(super) volume: Vec<mounts::Typed>,
    /// The same as --mount type=tmpfs
    #[arg(long, value_name = "DST[:OPTIONS]", value_parser = mounts::tmpfs_at)]
    pub(super) tmpfs: Vec<mounts::Typed>,
    /// The same as --mount type=secret
    #[arg(long, value_name = "id=ID,src=FILE", value_parser = mounts::secret_of)]
    pub(super) secret: Vec<mounts::Typed>,
    /// Refuse changes of the root file system
    #[arg(long)]
    pub(super) read_only: bool,
    /// Keep the environment given here in the state
    #[arg(long)]
    pub(super) keep_env: bool,
    /// Keep the working directory given here in the state
    #[arg(long)]
    pub(super) keep_workdir: bool,
    /// Clamp modification times to this many seconds since 1970 [default: $SOURCE_DATE_EPOCH, else none]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) epoch: Option<i64>,
    /// Keep at most so many bytes of each output stream [default: 16M]
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    pub(super) max_output: Option<u64>,
}

/// When a remembered run is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReuseChoice {
    Auto,
    Always,
    Never,
}

/// What is refused unless it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FeatureChoice {
    /// Nested namespaces and mounts: sandboxes inside the sandbox
    Userns,
    /// Asynchronous system calls, which no filter sees
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    /// The kernel's keyrings
    Keyring,
    /// Sockets of old 32-bit x86 programs
    Socketcall,
}

/// What can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkChoice {
    /// Only a loopback interface
    None,
    /// The host's network
    Host,
    /// A network of its own with a way out and none in, through pasta or slirp4netns
    Private,
}
