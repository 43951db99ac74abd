//! `treebox cat`: the bytes of a file.

use std::io::Read as _;

use serde::Serialize;
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
    let mut reader = engine.open_file(&state, &path)?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => out.bytes(&buffer[..length])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::refused(format!("cannot read {path}: {error}"))),
        }
    }
}
