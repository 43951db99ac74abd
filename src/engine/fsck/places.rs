//! Everything else that lies in a store: originals, lists, records, and what dead processes left.

use std::path::Path;

use super::facts::Facts;
use super::objects::Found;
use super::refs::{Refs, count};
use super::{DamageKind, Pass};
use crate::disk::{Durability, dead_scratches, read_limited};
use crate::engine::checkout::record_flaw;
use crate::engine::owned::{MAX_KEPT_BYTES, owned_flaw};
use crate::engine::replay::replay_flaw;
use crate::oci::{Digest, Originals};
use crate::store::NAMES;

/// The longest record of a checkout or a replay.
const MAX_RECORD_BYTES: u64 = 16 << 20;

impl Pass<'_> {
    pub(super) fn places(&mut self, facts: &Facts, refs: &Refs, found: &Found) {
        self.top();
        self.originals(refs, found);
        self.lists(found);
        self.records();
        self.scratches();
        self.layers(facts, found);
    }

    fn top(&mut self) {
        for name in self.names(self.layout.root()) {
            let path = self.layout.root().join(&name);
            if NAMES.contains(&name.as_str()) || name.starts_with("history.git.new-") {
                continue;
            }
            let half_made = name.ends_with(".tmp");
            if half_made || name == "damaged" || name.starts_with("index.db.damaged-") {
                let detail = if half_made { "it was never finished" } else { "it was moved aside" };
                self.tell(DamageKind::LeftoverFile, self.below(&path), detail);
            } else {
                self.tell(DamageKind::Stray, name, "no treebox of this version makes such a thing");
            }
        }
    }

    /// The names in a directory of the store, sorted; none when it is not there.
    pub(super) fn names(&self, directory: &Path) -> Vec<String> {
        let listed = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<_> =
            listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn originals(&mut self, refs: &Refs, found: &Found) {
        let originals = Originals::new(self.layout.originals(), Durability::Batch);
        let mut missing: Vec<(String, String)> = Vec::new();
        for commit in &refs.commits {
            let Some(image) = &commit.image else { continue };
            let documents = image.manifest.iter().chain([&image.config]).map(|document| &document.digest);
            let layers = image.layers.iter().filter(|layer| !originals.keeps(&layer.diff_id));
            let digests: Vec<&Digest> = documents.chain(layers.map(|layer| &layer.digest)).collect();
            let gone = digests.iter().filter(|digest| !originals.keeps(digest)).count();
            // An image of which nothing is kept was one that no export needs.
            if gone > 0 {
                missing.push((commit.name.clone(), count(gone, "original is", "originals are")));
            }
        }
        for (name, gone) in missing {
            let detail =
                format!("{gone} not here: an export of the image has other digests than it came with");
            self.tell_as(DamageKind::OriginalMissing, super::Severity::Info, "originals", detail, vec![name]);
        }
        for name in self.names(&self.layout.originals().join("partial")) {
            let detail = "a download that was not finished; the next pull goes on from there";
            self.tell(DamageKind::LeftoverFile, format!("originals/partial/{name}"), detail);
        }
        if !self.options.full {
            return;
        }
        let files = match originals.files() {
            Ok(files) => files,
            Err(error) => {
                self.tell(DamageKind::OriginalDamaged, "originals", error.to_string());
                return;
            }
        };
        let total = files.iter().map(|file| file.len).sum();
        let (mut done, mut damaged) = (0, Vec::new());
        for file in files {
            if self.known.again && !self.known.originals.contains(&file.path) {
                continue;
            }
            if file.digest.is_none() && file.path.extension().is_some_and(|extension| extension == "tmp") {
                self.tell(DamageKind::LeftoverFile, self.below(&file.path), "it was never finished");
            } else if let Some(reason) = originals.flaw(&file, &found.store) {
                self.tell(DamageKind::OriginalDamaged, self.below(&file.path), reason);
                damaged.push(file.path);
            }
            done += file.len;
            self.hear("originals", done, total);
        }
        self.known.originals = damaged;
    }

    fn lists(&mut self, found: &Found) {
        let directory = self.layout.owners();
        for name in self.names(&directory).into_iter().filter(|name| !name.ends_with(".tmp")) {
            let flaw = match read_limited(&directory.join(&name), MAX_KEPT_BYTES) {
                Ok(bytes) => owned_flaw(&found.store, &name, &bytes, self.options.full),
                Err(error) if error.is_not_found() => None,
                Err(error) => Some(error.to_string()),
            };
            if let Some(flaw) = flaw {
                self.tell(DamageKind::OwnersDamaged, format!("owners/{name}"), flaw);
            }
        }
    }

    fn records(&mut self) {
        let directory = self.layout.checkouts();
        let is_record = |name: &String| !name.ends_with(".tmp") && !name.ends_with(".lock");
        for name in self.names(&directory).into_iter().filter(is_record) {
            if let Some(flaw) = flaw_of(&directory.join(&name), record_flaw) {
                self.tell(DamageKind::CheckoutRecordDamaged, format!("checkouts/{name}"), flaw);
            }
        }
        if let Some(flaw) = flaw_of(&self.layout.root().join("replay"), replay_flaw) {
            self.tell(DamageKind::ReplayDamaged, "replay", flaw);
        }
    }

    fn scratches(&mut self) {
        // Where no lock can be tried nobody can tell whose they are.
        for path in dead_scratches(&self.layout.tmp()).unwrap_or_default() {
            self.tell(DamageKind::LeftoverScratch, self.below(&path), "its owner is dead");
        }
    }
}

fn flaw_of(path: &Path, flaw: impl Fn(&[u8]) -> Option<String>) -> Option<String> {
    match read_limited(path, MAX_RECORD_BYTES) {
        Ok(bytes) => flaw(&bytes),
        Err(error) if error.is_not_found() => None,
        Err(error) => Some(error.to_string()),
    }
}
