//! `treebox lineage`: where a commit came from and what came of it.

use serde::Serialize;
use treebox::{Ancestry, Child, CommitInfo};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::{Context, log, records, text};

/// Show where a commit came from, back to the image it grew from, and what was made of it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which one [default: HEAD]
    #[arg(default_value = "HEAD", hide_default_value = true)]
    rev: String,
    /// At most so many commits of the way back
    #[arg(short = 'n', long = "max-count", value_name = "N")]
    limit: Option<usize>,
}

/// A commit with its relatives. `depth` counts the commits behind it by first parents, and `chain` lists them, nearest first.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    commit: records::CommitRecord<'a>,
    depth: u64,
    root: records::CommitRecord<'a>,
    parent_commits: Vec<records::CommitRecord<'a>>,
    children: Vec<ChildRecord<'a>>,
    chain: Vec<records::CommitRecord<'a>>,
}

#[derive(Serialize)]
struct ChildRecord<'a> {
    state: String,
    commit: Option<String>,
    command: &'a str,
    exit_code: Option<i32>,
    named: bool,
}

impl<'a> From<&'a Child> for ChildRecord<'a> {
    fn from(child: &'a Child) -> Self {
        Self {
            state: child.state.to_string(),
            commit: child.commit.map(|id| id.to_string()),
            command: &child.command,
            exit_code: child.exit_code,
            named: child.named,
        }
    }
}

impl<'a> From<&'a Ancestry> for Record<'a> {
    fn from(of: &'a Ancestry) -> Self {
        Self {
            commit: (&of.commit).into(),
            depth: of.depth,
            root: (&of.root).into(),
            parent_commits: of.parents.iter().map(Into::into).collect(),
            children: of.children.iter().map(Into::into).collect(),
            chain: of.chain.iter().map(Into::into).collect(),
        }
    }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let ancestry = engine.ancestry(&args.rev, args.limit)?;
    let out = &mut context.out;
    if out.json() {
        out.record(&Record::from(&ancestry))?;
        return Ok(Exit::DONE);
    }
    tree(&ancestry, out)?;
    Ok(Exit::DONE)
}

/// The root first, each step below it, the commit with a star, and what was made of it on branches below that.
fn tree(of: &Ancestry, out: &mut Output) -> Result<(), Failure> {
    let left_out = of.depth - of.chain.len() as u64;
    if left_out > 0 {
        commit(" ", &of.root, out)?;
        if left_out > 1 {
            writeln!(out, "  … {}", text::count(left_out - 1, "commit", "commits"))?;
        }
    }
    for step in of.chain.iter().rev() {
        commit(" ", step, out)?;
    }
    for merged in of.parents.iter().skip(1) {
        commit("+", merged, out)?;
    }
    commit("*", &of.commit, out)?;
    for (at, child) in of.children.iter().enumerate() {
        let branch = if at + 1 < of.children.len() { "├─" } else { "└─" };
        let id = child.commit.map_or_else(|| child.state.short(), |id| id.short());
        write!(out, "  {branch} {} ", out.paint(output::ID, id))?;
        out.name(text::first_line(&child.command).as_bytes())?;
        if let Some(code) = child.exit_code.filter(|code| *code != 0) {
            write!(out, " {}", out.paint(output::DELETED, format!("[exit {code}]")))?;
        }
        let what = match (child.commit, child.named) {
            (_, true) => "",
            (Some(_), false) => " (no ref leads to it)",
            (None, false) => " (remembered run)",
        };
        writeln!(out, "{what}")?;
    }
    Ok(())
}

fn commit(sign: &str, commit: &CommitInfo, out: &mut Output) -> Result<(), Failure> {
    write!(out, "{sign} {} ", out.paint(output::ID, commit.commit.short()))?;
    if let Some(refs) = log::decoration(commit) {
        write!(out, "{} ", out.paint(output::REFS, refs))?;
    }
    out.name(text::first_line(&commit.command).as_bytes())?;
    out.bytes(b"\n")
}
