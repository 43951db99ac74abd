//! `treebox branch`: list, make, rename and delete branches.

use treebox::blocking::Engine;

use super::exit::{Exit, Failure};
use super::listing::{self, Listing};
use super::{Context, output, records, text};

/// List branches, the current one starred; or make, rename, delete them
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "treebox branch [NAME [REV]]\n       treebox branch --list [PATTERN…]\n       treebox branch -d NAME…\n       treebox branch -m [OLD] NEW"
)]
pub(super) struct Args {
    /// The branch to make and where [default: HEAD]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Delete branches; their states stay
    #[arg(short, long, short_alias = 'D', requires = "names", conflicts_with_all = ["rename", "force"])]
    delete: bool,
    /// Rename a branch; without OLD the current one
    #[arg(short = 'm', long = "move", requires = "names", conflicts_with = "force")]
    rename: bool,
    /// Move the branch if it is already there
    #[arg(short, long, requires = "names")]
    force: bool,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    if args.listing.is_asked() && (args.delete || args.rename || args.force) {
        return Err(Failure::Usage("what is listed is neither made nor moved nor deleted".to_owned()));
    }
    match args.names.as_slice() {
        patterns if args.listing.is_asked() => list(&engine, args, patterns, context),
        names if args.delete => delete(&engine, names, context),
        [new] if args.rename => {
            let head = engine.head()?.branch;
            let old =
                head.ok_or_else(|| Failure::refused("HEAD is not on a branch: say which one to rename"))?;
            rename(&engine, &old, new, context)
        }
        [old, new] if args.rename => rename(&engine, old, new, context),
        [] => list(&engine, args, &[], context),
        [name] => make(&engine, name, None, args.force, context),
        [name, rev] if !args.rename => make(&engine, name, Some(rev), args.force, context),
        _ => Err(Failure::Usage("too many names; see `treebox branch --help`".to_owned())),
    }
}

fn make(
    engine: &Engine,
    name: &str,
    rev: Option<&str>,
    force: bool,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let state = rev.map_or_else(|| engine.head_state(), |rev| engine.resolve(rev))?;
    let made = engine.create_branch(name, &state, force)?;
    if context.out.json() {
        context.out.record(&records::RefRecord::from(&made))?;
    }
    Ok(Exit::DONE)
}

fn delete(engine: &Engine, names: &[String], context: &mut Context) -> Result<Exit, Failure> {
    let out = &mut context.out;
    for name in names {
        let was = engine.delete_branch(name)?;
        if out.json() {
            out.record(&records::RefRecord::from(&was))?;
        }
        out.note(format_args!("deleted branch {name} (was {})", was.state.short()));
    }
    Ok(Exit::DONE)
}

fn rename(engine: &Engine, old: &str, new: &str, context: &mut Context) -> Result<Exit, Failure> {
    let out = &mut context.out;
    engine.rename_branch(old, new)?;
    if out.json() {
        let renamed = engine.branches()?.into_iter().find(|branch| branch.name == new);
        renamed.map_or(Ok(()), |branch| out.record(&records::RefRecord::from(&branch)))?;
    }
    out.note(format_args!("branch {old} is now {new}"));
    Ok(Exit::DONE)
}

fn list(engine: &Engine, args: &Args, patterns: &[String], context: &mut Context) -> Result<Exit, Failure> {
    let out = &mut context.out;
    let query = args.listing.query(patterns, out.json() || out.verbose());
    let branches = engine.list_branches(&query)?;
    if out.json() {
        for branch in &branches {
            out.record(&listing::Record::from(branch))?;
        }
        return Ok(Exit::DONE);
    }
    let head = engine.head()?;
    if let (None, Some(commit), false) = (&head.branch, head.commit, args.listing.is_asked()) {
        let at = format!("(HEAD detached at {})", commit.short());
        writeln!(out, "* {}", out.paint(output::CURRENT, at))?;
    }
    let tips: Vec<_> = branches.iter().map(|branch| branch.commit).collect();
    let tips = if out.verbose() { engine.commits(&tips)? } else { Vec::new() };
    let width = branches.iter().map(|branch| branch.name.chars().count()).max().unwrap_or(0);
    for (at, branch) in branches.iter().enumerate() {
        let star = if branch.current { '*' } else { ' ' };
        let style = if branch.current { output::CURRENT } else { output::PLAIN };
        let Some(tip) = tips.get(at) else {
            writeln!(out, "{star} {}", out.paint(style, &branch.name))?;
            continue;
        };
        let padded = format!("{:width$}", branch.name);
        let id = out.paint(output::ID, tip.state.short());
        write!(out, "{star} {}  {id}  ", out.paint(style, padded))?;
        out.name(text::first_line(&tip.command).as_bytes())?;
        out.bytes(b"\n")?;
    }
    Ok(Exit::DONE)
}
