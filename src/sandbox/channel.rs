//! A stream of frames between two processes: a length, some bytes, and perhaps file descriptors.
//!
//! On the wire: the bytes `tb`, the number of descriptors as u16, the length of the body as u32, all little-endian,
//! then the body. Descriptors travel with the header. The body's meaning is the caller's.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, recv,
    recvmsg, send, sendmsg, shutdown, socketpair,
};

/// The largest body of a frame.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// The most descriptors one frame can carry.
pub const MAX_FRAME_FDS: usize = 16;

const HEADER_BYTES: usize = 8;
const MAGIC: [u8; 2] = *b"tb";

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The socket failed.
    #[error("cannot {attempt}: {source}")]
    Socket {
        /// What was attempted.
        attempt: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The other end closed in the middle of a frame.
    #[error("the other end closed in the middle of a message")]
    Cut,
    /// What came is no frame.
    #[error("the message is damaged: {0}")]
    Damaged(&'static str),
    /// The frame is too large to send.
    #[error(
        "a message of {bytes} bytes with {fds} descriptors is over the limit of {MAX_FRAME_BYTES} and {MAX_FRAME_FDS}"
    )]
    TooLarge {
        /// The length of the body.
        bytes: usize,
        /// How many descriptors.
        fds: usize,
    },
}

/// One frame as received.
#[derive(Debug)]
pub struct Frame {
    /// The bytes.
    pub body: Vec<u8>,
    /// The descriptors, closed on execve.
    pub fds: Vec<OwnedFd>,
}

/// One end of a stream of frames. Several threads may send; one at a time receives.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    sending: Mutex<()>,
    receiving: Mutex<()>,
}

impl Channel {
    /// Wraps a connected stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, sending: Mutex::new(()), receiving: Mutex::new(()) }
    }

    /// Makes a connected pair: this side, and a socket for the other.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self::new(ours), theirs))
    }

    /// Takes the stream on descriptor 0 and leaves /dev/null there.
    pub fn from_stdin() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode).is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard input is no socket"));
        }
        let null = std::fs::File::open("/dev/null")?;
        super::sys::duplicate_onto(null.as_raw_fd(), 0, false)?;
        Ok(Self::new(socket))
    }

    /// Sends one frame.
    pub fn send(&self, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
        if body.len() > MAX_FRAME_BYTES || fds.len() > MAX_FRAME_FDS {
            return Err(FrameError::TooLarge { bytes: body.len(), fds: fds.len() });
        }
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&MAGIC);
        header[2..4].copy_from_slice(&(fds.len() as u16).to_le_bytes());
        header[4..].copy_from_slice(&(body.len() as u32).to_le_bytes());

        // A poisoned lock guards no data, only the order on the wire.
        let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(&header), IoSlice::new(body)];
        let socket = self.socket.as_raw_fd();
        let failed = |errno: Errno| FrameError::Socket { attempt: "send a message", source: errno.into() };
        let mut sent =
            again(|| sendmsg::<()>(socket, &parts, control, MsgFlags::MSG_NOSIGNAL, None)).map_err(failed)?;
        while sent < HEADER_BYTES {
            sent += again(|| send(socket, &header[sent..], MsgFlags::MSG_NOSIGNAL)).map_err(failed)?;
        }
        while sent < HEADER_BYTES + body.len() {
            let rest = &body[sent - HEADER_BYTES..];
            sent += again(|| send(socket, rest, MsgFlags::MSG_NOSIGNAL)).map_err(failed)?;
        }
        Ok(())
    }

    /// Receives one frame; `None` when the other end has closed.
    pub fn receive(&self) -> Result<Option<Frame>, FrameError> {
        let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut header = [0; HEADER_BYTES];
        let (length, fds) = self.receive_header(&mut header)?;
        if length == 0 {
            return Ok(None);
        }
        self.fill(&mut header[length..])?;
        if header[..2] != MAGIC {
            return Err(FrameError::Damaged("it does not begin like one"));
        }
        let bytes = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if bytes > MAX_FRAME_BYTES {
            return Err(FrameError::Damaged("it claims to be longer than allowed"));
        }
        if usize::from(u16::from_le_bytes([header[2], header[3]])) != fds.len() {
            return Err(FrameError::Damaged("descriptors are missing"));
        }
        let mut body = vec![0; bytes];
        self.fill(&mut body)?;
        Ok(Some(Frame { body, fds }))
    }

    /// Ends the stream in both directions; whoever waits at either end wakes up.
    pub fn shutdown(&self) {
        // It may be closed at the other end already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    fn receive_header(&self, header: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), FrameError> {
        let mut control = nix::cmsg_space!([RawFd; MAX_FRAME_FDS]);
        let failed = |errno: Errno| match errno {
            // A peer that died with unread data in its socket.
            Errno::ECONNRESET => FrameError::Cut,
            errno => FrameError::Socket { attempt: "receive a message", source: errno.into() },
        };
        let socket = self.socket.as_raw_fd();
        let mut parts = [IoSliceMut::new(header)];
        let message = loop {
            match recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
                Err(Errno::EINTR) => {}
                // SAFETY of the loop: `parts` and `control` are borrowed anew in each round.
                other => break other.map_err(failed)?,
            }
        };
        let mut fds = Vec::new();
        for part in message.cmsgs().map_err(failed)? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for this process; nobody else knows them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Ok((message.bytes, fds))
    }

    fn fill(&self, mut buffer: &mut [u8]) -> Result<(), FrameError> {
        while !buffer.is_empty() {
            match again(|| recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_WAITALL)) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(FrameError::Cut),
                Ok(length) => buffer = &mut buffer[length..],
                Err(errno) => {
                    return Err(FrameError::Socket { attempt: "receive a message", source: errno.into() });
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel::new(theirs))
    }

    #[test]
    fn frames_arrive_whole_and_in_order_with_their_descriptors() {
        let (ours, theirs) = pair();
        let (mut read_end, write_end) = io::pipe().unwrap();
        let large = vec![7; 3 << 20];
        let sender = std::thread::spawn(move || {
            ours.send(b"first", &[write_end.as_fd()]).unwrap();
            ours.send(b"", &[]).unwrap();
            ours.send(&large, &[]).unwrap();
        });
        let first = theirs.receive().unwrap().unwrap();
        assert_eq!(first.body, b"first");
        assert_eq!(theirs.receive().unwrap().unwrap().body, b"");
        assert_eq!(theirs.receive().unwrap().unwrap().body.len(), 3 << 20);
        sender.join().unwrap();
        assert!(theirs.receive().unwrap().is_none());
        std::fs::File::from(first.fds.into_iter().next().unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        read_end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn damage_is_an_error_and_nothing_worse() {
        let damaged = |bytes: &[u8]| {
            let (ours, theirs) = pair();
            send(ours.as_fd().as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
            drop(ours);
            theirs.receive()
        };
        assert!(matches!(damaged(b"garbage that is long enough"), Err(FrameError::Damaged(_))));
        assert!(matches!(damaged(b"tb\0\0\xff\xff\xff\xff"), Err(FrameError::Damaged(_))));
        assert!(matches!(damaged(b"tb\x01\0\0\0\0\0"), Err(FrameError::Damaged(_))));
        assert!(matches!(damaged(b"tb\0\0\x05\0\0\0abc"), Err(FrameError::Cut)));
        assert!(matches!(damaged(b"tb"), Err(FrameError::Cut)));
        assert!(damaged(b"").is_err() || damaged(b"").unwrap().is_none());
    }

    #[test]
    fn too_large_a_frame_is_not_sent() {
        let (ours, _theirs) = pair();
        assert!(matches!(ours.send(&vec![0; MAX_FRAME_BYTES + 1], &[]), Err(FrameError::TooLarge { .. })));
    }
}
