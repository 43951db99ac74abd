//! The worker's end of making, reading and joining layers.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::master::failed;
use super::protocol::{ENTRIES_PER_MESSAGE, Request, Response, receive, send};
use crate::disk::DiskError;
use crate::sandbox::{Channel, FrameError, Records};
use crate::worktree::layer::{
    BuildOptions, CaptureOptions, CapturedNode, LayerBuilder, LayerError, Recorded, UpdateOptions, Updated,
    capture, hash_below, look, merge_layers, update,
};

/// Makes a layer of the entries that follow on the channel.
pub(super) fn build(host: &Channel, dir: &Path, options: BuildOptions) -> Result<Response, FrameError> {
    let mut builder = create_dir(dir).and_then(|()| LayerBuilder::new(dir, options));
    loop {
        match receive::<Request>(host)? {
            // After a failure the rest is still read, so that the answer comes at its place.
            Some((Request::Entries(entries), _)) => {
                builder = builder.and_then(|mut builder| {
                    entries.iter().try_for_each(|entry| builder.add(entry))?;
                    Ok(builder)
                });
            }
            Some((Request::EntriesEnd, _)) => break,
            Some(_) => return Err(FrameError::Damaged("another request within a layer")),
            None => return Err(FrameError::Cut),
        }
    }
    Ok(match builder.and_then(LayerBuilder::finish) {
        Ok(built) => Response::Built(built),
        Err(error) => refused(&error),
    })
}

/// Captures an upper directory and sends what is in it; gives the last answer.
pub(super) fn capture_upper(
    host: &Channel,
    options: &CaptureOptions,
    records: &Records,
) -> Result<Response, FrameError> {
    let recorded = |path: &[u8], dir: BorrowedFd<'_>, name: &[u8]| {
        records.find(path, dir, name).map(|found| Recorded {
            uid: found.uid,
            gid: found.gid,
            device: found.device.map(|device| CapturedNode::Device {
                char: device.char,
                major: device.major,
                minor: device.minor,
            }),
            xattrs: found.xattrs.clone(),
        })
    };
    let captured = match capture(options, &recorded) {
        Ok(captured) => captured,
        Err(error) => return Ok(refused(&error)),
    };
    let mut entries = captured.entries.into_iter();
    loop {
        let some: Vec<_> = entries.by_ref().take(ENTRIES_PER_MESSAGE).collect();
        if some.is_empty() {
            break;
        }
        send(host, &Response::Captured(some), &[])?;
    }
    for some in captured.leaks.chunks(ENTRIES_PER_MESSAGE) {
        send(host, &Response::Leaks(some.to_vec()), &[])?;
    }
    Ok(Response::Done)
}

/// Brings a person's directory up to date with the changes that follow on the channel; gives the last answer.
pub(super) fn bring_up_to_date(
    host: &Channel,
    dir: &Path,
    options: &UpdateOptions,
) -> Result<Response, FrameError> {
    let mut changes = Vec::new();
    loop {
        match receive::<Request>(host)? {
            Some((Request::Changes(some), _)) => changes.extend(some),
            Some((Request::EntriesEnd, _)) => break,
            Some(_) => return Err(FrameError::Damaged("another request within an update")),
            None => return Err(FrameError::Cut),
        }
    }
    let Updated { written, removed, mut skipped, mut conflicts, mut left } =
        match update(dir, options, &changes) {
            Ok(updated) => updated,
            Err(error) => return Ok(refused(&error)),
        };
    // The lists have as many paths as the tree, perhaps, and a message has its limit.
    while !(skipped.is_empty() && conflicts.is_empty() && left.is_empty()) {
        let some = Updated {
            skipped: first(&mut skipped),
            conflicts: first(&mut conflicts),
            left: first(&mut left),
            ..Updated::default()
        };
        send(host, &Response::Found(some), &[])?;
    }
    Ok(Response::Updated { written, removed })
}

/// Takes as many off the front of a list as one message may have.
fn first<T>(list: &mut Vec<T>) -> Vec<T> {
    let rest = list.split_off(list.len().min(ENTRIES_PER_MESSAGE));
    std::mem::replace(list, rest)
}

/// Sends what is in a layer's directory; gives the last answer.
pub(super) fn look_at(host: &Channel, dir: &Path) -> Result<Response, FrameError> {
    let mut seen = Vec::new();
    if let Err(error) = look(dir, &mut |one| seen.push(one)) {
        return Ok(refused(&error));
    }
    while !seen.is_empty() {
        send(host, &Response::Seen(first(&mut seen)), &[])?;
    }
    Ok(Response::Done)
}

/// Hashes a file of a layer.
pub(super) fn hash_of(dir: &Path, path: &[u8]) -> Response {
    hash_below(dir, path).map_or_else(|error| refused(&error), Response::Hashed)
}

/// Joins layers.
pub(super) fn merge(layers: &[PathBuf], into: &Path, owners: bool) -> Response {
    match create_dir(into).and_then(|()| merge_layers(layers, into, owners)) {
        Ok(entries) => Response::Merged { entries },
        Err(error) => refused(&error),
    }
}

fn create_dir(dir: &Path) -> Result<(), LayerError> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    Ok(made.map_err(|error| DiskError::new("create directory", dir, error))?)
}

fn refused(error: &LayerError) -> Response {
    let source = match error {
        LayerError::Disk(disk) => io::Error::from_raw_os_error(disk.io().raw_os_error().unwrap_or(0)),
        _ => io::Error::from_raw_os_error(0),
    };
    failed(&source, error.to_string())
}
