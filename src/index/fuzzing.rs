//! What the fuzz target does with an index whose bytes were damaged; see `object::fuzzing`.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ChainRecord, ImageRecord, Index, LayerRecord, OutputRecord, Run, Usage};
use crate::object::{BlobId, CommandSpec, CommitId, IdPrefix, RunKey, StateId, TreeId};

/// Damages a small index, opens it and asks it everything. Each four bytes are a place, modulo the file's length, in three bytes, and what stands there.
pub fn damaged(bytes: &[u8]) {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("treebox-fuzz-{}-{number}", std::process::id()));
    std::fs::create_dir(&dir).expect("there is a place for temporary files");
    let path = dir.join("index.db");
    let mut file = SOUND.get_or_init(|| sound(&path)).clone();
    let (places, _) = bytes.as_chunks::<4>();
    for [a, b, c, value] in places {
        let at = u32::from_le_bytes([*a, *b, *c, 0]) as usize % file.len();
        file[at] = *value;
    }
    std::fs::write(&path, file).expect("a file is written");
    // Damage is an error, or wrong facts that the rest does not trust.
    if let Ok(index) = Index::open(&path) {
        ask(&index);
    }
    let _ = std::fs::remove_dir_all(&dir);
}

fn ask(index: &Index) {
    let (key, state) = (RunKey::from_bytes([1; 32]), StateId::from_bytes([2; 32]));
    let (tree, commit) = (TreeId::from_bytes([3; 32]), CommitId::from_bytes([4; 20]));
    let runs = [index.newest_run(&key), index.newest_successful_run(&key), index.run(1)];
    for run in runs.into_iter().flatten().flatten() {
        let _ = CommandSpec::decode(&run.spec);
    }
    let _ = (index.runs_with_result(&state), index.runs_with_parent(&state), index.runs_after(0, 10));
    let _ = index.runs_of_command_before("make", i64::MAX, 10);
    let _ = (index.meta("x"), index.locate(&[5; 32]), index.indexed_until(1), index.check());
    let _ = (index.image("a:latest"), index.images(), index.chain("sha256:x", 1));
    let _ = (
        index.commit(&commit),
        index.commits_of(&state),
        index.children_of(&commit),
        index.commit_run(&commit),
    );
    let _ = (index.layer_for(&tree, "single 0 0"), index.layers(), index.origins_of(&state));
    if let Some(prefix) = IdPrefix::parse("0202") {
        let _ = index.states_with_prefix(&prefix, 10);
    }
    // What can still be written is.
    let _ = index.set_meta("x", Some("z"));
}

/// The bytes of an index with a row in each table.
fn sound(path: &Path) -> Vec<u8> {
    let filled = (|| {
        let index = Index::open(path)?;
        let (key, state) = (RunKey::from_bytes([1; 32]), StateId::from_bytes([2; 32]));
        let seq = index.insert_run(&Run {
            key,
            parent: state,
            result: state,
            spec: b"tbspec".to_vec(),
            command: "make".to_owned(),
            changed: true,
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            stdout: OutputRecord::Inline(b"out".to_vec()),
            stderr: OutputRecord::Blob(BlobId::from_bytes([6; 32]), 5000),
            truncated: false,
            usage: Usage { user_ms: 1.0, system_ms: 1.0, max_rss_kib: 1, read_bytes: 1, written_bytes: 1 },
            duration_ms: 1.0,
            started_ms: 1,
            added: 1,
            modified: 1,
            deleted: 1,
        })?;
        let (id, tree) = (CommitId::from_bytes([4; 20]), TreeId::from_bytes([3; 32]));
        index.record_commit(&id, &state, &[id], Some(seq))?;
        index.record_origin(&state, "import", "x", 1)?;
        index.set_meta("x", Some("y"))?;
        index.record_image(&ImageRecord {
            name: "a:latest".to_owned(),
            state,
            size_bytes: 1,
            entries: 1,
            source: "x".to_owned(),
            at_ms: 1,
        })?;
        index.record_chains(&[ChainRecord {
            chain: "sha256:x".to_owned(),
            rules: 1,
            tree,
            digest: "sha256:y".to_owned(),
            diff_id: "sha256:z".to_owned(),
            size_bytes: 1,
            media_type: "tar".to_owned(),
        }])?;
        index.put_layer(&LayerRecord {
            name: "l".to_owned(),
            tree,
            identity: "single 0 0".to_owned(),
            below: vec!["m".to_owned()],
            entries: 1,
            bytes: 1,
            made_ms: 1,
            used_ms: 1,
        })?;
        Ok::<_, super::IndexError>(())
    })();
    filled.expect("an empty place takes an index");
    std::fs::read(path).expect("the index is a file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::fuzzing::shaking::shake;

    #[test]
    fn a_damaged_index_is_an_error_or_is_asked_without_a_panic() {
        // The header's page size and version, the schema, the middle.
        let seeds = vec![
            vec![16, 0, 0, 0],
            vec![18, 0, 0, 9, 60, 0, 0, 9],
            vec![0, 16, 0, 255, 5, 16, 0, 3, 0, 48, 0, 13],
        ];
        shake("index_db", damaged, seeds, 250);
    }
}
