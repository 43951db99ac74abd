//! What can stand in the way of a launch: what was attempted, on what, why, and the way out.

use nix::libc;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::fault::{Aspect, Fault};
use super::prepare::PlanError;
use super::step::Step;

/// Why a sandbox did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LaunchError {
    /// The plan cannot be carried out by anybody.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No candidate for the program exists; a shell's exit code for that is 127.
    #[error("{program}: not found in the sandbox")]
    NotFound {
        /// The program as the plan names it.
        program: String,
    },
    /// The program exists, but the interpreter or loader it names does not; a shell's exit code is 127.
    #[error("{program}: the interpreter or dynamic loader that it names does not exist in the sandbox")]
    NoInterpreter {
        /// The program as the plan names it.
        program: String,
    },
    /// The program exists and cannot be executed; a shell's exit code for that is 126.
    #[error("{program}: cannot be executed: {}{}", describe(*errno), explain_exec(*errno))]
    CannotExecute {
        /// The program as the plan names it.
        program: String,
        /// The error number of execve.
        errno: i32,
    },
    /// The working directory is missing or cannot be entered.
    #[error("cannot enter the working directory {path}: {}", describe(*errno))]
    WorkDir {
        /// The directory inside.
        path: String,
        /// The error number of chdir.
        errno: i32,
    },
    /// The image has a symbolic link or a file where a mount point must be a directory.
    #[error(
        "the image has a symbolic link or a file where /{path} must be a directory; treebox follows no link there"
    )]
    UnsafeMountPoint {
        /// The mount point, without the leading slash.
        path: String,
    },
    /// A mount point does not exist in the root.
    #[error("cannot {step}: there is no such mount point in the root ({})", describe(*errno))]
    MountPoint {
        /// What was attempted.
        step: String,
        /// The error number.
        errno: i32,
    },
    /// A source on the host is missing or cannot be opened.
    #[error("cannot {step}: the source cannot be opened: {}", describe(*errno))]
    Source {
        /// What was attempted.
        step: String,
        /// The error number.
        errno: i32,
    },
    /// The kernel refuses a fresh /proc.
    #[error(
        "the kernel refuses to mount a fresh /proc, since parts of the visible one are covered, as inside a \
             container: give the outer container an uncovered /proc (docker: --security-opt systempaths=unconfined)"
    )]
    ProcRefused,
    /// The helper of a private network failed.
    #[error("cannot connect the private network: {program}: {message}{hint}")]
    Network {
        /// The helper program.
        program: String,
        /// What it said.
        message: String,
        /// The way out, or empty.
        hint: String,
    },
    /// The kernel refuses new namespaces.
    #[error("cannot create the sandbox's namespaces: {}: {hint}", describe(*errno))]
    Namespaces {
        /// The error number.
        errno: i32,
        /// The likely cause and the way out.
        hint: String,
    },
    /// A step failed in a way that has no name of its own.
    #[error("cannot {step}: {}{hint}", describe(*errno))]
    Step {
        /// What was attempted.
        step: String,
        /// The error number.
        errno: i32,
        /// The likely cause and the way out, or empty.
        hint: String,
    },
}

impl LaunchError {
    /// The exit code a shell gives for this error, where it has one.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::NotFound { .. } | Self::NoInterpreter { .. } => Some(127),
            Self::CannotExecute { .. } => Some(126),
            _ => None,
        }
    }

    pub(crate) fn system(attempt: &str, errno: i32) -> Self {
        Self::Step { step: attempt.to_owned(), errno, hint: String::new() }
    }

    /// The worker cannot read what it needs to know.
    pub(crate) fn unreadable(attempt: &str, err: &std::io::Error) -> Self {
        Self::system(attempt, err.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The sandbox that a command was to join has ended.
    pub(crate) fn over() -> Self {
        let hint = ": the sandbox has ended".to_owned();
        Self::Step { step: "join the sandbox".to_owned(), errno: libc::ESRCH, hint }
    }

    pub(crate) fn namespaces(errno: i32) -> Self {
        Self::Namespaces { errno, hint: namespace_hint(errno).to_owned() }
    }

    pub(crate) fn maps(errno: i32) -> Self {
        let hint =
            ": the caller is not root of its own user namespace, or AppArmor restricts user namespaces"
                .to_owned();
        Self::Step { step: "write the sandbox's id maps".to_owned(), errno, hint }
    }

    /// Names what went wrong in a step.
    pub(crate) fn of_step(step: Option<&Step>, fault: Fault) -> Self {
        let errno = fault.errno.raw_os_error();
        let Some(step) = step else { return Self::system("understand a report of the sandbox", errno) };
        match (step, fault.aspect) {
            (Step::Exec(program), aspect) => {
                let program = program
                    .argv
                    .first()
                    .map(|name| name.to_bytes().escape_ascii().to_string())
                    .unwrap_or_default();
                match aspect {
                    Aspect::Absent => Self::NotFound { program },
                    Aspect::Interpreter => Self::NoInterpreter { program },
                    _ => Self::CannotExecute { program, errno },
                }
            }
            (Step::OwnProgram(program), _) => {
                let name = program.argv.first().map(|name| name.to_bytes().escape_ascii().to_string());
                Self::CannotExecute { program: name.unwrap_or_default(), errno }
            }
            (Step::WorkDir(path), _) => {
                Self::WorkDir { path: path.to_bytes().escape_ascii().to_string(), errno }
            }
            (Step::FreshProc | Step::FreshSys | Step::HostSys | Step::Dev, Aspect::MountPoint)
                if matches!(fault.errno, Errno::LOOP | Errno::NOTDIR | Errno::XDEV) =>
            {
                let path = match step {
                    Step::FreshProc => "proc",
                    Step::Dev => "dev",
                    _ => "sys",
                };
                Self::UnsafeMountPoint { path: path.to_owned() }
            }
            (Step::FreshProc, Aspect::Create) if fault.errno == Errno::PERM => Self::ProcRefused,
            (_, Aspect::MountPoint) => Self::MountPoint { step: step.to_string(), errno },
            (_, Aspect::Source) => Self::Source { step: step.to_string(), errno },
            _ => Self::Step { step: step.to_string(), errno, hint: step_hint(step, fault).to_owned() },
        }
    }
}

/// The likely cause, and the way out, when the kernel refuses namespaces with this error number.
pub fn namespace_hint(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => {
            "unprivileged user namespaces are restricted (sysctl kernel.apparmor_restrict_unprivileged_userns, \
             kernel.unprivileged_userns_clone, or a container's seccomp filter)"
        }
        libc::ENOSPC | libc::EUSERS => {
            "the limit of namespaces is reached; raise the sysctls user.max_*_namespaces"
        }
        libc::EINVAL | libc::ENOSYS => {
            "the kernel lacks a kind of namespace or clone3 (Linux 5.5 or newer is needed)"
        }
        libc::EAGAIN | libc::ENOMEM => "the limit of processes or memory is reached",
        _ => "run `treebox doctor`",
    }
}

fn step_hint(step: &Step, fault: Fault) -> &'static str {
    match (step, fault.errno) {
        (Step::Overlay(_), Errno::NODEV) => ": the kernel has no overlayfs; load it with `modprobe overlay`",
        (Step::Overlay(_), Errno::PERM) => {
            ": overlayfs in a user namespace needs Linux 5.11, and no AppArmor or SELinux rule against it"
        }
        (Step::Overlay(_), Errno::INVAL) => {
            ": the upper directory's file system cannot be one (another overlay, NFS, no user xattrs), it was left \
             by a crashed run, or a data-only lower needs Linux 6.16"
        }
        (Step::Overlay(_), Errno::BUSY) => ": the upper or work directory is in use by another sandbox",
        (Step::Bind { .. }, Errno::STALE) => {
            ": another file has taken the source's name since it was looked at; try again when nothing replaces it"
        }
        (Step::Secret { .. }, Errno::INVAL) => ": its owner is not mapped",
        (Step::Device { .. }, Errno::NODEV) => ": what the host has under that name is not that device",
        (Step::Limit { .. }, Errno::PERM) => ": the limit is higher than the caller's own hard limit",
        (Step::Emulate { .. }, Errno::BUSY) => {
            ": another supervisor answers for this process already, as inside a treebox sandbox; use --identity plain"
        }
        (Step::Emulate { .. }, _) => {
            ": seccomp user notification needs Linux 5.5 and no rule against it; use --identity plain"
        }
        (Step::LoopbackUp, Errno::PERM) => {
            ": AppArmor restricts user namespaces; `treebox doctor` names the fix"
        }
        (Step::Seal(_), Errno::INVAL | Errno::NOSYS) => {
            ": the kernel has no system call filters (CONFIG_SECCOMP_FILTER), and treebox runs nothing unsealed"
        }
        (Step::Groups(_) | Step::Gid(_) | Step::Uid(_), Errno::INVAL) => ": the id is not mapped",
        _ => "",
    }
}

fn explain_exec(errno: i32) -> &'static str {
    match errno {
        libc::EACCES => " (a directory, a file without x permission, or one the user may not read)",
        libc::ELOOP => " (links that lead in a circle, or through /proc to something outside)",
        libc::ENOEXEC => " (wrong architecture, or a script without a #! line)",
        _ => "",
    }
}

fn describe(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
