//! Mending what a check has found: what is bad goes to `damaged/`, what is derived is dropped, what is known from elsewhere is brought back.
//!
//! # Invariants
//! - Nothing that may be the only copy of anything is destroyed: it is moved to `damaged/TIME/`, under its path in the store.
//! - Nothing is run. Bytes come from what is here already: layers, originals, and the files that images were imported from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Checked, Damage, DamageKind, Known};
use crate::disk::{Durability, create_dir_all_private, exists, remove_file, rename};
use crate::engine::catalog::IndexCatalog;
use crate::engine::core::{Core, now_ms};
use crate::engine::error::{Error, Result};
use crate::engine::refs::who;
use crate::engine::types::EngineOptions;
use crate::history::{HeadTo, History, Options, RefName};
use crate::index::Index;
use crate::object::CommitId;
use crate::store::Layout;
use crate::store::mend::{cut_tail, rewrite_segment};

/// The directory of a store for what was moved aside.
pub(super) const ASIDE: &str = "damaged";

/// How old something half-made must be for its maker to be dead.
const HALF_MADE_AGE: std::time::Duration = std::time::Duration::from_secs(60);

/// Mends what can be mended and notes it with each damage.
pub(super) fn mend(
    layout: &Layout,
    engine: &EngineOptions,
    known: &Known,
    checked: &mut Checked,
) -> Result<()> {
    let aside = layout.root().join(ASIDE).join(now_ms().to_string());
    let mut mender = Mender { layout, aside, index: None, history: None, done: HashSet::new() };
    // First what everything else is found by.
    let rank = |damage: &Damage| match damage.kind {
        DamageKind::FormatDamaged => 0,
        DamageKind::IndexDamaged => 1,
        DamageKind::SegmentMagic
        | DamageKind::SegmentGarbage
        | DamageKind::SegmentTorn
        | DamageKind::TreeFlipped
        | DamageKind::StateFlipped => 2,
        _ => 3,
    };
    let mut order: Vec<usize> = (0..checked.damages.len()).collect();
    order.sort_by_key(|at| rank(&checked.damages[*at]));
    for at in &order {
        let damage = &checked.damages[*at];
        let mended = mender.one(damage, known);
        note(&mut checked.damages[*at], mended);
    }
    drop(mender.index.take());
    drop(mender.history.take());
    let core = Core::open(engine.clone())?;
    super::refetch::refetch(&core, known, checked);
    Ok(())
}

/// Notes with a damage what came of mending it.
pub(super) fn note(damage: &mut Damage, mended: Result<Option<String>>) {
    match mended {
        Ok(Some(mended)) => damage.mended = Some(mended),
        Ok(None) => {}
        Err(error) => damage.detail.push_str(&format!("; it could not be mended: {error}")),
    }
}

struct Mender<'m> {
    layout: &'m Layout,
    aside: PathBuf,
    index: Option<Arc<Index>>,
    history: Option<History>,
    /// Files that several damages are in, which are mended once.
    done: HashSet<String>,
}

impl Mender<'_> {
    fn one(&mut self, damage: &Damage, known: &Known) -> Result<Option<String>> {
        let subject = damage.subject.as_str();
        let said = |text: &str| Ok(Some(text.to_owned()));
        match damage.kind {
            DamageKind::FormatDamaged => {
                if exists(&self.layout.format())? {
                    self.move_aside(subject)?;
                }
                self.layout.write_format()?;
                said("written again")
            }
            DamageKind::BlobTruncated | DamageKind::BlobLonger | DamageKind::BlobFlipped => {
                let id = subject.parse().map_err(|_| Error::invalid(format!("`{subject}` is no id")))?;
                self.move_aside(&format!("objects/{}", Layout::blob_below_objects(&id)))?;
                Ok(None)
            }
            DamageKind::ObjectStray => self.moved(subject),
            DamageKind::SegmentMagic | DamageKind::SegmentGarbage => self.segment(subject),
            DamageKind::TreeFlipped | DamageKind::StateFlipped => {
                // Its record is in the way of a good one.
                if let Some(segment) = known.flipped.get(subject) {
                    self.segment(&format!("objects/pack/{segment:08}.seg"))?;
                }
                Ok(None)
            }
            DamageKind::SegmentTorn => {
                if self.done.contains(subject) {
                    return said("left out with the rest");
                }
                let aside = self.aside_for(&format!("{subject}.tail"))?;
                let bytes = cut_tail(self.layout, number_of(subject)?, &aside)?;
                Ok(Some(format!("{bytes} bytes were cut off and kept in {ASIDE}/")))
            }
            DamageKind::IndexDamaged => {
                self.index = None;
                self.move_aside("index.db")?;
                for suffix in ["index.db-wal", "index.db-shm"] {
                    remove_file(&self.layout.root().join(suffix))?;
                }
                self.index()?;
                said("made anew; remembered runs are lost")
            }
            DamageKind::IndexRowObject => {
                let number = subject.trim_start_matches("segment ").parse().unwrap_or(0);
                self.index()?.forget_segment(number)?;
                said("the segment is read again")
            }
            DamageKind::IndexRowCommit => {
                let (commit, state) = match (subject.parse::<CommitId>(), known.states.get(subject)) {
                    (Ok(commit), Some(state)) => (commit, *state),
                    _ => return Ok(None),
                };
                self.index()?.correct_commit(&commit, &state)?;
                said("corrected")
            }
            DamageKind::IndexRowRun => {
                let seq = subject.trim_start_matches("run ").parse().unwrap_or(0);
                self.index()?.forget_runs(&[seq])?;
                said("forgotten")
            }
            DamageKind::IndexRowChain => {
                self.index()?.forget_chain(subject)?;
                said("forgotten")
            }
            DamageKind::IndexRowLayer => {
                self.index()?.forget_layer(layer_of(subject))?;
                said("forgotten")
            }
            DamageKind::LayerFileChanged | DamageKind::LayerFileMissing | DamageKind::LayerFileExtra => {
                let name = layer_of(subject);
                let index = self.index()?;
                // Those that stand on it show its files.
                for layer in index.layers_on(name)? {
                    index.forget_layer(&layer.name)?;
                }
                index.forget_layer(name)?;
                said("forgotten: it is made again when it is needed, and `treebox gc` removes what is there")
            }
            DamageKind::HistoryUnusable if subject == "history.git" => {
                let aside = self.aside_for("history.git/config")?;
                History::complete(&self.layout.history(), &aside)?;
                // HEAD is where it was last, if that is known.
                let _ = self.history()?.mend_head(&who());
                said("what it lacked was made anew")
            }
            DamageKind::PackedRefsTorn => {
                let aside = self.aside_for(subject)?;
                self.history()?.mend_packed_refs(&aside)?;
                said("its bad lines were taken out")
            }
            DamageKind::RefTorn | DamageKind::RefDangling => self.reference(subject),
            DamageKind::HeadTorn => {
                let to = self.history()?.mend_head(&who())?;
                Ok(Some(match to {
                    HeadTo::Branch(name) => format!("it is on branch {name} again"),
                    HeadTo::Detached(commit) => format!("it is at commit {commit} again"),
                }))
            }
            DamageKind::ReflogTorn | DamageKind::OplogTorn => {
                let aside = self.aside_for(subject)?;
                let full = subject.trim_start_matches("history.git/logs/");
                self.history()?.mend_log(full, &aside)?;
                said("its bad lines were taken out")
            }
            DamageKind::GitObjectDamaged if !subject.ends_with(".pack") => self.moved(subject),
            DamageKind::EditUnfinished => {
                // Opening a history finishes it.
                self.history = None;
                self.history()?;
                said("finished or taken back")
            }
            DamageKind::LockStale => {
                self.history()?.sweep()?;
                said("removed")
            }
            DamageKind::OriginalDamaged | DamageKind::CheckoutRecordDamaged | DamageKind::ReplayDamaged => {
                self.moved(subject)
            }
            DamageKind::OwnersDamaged => {
                remove_file(&self.layout.root().join(subject))?;
                said("removed: it is made again when it is needed")
            }
            DamageKind::LinkCount => self.own_inode(subject),
            DamageKind::LeftoverFile => self.leftover(subject),
            // The next open, which follows at once, removes them.
            DamageKind::LeftoverScratch => said("removed"),
            _ => Ok(None),
        }
    }

    fn index(&mut self) -> Result<&Arc<Index>> {
        if self.index.is_none() {
            self.index = Some(Arc::new(Index::open(&self.layout.index())?));
        }
        Ok(self.index.as_ref().expect("set above"))
    }

    fn history(&mut self) -> Result<&History> {
        if self.history.is_none() {
            let options = Options { durability: Durability::Commit };
            self.history = Some(History::open(&self.layout.history(), options)?);
        }
        Ok(self.history.as_ref().expect("set above"))
    }

    /// Where something of the store goes that is moved aside.
    fn aside_for(&self, below: &str) -> Result<PathBuf> {
        let path = self.aside.join(below);
        create_dir_all_private(path.parent().unwrap_or(&self.aside))?;
        Ok(path)
    }

    fn move_aside(&self, below: &str) -> Result<()> {
        let aside = self.aside_for(below)?;
        Ok(rename(&self.layout.root().join(below), &aside)?)
    }

    fn moved(&self, below: &str) -> Result<Option<String>> {
        self.move_aside(below)?;
        Ok(Some(format!("moved to {ASIDE}/")))
    }

    /// Writes the sound records of a segment to a new one.
    fn segment(&mut self, subject: &str) -> Result<Option<String>> {
        if self.done.insert(subject.to_owned()) {
            let aside = self.aside_for(subject)?;
            let catalog = IndexCatalog(Arc::clone(self.index()?));
            rewrite_segment(self.layout, &catalog, number_of(subject)?, &aside)?;
        }
        Ok(Some(format!("its sound records are in another segment, and it was moved to {ASIDE}/")))
    }

    fn reference(&mut self, full: &str) -> Result<Option<String>> {
        let aside = self.aside_for(&format!("history.git/{full}"))?;
        let history = self.history()?;
        match (history.last_known(full)?, RefName::from_full(full)) {
            (Some(commit), Some(name)) => {
                history.bring_back(&name, commit, &who())?;
                Ok(Some(format!("it is at commit {} again, the newest that is known of it", commit.short())))
            }
            _ => {
                history.give_up_ref(full, &aside)?;
                Ok(Some(format!("no commit is known of it: the ref is lost, and was moved to {ASIDE}/")))
            }
        }
    }

    /// Gives a blob a file that nobody else has a name of.
    fn own_inode(&self, id: &str) -> Result<Option<String>> {
        let id = id.parse().map_err(|_| Error::invalid(format!("`{id}` is no id")))?;
        let path = self.layout.blob(&id);
        let scratch = crate::disk::Scratch::new(&self.layout.tmp())?;
        let copy = scratch.path().join("copy");
        std::fs::copy(&path, &copy).map_err(|error| Error::disk("copy", &path, error))?;
        let meta = std::fs::metadata(&path).and_then(|meta| meta.modified());
        let file = std::fs::File::open(&copy).map_err(|error| Error::disk("open", &copy, error))?;
        if let Ok(time) = meta {
            // A layer can link to a blob with the time of its entry; without it it copies.
            let _ = file.set_modified(time);
        }
        file.sync_all().map_err(|error| Error::disk("sync", &copy, error))?;
        rename(&copy, &path)?;
        Ok(Some("the blob has a file of its own; the other names have the old one".to_owned()))
    }

    fn leftover(&mut self, subject: &str) -> Result<Option<String>> {
        let path = self.layout.root().join(subject);
        if subject.starts_with("history.git") {
            self.history()?.sweep()?;
            return Ok(Some("removed".to_owned()));
        }
        if subject.ends_with(".tmp") && is_old(&path) {
            remove_file(&path)?;
            return Ok(Some("removed".to_owned()));
        }
        Ok(None)
    }
}

fn is_old(path: &Path) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > HALF_MADE_AGE))
}

fn layer_of(subject: &str) -> &str {
    subject.trim_start_matches("layers/")
}

fn number_of(subject: &str) -> Result<u32> {
    let digits = subject.rsplit('/').next().unwrap_or_default().trim_end_matches(".seg");
    digits.parse().map_err(|_| Error::invalid(format!("`{subject}` is no segment")))
}
