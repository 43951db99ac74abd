//! Processes, signals, sockets, and using things up.

use super::libc::{EACCES, EAGAIN, ECONNREFUSED, EINVAL, EMFILE, ENOENT, EPERM, ESRCH};
use super::*;

#[test]
fn processes_of_the_host_cannot_be_named() {
    let me = std::process::id();
    let parent = std::os::unix::process::parent_id();
    // A pid that is far above those of the sandbox exists on the host alone.
    for pid in [me, parent].into_iter().filter(|pid| *pid > 100) {
        refused(&[
            (&format!("kill {pid} 0"), ESRCH),
            (&format!("kill {pid} 9"), ESRCH),
            (&format!("trace {pid}"), ESRCH),
            (&format!("read-memory {pid}"), ESRCH),
            (&format!("take-descriptor {pid}"), ESRCH),
            (&format!("list /proc/{pid}"), ENOENT),
        ]);
    }
    assert_eq!(outside(&format!("kill {me} 0")), "ok");
}

#[test]
fn init_cannot_be_killed_stopped_traced_or_read() {
    let command =
        Command::shell("kill -9 1; kill -STOP 1; kill -KILL 1; sleep 0.05; echo alive").disposable(true);
    let outcome = shared().base.run(&command).unwrap();
    assert_eq!((outcome.exit_code, outcome.stdout.as_slice()), (Some(0), b"alive\n".as_slice()));
    refused(&[
        ("trace 1", EPERM),
        ("read-memory 1", EPERM),
        ("take-descriptor 1", EPERM),
        ("compare 1", EPERM),
    ]);
    // Debuggers work among the payload's own processes.
    assert_eq!(inside("trace-child"), "ok");
}

#[test]
fn nobody_outlives_the_sandbox() {
    let word = format!("tbl{}", std::process::id());
    assert_eq!(inside(&format!("linger {word}")), "ok");
    let lingers = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok())
            .any(|comm| comm.trim_end() == word)
    };
    assert!(!lingers());
    // The attack does make a process that a search finds: it is there while its sandbox is.
    let script = format!("/attack {} linger {word}; sleep 1", attack::ARGUMENT);
    let running = std::thread::spawn(move || {
        shared().base.run(&Command::shell(script).disposable(true)).unwrap();
    });
    let found = (0..90).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        lingers()
    });
    running.join().unwrap();
    assert!(found && !lingers());
}

#[test]
fn a_fork_bomb_ends_at_the_limit() {
    if real_root() && !kernel_has((6, 14)) {
        return not_here("a limit of processes for real root: that needs Linux 6.14");
    }
    let outcome = shared()
        .base
        .run(&Command::new("/attack").args([attack::ARGUMENT, "fork-bomb"]).disposable(true))
        .unwrap();
    let out = String::from_utf8(outcome.stdout).unwrap();
    let (count, errno) = out.trim_end().split_once(' ').unwrap_or_else(|| panic!("{out}"));
    let count: u32 = count.parse().unwrap();
    assert_eq!(errno, EAGAIN.to_string());
    // Real root's processes are not counted per user; what bounds them is the number of process ids.
    let most = if real_root() { 8192 } else { 4096 };
    assert!(count > 1000 && count <= most, "{count}");
    // And the host has room for more at once.
    assert_eq!(outside("trace-child"), "ok");
}

#[test]
fn descriptors_end_at_a_limit_that_cannot_be_raised() {
    assert_eq!(inside("descriptor-bomb"), EMFILE.to_string());
    refused(&[("raise-limit", EPERM)]);
    let limits = shared().base.run(&Command::shell("ulimit -n; ulimit -Sc").disposable(true)).unwrap();
    assert_eq!(limits.stdout, b"1024\n0\n");
}

#[test]
fn priority_over_the_host_is_not_to_be_had() {
    refused(&[
        ("raise-priority", EACCES),
        ("real-time", EPERM),
        // A payload may take back what treebox added for it, and never go below what the caller had.
        ("write /proc/self/oom_score_adj -1", EACCES),
    ]);
    let said = shared().base.run(&Command::shell("cat /proc/self/oom_score_adj").disposable(true)).unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).trim().parse::<i32>().unwrap() >= 300);
}

#[test]
fn sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("treebox-escape-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _unix = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    // CVE-2020-15257: containerd's shim listened on an abstract socket.
    let abstract_socket = format!("connect-abstract {name}");
    let loopback = format!("connect-tcp {port}");
    refused(&[(&abstract_socket, ECONNREFUSED), (&loopback, ECONNREFUSED)]);
    let network = |command: Command| command.network(treebox::Network::Host);
    assert_eq!(inside_with(network, &[&abstract_socket, &loopback]), ["ok", "ok"]);
}

#[test]
fn shared_memory_segments_of_the_host_are_not_seen() {
    let (key, id) = attack::make_segment();
    let attack = format!("shm {key}");
    let (in_sandbox, on_host) = (inside(&attack), outside(&attack));
    attack::remove_segment(id);
    assert_eq!((in_sandbox, on_host), (ENOENT.to_string(), "ok".to_owned()));
    // A question that no kernel has an answer to keeps the attack honest.
    assert_eq!(outside("kill 1 999"), EINVAL.to_string());
}
