//! `treebox describe`: a commit by its nearest tag.

use serde::Serialize;
use treebox::DescribeQuery;

use super::Context;
use super::exit::{Exit, Failure};

/// Name a commit by the nearest tag: the tag, how many commits it is ahead and the short id, as v1-3-g0123456789ab
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which one [default: HEAD]
    #[arg(default_value = "HEAD", hide_default_value = true)]
    rev: String,
    /// Every tag counts; for those who know Git, where only annotated ones do without it
    #[arg(long)]
    tags: bool,
    /// The short id when there is no tag
    #[arg(long)]
    always: bool,
    /// Only a tag at the commit itself
    #[arg(long)]
    exact_match: bool,
    /// The long form at the tag itself too: v1-0-g0123456789ab
    #[arg(long)]
    long: bool,
    /// Only tags that match
    #[arg(long = "match", value_name = "PATTERN")]
    patterns: Vec<String>,
}

#[derive(Serialize)]
struct Record<'a> {
    description: &'a str,
    tag: Option<&'a str>,
    ahead: Option<u64>,
    commit: String,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let query = DescribeQuery { patterns: args.patterns.clone(), exact: args.exact_match };
    let found = engine.describe(&args.rev, &query)?;
    let out = &mut context.out;
    let (description, commit) = match &found {
        Some(found) if args.long => {
            (format!("{}-{}-g{}", found.tag, found.ahead, found.commit.short()), found.commit)
        }
        Some(found) => (found.to_string(), found.commit),
        None if args.always => {
            let commit = engine.show(&args.rev)?.info.commit;
            (commit.short(), commit)
        }
        None => {
            let which = if args.exact_match { "is at" } else { "leads to" };
            out.note(format_args!(
                "no tag {which} {}: `treebox tag NAME {0}` makes one, --always gives the short id",
                args.rev
            ));
            return Ok(Exit::NO);
        }
    };
    if out.json() {
        let tag = found.as_ref().map(|found| found.tag.as_str());
        let ahead = found.as_ref().map(|found| found.ahead);
        out.record(&Record { description: &description, tag, ahead, commit: commit.to_string() })?;
    } else {
        writeln!(out, "{description}")?;
    }
    Ok(Exit::DONE)
}
