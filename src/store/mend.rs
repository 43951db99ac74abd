//! Mending segments: what is sound stays, what is not is moved aside by the caller or here.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::scan::{Piece, scan};
use super::segment::{self, Catalog, HEAD, Located, Placed, RECORD_HEAD_BYTES};
use super::{Layout, StoreError};
use crate::disk::{DiskError, Durability, SyncSet, rename, write_atomic};

/// Writes the sound records of a segment to a new one, enters them in the catalog, and moves the old file to `aside`. Gives how many there are.
pub fn rewrite_segment(
    layout: &Layout,
    catalog: &dyn Catalog,
    number: u32,
    aside: &Path,
) -> Result<usize, StoreError> {
    let _lock = segment::lock(layout)?;
    let path = segment::path_of(layout, number);
    let file = File::open(&path).map_err(|error| DiskError::new("open", &path, error))?;
    let len = file.metadata().map_err(|error| DiskError::new("look at", &path, error))?.len();
    let next = segment::segments(layout)?.last().map_or(1, |last| last + 1);
    let (mut bytes, mut placed) = (HEAD.to_vec(), Vec::new());
    let mut failed = None;
    scan(&file, HEAD.len() as u64, len, &mut |piece| {
        let Piece::Record { kind, id, offset, len } = piece else { return };
        let at = bytes.len();
        let whole = RECORD_HEAD_BYTES as usize + len as usize;
        bytes.resize(at + whole, 0);
        if let Err(error) = std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes[at..], offset) {
            failed = Some(error);
        }
        placed.push(Placed { id, kind, located: Located { segment: next, offset: at as u64, len } });
    });
    if let Some(error) = failed {
        return Err(DiskError::new("read", &path, error).into());
    }
    if !placed.is_empty() {
        write_atomic(&segment::path_of(layout, next), &bytes, Durability::Commit)?;
        catalog.record(next, bytes.len() as u64, &placed).map_err(StoreError::Catalog)?;
    }
    catalog.forget(number).map_err(StoreError::Catalog)?;
    rename(&path, aside)?;
    let mut names = SyncSet::new(Durability::Commit);
    names.directory(&layout.pack());
    names.finish()?;
    Ok(placed.len())
}

/// Cuts a torn tail off a segment, and keeps its bytes in `aside`. Gives how many they are.
pub fn cut_tail(layout: &Layout, number: u32, aside: &Path) -> Result<u64, StoreError> {
    let _lock = segment::lock(layout)?;
    let path = segment::path_of(layout, number);
    let failed = |error| DiskError::new("cut", &path, error);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let start = segment::records_begin(&file).unwrap_or(HEAD.len() as u64);
    let end = scan(&file, start, len, &mut |_| {});
    let mut tail = vec![0; usize::try_from(len - end).unwrap_or(0)];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut tail, end).map_err(failed)?;
    let mut kept = crate::disk::create_new(aside)?;
    kept.write_all(&tail).map_err(|error| DiskError::new("write", aside, error))?;
    file.set_len(end).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(len - end)
}
