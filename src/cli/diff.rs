//! `treebox diff`: what differs between two states.

use std::ffi::OsString;

use treebox::blocking::{Engine, State};

use super::exit::{Exit, Failure};
use super::shape::{Form, Shape};
use super::{Context, differences, rev_path};

/// Show what differs between two states
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox diff [OPTIONS] OLD [NEW] [-- PATH…]")]
pub(super) struct Args {
    /// The older state and the newer one [default: HEAD]; OLD..NEW is the same, A...B compares B with what both come from
    #[arg(value_name = "REV", required = true, num_args = 1..=2)]
    revs: Vec<String>,
    #[command(flatten)]
    shape: Shape,
    /// Exit 1 if anything differs
    #[arg(long)]
    exit_code: bool,
    /// Only at or below these
    #[arg(value_name = "PATH", last = true)]
    paths: Vec<OsString>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    compare(args, context).map_err(|failure| failure.met_at(args.revs.join("..")))
}

fn compare(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let paths = rev_path::paths(&args.paths)?;
    let engine = context.engine()?;
    let (old, new) = sides(&engine, &args.revs)?;
    let found = engine.compare(&old, &new, &args.shape.options(&paths))?;
    let out = &mut context.out;
    out.page();
    if out.json() {
        differences::records(&engine, &args.shape, &found)
            .try_for_each(|record| record.and_then(|record| out.record(&record)))?;
    } else {
        let form = args.shape.form().unwrap_or(Form::NameStatus);
        let columns = out.columns();
        args.shape.write(&engine, &found, form, columns, &mut |spans| {
            out.spans(&spans)?;
            out.bytes(b"\n")
        })?;
    }
    Ok(if args.exit_code && !found.is_empty() { Exit::NO } else { Exit::DONE })
}

/// The two states that `OLD NEW`, `OLD..NEW` or `A...B` mean; an end left out is HEAD.
fn sides(engine: &Engine, revs: &[String]) -> Result<(State, State), Failure> {
    if let Some(place) = revs.iter().find(|rev| rev.contains(":/")) {
        let (rev, path) = place.split_once(":/").expect("it was just found");
        let message = format!("diff compares whole revisions: write `{rev}`, and `-- /{path}` behind them");
        return Err(Failure::Usage(message));
    }
    let end = |rev: &str| if rev.is_empty() { engine.head_state() } else { engine.resolve(rev) };
    if let [range] = revs {
        if let Some((a, b)) = range.split_once("...") {
            let named = |rev: &str| if rev.is_empty() { "HEAD".to_owned() } else { rev.to_owned() };
            return Ok((engine.common_ancestor(&named(a), &named(b))?, end(b)?));
        }
        if let Some((old, new)) = range.split_once("..") {
            return Ok((end(old)?, end(new)?));
        }
    }
    Ok((end(&revs[0])?, end(revs.get(1).map_or("", String::as_str))?))
}
