//! `treebox run`: run a command on a state and move a branch to the result.
//!
//! `args.rs` and `mounts.rs` are what can be typed, `plan.rs` what it means, `stdin.rs`, `terminal.rs`, `signals.rs` and `passing.rs`
//! connect the command with this process, `report.rs` tells what came of it and `limits.rs` how limits were kept. `several.rs` runs the
//! commands of a file, which `commands.rs` reads.

mod args;
mod commands;
mod limits;
mod mounts;
mod passing;
mod plan;
mod report;
mod several;
mod signals;
mod stdin;
pub(super) mod terminal;

use std::sync::Arc;

use treebox::blocking::Engine;
use treebox::{Cancel, Command, ErrorKind, LiveInput, Sink, Stream, Target};

use super::Context;
use super::exit::{Exit, Failure};
pub(super) use args::{Args, Shared};
use passing::Passing;
pub(super) use plan::{in_terminal, shared, typed, with_input};
pub(super) use signals::Signals;
use terminal::Raw;

pub(super) fn perform(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    // First of all, so that every thread of the engine leaves the signals alone.
    let signals = Signals::watch(args.tty);
    if let Some(file) = args.commands.clone() {
        return several::perform(args, &file, signals, context);
    }
    let (target, command) = plan::resolve(args)?;
    let engine = engine(context, &signals, command.always_runs())?;
    step(&engine, &target, &command, signals, context)
}

/// Opens the store for a run: what the engine has to say is told, and a signal ends a wait for others.
pub(super) fn engine(context: &Context, signals: &Signals, prestart: bool) -> Result<Engine, Failure> {
    let (hear, cancel) = (context.out.noter(), Cancel::new());
    signals.until_then(cancel.clone());
    context.engine_with(|options| options.prestart(prestart).notices(hear).cancel(cancel))
}

/// Runs a command as a step, connected with this process, and tells what came of it.
pub(super) fn step(
    engine: &Engine,
    target: &Target,
    command: &Command,
    signals: Signals,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let passing = Arc::new(Passing::default());
    let sink: Option<Sink> = (!context.out.json()).then(|| {
        let passing = Arc::clone(&passing);
        Arc::new(move |stream, bytes: &[u8]| passing.write(stream, bytes)) as Sink
    });
    let raw = if command.is_typed_to() { Raw::enter() } else { None };
    let mut live = |input: LiveInput| {
        if let Some(end) = input.stdin {
            if let Some(raw) = &raw {
                raw.hand_over();
            }
            stdin::copy_to(end, input.terminal.clone());
        }
        signals.direct_to(input.killer, input.terminal);
    };
    let step = engine.step_live(target, command, sink, &mut live);
    signals.command_ended();
    // Before anything is told: a raw terminal makes stairs of lines.
    drop(raw);
    let step = match (step, signals.ended_by()) {
        // It waited for others, and no command of its own had begun.
        (Err(error), Some(signal)) if error.kind() == ErrorKind::Cancelled => {
            return Ok(Exit::of_signal(signal));
        }
        (step, _) => step?,
    };
    let outcome = &step.outcome;
    if context.out.json() {
        report::json(&step, &mut context.out)?;
    } else {
        if outcome.reused {
            passing.write(Stream::Stdout, &outcome.stdout);
            passing.write(Stream::Stderr, &outcome.stderr);
        }
        if let Some(line) = limits::line(outcome) {
            context.out.note(line);
        }
        context.out.note(report::line(&step, target));
    }
    passing.failure().map_or(Ok(()), |error| Err(Failure::Output(error)))?;
    Ok(Exit(u8::try_from(outcome.shell_code() & 0xff).unwrap_or(Exit::FAILED.0)))
}
