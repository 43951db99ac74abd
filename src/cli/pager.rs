//! Where results go: to stdout, or through a pager on a terminal.
//!
//! The pager is started by the first bytes and not before, so that an error finds the terminal as it was. One that ends early has
//! shown what its user wanted to see.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Stdout, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};

/// What shows long texts where nobody says otherwise.
const DEFAULT: &str = "less";

/// Characters that ask for a shell, as Git has it.
const SHELL: &[char] = &[
    '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '\t', '\n', '*', '?', '[', '#', '~', '=',
    '%',
];

/// Stdout, or a pager in front of it.
pub(super) struct Sink {
    stdout: Stdout,
    /// The pager that is to be started by the first bytes.
    wanted: Option<String>,
    running: Option<(Child, Option<ChildStdin>)>,
    /// Whether a pager has shown everything that was wanted of it.
    over: bool,
}

impl Sink {
    pub(super) fn new(stdout: Stdout) -> Self {
        Self { stdout, wanted: None, running: None, over: false }
    }

    /// Has what is written from now on shown by the pager that the environment names.
    pub(super) fn page(&mut self) {
        self.wanted = chosen(|name| std::env::var_os(name));
    }

    fn start(&mut self, pager: &str) {
        // A pager that is not there shows nothing: then the terminal itself does.
        let Ok(mut child) = command(pager).stdin(Stdio::piped()).spawn() else { return };
        // Ctrl-C is the pager's: if this program died of it, the shell would take the terminal from a pager that still runs.
        let mut interrupt = SigSet::empty();
        interrupt.add(Signal::SIGINT);
        let _ = interrupt.thread_block();
        let input = child.stdin.take();
        self.running = Some((child, input));
    }

    /// Says that nothing more comes, and waits until its user has seen enough.
    pub(super) fn close(&mut self) {
        if let Some((mut child, input)) = self.running.take() {
            drop(input);
            let _ = child.wait();
            self.over = true;
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(pager) = self.wanted.take() {
            self.start(&pager);
        }
        match &mut self.running {
            Some((_, Some(input))) => input.write(bytes),
            Some((_, None)) => Err(ErrorKind::BrokenPipe.into()),
            // Left over from a pager that ended early: nobody asked for it.
            None if self.over => Ok(bytes.len()),
            None => self.stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.running {
            Some((_, Some(input))) => input.flush(),
            _ => self.stdout.flush(),
        }
    }
}

/// The pager that an environment asks for; an empty one and `cat` are none.
fn chosen(var: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let named = ["TREEBOX_PAGER", "PAGER"].into_iter().find_map(&var);
    let pager = match named {
        Some(pager) => pager.into_string().ok()?,
        None => DEFAULT.to_owned(),
    };
    let pager = pager.trim();
    (!pager.is_empty() && pager != "cat").then(|| pager.to_owned())
}

fn command(pager: &str) -> Command {
    let mut command = if pager.contains(SHELL) {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(pager);
        shell
    } else {
        let mut words = pager.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or(DEFAULT));
        command.args(words);
        command
    };
    // Short texts stay on the screen, colours are colours, and the screen is left as it is: Git's choice.
    for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_pager_and_an_empty_one_is_none() {
        let pager = |ours: Option<&str>, theirs: Option<&str>| {
            chosen(|name| match name {
                "TREEBOX_PAGER" => ours.map(Into::into),
                _ => theirs.map(Into::into),
            })
        };
        assert_eq!(pager(None, None).as_deref(), Some("less"));
        assert_eq!(pager(None, Some("more -s")).as_deref(), Some("more -s"));
        assert_eq!(pager(Some("most"), Some("more")).as_deref(), Some("most"));
        for none in ["", " ", "cat"] {
            assert_eq!((pager(Some(none), Some("more")), pager(None, Some(none))), (None, None));
        }
    }
}
