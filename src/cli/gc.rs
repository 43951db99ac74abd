//! `treebox gc`: remove what nothing needs.

use serde::Serialize;
use treebox::{Cancel, Collected, DEFAULT_KEEP_DAYS, GcOptions, StoreSize};

use super::exit::{Exit, Failure};
use super::output::Output;
use super::run::Signals;
use super::{Context, text, values};

/// Remove what no branch, tag, image, log, remembered run or running process leads to
///
/// What refs lead to always stays; `treebox tag` keeps a state. Everything else that may be needed again stays for --keep-days. It can run at any time, beside other
/// commands.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Make the store no larger than this, and keep it so: what was not used for longest goes first, layers before remembered runs before logs, also when room is
    /// needed later; what does not fit is refused. `none` lets it grow again
    #[arg(long, value_name = "N", value_parser = max_size)]
    max_size: Option<MaxSize>,
    /// Keep logs, remembered runs, layers and caches that were used in the last D days
    #[arg(long, value_name = "D", default_value_t = DEFAULT_KEEP_DAYS)]
    keep_days: u32,
    /// Say what would go, and touch nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// How large the store may be; `None` is as large as the disk.
#[derive(Debug, Clone, Copy)]
struct MaxSize(Option<u64>);

fn max_size(text: &str) -> Result<MaxSize, String> {
    if text == "none" { Ok(MaxSize(None)) } else { values::size(text).map(|bytes| MaxSize(Some(bytes))) }
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    // First of all, so that every thread of the engine leaves the signals alone.
    let signals = Signals::watch(false);
    let engine = context.engine()?;
    let cancel = Cancel::new();
    signals.direct_to_all(cancel.clone());
    if let (Some(MaxSize(bytes)), false) = (args.max_size, args.dry_run) {
        engine.set_max_size(bytes)?;
    }
    let options = GcOptions::new()
        .max_bytes(args.max_size.and_then(|MaxSize(bytes)| bytes))
        .keep_days(args.keep_days)
        .dry_run(args.dry_run)
        .cancel(cancel);
    let collected = engine.gc(&options);
    signals.command_ended();
    let collected = match (signals.ended_by(), collected) {
        (Some(signal), Err(_)) => return Ok(Exit::of_signal(signal)),
        (_, collected) => collected?,
    };
    let out = &mut context.out;
    if out.json() {
        out.record(&Record::from(&collected))?;
    } else {
        tell(&collected, out)?;
    }
    for line in &collected.left {
        out.note(line);
    }
    if collected.over_bytes > 0 {
        let needed = text::size(collected.stays.needed);
        out.note(format_args!(
            "{} more than --max-size: branches, tags, images and running commands need {needed}; `treebox du` says which",
            text::size(collected.over_bytes)
        ));
        return Ok(Exit::NO);
    }
    Ok(Exit::DONE)
}

fn tell(collected: &Collected, out: &mut Output) -> Result<(), Failure> {
    let line = |name: &str, count: u64, bytes: Option<u64>, out: &mut Output| {
        if count == 0 {
            return Ok(());
        }
        let bytes = bytes.map_or_else(String::new, text::size);
        writeln!(out, "{name:<16} {count:>8} {bytes:>10}")
    };
    let sum = |bytes: &mut dyn Iterator<Item = u64>| Some(bytes.sum());
    let layers = &collected.layers;
    line("layers", layers.len() as u64, sum(&mut layers.iter().map(|layer| layer.bytes)), out)?;
    if out.verbose() {
        for layer in layers {
            writeln!(out, "  {} {}: {}", layer.name, text::size(layer.bytes), layer.why)?;
        }
    }
    let originals = &collected.originals;
    line("originals", originals.len() as u64, sum(&mut originals.iter().map(|one| one.bytes)), out)?;
    if out.verbose() {
        for original in originals {
            writeln!(out, "  {} {}", original.digest, text::size(original.bytes))?;
        }
    }
    let caches = &collected.caches;
    line("caches", caches.len() as u64, sum(&mut caches.iter().map(|one| one.bytes)), out)?;
    line("remembered runs", collected.runs, None, out)?;
    line("log lines", collected.log_lines, None, out)?;
    let packed = collected.states.len() as u64 + collected.trees;
    line("states, trees", packed, Some(collected.packed_bytes), out)?;
    if out.verbose() {
        for state in &collected.states {
            writeln!(out, "  {state}")?;
        }
    }
    line("blobs", collected.blobs, Some(collected.blob_bytes), out)?;
    line("commit objects", collected.history_objects, None, out)?;
    let before = collected.before.total();
    match &collected.after {
        None => {
            out.note(format_args!("nothing was touched; the store takes {}", text::size(before)));
        }
        Some(after) => {
            let after = after.total();
            out.note(format_args!(
                "{} freed; the store takes {}",
                text::size(before.saturating_sub(after)),
                text::size(after)
            ));
        }
    }
    Ok(())
}

/// What a store takes on disk, by its parts, in bytes.
#[derive(Serialize)]
pub(super) struct SizeRecord {
    total: u64,
    blobs: u64,
    segments: u64,
    history: u64,
    index: u64,
    originals: u64,
    layers: u64,
    caches: u64,
    tmp: u64,
    other: u64,
}

impl From<&StoreSize> for SizeRecord {
    fn from(size: &StoreSize) -> Self {
        Self {
            total: size.total(),
            blobs: size.blobs,
            segments: size.segments,
            history: size.history,
            index: size.index,
            originals: size.originals,
            layers: size.layers,
            caches: size.caches,
            tmp: size.tmp,
            other: size.other,
        }
    }
}

#[derive(Serialize)]
struct Record {
    dry_run: bool,
    before: SizeRecord,
    after: Option<SizeRecord>,
    layers: Vec<LayerRecord>,
    originals: Vec<NamedRecord>,
    caches: Vec<NamedRecord>,
    runs: u64,
    log_lines: u64,
    states: Vec<String>,
    trees: u64,
    packed_bytes: u64,
    blobs: u64,
    blob_bytes: u64,
    history_objects: u64,
    stays: StaysRecord,
    left: Vec<String>,
    over_bytes: u64,
}

#[derive(Serialize)]
struct LayerRecord {
    name: String,
    tree: Option<String>,
    bytes: u64,
    used_ms: i64,
    why: &'static str,
}

#[derive(Serialize)]
struct NamedRecord {
    name: String,
    bytes: u64,
}

/// What stays, by the first that keeps it, in bytes.
#[derive(Serialize)]
struct StaysRecord {
    needed: u64,
    logged: u64,
    runs: u64,
    caches: u64,
    originals: u64,
    layers: u64,
}

impl From<&Collected> for Record {
    fn from(collected: &Collected) -> Self {
        let named = |name: &String, bytes| NamedRecord { name: name.clone(), bytes };
        let stays = &collected.stays;
        Self {
            dry_run: collected.dry_run,
            before: SizeRecord::from(&collected.before),
            after: collected.after.as_ref().map(SizeRecord::from),
            layers: collected
                .layers
                .iter()
                .map(|layer| LayerRecord {
                    name: layer.name.clone(),
                    tree: layer.tree.map(|tree| tree.to_string()),
                    bytes: layer.bytes,
                    used_ms: layer.used_ms,
                    why: layer.why,
                })
                .collect(),
            originals: collected.originals.iter().map(|one| named(&one.digest, one.bytes)).collect(),
            caches: collected.caches.iter().map(|one| named(&one.id, one.bytes)).collect(),
            runs: collected.runs,
            log_lines: collected.log_lines,
            states: collected.states.iter().map(ToString::to_string).collect(),
            trees: collected.trees,
            packed_bytes: collected.packed_bytes,
            blobs: collected.blobs,
            blob_bytes: collected.blob_bytes,
            history_objects: collected.history_objects,
            stays: StaysRecord {
                needed: stays.needed,
                logged: stays.logged,
                runs: stays.runs,
                caches: stays.caches,
                originals: stays.originals,
                layers: stays.layers,
            },
            left: collected.left.clone(),
            over_bytes: collected.over_bytes,
        }
    }
}
