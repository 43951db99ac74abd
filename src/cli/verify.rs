//! `treebox verify`: whether steps that are run again give the same files.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use treebox::{Cancel, Deviation, DiffersIn, Verified, VerifyOptions};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::run::Signals;
use super::{Context, host, records, text, values};

/// Run steps again and compare what they leave with what is recorded
///
/// Each step runs on the state that it ran on. What is remembered is not used, and nothing is remembered of this. Every path that
/// differs is listed with how it differs and what it is likely to come from. Times of directories are no difference.
///
/// Exits 1 if anything differs, if a command could not be run again, or if there was none.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which step [default: HEAD]
    #[arg(default_value = "HEAD", hide_default_value = true)]
    rev: String,
    /// Every step from REV back to where its history begins
    #[arg(long)]
    all: bool,
    /// How many run at once [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Take modification times later than this many seconds since 1970 for equal [default: $SOURCE_DATE_EPOCH, else none]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    epoch: Option<i64>,
    /// Kill a step after this time, such as 30s or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
}

#[derive(Serialize)]
struct Record<'a> {
    commit: String,
    command: &'a str,
    reproducible: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    exit_then: Option<i32>,
    exit_now: Option<i32>,
    duration_ms: f64,
    paths: Vec<PathRecord<'a>>,
}

#[derive(Serialize)]
struct PathRecord<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    how: Vec<&'static str>,
    detail: Option<&'a str>,
    hint: Option<&'a str>,
}

impl<'a> From<&'a Deviation> for PathRecord<'a> {
    fn from(one: &'a Deviation) -> Self {
        let (path, path_base64) = records::lossy(&one.path.to_bytes());
        Self {
            path,
            path_base64,
            how: words(&one.how),
            detail: one.detail.as_deref(),
            hint: one.hint.as_deref(),
        }
    }
}

impl<'a> From<&'a Verified> for Record<'a> {
    fn from(step: &'a Verified) -> Self {
        Self {
            commit: step.commit.to_string(),
            command: &step.command,
            reproducible: step.reproducible,
            reason: step.reason.as_deref(),
            notes: &step.notes,
            exit_then: step.exit_then,
            exit_now: step.exit_now,
            duration_ms: records::milliseconds(step.duration),
            paths: step.paths.iter().map(Into::into).collect(),
        }
    }
}

fn words(how: &[DiffersIn]) -> Vec<&'static str> {
    how.iter().map(|how| how.as_str()).collect()
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    // First of all, so that every thread of the engine leaves the signals alone.
    let signals = Signals::watch(false);
    let epoch = args.epoch.map_or_else(host::source_date_epoch, |epoch| Ok(Some(epoch)))?;
    let hear = context.out.noter();
    let engine = context.engine_with(|options| options.prestart(true).notices(hear))?;
    let cancel = Cancel::new();
    signals.direct_to_all(cancel.clone());
    let options = VerifyOptions::new()
        .all(args.all)
        .jobs(args.jobs.map_or(0, usize::from))
        .epoch(epoch)
        .timeout(args.timeout)
        .cancel(cancel);
    let telling = Mutex::new((&mut context.out, Ok(())));
    let verified = engine.verify(&args.rev, &options, &|step| {
        let mut telling = telling.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, told) = &mut *telling;
        if told.is_ok() {
            *told = tell(step, out);
        }
    });
    signals.command_ended();
    let verified = match (signals.ended_by(), verified) {
        (Some(signal), Err(_)) => return Ok(Exit::of_signal(signal)),
        (_, verified) => verified?,
    };
    telling.into_inner().unwrap_or_else(PoisonError::into_inner).1?;
    let count = |test: fn(&Verified) -> bool| verified.iter().filter(|step| test(step)).count();
    let same = count(|step| step.reproducible == Some(true));
    let other = count(|step| step.reproducible == Some(false));
    let lost = count(|step| step.is_run && step.reproducible.is_none());
    if !context.out.json() {
        let steps = text::count((same + other + lost) as u64, "step", "steps");
        let lost = if lost > 0 { format!(", {lost} cannot be run again") } else { String::new() };
        context.out.note(format_args!("{steps}: {same} reproducible, {other} not{lost}"));
    }
    Ok(if same > 0 && other + lost == 0 { Exit::DONE } else { Exit::NO })
}

/// Tells one step at once.
fn tell(step: &Verified, out: &mut Output) -> Result<(), Failure> {
    if out.json() {
        out.record(&Record::from(step))?;
        return out.flush();
    }
    let (word, style) = match step.reproducible {
        Some(true) => ("same", output::ADDED),
        Some(false) => ("differs", output::DELETED),
        None if step.is_run => ("cannot", output::MODIFIED),
        None => ("no run", output::PLAIN),
    };
    let (pad, word) = (8_usize.saturating_sub(word.len()), out.paint(style, word));
    write!(out, "{word}{:pad$}{} ", "", out.paint(output::ID, step.commit.short()))?;
    out.name(text::first_line(&step.command).as_bytes())?;
    out.bytes(b"\n")?;
    if let (Some(then), Some(now)) = (step.exit_then, step.exit_now)
        && then != now
    {
        writeln!(out, "    exit {then} then, {now} now")?;
    }
    for line in step.reason.iter().filter(|_| step.is_run).chain(&step.notes) {
        writeln!(out, "    {}", output::one_line(line))?;
    }
    for one in &step.paths {
        write!(out, "    {:16} ", words(&one.how).join(","))?;
        out.name(&one.path.to_bytes())?;
        if let Some(detail) = &one.detail {
            write!(out, ": {}", output::one_line(detail))?;
        }
        out.bytes(b"\n")?;
    }
    let mut hints: Vec<&str> = step.paths.iter().filter_map(|one| one.hint.as_deref()).collect();
    hints.sort_unstable();
    hints.dedup();
    for hint in hints {
        writeln!(out, "    hint: {}", output::one_line(hint))?;
    }
    out.flush()
}
