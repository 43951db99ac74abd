//! `treebox tag`: list, make and delete tags.

use super::exit::{Exit, Failure};
use super::{Context, output, records};

/// List tags; or make, delete them
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox tag [NAME [REV]]\n       treebox tag -d NAME…")]
pub(super) struct Args {
    /// The tag to make and where [default: HEAD]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Delete tags; their states stay
    #[arg(short, long, requires = "names", conflicts_with = "force")]
    delete: bool,
    /// Move the tag if it is already there
    #[arg(short, long, requires = "names")]
    force: bool,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let out = &mut context.out;
    let shown = match args.names.as_slice() {
        names if args.delete => {
            let mut deleted = Vec::new();
            for name in names {
                let was = engine.delete_tag(name)?;
                out.note(format_args!("deleted tag {name} (was {})", was.state.short()));
                deleted.push(was);
            }
            deleted
        }
        [] => engine.tags()?,
        [name, rev @ ..] if rev.len() <= 1 => {
            let state = rev.first().map_or_else(|| engine.head_state(), |rev| engine.resolve(rev))?;
            vec![engine.create_tag(name, &state, args.force)?]
        }
        _ => return Err(Failure::Usage("too many names; see `treebox tag --help`".to_owned())),
    };
    for tag in &shown {
        if out.json() {
            out.record(&records::RefRecord::from(tag))?;
        } else if args.names.is_empty() && out.verbose() {
            writeln!(out, "{}  {}", out.paint(output::ID, tag.state.short()), tag.name)?;
        } else if args.names.is_empty() {
            writeln!(out, "{}", tag.name)?;
        }
    }
    Ok(Exit::DONE)
}
