//! Files and mounts: /proc, /sys, /dev, descriptors, paths of the host.

use super::libc::{EACCES, ENOENT, ENXIO, EPERM, EROFS};
use super::*;

#[test]
fn settings_of_the_kernel_are_not_written() {
    refused(&[
        // CVE-2025-31133, CVE-2025-52881: a writable core_pattern is a command that the host runs.
        ("open-to-write /proc/sys/kernel/core_pattern", of_the_host("/proc/sys/kernel/core_pattern")),
        ("chmod /proc/sys/kernel/core_pattern", EROFS),
        ("open-to-write /proc/sys/kernel/hostname", of_the_host("/proc/sys/kernel/hostname")),
        ("open-to-write /proc/sys/vm/drop_caches", of_the_host("/proc/sys/vm/drop_caches")),
        // A setting of the sandbox's own namespace, so of its root.
        ("open-to-write /proc/sys/kernel/pid_max", if kernel_has((6, 14)) { EROFS } else { EACCES }),
        ("open-to-write /proc/sysrq-trigger", of_the_host("/proc/sysrq-trigger")),
        ("mkdir /sys/escape", EROFS),
        ("open-to-write /sys/power/state", of_the_host("/sys/power/state")),
        ("open-to-write /sys/kernel/mm/ksm/run", of_the_host("/sys/kernel/mm/ksm/run")),
    ]);
}

/// The answer for a file of the host's root: its mode holds everybody else off, and the mount real root.
fn of_the_host(path: &str) -> i32 {
    match fs_has(path) {
        true if real_root() => EROFS,
        true => EACCES,
        false => ENOENT,
    }
}

fn fs_has(path: &str) -> bool {
    std::fs::exists(path).unwrap_or(false)
}

#[test]
fn what_tells_about_the_host_is_covered() {
    for path in ["/proc/keys", "/proc/timer_list", "/proc/kcore", "/proc/sched_debug", "/proc/interrupts"] {
        if fs_has(path) {
            assert_eq!(inside(&format!("read {path}")), "empty", "{path}");
        }
    }
    assert_eq!(outside("read /proc/interrupts"), "ok");
    for path in ["/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware", "/sys/devices/virtual/powercap"]
    {
        if fs_has(path) {
            assert_eq!(inside(&format!("list {path}")), "0 entries", "{path}");
            // The cover is nobody's to write on.
            assert_eq!(inside(&format!("mkdir {path}/x")), EROFS.to_string(), "{path}");
        }
    }
}

#[test]
fn with_the_hosts_network_the_hosts_sys_is_read_only_and_what_is_mounted_there_covered() {
    let network = |command: Command| command.network(treebox::Network::Host);
    let ksm = "/sys/kernel/mm/ksm/run";
    refused_with(
        network,
        &[("mkdir /sys/escape", EROFS), (&format!("open-to-write {ksm}"), of_the_host(ksm))],
    );
    for path in ["/sys/fs/cgroup", "/sys/kernel/debug", "/sys/kernel/security", "/sys/fs/bpf"] {
        if fs_has(path) {
            let said = inside_with(network, &[&format!("list {path}"), &format!("mkdir {path}/escape")]);
            assert_eq!(said, ["0 entries", &EROFS.to_string()], "{path}");
        }
    }
}

#[test]
fn init_shows_nothing_of_the_host() {
    refused(&[
        ("read /proc/1/environ", EACCES),
        ("read /proc/1/maps", EACCES),
        ("read /proc/1/mem", EACCES),
        ("open-to-write /proc/1/mem", EACCES),
        // CVE-2019-5736: the runtime's own executable, overwritten through here.
        ("link-of /proc/1/exe", EACCES),
        ("open-to-write /proc/1/exe", EACCES),
        ("link-of /proc/1/root", EACCES),
        ("link-of /proc/1/cwd", EACCES),
        ("link-of /proc/1/fd/0", EACCES),
        ("link-of /proc/1/ns/user", EACCES),
    ]);
    let line = shared().base.run(&Command::shell("tr '\\0' ' ' < /proc/1/cmdline").disposable(true)).unwrap();
    assert!(!String::from_utf8_lossy(&line.stdout).contains('/'), "{line:?}");
}

#[test]
fn treebox_itself_is_no_program_of_the_sandbox() {
    // CVE-2019-5736: for a moment the payload is a process of the runtime, and /proc/self/exe the runtime's file.
    let before = std::fs::metadata(crate::support::treebox()).unwrap();
    for path in ["/proc/self/exe", "/proc/thread-self/exe", "../proc/self/exe"] {
        let refused =
            shared().base.run(&Command::new(path).arg("--version").workdir("/tmp").disposable(true));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), treebox::ErrorKind::CommandNotExecutable, "{path}: {error}");
    }
    let link = shared().base.run(&Command::shell("ln -s /proc/self/exe /tmp/program")).unwrap();
    let refused = link.state().run(&Command::new("/tmp/program").disposable(true));
    assert_eq!(refused.unwrap_err().kind(), treebox::ErrorKind::CommandNotExecutable);
    // As the interpreter of a script it starts, but is busy: nobody writes to it.
    let script =
        link.state().run(&Command::shell("printf '#!/proc/self/exe\\n' >/tmp/s; chmod 755 /tmp/s")).unwrap();
    let _ = script.state().run(&Command::new("/tmp/s").disposable(true));
    let after = std::fs::metadata(crate::support::treebox()).unwrap();
    assert_eq!(after.len(), before.len());
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    // A program of the sandbox's own, reached by way of a link that is no magic.
    let ordinary =
        shared().base.run(&Command::new("/proc/../bin/sh").args(["-c", "exit 3"]).disposable(true));
    assert_eq!(ordinary.unwrap().exit_code, Some(3));
}

#[test]
fn devices_are_neither_made_nor_changed_nor_there() {
    refused(&[
        // The devices are the host's own inodes: real root inside could take them from everybody.
        ("chmod /dev/null", EROFS),
        ("chmod /dev/urandom", EROFS),
        // CVE-2025-31133: what covers a file is /dev/null itself.
        ("chmod /proc/keys", EROFS),
        // No terminal controls the payload.
        ("open-to-write /dev/tty", ENXIO),
        ("open-to-write /dev/mem", ENOENT),
        ("open-to-write /dev/kmsg", ENOENT),
        ("open-to-write /dev/sda", ENOENT),
        ("open-to-write /dev/vda", ENOENT),
        ("open-to-write /dev/kvm", ENOENT),
        ("open-to-write /dev/fuse", ENOENT),
        ("open-to-write /dev/net/tun", ENOENT),
        ("open-to-write /dev/console", ENOENT),
        ("open-to-write /dev/vsock", ENOENT),
    ]);
    // The first disk, the memory, random numbers. Where root is emulated something of that name is there, which has no device behind it.
    for attack in ["/tmp/disk b 8 0", "/tmp/mem c 1 1", "/dev/mem c 1 1", "/tmp/random c 1 9"] {
        let said = inside(&format!("use-device {attack}"));
        assert!(said == EPERM.to_string() || said == ENXIO.to_string(), "{attack}: {said}");
    }
    assert_eq!(inside("read /dev/urandom"), "ok");
    let null = nix::sys::stat::stat("/dev/null").unwrap();
    assert_eq!(null.st_mode & 0o777, 0o666, "the host's /dev/null was changed");
    assert_eq!(inside("open-to-write /dev/null"), "ok");
}

#[test]
fn no_descriptor_leads_out() {
    assert_eq!(inside("open-descriptors"), "none");
    // CVE-2024-21626: a working directory that is a descriptor which the runtime forgot to close.
    for number in 3..40 {
        let command = Command::new("pwd").workdir(format!("/proc/self/fd/{number}")).disposable(true);
        let outcome = shared().base.run(&command);
        assert!(outcome.is_err(), "a working directory at descriptor {number}: {outcome:?}");
    }
}

#[test]
fn paths_of_the_host_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "host").unwrap();
    let path = secret.to_str().unwrap();
    let store = shared().dir.path().join("store/format");
    let script = format!("link-of /proc/self/root{path}");
    refused(&[
        (&format!("read {path}"), ENOENT),
        (&format!("walk-up {path}"), ENOENT),
        (&script, ENOENT),
        // The store itself, whose path the payload may know.
        (&format!("read {}", store.display()), ENOENT),
    ]);
    assert_eq!(outside(&format!("read {path}")), "ok");
    // A chroot left by its old hole ends at the sandbox's own root.
    assert_eq!(inside("leave-chroot"), "still inside");
}

#[test]
fn files_in_shared_memory_are_its_own() {
    let name = format!("/dev/shm/treebox-escape-{}", std::process::id());
    std::fs::write(&name, "host").unwrap();
    let said = inside(&format!("read {name}"));
    std::fs::remove_file(&name).unwrap();
    assert_eq!(said, ENOENT.to_string());
}

#[test]
fn where_the_host_has_the_store_is_not_told() {
    let store = shared().dir.path().to_str().unwrap();
    let command = Command::shell("cat /proc/self/mountinfo /proc/1/mountinfo").disposable(true);
    let mounts = String::from_utf8(shared().base.run(&command).unwrap().stdout).unwrap();
    assert!(mounts.contains("overlay"), "{mounts}");
    if !kernel_has((6, 15)) {
        return not_here("layers without a path: that needs Linux 6.15");
    }
    assert!(!mounts.contains(store), "{mounts}");
}
