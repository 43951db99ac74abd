//! What an import of an image cannot be faster than, as programs of their own for `benches/images.sh`:
//!
//! - `floor decode FILE…` takes the compression off with the decoders that treebox uses, and does nothing with the bytes;
//! - `floor write TAR DIRECTORY` writes the regular files of an uncompressed archive, one after the other, and nothing else. Like a store it
//!   gives them their mode and time, syncs the bytes, then renames the files into 256 directories and syncs the names;
//! - `floor compress KIND FILE OUT` compresses a file as the layer of an export is.
//!
//! Without arguments, as `cargo bench` starts it, it does nothing.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["decode", files @ ..] => files.iter().for_each(|file| decode(Path::new(file))),
        ["write", tar, directory] => write(Path::new(tar), Path::new(directory)),
        ["compress", kind, file, out] => compress(kind, Path::new(file), Path::new(out)),
        _ => println!("floor: see benches/images.sh"),
    }
}

fn decode(path: &Path) {
    let mut file = BufReader::with_capacity(1 << 17, File::open(path).unwrap());
    let head = std::io::BufRead::fill_buf(&mut file).unwrap()[0];
    let mut decoder: Box<dyn Read> = match head {
        0x1f => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        _ => Box::new(zstd::Decoder::with_buffer(file).unwrap()),
    };
    let mut buffer = vec![0; 1 << 18];
    while decoder.read(&mut buffer).unwrap() > 0 {}
}

fn write(tar: &Path, directory: &Path) {
    let scratch = directory.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 18, File::open(tar).unwrap()));
    let mut buffer = vec![0; 1 << 18];
    let mut count = 0u32;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = scratch.join(count.to_string());
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        loop {
            match entry.read(&mut buffer).unwrap() {
                0 => break,
                read => file.write_all(&buffer[..read]).unwrap(),
            }
        }
        file.set_permissions(std::fs::Permissions::from_mode(entry.header().mode().unwrap() & 0o777))
            .unwrap();
        let seconds = i64::try_from(entry.header().mtime().unwrap()).unwrap();
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).unwrap();
        count += 1;
    }
    let top = File::open(directory).unwrap();
    rustix::fs::syncfs(&top).unwrap();
    for part in 0..256 {
        std::fs::create_dir(directory.join(format!("{part:02x}"))).unwrap();
    }
    for number in 0..count {
        // Blobs are named by a hash, so neighbours land in different directories.
        let part = number.wrapping_mul(2_654_435_761) >> 24;
        std::fs::rename(scratch.join(number.to_string()), directory.join(format!("{part:02x}/{number}")))
            .unwrap();
    }
    rustix::fs::syncfs(&top).unwrap();
}

fn compress(kind: &str, path: &Path, out: &Path) {
    let out = File::create(out).unwrap();
    let mut compressor = treebox::oci::Compressor::new(kind.parse().unwrap(), out).unwrap();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            count => compressor.write_all(&buffer[..count]).unwrap(),
        }
    }
    compressor.finish().unwrap().sync_all().unwrap();
}
