//! `treebox run --commands`: several commands on one state, at once.

use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use treebox::{Cancel, Command, ExploreOptions, Fate, Step, Target};

use super::args::Args;
use super::commands::{self, Line};
use super::signals::Signals;
use super::{plan, report};
use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{self, Output};
use crate::cli::text;

/// The longest file of commands.
const MAX_COMMANDS_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Serialize)]
struct Record<'a> {
    index: usize,
    command: &'a str,
    fate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    run: Option<report::Record<'a>>,
}

pub(super) fn perform(
    args: Args,
    file: &str,
    signals: Signals,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let commands = read(&args, file)?;
    let (jobs, race) = (args.jobs.map_or(0, usize::from), args.race);
    if !race && (args.branch.is_some() || args.tag.is_some()) {
        return Err(Failure::Usage("--branch and --tag need one result: add --race".to_owned()));
    }
    if args.disposable && (args.branch.is_some() || args.tag.is_some()) {
        return Err(Failure::Usage("--disposable leaves no state that could be named".to_owned()));
    }
    let hear = context.out.noter();
    let prestart = commands.iter().any(Command::always_runs);
    let engine = context.engine_with(|options| options.prestart(prestart).notices(hear))?;
    let cancel = Cancel::new();
    signals.direct_to_all(cancel.clone());
    let target = Target {
        from: args.from,
        branch: args.branch,
        tag: args.tag,
        force: args.force,
        ..Target::default()
    };
    let texts: Vec<String> = commands.iter().map(Command::text).collect();
    let telling = Mutex::new((&mut context.out, Ok(())));
    let tell = |at: usize, fate: &Fate, step: Option<&Step>| {
        let mut telling = telling.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, told) = &mut *telling;
        if told.is_ok() {
            *told = line(at, &texts[at], fate, step, race, out);
        }
    };
    let options = ExploreOptions::new().jobs(jobs).race(race).cancel(cancel);
    let explored = engine.explore(&target, &commands, &options, &|at, fate| {
        // The winner of a race is told when the branch is there.
        if !(race && fate.succeeded()) {
            let step =
                fate.outcome().map(|outcome| Step { outcome: outcome.clone(), commit: None, branch: None });
            tell(at, fate, step.as_ref());
        }
    });
    signals.command_ended();
    let explored = explored?;
    if let (Some(at), Some(outcome)) = (explored.race.winner, explored.race.won()) {
        let step =
            Step { outcome: outcome.clone(), commit: explored.commit, branch: explored.branch.clone() };
        tell(at, &explored.race.fates[at], Some(&step));
    }
    telling.into_inner().unwrap_or_else(PoisonError::into_inner).1?;
    let good = match race {
        true => explored.race.winner.is_some(),
        false => explored.race.fates.iter().all(Fate::succeeded),
    };
    Ok(match signals.ended_by() {
        Some(signal) if !good => Exit::of_signal(signal),
        _ if good => Exit::DONE,
        _ => Exit::NO,
    })
}

/// The commands of a file, each with what else was typed.
fn read(args: &Args, file: &str) -> Result<Vec<Command>, Failure> {
    let failed =
        |error: std::io::Error| Failure::refused(format!("cannot read the commands in {file}: {error}"));
    let mut text = String::new();
    let bytes = match file {
        "-" => std::io::stdin().lock().take(MAX_COMMANDS_BYTES + 1).read_to_string(&mut text),
        path => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_COMMANDS_BYTES + 1).read_to_string(&mut text)),
    };
    if bytes.map_err(failed)? as u64 > MAX_COMMANDS_BYTES {
        return Err(Failure::refused(format!("{file} is longer than 64 MiB: split it")));
    }
    let lines = commands::parse(&text).map_err(|why| Failure::Usage(format!("{file}: {why}")))?;
    if lines.is_empty() {
        return Err(Failure::Usage(format!("{file} holds no command")));
    }
    // What is typed beside the file is read once, also where it reads the host's environment.
    lines.iter().map(Line::command).map(|command| plan::dressed(args, command)).collect()
}

fn word(fate: &Fate, race: bool) -> &'static str {
    match fate {
        Fate::Succeeded(_) if race => "won",
        Fate::Succeeded(_) => "succeeded",
        Fate::Failed(_) => "failed",
        Fate::Broken(_) => "error",
        Fate::Lost => "lost",
        Fate::Cancelled => "cancelled",
        // What may be added tells about itself in a newer treebox.
        _ => "never-started",
    }
}

/// Tells one command's fate at once: on a line of text, with `-v` followed by what it wrote, or as a JSON document.
fn line(
    index: usize,
    command: &str,
    fate: &Fate,
    step: Option<&Step>,
    race: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let error = if let Fate::Broken(error) = fate { Some(error.to_string()) } else { None };
    let word = word(fate, race);
    if out.json() {
        out.record(&Record { index, command, fate: word, error, run: step.map(report::record) })?;
        return out.flush();
    }
    let style = match fate {
        Fate::Succeeded(_) => output::ADDED,
        Fate::Failed(_) | Fate::Broken(_) => output::DELETED,
        _ => output::PLAIN,
    };
    // No branch is at stake but the winner's: the line of a run on some revision.
    let target = Target { from: Some(String::new()), ..Target::default() };
    let told = step.map(|step| report::line(step, &target)).or(error);
    write!(out, "{index} {}", out.paint(style, word))?;
    if let Some(told) = told {
        write!(out, " {}", output::one_line(&told))?;
    }
    out.bytes(b": ")?;
    out.name(text::first_line(command).as_bytes())?;
    out.bytes(b"\n")?;
    if let (true, Some(step)) = (out.verbose(), step) {
        out.block(&step.outcome.stdout)?;
        out.block(&step.outcome.stderr)?;
    }
    out.flush()
}
