//! What host, master and session say to each other. Every message is one frame: an enum in postcard's encoding.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize as SerializeDerive};

use crate::object::BlobId;
use crate::sandbox::{Channel, Ending, Exceeded, FrameError, LaunchError, Owned, Plan, Usage};
use crate::worktree::layer::{
    BuildOptions, Built, CaptureOptions, Captured, LayerEntry, PlannedChange, Seen, UpdateOptions, Updated,
};
use crate::worktree::leak::Leak;

/// Grows with every change of a message: host and worker may be different executables.
pub(crate) const PROTOCOL: u32 = 6;

/// How many layer entries travel in one message.
pub(crate) const ENTRIES_PER_MESSAGE: usize = 256;

/// Master to host, once.
#[derive(Debug, SerializeDerive, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    /// 0, or the error number of unshare.
    pub(crate) unshare_errno: i32,
}

/// Host to master.
#[derive(Debug, SerializeDerive, Deserialize)]
pub(crate) enum Order {
    /// Fork a session that serves the socket sent along.
    NewSession,
}

/// Host to session. While something runs, only requests about runs may come.
#[derive(Debug, SerializeDerive, Deserialize)]
pub(crate) enum Request {
    /// Run a plan on the three streams sent along. The number tells later messages which run they mean.
    Run { run: u64, plan: Box<Plan> },
    /// Start a sandbox in which commands are to run; it lives until it is killed.
    Open { run: u64, plan: Box<Plan> },
    /// Run a command in the sandbox `within`, on the three streams sent along. Of the plan what concerns the payload counts.
    Join { run: u64, within: u64, plan: Box<Plan> },
    /// Some of what the supervisor of emulated root has to know of the image, for the `Run` or `Open` that follows: in pieces, since there can be
    /// more of it than one message holds.
    Owned(Vec<Owned>),
    /// Pass a signal to the payload.
    Signal { run: u64, signal: i32 },
    /// Kill the sandbox, or of a command that joined one what belongs to the command.
    Kill { run: u64 },
    /// Remove a tree. Paths are bytes.
    Remove { path: Vec<u8> },
    /// Rename a file or directory.
    Rename { from: Vec<u8>, to: Vec<u8> },
    /// Make a layer in a directory that does not exist yet. `Entries` follow, then `EntriesEnd`.
    BuildLayer { dir: PathBuf, options: BuildOptions },
    /// More entries of the layer that is being made.
    Entries(Vec<LayerEntry>),
    /// The layer has no more entries.
    EntriesEnd,
    /// Read the upper directory of a run that is over.
    Capture(CaptureOptions),
    /// Bring a person's directory up to date. `Changes` follow, then `EntriesEnd`.
    Update { dir: PathBuf, options: UpdateOptions },
    /// More of what differs in the directory that is brought up to date.
    Changes(Vec<PlannedChange>),
    /// Join layers, top first, into a directory that does not exist yet.
    MergeLayers { layers: Vec<PathBuf>, into: PathBuf, owners: bool },
    /// Say what is in a layer's directory.
    LookAtLayer { dir: PathBuf },
    /// Hash a file of a layer.
    HashOfLayer { dir: PathBuf, path: Vec<u8> },
}

/// Session to host.
#[derive(Debug, SerializeDerive, Deserialize)]
pub(crate) enum Response {
    /// The program has been executed, or the sandbox is open. The master of its terminal comes along, if it has one.
    Started { run: u64, pid: i32 },
    /// It could not be started.
    NotStarted { run: u64, error: LaunchError },
    /// It is gone.
    Exited { run: u64, ending: Ending, usage: Usage, exceeded: Option<Exceeded> },
    /// The layer is made.
    Built(Built),
    /// Some of what was captured; `Done` comes after the last.
    Captured(Vec<Captured>),
    /// Some of the secrets that are in what was captured.
    Leaks(Vec<Leak>),
    /// Some of what was found while a directory was brought up to date: only the lists count.
    Found(Updated),
    /// The directory is up to date, or something was in the way.
    Updated { written: u64, removed: u64 },
    /// Some of what is in a layer; `Done` comes after the last.
    Seen(Vec<Seen>),
    /// What a file's bytes are.
    Hashed(BlobId),
    /// The layers are joined; the new one has so many entries.
    Merged { entries: u64 },
    /// The request was carried out.
    Done,
    /// The request failed.
    Failed { errno: i32, message: String },
}

impl Response {
    /// The run that it is about; 0 for the answer to any other request, of which there is one at a time.
    pub(crate) fn run(&self) -> u64 {
        match self {
            Self::Started { run, .. } | Self::NotStarted { run, .. } | Self::Exited { run, .. } => *run,
            _ => 0,
        }
    }
}

/// Sends a message.
pub(crate) fn send(
    channel: &Channel,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let body = postcard::to_stdvec(message).map_err(|_| FrameError::Damaged("it cannot be encoded"))?;
    channel.send(&body, fds)
}

/// Receives a message; `None` when the other end has closed.
pub(crate) fn receive<M: DeserializeOwned>(
    channel: &Channel,
) -> Result<Option<(M, Vec<OwnedFd>)>, FrameError> {
    let Some(frame) = channel.receive()? else { return Ok(None) };
    let (message, rest) = postcard::take_from_bytes(&frame.body)
        .map_err(|_| FrameError::Damaged("it is no message of this protocol"))?;
    if rest.is_empty() {
        Ok(Some((message, frame.fds)))
    } else {
        Err(FrameError::Damaged("bytes follow the message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_is_refused_or_understood_but_never_a_panic(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let (ours, theirs) = Channel::pair().unwrap();
            let theirs = Channel::new(theirs);
            for _ in 0..3 {
                ours.send(&body, &[]).unwrap();
            }
            let _ = receive::<Request>(&theirs);
            let _ = receive::<Response>(&theirs);
            let _ = receive::<Hello>(&theirs);
        }
    }

    #[test]
    fn a_message_with_something_behind_it_is_refused() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&[0, 0], &[]).unwrap();
        assert!(matches!(receive::<Order>(&Channel::new(theirs)), Err(FrameError::Damaged(_))));
    }
}
