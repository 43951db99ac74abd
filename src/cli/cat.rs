//! `treebox cat`: the bytes of a file.

use std::io::Read as _;

use serde::Serialize;
use treebox::Error;
use treebox::blocking::Engine;

use super::exit::{Exit, Failure};
use super::{Context, records, rev_path};

/// Print files of a state
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files
    #[arg(value_name = "REV:/PATH", required = true)]
    files: Vec<String>,
}

/// What is held in memory of a file; a longer one is read twice.
const MAX_HELD_BYTES: u64 = 16 << 20;

#[derive(Serialize)]
struct Record {
    state: String,
    path: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<String>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let engine = context.engine()?;
    for file in &args.files {
        print(&engine, file, context)?;
    }
    Ok(Exit::DONE)
}

/// Prints one file as it is.
pub(super) fn print(engine: &Engine, file: &str, context: &mut Context) -> Result<(), Failure> {
    let (state, path) = rev_path::resolve(engine, Some(file))?;
    let out = &mut context.out;
    if out.json() {
        let bytes = engine.read_file(&state, &path)?;
        let (content, content_base64) = records::text_or_base64(&bytes);
        let (state, path) = (state.id().to_string(), path.to_string());
        return out.record(&Record { state, path, size: bytes.len(), content, content_base64 });
    }
    // Wrong bytes are not to be taken for the file: everything is read before anything is written.
    let mut reader = engine.open_file(&state, &path)?;
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => Failure::Engine(Error::Damaged(error.to_string())),
        _ => Failure::refused(format!("cannot read {path}: {error}")),
    };
    let mut bytes = Vec::new();
    reader.by_ref().take(MAX_HELD_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    if (bytes.len() as u64) < MAX_HELD_BYTES {
        return out.bytes(&bytes);
    }
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(failed)?;
    let mut reader = engine.open_file(&state, &path)?;
    bytes.truncate(128 * 1024);
    loop {
        match reader.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(length) => out.bytes(&bytes[..length])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
