//! `treebox export`: a state becomes an image or an archive that other tools read.

use std::path::Path;

use serde::Serialize;
use treebox::blocking::Engine;
use treebox::{Compression, ExportOptions, ExportTarget, Layering};

use super::exit::{Exit, Failure};
use super::{Context, host, import, text};

/// Write a state as an image or archive for other tools; the same state gives the same bytes anywhere
///
/// An image that nobody changed goes out with the digests it came in with. Prints the digest of the manifest, or of the config for a
/// docker-archive. Several revisions can go into one docker-archive.
#[derive(Debug, clap::Args)]
#[command(override_usage = "treebox export [OPTIONS] <REV>... <DEST>")]
pub(super) struct Args {
    /// What to export, and where: oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], tar:FILE or dir:DIR; - as FILE is stdout
    #[arg(value_name = "REV DEST", required = true, num_args = 2..)]
    places: Vec<String>,
    #[command(flatten)]
    shape: Shape,
}

/// What `export` and `push` have in common: how the image is cut into layers and written.
#[derive(Debug, clap::Args)]
pub(super) struct Shape {
    /// Keep the layers of the image it grew from, and add one for each commit since
    #[arg(long, conflicts_with = "squash")]
    layers: bool,
    /// Make one layer even of an image that nobody changed
    #[arg(long)]
    squash: bool,
    /// none, gzip[:LEVEL] or zstd[:LEVEL]: for layers of OCI images [default: gzip], for other archives as a whole [default: none]
    #[arg(long, value_name = "KIND")]
    compression: Option<Compression>,
    /// Set later modification times to this many seconds since 1970 [default: $SOURCE_DATE_EPOCH, else none]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    epoch: Option<i64>,
}

impl Shape {
    pub(super) fn options(&self) -> Result<ExportOptions, Failure> {
        let mut options = ExportOptions::new().layering(match (self.layers, self.squash) {
            (true, _) => Layering::PerCommit,
            (_, true) => Layering::One,
            _ => Layering::Auto,
        });
        options.compression = self.compression;
        options.epoch = match self.epoch {
            Some(epoch) => Some(epoch),
            None => host::source_date_epoch()?,
        };
        Ok(options)
    }
}

#[derive(Serialize)]
struct Record<'a> {
    state: String,
    dest: &'a str,
    digest: Option<&'a str>,
    config: Option<&'a str>,
    layers: usize,
    size: u64,
    unchanged: bool,
    skipped: Vec<super::records::Skipped<'a>>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let Some((dest, revs)) = args.places.split_last() else {
        return Err(Failure::Usage("nothing to export: give REV and DEST".to_owned()));
    };
    let mut target = ExportTarget::parse(dest)?;
    let engine = context.engine()?;
    let states = revs.iter().map(|rev| engine.resolve(rev)).collect::<treebox::Result<Vec<_>>>()?;
    let (Some(state), Some(rev)) = (states.first(), revs.first()) else {
        return Err(Failure::Usage("nothing to export: give REV and DEST".to_owned()));
    };
    if let ExportTarget::DockerArchive { name: name @ None, .. } = &mut target {
        *name = image_name(&engine, rev)?;
    }
    let options = args.shape.options()?;
    let out = &mut context.out;
    let to_stdout = target.path() == Path::new("-");
    if to_stdout && out.json() {
        return Err(Failure::Usage("--json and the archive cannot both go to stdout".to_owned()));
    }
    let exported = match (revs, &target) {
        ([_], _) if to_stdout => {
            let exported = engine.export_to(state, &target, &options, out.writer());
            out.check(exported)?
        }
        ([_], _) => engine.export(state, &target, &options)?,
        (_, ExportTarget::DockerArchive { file, .. }) if !to_stdout && dest.matches(':').count() == 1 => {
            let named = states.iter().zip(revs).map(|(state, rev)| {
                // What is no image is called as it was written.
                let name = image_name(&engine, rev)?.unwrap_or_else(|| rev.clone());
                Ok((state.clone(), Some(name)))
            });
            engine.export_several(&named.collect::<Result<Vec<_>, Failure>>()?, file, &options)?
        }
        _ => {
            return Err(Failure::Usage(
                "only docker-archive:FILE takes several revisions, and each keeps its own name".to_owned(),
            ));
        }
    };
    for note in &exported.notes {
        out.note(note);
    }
    let digest = exported.manifest.as_deref().or(exported.config.as_deref());
    if out.json() {
        out.record(&Record {
            state: state.id().to_string(),
            dest,
            digest,
            config: exported.config.as_deref(),
            layers: exported.layers,
            size: exported.written_bytes,
            unchanged: exported.unchanged,
            skipped: super::records::skipped(&exported.skipped),
        })?;
        return Ok(Exit::DONE);
    }
    if let (Some(digest), false) = (digest, to_stdout) {
        writeln!(out, "{digest}")?;
    }
    let what = match (exported.layers > 0, exported.unchanged) {
        (true, true) => format!("{}, unchanged", text::count(exported.layers as u64, "layer", "layers")),
        (true, false) => text::count(exported.layers as u64, "layer", "layers"),
        (false, _) => "root file system".to_owned(),
    };
    out.note(format_args!(
        "{}: {what}, {}{}",
        dest,
        text::size(exported.written_bytes),
        import::left_out(&exported.skipped, out.verbose()),
    ));
    Ok(Exit::DONE)
}

/// The image name that a revision is, when it is one.
fn image_name(engine: &Engine, rev: &str) -> Result<Option<String>, Failure> {
    let mut names = engine.images()?.into_iter().map(|image| image.name);
    let is_meant = |name: &String| name == rev || name.strip_suffix(":latest") == Some(rev);
    Ok(names.find(is_meant))
}
