//! The host's end of making, reading and joining layers.

use std::path::{Path, PathBuf};

use super::protocol::{ENTRIES_PER_MESSAGE, Request, Response, send};
use super::session::{Session, SessionError};
use crate::object::BlobId;
use crate::worktree::layer::{
    BuildOptions, Built, Capture, CaptureOptions, LayerEntry, PlannedChange, Seen, UpdateOptions, Updated,
};

/// A layer that is being made; entries are sent as they are given.
#[derive(Debug)]
pub struct LayerUpload<'s> {
    session: &'s Session,
    waiting: Vec<LayerEntry>,
}

impl LayerUpload<'_> {
    /// Adds an entry; its parent directory was added before.
    pub fn add(&mut self, entry: LayerEntry) -> Result<(), SessionError> {
        self.waiting.push(entry);
        if self.waiting.len() >= ENTRIES_PER_MESSAGE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SessionError> {
        let entries = std::mem::take(&mut self.waiting);
        Ok(send(&self.session.line.channel, &Request::Entries(entries), &[])?)
    }
}

impl Session {
    /// Makes a layer in a directory that does not exist yet, of the entries that `fill` adds.
    ///
    /// When `fill` fails the layer is ended all the same and its directory is left half-made, for the caller to remove.
    pub fn build_layer<E: From<SessionError>>(
        &self,
        dir: &Path,
        options: BuildOptions,
        fill: impl FnOnce(&mut LayerUpload<'_>) -> Result<(), E>,
    ) -> Result<Built, E> {
        let _claim = self.claim()?;
        let channel = &self.line.channel;
        send(channel, &Request::BuildLayer { dir: dir.to_owned(), options }, &[])
            .map_err(SessionError::from)?;
        let mut upload = LayerUpload { session: self, waiting: Vec::new() };
        let filled = fill(&mut upload);
        upload.flush()?;
        send(channel, &Request::EntriesEnd, &[]).map_err(SessionError::from)?;
        let answer = self.line.answer()?;
        filled?;
        match answer {
            Response::Built(built) => Ok(built),
            other => Err(unexpected(other).into()),
        }
    }

    /// Reads the upper directory of a run that is over and puts new bytes where the options say.
    pub fn capture(&self, options: CaptureOptions) -> Result<Capture, SessionError> {
        let _claim = self.claim()?;
        send(&self.line.channel, &Request::Capture(options), &[])?;
        let mut capture = Capture::default();
        loop {
            match self.line.answer()? {
                Response::Captured(some) => capture.entries.extend(some),
                Response::Leaks(some) => capture.leaks.extend(some),
                Response::Done => return Ok(capture),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Brings a person's directory up to date, as root of the namespace.
    pub fn update(
        &self,
        dir: &Path,
        options: &UpdateOptions,
        changes: &[PlannedChange],
    ) -> Result<Updated, SessionError> {
        let _claim = self.claim()?;
        let channel = &self.line.channel;
        send(channel, &Request::Update { dir: dir.to_owned(), options: options.clone() }, &[])?;
        for some in changes.chunks(ENTRIES_PER_MESSAGE) {
            send(channel, &Request::Changes(some.to_vec()), &[])?;
        }
        send(channel, &Request::EntriesEnd, &[])?;
        let mut updated = Updated::default();
        loop {
            match self.line.answer()? {
                Response::Found(some) => {
                    updated.skipped.extend(some.skipped);
                    updated.conflicts.extend(some.conflicts);
                    updated.left.extend(some.left);
                }
                Response::Updated { written, removed } => {
                    return Ok(Updated { written, removed, ..updated });
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// What is in a layer's directory, as root of the namespace.
    pub fn look_at_layer(&self, dir: &Path) -> Result<Vec<Seen>, SessionError> {
        let _claim = self.claim()?;
        send(&self.line.channel, &Request::LookAtLayer { dir: dir.to_owned() }, &[])?;
        let mut seen = Vec::new();
        loop {
            match self.line.answer()? {
                Response::Seen(some) => seen.extend(some),
                Response::Done => return Ok(seen),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// What the bytes of a file of a layer are.
    pub fn hash_of_layer(&self, dir: &Path, path: &[u8]) -> Result<BlobId, SessionError> {
        let _claim = self.claim()?;
        let request = Request::HashOfLayer { dir: dir.to_owned(), path: path.to_vec() };
        send(&self.line.channel, &request, &[])?;
        match self.line.answer()? {
            Response::Hashed(id) => Ok(id),
            other => Err(unexpected(other)),
        }
    }

    /// Joins layers, top first, into a directory that does not exist yet; gives how many entries it has.
    pub fn merge_layers(&self, layers: Vec<PathBuf>, into: &Path, owners: bool) -> Result<u64, SessionError> {
        let _claim = self.claim()?;
        send(&self.line.channel, &Request::MergeLayers { layers, into: into.to_owned(), owners }, &[])?;
        match self.line.answer()? {
            Response::Merged { entries } => Ok(entries),
            other => Err(unexpected(other)),
        }
    }
}

fn unexpected(response: Response) -> SessionError {
    match response {
        Response::Failed { errno, message } => {
            SessionError::Refused { message, source: std::io::Error::from_raw_os_error(errno) }
        }
        _ => SessionError::OutOfTurn,
    }
}
