//! `treebox du`: who holds what.

use serde::Serialize;
use treebox::{DiskUse, Holder, Kept, KeptThing};

use super::exit::{Exit, Failure};
use super::gc::SizeRecord;
use super::output::{self, Output};
use super::{Context, text};

/// Show what the store takes on disk: for each ref all that it leads to and what no other ref leads to, then the store's parts
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Say instead why each state and layer is kept
    #[arg(long)]
    why: bool,
    /// With --why: only these states
    #[arg(value_name = "REV", requires = "why")]
    revs: Vec<String>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    let out = &mut context.out;
    if !args.why {
        let found = engine.disk_use()?;
        out.page();
        match out.json() {
            true => out.record(&Record::from(&found))?,
            false => tell(&found, out)?,
        }
        return Ok(Exit::DONE);
    }
    // What asks is not what keeps.
    let wanted = args.revs.iter().map(|rev| Ok(engine.resolve(rev)?.id()));
    let wanted = wanted.collect::<Result<Vec<_>, Failure>>()?;
    let kept = engine.kept()?;
    out.page();
    for one in &kept {
        if !wanted.is_empty() && !matches!(one.what, KeptThing::State(id) if wanted.contains(&id)) {
            continue;
        }
        if out.json() {
            out.record(&KeptRecord::from(one))?;
            continue;
        }
        match &one.what {
            KeptThing::State(id) => write!(out, "state {}", out.paint(output::ID, id.short()))?,
            KeptThing::Layer(name) => write!(out, "layer {name}")?,
        }
        match one.why.as_slice() {
            [] => writeln!(out, ": nothing keeps it")?,
            why => {
                out.bytes(b"\n")?;
                for why in why {
                    out.bytes(b"    ")?;
                    out.name(why.text().as_bytes())?;
                    out.bytes(b"\n")?;
                }
            }
        }
    }
    Ok(Exit::DONE)
}

fn tell(found: &DiskUse, out: &mut Output) -> Result<(), Failure> {
    writeln!(out, "{:>10} {:>10}", "total", "alone")?;
    for holder in &found.holders {
        if holder.total_bytes == 0 {
            continue;
        }
        let (total, alone) = (text::size(holder.total_bytes), text::size(holder.exclusive_bytes));
        write!(out, "{total:>10} {alone:>10}  {}", holder.kind.as_str())?;
        if !holder.name.is_empty() {
            out.bytes(b" ")?;
            out.name(holder.name.as_bytes())?;
        }
        out.bytes(b"\n")?;
    }
    writeln!(out, "{:>21}  nothing: the next gc frees it", text::size(found.garbage_bytes))?;
    out.bytes(b"\n")?;
    let size = &found.size;
    let parts = [
        ("blobs", size.blobs),
        ("trees, states", size.segments),
        ("history", size.history),
        ("index", size.index),
        ("originals", size.originals),
        ("layers", size.layers),
        ("caches", size.caches),
        ("tmp", size.tmp),
        ("other", size.other),
    ];
    for (name, bytes) in parts.into_iter().filter(|(_, bytes)| *bytes > 0) {
        writeln!(out, "{:>10}  {name}", text::size(bytes))?;
    }
    writeln!(out, "{:>10}  together", text::size(size.total()))?;
    if size.unreadable > 0 {
        let count = text::count(size.unreadable, "directory", "directories");
        out.note(format_args!("{count} of other ids could not be read and is not counted"));
    }
    Ok(())
}

#[derive(Serialize)]
struct Record {
    holders: Vec<HolderRecord>,
    garbage_bytes: u64,
    size: SizeRecord,
}

#[derive(Serialize)]
struct HolderRecord {
    kind: &'static str,
    name: String,
    total_bytes: u64,
    exclusive_bytes: u64,
}

impl From<&DiskUse> for Record {
    fn from(found: &DiskUse) -> Self {
        let holder = |holder: &Holder| HolderRecord {
            kind: holder.kind.as_str(),
            name: holder.name.clone(),
            total_bytes: holder.total_bytes,
            exclusive_bytes: holder.exclusive_bytes,
        };
        Self {
            holders: found.holders.iter().map(holder).collect(),
            garbage_bytes: found.garbage_bytes,
            size: SizeRecord::from(&found.size),
        }
    }
}

#[derive(Serialize)]
struct KeptRecord {
    kind: &'static str,
    name: String,
    why: Vec<String>,
}

impl From<&Kept> for KeptRecord {
    fn from(kept: &Kept) -> Self {
        let (kind, name) = match &kept.what {
            KeptThing::State(id) => ("state", id.to_string()),
            KeptThing::Layer(name) => ("layer", name.clone()),
        };
        Self { kind, name, why: kept.why.iter().map(treebox::KeptBy::text).collect() }
    }
}
