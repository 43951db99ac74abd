//! Bringing back bytes that were lost, from what is here in another form.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::mend::{ASIDE, note};
use super::{Checked, DamageKind, Known};
use crate::disk::Scratch;
use crate::engine::core::Core;
use crate::engine::error::{Error, Result};
use crate::engine::types::ImportSource;
use crate::object::{BlobId, CommitId, Draft, Meta, State, StateId, Timestamp, TreeId, TreePath};
use crate::oci;
use crate::store::check::{BlobState, check_blob};
use crate::worktree::layer::{SeenNode, hash_below, look};

/// Brings back blobs, trees, states and commits, as far as they are known from elsewhere, and notes it with each damage.
pub(super) fn refetch(core: &Arc<Core>, known: &Known, checked: &mut Checked) {
    let lost: Vec<usize> =
        (0..checked.damages.len()).filter(|at| is_loss(checked.damages[*at].kind)).collect();
    for at in &lost {
        let damage = &mut checked.damages[*at];
        if matches!(damage.kind, DamageKind::CommitMissing | DamageKind::CommitDamaged) {
            let mended = commit_again(core, known, &damage.subject);
            note(damage, mended);
        }
    }
    let is_back = |core: &Core, damage: &super::Damage| is_back(core, damage.kind, &damage.subject);
    let left = |core: &Core, checked: &Checked| lost.iter().any(|at| !is_back(core, &checked.damages[*at]));
    let mut from: BTreeMap<usize, String> = BTreeMap::new();
    let mut mark = |core: &Core, checked: &Checked, source: &str| {
        for at in &lost {
            if is_back(core, &checked.damages[*at]) {
                from.entry(*at).or_insert_with(|| source.to_owned());
            }
        }
    };
    mark(core, checked, "what was found with it");
    if left(core, checked) {
        let _ = from_layers(core, known);
        mark(core, checked, "a layer");
    }
    for original in core.originals().files().unwrap_or_default() {
        // Documents are among them, and are no archives.
        if left(core, checked) && layer_again(core, &original.path).is_ok() {
            mark(core, checked, "the originals of an image");
        }
    }
    for manifest in &known.manifests {
        if left(core, checked) && originals_again(core, manifest).is_ok() {
            mark(core, checked, "the originals of an image");
        }
    }
    for image in core.index.images().unwrap_or_default() {
        // What a registry has is fetched by who wants to.
        if let Ok(source) = ImportSource::parse(&image.source)
            && left(core, checked)
            && source_again(core, &source).is_ok()
        {
            mark(core, checked, &image.source);
        }
    }
    for at in lost {
        let damage = &mut checked.damages[at];
        match from.remove(&at) {
            Some(source) if damage.mended.is_none() => {
                damage.mended = Some(format!("brought back from {source}"));
            }
            Some(_) => {}
            None if damage.mended.is_none() => damage.detail.push_str("; nothing here has it: it is lost"),
            None => {}
        }
    }
}

fn is_loss(kind: DamageKind) -> bool {
    matches!(
        kind,
        DamageKind::BlobMissing
            | DamageKind::BlobTruncated
            | DamageKind::BlobLonger
            | DamageKind::BlobFlipped
            | DamageKind::TreeMissing
            | DamageKind::TreeFlipped
            | DamageKind::StateMissing
            | DamageKind::StateFlipped
            | DamageKind::CommitMissing
            | DamageKind::CommitDamaged
    )
}

fn is_back(core: &Core, kind: DamageKind, subject: &str) -> bool {
    match kind {
        DamageKind::TreeMissing | DamageKind::TreeFlipped => subject
            .parse::<TreeId>()
            .is_ok_and(|id| core.store.directory(&id).is_ok() || core.store.root(&id).is_ok()),
        DamageKind::StateMissing | DamageKind::StateFlipped => {
            subject.parse::<StateId>().is_ok_and(|id| core.store.state(&id).is_ok())
        }
        DamageKind::CommitMissing | DamageKind::CommitDamaged => subject
            .parse::<CommitId>()
            .is_ok_and(|id| core.history().is_ok_and(|history| history.check_commit(&id).is_ok())),
        _ => subject.parse::<BlobId>().is_ok_and(|id| check_blob(core.layout(), &id) == BlobState::Sound),
    }
}

/// Writes a commit again that the index knows a run of: it has the same bytes, and so the same id.
fn commit_again(core: &Arc<Core>, known: &Known, subject: &str) -> Result<Option<String>> {
    let Ok(commit) = subject.parse::<CommitId>() else { return Ok(None) };
    let Some(fact) = core.index.commit(&commit)? else { return Ok(None) };
    let run = fact.run_seq.map(|seq| core.index.run(seq)).transpose()?.flatten();
    let (Some(run), Some(parent)) = (run, fact.parents.first()) else { return Ok(None) };
    let history = core.history()?;
    if let Some(object) = known.git_damaged.get(&commit) {
        let path = history.loose_file(object);
        if path.exists() {
            let aside = core.layout().root().join(ASIDE).join(format!("git-{object}"));
            crate::disk::create_dir_all_private(aside.parent().unwrap_or(Path::new(".")))?;
            crate::disk::rename(&path, &aside)?;
        }
    }
    let state = core.state(fact.state)?;
    let made = core.commit_run(&state, &run, *parent)?;
    history.sync()?;
    Ok((made == commit).then(|| "written again from what the index knows of its run".to_owned()))
}

/// Takes bytes from files of layers that still have them.
fn from_layers(core: &Core, known: &Known) -> Result<()> {
    let mut wanted: BTreeMap<u64, Vec<BlobId>> = BTreeMap::new();
    for (blob, size) in &known.wanted {
        if check_blob(core.layout(), blob) != BlobState::Sound {
            wanted.entry(*size).or_default().push(*blob);
        }
    }
    let layers = core.layout().layers();
    let listed = std::fs::read_dir(&layers).map_err(|error| Error::disk("list", &layers, error))?;
    for layer in listed.filter_map(std::result::Result::ok) {
        if wanted.is_empty() {
            break;
        }
        let mut candidates = Vec::new();
        let seen = look(&layer.path(), &mut |seen| {
            if let SeenNode::File { size, redirect: None, .. } = seen.node
                && wanted.contains_key(&size)
            {
                candidates.push((size, seen.path));
            }
        });
        if seen.is_err() {
            continue;
        }
        for (size, path) in candidates {
            let Ok(id) = hash_below(&layer.path(), &path) else { continue };
            let Some(ids) = wanted.get_mut(&size).filter(|ids| ids.contains(&id)) else { continue };
            take(core, &layer.path(), &path, id)?;
            ids.retain(|wanted| *wanted != id);
        }
    }
    Ok(())
}

fn take(core: &Core, layer: &Path, path: &[u8], id: BlobId) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = layer.join(std::ffi::OsStr::from_bytes(path));
    let mut from = File::open(&path).map_err(|error| Error::disk("open", &path, error))?;
    let batch = core.store.batch()?;
    let mut writer = batch.blob_writer()?;
    std::io::copy(&mut from, &mut writer).map_err(|error| Error::disk("copy", &path, error))?;
    let (found, _) = batch.put_stream(writer, None)?;
    if found == id {
        batch.commit()?;
    }
    Ok(())
}

/// No layer is known: all are read.
struct NothingKnown;

impl oci::KnownLayers for NothingKnown {
    fn chain(
        &self,
        _chain: &oci::Digest,
    ) -> std::result::Result<Option<oci::ChainFact>, crate::object::SourceError> {
        Ok(None)
    }
}

/// Reads everything of a source that is still there again, and names nothing: what the store has lost of it is there then.
fn source_again(core: &Arc<Core>, source: &ImportSource) -> Result<()> {
    let mut batch = core.store.batch()?;
    let (root, config) = match source {
        ImportSource::Image(image) => {
            let scratch = Scratch::new(&core.layout().tmp())?;
            let opened = oci::open(image, scratch.path(), &oci::ImportOptions::default())?;
            let taken = opened.import(&mut batch, &core.store, &core.originals(), &NothingKnown)?;
            (taken.root, taken.state.config)
        }
        ImportSource::Directory(dir) => {
            let taken = core.take_directory(&mut batch, dir)?;
            (taken.root, taken.config)
        }
        ImportSource::Host(programs) => {
            let taken = core.take_host(&mut batch, programs)?;
            (taken.root, taken.config)
        }
    };
    batch.put_state(&State { root, config })?;
    batch.commit()?;
    Ok(())
}

/// The same of one layer of an image as it came: its files alone.
fn layer_again(core: &Arc<Core>, layer: &Path) -> Result<()> {
    let batch = core.store.batch()?;
    let mut draft = Draft::empty(&core.store, Meta::root_owned(0o755, Timestamp::default()));
    let mut file = File::open(layer).map_err(|error| Error::disk("open", layer, error))?;
    oci::read_tar(&mut file, &batch, &mut draft, &TreePath::root(), &oci::Limits::default())?;
    batch.commit()?;
    Ok(())
}

/// The same of an image whose layers are all among the originals.
fn originals_again(core: &Arc<Core>, manifest: &oci::DocumentFacts) -> Result<()> {
    let mut batch = core.store.batch()?;
    let originals = core.originals();
    let opened = oci::open_original(manifest, &originals, &oci::ImportOptions::default())?;
    opened.import(&mut batch, &core.store, &originals, &NothingKnown)?;
    batch.commit()?;
    Ok(())
}
