//! The worker's end of the protocol: the master process and its sessions.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::protocol::{Hello, Order, PROTOCOL, Request, Response, receive, send};
use super::runs::{Runs, Served};
use crate::sandbox::{
    Channel, Forked, FrameError, become_worker, die_with_parent, exit_now, fork, own_children, remove_tree,
    shield_executable, unshare_user,
};

/// Why a process of the worker ends before its host does.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("standard input is not the host's socket; this mode is for treebox itself: {0}")]
    NoHost(io::Error),
    #[error("cannot {attempt}: {source}")]
    System { attempt: &'static str, source: io::Error },
    #[error(transparent)]
    Frame(#[from] FrameError),
}

fn during(attempt: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |source| ServeError::System { attempt, source }
}

/// The life of the master.
pub(crate) fn serve() -> ! {
    let code = match master() {
        Ok(()) => 0,
        // The host hung up while it was being spoken to: its right.
        Err(ServeError::Frame(FrameError::Socket { .. } | FrameError::Cut)) => 0,
        Err(err) => {
            eprintln!("treebox worker: {err}");
            2
        }
    };
    exit_now(code)
}

fn master() -> Result<(), ServeError> {
    shield_executable().map_err(during("go on as a copy that nothing inside can change"))?;
    // First the sweep: the host's socket stands on descriptor 0, which it spares.
    become_worker().map_err(during("close inherited descriptors"))?;
    let host = Channel::from_stdin().map_err(ServeError::NoHost)?;
    own_children(false).map_err(during("let children vanish"))?;
    let unshare_errno = unshare_user().err().map_or(0, |err| err.raw_os_error().unwrap_or(-1));
    send(&host, &Hello { protocol: PROTOCOL, unshare_errno }, &[])?;
    let me = std::process::id() as i32;
    while let Some((order, fds)) = receive::<Order>(&host)? {
        match order {
            Order::NewSession => {
                let Some(socket) = fds.into_iter().next() else { continue };
                if fork().map_err(during("fork a session"))? == Forked::Child {
                    drop(host);
                    let served = session(me, &Channel::new(socket));
                    if let Err(err) = &served {
                        eprintln!("treebox worker session: {err}");
                    }
                    exit_now(i32::from(served.is_err()));
                }
            }
        }
    }
    Ok(())
}

/// The life of a session: it serves requests, and watches over what runs.
///
/// It may begin before the id maps are written: the host makes its first request after that.
fn session(master: i32, host: &Channel) -> Result<(), ServeError> {
    // A master that has ended already: then there is nobody to serve.
    if die_with_parent(master).is_err() {
        return Ok(());
    }
    own_children(true).map_err(during("collect children"))?;
    // Dropping it, however this ends, kills everything.
    let mut runs = Runs::default();
    loop {
        if !runs.watch(host)? {
            continue;
        }
        let received = match receive::<Request>(host) {
            // A host that died leaves its socket reset rather than closed.
            Err(FrameError::Cut) | Ok(None) => return Ok(()),
            other => other?,
        };
        let Some((request, fds)) = received else { return Ok(()) };
        let request = match runs.serve(host, request, fds)? {
            Served::Done => continue,
            Served::Other(_) if runs.any() => {
                return Err(FrameError::Damaged("another request during a run").into());
            }
            Served::Other(request) => request,
        };
        let response = match request {
            Request::Remove { path } => match remove_tree(&path_of(path)) {
                Ok(()) => Response::Done,
                Err(err) => failed(&err.source, err.to_string()),
            },
            Request::Rename { from, to } => rename(&path_of(from), &path_of(to)),
            Request::BuildLayer { dir, options } => super::layers::build(host, &dir, options)?,
            Request::Capture(options) => super::layers::capture_upper(host, &options, runs.records())?,
            Request::Update { dir, options } => super::layers::bring_up_to_date(host, &dir, &options)?,
            Request::LookAtLayer { dir } => super::layers::look_at(host, &dir)?,
            Request::HashOfLayer { dir, path } => super::layers::hash_of(&dir, &path),
            Request::MergeLayers { layers, into, owners } => super::layers::merge(&layers, &into, owners),
            _ => return Err(FrameError::Damaged("layer entries without a layer").into()),
        };
        send(host, &response, &[])?;
    }
}

fn rename(from: &Path, to: &Path) -> Response {
    match std::fs::rename(from, to) {
        Ok(()) => Response::Done,
        Err(err) => {
            let message = format!("cannot rename {} to {}: {err}", from.display(), to.display());
            failed(&err, message)
        }
    }
}

pub(super) fn failed(source: &io::Error, message: String) -> Response {
    Response::Failed { errno: source.raw_os_error().unwrap_or(0), message }
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
