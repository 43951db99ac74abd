//! Extended attributes that the kernel takes from real root only: `trusted.*`, and `security.*` but for file capabilities,
//! which a user namespace stores itself.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use rustix::io::Errno;

use super::calls::File;
use super::notify::Answer;
use super::records::look;
use super::target::Stop;
use super::{Ask, Emulator};

/// Longest name (`XATTR_NAME_MAX`), value (`XATTR_SIZE_MAX`) and list of names (`XATTR_LIST_MAX`).
const MAX_NAME_BYTES: usize = 255;
const MAX_VALUE_BYTES: usize = 65_536;
const MAX_LIST_BYTES: usize = 65_536;

const CREATE: u32 = 1;
const REPLACE: u32 = 2;

fn is_ours(name: &[u8]) -> bool {
    let security = name.starts_with(b"security.") && name != b"security.capability";
    security || name.starts_with(b"trusted.")
}

/// The attribute that a call is about, if it is one of those.
fn name(ask: &Ask<'_>) -> Result<Vec<u8>, Stop> {
    let name = ask.path(1)?;
    if is_ours(&name) && name.len() <= MAX_NAME_BYTES { Ok(name) } else { Err(Stop::Continue) }
}

fn file(ask: &Ask<'_>, file: File) -> Result<OwnedFd, Stop> {
    match file {
        File::Path => ask.target.resolve(libc::AT_FDCWD, &ask.path(0)?, true),
        File::Link => ask.target.resolve(libc::AT_FDCWD, &ask.path(0)?, false),
        File::Descriptor => ask.target.descriptor(ask.fd(0)),
    }
}

/// Answers with bytes as these calls do: with their length alone when there is no room asked for.
fn give(ask: &Ask<'_>, buffer: usize, bytes: &[u8]) -> Result<Answer, Stop> {
    let room = ask.arg(buffer + 1);
    if room != 0 {
        if room < bytes.len() as u64 {
            return Err(Errno::RANGE.into());
        }
        ask.target.write(ask.arg(buffer), bytes)?;
    }
    Ok(Answer::Value(bytes.len() as i64))
}

impl Emulator {
    pub(super) fn set_xattr(&mut self, ask: &Ask<'_>, how: File) -> Result<Answer, Stop> {
        let name = name(ask)?;
        let (size, flags) = (ask.arg(3), ask.word(4));
        if size > MAX_VALUE_BYTES as u64 {
            return Err(Errno::TOOBIG.into());
        }
        let mut value = vec![0; size as usize];
        ask.target.read(ask.arg(2), &mut value)?;
        let fd = file(ask, how)?;
        let stat = look(&fd)?;
        let mut now = self.is_now(&fd, &stat)?;
        if !self.creds(ask).is_root() {
            return Err(Errno::PERM.into());
        }
        let at = now.xattrs.iter().position(|(known, _)| *known == name);
        match at {
            Some(_) if flags & CREATE != 0 => return Err(Errno::EXIST.into()),
            None if flags & REPLACE != 0 => return Err(Errno::NODATA.into()),
            Some(at) => now.xattrs[at].1 = value,
            None => now.xattrs.push((name, value)),
        }
        self.change(ask, &fd, &stat, now)
    }

    pub(super) fn remove_xattr(&mut self, ask: &Ask<'_>, how: File) -> Result<Answer, Stop> {
        let name = name(ask)?;
        let fd = file(ask, how)?;
        let stat = look(&fd)?;
        let mut now = self.is_now(&fd, &stat)?;
        let before = now.xattrs.len();
        now.xattrs.retain(|(known, _)| *known != name);
        if now.xattrs.len() == before {
            return Err(Stop::Continue);
        }
        if !self.creds(ask).is_root() {
            return Err(Errno::PERM.into());
        }
        self.change(ask, &fd, &stat, now)
    }

    fn change(
        &mut self,
        ask: &Ask<'_>,
        fd: &OwnedFd,
        stat: &libc::statx,
        now: super::Recorded,
    ) -> Result<Answer, Stop> {
        ask.still()?;
        super::files::copy_up(fd, stat)?;
        self.note(fd, stat, now)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn get_xattr(&self, ask: &Ask<'_>, how: File) -> Result<Answer, Stop> {
        if self.records.without_xattrs() {
            return Err(Stop::Continue);
        }
        let name = name(ask)?;
        let fd = file(ask, how)?;
        let shown = self.records.shown(&self.origin, &fd, &look(&fd)?)?;
        let value = shown.and_then(|shown| shown.xattrs.iter().find(|(known, _)| *known == name));
        let (_, value) = value.ok_or(Stop::Continue)?;
        give(ask, 2, value)
    }

    pub(super) fn list_xattrs(&self, ask: &Ask<'_>, how: File) -> Result<Answer, Stop> {
        if self.records.without_xattrs() {
            return Err(Stop::Continue);
        }
        let fd = file(ask, how)?;
        let shown = self.records.shown(&self.origin, &fd, &look(&fd)?)?;
        let ours = shown.map_or(&[][..], |shown| &shown.xattrs);
        if ours.is_empty() {
            return Err(Stop::Continue);
        }
        let mut list = vec![0; MAX_LIST_BYTES];
        // The magic link is followed to what is open, even when that is a link itself.
        let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
        let length = rustix::fs::listxattr(path, &mut list)?;
        list.truncate(length);
        for (name, _) in ours {
            list.extend_from_slice(name);
            list.push(0);
        }
        give(ask, 1, &list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_refuses_is_kept_here() {
        assert!(is_ours(b"security.selinux") && is_ours(b"trusted.x"));
        assert!(
            !is_ours(b"security.capability") && !is_ours(b"user.x") && !is_ours(b"system.posix_acl_access")
        );
    }
}
