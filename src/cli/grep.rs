//! `treebox grep`: lines of a state's files that match.

use serde::Serialize;
use treebox::{GrepFile, GrepLine, GrepOptions};

use super::exit::{Exit, Failure};
use super::output::{self, Output, Span};
use super::records::{lossy, text_or_base64};
use super::{Context, rev_path};

/// Print the lines of a state's files that match
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A regular expression, in the syntax of Rust's regex crate
    pattern: String,
    /// A file, or a directory with everything below it [default: the root of HEAD]
    #[arg(value_name = "REV:/PATH")]
    place: Option<String>,
    /// The pattern is text, no expression
    #[arg(short = 'F', long)]
    fixed_strings: bool,
    /// Ignore case
    #[arg(short, long)]
    ignore_case: bool,
    /// Match whole words only
    #[arg(short, long)]
    word_regexp: bool,
    /// Print the lines that do not match
    #[arg(short = 'v', long)]
    invert_match: bool,
    /// Print line numbers
    #[arg(short = 'n', long)]
    line_number: bool,
    /// Print only the paths of files with a match
    #[arg(short = 'l', long, conflicts_with = "count")]
    files_with_matches: bool,
    /// Print how many lines match, for each file with a match
    #[arg(short, long)]
    count: bool,
    /// Search only files whose names match this pattern of * and ?
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Pass over files whose names match this pattern
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Pass over directories whose names match this pattern
    #[arg(long, value_name = "GLOB")]
    exclude_dir: Vec<String>,
    /// Pass over binary files
    #[arg(short = 'I', long)]
    no_binary: bool,
    /// At most N lines of each file
    #[arg(short, long, value_name = "N")]
    max_count: Option<u64>,
}

/// A line that matches, or a file with how many.
#[derive(Serialize)]
struct Record {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_base64: Option<String>,
    /// Whether there is more of the line than is given.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl Record {
    fn new(path: &[u8], binary: bool) -> Self {
        let (path, path_base64) = lossy(path);
        let (line, text, text_base64, count) = (None, None, None, None);
        Self { path, path_base64, line, text, text_base64, truncated: false, binary, count }
    }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let (state, path) = rev_path::resolve(&engine, args.place.as_deref())?;
    let options = GrepOptions {
        pattern: args.pattern.clone(),
        fixed: args.fixed_strings,
        ignore_case: args.ignore_case,
        word: args.word_regexp,
        invert: args.invert_match,
        max_count: args.max_count,
        count_only: args.count,
        files_only: args.files_with_matches,
        text_only: args.no_binary,
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        exclude_directories: args.exclude_dir.clone(),
    };
    let out = &mut context.out;
    out.page();
    let (mut found, mut failure) = (false, None);
    engine.grep(&state, &path, &options, &mut |file| {
        found = true;
        if out.quiet() {
            return false;
        }
        let written = if out.json() { json(args, &file, out) } else { write(args, &file, out) };
        failure = written.err();
        failure.is_none()
    })?;
    match failure {
        Some(failure) => Err(failure),
        None => Ok(if found { Exit::DONE } else { Exit::NO }),
    }
}

fn json(args: &Args, file: &GrepFile, out: &mut Output) -> Result<(), Failure> {
    let path = file.path.to_bytes();
    if args.files_with_matches || args.count || file.binary {
        let mut record = Record::new(&path, file.binary);
        record.count = args.count.then_some(file.count);
        return out.record(&record);
    }
    for line in &file.lines {
        let mut record = Record::new(&path, false);
        (record.text, record.text_base64) = text_or_base64(&line.text);
        (record.line, record.truncated) = (Some(line.number), line.cut);
        out.record(&record)?;
    }
    Ok(())
}

/// As `grep -r` prints it.
fn write(args: &Args, file: &GrepFile, out: &mut Output) -> Result<(), Failure> {
    let path = file.path.to_bytes();
    let path = || Span::name(path.as_slice()).painted(output::PATH);
    let colon = || Span::text(output::HUNK, ":");
    if file.binary && !args.files_with_matches && !args.count {
        out.spans(&[
            Span::text(output::PLAIN, "Binary file "),
            path(),
            Span::text(output::PLAIN, " matches"),
        ])?;
        return out.bytes(b"\n");
    }
    let mut line = |mut spans: Vec<Span>| {
        spans.insert(0, path());
        out.spans(&spans)?;
        out.bytes(b"\n")
    };
    if args.files_with_matches {
        return line(Vec::new());
    }
    if args.count {
        return line(vec![colon(), Span::text(output::PLAIN, file.count.to_string())]);
    }
    for one in &file.lines {
        let mut spans = vec![colon()];
        if args.line_number {
            spans.extend([Span::text(output::ADDED, one.number.to_string()), colon()]);
        }
        spans.extend(marked(one));
        line(spans)?;
    }
    Ok(())
}

/// The text with its matches marked.
fn marked(line: &GrepLine) -> Vec<Span> {
    let (mut spans, mut at) = (Vec::new(), 0);
    for place in &line.places {
        spans.push(Span::text(output::PLAIN, &line.text[at..place.start]));
        spans.push(Span::text(output::MATCH, &line.text[place.clone()]));
        at = place.end;
    }
    spans.push(Span::text(output::PLAIN, &line.text[at..]));
    if line.cut {
        spans.push(Span::text(output::HUNK, " … (longer)"));
    }
    spans
}
