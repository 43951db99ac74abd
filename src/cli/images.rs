//! `treebox images`: the names of imported images.

use std::time::{SystemTime, UNIX_EPOCH};

use super::exit::{Exit, Failure};
use super::{Context, output, records, text, time};

/// List images: name, state, size, when; `images rm` forgets names
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Forget names; states made from them stay
    Rm {
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let out = &mut context.out;
    if let Some(Verb::Rm { names }) = &args.verb {
        for name in names {
            engine.remove_image(name)?;
            out.note(format_args!("forgot {name}"));
        }
        return Ok(Exit::DONE);
    }
    let images = engine.images()?;
    if out.json() {
        for image in &images {
            out.record(&records::ImageRecord::from(image))?;
        }
        return Ok(Exit::DONE);
    }
    if images.is_empty() {
        out.note("no images; `treebox import SOURCE` brings one in");
        return Ok(Exit::DONE);
    }
    let width = images.iter().map(|image| image.name.chars().count()).max().unwrap_or(0).max(4);
    writeln!(out, "{:width$}  {:12}  {:>8}  IMPORTED", "NAME", "STATE", "SIZE")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    for image in &images {
        let when = ago(now - image.imported_ms.div_euclid(1000))
            .unwrap_or_else(|| time::rfc3339_seconds(image.imported_ms.div_euclid(1000)));
        let (id, size) = (out.paint(output::ID, image.state.short()), text::size(image.size_bytes));
        writeln!(out, "{:width$}  {id}  {size:>8}  {when}", image.name)?;
    }
    Ok(Exit::DONE)
}

/// How long ago, up to a month; `None` for longer and for the future.
fn ago(seconds: i64) -> Option<String> {
    let (number, one, many) = match seconds {
        0..60 => (seconds, "second", "seconds"),
        60..3600 => (seconds / 60, "minute", "minutes"),
        3600..86_400 => (seconds / 3600, "hour", "hours"),
        86_400..2_592_000 => (seconds / 86_400, "day", "days"),
        _ => return None,
    };
    Some(format!("{} ago", text::count(number.unsigned_abs(), one, many)))
}
