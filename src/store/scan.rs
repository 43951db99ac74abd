//! Going through the records of a segment, past what is damaged in it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem::Finder;

use super::segment::{ObjectKind, RECORD_HEAD_BYTES, record_at, record_head_at};

/// What the payload of a record begins with: one for each kind.
const MAGICS: [&[u8; 8]; 2] = [b"tbtree\0\x01", b"tbstate\x01"];

/// How much of a damaged segment is looked through at once, in bytes.
const WINDOW_BYTES: usize = 1 << 20;

/// A piece of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A sound record.
    Record {
        kind: ObjectKind,
        id: [u8; 32],
        /// Where it begins.
        offset: u64,
        /// Length of its payload.
        len: u32,
    },
    /// Bytes that are no sound record, with a sound one behind them.
    Damage {
        /// Where they begin.
        start: u64,
        /// Where the next record begins.
        end: u64,
        /// Which object it was, if a record's head can be read and just reaches to the next one.
        was: Option<(ObjectKind, [u8; 32])>,
    },
}

/// Calls `visit` for every piece from `at` to `end`; gives where the last sound record ends. What comes then is a torn tail.
///
/// Damage ends nothing: what comes behind it was written whole and may be the only copy of an object.
pub(super) fn scan(file: &File, mut at: u64, end: u64, visit: &mut dyn FnMut(Piece)) -> u64 {
    loop {
        if let Some((kind, id, payload)) = record_at(file, at, end) {
            let len = u32::try_from(payload.len()).expect("a record's length has 32 bits");
            visit(Piece::Record { kind, id, offset: at, len });
            at += RECORD_HEAD_BYTES + u64::from(len);
            continue;
        }
        let Some(next) = next_record(file, at, end) else { return at };
        let was = record_head_at(file, at)
            .filter(|(_, len, _)| at + RECORD_HEAD_BYTES + u64::from(*len) == next)
            .map(|(kind, _, id)| (kind, id));
        visit(Piece::Damage { start: at, end: next, was });
        at = next;
    }
}

/// Where the first sound record after `at` begins. Found by what payloads begin with, and by its hash.
fn next_record(file: &File, at: u64, end: u64) -> Option<u64> {
    let finders = MAGICS.map(|magic| Finder::new(magic.as_slice()));
    let mut from = at + 1;
    let mut window = Vec::new();
    while from < end {
        let len = usize::try_from(end - from).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        window.resize(len, 0);
        file.read_exact_at(&mut window, from).ok()?;
        let mut found: Vec<usize> =
            finders.iter().flat_map(|finder| finder.find_iter(&window).collect::<Vec<_>>()).collect();
        found.sort_unstable();
        for magic in found {
            let record = (from + magic as u64).checked_sub(RECORD_HEAD_BYTES).filter(|record| *record > at);
            if let Some(record) = record.filter(|record| record_at(file, *record, end).is_some()) {
                return Some(record);
            }
        }
        // A magic may lie across the border of two windows.
        from += (len.saturating_sub(MAGICS[0].len() - 1)).max(1) as u64;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Tree;

    fn record(bytes: &[u8]) -> Vec<u8> {
        let mut record = vec![1];
        record.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        record.extend_from_slice(blake3::hash(bytes).as_bytes());
        record.extend_from_slice(bytes);
        record
    }

    fn pieces(bytes: &[u8]) -> (Vec<Piece>, u64) {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        let mut pieces = Vec::new();
        let end = scan(&file, 0, bytes.len() as u64, &mut |piece| pieces.push(piece));
        (pieces, end)
    }

    #[test]
    fn every_flipped_byte_costs_one_record_and_no_other() {
        let tree = Tree::default().encode().unwrap().1;
        let other: Vec<u8> = [tree.clone(), vec![0; 5]].concat();
        let bytes = [record(&tree), record(&other), record(&tree)].concat();
        let (all, end) = pieces(&bytes);
        assert_eq!((all.len(), end), (3, bytes.len() as u64));
        let one = record(&tree).len();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let (found, end) = pieces(&bytes);
            let sound = found.iter().filter(|piece| matches!(piece, Piece::Record { .. })).count();
            assert_eq!(sound, 2, "byte {at}: {found:?}");
            let last = bytes.len() - one;
            assert_eq!(end, if at < last { bytes.len() } else { last } as u64, "byte {at}");
        }
    }

    #[test]
    fn a_record_whose_payload_is_changed_is_known_by_its_head() {
        let tree = Tree::default().encode().unwrap().1;
        let mut bytes = [record(&tree), record(&tree)].concat();
        bytes[40] ^= 1;
        let (found, _) = pieces(&bytes);
        let id = *blake3::hash(&tree).as_bytes();
        let Piece::Damage { start: 0, was, .. } = &found[0] else { panic!("{found:?}") };
        assert_eq!(*was, Some((ObjectKind::Tree, id)));
    }
}
