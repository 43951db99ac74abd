//! `treebox undo`: take back changes of refs.

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::op::{OperationRecord, summary};
use super::{Context, text};

/// Take back the last change of branches, tags, image names and HEAD; again: one further
///
/// States and remembered runs stay. What was taken back comes again with --to.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go back to what this operation had left; `treebox op log` lists them
    #[arg(long, value_name = "OP")]
    to: Option<String>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let undone = match &args.to {
        Some(id) => engine.undo_to(&engine.operation(id)?.id)?,
        None => engine.undo()?,
    };
    let out = &mut context.out;
    if out.json() {
        out.record(&UndoneRecord {
            operation: undone.operation.as_ref().map(OperationRecord::from),
            taken_back: undone.taken_back.iter().map(OperationRecord::from).collect(),
        })?;
    }
    match &undone.operation {
        None => out.note("everything is as it was then"),
        Some(operation) => {
            let count = match undone.taken_back.as_slice() {
                [one] => format!("took back {} `{}`", one.id.short(), one.message),
                several => {
                    format!("took back {}", text::count(several.len() as u64, "operation", "operations"))
                }
            };
            out.note(format_args!("{count}: {}", summary(operation)));
        }
    }
    Ok(Exit::DONE)
}

/// What taking back came to.
#[derive(Serialize)]
struct UndoneRecord {
    operation: Option<OperationRecord>,
    taken_back: Vec<OperationRecord>,
}
