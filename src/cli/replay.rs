//! `treebox replay`: run the commands of a branch again on another base, or with changes.

use serde::Serialize;
use treebox::blocking::Engine;
use treebox::{
    PlannedStep, ReplayOptions, ReplayPlan, ReplayStatus, Replayed, ReplayedStep, StepEdit, StepKind,
    StoppedStep,
};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::{Context, merge, records, text};

/// Run the commands of a branch again on another base, or with changes in the middle
///
/// What is remembered is not run. STEP is a revision, or a number as --plan gives it. A step that fails stops the replay with exit code 1: its
/// state is kept and named, the branch stays. A change that no command made, such as a cp or a merge, is merged in; a merge keeps its other
/// parents.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "treebox replay [BRANCH] --onto REV [--edit STEP COMMAND] [--drop STEP] [--insert STEP COMMAND] [--plan]
       treebox replay [BRANCH] --plan
       treebox replay --continue | --skip | --abort | --status"
)]
pub(super) struct Args {
    /// The branch [default: the current one]
    branch: Option<String>,
    /// The new base [default: what comes before the first changed step]
    #[arg(long, value_name = "REV")]
    onto: Option<String>,
    /// Run another command in place of a step's
    #[arg(long, num_args = 2, value_names = ["STEP", "COMMAND"])]
    edit: Vec<String>,
    /// Leave a step out
    #[arg(long, value_name = "STEP")]
    drop: Vec<String>,
    /// Run a command before a step; the number after the last is the end
    #[arg(long, num_args = 2, value_names = ["STEP", "COMMAND"])]
    insert: Vec<String>,
    #[command(flatten)]
    settle: merge::Settle,
    /// List the steps and what is remembered of them; run nothing
    #[arg(long)]
    plan: bool,
    /// Go on with the step that failed
    #[arg(long = "continue", conflicts_with_all = BEGINNING, conflicts_with_all = ["skip", "abort", "status"])]
    go_on: bool,
    /// Leave the step out that failed, and go on
    #[arg(long, conflicts_with_all = BEGINNING, conflicts_with_all = ["abort", "status"])]
    skip: bool,
    /// Give the replay up; the branch is where it was
    #[arg(long, conflicts_with_all = BEGINNING, conflicts_with = "status")]
    abort: bool,
    /// Say how far the replay has come
    #[arg(long, conflicts_with_all = BEGINNING)]
    status: bool,
}

/// What begins a replay.
const BEGINNING: [&str; 6] = ["branch", "onto", "edit", "drop", "insert", "plan"];

#[derive(Serialize)]
struct StepRecord<'a> {
    step: usize,
    commit: Option<String>,
    command: &'a str,
    how: &'static str,
    state: String,
    changed: bool,
    changes: records::Counts,
    duration_ms: f64,
}

#[derive(Serialize)]
struct StoppedRecord<'a> {
    step: usize,
    commit: Option<String>,
    command: &'a str,
    how: &'static str,
    reason: &'a str,
    before: String,
    state: Option<String>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    #[serde(flatten)]
    output: records::OutputRecord,
}

#[derive(Serialize)]
struct DoneRecord<'a> {
    branch: &'a str,
    was: String,
    commit: String,
    state: String,
    tree: String,
}

/// A replay that was given up.
#[derive(Serialize)]
struct AbortedRecord<'a> {
    branch: &'a str,
}

#[derive(Serialize)]
struct PlannedRecord<'a> {
    step: usize,
    kind: &'static str,
    commit: Option<String>,
    command: &'a str,
    remembered: Option<bool>,
}

#[derive(Serialize)]
struct StatusRecord<'a> {
    branch: &'a str,
    was: String,
    onto: String,
    done: usize,
    steps: Vec<PlannedRecord<'a>>,
    state: String,
    failed: Option<&'a str>,
    failed_state: Option<String>,
    running: bool,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = engine(context)?;
    let settle = args.settle.settlements()?;
    let out = &mut context.out;
    if args.abort {
        let branch = engine.replay_abort()?;
        if out.json() {
            out.record(&AbortedRecord { branch: &branch })?;
        }
        out.note(format_args!("the replay of {branch} is given up; it is where it was"));
        return Ok(Exit::DONE);
    }
    if args.status {
        return match engine.replay_status()? {
            Some(status) => self::status(&status, out),
            None => {
                out.note("no replay is under way");
                Ok(Exit::NO)
            }
        };
    }
    let options = ReplayOptions { onto: args.onto.clone(), edits: edits(args), settle };
    let branch = args.branch.as_deref();
    if args.plan {
        return plan(&engine.replay_plan(branch, &options)?, out);
    }
    let mut heard = Ok(());
    let mut listener = |done: &ReplayedStep| {
        if heard.is_ok() {
            // Each line is there when its step is done.
            heard = step(done, out).and_then(|()| out.flush());
        }
    };
    let replayed = if args.go_on || args.skip {
        engine.replay_continue(args.skip, &options.settle, &mut listener)
    } else {
        engine.replay(branch, &options, &mut listener)
    };
    heard?;
    ended(&replayed?, out)
}

/// The engine for commands that run again.
pub(super) fn engine(context: &Context) -> Result<Engine, Failure> {
    let hear = context.out.noter();
    context.engine_with(|options| options.notices(hear))
}

fn edits(args: &Args) -> Vec<StepEdit> {
    let pairs = |words: &[String]| -> Vec<(String, String)> {
        words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    let edited = pairs(&args.edit).into_iter().map(|(step, command)| StepEdit::Edit { step, command });
    let inserted = pairs(&args.insert).into_iter().map(|(step, command)| StepEdit::Insert { step, command });
    let dropped = args.drop.iter().map(|step| StepEdit::Drop { step: step.clone() });
    edited.chain(dropped).chain(inserted).collect()
}

/// One line of a step that is done.
pub(super) fn step(done: &ReplayedStep, out: &mut Output) -> Result<(), Failure> {
    if out.json() {
        return out.record(&StepRecord {
            step: done.number,
            commit: done.commit.map(|commit| commit.to_string()),
            command: &done.command,
            how: done.how.as_str(),
            state: done.state.id().to_string(),
            changed: done.changed,
            changes: done.changes.into(),
            duration_ms: records::milliseconds(done.duration),
        });
    }
    let state = out.paint(output::ID, done.state.id().short());
    let changes = if done.changed { text::changes(done.changes) } else { "unchanged".to_owned() };
    let time = text::duration(done.duration);
    write!(out, "{:>3}  {:7}  {time:>6}  {state}  {changes}  ", done.number, done.how.as_str())?;
    out.name(text::first_line(&done.command).as_bytes())?;
    out.bytes(b"\n")
}

/// Why a step failed, with what a person needs to look into it.
pub(super) fn stopped(stopped: &StoppedStep, out: &mut Output) -> Result<(), Failure> {
    if out.json() {
        out.record(&StoppedRecord {
            step: stopped.number,
            commit: stopped.commit.map(|commit| commit.to_string()),
            command: &stopped.command,
            how: "failed",
            reason: &stopped.reason,
            before: stopped.before.id().to_string(),
            state: stopped.state.as_ref().map(|state| state.id().to_string()),
            exit_code: stopped.exited.and_then(|exited| exited.exit_code),
            signal: stopped.exited.and_then(|exited| exited.signal),
            output: records::OutputRecord::new(&stopped.stdout, &stopped.stderr),
        })?;
    } else {
        for written in [&stopped.stdout, &stopped.stderr] {
            for line in String::from_utf8_lossy(written).lines() {
                out.note(format_args!("| {line}"));
            }
        }
    }
    merge::conflicts(&stopped.conflicts, &stopped.config_conflicts, out)?;
    let kept = match &stopped.state {
        Some(state) => format!("; what it left is {}", state.id().short()),
        None => String::new(),
    };
    let command = text::first_line(&stopped.command);
    out.note(format_args!("step {} failed: {command}: {}{kept}", stopped.number, stopped.reason));
    Ok(())
}

fn ended(replayed: &Replayed, out: &mut Output) -> Result<Exit, Failure> {
    if let Some(step) = &replayed.stopped {
        stopped(step, out)?;
        out.note(format_args!(
            "{} has not moved; go on with `treebox replay --continue` or `--skip`, or give up with `--abort`",
            replayed.branch
        ));
        return Ok(Exit::NO);
    }
    if out.json() {
        out.record(&DoneRecord {
            branch: &replayed.branch,
            was: replayed.was.to_string(),
            commit: replayed.commit.to_string(),
            state: replayed.state.id().to_string(),
            tree: replayed.state.tree().to_string(),
        })?;
    }
    let stays = if replayed.commit == replayed.was { " as before" } else { "" };
    out.note(format_args!("{} {}{stays}", replayed.branch, replayed.state.id().short()));
    Ok(Exit::DONE)
}

fn planned(step: &PlannedStep) -> PlannedRecord<'_> {
    PlannedRecord {
        step: step.number,
        kind: step.kind.as_str(),
        commit: step.commit.map(|commit| commit.to_string()),
        command: &step.command,
        remembered: step.remembered,
    }
}

fn plan(plan: &ReplayPlan, out: &mut Output) -> Result<Exit, Failure> {
    for step in &plan.steps {
        if out.json() {
            out.record(&planned(step))?;
            continue;
        }
        let known = match (step.kind, step.remembered) {
            (StepKind::Dropped, _) => "-",
            (StepKind::Change, _) => "merges",
            (_, Some(true)) => "known",
            (_, Some(false)) => "runs",
            (_, None) => "depends",
        };
        line(step, known, out)?;
    }
    out.note(format_args!("{} on {}", plan.branch, plan.onto.short()));
    Ok(Exit::DONE)
}

fn line(step: &PlannedStep, word: &str, out: &mut Output) -> Result<(), Failure> {
    let commit = step.commit.map_or_else(|| "-".repeat(12), |commit| commit.short());
    let commit = out.paint(output::ID, commit);
    write!(out, "{:>3}  {:8}  {word:7}  {commit}  ", step.number, step.kind.as_str())?;
    out.name(text::first_line(&step.command).as_bytes())?;
    out.bytes(b"\n")
}

fn status(status: &ReplayStatus, out: &mut Output) -> Result<Exit, Failure> {
    let failed = status.failed.as_ref();
    if out.json() {
        out.record(&StatusRecord {
            branch: &status.branch,
            was: status.was.to_string(),
            onto: status.onto.to_string(),
            done: status.done,
            steps: status.steps.iter().map(planned).collect(),
            state: status.state.id().to_string(),
            failed: failed.map(|(reason, _)| reason.as_str()),
            failed_state: failed.and_then(|(_, state)| Some(state.as_ref()?.id().to_string())),
            running: status.running,
        })?;
        return Ok(Exit::DONE);
    }
    for (at, step) in status.steps.iter().enumerate() {
        let word = match at.cmp(&status.done) {
            std::cmp::Ordering::Less => "done",
            std::cmp::Ordering::Equal if failed.is_some() => "failed",
            std::cmp::Ordering::Equal if status.running => "running",
            _ => "to do",
        };
        line(step, word, out)?;
    }
    let (onto, state) = (status.onto.short(), status.state.id().short());
    let mut told = format!("{} on {onto} is now at {state}", status.branch);
    if let Some((reason, state)) = failed {
        let left = |state: &treebox::blocking::State| format!("; what it left is {}", state.id().short());
        told += &format!(" (failed: {reason}{})", state.as_ref().map(left).unwrap_or_default());
    }
    out.note(told);
    Ok(Exit::DONE)
}
