//! `treebox tag`: list, make and delete tags.

use treebox::blocking::Engine;

use super::exit::{Exit, Failure};
use super::listing::{self, Listing};
use super::{Context, output, records};

/// List tags; or make, delete them
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "treebox tag [NAME [REV]]\n       treebox tag --list [PATTERN…]\n       treebox tag -d NAME…"
)]
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
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let asked = args.listing.is_asked();
    if asked && (args.delete || args.force) {
        return Err(Failure::Usage("what is listed is neither made nor moved nor deleted".to_owned()));
    }
    let out = &mut context.out;
    let changed = match args.names.as_slice() {
        patterns if asked || patterns.is_empty() => return list(&engine, args, context),
        names if args.delete => {
            let mut deleted = Vec::new();
            for name in names {
                let was = engine.delete_tag(name)?;
                out.note(format_args!("deleted tag {name} (was {})", was.state.short()));
                deleted.push(was);
            }
            deleted
        }
        [name, rev @ ..] if rev.len() <= 1 => {
            let state = rev.first().map_or_else(|| engine.head_state(), |rev| engine.resolve(rev))?;
            vec![engine.create_tag(name, &state, args.force)?]
        }
        _ => return Err(Failure::Usage("too many names; see `treebox tag --help`".to_owned())),
    };
    for tag in changed.iter().filter(|_| out.json()).collect::<Vec<_>>() {
        out.record(&records::RefRecord::from(tag))?;
    }
    Ok(Exit::DONE)
}

fn list(engine: &Engine, args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let out = &mut context.out;
    let query = args.listing.query(&args.names, out.json() || out.verbose());
    for tag in engine.list_tags(&query)? {
        if out.json() {
            out.record(&listing::Record::from(&tag))?;
            continue;
        }
        if let Some(state) = tag.state {
            write!(out, "{}  ", out.paint(output::ID, state.short()))?;
        }
        writeln!(out, "{}", tag.name)?;
    }
    Ok(Exit::DONE)
}
