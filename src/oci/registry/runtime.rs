//! A place for asynchronous work that may be used from anywhere: inside another runtime, or where there is none.

use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::error::RegistryError;

/// Threads that move bytes and hash them.
const MAX_WORKERS: usize = 4;

/// Runs on a thread of its own, for a runtime cannot be waited for on a thread that another one drives.
pub(super) fn apart<T: Send>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send,
) -> Result<T, RegistryError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("treebox-registry".into()).spawn_scoped(scope, work);
        match thread.map_err(|error| unprepared("registries", &error))?.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A runtime for one transfer; dropping it ends what is still under way.
pub(super) fn start() -> Result<Runtime, RegistryError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(cores.min(MAX_WORKERS)).thread_name("treebox-registry").enable_all();
    builder.build().map_err(|error| unprepared("registries", &error))
}

/// An error of this side, before anything was sent.
pub(super) fn unprepared(host: &str, error: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Client { host: host.to_owned(), reason: error.to_string() }
}
