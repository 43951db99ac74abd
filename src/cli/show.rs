//! `treebox show`: everything known of a commit, or what is at a path.

use serde::Serialize;
use treebox::blocking::Engine;
use treebox::{CommitDetail, Contents, ErrorKind, Kind, Resources};

use super::differences::{self, DifferenceRecord};
use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::shape::{Form, Shape};
use super::{Context, cat, log, note, records, rev_path, text};

/// Show commits: command, environment, times, resources, changed paths and kept output; or what is at REV:/PATH
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which ones, or REV:/PATH for a file's content or a directory's names [default: HEAD]
    #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
    revs: Vec<String>,
    #[command(flatten)]
    shape: Shape,
}

/// The JSON of a commit.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(flatten)]
    commit: records::CommitRecord<'a>,
    env: &'a [String],
    workdir: Option<&'a str>,
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<MountRecord<'a>>,
    key: Option<String>,
    resources: Option<records::ResourcesRecord>,
    paths: Vec<DifferenceRecord>,
    #[serde(flatten)]
    output: records::OutputRecord,
}

#[derive(Serialize)]
pub(super) struct MountRecord<'a> {
    r#type: &'a str,
    path: &'a str,
}

impl<'a> Record<'a> {
    pub(super) fn new(detail: &'a CommitDetail, paths: Vec<DifferenceRecord>) -> Self {
        Self {
            commit: (&detail.info).into(),
            env: &detail.env,
            workdir: detail.workdir.as_deref(),
            user: detail.user.as_deref(),
            mounts: detail.mounts.iter().map(|(kind, path)| MountRecord { r#type: kind, path }).collect(),
            key: detail.key.map(|key| key.to_string()),
            resources: detail.resources.map(Into::into),
            paths,
            output: records::OutputRecord::new(&detail.stdout, &detail.stderr),
        }
    }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    context.out.page();
    for (at, rev) in args.revs.iter().enumerate() {
        if at > 0 && !context.out.json() {
            context.out.bytes(b"\n")?;
        }
        if rev.starts_with('/') || rev.contains(":/") {
            at_path(&engine, rev, context)?;
        } else {
            commit(&engine, rev, &args.shape, &mut context.out)?;
        }
    }
    Ok(Exit::DONE)
}

fn commit(engine: &Engine, rev: &str, shape: &Shape, out: &mut Output) -> Result<(), Failure> {
    let detail = engine.show(rev)?;
    let info = &detail.info;
    let changed = log::changes(engine, info, shape, &[])?;
    if out.json() {
        let paths = differences::records(engine, shape, &changed).collect::<Result<_, _>>()?;
        return out.record(&Record::new(&detail, paths));
    }
    head(&detail, out)?;
    if !changed.is_empty() {
        out.bytes(b"\n")?;
        let (form, columns) = (shape.form().unwrap_or(Form::NameStatus), out.columns());
        shape.write(engine, &changed, form, columns, &mut |spans| {
            out.spans(&spans)?;
            out.bytes(b"\n")
        })?;
    }
    for (label, bytes) in [("stdout", &detail.stdout), ("stderr", &detail.stderr)] {
        if !bytes.is_empty() {
            writeln!(out, "\n{label}:")?;
            indented(bytes, out)?;
        }
    }
    Ok(())
}

/// A file's content, or the names in a directory, as `git show` has it.
fn at_path(engine: &Engine, place: &str, context: &mut Context) -> Result<(), Failure> {
    let (state, path) = rev_path::resolve(engine, Some(place))?;
    let is_file = match engine.open_file(&state, &path) {
        Ok(_) => true,
        // A directory, or nothing with a content.
        Err(error) if error.kind() == ErrorKind::InvalidInput => false,
        Err(error) => return Err(error.into()),
    };
    let listed = engine.list(&state, &path, false)?;
    let out = &mut context.out;
    if let (true, [file]) = (is_file, listed.as_slice()) {
        // A terminal gets no control characters; a pipe gets the bytes.
        return match (
            out.terminal(),
            engine.compare_contents(None, Some(&file.entry)).map_err(|error| error.met_at(place))?,
        ) {
            (true, Contents::Text { new, .. }) => out.block(&new),
            (true, Contents::Binary { .. }) => {
                let size = text::count(text::entry_size(&file.entry), "byte", "bytes");
                writeln!(out, "binary file, {size}: `treebox cat` gives them")
            }
            _ => cat::print(engine, place, context),
        };
    }
    if out.json() {
        return listed
            .iter()
            .try_for_each(|one| out.record(&records::EntryRecord::new(&one.path, &one.entry)));
    }
    write!(out, "{}", out.paint(output::ID, "tree "))?;
    out.name(place.as_bytes())?;
    out.bytes(b"\n\n")?;
    for one in &listed {
        out.name(one.path.names().last().map_or(b"/", |name| name.as_bytes()))?;
        out.bytes(if one.entry.node.kind() == Kind::Directory { b"/\n" } else { b"\n" })?;
    }
    Ok(())
}

/// What is known of a commit but its paths and its output.
pub(super) fn head(detail: &CommitDetail, out: &mut Output) -> Result<(), Failure> {
    let info = &detail.info;
    write!(out, "{}", out.paint(output::ID, format!("commit {}", info.commit)))?;
    if let Some(refs) = log::decoration(info) {
        write!(out, " {}", out.paint(output::REFS, refs))?;
    }
    out.bytes(b"\n")?;
    for line in log::facts(info).into_iter().chain(more_facts(detail)) {
        writeln!(out, "{line}")?;
    }
    for line in &detail.env {
        out.bytes(b"env:     ")?;
        out.name(line.as_bytes())?;
        out.bytes(b"\n")?;
    }
    out.bytes(b"\n")?;
    indented(info.command.as_bytes(), out)?;
    for line in note::lines(info) {
        out.name(line.as_bytes())?;
        out.bytes(b"\n")?;
    }
    Ok(())
}

fn more_facts(detail: &CommitDetail) -> Vec<String> {
    let mut lines = Vec::new();
    let parents: Vec<_> = detail.info.parents.iter().map(|id| id.short()).collect();
    if parents.len() == 1 {
        lines.push(format!("parent:  {}", parents[0]));
    }
    lines.push(format!("tree:    {}", detail.info.tree));
    lines.extend(detail.key.map(|key| format!("key:     {key}")));
    lines.extend(detail.workdir.as_ref().map(|workdir| format!("workdir: {workdir}")));
    lines.extend(detail.user.as_ref().map(|user| format!("user:    {user}")));
    lines.extend(detail.mounts.iter().map(|(kind, path)| format!("mount:   {kind} {path}")));
    lines.extend(detail.resources.map(|used: Resources| {
        format!(
            "used:    {:.0} ms user, {:.0} ms system, {} resident, {} read, {} written",
            used.user_ms,
            used.system_ms,
            text::size(used.max_rss_kib.saturating_mul(1024)),
            text::size(used.read_bytes),
            text::size(used.written_bytes),
        )
    }));
    lines
}

fn indented(bytes: &[u8], out: &mut Output) -> Result<(), Failure> {
    for line in bytes.trim_ascii_end().split(|byte| *byte == b'\n') {
        out.bytes(b"    ")?;
        out.block(line)?;
        out.bytes(b"\n")?;
    }
    Ok(())
}
