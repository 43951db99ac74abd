//! `treebox fsck`: what is damaged in the store, what that hits, and what to do.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use treebox::blocking::Engine;
use treebox::{Checked, Damage, FsckOptions, Severity};

use super::exit::{Exit, Failure};
use super::output::{self, Output};
use super::{Context, records, text};

/// Look for damage in the store: what is wrong, which commits and paths it hits, what to do
///
/// Refs, commits, states and trees are followed, and of every blob it is seen that it is there with the right length. Nothing is changed
/// without --repair, and other commands may run at the same time. `store-format.md` lists every kind of damage by name.
///
/// Exits 1 if something is damaged, or was before it was mended. What dead processes left, and what nothing needs, is only told of with -v or --json.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Read and hash everything as well: blobs, Git objects, originals of images, files in layers
    #[arg(long)]
    full: bool,
    /// Read everything and mend what can be mended: what is bad is moved to `damaged/` in the store, what is derived is made again, and what
    /// layers, originals or the files of images still have is brought back
    #[arg(long)]
    repair: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    name: &'static str,
    severity: &'static str,
    subject: &'a str,
    detail: &'a str,
    hits: &'a [String],
    more_hits: bool,
    fix: &'static str,
    mended: Option<&'a str>,
}

impl<'a> From<&'a Damage> for Record<'a> {
    fn from(damage: &'a Damage) -> Self {
        Self {
            name: damage.kind.as_str(),
            severity: damage.severity.as_str(),
            subject: &damage.subject,
            detail: &damage.detail,
            hits: &damage.hits,
            more_hits: damage.more_hits,
            fix: damage.kind.fix(),
            mended: damage.mended.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct SummaryRecord {
    summary: bool,
    full: bool,
    clean: bool,
    errors: usize,
    warnings: usize,
    infos: usize,
    refs: u64,
    commits: u64,
    trees_and_states: u64,
    blobs: u64,
    layers: u64,
    hashed_bytes: u64,
    duration_ms: f64,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let bar = Bar::new(&context.out);
    let hear = bar.bar.clone();
    let options = FsckOptions::new().full(args.full).repair(args.repair).progress(move |progress| {
        if let Some(bar) = &hear {
            bar.set_message(progress.what);
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.done_bytes);
        }
    });
    let checked = Engine::fsck_at(&context.options()?, &options)?;
    drop(bar);
    let out = &mut context.out;
    for damage in &checked.damages {
        if out.json() {
            out.record(&Record::from(damage))?;
        } else if damage.severity > Severity::Info || out.verbose() {
            tell(damage, out)?;
        }
    }
    let [errors, warnings, infos] =
        [Severity::Error, Severity::Warning, Severity::Info].map(|severity| checked.count(severity));
    let Checked { refs, commits, packed, blobs, layers, hashed_bytes, .. } = checked;
    let clean = checked.is_clean();
    if out.json() {
        out.record(&SummaryRecord {
            summary: true,
            full: args.full || args.repair,
            clean,
            errors,
            warnings,
            infos,
            refs,
            commits,
            trees_and_states: packed,
            blobs,
            layers,
            hashed_bytes,
            duration_ms: records::milliseconds(checked.duration),
        })?;
    } else {
        let what = [
            text::count(refs, "ref", "refs"),
            text::count(commits, "commit", "commits"),
            text::count(packed, "tree or state", "trees and states"),
            text::count(blobs, "blob", "blobs"),
        ];
        let how = if args.full || args.repair { "read" } else { "looked at; --full reads them" };
        let found = match (errors, warnings) {
            (0, 0) => "nothing is damaged".to_owned(),
            _ => format!(
                "{}, {}",
                text::count(errors as u64, "error", "errors"),
                text::count(warnings as u64, "warning", "warnings")
            ),
        };
        out.note(format_args!("{found} ({} {how})", what.join(", ")));
    }
    Ok(if clean { Exit::DONE } else { Exit::NO })
}

fn tell(damage: &Damage, out: &mut Output) -> Result<(), Failure> {
    let style = match damage.severity {
        Severity::Error => output::DELETED,
        Severity::Warning => output::MODIFIED,
        Severity::Info => output::PLAIN,
    };
    let word = out.paint(style, damage.severity);
    write!(out, "{word}: {} ", damage.kind)?;
    out.name(damage.subject.as_bytes())?;
    writeln!(out, ": {}", output::one_line(&damage.detail))?;
    if !damage.hits.is_empty() {
        out.bytes(b"  hits ")?;
        out.name(damage.hits.join(", ").as_bytes())?;
        out.bytes(if damage.more_hits { b" and more\n" } else { b"\n" })?;
    }
    match &damage.mended {
        Some(mended) => writeln!(out, "  mended: {}", output::one_line(mended)),
        None => writeln!(out, "  fix: {}", damage.kind.fix()),
    }
}

/// The bar on a terminal. It goes when this is dropped.
struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    fn new(out: &Output) -> Self {
        let drawn = io::stderr().is_terminal() && !out.quiet();
        let style = ProgressStyle::with_template("{bar:24} {bytes:>10} of {total_bytes:<10} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: drawn.then(|| ProgressBar::new(0).with_style(style)) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
