//! `treebox switch`: make another branch the current one.

use treebox::Head;

use super::exit::{Exit, Failure};
use super::{Context, records};

/// Make a branch the current one; host files are never touched
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    name: String,
    /// Make the branch first, at REV
    #[arg(short, long)]
    create: bool,
    /// Where a new branch begins [default: HEAD]
    #[arg(requires = "create")]
    rev: Option<String>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let head = if args.create {
        let at = args.rev.as_deref().map(|rev| engine.resolve(rev)).transpose()?;
        engine.switch_new(&args.name, at.as_ref())?
    } else {
        engine.switch(&args.name)?
    };
    tell(&head, context)
}

/// Says where HEAD is now.
pub(super) fn tell(head: &Head, context: &mut Context) -> Result<Exit, Failure> {
    let out = &mut context.out;
    if out.json() {
        out.record(&records::HeadRecord::from(head))?;
    }
    let state = head.state.map(|id| id.short()).unwrap_or_default();
    match &head.branch {
        Some(branch) => out.note(format_args!("on branch {branch} at {state}")),
        None => out.note(format_args!("HEAD is detached at {state}")),
    }
    Ok(Exit::DONE)
}
