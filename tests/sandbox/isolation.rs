//! What a sandbox shows and what it keeps from view.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::PathBuf;

use super::fixture::Case;
use treebox::sandbox::{
    Ending, FileIdentity, LaunchError, Mount, Network, Resource, Rlimit, Rootfs, SecretBytes,
};
use treebox::worker::SessionError;

#[test]
fn init_is_pid_1_and_the_payload_pid_2() {
    let case = Case::new();
    assert_eq!(case.shell("echo $$ $PPID"), "2 1\n");
    // Nothing of the host's processes: init, the shell, and the two of the pipe, of which the second may not be there yet.
    let seen = case.shell("ls -d /proc/[0-9]* | wc -l");
    assert!(["3\n", "4\n"].contains(&seen.as_str()), "{seen}");
    // What init is, holds and was told stays with it.
    let secrets = "cat /proc/1/environ /proc/1/maps; readlink /proc/1/exe /proc/1/cwd /proc/1/fd/0; ls /proc/1/map_files";
    assert_eq!(case.shell(&format!("{{ {secrets}; }} 2>/dev/null; true")), "");
    assert!(!case.shell("cat /proc/1/cmdline").contains('/'));
}

#[test]
fn hostname_environment_and_directory_are_exactly_those_of_the_plan() {
    let case = Case::new();
    let mut plan = case.plan(&["env"]);
    plan.env = vec![b"PATH=/bin".to_vec(), b"ODD=a b=c\xff".to_vec()];
    plan.argv = vec![
        b"/bin/busybox".to_vec(),
        b"sh".to_vec(),
        b"-c".to_vec(),
        b"cat /proc/self/environ | wc -c; hostname; pwd; umask".to_vec(),
    ];
    plan.hostname = "box".to_owned();
    plan.cwd = b"/tmp".to_vec();
    plan.umask = 0o027;
    let said = case.run(plan);
    let bytes = b"PATH=/bin\0ODD=a b=c\xff\0".len();
    // The shell adds PWD and its level only to what it starts if it was told to export them; it was not.
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[1..], ["box", "/tmp", "0027"], "{}", said.err);
    let count: usize = lines[0].parse().unwrap();
    assert!(count >= bytes && count < bytes + 40, "{count}");
    let mut plan = case.plan(&["env"]);
    plan.env = vec![b"A=1".to_vec(), b"B=2".to_vec()];
    assert_eq!(case.run(plan).out, "A=1\nB=2\n");
}

#[test]
fn no_descriptor_of_the_host_comes_along() {
    let case = Case::new();
    // 3 is the directory that ls itself reads.
    assert_eq!(case.run(case.plan(&["ls", "/proc/self/fd"])).out, "0\n1\n2\n3\n");
}

#[test]
fn the_network_is_loopback_alone_and_up() {
    let case = Case::new();
    assert_eq!(case.shell("cat /proc/net/dev | grep -c :"), "1\n");
    assert!(case.shell("ifconfig lo").contains("127.0.0.1"));
    assert_eq!(case.shell("ls /sys/class/net 2>/dev/null || echo lo"), "lo\n");
    let served = case.shell("(echo hi | nc -l -p 4444) & sleep 0.3; nc 127.0.0.1 4444 </dev/null");
    assert_eq!(served, "hi\n");
}

#[test]
fn the_host_network_is_there_when_asked_for() {
    let case = Case::new();
    let mut plan = case.plan(&["readlink", "/proc/self/ns/net"]);
    plan.network = Network::Host;
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(case.run(plan).out.trim_end(), host.to_str().unwrap());
    assert_ne!(case.shell("readlink /proc/self/ns/net").trim_end(), host.to_str().unwrap());
}

#[test]
fn changes_land_in_the_upper_directory_and_removals_are_whiteouts() {
    let case = Case::new();
    case.shell("echo new > /etc/new; rm /etc/old; mkdir /made; rm -r /usr; mkdir /usr");
    let upper = case.dir.join("upper");
    assert_eq!(fs::read_to_string(upper.join("etc/new")).unwrap(), "new\n");
    let whiteout = fs::symlink_metadata(upper.join("etc/old")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let mut value = [0; 8];
    let length = rustix_getxattr(&upper.join("usr"), "user.overlay.opaque", &mut value);
    assert_eq!(&value[..length], b"y");
    let mut names: Vec<_> = fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    // Nothing that was set up for the run is in it.
    assert_eq!(names, ["etc", "made", "usr"]);
    assert!(case.dir.join("lower/etc/old").exists());
}

fn rustix_getxattr(path: &std::path::Path, name: &str, value: &mut [u8]) -> usize {
    rustix::fs::getxattr(path, name, value).unwrap()
}

#[test]
fn a_read_only_root_refuses_changes() {
    let case = Case::new();
    let mut plan = case.plan(&["touch", "/x"]);
    plan.rootfs = Rootfs::Overlay { lowers: case.lowers(), data_lower: None, upper: None };
    assert_eq!(case.run(plan.clone()).exit.ending, Ending::Code(1));
    for dir in ["proc", "dev", "sys"] {
        fs::create_dir(case.dir.join("lower").join(dir)).unwrap();
    }
    plan.rootfs = Rootfs::Directory { path: case.dir.join("lower"), read_only: true };
    assert_eq!(case.run(plan.clone()).exit.ending, Ending::Code(1));
    plan.rootfs = Rootfs::Directory { path: case.dir.join("lower"), read_only: false };
    assert_eq!(case.run(plan).exit.ending, Ending::Code(0));
    assert!(case.dir.join("lower/x").exists());
}

#[test]
fn parts_of_proc_and_sys_are_covered_or_read_only() {
    let case = Case::new();
    let said = case.run(case.plan(&["sh", "-c", "echo x > /proc/sys/kernel/hostname"]));
    assert_ne!(said.exit.ending, Ending::Code(0));
    assert!(said.err.contains("Read-only"), "{}", said.err);
    assert_eq!(case.shell("cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | wc -c"), "0\n");
    assert_eq!(case.shell("ls /sys/firmware 2>/dev/null | wc -l"), "0\n");
    let said = case.run(case.plan(&["sh", "-c", "mkdir /sys/x || mount -t tmpfs x /tmp"]));
    assert_ne!(said.exit.ending, Ending::Code(0));
}

#[test]
fn devices_are_the_usual_ones_and_work() {
    let case = Case::new();
    let listed = case.shell("ls /dev");
    let expected =
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    assert_eq!(listed.replace("mqueue\n", ""), expected.replace("mqueue\n", ""));
    assert_eq!(case.shell("head -c 5 /dev/zero | wc -c; echo x > /dev/null; echo y > /dev/stdout"), "5\ny\n");
    assert_eq!(case.shell("touch /dev/shm/x && stat -c %a /dev/shm"), "1777\n");
    let said = case.run(case.plan(&["mknod", "/tmp/disk", "b", "8", "0"]));
    assert_ne!(said.exit.ending, Ending::Code(0));
}

#[test]
fn an_image_with_a_link_for_a_mount_point_is_refused() {
    for name in ["proc", "dev", "sys"] {
        let case = Case::new();
        symlink("/tmp", case.dir.join("lower").join(name)).unwrap();
        match case.try_run(case.plan(&["true"])) {
            Err(SessionError::Launch(LaunchError::UnsafeMountPoint { path })) => assert_eq!(path, name),
            other => panic!("{name}: {:?}", other.map(|said| said.exit)),
        }
    }
}

#[test]
fn extra_mounts_stay_inside_the_root() {
    let case = Case::new();
    let outside = case.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "there\n").unwrap();
    fs::create_dir(case.dir.join("lower/mnt")).unwrap();
    // A mount point is no link, not even one that stays inside: who made the plan has followed it.
    symlink("../../../../mnt", case.dir.join("lower/link")).unwrap();
    let mut plan = case.plan(&["sh", "-c", "cat /mnt/file; touch /mnt/x; touch /tmp/y; stat -f -c %T /tmp"]);
    plan.mounts = vec![
        Mount::Bind { source: outside.clone(), found: None, target: "/mnt".into(), read_only: true },
        Mount::Tmpfs { target: "/tmp".into(), size_bytes: 1 << 20, mode: 0o1777, read_only: false },
    ];
    let said = case.run(plan.clone());
    assert_eq!(said.out, "there\ntmpfs\n");
    assert!(said.err.contains("Read-only") && !outside.join("x").exists(), "{}", said.err);
    assert!(!case.dir.join("upper/tmp/y").exists());
    let bind = |source: &std::path::Path, target: &str| Mount::Bind {
        source: source.to_owned(),
        found: None,
        target: target.into(),
        read_only: false,
    };
    for target in ["/nowhere", "/link"] {
        plan.mounts = vec![bind(&outside, target)];
        let err = case.try_run(plan.clone()).map(|said| said.out).unwrap_err();
        assert!(matches!(err, SessionError::Launch(LaunchError::MountPoint { .. })), "{err}");
    }
    plan.mounts = vec![bind(&PathBuf::from("/nonexistent/source"), "/mnt")];
    let err = case.try_run(plan).map(|said| said.out).unwrap_err();
    assert!(matches!(err, SessionError::Launch(LaunchError::Source { .. })), "{err}");
}

#[test]
fn a_secret_is_a_file_of_its_own_in_memory_and_owned_by_whom_the_plan_says() {
    let case = Case::new();
    fs::create_dir_all(case.dir.join("lower/run")).unwrap();
    fs::write(case.dir.join("lower/run/secret"), "stub").unwrap();
    let script = "cat /run/secret; stat -c '%a %u %g' /run/secret; stat -f -c %T /run/secret; echo x > /run/secret; ls -A /dev";
    let mut plan = case.plan(&["sh", "-c", script]);
    let content = SecretBytes::new(vec![b'x'; 300_000]);
    let target = PathBuf::from("/run/secret");
    plan.mounts = vec![Mount::Secret { target, content, mode: 0o440, uid: 0, gid: 0 }];
    let said = case.run(plan);
    let rest = said.out.trim_start_matches('x');
    assert_eq!(said.out.len() - rest.len(), 300_000);
    assert!(rest.starts_with("440 0 0\n"), "{rest}");
    assert!(rest.contains("UNKNOWN") || rest.contains("ramfs") || rest.contains("tmpfs"), "{rest}");
    assert!(!rest.contains(".secret"), "{rest}");
    assert!(said.err.contains("Read-only"), "{}", said.err);
}

#[test]
fn a_bind_source_that_is_another_file_by_now_is_refused() {
    let case = Case::new();
    let outside = case.dir.join("outside");
    fs::write(&outside, "first\n").unwrap();
    fs::write(case.dir.join("lower/point"), "").unwrap();
    let stat = fs::metadata(&outside).unwrap();
    let found = Some(FileIdentity { device: stat.dev(), inode: stat.ino() });
    let mut plan = case.plan(&["cat", "/point"]);
    plan.mounts =
        vec![Mount::Bind { source: outside.clone(), found, target: "/point".into(), read_only: true }];
    assert_eq!(case.run(plan.clone()).out, "first\n");
    // Both ways of swapping it, with the first file kept so that its number stays taken.
    fs::rename(&outside, case.dir.join("kept")).unwrap();
    fs::write(&outside, "second\n").unwrap();
    assert!(
        case.try_run(plan.clone()).map(|said| said.out).unwrap_err().to_string().contains("another file")
    );
    fs::remove_file(&outside).unwrap();
    symlink("kept", &outside).unwrap();
    assert!(case.try_run(plan).is_err());
}

#[test]
fn limits_and_privileges_are_those_of_a_container() {
    let case = Case::new();
    let status = case.run(case.plan(&["cat", "/proc/self/status"])).out;
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("NoNewPrivs:"), "1");
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(line(set), "00000000800405fb", "{set}");
    }
    assert_eq!((line("CapInh:"), line("CapAmb:")), ("0000000000000000".into(), "0000000000000000".into()));
    assert_eq!((line("SigBlk:"), line("SigIgn:")), ("0000000000000000".into(), "0000000000000000".into()));
    let mut plan = case.plan(&["sh", "-c", "ulimit -n; ulimit -c"]);
    plan.rlimits = vec![Rlimit { resource: Resource::OpenFiles, soft: 77, hard: 88 }];
    assert_eq!(case.run(plan).out, "77\n0\n");
}
