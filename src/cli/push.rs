//! `treebox push`: a state becomes an image of a registry.

use serde::Serialize;
use treebox::PushOptions;

use super::access::Access;
use super::exit::{Exit, Failure};
use super::export::Shape;
use super::{Context, import, text};

/// Send a state to a registry as an image; prints the manifest's digest
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to send
    rev: String,
    /// [REGISTRY/]REPOSITORY[:TAG]; docker.io is meant when no registry is named
    reference: String,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    access: Access,
}

#[derive(Serialize)]
struct Record<'a> {
    digest: &'a str,
    reference: &'a str,
    state: String,
    sent: u64,
    mounted: u64,
    present: u64,
    sent_bytes: u64,
    unchanged: bool,
    skipped: Vec<super::records::Skipped<'a>>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let state = engine.resolve(&args.rev)?;
    let out = &mut context.out;
    let (registry, progress) = args.access.options(out)?;
    let options = PushOptions::new().registry(registry).export(args.shape.options()?);
    let pushed = engine.push(&state, &args.reference, &options)?;
    drop(progress);
    for note in &pushed.notes {
        out.note(note);
    }
    if out.json() {
        out.record(&Record {
            digest: &pushed.digest,
            reference: &pushed.reference,
            state: state.id().to_string(),
            sent: pushed.sent,
            mounted: pushed.mounted,
            present: pushed.present,
            sent_bytes: pushed.sent_bytes,
            unchanged: pushed.unchanged,
            skipped: super::records::skipped(&pushed.skipped),
        })?;
    } else {
        writeln!(out, "{}", pushed.digest)?;
        out.note(format_args!(
            "{}: {} sent ({}), {} taken over, {} there already{}",
            pushed.reference,
            text::count(pushed.sent, "part", "parts"),
            text::size(pushed.sent_bytes),
            pushed.mounted,
            pushed.present,
            import::left_out(&pushed.skipped, out.verbose()),
        ));
    }
    Ok(Exit::DONE)
}
