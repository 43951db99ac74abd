//! A store in one file: a tar archive, compressed, in which nothing depends on who made it.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Writes everything below a directory to an archive: owner 0, names in order, hard links kept.
pub(super) fn pack(directory: &Path, to: &Path) {
    let out = zstd::Encoder::new(File::create(to).unwrap(), 19).unwrap();
    let mut tar = tar::Builder::new(out);
    let mut links: HashMap<u64, PathBuf> = HashMap::new();
    add(&mut tar, directory, Path::new(""), &mut links);
    tar.into_inner().unwrap().finish().unwrap();
}

fn add(
    tar: &mut tar::Builder<impl std::io::Write>,
    root: &Path,
    below: &Path,
    links: &mut HashMap<u64, PathBuf>,
) {
    let mut names: Vec<_> =
        std::fs::read_dir(root.join(below)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let below = below.join(name);
        let path = root.join(&below);
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_metadata_in_mode(&meta, tar::HeaderMode::Complete);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        if meta.is_dir() {
            tar.append_data(&mut header, &below, std::io::empty()).unwrap();
            add(tar, root, &below, links);
        } else if meta.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, &below, std::fs::read_link(&path).unwrap()).unwrap();
        } else if !meta.is_file() {
            // A FIFO of a tree, or a whiteout.
            let mode = rustix::fs::FileType::from_raw_mode(meta.mode());
            let fifo = mode == rustix::fs::FileType::Fifo;
            header.set_entry_type(if fifo { tar::EntryType::Fifo } else { tar::EntryType::Char });
            header.set_device_major(0).unwrap();
            header.set_device_minor(0).unwrap();
            tar.append_data(&mut header, &below, std::io::empty()).unwrap();
        } else if let Some(first) = links.get(&meta.ino()) {
            header.set_entry_type(tar::EntryType::Link);
            tar.append_link(&mut header, &below, first).unwrap();
        } else {
            if meta.nlink() > 1 {
                links.insert(meta.ino(), below.clone());
            }
            header.set_size(meta.len());
            tar.append_data(&mut header, &below, File::open(&path).unwrap()).unwrap();
        }
    }
}

/// Puts the store of version 1 at a path.
pub(super) fn unpack_store(to: &Path) {
    let file = File::open(super::fixtures().join("store-v1.tar.zst")).unwrap();
    let mut tar = tar::Archive::new(zstd::Decoder::new(file).unwrap());
    tar.set_preserve_permissions(true);
    tar.set_preserve_mtime(true);
    tar.set_preserve_ownerships(false);
    std::fs::create_dir_all(to).unwrap();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = to.join(entry.path().unwrap());
        let kind = match entry.header().entry_type() {
            tar::EntryType::Fifo => rustix::fs::FileType::Fifo,
            tar::EntryType::Char => rustix::fs::FileType::CharacterDevice,
            _ => {
                assert!(entry.unpack_in(to).unwrap());
                continue;
            }
        };
        let mode = rustix::fs::Mode::from_raw_mode(entry.header().mode().unwrap() & 0o7777);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::empty(), 0).unwrap();
        rustix::fs::chmodat(rustix::fs::CWD, &path, mode, rustix::fs::AtFlags::empty()).unwrap();
    }
    for private in ["", "objects", "layers", "tmp"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(to.join(private), mode).unwrap();
    }
}
