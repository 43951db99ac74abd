//! The worker's end of the protocol: the master process and its sessions.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::protocol::{Hello, Order, PROTOCOL, Request, Response, receive, send};
use crate::sandbox::{
    Channel, Emulator, Forked, FrameError, IdMap, Plan, Records, Sandbox, become_worker, die_with_parent, exit_now, fork,
    launch, own_children, remove_tree, unshare_user, wait_readable,
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

/// The life of a session: one request after the other.
///
/// It may begin before the id maps are written: the host makes its first request after that.
fn session(master: i32, host: &Channel) -> Result<(), ServeError> {
    // A master that has ended already: then there is nobody to serve.
    if die_with_parent(master).is_err() {
        return Ok(());
    }
    own_children(true).map_err(during("collect children"))?;
    let mut map: Option<IdMap> = None;
    // What the latest run recorded, for the capture that follows it.
    let mut records = Records::default();
    loop {
        let received = match receive::<Request>(host) {
            // A host that died leaves its socket reset rather than closed.
            Err(FrameError::Cut) | Ok(None) => return Ok(()),
            other => other?,
        };
        let Some((request, fds)) = received else { return Ok(()) };
        let response = match request {
            Request::Run { run, plan } => {
                let map = match map.take() {
                    Some(known) => map.insert(known),
                    None => map.insert(IdMap::of_this_process().map_err(during("read the id maps"))?),
                };
                match run_plan(host, map, run, &plan, fds, &mut records)? {
                    Some(response) => response,
                    None => return Ok(()),
                }
            }
            // For a run that has just ended by itself.
            Request::Signal { .. } | Request::Kill { .. } => continue,
            Request::Remove { path } => match remove_tree(&path_of(path)) {
                Ok(()) => Response::Done,
                Err(err) => failed(&err.source, err.to_string()),
            },
            Request::Rename { from, to } => rename(&path_of(from), &path_of(to)),
            Request::BuildLayer { dir, options } => super::layers::build(host, &dir, options)?,
            Request::Capture(options) => super::layers::capture_upper(host, &options, &records)?,
            Request::MergeLayers { layers, into, owners } => super::layers::merge(&layers, &into, owners),
            Request::Entries(_) | Request::EntriesEnd => {
                return Err(FrameError::Damaged("layer entries without a layer").into());
            }
        };
        send(host, &response, &[])?;
    }
}

/// Runs a plan to its end; `None` when the host has gone meanwhile.
fn run_plan(
    host: &Channel,
    map: &IdMap,
    run: u64,
    plan: &Plan,
    fds: Vec<OwnedFd>,
    records: &mut Records,
) -> Result<Option<Response>, ServeError> {
    let Ok(streams) = <[OwnedFd; 3]>::try_from(fds) else {
        return Err(FrameError::Damaged("a run needs three streams").into());
    };
    *records = Records::default();
    let begun = Emulator::for_plan(plan)
        .and_then(|emulator| launch(plan, map, streams).map(|sandbox| (emulator, sandbox)));
    let (mut emulator, mut sandbox) = match begun {
        Ok(begun) => begun,
        Err(err) => return Ok(Some(Response::NotStarted(err))),
    };
    if let (Some(emulator), Some(listener)) = (&mut emulator, sandbox.take_listener()) {
        emulator.attach(listener);
    }
    send(host, &Response::Started { pid: sandbox.pid() }, &[])?;
    loop {
        let [spoke, ended] = match &mut emulator {
            Some(emulator) => emulator.wait_readable(host.as_fd(), sandbox.pidfd()),
            None => wait_readable(host.as_fd(), sandbox.pidfd()),
        };
        if ended {
            *records = emulator.map(Emulator::into_records).unwrap_or_default();
            let (ending, usage) = sandbox.wait();
            return Ok(Some(Response::Exited { ending, usage }));
        }
        if spoke && !obey(host, run, &sandbox)? {
            // Dropping the sandbox kills it.
            return Ok(None);
        }
    }
}

/// Takes one message during a run; `false` when the host has gone.
fn obey(host: &Channel, run: u64, sandbox: &Sandbox) -> Result<bool, ServeError> {
    match receive::<Request>(host) {
        Ok(Some((Request::Signal { run: meant, signal }, _))) if meant == run => sandbox.signal(signal),
        Ok(Some((Request::Kill { run: meant }, _))) if meant == run => sandbox.kill(),
        // Meant for an earlier run.
        Ok(Some((Request::Signal { .. } | Request::Kill { .. }, _))) => {}
        Ok(Some(_)) => return Err(FrameError::Damaged("a second request during a run").into()),
        Ok(None) | Err(FrameError::Cut) => return Ok(false),
        Err(err) => return Err(err.into()),
    }
    Ok(true)
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
