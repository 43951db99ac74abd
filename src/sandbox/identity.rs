//! Which ids a worker's user namespace has: subordinate ones, one, or all.
//!
//! The maps are written from outside, by the process that started the worker: directly where it may, through newuidmap
//! and newgidmap (which know /etc/subuid and /etc/subgid) where it may not.

use std::io;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::idmap::{IdMap, IdRange, map_text};

/// Which ids are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityChoice {
    /// The best that works: all ids as real root, else subordinate ones, else one with emulation, else one alone.
    #[default]
    Auto,
    /// Subordinate ids, or an error.
    Subordinate,
    /// One id, the caller's, which is 0 inside, and a supervisor that records the owners that root inside asks for.
    Recorded,
    /// One id, and nothing is emulated.
    Single,
}

/// Which ids a worker has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The caller is 0 inside; the ids from 1 on are its subordinate ids.
    Subordinate {
        /// User ids.
        uid_ranges: Vec<IdRange>,
        /// Group ids.
        gid_ranges: Vec<IdRange>,
    },
    /// The caller is 0 inside, and nothing else exists.
    Single {
        /// The caller's user id.
        uid: u32,
        /// The caller's group id.
        gid: u32,
    },
    /// Every id of the caller is itself; the caller is root.
    Full {
        /// User ids.
        uid_ranges: Vec<IdRange>,
        /// Group ids.
        gid_ranges: Vec<IdRange>,
    },
}

/// Why a process could not be given its ids.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The caller has no subordinate ids.
    #[error(
        "user {user} has no subordinate ids in {file}; `usermod --add-subuids 100000-165535 --add-subgids \
             100000-165535 {user}` as root adds them"
    )]
    NoSubordinateIds {
        /// The caller's name or number.
        user: String,
        /// The file that has no line for it.
        file: &'static str,
    },
    /// newuidmap or newgidmap cannot be started.
    #[error("cannot run {program}: {source}; install the package `uidmap` (Fedora: `shadow-utils`)")]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// newuidmap or newgidmap refused.
    #[error(
        "{program} refused: {message}; it must be setuid root or have file capabilities, and {file} must hold the \
             range"
    )]
    Refused {
        /// Its name.
        program: &'static str,
        /// What it said.
        message: String,
        /// Where its permission stands.
        file: &'static str,
    },
    /// The kernel refused a map.
    #[error(
        "cannot write the id maps of process {pid}: {source}; AppArmor restricts user namespaces if that says \
             Permission denied (sysctl kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Write {
        /// The process.
        pid: i32,
        /// The cause.
        source: io::Error,
    },
}

/// Gives the process `pid`, a child in a new user namespace, its ids.
///
/// An error of [`IdentityChoice::Subordinate`] may leave one of the two maps written, so the process is then of no more use.
pub fn assign(pid: i32, choice: IdentityChoice) -> Result<Identity, IdentityError> {
    match choice {
        IdentityChoice::Single | IdentityChoice::Recorded => single(pid),
        IdentityChoice::Subordinate => subordinate(pid),
        IdentityChoice::Auto if nix::unistd::geteuid().is_root() => full(pid),
        IdentityChoice::Auto => subordinate(pid),
    }
}

fn full(pid: i32) -> Result<Identity, IdentityError> {
    let failed = |source: io::Error| IdentityError::Write { pid, source };
    let map = IdMap::of_this_process().map_err(failed)?.nested();
    map.write(pid, false).map_err(failed)?;
    if map.uids.iter().chain(&map.gids).all(|range| range.count == 1) && map.uids.len() == 1 {
        // Root of a namespace that itself has one id, as in a rootless container without subordinate ids.
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        return Ok(Identity::Single { uid, gid });
    }
    Ok(Identity::Full { uid_ranges: map.uids, gid_ranges: map.gids })
}

fn single(pid: i32) -> Result<Identity, IdentityError> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let one = |outer: u32| vec![IdRange { inner: 0, outer, count: 1 }];
    let map = IdMap { uids: one(uid), gids: one(gid), setgroups: false };
    map.write(pid, true).map_err(|source| IdentityError::Write { pid, source })?;
    Ok(Identity::Single { uid, gid })
}

fn subordinate(pid: i32) -> Result<Identity, IdentityError> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid().as_raw());
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let owner = Owner { uid: uid.as_raw(), name: user };
    let uid_ranges = owner.map_with(uid.as_raw(), "/etc/subuid", "-u")?;
    let gid_ranges = owner.map_with(gid, "/etc/subgid", "-g")?;
    // Both at once: nearly all their time is that of starting a program.
    let uids = Writer::start("newuidmap", "/etc/subuid", pid, &uid_ranges)?;
    let gids = Writer::start("newgidmap", "/etc/subgid", pid, &gid_ranges);
    uids.finish()?;
    gids?.finish()?;
    Ok(Identity::Subordinate { uid_ranges, gid_ranges })
}

struct Owner {
    uid: u32,
    name: Option<String>,
}

impl Owner {
    /// The map 0 → the caller, 1… → its subordinate ids.
    fn map_with(&self, own: u32, file: &'static str, option: &str) -> Result<Vec<IdRange>, IdentityError> {
        let listed = std::fs::read_to_string(file).unwrap_or_default();
        let mut granted = subordinate_ranges(&listed, self.name.as_deref(), self.uid);
        if granted.is_empty() {
            granted = self.ask_directory(option);
        }
        if granted.is_empty() {
            let user = self.name.clone().unwrap_or_else(|| self.uid.to_string());
            return Err(IdentityError::NoSubordinateIds { user, file });
        }
        let mut ranges = vec![IdRange { inner: 0, outer: own, count: 1 }];
        let mut inner = 1u32;
        for (start, count) in granted {
            ranges.push(IdRange { inner, outer: start, count });
            inner = inner.saturating_add(count);
        }
        Ok(ranges)
    }

    /// Users of a directory service have no line in the files; getsubids asks where nsswitch.conf says.
    fn ask_directory(&self, option: &str) -> Vec<(u32, u32)> {
        let mut command = Command::new("getsubids");
        if option == "-g" {
            command.arg(option);
        }
        command.arg(self.name.clone().unwrap_or_else(|| self.uid.to_string()));
        match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
            Ok(output) => getsubids_ranges(&String::from_utf8_lossy(&output.stdout)),
            Err(_) => Vec::new(),
        }
    }
}

/// One of the two programs at work.
struct Writer {
    program: &'static str,
    file: &'static str,
    child: std::process::Child,
}

impl Writer {
    fn start(
        program: &'static str,
        file: &'static str,
        pid: i32,
        ranges: &[IdRange],
    ) -> Result<Self, IdentityError> {
        let child = Command::new(program)
            .arg(pid.to_string())
            .args(map_text(ranges).split_ascii_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| IdentityError::NoProgram { program, source })?;
        Ok(Self { program, file, child })
    }

    fn finish(self) -> Result<(), IdentityError> {
        let Self { program, file, child } = self;
        let output =
            child.wait_with_output().map_err(|source| IdentityError::NoProgram { program, source })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let message = said.lines().next().unwrap_or_default().trim().to_owned();
        let message = if message.is_empty() { output.status.to_string() } else { message };
        Err(IdentityError::Refused { program, message, file })
    }
}

/// The ranges of /etc/subuid or /etc/subgid for a user given by name and number. Lines that say nothing are passed over.
pub(crate) fn subordinate_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.trim().split(':');
            let owner = parts.next()?;
            let start = parts.next()?.parse().ok()?;
            let count: u32 = parts.next()?.parse().ok()?;
            let ours = (Some(owner) == name || owner == number) && parts.next().is_none();
            usable(start, count).filter(|_| ours)
        })
        .collect()
}

/// The ranges that getsubids prints as `0: name 100000 65536`.
fn getsubids_ranges(text: &str) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().rev();
            let count = words.next()?.parse().ok()?;
            usable(words.next()?.parse().ok()?, count)
        })
        .collect()
}

fn usable(start: u32, count: u32) -> Option<(u32, u32)> {
    (count > 0 && start > 0 && start.checked_add(count).is_some()).then_some((start, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\n# bob:1:2\n1000:300000:10\nbob:x:1\nbob:5\nbob:7:0\nalice:4294967295:2\n\
                    alice:500000:5:6\n";
        assert_eq!(subordinate_ranges(text, Some("alice"), 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(subordinate_ranges(text, Some("bob"), 1), []);
        assert_eq!(subordinate_ranges(text, None, 1000), [(300_000, 10)]);
    }

    #[test]
    fn what_getsubids_prints_is_understood() {
        assert_eq!(getsubids_ranges("0: alice 100000 65536\n1: alice 7 3\n"), [(100_000, 65_536), (7, 3)]);
        assert_eq!(getsubids_ranges("Error fetching ranges\n"), []);
    }
}
