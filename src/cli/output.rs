//! The one place that writes: results to stdout, comments and errors to stderr.
//!
//! Whether there are colours, whether names are escaped and what a failed write means is decided here once.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::args::{Global, When};
use super::exit::Failure;
use super::pager::Sink;
use super::text;

pub(super) const ID: Style = AnsiColor::Yellow.on_default();
pub(super) const ADDED: Style = AnsiColor::Green.on_default();
pub(super) const MODIFIED: Style = AnsiColor::Yellow.on_default();
pub(super) const DELETED: Style = AnsiColor::Red.on_default();
pub(super) const CURRENT: Style = AnsiColor::Green.on_default();
pub(super) const PLAIN: Style = Style::new();
pub(super) const REFS: Style = AnsiColor::Cyan.on_default();
pub(super) const HEADER: Style = Style::new().bold();
pub(super) const HUNK: Style = AnsiColor::Cyan.on_default();
pub(super) const MATCH: Style = AnsiColor::Red.on_default().bold();
pub(super) const PATH: Style = AnsiColor::Magenta.on_default();
const WRONG: Style = AnsiColor::Red.on_default().bold();

/// Where results go and how they look.
pub(super) struct Output {
    stdout: BufWriter<Sink>,
    first_error: Option<io::Error>,
    json: bool,
    quiet: bool,
    verbose: bool,
    coloured: bool,
    coloured_errors: bool,
    terminal: bool,
    pages: bool,
}

/// A piece of a line that is written later.
#[derive(Debug, Clone)]
pub(super) struct Span {
    style: Style,
    bytes: Vec<u8>,
    /// Whether a newline in it is part of a name and no end of a line.
    name: bool,
}

impl Span {
    /// Text of this program or of a file.
    pub(super) fn text(style: Style, bytes: impl Into<Vec<u8>>) -> Self {
        Self { style, bytes: bytes.into(), name: false }
    }

    /// A file name.
    pub(super) fn name(bytes: impl Into<Vec<u8>>) -> Self {
        Self { style: PLAIN, bytes: bytes.into(), name: true }
    }

    /// The same in a colour.
    pub(super) fn painted(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Text in a colour, or plain.
pub(super) struct Painted<T>(Option<Style>, T);

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(style) => write!(f, "{style}{}{style:#}", self.1),
            None => self.1.fmt(f),
        }
    }
}

fn colours(when: When, stream: &impl anstream::stream::RawStream) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
    }
}

impl Output {
    pub(super) fn new(global: &Global) -> Self {
        let stdout = io::stdout();
        Self {
            first_error: None,
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            coloured: !global.json && colours(global.color, &stdout),
            coloured_errors: colours(global.color, &io::stderr()),
            terminal: stdout.is_terminal(),
            pages: !global.no_pager && !global.json,
            stdout: BufWriter::with_capacity(64 * 1024, Sink::new(stdout)),
        }
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn quiet(&self) -> bool {
        self.quiet
    }

    pub(super) fn verbose(&self) -> bool {
        self.verbose
    }

    /// Whether results go to a terminal, be it through a pager.
    pub(super) fn terminal(&self) -> bool {
        self.terminal
    }

    /// A piece of text in a colour, if there are colours.
    pub(super) fn paint<T: fmt::Display>(&self, style: Style, text: T) -> Painted<T> {
        Painted(self.coloured.then_some(style), text)
    }

    /// So that `write!(out, …)?` works, with the failure of this program.
    pub(super) fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> Result<(), Failure> {
        self.stdout.write_fmt(args).map_err(Failure::Output)
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(Failure::Output)
    }

    /// A file name or a command: escaped on a terminal, as it is when piped.
    pub(super) fn name(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.terminal { self.bytes(text::escaped(bytes, false).as_bytes()) } else { self.bytes(bytes) }
    }

    /// Text of several lines: escaped on a terminal but for newline and tab.
    pub(super) fn block(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.terminal { self.bytes(text::escaped(bytes, true).as_bytes()) } else { self.bytes(bytes) }
    }

    /// One line of pieces, without its newline.
    pub(super) fn spans(&mut self, spans: &[Span]) -> Result<(), Failure> {
        for span in spans {
            let style = (self.coloured && span.style != PLAIN).then_some(span.style);
            if let Some(style) = style {
                write!(self, "{style}")?;
            }
            if span.name {
                self.name(&span.bytes)?
            } else {
                self.block(&span.bytes)?
            }
            if let Some(style) = style {
                write!(self, "{style:#}")?;
            }
        }
        Ok(())
    }

    /// Has results shown by a pager, if they go to a terminal; for verbs whose results may be longer than a screen.
    pub(super) fn page(&mut self) {
        if self.terminal && self.pages {
            self.stdout.get_mut().page();
        }
    }

    /// How wide results may be: `COLUMNS`, else the terminal's width, else 80.
    pub(super) fn columns(&self) -> usize {
        let asked = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let seen = || {
            let size = self.terminal.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
            size.map(|size| usize::from(size.ws_col))
        };
        asked.or_else(seen).filter(|columns| *columns > 0).unwrap_or(80)
    }

    /// One JSON document on one line.
    pub(super) fn record(&mut self, record: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.stdout, record).map_err(|error| Failure::Output(error.into()))?;
        self.bytes(b"\n")
    }

    /// A line of comment on stderr, not with `-q`.
    pub(super) fn note(&self, message: impl fmt::Display) {
        self.noter()(&message.to_string());
    }

    /// The same for whoever cannot hold on to this.
    pub(super) fn noter(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let quiet = self.quiet;
        move |message| {
            if !quiet {
                // Where comments cannot be written nobody misses them.
                let _ = writeln!(io::stderr(), "treebox: {}", one_line(message));
            }
        }
    }

    /// Lets the engine write results; [`Output::check`] tells afterwards whether it was the writing that failed.
    pub(super) fn writer(&mut self) -> &mut dyn Write {
        self
    }

    /// Whose fault a failure was: of the engine, or of stdout.
    pub(super) fn check<T>(&mut self, result: treebox::Result<T>) -> Result<T, Failure> {
        match self.first_error.take() {
            Some(error) => Err(Failure::Output(error)),
            None => Ok(result?),
        }
    }

    /// Writes what there is so far: a result that somebody waits for.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(Failure::Output)
    }

    /// Writes what is left, and waits for the pager if there is one.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        let flushed = self.flush();
        self.stdout.get_mut().close();
        flushed
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdout.write(bytes).inspect_err(|error| self.first_error = Some(error.kind().into()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush().inspect_err(|error| self.first_error = Some(error.kind().into()))
    }
}

/// A message without line breaks and control characters, so that it is one line and no more.
pub(super) fn one_line(message: &str) -> String {
    text::escaped(message.trim_end().replace('\n', " ").as_bytes(), false)
}

/// The longest word of an error that is shown whole, in characters: a path may have thousands, and then nobody finds the reason.
const MAX_WORD: usize = 400;

/// A message in which very long words, which are paths, have their beginning and end only.
fn clipped(message: &str) -> String {
    let words = message.split(' ').map(|word| {
        if word.chars().count() <= MAX_WORD {
            return word.to_owned();
        }
        let chars: Vec<char> = word.chars().collect();
        let part = MAX_WORD / 4;
        chars[..part].iter().chain(&['…']).chain(&chars[chars.len() - part..]).collect()
    });
    words.collect::<Vec<String>>().join(" ")
}

/// The one line of an error, and the one line that helps.
pub(super) fn complain(message: &str, hint: Option<&str>, out: &Output) {
    let style = out.coloured_errors.then_some(WRONG);
    let mut stderr = io::stderr();
    // There is no place left to complain that complaining failed.
    let _ = writeln!(stderr, "{} {}", Painted(style, "treebox:"), clipped(&one_line(message)));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {}", one_line(hint));
    }
}
