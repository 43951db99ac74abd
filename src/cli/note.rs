//! `treebox note`: what a person wants to remember of a commit.

use std::io::Read as _;

use serde::Serialize;
use treebox::{CommitInfo, Note};

use super::exit::{Exit, Failure};
use super::{Context, output, text};

/// Show, write or remove the note on a commit, as `git notes` keeps it; without REV list all
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "treebox note\n       treebox note REV\n       treebox note [--append|-f] REV TEXT\n       treebox note -d REV…"
)]
pub(super) struct Args {
    /// The commit, and the text to write; - reads it from standard input
    #[arg(value_names = ["REV", "TEXT"])]
    words: Vec<String>,
    /// Add a paragraph to the note that is there
    #[arg(short, long, conflicts_with_all = ["delete", "force"])]
    append: bool,
    /// Remove notes
    #[arg(short, long, requires = "words", conflicts_with = "force")]
    delete: bool,
    /// Replace the note that is there
    #[arg(short, long)]
    force: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    commit: String,
    note: &'a str,
}

impl<'a> From<&'a Note> for Record<'a> {
    fn from(note: &'a Note) -> Self {
        Self { commit: note.commit.to_string(), note: &note.text }
    }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let out = &mut context.out;
    match args.words.as_slice() {
        revs if args.delete => {
            for rev in revs {
                let note = engine.remove_note(rev)?;
                if out.json() {
                    out.record(&Record::from(&note))?;
                }
                out.note(format_args!("removed the note on {}", note.commit.short()));
            }
        }
        [rev, words] => {
            let words = text_of(words)?;
            let note = if args.append {
                engine.append_note(rev, &words)?
            } else {
                engine.add_note(rev, &words, args.force)?
            };
            if out.json() {
                out.record(&Record::from(&note))?;
            }
        }
        [] | [_] if args.append || args.force => {
            return Err(Failure::Usage("a commit and a text are needed: treebox note REV TEXT".to_owned()));
        }
        [] => {
            for note in engine.notes()? {
                if out.json() {
                    out.record(&Record::from(&note))?;
                    continue;
                }
                write!(out, "{}  ", out.paint(output::ID, note.commit.short()))?;
                out.name(text::first_line(&note.text).as_bytes())?;
                out.bytes(b"\n")?;
            }
        }
        [rev] => match engine.note(rev)? {
            Some(note) if out.json() => out.record(&Record::from(&note))?,
            Some(note) => {
                out.block(note.text.as_bytes())?;
                out.bytes(b"\n")?;
            }
            None => {
                out.note(format_args!("there is no note on {rev}: `treebox note {rev} TEXT` writes one"));
                return Ok(Exit::NO);
            }
        },
        _ => return Err(Failure::Usage("too many words: put the text in quotes".to_owned())),
    }
    Ok(Exit::DONE)
}

fn text_of(words: &str) -> Result<String, Failure> {
    if words != "-" {
        return Ok(words.to_owned());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::refused(format!("cannot read the note from standard input: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Failure::refused("the note on standard input is not UTF-8"))
}

/// The lines that show a commit's note below its command, as Git does; none when it has no note.
pub(super) fn lines(commit: &CommitInfo) -> Vec<String> {
    let Some(note) = &commit.note else { return Vec::new() };
    let head = [String::new(), "Notes:".to_owned()];
    head.into_iter().chain(note.lines().map(|line| format!("    {line}"))).collect()
}
