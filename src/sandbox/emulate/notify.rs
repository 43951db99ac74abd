//! The supervisor's descriptor: calls come in, answers go out (seccomp_unotify(2)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use rustix::io::Errno;

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    id: u64,
    /// The thread that made it, as the caller sees it.
    pub(super) tid: u32,
    /// `AUDIT_ARCH_` number of its convention.
    pub(super) arch: u32,
    /// The call's number.
    pub(super) number: u32,
    /// The call's arguments, as in registers.
    pub(super) args: [u64; 6],
}

/// What the call is to give.
#[derive(Debug)]
pub(super) enum Answer {
    /// What the kernel gives when it makes the call.
    Continue,
    /// This value.
    Value(i64),
    /// This error.
    Error(Errno),
    /// A duplicate of this descriptor.
    Descriptor { fd: OwnedFd, close_on_exec: bool },
}

/// The supervisor's end of one filter.
#[derive(Debug)]
pub(super) struct Listener {
    fd: OwnedFd,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Listener {
    /// Takes over the descriptor that the filter's installation gave.
    pub(super) fn new(fd: OwnedFd) -> Self {
        let listener = Self { fd };
        // The one that waits runs next, on the same processor (Linux ≥ 6.6); an older kernel refuses, and is slower.
        let _ = listener.ioctl(libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, std::ptr::without_provenance_mut(1));
        listener
    }

    fn ioctl(&self, request: u64, argument: *mut libc::c_void) -> Result<(), Errno> {
        // SAFETY: every caller gives the structure that its request reads or writes, alive during the call.
        let done = unsafe { libc::syscall(libc::SYS_ioctl, self.fd.as_raw_fd(), request, argument) };
        if done < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            return Err(Errno::from_raw_os_error(errno));
        }
        Ok(())
    }

    /// Takes the next call; `None` when the one that was announced is dead already.
    pub(super) fn receive(&self) -> Option<Question> {
        // SAFETY: plain numbers; the kernel wants them zeroed.
        let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, (&raw mut notification).cast()).ok()?;
        let data = &notification.data;
        Some(Question {
            id: notification.id,
            tid: notification.pid,
            arch: data.arch,
            number: data.nr as u32,
            args: data.args,
        })
    }

    /// Whether the call still waits: if so, its thread id was still its own when asked.
    pub(super) fn is_valid(&self, question: &Question) -> bool {
        let mut id = question.id;
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, (&raw mut id).cast()).is_ok()
    }

    /// Answers. A caller that died meanwhile needs no answer, so nothing can fail.
    pub(super) fn answer(&self, question: &Question, answer: Answer) {
        let mut response = libc::seccomp_notif_resp { id: question.id, val: 0, error: 0, flags: 0 };
        match answer {
            Answer::Continue => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Answer::Value(value) => response.val = value,
            Answer::Error(errno) => response.error = -errno.raw_os_error(),
            Answer::Descriptor { fd, close_on_exec } => {
                let mut given = libc::seccomp_notif_addfd {
                    id: question.id,
                    flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
                    srcfd: fd.as_raw_fd() as u32,
                    newfd: 0,
                    newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
                };
                match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, (&raw mut given).cast()) {
                    Ok(()) => return,
                    Err(errno) => response.error = -errno.raw_os_error(),
                }
            }
        }
        let _ = self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, (&raw mut response).cast());
    }
}
