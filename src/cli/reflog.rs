//! `treebox reflog`: what a ref was.

use super::exit::{Exit, Failure};
use super::{Context, output, records, time};

/// List what a ref was, newest first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A branch or tag [default: HEAD]
    #[arg(value_name = "REF")]
    name: Option<String>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let lines = engine.reflog(args.name.as_deref())?;
    let of = args.name.as_deref().unwrap_or("HEAD");
    let out = &mut context.out;
    out.page();
    for line in &lines {
        if out.json() {
            out.record(&records::ReflogRecord::new(of, line))?;
            continue;
        }
        let id = line.new.map_or_else(|| "-".repeat(12), |id| id.short());
        write!(out, "{} {of}@{{{}}}: ", out.paint(output::ID, id), line.index)?;
        if out.verbose() {
            write!(out, "{} ", time::rfc3339_seconds(line.time_seconds))?;
        }
        out.name(line.message.as_bytes())?;
        out.bytes(b"\n")?;
    }
    Ok(Exit::DONE)
}
