//! `treebox merge`: join another line of history with the current one.

use serde::Serialize;
use treebox::object::{Conflict, Entry, Node, Side, TreePath};
use treebox::{Merge, MergeHow, MergeOptions};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::{Context, records, text};

/// Merge a revision into the current branch
///
/// What one side changed is as that side has it, texts are joined line by line, and what does not join is listed: then the exit code is 1 and
/// nothing has moved. --ours and --theirs settle conflicts, all of them or those at and below the paths given.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to merge
    rev: String,
    #[command(flatten)]
    settle: Settle,
    /// Make a merge commit even where the branch could simply move on
    #[arg(long, conflicts_with = "ff_only")]
    no_ff: bool,
    /// Refuse to make a merge commit
    #[arg(long)]
    ff_only: bool,
    /// The message of the merge commit
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Merge what has no common commit
    #[arg(long)]
    allow_unrelated_histories: bool,
}

/// Which side settles conflicts.
#[derive(Debug, clap::Args)]
pub(super) struct Settle {
    /// Settle conflicts as the current branch has it: all, or those at and below the paths
    #[arg(long, value_name = "PATH", num_args = 0..)]
    ours: Option<Vec<String>>,
    /// Settle conflicts as the other side has it: all, or those at and below the paths
    #[arg(long, value_name = "PATH", num_args = 0..)]
    theirs: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Record<'a> {
    how: &'static str,
    state: String,
    commit: String,
    tree: String,
    branch: Option<&'a str>,
    changes: records::Counts,
}

/// A path or a setting that does not join.
#[derive(Serialize)]
struct ConflictRecord<'a> {
    conflict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<&'a str>,
    base: Option<SideRecord<'a>>,
    ours: Option<SideRecord<'a>>,
    theirs: Option<SideRecord<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum SideRecord<'a> {
    Path {
        #[serde(flatten)]
        attributes: records::Attributes,
        #[serde(skip_serializing_if = "Option::is_none")]
        blob: Option<String>,
    },
    Setting(&'a str),
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let options = MergeOptions {
        settle: args.settle.settlements()?,
        no_fast_forward: args.no_ff,
        only_fast_forward: args.ff_only,
        message: args.message.clone(),
        unrelated: args.allow_unrelated_histories,
    };
    let merge = context.engine()?.merge(&args.rev, &options)?;
    let out = &mut context.out;
    if merge.how == MergeHow::Conflicts {
        conflicts(&merge.conflicts, &merge.config_conflicts, out)?;
        let count = merge.conflicts.len() + merge.config_conflicts.len();
        out.note(format_args!(
            "{}: nothing moved; settle with --ours or --theirs, for all or for the paths that follow it",
            text::count(count as u64, "conflict", "conflicts")
        ));
        return Ok(Exit::NO);
    }
    if out.json() {
        out.record(&Record {
            how: merge.how.as_str(),
            state: merge.state.id().to_string(),
            commit: merge.commit.to_string(),
            tree: merge.state.tree().to_string(),
            branch: merge.branch.as_deref(),
            changes: merge.changes.into(),
        })?;
    }
    out.note(told(&merge));
    Ok(Exit::DONE)
}

fn told(merge: &Merge) -> String {
    let at = merge.branch.as_deref().unwrap_or("HEAD");
    let state = merge.state.id().short();
    match merge.how {
        MergeHow::UpToDate => format!("{at} {state} already has it"),
        how => format!("{at} {state} {} {}", text::changes(merge.changes), how.as_str()),
    }
}

impl Settle {
    /// By path; the root path stands for all.
    pub(super) fn settlements(&self) -> Result<Vec<(TreePath, Side)>, Failure> {
        let mut settlements: Vec<(TreePath, Side)> = Vec::new();
        for (side, paths) in [(Side::Ours, &self.ours), (Side::Theirs, &self.theirs)] {
            let Some(paths) = paths else { continue };
            let mut parsed = if paths.is_empty() { vec![TreePath::root()] } else { Vec::new() };
            for path in paths {
                if !path.starts_with('/') {
                    return Err(Failure::Usage(format!(
                        "`{path}` is no path in a state: paths begin with /, and REV comes before --ours and --theirs"
                    )));
                }
                parsed.push(
                    TreePath::parse(path.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))?,
                );
            }
            for path in parsed {
                if settlements.iter().any(|(known, other)| *known == path && *other != side) {
                    return Err(Failure::Usage(format!("{path} cannot be both ours and theirs")));
                }
                settlements.push((path, side));
            }
        }
        Ok(settlements)
    }
}

/// Lists what does not join, a line each.
pub(super) fn conflicts(
    paths: &[Conflict],
    settings: &[treebox::object::ConfigConflict],
    out: &mut Output,
) -> Result<(), Failure> {
    if out.json() {
        return json(paths, settings, out);
    }
    for conflict in paths {
        write!(out, "{}  ", out.paint(output::DELETED, conflict.kind.as_str()))?;
        out.name(&conflict.path.to_bytes())?;
        for (name, side) in [("base", &conflict.base), ("ours", &conflict.ours), ("theirs", &conflict.theirs)]
        {
            write!(out, "  {name} ")?;
            out.name(&short(side.as_ref()))?;
        }
        out.bytes(b"\n")?;
    }
    for conflict in settings {
        write!(out, "{}  ", out.paint(output::DELETED, "config"))?;
        out.name(conflict.setting.as_bytes())?;
        for (name, side) in [("base", &conflict.base), ("ours", &conflict.ours), ("theirs", &conflict.theirs)]
        {
            write!(out, "  {name} ")?;
            let shown = side.as_ref().map_or_else(|| "-".to_owned(), |side| format!("{side:?}"));
            out.name(shown.as_bytes())?;
        }
        out.bytes(b"\n")?;
    }
    Ok(())
}

fn json(
    paths: &[Conflict],
    settings: &[treebox::object::ConfigConflict],
    out: &mut Output,
) -> Result<(), Failure> {
    for conflict in paths {
        let (path, path_base64) = records::lossy(&conflict.path.to_bytes());
        let side = |entry: &Option<Entry>| {
            entry.as_ref().map(|entry| SideRecord::Path {
                attributes: records::Attributes::new(entry),
                blob: match &entry.node {
                    Node::File { blob, .. } => Some(blob.to_string()),
                    _ => None,
                },
            })
        };
        out.record(&ConflictRecord {
            conflict: conflict.kind.as_str(),
            path: Some(path),
            path_base64,
            setting: None,
            base: side(&conflict.base),
            ours: side(&conflict.ours),
            theirs: side(&conflict.theirs),
        })?;
    }
    for conflict in settings {
        let [base, ours, theirs] = [&conflict.base, &conflict.ours, &conflict.theirs]
            .map(|side| side.as_deref().map(SideRecord::Setting));
        let setting = Some(conflict.setting.as_str());
        let (path, path_base64) = (None, None);
        out.record(&ConflictRecord { conflict: "config", path, path_base64, setting, base, ours, theirs })?;
    }
    Ok(())
}

/// What is there, in a few words: `-` when nothing is.
fn short(entry: Option<&Entry>) -> Vec<u8> {
    let Some(entry) = entry else { return b"-".to_vec() };
    let meta = &entry.meta;
    let mut text =
        format!("{} {:04o} {}:{}", entry.node.kind().as_str(), meta.mode, meta.uid, meta.gid).into_bytes();
    match &entry.node {
        Node::File { blob, size, .. } => {
            text.extend(format!(" {} {}", text::size(*size), blob.short()).into_bytes());
        }
        Node::Symlink { target } => {
            text.extend_from_slice(b" -> ");
            text.extend_from_slice(target);
        }
        _ => {}
    }
    text
}
