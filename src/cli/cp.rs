//! `treebox cp`: files into a branch, out of a state, or from state to branch.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;
use treebox::CopySource;
use treebox::blocking::Engine;
use treebox::object::{Node, TreePath};

use super::exit::{Exit, Failure};
use super::rev_path::Side;
use super::{Context, import, records, text};

/// Copy between the host and a state; into a branch makes a commit
///
/// Either side is REV:/path or a host path (write ./a:/b for a host path of that shape). `-` is a tar stream.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// REV:/path, a host path, or - for a tar stream on stdin
    source: OsString,
    /// BRANCH:/path, a host path, or - for a tar stream on stdout
    dest: OsString,
}

#[derive(Serialize)]
struct Record<'a> {
    state: String,
    commit: String,
    branch: &'a str,
    changed: bool,
    changes: records::Counts,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let (source, dest) = (Side::parse(&args.source), Side::parse(&args.dest));
    match (source, dest) {
        (source, Side::State { rev, path }) => copy_in(source, rev, path, context),
        (Side::State { rev, path }, dest) => copy_out(rev, path, dest, context),
        _ => Err(Failure::Usage(
            "neither side is in a state: write it as REV:/path (:/path is in HEAD)".to_owned(),
        )),
    }
}

fn parsed(path: &str) -> Result<TreePath, Failure> {
    TreePath::parse(path.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))
}

/// `rev` as the engine takes it, where nothing means HEAD.
fn or_head(rev: &str) -> &str {
    if rev.is_empty() { "HEAD" } else { rev }
}

fn copy_in(source: Side<'_>, rev: &str, path: &str, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    // The engine refuses what is no branch, and a HEAD that is on none.
    let head = if matches!(rev, "" | "HEAD" | "@") { engine.head()?.branch } else { None };
    let branch = head.unwrap_or_else(|| or_head(rev).to_owned());
    let dest = parsed(path)?;
    if path.ends_with('/') && path.len() > 1 {
        expect_directory(&engine, &branch, path)?;
    }
    let committed = match source {
        Side::Host(host) => engine.copy_in(&CopySource::Path(Path::new(host)), &branch, &dest)?,
        Side::Stream => engine.copy_in(&CopySource::Tar(&mut std::io::stdin()), &branch, &dest)?,
        Side::State { rev, path } => {
            let state = engine.resolve(or_head(rev))?;
            engine.copy_in(&CopySource::State(&state, &parsed(path)?), &branch, &dest)?
        }
    };
    let out = &mut context.out;
    if out.json() {
        out.record(&Record {
            state: committed.state.id().to_string(),
            commit: committed.commit.to_string(),
            branch: &branch,
            changed: committed.changed,
            changes: committed.changes.into(),
        })?;
    }
    let what = if committed.changed { text::changes(committed.changes) } else { "unchanged".to_owned() };
    out.note(format_args!("{branch} {} {what}", committed.state.id().short()));
    Ok(Exit::DONE)
}

/// A path with a slash at its end means a directory that is there, as for `cp` and `podman cp`.
fn expect_directory(engine: &Engine, rev: &str, path: &str) -> Result<(), Failure> {
    let state = engine.resolve(rev)?;
    match engine.entry(&state, &parsed(path)?)?.entry.node {
        Node::Directory { .. } | Node::Symlink { .. } => Ok(()),
        _ => Err(Failure::refused(format!("not a directory: {path}"))),
    }
}

fn copy_out(rev: &str, path: &str, dest: Side<'_>, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let state = engine.resolve(or_head(rev))?;
    let path = parsed(path)?;
    let out = &mut context.out;
    let Side::Host(dest) = dest else {
        let written = engine.write_tar(&state, &path, out.writer());
        out.check(written)?;
        return Ok(Exit::DONE);
    };
    let dest = Path::new(dest);
    let written = engine.copy_out(&state, &path, dest)?;
    if out.json() {
        out.record(&records::WrittenRecord::new(state.id().to_string(), &path, dest, &written))?;
    }
    if !written.skipped.is_empty() || out.verbose() {
        out.note(format_args!(
            "{}{}",
            text::count(written.entries, "entry", "entries"),
            import::left_out(&written.skipped, out.verbose()),
        ));
    }
    Ok(Exit::DONE)
}
