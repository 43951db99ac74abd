//! `treebox show`: everything known of one commit.

use serde::Serialize;
use treebox::{CommitDetail, Resources};

use super::exit::{Exit, Failure};
use super::{Context, diff, log, note, output, records, text};

/// Show one commit: its command, environment, times, resources, changed paths and kept output
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which one [default: HEAD]
    #[arg(default_value = "HEAD", hide_default_value = true)]
    rev: String,
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
    paths: Vec<records::ChangeRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
}

#[derive(Serialize)]
struct MountRecord<'a> {
    r#type: &'a str,
    path: &'a str,
}

impl<'a> From<&'a CommitDetail> for Record<'a> {
    fn from(detail: &'a CommitDetail) -> Self {
        let (stdout, stdout_base64) = records::text_or_base64(&detail.stdout);
        let (stderr, stderr_base64) = records::text_or_base64(&detail.stderr);
        Self {
            commit: (&detail.info).into(),
            env: &detail.env,
            workdir: detail.workdir.as_deref(),
            user: detail.user.as_deref(),
            mounts: detail.mounts.iter().map(|(kind, path)| MountRecord { r#type: kind, path }).collect(),
            key: detail.key.map(|key| key.to_string()),
            resources: detail.resources.map(Into::into),
            paths: detail.changed.iter().filter_map(records::ChangeRecord::new).collect(),
            stdout,
            stdout_base64,
            stderr,
            stderr_base64,
        }
    }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let detail = engine.show(&args.rev)?;
    let out = &mut context.out;
    if out.json() {
        out.record(&Record::from(&detail))?;
        return Ok(Exit::DONE);
    }
    head(&detail, out)?;
    if !detail.changed.is_empty() {
        out.bytes(b"\n")?;
        diff::name_status(&detail.changed, out)?;
    }
    for (label, bytes) in [("stdout", &detail.stdout), ("stderr", &detail.stderr)] {
        if !bytes.is_empty() {
            writeln!(out, "\n{label}:")?;
            indented(bytes, out)?;
        }
    }
    Ok(Exit::DONE)
}

/// What is known of a commit but its paths and its output.
pub(super) fn head(detail: &CommitDetail, out: &mut output::Output) -> Result<(), Failure> {
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

fn indented(bytes: &[u8], out: &mut output::Output) -> Result<(), Failure> {
    for line in bytes.trim_ascii_end().split(|byte| *byte == b'\n') {
        out.bytes(b"    ")?;
        out.block(line)?;
        out.bytes(b"\n")?;
    }
    Ok(())
}
