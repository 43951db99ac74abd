//! Joining layers.
//!
//! A lookup of a missing name costs about 2 µs for each lower, so stacks are kept short: small layers are joined into one by hard links. No
//! bytes are read or copied.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use super::entry::LayerError;
use super::inode::{Dir, OPAQUE, dress, is_whiteout, kind_of, read_meta};

/// Joins layers, top first, into the empty directory `into`; gives how many entries it has. Whiteouts stay, for the layers below.
///
/// `owners` says whether several ids are mapped, so that directories' owners are kept.
pub fn merge_layers(layers: &[PathBuf], into: &Path, owners: bool) -> Result<u64, LayerError> {
    let sources = layers.iter().map(|path| Dir::open(path)).collect::<Result<Vec<_>, _>>()?;
    let sources: Vec<&Dir> = sources.iter().collect();
    let mut merge = Merge { owners, entries: 0 };
    merge.directory(&sources, &Dir::open(into)?, false)?;
    Ok(merge.entries)
}

struct Merge {
    owners: bool,
    entries: u64,
}

impl Merge {
    /// Fills `into` from directories that are merged with each other; the topmost gives the attributes.
    fn directory(&mut self, sources: &[&Dir], into: &Dir, opaque: bool) -> Result<(), LayerError> {
        // Which layer a name is taken from: the topmost that has it.
        let mut owner: HashMap<Vec<u8>, usize> = HashMap::new();
        for (layer, dir) in sources.iter().enumerate() {
            for name in dir.names()? {
                owner.entry(name).or_insert(layer);
            }
        }
        let mut names: Vec<_> = owner.into_iter().collect();
        names.sort();
        for (name, layer) in names {
            self.entries += 1;
            let dir = sources[layer];
            let stat = dir.stat(&name)?;
            if kind_of(&stat) == FileType::Directory {
                self.child_directory(&sources[layer..], &name, into)?;
            } else if is_whiteout(&stat) {
                into.make_whiteout(&name)?;
            } else {
                into.link(dir.fd.as_fd(), &name, &name).map_err(|errno| into.error("link", &name, errno))?;
            }
        }
        let top = sources.first().expect("there is a topmost layer");
        let (meta, _) = read_meta(top, b"", &top.stat(b"")?)?;
        if opaque && !crate::disk::set_xattr(&into.proc_path(b"."), OPAQUE, b"y")? {
            return Err(into.error("mark as opaque", b"", rustix::io::Errno::NOTSUP).into());
        }
        let owner = self.owners.then_some((meta.uid, meta.gid));
        dress(into, b"", FileType::Directory, &meta, owner)?;
        Ok(())
    }

    fn child_directory(&mut self, sources: &[&Dir], name: &[u8], into: &Dir) -> Result<(), LayerError> {
        let mut parts = Vec::new();
        let mut opaque = false;
        for dir in sources {
            let stat = match dir.stat(name) {
                Ok(stat) => stat,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            if kind_of(&stat) != FileType::Directory {
                // A whiteout or file below: what lies further down is hidden from this directory.
                opaque = true;
                break;
            }
            let part = dir.open_child(name)?;
            let (_, hides) = read_meta(&part, b"", &part.stat(b"")?)?;
            parts.push(part);
            if hides {
                opaque = true;
                break;
            }
        }
        rustix::fs::mkdirat(&into.fd, name, Mode::from_raw_mode(0o700))
            .map_err(|errno| into.error("create directory", name, errno))?;
        let parts: Vec<&Dir> = parts.iter().collect();
        self.directory(&parts, &into.open_child(name)?, opaque)
    }
}
