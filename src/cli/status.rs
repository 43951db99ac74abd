//! `treebox status`: where HEAD is and what that came from.

use serde::Serialize;
use treebox::LogQuery;

use super::exit::{Exit, Failure};
use super::{Context, output, text};

#[derive(Serialize)]
struct Record<'a> {
    branch: Option<&'a str>,
    commit: Option<String>,
    state: Option<String>,
    command: Option<&'a str>,
    parents: Vec<String>,
}

pub(super) fn perform(context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let head = engine.head()?;
    let log = match head.commit {
        Some(commit) => {
            engine.log(&LogQuery { revs: vec![commit.to_string()], limit: Some(1), ..LogQuery::default() })?
        }
        None => Vec::new(),
    };
    let tip = log.first();
    let out = &mut context.out;
    if out.json() {
        out.record(&Record {
            branch: head.branch.as_deref(),
            commit: head.commit.map(|id| id.to_string()),
            state: head.state.map(|id| id.to_string()),
            command: tip.map(|tip| tip.command.as_str()),
            parents: tip.map(|tip| tip.parents.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        })?;
        return Ok(Exit::DONE);
    }
    match (&head.branch, head.commit) {
        (Some(branch), _) => writeln!(out, "on branch {}", out.paint(output::CURRENT, branch))?,
        (None, Some(commit)) => writeln!(out, "HEAD detached at {}", commit.short())?,
        (None, None) => writeln!(out, "no HEAD")?,
    }
    let (Some(commit), Some(state)) = (head.commit, head.state) else {
        writeln!(out, "nothing yet: {HOW_TO_BEGIN}")?;
        return Ok(Exit::DONE);
    };
    writeln!(out, "state   {}", out.paint(output::ID, state))?;
    writeln!(out, "commit  {commit}")?;
    if let Some(tip) = tip {
        write!(out, "from    ")?;
        out.name(text::first_line(&tip.command).as_bytes())?;
        if let Some(parent) = tip.parents.first() {
            write!(out, "  (on {})", parent.short())?;
        }
        out.bytes(b"\n")?;
    }
    Ok(Exit::DONE)
}

/// What to do when HEAD names no commit.
const HOW_TO_BEGIN: &str =
    "begin with `treebox run --from IMAGE --branch main …` or `treebox switch -c main IMAGE`";
