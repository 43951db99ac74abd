//! `treebox ls`: what is in a directory of a state.

use treebox::Listed;
use treebox::object::{Node, TreePath};

use super::exit::{Exit, Failure};
use super::{Context, output, records, rev_path, text, time};

/// List a directory of a state
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where [default: the root of HEAD]
    #[arg(value_name = "REV:/PATH")]
    place: Option<String>,
    /// Mode, links, owner, group, size, time (UTC), name
    #[arg(short)]
    long: bool,
    /// Everything below, as paths
    #[arg(short = 'R', long)]
    recursive: bool,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let (state, path) = rev_path::resolve(&engine, args.place.as_deref())?;
    let listed = engine.list(&state, &path, args.recursive)?;
    let out = &mut context.out;
    if out.json() {
        for one in &listed {
            out.record(&records::EntryRecord::new(&one.path, &one.entry))?;
        }
        return Ok(Exit::DONE);
    }
    let skip = names_above(&listed, &path);
    let columns = Columns::fitting(&listed);
    for one in &listed {
        if args.long {
            columns.write(one, out)?;
        }
        out.name(&below(&one.path, skip))?;
        if let (true, Node::Symlink { target }) = (args.long, &one.entry.node) {
            write!(out, " -> ")?;
            out.name(target)?;
        }
        out.bytes(b"\n")?;
    }
    Ok(Exit::DONE)
}

/// How many names every listed path begins with. What is in a directory comes first, so the first path has one name
/// more; `None` for a file that was asked for itself and is shown whole.
fn names_above(listed: &[Listed], asked: &TreePath) -> Option<usize> {
    match listed {
        [only] if only.path == *asked => None,
        [first, ..] => Some(first.path.names().len().saturating_sub(1)),
        [] => None,
    }
}

fn below(path: &TreePath, skip: Option<usize>) -> Vec<u8> {
    match skip {
        Some(skip) => TreePath::from(path.names()[skip..].to_vec()).to_relative_bytes(),
        None => path.to_bytes(),
    }
}

/// The widths of `ls -l`.
struct Columns {
    links: usize,
    uid: usize,
    gid: usize,
    size: usize,
}

fn size_or_device(one: &Listed) -> String {
    match one.entry.node {
        Node::Char { major, minor } | Node::Block { major, minor } => format!("{major}, {minor}"),
        _ => text::entry_size(&one.entry).to_string(),
    }
}

impl Columns {
    fn fitting(listed: &[Listed]) -> Self {
        let widest =
            |column: fn(&Listed) -> String| listed.iter().map(|one| column(one).len()).max().unwrap_or(0);
        Self {
            links: widest(|one| one.links.to_string()),
            uid: widest(|one| one.entry.meta.uid.to_string()),
            gid: widest(|one| one.entry.meta.gid.to_string()),
            size: widest(size_or_device),
        }
    }

    fn write(&self, one: &Listed, out: &mut output::Output) -> Result<(), Failure> {
        let meta = &one.entry.meta;
        write!(
            out,
            "{} {:>links$} {:>uid$} {:>gid$} {:>size$} {} ",
            text::mode(&one.entry),
            one.links,
            meta.uid,
            meta.gid,
            size_or_device(one),
            time::rfc3339_seconds(meta.mtime.seconds()),
            links = self.links,
            uid = self.uid,
            gid = self.gid,
            size = self.size,
        )
    }
}
