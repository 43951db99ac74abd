//! What `run -i` passes on standard input.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use treebox::{Stdin, Terminal};

use crate::cli::exit::Failure;

/// The largest file on standard input that is read beforehand, so that its bytes can count in the run key.
const MAX_READ_BYTES: u64 = 64 * 1024 * 1024;

/// Standard input of this process, for the command: a file's bytes are known beforehand and count in the key, so that such
/// a run can be used again; anything else is piped while the command runs.
pub(super) fn of_this_process() -> Result<Stdin, Failure> {
    let failed = |error: io::Error| Failure::refused(format!("cannot read standard input: {error}"));
    let stdin = io::stdin().lock();
    let file = File::from(stdin.as_fd().try_clone_to_owned().map_err(failed)?);
    let meta = file.metadata().map_err(failed)?;
    if meta.file_type().is_char_device() && meta.rdev() == nix::sys::stat::makedev(1, 3) {
        // /dev/null: nothing will ever come.
        return Ok(Stdin::Empty);
    }
    if !meta.is_file() || meta.len() > MAX_READ_BYTES {
        return Ok(Stdin::Piped);
    }
    let mut bytes = Vec::new();
    file.take(MAX_READ_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_READ_BYTES {
        return Err(Failure::refused("standard input is a file that grew past 64 MiB while it was read"));
    }
    Ok(if bytes.is_empty() { Stdin::Empty } else { Stdin::Bytes(bytes) })
}

/// Copies standard input to the command until one of them ends. The thread may outlive the command, blocked in a read: it
/// ends with the process.
pub(super) fn copy_to(mut end: File, terminal: Option<Terminal>) {
    std::thread::spawn(move || {
        // A command that has closed its input wants no more; that is no failure of the run. What stands in the buffer of this
        // process's standard input is none: nothing else reads it.
        let copied = io::copy(&mut io::stdin().lock(), &mut end);
        if let (Ok(_), Some(terminal)) = (copied, terminal) {
            terminal.end_input();
        }
    });
}
