//! Who a process believes to be.
//!
//! The kernel's ids never change with one id mapped. What a process asked for is kept as the number of an interned set of
//! credentials, and the number in a place that fork and exec inherit without any help: the distance of the soft from the hard
//! limit `RLIMIT_RTTIME`, which means something to real-time processes only. That is faithful emulation, not a wall: a process
//! that changes this limit changes who it believes to be, and gains nothing by it.

use std::collections::HashMap;

use nix::libc;
use rustix::io::Errno;

/// An id that means "leave as it is".
pub(super) const SAME: u32 = u32::MAX;

/// Most supplementary groups (`NGROUPS_MAX`).
pub(super) const MAX_GROUPS: usize = 65_536;

/// The ids of one kind: real, effective, saved, and that of file accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) files: u32,
}

impl Ids {
    pub(super) fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, files: id }
    }

    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2) and setgid(2).
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if id == SAME {
            return Err(Errno::INVAL);
        }
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            (self.effective, self.files) = (id, id);
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// setreuid(2) and setregid(2).
    fn set_re(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let old = *self;
        if real != SAME {
            if !privileged && real != old.real && real != old.effective {
                return Err(Errno::PERM);
            }
            self.real = real;
        }
        if effective != SAME {
            if !privileged && !old.has(effective) {
                *self = old;
                return Err(Errno::PERM);
            }
            self.effective = effective;
        }
        if real != SAME || (effective != SAME && effective != old.real) {
            self.saved = self.effective;
        }
        self.files = self.effective;
        Ok(())
    }

    /// setresuid(2) and setresgid(2).
    fn set_res(&mut self, ids: [u32; 3], privileged: bool) -> Result<(), Errno> {
        if !privileged && ids.iter().any(|id| *id != SAME && !self.has(*id)) {
            return Err(Errno::PERM);
        }
        for (place, id) in [&mut self.real, &mut self.effective, &mut self.saved].into_iter().zip(ids) {
            if id != SAME {
                *place = id;
            }
        }
        self.files = self.effective;
        Ok(())
    }

    /// setfsuid(2) and setfsgid(2), which give the old id and fail without a word.
    fn set_files(&mut self, id: u32, privileged: bool) -> u32 {
        let old = self.files;
        if id != SAME && (privileged || self.has(id) || id == self.files) {
            self.files = id;
        }
        old
    }
}

/// What a process believes to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Creds {
    pub(super) uids: Ids,
    pub(super) gids: Ids,
    pub(super) groups: Vec<u32>,
    /// The wish to keep capabilities when user 0 becomes somebody else (`PR_SET_KEEPCAPS`).
    keeps: bool,
    /// The program in which capabilities were kept so; another program has lost them.
    kept_in: Option<Program>,
}

/// A program under way: where its code and its stack begin, which every execve places anew.
pub(super) type Program = (u64, u64);

/// A change that a process asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Uid(u32),
    Gid(u32),
    Reuid(u32, u32),
    Regid(u32, u32),
    Resuid([u32; 3]),
    Resgid([u32; 3]),
    Fsuid(u32),
    Fsgid(u32),
    Groups(Vec<u32>),
    KeepCapabilities(bool),
}

impl Creds {
    pub(super) fn of(uid: u32, gid: u32, groups: &[u32]) -> Self {
        Self { uids: Ids::all(uid), gids: Ids::all(gid), groups: groups.to_vec(), ..Self::default() }
    }

    /// Whether files that it makes belong to 0:0 and it may give files away.
    pub(super) fn is_root(&self) -> bool {
        self.uids.files == 0
    }

    pub(super) fn makes_root_files(&self) -> bool {
        self.uids.files == 0 && self.gids.files == 0
    }

    pub(super) fn in_group(&self, gid: u32) -> bool {
        self.gids.files == gid || self.groups.contains(&gid)
    }

    /// Applies a change by the kernel's rules; gives what the call gives.
    ///
    /// User 0 stands for CAP_SETUID and CAP_SETGID, which it has unless it gave them up. `program` tells which program this is.
    pub(super) fn apply(
        &mut self,
        change: Change,
        program: impl FnOnce() -> Option<Program>,
    ) -> Result<i64, Errno> {
        let program = if self.keeps || self.kept_in.is_some() { program() } else { None };
        let kept = program.is_some() && self.kept_in == program;
        let was_root = self.uids.has(0);
        let value = self.apply_as(change, kept || self.uids.effective == 0)?;
        if was_root && !self.uids.has(0) {
            self.kept_in = program.filter(|_| self.keeps);
        }
        Ok(value)
    }

    fn apply_as(&mut self, change: Change, privileged: bool) -> Result<i64, Errno> {
        match change {
            Change::Uid(id) => self.uids.set(id, privileged)?,
            Change::Gid(id) => self.gids.set(id, privileged)?,
            Change::Reuid(real, effective) => self.uids.set_re(real, effective, privileged)?,
            Change::Regid(real, effective) => self.gids.set_re(real, effective, privileged)?,
            Change::Resuid(ids) => self.uids.set_res(ids, privileged)?,
            Change::Resgid(ids) => self.gids.set_res(ids, privileged)?,
            Change::Fsuid(id) => return Ok(i64::from(self.uids.set_files(id, privileged))),
            Change::Fsgid(id) => return Ok(i64::from(self.gids.set_files(id, privileged))),
            Change::Groups(groups) => {
                if !privileged {
                    return Err(Errno::PERM);
                }
                if groups.len() > MAX_GROUPS {
                    return Err(Errno::INVAL);
                }
                self.groups = groups;
            }
            Change::KeepCapabilities(keeps) => self.keeps = keeps,
        }
        Ok(0)
    }
}

/// All sets of credentials that processes of one sandbox have had.
#[derive(Debug)]
pub(super) struct Known {
    sets: Vec<Creds>,
    numbers: HashMap<Creds, u64>,
}

impl Default for Known {
    /// With plain root, which is every process without a mark.
    fn default() -> Self {
        let root = Creds::default();
        Self { numbers: HashMap::from([(root.clone(), 0)]), sets: vec![root] }
    }
}

impl Known {
    /// The number of a set.
    pub(super) fn number(&mut self, creds: &Creds) -> u64 {
        if let Some(number) = self.numbers.get(creds) {
            return *number;
        }
        let number = self.sets.len() as u64;
        self.sets.push(creds.clone());
        self.numbers.insert(creds.clone(), number);
        number
    }

    /// Who a thread's process believes to be.
    pub(super) fn of(&self, tid: u32) -> &Creds {
        // Nobody has become anything else: no need to ask.
        let number = if self.sets.len() == 1 { 0 } else { mark(tid).map_or(0, |(hard, soft)| hard - soft) };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.sets.get(number).unwrap_or(&self.sets[0])
    }

    /// Changes who a thread's process believes to be; gives what the call gives.
    pub(super) fn change(&mut self, tid: u32, change: Change) -> Result<i64, Errno> {
        let mut creds = self.of(tid).clone();
        let value = creds.apply(change, || program(tid))?;
        let number = self.number(&creds);
        let (hard, _) = mark(tid)?;
        limit(tid, Some(libc::rlimit64 { rlim_cur: hard.saturating_sub(number), rlim_max: hard }))?;
        Ok(value)
    }
}

/// The program that a thread runs; `None` when it cannot be told.
fn program(tid: u32) -> Option<Program> {
    let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    // Behind the name, which may hold anything, the fields begin with the third (proc(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(26 - 3);
    let (code, _end, stack) = (fields.next()?, fields.next()?, fields.next()?);
    Some((code.parse().ok()?, stack.parse().ok()?))
}

/// Hard and soft limit, in which the number lies.
fn mark(tid: u32) -> Result<(u64, u64), Errno> {
    let limit = limit(tid, None)?;
    Ok((limit.rlim_max, limit.rlim_cur.min(limit.rlim_max)))
}

fn limit(tid: u32, new: Option<libc::rlimit64>) -> Result<libc::rlimit64, Errno> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both structures live across the call; a null one is passed over.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, tid, libc::RLIMIT_RTTIME, new, &raw mut old) };
    if done < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::ESRCH);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(old)
}

/// Gives the calling process the mark of a set of credentials. System calls only.
pub(crate) fn mark_self(number: u64) -> Result<(), Errno> {
    let now = limit(0, None)?;
    limit(0, Some(libc::rlimit64 { rlim_cur: now.rlim_max.saturating_sub(number), ..now })).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Option<Program> {
        None
    }

    #[test]
    fn root_becomes_somebody_for_good() {
        let mut creds = Creds::default();
        creds.apply(Change::Groups(vec![7]), nowhere).unwrap();
        creds.apply(Change::Resgid([100; 3]), nowhere).unwrap();
        creds.apply(Change::Resuid([42; 3]), nowhere).unwrap();
        assert_eq!(creds.apply(Change::Uid(0), nowhere), Err(Errno::PERM));
        assert_eq!(creds.apply(Change::Resuid([SAME, 0, SAME]), nowhere), Err(Errno::PERM));
        assert_eq!(creds.apply(Change::Groups(vec![]), nowhere), Err(Errno::PERM));
        assert_eq!(creds.apply(Change::Gid(0), nowhere), Err(Errno::PERM));
        assert_eq!((creds.uids, creds.gids), (Ids::all(42), Ids::all(100)));
        assert!(!creds.is_root() && creds.in_group(7) && creds.in_group(100) && !creds.in_group(0));
    }

    #[test]
    fn a_saved_id_is_a_way_back() {
        let mut creds = Creds::default();
        creds.apply(Change::Resuid([SAME, 42, SAME]), nowhere).unwrap();
        assert_eq!(creds.uids, Ids { real: 0, effective: 42, saved: 0, files: 42 });
        creds.apply(Change::Uid(0), nowhere).unwrap();
        assert_eq!(creds.uids, Ids::all(0));
        creds.apply(Change::Reuid(SAME, 9), nowhere).unwrap();
        assert_eq!(creds.uids, Ids { real: 0, effective: 9, saved: 9, files: 9 });
        creds.apply(Change::Reuid(9, 0), nowhere).unwrap();
        assert_eq!(creds.uids, Ids { real: 9, effective: 0, saved: 0, files: 0 });
    }

    #[test]
    fn the_id_of_file_accesses_follows_and_can_stand_alone() {
        let mut creds = Creds::default();
        assert_eq!(creds.apply(Change::Fsuid(5), nowhere), Ok(0));
        assert_eq!(creds.apply(Change::Fsuid(SAME), nowhere), Ok(5));
        assert!(!creds.is_root());
        creds.apply(Change::Uid(3), nowhere).unwrap();
        assert_eq!(creds.apply(Change::Fsuid(0), nowhere), Ok(3), "refused without a word");
        assert_eq!(creds.uids.files, 3);
    }

    #[test]
    fn capabilities_are_kept_on_demand_until_another_program_runs() {
        let mut creds = Creds::default();
        let (this, other) = (|| Some((1, 1)), || Some((1, 2)));
        creds.apply(Change::KeepCapabilities(true), this).unwrap();
        creds.apply(Change::Resuid([5; 3]), this).unwrap();
        creds.apply(Change::Resgid([6; 3]), this).unwrap();
        assert_eq!(creds.apply(Change::Uid(0), other), Err(Errno::PERM));
        assert_eq!(creds.apply(Change::Groups(vec![]), this), Ok(0));
    }

    #[test]
    fn a_set_has_one_number() {
        let mut known = Known::default();
        assert_eq!(known.number(&Creds::of(0, 0, &[])), 0);
        assert_eq!(known.number(&Creds::of(5, 5, &[])), 1);
        assert_eq!(known.number(&Creds::of(5, 5, &[])), 1);
    }
}
