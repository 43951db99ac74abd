//! Changes of owner, what files are shown to be, and files that move.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::calls::Call;
use super::creds::SAME;
use super::notify::Answer;
use super::records::{Recorded, look};
use super::stat::{patch, stat_bytes, statx_bytes};
use super::target::Stop;
use super::{Ask, Emulator};

impl Emulator {
    /// What a file is by now: as recorded, as the image says, or as on disk.
    pub(super) fn is_now(&self, fd: &OwnedFd, stat: &libc::statx) -> Result<Recorded, Stop> {
        let shown = self.records.shown(&self.origin, fd, stat)?;
        let on_disk = || Recorded { uid: stat.stx_uid, gid: stat.stx_gid, ..Recorded::default() };
        Ok(shown.cloned().unwrap_or_else(on_disk))
    }

    /// Records what a file is to be.
    pub(super) fn note(&mut self, fd: &OwnedFd, stat: &libc::statx, recorded: Recorded) -> Result<(), Stop> {
        let directory = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
        // Whether its mode makes it give its group may change at any time.
        self.gives_group |= directory && recorded.gid != 0;
        self.records.note(&self.origin, fd, recorded)
    }

    /// chown(2) and its kin.
    pub(super) fn chown(&mut self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        let (fd, first) = match call {
            Call::Chown { follow } => (ask.target.resolve(libc::AT_FDCWD, &ask.path(0)?, follow)?, 1),
            Call::Fchown => (ask.target.descriptor(ask.fd(0))?, 1),
            _ => (ask.at(0, 1, ask.word(4))?, 2),
        };
        let (uid, gid) = (ask.word(first), ask.word(first + 1));
        let mut stat = look(&fd)?;
        let mut now = self.is_now(&fd, &stat)?;
        let creds = self.creds(ask);
        if !creds.is_root() {
            let keeps = uid == SAME || uid == now.uid;
            let own = now.uid == creds.uids.files && keeps && (gid == SAME || creds.in_group(gid));
            if !own {
                return Err(Errno::PERM.into());
            }
        }
        ask.still()?;
        // The real thing, to the one owner there is: the file gets an inode where the changes go, loses its setuid bit and gets a new
        // ctime, and what forbids it (a read-only mount, a file of the host) forbids it here too.
        let real = |id: u32| (id != SAME).then_some(0);
        let (to_uid, to_gid) = (real(uid).map(Uid::from_raw), real(gid).map(Gid::from_raw));
        rustix::fs::chownat(&fd, c"", to_uid, to_gid, AtFlags::EMPTY_PATH)?;
        if uid != SAME {
            now.uid = uid;
        }
        if gid != SAME {
            now.gid = gid;
        }
        if uid != SAME || gid != SAME {
            stat = look(&fd)?;
            self.note(&fd, &stat, now)?;
        }
        Ok(Answer::Value(0))
    }

    /// stat(2) and its kin.
    pub(super) fn stat(&self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        if self.records.is_empty() {
            return Err(Stop::Continue);
        }
        // Most calls ask for a file by its own name, and of that nothing was ever said.
        let named = match call {
            Call::Stat { follow: false } => Some(0),
            Call::Fstatat if ask.word(3) & libc::AT_SYMLINK_NOFOLLOW as u32 != 0 => Some(1),
            Call::Statx if ask.word(2) & libc::AT_SYMLINK_NOFOLLOW as u32 != 0 => Some(1),
            _ => None,
        };
        let empty = match call {
            Call::Fstat => true,
            Call::Fstatat => ask.word(3) & libc::AT_EMPTY_PATH as u32 != 0,
            Call::Statx => ask.word(2) & libc::AT_EMPTY_PATH as u32 != 0,
            _ => false,
        };
        // A descriptor knows the name under which its file was opened, as it is now.
        let by_descriptor = call == Call::Fstat || empty && (ask.arg(1) == 0 || ask.path(1)?.is_empty());
        let name = match named {
            _ if by_descriptor && ask.fd(0) >= 0 => Some(ask.target.descriptor_path(ask.fd(0))?),
            Some(at) if !by_descriptor => Some(ask.path(at)?),
            _ => None,
        };
        if name.is_some_and(|name| !self.records.may_know(&name)) {
            return Err(Stop::Continue);
        }
        let (fd, buffer) = match call {
            Call::Stat { follow } => (ask.target.resolve(libc::AT_FDCWD, &ask.path(0)?, follow)?, 1),
            Call::Fstat => (ask.target.descriptor(ask.fd(0))?, 1),
            Call::Fstatat => (ask.at(0, 1, ask.word(3))?, 2),
            _ => (ask.at(0, 1, ask.word(2))?, 4),
        };
        let mut stat = look(&fd)?;
        let Some(recorded) = self.records.shown(&self.origin, &fd, &stat)? else {
            return Err(Stop::Continue);
        };
        patch(&mut stat, recorded);
        match call {
            Call::Statx => ask.target.write(ask.arg(buffer), statx_bytes(&stat))?,
            _ => ask.target.write(ask.arg(buffer), &stat_bytes(&stat))?,
        }
        Ok(Answer::Value(0))
    }

    /// link(2) and linkat(2), which the kernel makes. What the image says of a file is known by its path, so before it gets another one
    /// it gets a record.
    pub(super) fn link(&mut self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        if self.records.is_empty() {
            return Err(Stop::Continue);
        }
        // The new name first: whatever becomes of it, it is then known.
        self.records.also_named(&ask.path(if call == Call::Link { 1 } else { 3 })?);
        let fd = if call == Call::Link {
            ask.target.resolve(libc::AT_FDCWD, &ask.path(0)?, false)?
        } else {
            // Its flag says the opposite of that of the others.
            let follow = ask.word(4) & libc::AT_SYMLINK_FOLLOW as u32 != 0;
            let nofollow = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW as u32 };
            ask.at(0, 1, ask.word(4) & libc::AT_EMPTY_PATH as u32 | nofollow)?
        };
        self.keep(ask, &fd)?;
        Err(Stop::Continue)
    }

    /// rename(2) and its kin, made here when the image says something of one of the two paths: afterwards it does not any more.
    pub(super) fn rename(
        &mut self,
        ask: &Ask<'_>,
        dirs: [Option<usize>; 2],
        paths: [usize; 2],
        flagged: bool,
    ) -> Result<Answer, Stop> {
        if self.records.is_empty() {
            return Err(Stop::Continue);
        }
        let dir = |at: Option<usize>| at.map_or(libc::AT_FDCWD, |at| ask.fd(at));
        let [old, new] = [ask.path(paths[0])?, ask.path(paths[1])?];
        match [self.records.may_know(&old), self.records.may_know(&new)] {
            [false, false] => return Err(Stop::Continue),
            // Exchanged names count as well.
            _ => [&old, &new].map(|path| self.records.also_named(path)),
        };
        if self.records.image_is_empty() {
            return Err(Stop::Continue);
        }
        let (from, old) = ask.target.resolve_parent(dir(dirs[0]), &old)?;
        let (to, new) = ask.target.resolve_parent(dir(dirs[1]), &new)?;
        let ends = [self.origin.path_in(&from, &old)?, self.origin.path_in(&to, &new)?];
        if !ends.iter().flatten().any(|path| self.records.image_has(path)) {
            return Err(Stop::Continue);
        }
        let flags = if flagged { ask.word(4) } else { 0 };
        let flags = RenameFlags::from_bits_retain(flags);
        let open = |dir: &OwnedFd, name: &[u8]| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::empty())
        };
        self.keep(ask, &open(&from, &old)?)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            self.keep(ask, &open(&to, &new)?)?;
        }
        ask.still()?;
        rustix::fs::renameat_with(&from, old.as_slice(), &to, new.as_slice(), flags)?;
        for path in ends.iter().flatten() {
            self.records.image_lost(path);
        }
        Ok(Answer::Value(0))
    }

    /// unlink(2) and its kin, made here when the image says something of the path: what comes there next is another file.
    pub(super) fn unlink(
        &mut self,
        ask: &Ask<'_>,
        dir: Option<usize>,
        directory: bool,
    ) -> Result<Answer, Stop> {
        if self.records.image_is_empty() {
            return Err(Stop::Continue);
        }
        let path = ask.path(if dir.is_some() { 1 } else { 0 })?;
        if !self.records.may_know(&path) {
            return Err(Stop::Continue);
        }
        let dirfd = dir.map_or(libc::AT_FDCWD, |at| ask.fd(at));
        let (parent, name) = ask.target.resolve_parent(dirfd, &path)?;
        let Some(known) = self.origin.path_in(&parent, &name)?.filter(|path| self.records.image_has(path))
        else {
            return Err(Stop::Continue);
        };
        ask.still()?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&parent, name.as_slice(), flags)?;
        self.records.image_lost(&known);
        Ok(Answer::Value(0))
    }

    fn keep(&mut self, ask: &Ask<'_>, fd: &OwnedFd) -> Result<(), Stop> {
        let stat = look(fd)?;
        let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
        // A directory of the image cannot be renamed in an overlay: programs copy it instead (EXDEV).
        if kind == libc::S_IFDIR || self.records.has(&self.origin, fd, &stat)? {
            return Ok(());
        }
        let Some(recorded) = self.records.shown(&self.origin, fd, &stat)?.cloned() else { return Ok(()) };
        ask.still()?;
        copy_up(fd, &stat)?;
        self.note(fd, &stat, recorded)
    }
}

/// Gives a file an inode where the changes go and changes nothing of it.
pub(super) fn copy_up(fd: &OwnedFd, stat: &libc::statx) -> Result<(), Errno> {
    if u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFLNK {
        return rustix::fs::chownat(fd, c"", Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::EMPTY_PATH);
    }
    // Not a change of owner, which would take setuid bits and capabilities away.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmod(path, Mode::from_raw_mode(u32::from(stat.stx_mode) & 0o7777))
}
