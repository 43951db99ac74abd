//! Looks at a running sandbox from outside: its processes, their memory, and what lies in its upper directory.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// What a directory tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes on disk; a file with several names counts once.
    pub bytes: u64,
    /// The length of the longest file.
    pub longest: u64,
}

impl Held {
    /// What counts against a cap on writing.
    ///
    /// A file longer than the cap does also where most of it is a hole: the store keeps whole files.
    pub fn against(self, cap: u64) -> u64 {
        if self.longest > cap { self.bytes.max(self.longest) } else { self.bytes }
    }
}

/// Adds up a tree without following a link. What vanishes meanwhile is passed over.
///
/// The walk holds two descriptors however deep the tree is. A directory that is moved while the walk is below it ends the walk with
/// [`io::ErrorKind::WouldBlock`]: look again.
pub fn held_by(top: &Path) -> io::Result<Held> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(CWD, top, flags, Mode::empty())?;
    let mut seen = HashSet::new();
    let mut held = Held::default();
    let top = rustix::fs::fstat(&here)?;
    held.count(&top, &mut seen);
    // For every directory on the way down: which it is, and the subdirectories that are left to do.
    let mut way = vec![(identity(&top), list(&here, &mut held, &mut seen)?)];
    while let Some((_, left)) = way.last_mut() {
        if let Some(name) = left.pop() {
            match rustix::fs::openat(&here, &name, flags, Mode::empty()) {
                Ok(child) => {
                    let stat = rustix::fs::fstat(&child)?;
                    let below = list(&child, &mut held, &mut seen)?;
                    here = child;
                    way.push((identity(&stat), below));
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno.into()),
            }
            continue;
        }
        way.pop();
        let Some((parent, _)) = way.last() else { break };
        here = rustix::fs::openat(&here, c"..", flags, Mode::empty())?;
        if identity(&rustix::fs::fstat(&here)?) != *parent {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
    Ok(held)
}

type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// Counts what is in a directory and names its subdirectories.
fn list(dir: &OwnedFd, held: &mut Held, seen: &mut HashSet<Identity>) -> io::Result<Vec<CString>> {
    let mut below = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        held.count(&stat, seen);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            below.push(name);
        }
    }
    Ok(below)
}

impl Held {
    fn count(&mut self, stat: &Stat, seen: &mut HashSet<Identity>) {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 && !seen.insert(identity(stat)) {
            return;
        }
        self.bytes = self.bytes.saturating_add(stat.st_blocks as u64 * BLOCK_BYTES);
        if kind == FileType::RegularFile {
            self.longest = self.longest.max(stat.st_size as u64);
        }
    }
}

/// How many bytes of a file system are in use. What is written shows here at once, also before it has a place on disk.
pub fn used_bytes(dir: impl AsFd) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(dir)?;
    Ok(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize))
}

/// What the processes of a sandbox are, without its init.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// The pids, as this process sees them.
    pub pids: Vec<i32>,
    /// Processes and threads.
    pub tasks: u64,
}

/// Finds everything in a sandbox: what is below its init, and what has joined it with what is below that. What ends meanwhile is
/// passed over.
pub fn census(init: i32, joined: impl Iterator<Item = i32>) -> Census {
    let mut census = Census::default();
    let mut todo = children(init, &mut 0);
    todo.extend(joined);
    while let Some(pid) = todo.pop() {
        census.pids.push(pid);
        todo.extend(children(pid, &mut census.tasks));
    }
    census
}

/// The children of all threads of a process, whose number is added to `threads`.
fn children(pid: i32, threads: &mut u64) -> Vec<i32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        *threads += 1;
        let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(listed.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
    }
    found
}

/// The memory of some processes in bytes, as far as it is over `enough`; otherwise a number that is at least as large as it.
///
/// Adding up resident sets is cheap, and never too little, since shared pages count several times. Only a sum over `enough` is
/// worth the exact one, in which each process has its share of a page.
pub fn memory(pids: &[i32], enough: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    let resident = pids.iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        Some(text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? * page)
    });
    let resident: Vec<u64> = resident.collect();
    let sum = resident.iter().sum();
    if sum <= enough {
        return sum;
    }
    pids.iter().map(|pid| proportional(*pid)).sum::<Option<u64>>().unwrap_or(sum)
}

fn proportional(pid: i32) -> Option<u64> {
    let text = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => text,
        // It has ended, or has given its memory back already.
        Err(err) if matches!(err.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ESRCH)) => {
            return Some(0);
        }
        Err(_) => return None,
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_added_up_with_hard_links_once_and_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("outside");
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("a/b")).unwrap();
        let empty = held_by(&top).unwrap();
        fs::write(&big, vec![1; 4 << 20]).unwrap();
        fs::write(top.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(top.join("a/b/file"), top.join("again")).unwrap();
        std::os::unix::fs::symlink(dir.path(), top.join("link")).unwrap();
        let held = held_by(&top).unwrap();
        let more = held.bytes - empty.bytes;
        assert!(((1 << 20)..(1 << 20) + 65_536).contains(&more), "{more}");
        assert_eq!((empty.longest, held.longest), (0, 1 << 20));
        // A hole takes no place, and still is a long file.
        fs::File::create(top.join("hole")).unwrap().set_len(1 << 30).unwrap();
        let holed = held_by(&top).unwrap();
        assert!(holed.bytes < 2 << 20 && holed.longest == 1 << 30, "{holed:?}");
        assert_eq!(holed.against(8 << 20), 1 << 30);
        assert_eq!(holed.against(2 << 30), holed.bytes);
    }

    #[test]
    fn a_tree_deeper_than_there_are_descriptors_or_bytes_in_a_path_is_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = rustix::fs::openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, c"deep", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, c"deep", flags, Mode::empty()).unwrap();
        }
        let file = rustix::fs::openat(&here, c"f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        rustix::io::write(&file, &[1; 4096]).unwrap();
        assert_eq!(held_by(dir.path()).unwrap().longest, 4096);
        crate::sandbox::remove_tree(&dir.keep()).unwrap();
    }

    #[test]
    fn the_children_of_this_process_are_found_with_their_memory() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let pid = child.id() as i32;
        let census = census(std::process::id() as i32, std::iter::empty());
        let memory = memory(&[pid], 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(census.pids.contains(&pid) && census.tasks >= 1, "{census:?}");
        assert!(memory > 0 && memory < 100 << 20, "{memory}");
    }
}
