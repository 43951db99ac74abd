//! What a base has that is not the host's: accounts, name service, empty directories.

use super::HostError;
use super::cache::{self, CacheEntry};
use super::place::{DIRECTORY, Placer};
use super::root::HostRoot;
use crate::object::{Kind, Meta, NewNode, TreePath};
use crate::store::Batch;

const DIRECTORIES: &[(&str, u16)] = &[
    ("/bin", 0o755),
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/lib", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sbin", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/local/bin", 0o755),
    ("/usr/local/lib", 0o755),
    ("/usr/local/sbin", 0o755),
    ("/usr/sbin", 0o755),
    ("/usr/share", 0o755),
    ("/var/lib", 0o755),
    ("/var/tmp", 0o1777),
];

const FILES: &[(&str, &str)] = &[
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
         protocols: files\nservices: files\n",
    ),
];

/// The links that a merged `/usr` has in the root directory.
const MERGED: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Adds everything that is made, after the host's files are in place.
pub(super) fn add(
    host: &HostRoot,
    placer: &mut Placer<'_, '_, '_, '_>,
    batch: &Batch<'_>,
    libraries: Option<Vec<CacheEntry>>,
) -> Result<(), HostError> {
    for link in MERGED {
        let path = TreePath::parse(link.as_bytes())?;
        if host.look(&path)?.is_some_and(|inode| inode.kind == Kind::Symlink) {
            placer.place(&path)?;
        }
    }
    for (path, mode) in DIRECTORIES {
        placer.make_directory(&TreePath::parse(path.as_bytes())?, *mode)?;
    }
    for (path, text) in FILES {
        file(placer, batch, path, text.as_bytes())?;
    }
    // Only what is in the base: so the tree does not change with every other package of the host.
    if let Some(libraries) = libraries.filter(|libraries| !libraries.is_empty()) {
        file(placer, batch, "/etc/ld.so.cache", &cache::encode(&libraries))?;
    }
    Ok(())
}

fn file(
    placer: &mut Placer<'_, '_, '_, '_>,
    batch: &Batch<'_>,
    path: &str,
    bytes: &[u8],
) -> Result<(), HostError> {
    let path = TreePath::parse(path.as_bytes())?;
    let meta = Meta { mode: 0o644, ..DIRECTORY };
    let blob = batch.put_blob(bytes, Some(&meta))?;
    placer.make_parents(&path)?;
    placer.draft.put(&path, meta, NewNode::File { blob, size: bytes.len() as u64, link: None })?;
    placer.entries += 1;
    placer.bytes += bytes.len() as u64;
    Ok(())
}
