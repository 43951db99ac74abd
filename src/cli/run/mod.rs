//! `treebox run`: run a command on a state and move a branch to the result.
//!
//! `args.rs` and `mounts.rs` are what can be typed, `plan.rs` what it means, `stdin.rs`, `signals.rs` and `passing.rs` connect the command
//! with this process, `report.rs` tells what came of it.

mod args;
mod mounts;
mod passing;
mod plan;
mod report;
mod signals;
mod stdin;

use std::sync::Arc;

use treebox::{LiveInput, Sink, Stream};

use super::Context;
use super::exit::{Exit, Failure};
pub(super) use args::Args;
use passing::Passing;
use signals::Signals;

pub(super) fn perform(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    // First of all, so that every thread of the engine leaves the signals alone.
    let signals = Signals::watch();
    let (target, command) = plan::resolve(args)?;
    let hear = context.out.noter();
    let engine = context.engine_with(|options| options.prestart(command.always_runs()).notices(hear))?;
    let passing = Arc::new(Passing::default());
    let sink: Option<Sink> = (!context.out.json()).then(|| {
        let passing = Arc::clone(&passing);
        Arc::new(move |stream, bytes: &[u8]| passing.write(stream, bytes)) as Sink
    });
    let mut live = |input: LiveInput| {
        if let Some(end) = input.stdin {
            stdin::copy_to(end);
        }
        signals.direct_to(input.killer);
    };
    let step = engine.step_live(&target, &command, sink, &mut live);
    signals.command_ended();
    let step = step?;
    let outcome = &step.outcome;
    if context.out.json() {
        report::json(&step, &mut context.out)?;
    } else {
        if outcome.reused {
            passing.write(Stream::Stdout, &outcome.stdout);
            passing.write(Stream::Stderr, &outcome.stderr);
        }
        context.out.note(report::line(&step, &target));
    }
    passing.failure().map_or(Ok(()), |error| Err(Failure::Output(error)))?;
    Ok(Exit(u8::try_from(outcome.shell_code() & 0xff).unwrap_or(Exit::FAILED.0)))
}
