//! `treebox why`: why a command ran again.

use serde::Serialize;
use treebox::{Change, KeyDifference, KeyPart, ValueChange, Why, WhyAnswer, WhyRule, WhyRun};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::records::EntryRecord;
use super::{Context, text, time};

/// Show why a run ran instead of being remembered: the nearest remembered run and what of the key differs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the run made [default: HEAD]; -v lists all paths that differ
    #[arg(default_value = "HEAD", hide_default_value = true)]
    rev: String,
}

/// How many paths are listed without `-v`.
const PATHS: usize = 10;

#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    run: RunRecord<'a>,
    /// first, unkeyed, differs, failed, observation, fresh or lost.
    answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<RunRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<usize>,
    differences: Vec<PartRecord<'a>>,
}

#[derive(Serialize)]
struct RunRecord<'a> {
    state: String,
    parent: String,
    commit: Option<String>,
    command: &'a str,
    started: String,
    exit_code: Option<i32>,
    key: String,
}

#[derive(Serialize)]
struct PartRecord<'a> {
    part: &'a str,
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<PathRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<ValueRecord<'a>>,
}

#[derive(Serialize)]
struct PathRecord {
    status: String,
    #[serde(flatten)]
    entry: EntryRecord,
}

#[derive(Serialize)]
struct ValueRecord<'a> {
    name: &'a str,
    old: Option<&'a str>,
    new: Option<&'a str>,
}

impl<'a> From<&'a WhyRun> for RunRecord<'a> {
    fn from(run: &'a WhyRun) -> Self {
        Self {
            state: run.state.to_string(),
            parent: run.parent.to_string(),
            commit: run.commit.map(|commit| commit.to_string()),
            command: &run.command,
            started: time::rfc3339_ms(run.started_ms),
            exit_code: run.exit_code,
            key: run.key.to_string(),
        }
    }
}

impl<'a> From<&'a KeyDifference> for PartRecord<'a> {
    fn from(part: &'a KeyDifference) -> Self {
        let path = |change: &Change| {
            let shown = change.new.as_ref().or(change.old.as_ref())?;
            let status = change.kind().letter().to_string();
            Some(PathRecord { status, entry: EntryRecord::new(&change.path, shown) })
        };
        let value = |value: &'a ValueChange| ValueRecord {
            name: &value.name,
            old: value.old.as_deref(),
            new: value.new.as_deref(),
        };
        Self {
            part: part.part.as_str(),
            total: part.total,
            paths: part.paths.iter().filter_map(path).collect(),
            values: part.values.iter().map(value).collect(),
        }
    }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let most = if context.out.verbose() { usize::MAX } else { PATHS };
    let why = engine.why(&args.rev, most)?;
    let out = &mut context.out;
    out.page();
    if out.json() {
        out.record(&record(&why))?;
        return Ok(Exit::DONE);
    }
    write!(out, "{} ", out.paint(output::ID, named(&why.run)))?;
    out.name(text::first_line(&why.run.command).as_bytes())?;
    out.bytes(b"\n")?;
    match &why.answer {
        WhyAnswer::First => writeln!(out, "ran because no older run of this command is remembered")?,
        WhyAnswer::Unkeyed => writeln!(
            out,
            "ran because its input was not known beforehand: a terminal, a pipe, or a host directory that it may write"
        )?,
        WhyAnswer::Known { earlier, rule } => {
            writeln!(
                out,
                "ran although all that counts was the same for {}: {}",
                told(earlier),
                rule_text(*rule)
            )?;
        }
        WhyAnswer::Differs { nearest, compared, parts } => {
            let among = match compared {
                1 => "the only remembered run of this command".to_owned(),
                count => format!("the nearest of {count} remembered runs of this command"),
            };
            writeln!(out, "ran because it differs from {}, {among}", told(nearest))?;
            parts.iter().try_for_each(|part| differing(part, out))?;
        }
    }
    Ok(Exit::DONE)
}

fn record(why: &Why) -> Record<'_> {
    let (answer, nearest, compared, parts) = match &why.answer {
        WhyAnswer::First => ("first", None, None, None),
        WhyAnswer::Unkeyed => ("unkeyed", None, None, None),
        WhyAnswer::Differs { nearest, compared, parts } => {
            ("differs", Some(nearest), Some(*compared), Some(parts))
        }
        WhyAnswer::Known { earlier, rule } => (rule_word(*rule), Some(earlier), None, None),
    };
    Record {
        run: (&why.run).into(),
        answer,
        nearest: nearest.map(|run| (&**run).into()),
        compared,
        differences: parts.into_iter().flatten().map(Into::into).collect(),
    }
}

/// The commit where there is one, else the state.
fn named(run: &WhyRun) -> String {
    run.commit.map_or_else(|| run.state.short(), |commit| commit.short())
}

fn told(run: &WhyRun) -> String {
    format!("{} of {}", named(run), time::rfc3339_seconds(run.started_ms.div_euclid(1000)))
}

fn rule_word(rule: WhyRule) -> &'static str {
    match rule {
        WhyRule::Failed => "failed",
        WhyRule::Observation => "observation",
        WhyRule::Afresh => "fresh",
        WhyRule::Lost => "lost",
    }
}

fn rule_text(rule: WhyRule) -> &'static str {
    match rule {
        WhyRule::Failed => "that run failed, and failures are not used again",
        WhyRule::Observation => "that run changed nothing, and such are used again only with --reuse always",
        WhyRule::Afresh => "this one was to run in any case (--fresh)",
        WhyRule::Lost => "what that run made is not in the store any more",
    }
}

fn part_name(part: KeyPart) -> &'static str {
    match part {
        KeyPart::ParentTree => "parent's files",
        KeyPart::ParentConfig => "parent's config",
        KeyPart::Env => "environment",
        KeyPart::Workdir => "working directory",
        KeyPart::User => "user",
        KeyPart::Umask => "umask",
        KeyPart::Hostname => "host name",
        KeyPart::Stdin => "standard input",
        KeyPart::Copied => "copied files",
        KeyPart::Mounts => "mounts",
        KeyPart::Network => "network",
        KeyPart::RootMode => "identity",
        KeyPart::ReadOnly => "read-only",
        KeyPart::Epoch => "epoch",
        KeyPart::Keep => "kept settings",
        KeyPart::Allow => "allowed",
        _ => "another part",
    }
}

/// One part, its paths or values a line each.
fn differing(part: &KeyDifference, out: &mut Output) -> Result<(), Failure> {
    let name = out.paint(output::HEADER, part_name(part.part)).to_string();
    if part.part == KeyPart::ParentTree {
        match part.total {
            0 => writeln!(out, "{name}: the nearest run's are not in the store any more")?,
            total => {
                let verb = if total == 1 { "differs" } else { "differ" };
                writeln!(out, "{name}: {} {verb}", text::count(total, "path", "paths"))?;
            }
        }
        for change in &part.paths {
            write!(out, "  {} ", change.kind().letter())?;
            out.name(&change.path.to_bytes())?;
            out.bytes(b"\n")?;
        }
        let more = part.total - part.paths.len() as u64;
        if more > 0 {
            writeln!(out, "  … and {more} more (-v)")?;
        }
        return Ok(());
    }
    match part.values.as_slice() {
        [one] if one.name.is_empty() => {
            write!(out, "{name}: ")?;
            values(one, out)
        }
        all => {
            writeln!(out, "{name}:")?;
            for one in all {
                out.bytes(b"  ")?;
                out.name(one.name.as_bytes())?;
                out.bytes(b": ")?;
                values(one, out)?;
            }
            Ok(())
        }
    }
}

fn values(change: &ValueChange, out: &mut Output) -> Result<(), Failure> {
    let show = |value: &Option<String>| {
        value.as_ref().map_or_else(|| "(none)".to_owned(), |value| format!("\"{value}\""))
    };
    out.name(format!("{} -> {}", show(&change.old), show(&change.new)).as_bytes())?;
    out.bytes(b"\n")
}
