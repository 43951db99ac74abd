//! What a command can reach.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::TestEnv;

/// A server on this machine's loopback that says `secret` to everybody.
fn secret_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"secret\n");
        }
    });
    port
}

/// What a private network needs here and is not there; loudly, since then little of it is tested.
fn missing() -> Option<&'static str> {
    let helper = ["pasta", "slirp4netns"].iter().any(|name| Path::new("/usr/bin").join(name).exists());
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok();
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routed = routes.lines().any(|line| line.split('\t').nth(1) == Some("00000000"));
    let missing = match (helper, tun, routed) {
        (false, ..) => Some("needs the program pasta or slirp4netns"),
        (_, false, _) => Some("/dev/net/tun"),
        (.., false) => Some("no route"),
        _ => None,
    };
    if let Some(missing) = missing {
        eprintln!("NOT TESTED: private networks, for want of: {missing}");
        assert!(helper || std::env::var_os("CI").is_none(), "CI installs the package passt");
    }
    missing
}

/// Says what a connection gives, or `out of reach`.
const ASK: &str =
    "ask() { timeout 3 bash -c \"exec 3<>/dev/tcp/$1/$2 && cat <&3\" 2>/dev/null || echo out of reach; }; ";

#[test]
fn the_hosts_loopback_is_reached_with_the_hosts_network_and_with_no_other() {
    let env = TestEnv::new();
    let port = secret_server();
    let asked = |network: &str, more: &str| {
        let script = format!("{ASK} ask 127.0.0.1 {port}; {more}");
        env.json(&[
            "run",
            "--from",
            "host",
            "--disposable",
            "--network",
            network,
            "--",
            "bash",
            "-c",
            &script,
        ])
    };
    assert_eq!(asked("host", "")["stdout"], "secret\n");
    assert_eq!(asked("none", "")["stdout"], "out of reach\n");
    if let Some(missing) = missing() {
        let line =
            env.fails(125, &["run", "--from", "host", "--disposable", "--network", "private", "-c", "true"]);
        assert!(line.contains(missing), "{line}");
        return;
    }
    // The gateway stands for the host in other tools' defaults; its number is written backwards.
    let gateway = format!(
        "while read -r name to via rest; do [ \"$to\" = 00000000 ] && break; done </proc/net/route; \
         via=$((16#${{via:6:2}})).$((16#${{via:4:2}})).$((16#${{via:2:2}})).$((16#${{via:0:2}})); \
         echo $name; ask $via {port}"
    );
    assert_eq!(asked("private", &gateway)["stdout"], "out of reach\neth0\nout of reach\n");
}

#[test]
fn the_resolver_file_fits_the_network_and_nothing_of_it_is_kept() {
    let env = TestEnv::new();
    let base = env.step("host", "mkdir -p /etc /run; rm -f /etc/resolv.conf; echo own > /etc/resolv.conf");
    let linked = env.step(&base, "ln -sf ../run/resolver/stub.conf /etc/resolv.conf");
    let absent = env.step(&base, "rm /etc/resolv.conf");
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(env.shell(&base, "cat /etc/resolv.conf")["stdout"], "own\n");
    for state in [&base, &linked, &absent] {
        let run = |network: &str| {
            env.json(&[
                "run",
                "--from",
                state,
                "--network",
                network,
                "-c",
                "cat /etc/resolv.conf; echo more >> /etc/resolv.conf",
            ])
        };
        let ran = run("host");
        assert_eq!((ran["stdout"].as_str(), &ran["changed"]), (Some(own.as_str()), &false.into()), "{ran}");
        if missing().is_none() {
            let ran = run("private");
            assert!(ran["stdout"].as_str().unwrap().contains("nameserver "), "{ran}");
            assert_eq!((&ran["exit_code"], &ran["changed"]), (&0.into(), &false.into()), "{ran}");
        }
    }
    // What the user puts there wins.
    let mine = env.file("mine", "mine\n");
    let mount = format!("type=bind,source={},target=/etc/resolv.conf,readonly", mine.display());
    let ran = env.json(&[
        "run",
        "--from",
        &base,
        "--network",
        "host",
        "--mount",
        &mount,
        "-c",
        "cat /etc/resolv.conf",
    ]);
    assert_eq!(ran["stdout"], "mine\n", "{ran}");
}

#[test]
fn the_helper_of_a_private_network_never_outlives_its_run() {
    if missing().is_some() {
        return;
    }
    let env = TestEnv::new();
    for how in ["engine", "session", "helper", "time"] {
        let mut args = vec!["run", "--from", "host", "--disposable", "--network", "private"];
        args.extend(["--timeout", if how == "time" { "1s" } else { "60s" }]);
        args.extend(["-c", "echo ready; sleep 1013"]);
        let mut child = env.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let family = family_of(child.id());
        let helpers: Vec<u32> = family.iter().copied().filter(|pid| is_helper(*pid)).collect();
        assert!(!helpers.is_empty(), "{how}: no helper in {family:?}");
        // The worker's master is the engine's child, and the session its.
        let session = children(children(child.id())[0])[0];
        let victim = match how {
            "engine" => Some(child.id()),
            "session" => Some(session),
            "helper" => Some(helpers[0]),
            _ => None,
        };
        if let Some(victim) = victim {
            kill(victim);
        }
        if how == "helper" {
            // Without its network the command goes on, until somebody ends it.
            kill(child.id());
        }
        child.wait().unwrap();
        let began = Instant::now();
        while family.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            assert!(began.elapsed() < Duration::from_secs(10), "{how}: some of {family:?} are left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // Swept by the next start: what killed engines have left half-made.
    env.ok(&["run", "--from", "host", "--disposable", "-c", "true"]);
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn is_helper(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with(b"pasta\0") || line.starts_with(b"slirp4netns\0")
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    listed
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
        .collect()
}

/// Everything that a process has started, and what that has.
fn family_of(pid: u32) -> Vec<u32> {
    let mut family = Vec::new();
    let mut todo = children(pid);
    while let Some(pid) = todo.pop() {
        todo.extend(children(pid));
        family.push(pid);
    }
    family
}
