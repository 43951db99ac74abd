//! Exit codes and hints: the one file that says what an error means to a person or a script.
//!
//! `run` gives the command's own code; 124 timed out, 125 treebox itself failed, 126 the command cannot be executed, 127
//! it is not found. Every other verb: 0 done, 1 "no" or differences, 2 usage, 125 failed.

use std::error::Error as _;
use std::io::{self, ErrorKind as Io};
use std::process::ExitCode;

use clap::error::ErrorKind as Usage;
use treebox::{Error, ErrorKind};

use super::output::{Output, complain, one_line};

/// How the program ends when nothing went wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit(pub(super) u8);

impl Exit {
    pub(super) const DONE: Self = Self(0);
    /// "No", differences, findings.
    pub(super) const NO: Self = Self(1);
    pub(super) const USAGE: Self = Self(2);
    pub(super) const TIMED_OUT: Self = Self(124);
    pub(super) const FAILED: Self = Self(125);
    pub(super) const NOT_EXECUTABLE: Self = Self(126);
    pub(super) const NOT_FOUND: Self = Self(127);

    /// As a shell tells of a program that a signal ended.
    pub(super) fn of_signal(signal: i32) -> Self {
        Self(u8::try_from(128 + signal).unwrap_or(Self::FAILED.0))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Why a verb did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine said no.
    Engine(Error),
    /// The arguments make no sense together.
    Usage(String),
    /// The command line itself said no, with what helps.
    Refused(String, Option<String>),
    /// Results could not be written to stdout.
    Output(io::Error),
}

impl Failure {
    /// The same with the place where damaged bytes were met.
    pub(super) fn met_at(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Engine(error) => Self::Engine(error.met_at(place)),
            other => other,
        }
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into(), None)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// Tells how it went and gives the exit code. Nobody reads a broken pipe, so that is the reader's wish and success.
pub(super) fn conclude(result: Result<Exit, Failure>, out: &Output) -> ExitCode {
    let (exit, message, hint) = match result {
        Ok(exit) => return exit.into(),
        Err(Failure::Output(error)) if error.kind() == Io::BrokenPipe => return Exit::DONE.into(),
        Err(Failure::Output(error)) => {
            (Exit::FAILED, format!("cannot write to standard output: {error}"), None)
        }
        Err(Failure::Usage(message)) => (Exit::USAGE, message, None),
        Err(Failure::Refused(message, hint)) => (Exit::FAILED, message, hint),
        Err(Failure::Engine(error)) => {
            (code(&error), described(&error, out.verbose()), hint(&error).map(str::to_owned))
        }
    };
    complain(&message, hint.as_deref(), out);
    exit.into()
}

fn code(error: &Error) -> Exit {
    match error.kind() {
        ErrorKind::TimedOut => Exit::TIMED_OUT,
        ErrorKind::CommandNotFound => Exit::NOT_FOUND,
        ErrorKind::CommandNotExecutable => Exit::NOT_EXECUTABLE,
        _ => Exit::FAILED,
    }
}

fn hint(error: &Error) -> Option<&'static str> {
    if system_error(error) == Some(nix::errno::Errno::EMFILE as i32) {
        return Some("allow more open files: `ulimit -n 4096`");
    }
    match error.kind() {
        ErrorKind::NoSandbox => Some("`treebox doctor` says what this machine lacks and how to allow it"),
        ErrorKind::Damaged => Some(
            "`treebox fsck --full` says what else is damaged; `treebox fsck --repair` brings back what something here still has",
        ),
        _ => None,
    }
}

/// What the kernel said, where that is at the root of it.
fn system_error(error: &Error) -> Option<i32> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        cause = error.source();
    }
    None
}

/// The message; with `-v` also the causes that it does not name by itself.
fn described(error: &Error, verbose: bool) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause.filter(|_| verbose) {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Help and version go to stdout; a usage error becomes one line and the way to the help.
pub(super) fn not_parsed(error: &clap::Error) -> ExitCode {
    match error.kind() {
        Usage::DisplayHelp | Usage::DisplayVersion => {
            // A reader that closed the pipe has seen enough.
            let _ = error.print();
            return Exit::DONE.into();
        }
        Usage::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return Exit::USAGE.into();
        }
        _ => {}
    }
    let rendered = error.render().to_string();
    // What clap renders: the error, tips, the usage, the way to the help; an empty line between them.
    let paragraphs: Vec<String> =
        rendered.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let message = paragraphs.first().map_or("", |first| first.trim_start_matches("error: "));
    let led = |word: &str| paragraphs.iter().find_map(|part| part.trim_start().strip_prefix(word));
    eprintln!("treebox: {}", one_line(message));
    if let Some(help) = led("tip: ").or(led("Usage: ")) {
        // Of several tips or forms the first is the likeliest.
        let help = help.split(" tip: ").next().unwrap_or(help);
        let help = help.split(" treebox ").next().unwrap_or(help);
        eprintln!("hint: {}", one_line(help));
    }
    Exit::USAGE.into()
}

/// A panic is told in one line that says whose fault it is; `main` then ends with 125.
pub(super) fn report_panics_as_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        super::run::terminal::restore();
        let what = panic.payload();
        let text = what.downcast_ref::<&str>().copied().or(what.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        eprintln!(
            "treebox: this is a bug in treebox {}: {}{place}",
            env!("CARGO_PKG_VERSION"),
            one_line(text.unwrap_or("panic")),
        );
    }));
}
