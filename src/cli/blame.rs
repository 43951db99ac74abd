//! `treebox blame`: which command last wrote what.

use std::ops::RangeInclusive;

use serde::Serialize;
use treebox::{Blame, Blamed, CommitId, CommitInfo};

use super::exit::{Exit, Failure};
use super::output::{self, Output, Span};
use super::records::{lossy, text_or_base64};
use super::{Context, text};

/// Show the commit that last wrote each line of a file, or changed each entry of a directory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file or directory; without REV in HEAD
    #[arg(value_name = "REV:/PATH")]
    place: String,
    /// Only these lines: FROM,TO or FROM,+COUNT; either may be left out
    #[arg(short = 'L', long = "lines", value_name = "FROM,TO", value_parser = range)]
    lines: Option<RangeInclusive<usize>>,
}

/// How much of a command stands beside a line, in characters.
const COMMAND_WIDTH: usize = 28;

fn range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let wrong = || "lines are FROM,TO or FROM,+COUNT, counted from 1".to_owned();
    let number = |text: &str, other: usize| match text {
        "" => Ok(other),
        text => text.parse::<usize>().map_err(|_| wrong()),
    };
    let (from, to) = text.split_once(',').unwrap_or((text, ""));
    let from = number(from, 1)?;
    let to = match to.strip_prefix('+') {
        Some(count) => {
            number(count, 1)?.checked_add(from).and_then(|end| end.checked_sub(1)).ok_or_else(wrong)?
        }
        None => number(to, usize::MAX)?,
    };
    if from == 0 || from > to {
        return Err(wrong());
    }
    Ok(from..=to)
}

/// A line, a file or an entry of a directory, and the commit that wrote it.
#[derive(Serialize)]
struct Record<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    commit: String,
    state: Option<String>,
    command: &'a str,
    /// Where it was in that commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_base64: Option<String>,
}

impl<'a> Record<'a> {
    fn new(path: &[u8], commit: CommitId, info: Option<&'a CommitInfo>) -> Self {
        let (path, path_base64) = lossy(path);
        Self {
            path,
            path_base64,
            kind: None,
            line: None,
            commit: commit.to_string(),
            state: info.map(|info| info.state.to_string()),
            command: info.map_or("", |info| info.command.as_str()),
            original_path: None,
            original_path_base64: None,
            original_line: None,
            text: None,
            text_base64: None,
        }
    }

    fn was_at(mut self, path: &[u8]) -> Self {
        let (path, base64) = lossy(path);
        (self.original_path, self.original_path_base64) = (Some(path), base64);
        self
    }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let blame = engine.blame(&args.place, args.lines.clone())?;
    let out = &mut context.out;
    out.page();
    if out.json() {
        json(&blame, out)?
    } else {
        write(&blame, out)?
    }
    Ok(Exit::DONE)
}

fn json(blame: &Blame, out: &mut Output) -> Result<(), Failure> {
    let path = blame.path.to_bytes();
    match &blame.what {
        Blamed::Lines(lines) => {
            for line in lines {
                let record = Record::new(&path, line.commit, blame.commits.get(&line.commit));
                let mut record = record.was_at(&line.path.to_bytes());
                (record.line, record.original_line) = (Some(line.number), Some(line.original));
                let bytes = line.text.strip_suffix(b"\n").unwrap_or(&line.text);
                (record.text, record.text_base64) = text_or_base64(bytes);
                out.record(&record)?;
            }
        }
        Blamed::File(commit, original) => {
            let mut record =
                Record::new(&path, *commit, blame.commits.get(commit)).was_at(&original.to_bytes());
            record.kind = Some("file");
            out.record(&record)?;
        }
        Blamed::Directory(entries) => {
            for one in entries {
                let mut record =
                    Record::new(&one.path.to_bytes(), one.commit, blame.commits.get(&one.commit));
                record.kind = Some(one.entry.node.kind().as_str());
                out.record(&record)?;
            }
        }
    }
    Ok(())
}

fn write(blame: &Blame, out: &mut Output) -> Result<(), Failure> {
    let command = |commit: &CommitId| {
        let info = blame.commits.get(commit);
        text::first_line(info.map_or("", |info| info.command.as_str()))
    };
    match &blame.what {
        Blamed::Lines(lines) => {
            let number = lines.last().map_or(1, |line| line.number.to_string().len());
            // Where a file was moved, each line says what it was called.
            let moved = lines.iter().any(|line| line.path != blame.path);
            let shown = |line: &treebox::BlamedLine| text::escaped(&line.path.to_bytes(), false);
            let width =
                lines.iter().filter(|_| moved).map(|line| shown(line).chars().count()).max().unwrap_or(0);
            for line in lines {
                let path = if moved { format!("{:width$} ", shown(line)) } else { String::new() };
                let command = cut(&command(&line.commit));
                let head = format!(" {path}({command:COMMAND_WIDTH$} {:>number$}) ", line.number);
                let bytes = line.text.strip_suffix(b"\n").unwrap_or(&line.text);
                out.spans(&[
                    Span::text(output::ID, line.commit.short()),
                    Span::text(output::PLAIN, head),
                    Span::text(output::PLAIN, bytes),
                ])?;
                out.bytes(b"\n")?;
            }
        }
        Blamed::File(commit, original) => one(commit, &original.to_bytes(), &command(commit), 0, out)?,
        Blamed::Directory(entries) => {
            let names: Vec<_> = entries.iter().map(|one| one.path.to_bytes()).collect();
            let width =
                names.iter().map(|name| text::escaped(name, false).chars().count()).max().unwrap_or(0);
            for (one_entry, name) in entries.iter().zip(&names) {
                one(&one_entry.commit, name, &command(&one_entry.commit), width, out)?;
            }
        }
    }
    Ok(())
}

/// A path with the commit that wrote it.
fn one(commit: &CommitId, path: &[u8], command: &str, width: usize, out: &mut Output) -> Result<(), Failure> {
    let pad = width.saturating_sub(text::escaped(path, false).chars().count()) + 2;
    out.spans(&[
        Span::text(output::ID, commit.short()),
        Span::text(output::PLAIN, " "),
        Span::name(path),
        Span::text(output::PLAIN, format!("{:pad$}{command}", "")),
    ])?;
    out.bytes(b"\n")
}

fn cut(command: &str) -> String {
    let command = text::escaped(command.as_bytes(), false);
    if command.chars().count() <= COMMAND_WIDTH {
        return command;
    }
    command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_as_git_has_them() {
        assert_eq!(range("2,5"), Ok(2..=5));
        assert_eq!(range("2,+3"), Ok(2..=4));
        assert_eq!(range("7"), Ok(7..=usize::MAX));
        assert_eq!(range(",3"), Ok(1..=3));
        for wrong in ["0,3", "5,4", "a", "1,+0", "-1"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
