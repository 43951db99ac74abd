//! `treebox log`: commits with their commands.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::time::Duration;

use serde::Serialize;
use treebox::blocking::Engine;
use treebox::object::{CommitId, TreePath};
use treebox::{ChangeCounts, CommitInfo, Difference, LogQuery};

use super::differences::{self, DifferenceRecord};
use super::exit::{Exit, Failure};
use super::graph::{Graph, Lines};
use super::output::{self, Output};
use super::shape::Shape;
use super::{Context, note, records, rev_path, text, time};

/// List commits with the commands that made them, newest first
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox log [OPTIONS] [REV…] [-- PATH…]")]
pub(super) struct Args {
    /// Where from, or a range such as a..b [default: HEAD]
    #[arg(value_name = "REV")]
    revs: Vec<String>,
    /// Draw how they hang together
    #[arg(long)]
    graph: bool,
    /// One line a commit
    #[arg(long)]
    oneline: bool,
    /// Begin at every branch, every tag and HEAD
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    shape: Shape,
    /// At most so many
    #[arg(short = 'n', long = "max-count", value_name = "N")]
    limit: Option<usize>,
    /// Only commits that changed something at or below these
    #[arg(value_name = "PATH", last = true)]
    paths: Vec<OsString>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let paths = rev_path::paths(&args.paths)?;
    let engine = context.engine()?;
    let mut revs = args.revs.clone();
    if args.all {
        let refs = engine.branches()?.into_iter().chain(engine.tags()?).map(|at| at.commit);
        revs.extend(engine.head()?.commit.into_iter().chain(refs).map(|commit| commit.to_string()));
    }
    let query = LogQuery { revs, limit: args.limit, paths };
    let commits = engine.log(&query)?;
    let out = &mut context.out;
    out.page();
    if out.json() {
        for commit in &commits {
            let paths = match args.shape.form() {
                Some(_) => Some(changes(&engine, commit, &args.shape, &query.paths)?),
                None => None,
            };
            let paths = paths.as_deref().map(|paths| {
                differences::records(&engine, &args.shape, paths).collect::<Result<Vec<_>, _>>()
            });
            out.record(&Record { commit: commit.into(), paths: paths.transpose()? })?;
        }
        return Ok(Exit::DONE);
    }
    let parents = if args.graph { shown_parents(&engine, &query, &commits)? } else { HashMap::new() };
    let mut graph = Graph::default();
    for (at, commit) in commits.iter().enumerate() {
        let lines = match args.graph {
            true => graph.draw(commit.commit, &parents[&commit.commit]),
            false => Lines { star: String::new(), beside: String::new(), below: Vec::new() },
        };
        let mut side = Side { lines: &lines, first: true, drawn: args.graph };
        if args.oneline {
            oneline(commit, &mut side, out)?;
        } else {
            whole(commit, &mut side, out)?;
        }
        if let Some(form) = args.shape.form() {
            let found = changes(&engine, commit, &args.shape, &query.paths)?;
            if !found.is_empty() && !args.oneline {
                side.begin(out)?;
                out.bytes(b"\n")?;
            }
            let beside = if args.graph { lines.star.chars().count() + 1 } else { 0 };
            let columns = out.columns().saturating_sub(beside);
            args.shape.write(&engine, &found, form, columns, &mut |spans| {
                side.begin(out)?;
                out.spans(&spans)?;
                out.bytes(b"\n")
            })?;
        }
        if !args.oneline && at + 1 < commits.len() {
            side.begin(out)?;
            out.bytes(b"\n")?;
        }
        for line in &lines.below {
            writeln!(out, "{line}")?;
        }
    }
    Ok(Exit::DONE)
}

/// What a commit changed of its first parent; nothing where it has none, for an import changes nothing that came before it.
pub(super) fn changes(
    engine: &Engine,
    commit: &CommitInfo,
    shape: &Shape,
    paths: &[TreePath],
) -> Result<Vec<Difference>, Failure> {
    let Some(parent) = commit.parents.first() else { return Ok(Vec::new()) };
    let (old, new) = (engine.resolve(&parent.to_string())?, engine.state(commit.state)?);
    Ok(engine.compare(&old, &new, &shape.options(paths))?)
}

/// A commit, and what it changed where that was asked for.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    commit: records::CommitRecord<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<DifferenceRecord>>,
}

/// The nearest ancestors that are shown themselves, for every commit that is shown.
fn shown_parents(
    engine: &Engine,
    query: &LogQuery,
    commits: &[CommitInfo],
) -> Result<HashMap<CommitId, Vec<CommitId>>, Failure> {
    let shown: HashSet<_> = commits.iter().map(|commit| commit.commit).collect();
    // Where paths leave commits out, the way between those that are shown leads over the others.
    let all = if query.paths.is_empty() {
        Vec::new()
    } else {
        engine.log(&LogQuery { revs: query.revs.clone(), ..LogQuery::default() })?
    };
    let ways: HashMap<_, _> =
        all.iter().chain(commits).map(|commit| (commit.commit, &commit.parents)).collect();
    let nearest = |commit: &CommitInfo| {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let mut todo: Vec<_> = commit.parents.iter().rev().copied().collect();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            match ways.get(&id) {
                _ if shown.contains(&id) => found.push(id),
                Some(parents) => todo.extend(parents.iter().rev()),
                None => {}
            }
        }
        (commit.commit, found)
    };
    Ok(commits.iter().map(nearest).collect())
}

/// Puts the drawing beside every line of a commit's text.
struct Side<'a> {
    lines: &'a Lines,
    first: bool,
    drawn: bool,
}

impl Side<'_> {
    fn begin(&mut self, out: &mut Output) -> Result<(), Failure> {
        let first = std::mem::replace(&mut self.first, false);
        let lines = self.lines;
        match (self.drawn, first) {
            (false, _) => Ok(()),
            (true, true) => write!(out, "{} ", lines.star),
            // As wide as the line with the star, so that the text stays in its column.
            (true, false) => write!(out, "{:width$} ", lines.beside, width = lines.star.chars().count()),
        }
    }
}

fn oneline(commit: &CommitInfo, side: &mut Side<'_>, out: &mut Output) -> Result<(), Failure> {
    side.begin(out)?;
    write!(out, "{} ", out.paint(output::ID, commit.commit.short()))?;
    if let Some(refs) = decoration(commit) {
        write!(out, "{} ", out.paint(output::REFS, refs))?;
    }
    out.name(text::first_line(&commit.command).as_bytes())?;
    if let Some(code) = commit.exit_code.filter(|code| *code != 0) {
        write!(out, " {}", out.paint(output::DELETED, format!("[exit {code}]")))?;
    }
    out.bytes(b"\n")
}

fn whole(commit: &CommitInfo, side: &mut Side<'_>, out: &mut Output) -> Result<(), Failure> {
    side.begin(out)?;
    write!(out, "{}", out.paint(output::ID, format!("commit {}", commit.commit)))?;
    if let Some(refs) = decoration(commit) {
        write!(out, " {}", out.paint(output::REFS, refs))?;
    }
    out.bytes(b"\n")?;
    for line in facts(commit) {
        side.begin(out)?;
        writeln!(out, "{line}")?;
    }
    side.begin(out)?;
    out.bytes(b"\n")?;
    for line in commit.command.trim_end().lines() {
        side.begin(out)?;
        out.bytes(b"    ")?;
        out.name(line.as_bytes())?;
        out.bytes(b"\n")?;
    }
    for line in note::lines(commit) {
        side.begin(out)?;
        out.name(line.as_bytes())?;
        out.bytes(b"\n")?;
    }
    Ok(())
}

/// The lines between the commit's id and its command.
pub(super) fn facts(commit: &CommitInfo) -> Vec<String> {
    let mut lines = vec![format!("state:   {}", commit.state)];
    if commit.parents.len() > 1 {
        let parents: Vec<_> = commit.parents.iter().map(CommitId::short).collect();
        lines.push(format!("merge:   {}", parents.join(" ")));
    }
    if let Some(ms) = commit.started_ms {
        lines.push(format!("date:    {}", time::rfc3339_seconds(ms.div_euclid(1000))));
    }
    let exit = commit.exit_code.map(|code| format!("exit {code}"));
    let took = commit
        .duration_ms
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok())
        .map(|time| format!("in {}", text::duration(time)));
    // An import changes nothing that came before it.
    let counts = commit.changes != ChangeCounts::default();
    let changes = counts.then(|| text::changes(commit.changes));
    let words: Vec<_> = [exit, took, changes].into_iter().flatten().collect();
    if !words.is_empty() {
        lines.push(format!("result:  {}", words.join(" ")));
    }
    lines
}

/// `(HEAD -> main, dev, tag: v1)`; nothing when no ref is there.
pub(super) fn decoration(commit: &CommitInfo) -> Option<String> {
    (!commit.refs.is_empty()).then(|| format!("({})", commit.refs.join(", ")))
}
