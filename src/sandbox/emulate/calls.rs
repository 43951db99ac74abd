//! Which system calls are answered, by convention, and the filter that sends them to the supervisor.

use nix::libc;

use crate::sandbox::seccomp::{Abi, Filter, Rule, Test, Verdict};

/// A call that is answered. Forms that differ only in how they name the file are one call where their arguments allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// chown and lchown: path, uid, gid.
    Chown {
        follow: bool,
    },
    Fchown,
    Fchownat,
    Mknod,
    Mknodat,
    SetUid,
    SetGid,
    SetReuid,
    SetRegid,
    SetResuid,
    SetResgid,
    SetFsuid,
    SetFsgid,
    SetGroups,
    /// prctl(PR_SET_KEEPCAPS).
    KeepCapabilities,
    GetUid,
    GetEuid,
    GetGid,
    GetEgid,
    GetResuid,
    GetResgid,
    GetGroups,
    /// stat and lstat: path, buffer.
    Stat {
        follow: bool,
    },
    Fstat,
    Fstatat,
    Statx,
    /// rename: old path, new path.
    Rename,
    /// renameat: directory, old path, directory, new path; renameat2 has flags behind.
    Renameat,
    Renameat2,
    Unlink,
    /// unlinkat: directory, path, flags.
    Unlinkat,
    Rmdir,
    Chroot,
    Link,
    Linkat,
    Open,
    Openat,
    Openat2,
    Creat,
    Mkdir,
    Mkdirat,
    Symlink,
    Symlinkat,
    SetXattr(File),
    GetXattr(File),
    ListXattr(File),
    RemoveXattr(File),
}

/// How a call about extended attributes names its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    /// By a path; links are followed.
    Path,
    /// By a path whose last link is not followed.
    Link,
    /// By a descriptor.
    Descriptor,
}

const FOLLOW: Call = Call::Chown { follow: true };
const NOFOLLOW: Call = Call::Chown { follow: false };

/// Numbers from arch/x86/entry/syscalls/syscall_64.tbl of the kernel.
const X86_64: &[(u32, Call)] = &[
    (2, Call::Open),
    (4, Call::Stat { follow: true }),
    (5, Call::Fstat),
    (6, Call::Stat { follow: false }),
    (82, Call::Rename),
    (83, Call::Mkdir),
    (84, Call::Rmdir),
    (85, Call::Creat),
    (86, Call::Link),
    (87, Call::Unlink),
    (88, Call::Symlink),
    (92, FOLLOW),
    (93, Call::Fchown),
    (94, NOFOLLOW),
    (102, Call::GetUid),
    (104, Call::GetGid),
    (105, Call::SetUid),
    (106, Call::SetGid),
    (107, Call::GetEuid),
    (108, Call::GetEgid),
    (113, Call::SetReuid),
    (114, Call::SetRegid),
    (115, Call::GetGroups),
    (116, Call::SetGroups),
    (117, Call::SetResuid),
    (118, Call::GetResuid),
    (119, Call::SetResgid),
    (120, Call::GetResgid),
    (122, Call::SetFsuid),
    (123, Call::SetFsgid),
    (133, Call::Mknod),
    (157, Call::KeepCapabilities),
    (161, Call::Chroot),
    (188, Call::SetXattr(File::Path)),
    (189, Call::SetXattr(File::Link)),
    (190, Call::SetXattr(File::Descriptor)),
    (191, Call::GetXattr(File::Path)),
    (192, Call::GetXattr(File::Link)),
    (193, Call::GetXattr(File::Descriptor)),
    (194, Call::ListXattr(File::Path)),
    (195, Call::ListXattr(File::Link)),
    (196, Call::ListXattr(File::Descriptor)),
    (197, Call::RemoveXattr(File::Path)),
    (198, Call::RemoveXattr(File::Link)),
    (199, Call::RemoveXattr(File::Descriptor)),
    (257, Call::Openat),
    (258, Call::Mkdirat),
    (259, Call::Mknodat),
    (260, Call::Fchownat),
    (262, Call::Fstatat),
    (263, Call::Unlinkat),
    (264, Call::Renameat),
    (265, Call::Linkat),
    (266, Call::Symlinkat),
    (316, Call::Renameat2),
    (332, Call::Statx),
    (437, Call::Openat2),
];

/// Numbers from scripts/syscall.tbl of the kernel, which all newer architectures share.
const AARCH64: &[(u32, Call)] = &[
    (5, Call::SetXattr(File::Path)),
    (6, Call::SetXattr(File::Link)),
    (7, Call::SetXattr(File::Descriptor)),
    (8, Call::GetXattr(File::Path)),
    (9, Call::GetXattr(File::Link)),
    (10, Call::GetXattr(File::Descriptor)),
    (11, Call::ListXattr(File::Path)),
    (12, Call::ListXattr(File::Link)),
    (13, Call::ListXattr(File::Descriptor)),
    (14, Call::RemoveXattr(File::Path)),
    (15, Call::RemoveXattr(File::Link)),
    (16, Call::RemoveXattr(File::Descriptor)),
    (33, Call::Mknodat),
    (34, Call::Mkdirat),
    (35, Call::Unlinkat),
    (36, Call::Symlinkat),
    (37, Call::Linkat),
    (38, Call::Renameat),
    (51, Call::Chroot),
    (54, Call::Fchownat),
    (55, Call::Fchown),
    (56, Call::Openat),
    (79, Call::Fstatat),
    (80, Call::Fstat),
    (143, Call::SetRegid),
    (144, Call::SetGid),
    (145, Call::SetReuid),
    (146, Call::SetUid),
    (147, Call::SetResuid),
    (148, Call::GetResuid),
    (149, Call::SetResgid),
    (150, Call::GetResgid),
    (151, Call::SetFsuid),
    (152, Call::SetFsgid),
    (158, Call::GetGroups),
    (159, Call::SetGroups),
    (167, Call::KeepCapabilities),
    (174, Call::GetUid),
    (175, Call::GetEuid),
    (176, Call::GetGid),
    (177, Call::GetEgid),
    (276, Call::Renameat2),
    (291, Call::Statx),
    (437, Call::Openat2),
];

/// What the 32-bit conventions of x86 and Arm have in common: the calls with 32-bit ids (syscall_32.tbl, arm's
/// syscall.tbl). The old forms with 16-bit ids and `struct stat` are not answered: no libc of this century uses them to
/// change anything.
const BOTH_32: &[(u32, Call)] = &[
    (8, Call::Creat),
    (9, Call::Link),
    (10, Call::Unlink),
    (14, Call::Mknod),
    (38, Call::Rename),
    (39, Call::Mkdir),
    (40, Call::Rmdir),
    (61, Call::Chroot),
    (83, Call::Symlink),
    (172, Call::KeepCapabilities),
    (198, NOFOLLOW),
    (199, Call::GetUid),
    (200, Call::GetGid),
    (201, Call::GetEuid),
    (202, Call::GetEgid),
    (203, Call::SetReuid),
    (204, Call::SetRegid),
    (205, Call::GetGroups),
    (206, Call::SetGroups),
    (207, Call::Fchown),
    (208, Call::SetResuid),
    (209, Call::GetResuid),
    (210, Call::SetResgid),
    (211, Call::GetResgid),
    (212, FOLLOW),
    (213, Call::SetUid),
    (214, Call::SetGid),
    (215, Call::SetFsuid),
    (216, Call::SetFsgid),
    (226, Call::SetXattr(File::Path)),
    (227, Call::SetXattr(File::Link)),
    (228, Call::SetXattr(File::Descriptor)),
    (437, Call::Openat2),
];

const X86: &[(u32, Call)] = &[
    (5, Call::Open),
    (295, Call::Openat),
    (296, Call::Mkdirat),
    (297, Call::Mknodat),
    (298, Call::Fchownat),
    (301, Call::Unlinkat),
    (302, Call::Renameat),
    (303, Call::Linkat),
    (304, Call::Symlinkat),
    (353, Call::Renameat2),
    (383, Call::Statx),
];

const ARM: &[(u32, Call)] = &[
    (5, Call::Open),
    (322, Call::Openat),
    (323, Call::Mkdirat),
    (324, Call::Mknodat),
    (325, Call::Fchownat),
    (328, Call::Unlinkat),
    (329, Call::Renameat),
    (330, Call::Linkat),
    (331, Call::Symlinkat),
    (382, Call::Renameat2),
    (397, Call::Statx),
];

fn tables(abi: Abi) -> [&'static [(u32, Call)]; 2] {
    match abi {
        Abi::X86_64 => [X86_64, &[]],
        Abi::X86 => [X86, BOTH_32],
        Abi::Aarch64 => [AARCH64, &[]],
        Abi::Arm => [ARM, BOTH_32],
    }
}

impl Call {
    /// The call of that number, if it is one that is answered.
    pub(crate) fn of(abi: Abi, number: u32) -> Option<Self> {
        let mut all = tables(abi).into_iter().flatten();
        all.find(|(known, _)| *known == number).map(|(_, call)| *call)
    }

    /// Most opens make no file: those are never sent.
    fn when(self) -> Option<Test> {
        match self {
            Self::Open => Some(Test::HasAny(1, libc::O_CREAT as u32)),
            Self::Openat => Some(Test::HasAny(2, libc::O_CREAT as u32)),
            Self::KeepCapabilities => Some(Test::Is(0, libc::PR_SET_KEEPCAPS as u32)),
            _ => None,
        }
    }
}

/// The filter that sends every answered call to the supervisor and allows the rest.
///
/// Lists of attributes are asked for with every copied file, and show only what few images have: `lists` says whether this one has.
pub(crate) fn filter(lists: bool) -> Filter {
    let rules = |abi: Abi| {
        let all = tables(abi).into_iter().flatten();
        let all = all.filter(|(_, call)| lists || !matches!(call, Call::ListXattr(_)));
        all.map(|(call, what)| Rule { call: *call, when: what.when(), verdict: Verdict::Notify }).collect()
    };
    Filter { rules: Abi::HERE.iter().map(|abi| (*abi, rules(*abi))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_stands_twice_in_a_table() {
        for abi in [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm] {
            let mut numbers: Vec<u32> =
                tables(abi).into_iter().flatten().map(|(number, _)| *number).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{abi:?}");
        }
    }

    #[test]
    fn the_numbers_of_this_machine_are_those_of_its_libc() {
        let here = Abi::HERE[0];
        let of = |number: libc::c_long| Call::of(here, number as u32);
        assert_eq!(of(libc::SYS_fchownat), Some(Call::Fchownat));
        assert_eq!(of(libc::SYS_fchown), Some(Call::Fchown));
        assert_eq!(of(libc::SYS_mknodat), Some(Call::Mknodat));
        assert_eq!(of(libc::SYS_setuid), Some(Call::SetUid));
        assert_eq!(of(libc::SYS_setgid), Some(Call::SetGid));
        assert_eq!(of(libc::SYS_setreuid), Some(Call::SetReuid));
        assert_eq!(of(libc::SYS_setregid), Some(Call::SetRegid));
        assert_eq!(of(libc::SYS_setresuid), Some(Call::SetResuid));
        assert_eq!(of(libc::SYS_setresgid), Some(Call::SetResgid));
        assert_eq!(of(libc::SYS_setfsuid), Some(Call::SetFsuid));
        assert_eq!(of(libc::SYS_setfsgid), Some(Call::SetFsgid));
        assert_eq!(of(libc::SYS_setgroups), Some(Call::SetGroups));
        assert_eq!(of(libc::SYS_chroot), Some(Call::Chroot));
        assert_eq!(of(libc::SYS_prctl), Some(Call::KeepCapabilities));
        assert_eq!(of(libc::SYS_getuid), Some(Call::GetUid));
        assert_eq!(of(libc::SYS_geteuid), Some(Call::GetEuid));
        assert_eq!(of(libc::SYS_getgid), Some(Call::GetGid));
        assert_eq!(of(libc::SYS_getegid), Some(Call::GetEgid));
        assert_eq!(of(libc::SYS_getresuid), Some(Call::GetResuid));
        assert_eq!(of(libc::SYS_getresgid), Some(Call::GetResgid));
        assert_eq!(of(libc::SYS_getgroups), Some(Call::GetGroups));
        assert_eq!(of(libc::SYS_fstat), Some(Call::Fstat));
        assert_eq!(of(libc::SYS_newfstatat), Some(Call::Fstatat));
        assert_eq!(of(libc::SYS_statx), Some(Call::Statx));
        assert_eq!(of(libc::SYS_renameat2), Some(Call::Renameat2));
        assert_eq!(of(libc::SYS_unlinkat), Some(Call::Unlinkat));
        assert_eq!(of(libc::SYS_linkat), Some(Call::Linkat));
        assert_eq!(of(libc::SYS_openat), Some(Call::Openat));
        assert_eq!(of(libc::SYS_openat2), Some(Call::Openat2));
        assert_eq!(of(libc::SYS_mkdirat), Some(Call::Mkdirat));
        assert_eq!(of(libc::SYS_symlinkat), Some(Call::Symlinkat));
        assert_eq!(of(libc::SYS_setxattr), Some(Call::SetXattr(File::Path)));
        assert_eq!(of(libc::SYS_lsetxattr), Some(Call::SetXattr(File::Link)));
        assert_eq!(of(libc::SYS_fsetxattr), Some(Call::SetXattr(File::Descriptor)));
        assert_eq!(of(libc::SYS_getxattr), Some(Call::GetXattr(File::Path)));
        assert_eq!(of(libc::SYS_lgetxattr), Some(Call::GetXattr(File::Link)));
        assert_eq!(of(libc::SYS_fgetxattr), Some(Call::GetXattr(File::Descriptor)));
        assert_eq!(of(libc::SYS_listxattr), Some(Call::ListXattr(File::Path)));
        assert_eq!(of(libc::SYS_llistxattr), Some(Call::ListXattr(File::Link)));
        assert_eq!(of(libc::SYS_flistxattr), Some(Call::ListXattr(File::Descriptor)));
        assert_eq!(of(libc::SYS_removexattr), Some(Call::RemoveXattr(File::Path)));
        assert_eq!(of(libc::SYS_lremovexattr), Some(Call::RemoveXattr(File::Link)));
        assert_eq!(of(libc::SYS_fremovexattr), Some(Call::RemoveXattr(File::Descriptor)));
    }

    #[test]
    fn a_call_that_nobody_answers_is_none() {
        assert_eq!(Call::of(Abi::X86_64, 0), None);
        assert_eq!(Call::of(Abi::X86, 4), None);
    }
}
