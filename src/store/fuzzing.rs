//! What the fuzz targets do with any bytes that stand where this room's own files should; see `object::fuzzing`.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::layout::understood;
use super::lease::Leased;
use super::segment::{HEAD, ObjectKind, RECORD_HEAD_BYTES, record_at};
use crate::object::{State, Tree};

/// The file `format`.
pub fn format(bytes: &[u8]) {
    // Understood or refused with a reason.
    if let Err(error) = understood(Path::new("store"), bytes) {
        assert!(!error.to_string().is_empty());
    }
}

/// A segment, as it is and with right check sums.
pub fn segment(bytes: &[u8]) {
    for bytes in [bytes, &with_check_sums(bytes)] {
        let file = in_memory(bytes);
        let (end, mut at) = (bytes.len() as u64, HEAD.len() as u64);
        while let Some((kind, id, payload)) = record_at(&file, at, end) {
            assert!(*blake3::hash(&payload).as_bytes() == id, "what is sound hashes right");
            // What an object's bytes mean is the other targets' business.
            match kind {
                ObjectKind::Tree => drop((Tree::decode(&payload), Tree::decode_root(&payload))),
                ObjectKind::State => drop(State::decode(&payload)),
                ObjectKind::Blob => panic!("blobs are never packed"),
            }
            at += RECORD_HEAD_BYTES + payload.len() as u64;
            assert!(at <= end, "a record lies within its segment");
        }
        // Wherever the index says that a record is, there is a sound one or none.
        for at in 0..bytes.len().min(64) as u64 {
            let _ = record_at(&file, at, end);
        }
    }
}

/// A file below `leases/`.
pub fn leases(bytes: &[u8]) {
    for leased in Leased::of_file(bytes) {
        let slot = leased.slot();
        assert_eq!(Leased::of_file(&slot).collect::<Vec<_>>(), [leased], "a slot is read as it was written");
    }
}

/// Makes the hash of each record that lies within the bytes right, so that changes reach the code behind it.
fn with_check_sums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = HEAD.len();
    while let Some(head) = bytes.get(at + 1..at + 5) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let start = at + RECORD_HEAD_BYTES as usize;
        let Some(payload) = start.checked_add(len).and_then(|end| bytes.get(start..end)) else { break };
        let id = *blake3::hash(payload).as_bytes();
        bytes[at + 5..start].copy_from_slice(&id);
        at = start + len;
    }
    bytes
}

fn in_memory(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("treebox-fuzzing", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(file.expect("the kernel gives a file in memory"));
    file.write_all(bytes).expect("memory takes all");
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::fuzzing::shaking::{shake, vector};
    use crate::object::{BlobId, StateId, TreeId};

    #[test]
    fn the_format_file_takes_any_bytes() {
        let seeds = [
            "treebox store 1\n",
            "treebox store 1\nignore some-later-idea\n",
            "treebox store 1\nrefuse a\nread-only b\n",
        ];
        shake("format", format, seeds.iter().map(|text| text.as_bytes().to_vec()).collect(), 12_000);
    }

    #[test]
    fn segments_and_leases_take_any_bytes() {
        shake("segment", segment, vec![vector("segment")], 3_000);
        let leased = [
            Leased::State(StateId::from_bytes([1; 32])),
            Leased::Tree(TreeId::from_bytes([2; 32])),
            Leased::Blob(BlobId::from_bytes([3; 32])),
            Leased::layer("x"),
            Leased::OriginalsSince(7),
        ];
        let bytes: Vec<u8> = leased.iter().flat_map(|leased| leased.slot()).collect();
        assert_eq!(Leased::of_file(&bytes).collect::<Vec<_>>(), leased);
        shake("leases", leases, vec![bytes], 6_000);
    }
}
