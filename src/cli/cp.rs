//! `treebox cp`: files into a branch, out of a state, or from state to branch.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use treebox::blocking::Engine;
use treebox::object::{Node, TreePath};
use treebox::{CopyOptions, CopySource, Difference, ModeChange};

use super::differences::DifferenceRecord;
use super::exit::{Exit, Failure};
use super::rev_path::Side;
use super::shape::{Form, Shape};
use super::{Context, differences, import, records, text};

/// Copy between the host and a state; into a branch makes a commit
///
/// Either side is REV:/path or a host path (write ./a:/b for a host path of that shape). `-` is a tar stream. SRC/. means what is in a
/// directory. What a .treeboxignore at the root of a copied host directory matches stays behind; it is written as a .gitignore.
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox cp [OPTIONS] SRC… DEST")]
pub(super) struct Args {
    /// REV:/path, host paths, or - for a tar stream; the last is where to, and must be a directory for several sources
    #[arg(value_names = ["SRC", "DEST"], required = true, num_args = 2..)]
    paths: Vec<OsString>,
    /// Leave out what matches, as in a .gitignore at the root of each copied directory; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// Copy what .treeboxignore leaves out too
    #[arg(long)]
    no_ignore: bool,
    /// Who owns what is copied into a branch: UID, UID:GID or :GID, by number or by name in the state
    #[arg(long, value_name = "UID[:GID]")]
    chown: Option<String>,
    /// Permissions of what is copied into a branch, as for chmod: 755, u+x,go-w, a=rX; D755,F644 tells directories from files
    #[arg(long, value_name = "MODE")]
    chmod: Option<ModeChange>,
    /// Delete in a branch's directory what the copied directory does not have; what is excluded stays
    #[arg(long)]
    delete: bool,
    /// With --delete: what is excluded does not stay
    #[arg(long, requires = "delete")]
    delete_excluded: bool,
    /// The message of the commit
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// List what would change, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    state: String,
    commit: String,
    branch: &'a str,
    changed: bool,
    changes: records::Counts,
    excluded: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<DifferenceRecord>>,
}

#[derive(Serialize)]
struct OutRecord<'a> {
    #[serde(flatten)]
    written: records::WrittenRecord<'a>,
    excluded: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    planned: Option<Vec<Planned>>,
}

#[derive(Serialize)]
struct Planned {
    status: &'static str,
    path: String,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let sides: Vec<_> = args.paths.iter().map(|path| Side::parse(path)).collect();
    let Some((dest, sources)) = sides.split_last() else {
        return Err(Failure::Usage("a source and a destination are needed".to_owned()));
    };
    let mut streams = sources.iter().filter(|side| **side == Side::Stream);
    if streams.next().is_some() && sources.len() > 1 {
        return Err(Failure::Usage("a tar stream is copied alone".to_owned()));
    }
    let from_states = sources.iter().all(|side| matches!(side, Side::State { .. }));
    match *dest {
        Side::State { rev, path } => copy_in(args, sources, rev, path, context),
        dest if from_states => copy_out(args, sources, dest, context),
        _ => Err(Failure::Usage(
            "neither side is in a state: write it as REV:/path (:/path is in HEAD)".to_owned(),
        )),
    }
}

/// What the options say.
fn options(args: &Args) -> CopyOptions {
    let mut options = CopyOptions::new()
        .no_ignore(args.no_ignore)
        .delete(args.delete)
        .delete_excluded(args.delete_excluded)
        .dry_run(args.dry_run);
    options = args.exclude.iter().fold(options, |options, pattern| options.exclude(pattern.as_bytes()));
    options = args.chown.iter().fold(options, CopyOptions::owner);
    options = args.chmod.iter().cloned().fold(options, CopyOptions::mode);
    args.message.iter().fold(options, CopyOptions::message)
}

fn parsed(path: &str) -> Result<TreePath, Failure> {
    TreePath::parse(path.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))
}

/// `rev` as the engine takes it, where nothing means HEAD.
fn or_head(rev: &str) -> &str {
    if rev.is_empty() { "HEAD" } else { rev }
}

/// Whether a path ends as what means the contents of a directory.
fn means_contents(path: &str) -> bool {
    path.ends_with("/.") || path == "."
}

fn copy_in(
    args: &Args,
    sources: &[Side<'_>],
    rev: &str,
    path: &str,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    // The engine refuses what is no branch, and a HEAD that is on none.
    let head = if matches!(rev, "" | "HEAD" | "@") { engine.head()?.branch } else { None };
    let branch = head.unwrap_or_else(|| or_head(rev).to_owned());
    let dest = parsed(path)?;
    if path.ends_with('/') && path.len() > 1 {
        expect_directory(&engine, &branch, path)?;
    }
    let mut states = Vec::new();
    for source in sources {
        if let Side::State { rev, path } = source {
            states.push((engine.resolve(or_head(rev))?, parsed(path)?, means_contents(path)));
        }
    }
    let mut states = states.iter();
    let (mut stdin, mut given) = (std::io::stdin(), Vec::new());
    for source in sources {
        given.push(match source {
            Side::Host(host) => CopySource::Path(Path::new(*host)),
            Side::State { .. } => match states.next() {
                Some((state, path, true)) => CopySource::Contents(state, path),
                Some((state, path, false)) => CopySource::State(state, path),
                None => continue,
            },
            // Only one source is a stream.
            Side::Stream => break,
        });
    }
    if sources == [Side::Stream] {
        given.push(CopySource::Tar(&mut stdin));
    }
    let copied = engine.copy_in_with(given, &branch, &dest, &options(args))?;
    let committed = &copied.committed;
    let shape = Shape::default();
    let found: Vec<_> = copied
        .changes
        .iter()
        .map(|change| Difference { change: change.clone(), renamed_from: None })
        .collect();
    let out = &mut context.out;
    if out.json() {
        let paths = match args.dry_run {
            true => Some(differences::records(&engine, &shape, &found).collect::<Result<Vec<_>, _>>()?),
            false => None,
        };
        out.record(&Record {
            state: committed.state.id().to_string(),
            commit: committed.commit.to_string(),
            branch: &branch,
            changed: committed.changed,
            changes: committed.changes.into(),
            excluded: copied.excluded,
            paths,
        })?;
    } else if args.dry_run {
        let columns = out.columns();
        shape.write(&engine, &found, Form::NameStatus, columns, &mut |spans| {
            out.spans(&spans)?;
            out.bytes(b"\n")
        })?;
    }
    let what = match (committed.changed, args.dry_run) {
        (true, false) => text::changes(committed.changes),
        (true, true) => format!("would change {}", text::changes(committed.changes)),
        (false, _) => "unchanged".to_owned(),
    };
    let excluded = match copied.excluded {
        0 => String::new(),
        count => format!("; {count} excluded"),
    };
    out.note(format_args!("{branch} {} {what}{excluded}", committed.state.id().short()));
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

fn copy_out(
    args: &Args,
    sources: &[Side<'_>],
    dest: Side<'_>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let dest = match dest {
        Side::Host(dest) => Path::new(dest),
        _ => return stream_out(args, sources, &engine, context),
    };
    if sources.len() > 1 && !dest.is_dir() {
        let text = format!("{} is not a directory, and several sources are copied into one", dest.display());
        return Err(Failure::refused(text));
    }
    let options = options(args);
    let out = &mut context.out;
    for source in sources {
        let Side::State { rev, path: typed } = source else { continue };
        let (state, path) = (engine.resolve(or_head(rev))?, parsed(typed)?);
        let copied = engine.copy_out_with(&state, &path, means_contents(typed), dest, &options)?;
        let planned = || {
            let status = |there: bool| if there { "M" } else { "A" };
            copied.planned.iter().map(move |(path, there)| (status(*there), path))
        };
        let written = &copied.written;
        if out.json() {
            out.record(&OutRecord {
                written: records::WrittenRecord::new(state.id().to_string(), &path, dest, written),
                excluded: copied.excluded,
                planned: args.dry_run.then(|| {
                    let record =
                        |(status, path): (_, &PathBuf)| Planned { status, path: path.display().to_string() };
                    planned().map(record).collect()
                }),
            })?;
        } else if args.dry_run {
            for (status, path) in planned() {
                write!(out, "{status}\t")?;
                out.name(path.as_os_str().as_bytes())?;
                out.bytes(b"\n")?;
            }
        }
        if !written.skipped.is_empty() || out.verbose() {
            out.note(format_args!(
                "{}{}",
                text::count(written.entries, "entry", "entries"),
                import::not_held(&written.skipped, out.verbose()),
            ));
        }
    }
    Ok(Exit::DONE)
}

fn stream_out(
    args: &Args,
    sources: &[Side<'_>],
    engine: &Engine,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let [Side::State { rev, path }] = sources else {
        return Err(Failure::Usage("one path of a state makes a tar stream".to_owned()));
    };
    if !args.exclude.is_empty() || args.delete || args.chown.is_some() || args.chmod.is_some() || args.dry_run
    {
        return Err(Failure::Usage("a tar stream has a path of a state as it is, all of it".to_owned()));
    }
    let (state, path) = (engine.resolve(or_head(rev))?, parsed(path)?);
    let out = &mut context.out;
    let written = engine.write_tar(&state, &path, out.writer());
    let written = out.check(written)?;
    if !written.skipped.is_empty() || out.verbose() {
        out.note(format_args!(
            "{}{}",
            text::count(written.entries, "entry", "entries"),
            import::left_out(&written.skipped, out.verbose()),
        ));
    }
    Ok(Exit::DONE)
}
