//! System calls that the seal refuses.

use super::libc::{EBADF, EINVAL, ENOSYS, ENOTTY, EPERM};
use super::*;
use treebox::Feature;

#[test]
fn calls_that_reach_deep_into_the_kernel_are_refused() {
    refused(&[
        // Keys of the host's user; CVE-2016-0728 and its kin were in here.
        ("keyctl", EPERM),
        ("keyctl-join", EPERM),
        ("add-key", EPERM),
        ("request-key", EPERM),
        // CVE-2020-8835, CVE-2021-3490, CVE-2022-23222: verifier holes.
        ("bpf", EPERM),
        // CVE-2013-2094 and a long tail.
        ("perf", EPERM),
        // The pause button of exploits, such as that of CVE-2022-2588.
        ("userfaultfd", EPERM),
        // CVE-2022-29582, CVE-2023-2598; also a way around this very filter.
        ("io-uring", ENOSYS),
        ("init-module", EPERM),
        ("finit-module", EPERM),
        ("delete-module", EPERM),
        ("kexec-load", EPERM),
    ]);
}

#[test]
fn namespaces_of_its_own_are_refused() {
    refused(&[
        // CVE-2022-0185, CVE-2021-22555, CVE-2023-32233, CVE-2024-1086: each began with root of a new user namespace.
        ("clone-user", EPERM),
        ("unshare-user", EPERM),
        ("unshare-network", EPERM),
        ("clone-mount", EPERM),
        ("clone3", ENOSYS),
        ("setns", EPERM),
        ("enter-namespace 1", EPERM),
    ]);
    // Threads and file tables are nobody's business.
    assert_eq!(inside("unshare-files"), "ok");
}

#[test]
fn mounts_are_refused_by_the_old_calls_and_the_new() {
    refused(&[
        ("mount", EPERM),
        ("mount-proc", EPERM),
        // CVE-2022-0492: a cgroup's release_agent runs on the host.
        ("mount-cgroup", EPERM),
        ("mount-over-root", EPERM),
        ("remount-proc-sys", EPERM),
        ("share-mounts", EPERM),
        ("uncover", EPERM),
        ("pivot-root", EPERM),
        ("open-tree", EPERM),
        ("fsopen", EPERM),
        ("move-mount", EPERM),
        ("mount-setattr", EPERM),
    ]);
}

#[test]
fn the_machine_is_not_administered() {
    refused(&[
        // Shocker (docker, 2014): files of the host by inode number.
        ("open-by-handle", EPERM),
        ("fanotify", EPERM),
        ("clock-settime", EPERM),
        ("settimeofday", EPERM),
        ("adjtimex", EPERM),
        ("reboot", EPERM),
        ("swapon", EPERM),
        ("swapoff", EPERM),
        ("acct", EPERM),
        ("quotactl", EPERM),
        ("vhangup", EPERM),
        ("syslog", EPERM),
        ("hostname", EPERM),
        ("raw-socket", EPERM),
    ]);
    #[cfg(target_arch = "x86_64")]
    refused(&[("iopl", EPERM), ("ioperm", EPERM)]);
}

#[test]
fn nothing_is_typed_into_a_terminal() {
    refused(&[
        // CVE-2016-7545, CVE-2017-5226: TIOCSTI.
        ("terminal 21522", EPERM),
        // CVE-2019-10063: the same with a bit above those that the kernel reads.
        ("terminal 4294988818", EPERM),
        // CVE-2023-28100: TIOCLINUX.
        ("terminal 21532", EPERM),
    ]);
    // TIOCGPGRP goes through to a stream that is no terminal; outside all of them do.
    assert_eq!(inside("terminal 21519"), ENOTTY.to_string());
    assert_eq!(outside("terminal 21522"), ENOTTY.to_string());
}

#[test]
fn sockets_are_of_the_ordinary_families() {
    let none = libc::EAFNOSUPPORT;
    refused(&[
        // AF_ALG: CVE-2026-31431 wrote into page cache that sandboxes share.
        ("socket-stream 38", none),
        // AF_VSOCK leads to the hypervisor from every network namespace.
        ("socket 40", none),
        // AF_PACKET: CVE-2020-14386.
        ("socket 17", none),
        // AF_KEY, AF_RDS (CVE-2010-3904), AF_CAN, AF_TIPC (CVE-2021-43267), AF_BLUETOOTH, AF_XDP.
        ("socket 15", none),
        ("socket-stream 21", none),
        ("socket 29", none),
        ("socket 30", none),
        ("socket 31", none),
        ("socket 44", none),
    ]);
    for ordinary in ["socket 1", "socket 2", "socket 10", "socket 16"] {
        assert_eq!(inside(ordinary), "ok", "{ordinary}");
    }
}

#[test]
fn a_personality_takes_no_protection_away() {
    // READ_IMPLIES_EXEC, MMAP_PAGE_ZERO.
    refused(&[("personality 4194304", EPERM), ("personality 1048576", EPERM)]);
    assert_eq!(outside("personality 4194304"), "ok");
    // What `setarch -R` and debuggers ask for; and the question.
    assert_eq!(inside("personality 262144"), "ok");
    assert_eq!(inside("personality 4294967295"), "ok");
}

#[test]
fn other_conventions_lead_to_the_same_walls() {
    if !cfg!(target_arch = "x86_64") {
        return not_here("32-bit calls of x86");
    }
    // x32 has x86-64's architecture number and other numbers of calls: 250 is keyctl.
    refused(&[("old-convention x32 250", ENOSYS)]);
    // Call 20 is getpid.
    if outside("old-convention 20 0 0") != "ok" {
        return not_here("32-bit calls of x86: the kernel does not have them");
    }
    // keyctl, unshare of a user namespace, and socketcall that would make a socket of AF_ALG.
    refused(&[
        ("old-convention 288 0 0", EPERM),
        ("old-convention 310 268435456 0", EPERM),
        ("old-convention 102 1 38", EPERM),
    ]);
    assert_eq!(inside("old-convention 20 0 0"), "ok");
    let said = inside_with(|command| command.allow(Feature::Socketcall), &["old-convention 102 1 1"]);
    assert_eq!(said, ["ok"]);
}

#[test]
fn the_attacks_work_where_nothing_refuses_them() {
    // What a user may do everywhere; the kernel's own answers to bad arguments are others than the filter's.
    for (attack, said) in [("setns", EBADF), ("clone3", EINVAL), ("request-key", libc::ENOKEY)] {
        assert_eq!(outside(attack), said.to_string(), "{attack}");
    }
    for attack in ["open-tree", "keyctl", "add-key"] {
        assert_eq!(outside(attack), "ok", "{attack}");
    }
    for attack in ["clone-user", "unshare-user", "userfaultfd", "fanotify", "perf", "io-uring"] {
        if outside(attack) != "ok" {
            eprintln!("NOT SHOWN on this machine: {attack} outside of a sandbox: {}", outside(attack));
        }
    }
}

#[test]
fn a_feature_lifts_its_own_part_and_what_was_covered_stays_so() {
    let with =
        |feature: Feature, attack: &str| inside_with(|command| command.allow(feature), &[attack]).remove(0);
    for attack in ["clone-user", "unshare-user", "nested-mount"] {
        assert_eq!(with(Feature::Userns, attack), "ok", "{attack}");
    }
    assert_eq!(with(Feature::Userns, "keyctl"), EPERM.to_string());
    // Mounts of the sandbox are locked against root of a nested namespace: masks stay on, read-only stays so.
    assert_eq!(with(Feature::Userns, "nested-uncover"), EINVAL.to_string());
    assert_eq!(with(Feature::Userns, "nested-remount"), EPERM.to_string());
    assert_ne!(with(Feature::Userns, "nested-cgroup"), "ok");
    assert_eq!(with(Feature::IoUring, "io-uring"), outside("io-uring"));
    assert_eq!(with(Feature::Keyring, "keyctl-join"), "ok");
    assert_eq!(with(Feature::Keyring, "unshare-user"), EPERM.to_string());
}

#[test]
fn keys_of_the_caller_are_not_in_the_sandboxes_keyring() {
    attack::hold_a_key().unwrap();
    // A worker started by a process that holds the key.
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions::at(dir.path().join("store")).worker(crate::support::treebox());
    let engine = Engine::open(options).unwrap();
    let host = engine.import(&ImportSource::parse("host").unwrap(), None).unwrap().state;
    let command = Command::new("/attack")
        .args([attack::ARGUMENT, "host-key"])
        .copy(std::env::current_exe().unwrap(), "/attack")
        .allow(Feature::Keyring)
        .disposable(true);
    let outcome = host.run(&command).unwrap();
    assert_eq!(String::from_utf8(outcome.stdout).unwrap().trim_end(), libc::ENOKEY.to_string());
    assert_eq!(outside("host-key"), "ok");
}
