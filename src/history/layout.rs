//! Making an empty repository.

use std::fs::{DirBuilder, remove_dir_all, rename};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::sync;
use super::{Durability, HistoryError};

/// What [`create`] calls a repository that is not finished, before a number.
pub(super) const UNFINISHED: &str = ".new-";

const DIRECTORIES: [&str; 8] =
    ["objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "refs/images", "info"];

const HEAD: &str = "ref: refs/heads/main\n";

/// Without `logAllRefUpdates` a bare repository keeps no reflogs. `gc` by itself must not run inside somebody's `git log`, and one
/// that a user starts must not drop what reflogs lead to, nor objects that another process has only just written.
const CONFIG: &str = "\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = always
[gc]
\tauto = 0
\treflogExpire = never
\treflogExpireUnreachable = never
\tpruneExpire = 90.days.ago
[maintenance]
\tauto = false
";

/// What gitweb, gitk and people read.
const DESCRIPTION: &str = "treebox history\n";

/// Makes an empty repository beside `directory` and renames it into place. That another process was faster is no error.
pub(super) fn create(directory: &Path, durability: Durability) -> Result<(), HistoryError> {
    let number = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let mut unfinished = directory.as_os_str().to_owned();
    unfinished.push(format!("{UNFINISHED}{}-{number}", std::process::id()));
    let unfinished = Path::new(&unfinished);
    let result =
        fill(unfinished, durability == Durability::Commit).and_then(|()| rename(unfinished, directory));
    match result {
        Ok(()) => {
            if durability == Durability::Commit
                && let Some(parent) = directory.parent()
            {
                sync::path(parent).map_err(|source| HistoryError::io("syncing", parent, source))?;
            }
            Ok(())
        }
        Err(source) => {
            let _ = remove_dir_all(unfinished);
            if directory.join("HEAD").exists() {
                return Ok(());
            }
            Err(HistoryError::io("making", directory, source))
        }
    }
}

/// Makes what a repository lacks that something has taken HEAD or the config from; what it has stays.
pub(super) fn complete(directory: &Path) -> io::Result<()> {
    for name in DIRECTORIES {
        DirBuilder::new().recursive(true).mode(0o700).create(directory.join(name))?;
    }
    for (name, content) in [("config", CONFIG), ("HEAD", HEAD)] {
        match sync::create(&directory.join(name), content.as_bytes(), true) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    sync::path(directory)
}

fn fill(directory: &Path, durable: bool) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700).create(directory)?;
    for name in DIRECTORIES {
        builder.create(directory.join(name))?;
    }
    sync::create(&directory.join("description"), DESCRIPTION.as_bytes(), false)?;
    sync::create(&directory.join("config"), CONFIG.as_bytes(), durable)?;
    sync::create(&directory.join("HEAD"), HEAD.as_bytes(), durable)?;
    if durable {
        for name in ["objects", "refs", "."] {
            sync::path(&directory.join(name))?;
        }
    }
    Ok(())
}
