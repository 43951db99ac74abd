//! `treebox import`: an image, a root file system, a directory or the host's own programs become a state.

use serde::Serialize;
use treebox::{ImportOptions, ImportSource, Platform};

use super::exit::{Exit, Failure};
use super::{Context, records, text, values};

/// Bring in an image, a root file system or the host's own programs; prints the state id
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE[:NAME], tar:FILE, dir:DIR, host[:PROGRAM,…], or a bare path
    source: String,
    /// What to call it [default: the image's own tag, else the name of the file]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    choice: Choice,
}

/// What `import` and `pull` have in common: which of several images, and what it may demand.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// Which of several images to take [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Change what an image may demand of this machine, such as total_bytes=2G
    ///
    /// There are: entries, layers, path_bytes, header_bytes, xattr_bytes, sparse_regions, file_bytes, total_bytes, metadata_bytes (kept in
    /// memory), expansion_ratio (looked at beyond ratio_free_bytes), index_depth, index_manifests, manifest_bytes, zstd_window_log.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = values::limit)]
    limits: Vec<(String, u64)>,
}

impl Choice {
    pub(super) fn options(&self, name: Option<&str>) -> ImportOptions {
        let mut options = ImportOptions::new();
        options.name = name.map(str::to_owned);
        options.platform = self.platform.clone();
        for (name, value) in &self.limits {
            // The name was looked at when it was parsed.
            options.limits.set(name, *value);
        }
        options
    }
}

#[derive(Serialize)]
struct Record<'a> {
    state: String,
    commit: Option<String>,
    name: &'a str,
    entries: u64,
    size: u64,
    skipped: Vec<records::Skipped<'a>>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let source = ImportSource::parse(&args.source)?;
    let hear = context.out.noter();
    let engine = context.engine_with(|options| options.notices(hear))?;
    let imported = engine.import_with(&source, &args.choice.options(args.name.as_deref()))?;
    let out = &mut context.out;
    if out.json() {
        out.record(&Record {
            state: imported.state.id().to_string(),
            commit: imported.state.commit().map(|id| id.to_string()),
            name: &imported.name,
            entries: imported.entries,
            size: imported.size_bytes,
            skipped: records::skipped(&imported.skipped),
        })?;
    } else {
        writeln!(out, "{}", imported.state.id())?;
        out.note(format_args!(
            "{}: {}, {}{}",
            imported.name,
            text::count(imported.entries, "entry", "entries"),
            text::size(imported.size_bytes),
            left_out(&imported.skipped, out.verbose()),
        ));
    }
    Ok(Exit::DONE)
}

/// What is to be said of skipped paths: the first few, all with `-v`.
pub(super) fn left_out(skipped: &[(String, String)], all: bool) -> String {
    const SHOWN: usize = 3;
    if skipped.is_empty() {
        return String::new();
    }
    let shown = if all { skipped.len() } else { SHOWN };
    let mut named: Vec<_> =
        skipped.iter().take(shown).map(|(path, reason)| format!("{path} ({reason})")).collect();
    if skipped.len() > shown {
        named.push("…".to_owned());
    }
    format!("; {} left out: {}", skipped.len(), named.join(", "))
}

/// What the host could not hold, counted by reason, as the end of a line; with `all` every path.
pub(super) fn not_held(skipped: &[(String, String)], all: bool) -> String {
    if all {
        return left_out(skipped, true).replacen(" left out: ", " not as in the state: ", 1);
    }
    let mut reasons: Vec<(&str, u64)> = Vec::new();
    for (_, reason) in skipped {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    let told: String = reasons
        .iter()
        .map(|(reason, count)| format!("; {}: {reason}", text::count(*count, "entry", "entries")))
        .collect();
    if told.is_empty() { told } else { format!("{told}; -v lists them") }
}
