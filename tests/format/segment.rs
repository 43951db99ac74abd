//! Segments: pinned bytes, recovery of a lost catalog, torn tails, damage.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use treebox::disk::Durability;
use treebox::object::{SourceError, State, StateId, Tree, TreeId, TreeSink};
use treebox::store::check::{SegmentFlaw, Segments};
use treebox::store::{Catalog, Layout, Located, Placed, Store};

use super::vector::Vector;
use super::vectors::{every_kind, full_state};

/// A catalog in memory, which is lost with the test.
#[derive(Default)]
struct Known {
    objects: Mutex<HashMap<[u8; 32], Located>>,
    until: Mutex<HashMap<u32, u64>>,
}

impl Catalog for Known {
    fn locate(&self, id: &[u8; 32]) -> Result<Option<Located>, SourceError> {
        Ok(self.objects.lock().unwrap().get(id).copied())
    }

    fn record(&self, segment: u32, end: u64, placed: &[Placed]) -> Result<(), SourceError> {
        self.objects.lock().unwrap().extend(placed.iter().map(|placed| (placed.id, placed.located)));
        self.until.lock().unwrap().insert(segment, end);
        Ok(())
    }

    fn forget(&self, segment: u32) -> Result<(), SourceError> {
        self.objects.lock().unwrap().retain(|_, located| located.segment != segment);
        self.until.lock().unwrap().remove(&segment);
        Ok(())
    }

    fn found_in(&self, _: u32) -> Result<Vec<Placed>, SourceError> {
        Ok(Vec::new())
    }

    fn known_until(&self, segment: u32) -> Result<u64, SourceError> {
        Ok(self.until.lock().unwrap().get(&segment).copied().unwrap_or(0))
    }
}

fn open(root: &Path) -> Result<Store, treebox::store::StoreError> {
    let layout = Layout::open_or_create(root).unwrap();
    Store::open(layout, Arc::new(Known::default()), Durability::Batch)
}

fn segment_of(root: &Path) -> PathBuf {
    root.join("objects/pack/00000001.seg")
}

/// A store with one tree and one state.
fn filled(root: &Path) -> (TreeId, StateId) {
    let store = open(root).unwrap();
    let (tree, bytes) = every_kind().encode().unwrap();
    let mut batch = store.batch().unwrap();
    batch.put_tree(tree, bytes).unwrap();
    let state = batch.put_state(&full_state()).unwrap();
    batch.commit().unwrap();
    (tree, state)
}

#[test]
fn a_segment_with_two_records_has_its_pinned_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, state) = filled(dir.path());
    let bytes = fs::read(segment_of(dir.path())).unwrap();
    let ids = vec![("tree", tree.to_string()), ("state", state.to_string())];
    let about = "A segment that holds tree-every-kind, then state-full.";
    Vector { name: "segment", about, ids, bytes }.check();
}

#[test]
fn a_lost_catalog_is_filled_again_from_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, state) = filled(dir.path());
    let store = open(dir.path()).unwrap();
    assert_eq!(store.directory(&tree).unwrap(), every_kind());
    assert_eq!(store.state(&state).unwrap(), full_state());
}

#[test]
fn a_segment_torn_at_any_byte_keeps_the_records_before_and_takes_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, state) = filled(dir.path());
    let whole = fs::read(segment_of(dir.path())).unwrap();
    let first_end = 8 + 37 + every_kind().encode().unwrap().1.len();
    for len in (0..whole.len())
        .filter(|len| len % 7 == 0 || *len < 60 || (first_end - 2..first_end + 50).contains(len))
    {
        fs::write(segment_of(dir.path()), &whole[..len]).unwrap();
        let store = open(dir.path()).unwrap();
        assert_eq!(store.has_packed(tree.as_bytes()).unwrap(), len >= first_end, "torn at {len}");
        assert!(!store.has_packed(state.as_bytes()).unwrap(), "torn at {len}");
        // The next writer cuts the torn tail off and appends.
        let mut batch = store.batch().unwrap();
        batch.put_state(&full_state()).unwrap();
        batch.commit().unwrap();
        let again = open(dir.path()).unwrap();
        assert_eq!(again.state(&state).unwrap(), full_state(), "torn at {len}");
        assert_eq!(again.has_packed(tree.as_bytes()).unwrap(), len >= first_end, "torn at {len}");
    }
}

#[test]
fn a_flipped_bit_of_a_record_is_never_read_as_the_object() {
    let dir = tempfile::tempdir().unwrap();
    let (_, state) = filled(dir.path());
    let store = open(dir.path()).unwrap();
    let whole = fs::read(segment_of(dir.path())).unwrap();
    let record = 8 + 37 + every_kind().encode().unwrap().1.len();
    for at in record..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(segment_of(dir.path()), &bytes).unwrap();
        assert!(store.state(&state).is_err(), "the flipped byte {at} was not noticed");
    }
}

#[test]
fn a_segment_of_which_a_power_cut_kept_the_room_only_loses_nothing_that_lies_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, state) = filled(dir.path());
    let whole = fs::read(segment_of(dir.path())).unwrap();
    let first_end = 8 + 37 + every_kind().encode().unwrap().1.len();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    for zeros in [8, 50, first_end, first_end + 1, whole.len()] {
        let mut bytes = whole.clone();
        bytes[..zeros].fill(0);
        fs::write(segment_of(dir.path()), &bytes).unwrap();
        let (has_tree, has_state) = (zeros == 8, zeros <= first_end);
        let found = Segments::read(&layout);
        let flaw = match has_state {
            true => {
                let end = if has_tree { 8 } else { first_end as u64 };
                SegmentFlaw::Record { segment: 1, start: 0, end, was: None }
            }
            false => SegmentFlaw::Tail { segment: 1, start: 0, end: whole.len() as u64, was: None },
        };
        assert_eq!(found.flaws(), [flaw], "{zeros} zeros");
        let store = open(dir.path()).unwrap();
        assert_eq!(store.has_packed(tree.as_bytes()).unwrap(), has_tree, "{zeros} zeros");
        assert_eq!(store.has_packed(state.as_bytes()).unwrap(), has_state, "{zeros} zeros");
        // The next writer begins anew where nothing is sound, and behind what is.
        let mut batch = store.batch().unwrap();
        let (other, bytes) = Tree::default().encode().unwrap();
        batch.put_tree(other, bytes).unwrap();
        batch.commit().unwrap();
        let again = open(dir.path()).unwrap();
        assert_eq!(again.directory(&other).unwrap(), Tree::default(), "{zeros} zeros");
        assert_eq!(again.has_packed(tree.as_bytes()).unwrap(), has_tree, "{zeros} zeros");
        assert_eq!(again.has_packed(state.as_bytes()).unwrap(), has_state, "{zeros} zeros");
        assert_eq!(Segments::read(&layout).flaws().is_empty(), !has_state, "{zeros} zeros");
    }
}

#[test]
fn a_segment_of_an_unknown_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut bytes = fs::read(segment_of(dir.path())).unwrap();
    bytes[7] = 2;
    fs::write(segment_of(dir.path()), &bytes).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("unknown magic or version"), "{error}");
}

#[test]
fn the_same_object_is_packed_once() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = open(dir.path()).unwrap();
    let before = fs::metadata(segment_of(dir.path())).unwrap().len();
    let mut batch = store.batch().unwrap();
    let (id, bytes) = Tree::encode(&every_kind()).unwrap();
    batch.put_tree(id, bytes).unwrap();
    let state: State = full_state();
    batch.put_state(&state).unwrap();
    batch.commit().unwrap();
    assert_eq!(fs::metadata(segment_of(dir.path())).unwrap().len(), before);
}
