//! What processes make: device nodes, and files of whom they believe to be.
//!
//! The kernel makes everything itself when it is to be 0:0. Else it is made here, exclusively and with the maker's mask, so that
//! whatever was made is known and can be recorded before anybody uses it.

use std::os::fd::OwnedFd;

use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::calls::Call;
use super::creds::Creds;
use super::notify::Answer;
use super::records::{Device, Recorded, look};
use super::target::Stop;
use super::{Ask, Emulator};

/// Where something is to be made, and whose it will be.
struct Place {
    parent: OwnedFd,
    name: Vec<u8>,
    owner: Recorded,
}

impl Place {
    /// Makes something under the thread's mask.
    fn make<T>(
        &self,
        ask: &Ask<'_>,
        act: impl FnOnce(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Stop> {
        let mask = ask.target.umask()?;
        ask.still()?;
        let own = rustix::process::umask(Mode::from_raw_mode(mask));
        let made = act(&self.parent, &self.name);
        rustix::process::umask(own);
        Ok(made?)
    }

    fn open(&self) -> Result<OwnedFd, Stop> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.parent, self.name.as_slice(), flags, Mode::empty())?)
    }
}

/// Whether the bits of a directory let somebody make names in it. The kernel asks that for the one id, which owns everything.
fn may_make(creds: &Creds, directory: &Recorded, mode: u16) -> bool {
    const WRITE_AND_SEARCH: u16 = 3;
    let bits = if directory.uid == creds.uids.files {
        mode >> 6
    } else if creds.in_group(directory.gid) {
        mode >> 3
    } else {
        mode
    };
    bits & WRITE_AND_SEARCH == WRITE_AND_SEARCH
}

impl Emulator {
    /// Whether whatever is made belongs to 0:0.
    fn makes_plain(&self, ask: &Ask<'_>) -> bool {
        !self.gives_group && self.creds(ask).makes_root_files()
    }

    /// Whether a plain name in a directory will be 0:0, found out by one look at the directory: the usual case, and worth it.
    fn is_plain_name(&self, ask: &Ask<'_>, dirfd: i32, path: &[u8]) -> bool {
        self.creds(ask).makes_root_files()
            && !path.contains(&b'/')
            && ask.target.directory_mode(dirfd).is_ok_and(|mode| mode & libc::S_ISGID == 0)
    }

    fn place(&self, ask: &Ask<'_>, dirfd: i32, path: &[u8]) -> Result<Place, Stop> {
        let (parent, name) = ask.target.resolve_parent(dirfd, path)?;
        let stat = look(&parent)?;
        let creds = self.creds(ask);
        let gives_group = u32::from(stat.stx_mode) & libc::S_ISGID != 0;
        let gid = if gives_group { self.is_now(&parent, &stat)?.gid } else { creds.gids.files };
        if !creds.is_root() && !may_make(creds, &self.is_now(&parent, &stat)?, stat.stx_mode) {
            // What is there needs no permission to be made: the kernel opens it, or says that it exists.
            let there = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            return Err(if there { Stop::Continue } else { Errno::ACCESS.into() });
        }
        let owner = Recorded { uid: creds.uids.files, gid, ..Recorded::default() };
        Ok(Place { parent, name, owner })
    }

    fn note_made(&mut self, place: Place) -> Result<(), Stop> {
        let fd = place.open()?;
        let stat = look(&fd)?;
        self.note(&fd, &stat, place.owner)
    }

    /// open(2) and its kin with O_CREAT.
    pub(super) fn open(&mut self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        if self.makes_plain(ask) {
            return Err(Stop::Continue);
        }
        let (dirfd, path, flags, mode) = match call {
            Call::Open => (libc::AT_FDCWD, ask.path(0)?, ask.word(1), ask.word(2)),
            Call::Creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                (libc::AT_FDCWD, ask.path(0)?, flags as u32, ask.word(1))
            }
            Call::Openat => (ask.fd(0), ask.path(1)?, ask.word(2), ask.word(3)),
            _ => {
                // struct open_how: flags, mode, resolve. Rules for the resolution are left to the kernel.
                let mut how = [0u8; 24];
                ask.target.read(ask.arg(2), &mut how)?;
                let number = |at: usize| {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&how[at..at + 8]);
                    u64::from_ne_bytes(bytes)
                };
                if number(16) != 0 {
                    return Err(Stop::Continue);
                }
                (ask.fd(0), ask.path(1)?, number(0) as u32, number(8) as u32)
            }
        };
        let flags = OFlags::from_bits_retain(flags);
        let unusual = flags.intersects(OFlags::PATH | OFlags::DIRECTORY) || !flags.contains(OFlags::CREATE);
        if unusual || path.ends_with(b"/") || self.is_plain_name(ask, dirfd, &path) {
            return Err(Stop::Continue);
        }
        let place = self.place(ask, dirfd, &path)?;
        if place.owner.is_plain() {
            return Err(Stop::Continue);
        }
        let ours = flags | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let made = place.make(ask, |parent, name| rustix::fs::openat(parent, name, ours, mode));
        let fd = match made {
            // Nothing is made then: the kernel opens what is there.
            Err(Stop::Error(Errno::EXIST)) if !flags.contains(OFlags::EXCL) => return Err(Stop::Continue),
            made => made?,
        };
        self.note_made(place)?;
        Ok(Answer::Descriptor { fd, close_on_exec: flags.contains(OFlags::CLOEXEC) })
    }

    pub(super) fn mkdir(&mut self, ask: &Ask<'_>, dirfd: Option<usize>, path: usize) -> Result<Answer, Stop> {
        if self.makes_plain(ask) {
            return Err(Stop::Continue);
        }
        let place = self.place(ask, dirfd.map_or(libc::AT_FDCWD, |at| ask.fd(at)), &ask.path(path)?)?;
        if place.owner.is_plain() {
            return Err(Stop::Continue);
        }
        let mode = Mode::from_raw_mode(ask.word(path + 1) & 0o1777);
        place.make(ask, |parent, name| rustix::fs::mkdirat(parent, name, mode))?;
        self.note_made(place)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn symlink(
        &mut self,
        ask: &Ask<'_>,
        dirfd: Option<usize>,
        path: usize,
    ) -> Result<Answer, Stop> {
        if self.makes_plain(ask) {
            return Err(Stop::Continue);
        }
        let target = ask.path(0)?;
        let at = ask.path(path)?;
        let place = self.place(ask, dirfd.map_or(libc::AT_FDCWD, |at| ask.fd(at)), &at)?;
        if place.owner.is_plain() || at.ends_with(b"/") {
            return Err(Stop::Continue);
        }
        place.make(ask, |parent, name| rustix::fs::symlinkat(target.as_slice(), parent, name))?;
        self.note_made(place)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn mknod(&mut self, ask: &Ask<'_>, dirfd: Option<usize>, path: usize) -> Result<Answer, Stop> {
        let (mode, number) = (ask.word(path + 1), ask.word(path + 2));
        let device = match mode & libc::S_IFMT {
            libc::S_IFCHR => Some(true),
            libc::S_IFBLK => Some(false),
            _ => None,
        };
        if device.is_none() && self.makes_plain(ask) {
            return Err(Stop::Continue);
        }
        // The kernel's own encoding of device numbers (linux/kdev_t.h).
        let device = device.map(|char| Device {
            char,
            major: number >> 8 & 0xfff,
            minor: number & 0xff | number >> 12 & 0xf_ff00,
        });
        // Character device 0:0 is overlayfs's mark of a deleted name, which it lets nobody make.
        let mark = device == Some(Device { char: true, major: 0, minor: 0 });
        if mark || (device.is_some() && !self.creds(ask).is_root()) {
            return Err(Errno::PERM.into());
        }
        let at = ask.path(path)?;
        let mut place = self.place(ask, dirfd.map_or(libc::AT_FDCWD, |at| ask.fd(at)), &at)?;
        place.owner.device = device;
        if place.owner.is_plain() || at.ends_with(b"/") {
            return Err(Stop::Continue);
        }
        // A socket stands in for a device: to open it fails (ENXIO), which is more honest than an empty file.
        let kind = match device {
            Some(_) => FileType::Socket,
            None => FileType::from_raw_mode(mode),
        };
        let kind = if mode & libc::S_IFMT == 0 { FileType::RegularFile } else { kind };
        let mode = Mode::from_raw_mode(mode & 0o7777);
        place.make(ask, |parent, name| rustix::fs::mknodat(parent, name, kind, mode, 0))?;
        self.note_made(place)?;
        Ok(Answer::Value(0))
    }
}
