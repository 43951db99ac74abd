//! Turns: of several who want the same thing done, one does it and the others wait for it.
//!
//! # Locking
//! Whose turn it is holds an exclusive `flock(2)` on a file, in which it has written its process id. At the end it adds whether the thing was done, and removes the
//! file. Who waits has the same file open, so it can still read that. A file that is there and that nobody holds is of a process that was killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{Context, DiskError};
use super::file::create_dir_all_private;
use super::lock::is_named;

/// The second line of a file whose owner did what it was there for.
const DONE: &str = "done";

/// More than such a file ever holds: a process id, and one word.
const MAX_TURN_BYTES: usize = 64;

/// What came of asking for a turn.
#[derive(Debug)]
pub enum Asked {
    /// It is the caller's turn.
    Mine(Turn),
    /// Somebody else is at it.
    Theirs(Waiting),
}

/// The right, and the duty, to do something that others wait for. Dropped, or with the death of the process, the next one gets it.
#[derive(Debug)]
pub struct Turn {
    held: Flock<File>,
    path: PathBuf,
    /// Where the word goes that says that it was done.
    end: u64,
}

/// Somebody else's turn.
#[derive(Debug)]
pub struct Waiting {
    file: File,
    path: PathBuf,
}

/// How it stands with somebody else's turn.
#[derive(Debug)]
pub enum Look {
    /// It is still theirs.
    Theirs(Waiting),
    /// They died: now it is the caller's.
    Mine(Turn),
    /// They have ended: they did it, or have given it up.
    Over {
        /// Whether it was done, well or not.
        done: bool,
    },
}

impl Turn {
    /// Asks for the turn that a path stands for; never waits.
    pub fn ask(path: &Path) -> Result<Asked, DiskError> {
        loop {
            let file = match open(path) {
                Err(error) if error.is_not_found() => {
                    create_dir_all_private(path.parent().unwrap_or(Path::new(".")))?;
                    open(path)?
                }
                opened => opened?,
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => {
                    if let Some(turn) = Self::begin(held, path)? {
                        return Ok(Asked::Mine(turn));
                    }
                }
                Err((file, Errno::EWOULDBLOCK)) => {
                    return Ok(Asked::Theirs(Waiting { file, path: path.to_owned() }));
                }
                Err((_, Errno::EINTR)) => {}
                Err((_, errno)) => return Err(DiskError::new("lock", path, errno)),
            }
        }
    }

    /// Takes a file that was locked; `None` when it has no name any more.
    fn begin(held: Flock<File>, path: &Path) -> Result<Option<Self>, DiskError> {
        if !is_named(&held, path)? {
            return Ok(None);
        }
        if held.metadata().context("look at", path)?.len() > 0 {
            // Of an owner that was killed; what it wrote last does not count.
            held.set_len(0).context("empty", path)?;
        }
        let line = format!("{}\n", std::process::id());
        // On a full disk the turn is as good; only nobody can be told whose it is.
        let written = held.write_all_at(line.as_bytes(), 0);
        let end = if written.is_ok() { line.len() as u64 } else { 0 };
        Ok(Some(Self { held, path: path.to_owned(), end }))
    }

    /// Ends the turn and says that it was done: those who wait need not try it one after the other.
    pub fn done(self) {
        // Where that cannot be written one of them takes over, which is slower and right.
        let _ = self.held.write_all_at(format!("{DONE}\n").as_bytes(), self.end);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lock goes, so that nobody can have got it on this file. A file that stays is the next one's.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Waiting {
    /// The process whose turn it is, as it calls itself.
    pub fn owner(&self) -> Option<u32> {
        self.text().lines().next()?.parse().ok()
    }

    /// Looks whether it is still their turn; never waits.
    pub fn look(self) -> Result<Look, DiskError> {
        if self.is_removed()? {
            return Ok(self.over());
        }
        match Flock::lock(self.file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => {
                if held.metadata().context("look at", &self.path)?.nlink() == 0 {
                    let file =
                        held.unlock().map_err(|(_, errno)| DiskError::new("unlock", &self.path, errno))?;
                    return Ok(Self { file, path: self.path }.over());
                }
                Ok(Turn::begin(held, &self.path)?.map_or(Look::Over { done: false }, Look::Mine))
            }
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                Ok(Look::Theirs(Self { file, path: self.path }))
            }
            Err((_, errno)) => Err(DiskError::new("lock", &self.path, errno)),
        }
    }

    fn is_removed(&self) -> Result<bool, DiskError> {
        Ok(self.file.metadata().context("look at", &self.path)?.nlink() == 0)
    }

    fn over(&self) -> Look {
        Look::Over { done: self.text().lines().any(|line| line == DONE) }
    }

    fn text(&self) -> String {
        let mut bytes = [0; MAX_TURN_BYTES];
        let count = self.file.read_at(&mut bytes, 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

/// Removes what killed owners left in a directory of turns, which need not be there.
pub fn sweep_turns(dir: &Path) -> Result<(), DiskError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.context("list", dir)?,
    };
    for entry in entries {
        let path = entry.context("list", dir)?.path();
        if let Some(_lock) = super::FileLock::try_acquire_existing(&path)? {
            // Another sweeper may have been quicker.
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, DiskError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).context("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(path: &Path) -> Turn {
        match Turn::ask(path).unwrap() {
            Asked::Mine(turn) => turn,
            Asked::Theirs(_) => panic!("the turn is somebody else's"),
        }
    }

    fn theirs(path: &Path) -> Waiting {
        match Turn::ask(path).unwrap() {
            Asked::Mine(_) => panic!("two have the turn"),
            Asked::Theirs(waiting) => waiting,
        }
    }

    #[test]
    fn one_has_the_turn_and_the_others_hear_whether_it_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turns/a");
        let turn = mine(&path);
        let first = theirs(&path);
        assert_eq!(first.owner(), Some(std::process::id()));
        let Look::Theirs(first) = first.look().unwrap() else { panic!("it is not over") };
        let second = theirs(&path);
        turn.done();
        assert!(!path.exists());
        assert!(matches!(first.look().unwrap(), Look::Over { done: true }));
        // Whoever comes later has a turn of its own, and that does not change what was said of the old one.
        let _later = mine(&path);
        assert!(matches!(second.look().unwrap(), Look::Over { done: true }));
    }

    #[test]
    fn a_turn_that_was_given_up_is_over_and_not_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let turn = mine(&path);
        let waiting = theirs(&path);
        drop(turn);
        assert!(matches!(waiting.look().unwrap(), Look::Over { done: false }));
    }

    #[test]
    fn the_turn_of_the_dead_goes_to_one_who_waits_whatever_it_wrote_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "999999999\ndone\n").unwrap();
        let held = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        let (first, second) = (theirs(&path), theirs(&path));
        assert_eq!(first.owner(), Some(999_999_999));
        drop(held);
        let Look::Mine(turn) = first.look().unwrap() else { panic!("nobody else has it") };
        let Look::Theirs(second) = second.look().unwrap() else { panic!("it is taken") };
        assert_eq!(second.owner(), Some(std::process::id()));
        drop(turn);
        assert!(matches!(second.look().unwrap(), Look::Over { done: false }));
    }

    #[test]
    fn a_sweep_takes_what_the_dead_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        sweep_turns(&dir.path().join("none")).unwrap();
        let alive = mine(&dir.path().join("alive"));
        std::fs::write(dir.path().join("dead"), "999999999\n").unwrap();
        sweep_turns(dir.path()).unwrap();
        assert!(dir.path().join("alive").exists());
        assert!(!dir.path().join("dead").exists());
        drop(alive);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn of_many_threads_one_at_a_time_has_the_turn() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let (inside, turns) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut had = 0;
                    while had < 50 {
                        let mut asked = Turn::ask(&path).unwrap();
                        loop {
                            match asked {
                                Asked::Mine(turn) => {
                                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                                    inside.fetch_sub(1, Ordering::SeqCst);
                                    turns.fetch_add(1, Ordering::Relaxed);
                                    had += 1;
                                    if had % 2 == 0 {
                                        turn.done()
                                    } else {
                                        drop(turn)
                                    }
                                    break;
                                }
                                Asked::Theirs(waiting) => match waiting.look().unwrap() {
                                    Look::Theirs(waiting) => asked = Asked::Theirs(waiting),
                                    Look::Mine(turn) => asked = Asked::Mine(turn),
                                    Look::Over { .. } => break,
                                },
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 400);
        assert!(!path.exists());
    }
}
