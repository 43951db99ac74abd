//! `treebox bisect`: the first commit whose file system fails a command.

use std::ffi::OsString;

use serde::Serialize;
use treebox::blocking::Engine;
use treebox::{BisectPart, BisectQuery, BisectStep, BisectVerdict, Bisected, Cancel, CommitId};

use super::exit::{Exit, Failure};
use super::run::{self, Shared, Signals};
use super::shape::{Form, Shape};
use super::{Context, differences, log, records, show, text};

/// Find the first commit whose file system fails a command
///
/// The command runs disposably in states between a good and a bad revision, in about log2 steps: 0 is good, 1 to 124, 126 and 127 are
/// bad, 125 says that this commit cannot be tested, and 128 or more ends the search. Both ends are tested first. Merges are no obstacle.
///
/// Exits 0 when it is found; 1 when an end is not what it was said to be, or when only commits are left that cannot be tested.
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox bisect --good REV… [--bad REV] [OPTIONS] (-c TEXT | -- CMD [ARG…])")]
pub(super) struct Args {
    /// A revision that passes; may be repeated
    #[arg(long, value_name = "REV", required = true)]
    good: Vec<String>,
    /// A revision that fails
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    bad: String,
    #[command(flatten)]
    shared: Shared,
    /// Text for /bin/sh -c
    #[arg(short = 'c', value_name = "TEXT", conflicts_with = "argv", allow_hyphen_values = true)]
    text: Option<String>,
    /// The command and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    argv: Vec<OsString>,
}

#[derive(Serialize)]
struct Record<'a> {
    result: &'static str,
    /// The first bad commit; else the one at which the search ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_bad: Option<show::Record<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    /// Among these is the first bad one, where it cannot be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<String>,
    steps: Vec<StepRecord>,
}

#[derive(Serialize)]
struct StepRecord {
    commit: String,
    state: String,
    command: String,
    part: &'static str,
    verdict: &'static str,
    exit_code: i32,
    known: bool,
    duration_ms: f64,
    left: usize,
    steps_left: u32,
}

impl From<&BisectStep> for StepRecord {
    fn from(step: &BisectStep) -> Self {
        Self {
            commit: step.commit.to_string(),
            state: step.state.to_string(),
            command: step.made_by.clone(),
            part: part(step.part),
            verdict: verdict(step.tested),
            exit_code: step.exit_code,
            known: step.known,
            duration_ms: records::milliseconds(step.duration),
            left: step.left,
            steps_left: step.steps_left,
        }
    }
}

fn verdict(tested: BisectVerdict) -> &'static str {
    match tested {
        BisectVerdict::Good => "good",
        BisectVerdict::Bad => "bad",
        BisectVerdict::Skip => "skip",
        BisectVerdict::Abort => "abort",
    }
}

fn part(part: BisectPart) -> &'static str {
    match part {
        BisectPart::Good => "good end",
        BisectPart::Bad => "bad end",
        BisectPart::Base => "merge base",
        BisectPart::Middle => "middle",
    }
}

pub(super) fn perform(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    // First of all, so that every thread of the engine leaves the signals alone.
    let signals = Signals::watch(false);
    let command = run::shared(&args.shared, run::typed(args.text.as_deref(), &args.argv)?)?;
    let hear = context.out.noter();
    let engine = context.engine_with(|options| options.prestart(true).notices(hear))?;
    let cancel = Cancel::new();
    signals.direct_to_all(cancel.clone());
    let mut good = args.good.into_iter();
    let query = BisectQuery::new(good.next().unwrap_or_default(), args.bad, command).cancel(cancel);
    let query = good.fold(query, BisectQuery::good);
    let mut steps = Vec::new();
    let bisected = engine.bisect(&query, &mut |step| {
        context.out.note(line(step));
        if context.out.verbose() {
            for line in String::from_utf8_lossy(&[&step.stdout[..], &step.stderr].concat()).lines() {
                context.out.note(format_args!("  {line}"));
            }
        }
        steps.push(step.into());
    });
    signals.command_ended();
    match (signals.ended_by(), bisected) {
        (Some(signal), Err(_)) => Ok(Exit::of_signal(signal)),
        (_, bisected) => conclude(&engine, &bisected?, steps, context),
    }
}

/// `good 1a2b3c4d5e6f make; 12 left, about 4 steps`
fn line(step: &BisectStep) -> String {
    let exit = match (step.tested, step.exit_code) {
        (BisectVerdict::Good, _) => String::new(),
        (_, code) => format!(" (exit {code})"),
    };
    let known = if step.known { " (same state as before)" } else { "" };
    let role = match step.part {
        BisectPart::Base => "merge base ",
        _ => "",
    };
    let steps = match step.steps_left {
        0 => String::new(),
        steps => format!(", about {}", text::count(steps.into(), "step", "steps")),
    };
    format!(
        "{}{exit}{known} {role}{} {}; {} left{steps}",
        verdict(step.tested),
        step.commit.short(),
        text::first_line(&step.made_by),
        step.left,
    )
}

fn conclude(
    engine: &Engine,
    bisected: &Bisected,
    steps: Vec<StepRecord>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let out = &mut context.out;
    let short = CommitId::short;
    let mut record = Record { result: "found", first_bad: None, commit: None, candidates: Vec::new(), steps };
    let (result, exit, message) = match bisected {
        Bisected::Found(commit) => {
            let detail = engine.show(&commit.to_string())?;
            let shape = Shape::default();
            let changed = log::changes(engine, &detail.info, &shape, &[])?;
            if out.json() {
                let paths = differences::records(engine, &shape, &changed).collect::<Result<_, _>>()?;
                record.first_bad = Some(show::Record::new(&detail, paths));
                out.record(&record)?;
            } else {
                out.note(format_args!("{} is the first bad commit", short(commit)));
                show::head(&detail, out)?;
                out.bytes(b"\n")?;
                let columns = out.columns();
                shape.write(engine, &changed, Form::Stat, columns, &mut |spans| {
                    out.spans(&spans)?;
                    out.bytes(b"\n")
                })?;
            }
            return Ok(Exit::DONE);
        }
        Bisected::Undecided(these) => {
            record.candidates = these.iter().map(ToString::to_string).collect();
            if !out.json() {
                for info in engine.commits(these)? {
                    writeln!(out, "{} {}", info.commit.short(), text::first_line(&info.command))?;
                }
            }
            (
                "undecided",
                Exit::NO,
                "the first bad commit is one of these; all but the last cannot be tested".to_owned(),
            )
        }
        Bisected::GoodFails(commit, code) => {
            record.commit = Some(commit.to_string());
            let why = if *code == 125 { "cannot be tested" } else { "does not pass" };
            ("good-fails", Exit::NO, format!("{} {why}: exit {code}", short(commit)))
        }
        Bisected::BadPasses(commit, code) => {
            record.commit = Some(commit.to_string());
            let why = if *code == 125 { "cannot be tested" } else { "does not fail" };
            ("bad-passes", Exit::NO, format!("{} {why}: exit {code}", short(commit)))
        }
        Bisected::Nothing => {
            ("nothing", Exit::NO, "nothing lies between: what is good has everything that is bad".to_owned())
        }
        Bisected::Aborted(commit, code) => {
            record.commit = Some(commit.to_string());
            (
                "aborted",
                Exit::FAILED,
                format!("the command ended with {code} at {}: that is no test's answer", short(commit)),
            )
        }
        // What may be added tells about itself in a newer treebox.
        other => return Err(Failure::refused(format!("the search ended in an unknown way: {other:?}"))),
    };
    record.result = result;
    if out.json() {
        out.record(&record)?;
    } else {
        out.note(message);
    }
    Ok(exit)
}
