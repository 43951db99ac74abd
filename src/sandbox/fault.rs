//! How a failed step travels out of a process that may not allocate: three numbers.

use rustix::io::Errno;

/// The part of a step that failed. The numbers are on the wire between init and its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Aspect {
    /// The step's one system call.
    Call = 0,
    /// Finding a mount point inside the new root.
    MountPoint = 1,
    /// Opening something of the host.
    Source = 2,
    /// Asking the kernel for a file system.
    Create = 3,
    /// Attaching a finished mount.
    Attach = 4,
    /// Finding that a thing is not what it must be.
    Check = 5,
    /// A program that exists but whose interpreter does not.
    Interpreter = 6,
    /// No candidate for the program exists.
    Absent = 7,
}

impl Aspect {
    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::MountPoint,
            2 => Self::Source,
            3 => Self::Create,
            4 => Self::Attach,
            5 => Self::Check,
            6 => Self::Interpreter,
            7 => Self::Absent,
            _ => Self::Call,
        }
    }
}

/// A failed part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) aspect: Aspect,
    pub(crate) errno: Errno,
}

impl Fault {
    pub(crate) fn new(aspect: Aspect, errno: Errno) -> Self {
        Self { aspect, errno }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::new(Aspect::Call, errno)
    }
}

/// Names the part of a step that an error belongs to.
pub(crate) trait During<T> {
    fn during(self, aspect: Aspect) -> Result<T, Fault>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, aspect: Aspect) -> Result<T, Fault> {
        self.map_err(|errno| Fault::new(aspect, errno))
    }
}

/// Length of a report in bytes. Below PIPE_BUF, so written in one piece.
pub(crate) const REPORT_BYTES: usize = 12;

/// A report: which step, which part, which error.
pub(crate) fn encode(step: usize, fault: Fault) -> [u8; REPORT_BYTES] {
    let mut bytes = [0; REPORT_BYTES];
    bytes[0..4].copy_from_slice(&(step as u32).to_ne_bytes());
    bytes[4..8].copy_from_slice(&(fault.aspect as u32).to_ne_bytes());
    bytes[8..12].copy_from_slice(&fault.errno.raw_os_error().to_ne_bytes());
    bytes
}

/// The opposite of `encode`.
pub(crate) fn decode(bytes: [u8; REPORT_BYTES]) -> (usize, Fault) {
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    // An errno outside the kernel's range cannot come from `encode`; it must not panic inside rustix either.
    let errno = (word(8) as i32).clamp(1, 4095);
    (word(0) as usize, Fault::new(Aspect::from_number(word(4)), Errno::from_raw_os_error(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_written_and_garbage_does_no_harm() {
        let fault = Fault::new(Aspect::MountPoint, Errno::LOOP);
        assert_eq!(decode(encode(7, fault)), (7, fault));
        let (step, fault) = decode([0xff; REPORT_BYTES]);
        assert_eq!((step, fault.aspect), (u32::MAX as usize, Aspect::Call));
    }
}
