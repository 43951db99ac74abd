//! The seal: what no process of a sandbox may ask of the kernel.
//!
//! A list of denials, not of permissions: what it does not name is allowed, so programs of tomorrow work. Most of these calls
//! would fail anyway without capabilities on the host; refusing them at the gate takes the code behind them out of reach. SECURITY.md
//! shows the table; a test compares the two.

use nix::libc;
use serde::{Deserialize, Serialize};

use super::bpf::{Abi, Filter, Rule, Test, Verdict};

/// A part of the seal that can be lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Feature {
    /// Namespaces and mounts of the payload's own, for sandboxes inside the sandbox.
    Userns,
    /// Asynchronous system calls by io_uring, which no system call filter sees.
    IoUring,
    /// The kernel's keyrings.
    Keyring,
    /// Sockets of 32-bit x86 programs that use socketcall(2), whose arguments no filter sees.
    Socketcall,
}

impl Feature {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Userns => "userns",
            Self::IoUring => "io_uring",
            Self::Keyring => "keyring",
            Self::Socketcall => "socketcall",
        }
    }
}

/// System calls that are refused for one reason.
#[derive(Debug, Clone, Copy)]
pub struct Denial {
    calls: &'static [Call],
    tests: &'static [(Test, Verdict)],
    errno: i32,
    /// Which arguments are refused; empty when all are.
    pub when: &'static str,
    /// What lifts it.
    pub unless: Option<Feature>,
    /// Why it is refused.
    pub reason: &'static str,
}

impl Denial {
    /// The names of the calls.
    pub fn calls(&self) -> impl Iterator<Item = &'static str> {
        self.calls.iter().map(|call| call.name)
    }

    /// The name of the error that the calls give.
    pub fn errno(&self) -> &'static str {
        match self.errno {
            libc::ENOSYS => "ENOSYS",
            libc::EAFNOSUPPORT => "EAFNOSUPPORT",
            _ => "EPERM",
        }
    }
}

/// Everything that is refused, in the order of the table in SECURITY.md.
pub fn denials() -> &'static [Denial] {
    DENIALS
}

/// The filter of a sandbox with these features.
pub(crate) fn seal(allow: &[Feature]) -> Filter {
    let in_force =
        || DENIALS.iter().filter(|denial| denial.unless.is_none_or(|feature| !allow.contains(&feature)));
    let rules = |abi: &Abi| in_force().flat_map(|denial| denial.rules(*abi)).collect();
    Filter { rules: Abi::HERE.iter().map(|abi| (*abi, rules(abi))).collect() }
}

impl Denial {
    fn rules(&self, abi: Abi) -> Vec<Rule> {
        let mut rules = Vec::new();
        for number in self.calls.iter().filter_map(|call| call.number(abi)) {
            for (test, verdict) in self.tests {
                rules.push(Rule { call: number, when: Some(*test), verdict: *verdict });
            }
            // Tests that only permit name the exceptions from a refusal; those that refuse say all there is to refuse.
            if self.tests.iter().all(|(_, verdict)| *verdict == Verdict::Allow) {
                rules.push(Rule { call: number, when: None, verdict: Verdict::Errno(self.errno) });
            }
        }
        rules
    }
}

/// A system call with its number in each convention.
#[derive(Debug, Clone, Copy)]
struct Call {
    name: &'static str,
    /// x86-64, 32-bit x86, 64-bit Arm, 32-bit Arm; -1 where it does not exist.
    numbers: [i32; 4],
}

impl Call {
    fn number(&self, abi: Abi) -> Option<u32> {
        let column = match abi {
            Abi::X86_64 => 0,
            Abi::X86 => 1,
            Abi::Aarch64 => 2,
            Abi::Arm => 3,
        };
        u32::try_from(self.numbers[column]).ok()
    }
}

/// Numbers are those of the kernel's tables: arch/x86/entry/syscalls/syscall_{64,32}.tbl, scripts/syscall.tbl (arm64) and
/// arch/arm/tools/syscall.tbl.
const fn call(name: &'static str, x86_64: i32, x86: i32, aarch64: i32, arm: i32) -> Call {
    Call { name, numbers: [x86_64, x86, aarch64, arm] }
}

/// A call that has one number everywhere, as all since Linux 5.1.
const fn since_5_1(name: &'static str, number: i32) -> Call {
    call(name, number, number, number, number)
}

const REFUSED: Verdict = Verdict::Errno(libc::EPERM);

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Only unshare takes it: in clone the bit belongs to the exit signal.
const CLONE_NEWTIME: u32 = 0x80;

// linux/personality.h: 32-bit machine name, "2.6" version, no address randomisation. The last is what debuggers ask for.
const HARMLESS_PERSONALITY: u32 = 0x0000_0008 | 0x0002_0000 | 0x0004_0000;
/// personality(2) with this value only asks.
const PERSONALITY_QUERY: u32 = 0xffff_ffff;

/// The multiplexer's own numbers (linux/net.h) of socket and socketpair.
const SYS_SOCKET: u32 = 1;
const SYS_SOCKETPAIR: u32 = 8;

const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;

const ALWAYS: &[(Test, Verdict)] = &[];

const DENIALS: &[Denial] = &[
    Denial {
        calls: &[call("clone", 56, 120, 220, 120)],
        tests: &[(Test::HasAny(0, NEW_NAMESPACES), REFUSED)],
        errno: libc::EPERM,
        when: "new namespaces",
        unless: Some(Feature::Userns),
        reason: "root of a nested user namespace reaches kernel code that no ordinary user does; most holes of recent years began there",
    },
    Denial {
        calls: &[call("unshare", 272, 310, 97, 337)],
        tests: &[(Test::HasAny(0, NEW_NAMESPACES | CLONE_NEWTIME), REFUSED)],
        errno: libc::EPERM,
        when: "new namespaces",
        unless: Some(Feature::Userns),
        reason: "as for clone",
    },
    Denial {
        calls: &[since_5_1("clone3", 435)],
        tests: ALWAYS,
        errno: libc::ENOSYS,
        when: "",
        unless: Some(Feature::Userns),
        reason: "its flags lie in memory, where no filter sees them; C libraries fall back to clone",
    },
    Denial {
        calls: &[call("setns", 308, 346, 268, 375)],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: Some(Feature::Userns),
        reason: "enters namespaces by descriptor",
    },
    Denial {
        calls: &[
            call("mount", 165, 21, 40, 21),
            call("umount", -1, 22, -1, -1),
            call("umount2", 166, 52, 39, 52),
            call("pivot_root", 155, 217, 41, 218),
            since_5_1("open_tree", 428),
            since_5_1("move_mount", 429),
            since_5_1("fsopen", 430),
            since_5_1("fsconfig", 431),
            since_5_1("fsmount", 432),
            since_5_1("fspick", 433),
            since_5_1("mount_setattr", 442),
            since_5_1("open_tree_attr", 467),
        ],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: Some(Feature::Userns),
        reason: "mounts are made before the payload starts; parsers of file systems stay out of reach",
    },
    Denial {
        calls: &[
            call("keyctl", 250, 288, 219, 311),
            call("add_key", 248, 286, 217, 309),
            call("request_key", 249, 287, 218, 310),
        ],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: Some(Feature::Keyring),
        reason: "keyrings are counted per user of the host and had many holes",
    },
    Denial {
        calls: &[
            since_5_1("io_uring_setup", 425),
            since_5_1("io_uring_enter", 426),
            since_5_1("io_uring_register", 427),
        ],
        tests: ALWAYS,
        errno: libc::ENOSYS,
        when: "",
        unless: Some(Feature::IoUring),
        reason: "its operations pass by every filter; programs fall back to ordinary calls",
    },
    Denial {
        calls: &[call("bpf", 321, 357, 280, 386)],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "programs in the kernel",
    },
    Denial {
        calls: &[call("perf_event_open", 298, 336, 241, 364)],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "measures the kernel and its neighbours, and had many holes",
    },
    Denial {
        calls: &[call("userfaultfd", 323, 374, 282, 388)],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "holds kernel code at a chosen page fault, which makes races in it easy to win",
    },
    Denial {
        calls: &[
            call("kexec_load", 246, 283, 104, 347),
            call("kexec_file_load", 320, -1, 294, 401),
            call("init_module", 175, 128, 105, 128),
            call("finit_module", 313, 350, 273, 379),
            call("delete_module", 176, 129, 106, 129),
        ],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "replaces the kernel or parts of it",
    },
    Denial {
        calls: &[call("open_by_handle_at", 304, 342, 265, 371)],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "opens any inode of a file system by number, outside of every root",
    },
    Denial {
        calls: &[call("fanotify_init", 300, 338, 262, 367)],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "watches whole file systems, the host's among them",
    },
    Denial {
        calls: &[
            call("clock_settime", 227, 264, 112, 262),
            call("clock_settime64", -1, 404, -1, 404),
            call("settimeofday", 164, 79, 170, 79),
            call("stime", -1, 25, -1, -1),
            call("adjtimex", 159, 124, 171, 124),
            call("clock_adjtime", 305, 343, 266, 372),
            call("clock_adjtime64", -1, 405, -1, 405),
        ],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "the clock is the machine's",
    },
    Denial {
        calls: &[
            call("reboot", 169, 88, 142, 88),
            call("swapon", 167, 87, 224, 87),
            call("swapoff", 168, 115, 225, 115),
            call("acct", 163, 51, 89, 51),
            call("quotactl", 179, 131, 60, 131),
            since_5_1("quotactl_fd", 443),
            call("vhangup", 153, 111, 58, 111),
        ],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "administers the machine",
    },
    Denial {
        calls: &[call("syslog", 103, 103, 116, 103)],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "the kernel's messages tell about the host",
    },
    Denial {
        calls: &[
            call("iopl", 172, 110, -1, -1),
            call("ioperm", 173, 101, -1, -1),
            call("vm86", -1, 166, -1, -1),
            call("vm86old", -1, 113, -1, -1),
        ],
        tests: ALWAYS,
        errno: libc::EPERM,
        when: "",
        unless: None,
        reason: "ports and modes of the processor",
    },
    Denial {
        calls: &[
            call("create_module", 174, 127, -1, -1),
            call("get_kernel_syms", 177, 130, -1, -1),
            call("query_module", 178, 167, -1, -1),
            call("nfsservctl", 180, 169, 42, 169),
            call("uselib", 134, 86, -1, 86),
            call("sysfs", 139, 135, -1, 135),
            call("_sysctl", 156, 149, -1, 149),
            call("lookup_dcookie", 212, 253, 18, 249),
        ],
        tests: ALWAYS,
        errno: libc::ENOSYS,
        when: "",
        unless: None,
        reason: "obsolete; newer kernels have removed nearly all of them",
    },
    Denial {
        calls: &[call("ioctl", 16, 54, 29, 54)],
        tests: &[(Test::Is(1, TIOCSTI), REFUSED), (Test::Is(1, TIOCLINUX), REFUSED)],
        errno: libc::EPERM,
        when: "TIOCSTI, TIOCLINUX",
        unless: None,
        reason: "types into a terminal what its next reader takes for the user's keys",
    },
    Denial {
        calls: &[call("socket", 41, 359, 198, 281), call("socketpair", 53, 360, 199, 288)],
        tests: &[
            (Test::Is(0, libc::AF_UNIX as u32), Verdict::Allow),
            (Test::Is(0, libc::AF_INET as u32), Verdict::Allow),
            (Test::Is(0, libc::AF_INET6 as u32), Verdict::Allow),
            (Test::Is(0, libc::AF_NETLINK as u32), Verdict::Allow),
        ],
        errno: libc::EAFNOSUPPORT,
        when: "families other than unix, IPv4, IPv6, netlink",
        unless: None,
        reason: "vsock reaches the hypervisor from any network; AF_ALG wrote into shared page cache (CVE-2026-31431); the rest is seldom used and seldom tested",
    },
    Denial {
        calls: &[call("socketcall", -1, 102, -1, -1)],
        tests: &[(Test::Is(0, SYS_SOCKET), REFUSED), (Test::Is(0, SYS_SOCKETPAIR), REFUSED)],
        errno: libc::EPERM,
        when: "new sockets",
        unless: Some(Feature::Socketcall),
        reason: "the family lies in memory, where no filter sees it; only old 32-bit x86 programs need it",
    },
    Denial {
        calls: &[call("personality", 135, 136, 92, 136)],
        tests: &[
            (Test::Is(0, PERSONALITY_QUERY), Verdict::Allow),
            (Test::HasAny(0, !HARMLESS_PERSONALITY), REFUSED),
        ],
        errno: libc::EPERM,
        when: "other than names of the machine and address randomisation",
        unless: None,
        reason: "old ways of laying out memory take protections away",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_numbers_are_those_of_the_c_library() {
        let known = [
            ("clone", libc::SYS_clone),
            ("unshare", libc::SYS_unshare),
            ("clone3", libc::SYS_clone3),
            ("setns", libc::SYS_setns),
            ("mount", libc::SYS_mount),
            ("umount2", libc::SYS_umount2),
            ("pivot_root", libc::SYS_pivot_root),
            ("open_tree", libc::SYS_open_tree),
            ("move_mount", libc::SYS_move_mount),
            ("fsopen", libc::SYS_fsopen),
            ("fsconfig", libc::SYS_fsconfig),
            ("fsmount", libc::SYS_fsmount),
            ("fspick", libc::SYS_fspick),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("keyctl", libc::SYS_keyctl),
            ("add_key", libc::SYS_add_key),
            ("request_key", libc::SYS_request_key),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("io_uring_enter", libc::SYS_io_uring_enter),
            ("io_uring_register", libc::SYS_io_uring_register),
            ("bpf", libc::SYS_bpf),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("kexec_load", libc::SYS_kexec_load),
            ("kexec_file_load", libc::SYS_kexec_file_load),
            ("init_module", libc::SYS_init_module),
            ("finit_module", libc::SYS_finit_module),
            ("delete_module", libc::SYS_delete_module),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("fanotify_init", libc::SYS_fanotify_init),
            ("clock_settime", libc::SYS_clock_settime),
            ("settimeofday", libc::SYS_settimeofday),
            ("adjtimex", libc::SYS_adjtimex),
            ("clock_adjtime", libc::SYS_clock_adjtime),
            ("reboot", libc::SYS_reboot),
            ("swapon", libc::SYS_swapon),
            ("swapoff", libc::SYS_swapoff),
            ("acct", libc::SYS_acct),
            ("quotactl", libc::SYS_quotactl),
            ("quotactl_fd", libc::SYS_quotactl_fd),
            ("vhangup", libc::SYS_vhangup),
            ("syslog", libc::SYS_syslog),
            ("nfsservctl", libc::SYS_nfsservctl),
            ("lookup_dcookie", libc::SYS_lookup_dcookie),
            ("ioctl", libc::SYS_ioctl),
            ("socket", libc::SYS_socket),
            ("socketpair", libc::SYS_socketpair),
            ("personality", libc::SYS_personality),
        ];
        let ours = |name| DENIALS.iter().flat_map(|denial| denial.calls).find(|call| call.name == name);
        for (name, number) in known {
            let call = ours(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(call.number(Abi::HERE[0]).map(i64::from), Some(number), "{name}");
        }
        // The same call must not have two rows: the first would hide the second.
        let mut names: Vec<_> = DENIALS.iter().flat_map(Denial::calls).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_program_is_one_that_the_kernel_takes_and_a_feature_lifts_its_part() {
        let whole = seal(&[]);
        // BPF_MAXINSNS of linux/bpf_common.h.
        assert!(whole.compile().len() <= 4096);
        let calls = |filter: &Filter| filter.rules[0].1.iter().map(|rule| rule.call).collect::<Vec<_>>();
        let clone3 = libc::SYS_clone3 as u32;
        assert!(calls(&whole).contains(&clone3));
        let lifted = seal(&[Feature::Userns]);
        assert!(!calls(&lifted).contains(&clone3) && calls(&lifted).contains(&(libc::SYS_bpf as u32)));
    }

    #[test]
    fn families_and_personalities_are_permitted_by_name() {
        let verdicts = |name: &str| -> Vec<Rule> {
            let call = DENIALS.iter().flat_map(|denial| denial.calls).find(|call| call.name == name);
            let number = call.and_then(|call| call.number(Abi::HERE[0])).unwrap();
            seal(&[]).rules[0].1.iter().copied().filter(|rule| rule.call == number).collect()
        };
        let socket = verdicts("socket");
        assert_eq!(socket.len(), 5);
        assert_eq!(socket[4].verdict, Verdict::Errno(libc::EAFNOSUPPORT));
        // What no rule matches is allowed: that is right for a personality, and would be wrong for a family.
        assert_eq!(verdicts("personality").len(), 2);
        assert!(verdicts("ioctl").iter().all(|rule| rule.when.is_some()));
    }

    #[test]
    fn the_security_document_shows_this_very_table() {
        let root = std::env::var_os("TREEBOX_TEST_REPOSITORY")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), std::path::PathBuf::from);
        let Ok(document) = std::fs::read_to_string(root.join("SECURITY.md")) else {
            eprintln!("not checked: SECURITY.md is not at {}", root.display());
            return;
        };
        let missing: Vec<String> =
            DENIALS.iter().map(row).filter(|row| !document.lines().any(|line| line == row)).collect();
        assert!(missing.is_empty(), "SECURITY.md lacks these rows:\n{}", missing.join("\n"));
        let shown = document.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(shown, DENIALS.len(), "SECURITY.md shows rows of calls that are not refused");
    }

    fn row(denial: &Denial) -> String {
        let calls: Vec<String> = denial.calls().map(|name| format!("`{name}`")).collect();
        let when = if denial.when.is_empty() { String::new() } else { format!(": {}", denial.when) };
        let unless = denial.unless.map_or(String::new(), |feature| format!("`{}`", feature.name()));
        format!("| {}{when} | {} | {unless} | {} |", calls.join(", "), denial.errno(), denial.reason)
    }
}
