//! Objects as they lie: segments and blobs, each for itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{DamageKind, Pass};
use crate::engine::explore::at_once;
use crate::object::BlobId;
use crate::store::check::{BlobFiles, BlobState, SegmentFlaw, Segments, check_blob, tail_is_torn};
use crate::store::{ObjectKind, Store};

/// Threads that hash blobs at most.
const MAX_THREADS: usize = 8;

/// What lies in the store.
pub(super) struct Found {
    pub(super) segments: Arc<Segments>,
    pub(super) blobs: BlobFiles,
    /// Blobs that were hashed, or could not be, and are not sound.
    pub(super) bad_blobs: HashMap<BlobId, BlobState>,
    /// Objects of which a damaged record is known, and where.
    pub(super) flipped: HashMap<[u8; 32], (ObjectKind, String)>,
    /// Reads the trees and states that were found.
    pub(super) store: Store,
}

impl Pass<'_> {
    pub(super) fn objects(&mut self) -> Found {
        let segments = Arc::new(Segments::read(self.layout));
        let mut flipped = HashMap::new();
        for flaw in segments.flaws() {
            self.segment_flaw(flaw, &segments, &mut flipped);
        }
        let blobs = BlobFiles::list(self.layout);
        for (path, reason) in &blobs.unreadable {
            self.tell(DamageKind::BlobUnreadable, self.below(path), reason.clone());
        }
        for path in &blobs.strange {
            self.tell(DamageKind::ObjectStray, self.below(path), "no blob has such a name, or it is no file");
        }
        self.checked.blobs = blobs.blobs.len() as u64;
        self.checked.packed = segments.len() as u64;
        let bad_blobs = self.hash_blobs(&blobs);
        let catalog: Arc<dyn crate::store::Catalog> = segments.clone();
        let store = Store::found_by(self.layout.clone(), catalog);
        Found { segments, blobs, bad_blobs, flipped, store }
    }

    fn segment_flaw(
        &mut self,
        flaw: &SegmentFlaw,
        segments: &Segments,
        flipped: &mut HashMap<[u8; 32], (ObjectKind, String)>,
    ) {
        let name = |segment: u32| format!("objects/pack/{segment:08}.seg");
        let known = &mut self.known.flipped;
        let mut was_flipped = |segment: u32, start: u64, was: Option<(ObjectKind, [u8; 32])>| {
            // Another copy of the object may be whole.
            let was = was.filter(|(_, id)| segments.get(id).is_none())?;
            let place = format!("the record at byte {start} of segment {segment} has another hash");
            known.insert(crate::object::TreeId::from_bytes(was.1).to_string(), segment);
            flipped.insert(was.1, (was.0, place));
            Some(())
        };
        match flaw {
            SegmentFlaw::Magic { segment } => {
                let detail = "it does not begin as a segment of version 1 does";
                self.tell(DamageKind::SegmentMagic, name(*segment), detail);
            }
            SegmentFlaw::Record { segment, start, end, was } => {
                if was_flipped(*segment, *start, *was).is_none() {
                    let detail = format!("bytes {start} to {end} are no sound record");
                    self.tell(DamageKind::SegmentGarbage, name(*segment), detail);
                }
            }
            SegmentFlaw::Tail { segment, start, end, was } => {
                was_flipped(*segment, *start, *was);
                // Somebody may be writing there.
                if tail_is_torn(self.layout, *segment) != Some(false) {
                    let detail = format!("bytes {start} to {end} are no sound record");
                    self.tell(DamageKind::SegmentTorn, name(*segment), detail);
                }
            }
            SegmentFlaw::Unreadable { path, reason } => {
                self.tell(DamageKind::SegmentUnreadable, self.below(path), reason.clone());
            }
        }
    }

    /// Hashes every blob; the second time only those that were not sound.
    fn hash_blobs(&mut self, files: &BlobFiles) -> HashMap<BlobId, BlobState> {
        if !self.options.full {
            return HashMap::new();
        }
        let mut todo: Vec<BlobId> = match self.known.again {
            true => self.known.blobs.keys().copied().filter(|id| files.blobs.contains_key(id)).collect(),
            false => files.blobs.keys().copied().collect(),
        };
        // By inode, which is about the order on disk.
        todo.sort_unstable_by_key(|id| files.blobs[id].inode);
        let total: u64 = todo.iter().map(|id| files.blobs[id].len).sum();
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let bad = Mutex::new(HashMap::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        at_once(threads, todo.len(), || {
            while let Some(id) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                let state = check_blob(self.layout, id);
                if state != BlobState::Sound {
                    bad.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, state);
                }
                let len = files.blobs[id].len;
                self.hear("blobs", done.fetch_add(len, Ordering::Relaxed) + len, total);
            }
        });
        if !self.known.again {
            self.checked.hashed_bytes = total;
        }
        let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Removed meanwhile: whoever needs it will miss it.
        bad.retain(|_, state| *state != BlobState::Missing);
        self.known.blobs = bad.iter().map(|(id, state)| (*id, state.clone())).collect();
        bad
    }
}
