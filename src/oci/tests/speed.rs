//! How fast a real archive is imported. Not part of a normal run: TREEBOX_BENCH_SOURCE names the image.

use std::time::Instant;

use super::super::testing::Place;
use super::super::{ImageSource, ImportOptions, import};

#[test]
#[ignore = "needs an image: TREEBOX_BENCH_SOURCE=tar:/tmp/deb.tar"]
fn measure() {
    let source = ImageSource::parse(&std::env::var("TREEBOX_BENCH_SOURCE").unwrap()).unwrap();
    let durability = match std::env::var_os("TREEBOX_BENCH_RELAXED") {
        Some(_) => crate::disk::Durability::Batch,
        None => crate::disk::Durability::Commit,
    };
    let place = Place::with(durability);
    let start = Instant::now();
    let mut batch = place.store.batch().unwrap();
    let imported =
        import(&source, &mut batch, &place.store, &place.originals(), &(), &ImportOptions::default())
            .unwrap();
    let read = start.elapsed();
    batch.commit().unwrap();
    let all = start.elapsed();
    if let Some(list) = std::env::var_os("TREEBOX_BENCH_LIST") {
        let lines: Vec<_> = place
            .files(&imported)
            .entries
            .iter()
            .map(|(path, entry)| {
                let (meta, kind) = (&entry.meta, entry.node.kind().as_str());
                format!(
                    "{path}\t{kind}\t{:o}\t{}\t{}\t{}\t{:?}\n",
                    meta.mode,
                    meta.uid,
                    meta.gid,
                    meta.mtime.seconds(),
                    entry.node
                )
            })
            .collect();
        std::fs::write(list, lines.concat()).unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!(
        "{} entries, {} bytes: read {read:?}, committed after {all:?}; {peak}; root {}",
        imported.entries,
        imported.bytes,
        imported.root.short()
    );
}
