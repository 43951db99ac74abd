//! `treebox op`: the operation log.

use std::fmt::Write as _;

use serde::Serialize;
use treebox::object::CommitId;
use treebox::{HeadTo, Operation, Purpose};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::{Context, time};

/// Refs that a line of the log names; the others are counted.
const NAMED_REFS: usize = 3;

/// List what changed branches, tags, image names and HEAD; `treebox undo --to ID` goes back to what one had left
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the operations, newest first
    Log {
        /// At most so many
        #[arg(short = 'n', long = "max-count", value_name = "N")]
        limit: Option<usize>,
    },
    /// Show one operation: every ref that it changed, before and after
    Show {
        /// The operation
        #[arg(value_name = "OP")]
        id: String,
    },
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let out = &mut context.out;
    match &args.verb {
        Verb::Log { limit } => {
            for operation in engine.operations(*limit)? {
                if out.json() {
                    out.record(&OperationRecord::from(&operation))?;
                } else {
                    line(&operation, out)?;
                }
            }
        }
        Verb::Show { id } => {
            let operation = engine.operation(id)?;
            if out.json() {
                out.record(&OperationRecord::from(&operation))?;
            } else {
                whole(&operation, out)?;
            }
        }
    }
    Ok(Exit::DONE)
}

fn line(operation: &Operation, out: &mut Output) -> Result<(), Failure> {
    let date = time::rfc3339_seconds(operation.time_seconds);
    write!(out, "{} {date} ", out.paint(output::ID, operation.id.short()))?;
    out.name(operation.message.as_bytes())?;
    writeln!(out, " {}", out.paint(output::REFS, format!("({})", summary(operation))))
}

/// What an operation changed, in a few words: `main c0ffee123456, HEAD main`.
pub(super) fn summary(operation: &Operation) -> String {
    let mut words: Vec<String> = operation
        .refs
        .iter()
        .take(NAMED_REFS)
        .map(|moved| format!("{} {}", moved.label(), commit(moved.new, "deleted")))
        .collect();
    if operation.refs.len() > NAMED_REFS {
        words.push(format!("{} more", operation.refs.len() - NAMED_REFS));
    }
    words.extend(operation.head.as_ref().map(|head| format!("HEAD {}", place(head.new.as_ref()))));
    words.join(", ")
}

fn whole(operation: &Operation, out: &mut Output) -> Result<(), Failure> {
    writeln!(out, "{}", out.paint(output::ID, format!("operation {}", operation.id)))?;
    writeln!(out, "date:    {}", time::rfc3339_seconds(operation.time_seconds))?;
    match operation.purpose {
        Purpose::Undo(other) => writeln!(out, "undoes:  {other}")?,
        Purpose::Restore(other) => writeln!(out, "back to: {other}")?,
        Purpose::Change => {}
    }
    out.bytes(b"\n    ")?;
    out.name(operation.message.as_bytes())?;
    out.bytes(b"\n\n")?;
    let mut text = String::new();
    for moved in &operation.refs {
        let (old, new) = (commit(moved.old, "not there"), commit(moved.new, "deleted"));
        _ = writeln!(text, "{}: {old} -> {new}", moved.full);
    }
    if let Some(head) = &operation.head {
        _ = writeln!(text, "HEAD: {} -> {}", place(head.old.as_ref()), place(head.new.as_ref()));
    }
    out.bytes(text.as_bytes())
}

fn commit(id: Option<CommitId>, none: &str) -> String {
    id.map_or_else(|| none.to_owned(), |id| id.short())
}

/// Where HEAD points, as a person says it.
fn place(to: Option<&HeadTo>) -> String {
    match to {
        Some(HeadTo::Branch(name)) => name.to_string(),
        Some(HeadTo::Detached(commit)) => commit.short(),
        None => "unreadable".to_owned(),
    }
}

/// One operation.
#[derive(Serialize)]
pub(super) struct OperationRecord {
    operation: String,
    time: String,
    message: String,
    /// `change`, `undo` or `restore`.
    purpose: &'static str,
    /// The operation that was taken back or gone back to.
    of: Option<String>,
    refs: Vec<RefRecord>,
    head: Option<HeadRecord>,
}

#[derive(Serialize)]
struct RefRecord {
    name: String,
    old: Option<String>,
    new: Option<String>,
}

#[derive(Serialize)]
struct HeadRecord {
    old_branch: Option<String>,
    new_branch: Option<String>,
    old: Option<String>,
    new: Option<String>,
}

impl From<&Operation> for OperationRecord {
    fn from(operation: &Operation) -> Self {
        let text = |id: Option<CommitId>| id.map(|id| id.to_string());
        let branch = |to: Option<&HeadTo>| match to {
            Some(HeadTo::Branch(name)) => Some(name.to_string()),
            _ => None,
        };
        let (purpose, of) = match operation.purpose {
            Purpose::Change => ("change", None),
            Purpose::Undo(other) => ("undo", Some(other.to_string())),
            Purpose::Restore(other) => ("restore", Some(other.to_string())),
        };
        let refs = operation.refs.iter().map(|moved| RefRecord {
            name: moved.full.clone(),
            old: text(moved.old),
            new: text(moved.new),
        });
        let head = operation.head.as_ref().map(|head| HeadRecord {
            old_branch: branch(head.old.as_ref()),
            new_branch: branch(head.new.as_ref()),
            old: text(head.old_commit),
            new: text(head.new_commit),
        });
        Self {
            operation: operation.id.to_string(),
            time: time::rfc3339_seconds(operation.time_seconds),
            message: operation.message.clone(),
            purpose,
            of,
            refs: refs.collect(),
            head,
        }
    }
}
