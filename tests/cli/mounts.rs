//! What a run is shown besides its state, and that nothing of it stays there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::{TestEnv, names};

fn run(env: &TestEnv, mounts: &[&str], text: &str) -> Value {
    let mut args = vec!["run", "--from", "host"];
    args.extend(mounts.iter().flat_map(|mount| ["--mount", mount]));
    args.extend(["-c", text]);
    env.json(&args)
}

/// Runs shell text that must succeed and gives what it prints.
fn prints(env: &TestEnv, mounts: &[&str], text: &str) -> String {
    let ran = run(env, mounts, text);
    assert_eq!(ran["exit_code"], 0, "{mounts:?} {text}: {ran}");
    ran["stdout"].as_str().unwrap().to_owned()
}

fn refused(env: &TestEnv, mounts: &[&str]) -> String {
    let mut args = vec!["run", "--from", "host"];
    args.extend(mounts.iter().flat_map(|mount| ["--mount", mount]));
    args.extend(["-c", "true"]);
    env.fails(125, &args)
}

#[test]
fn a_read_only_mount_counts_by_content_and_mode_and_not_by_time() {
    let env = TestEnv::new();
    let file = env.file("src/sub/file", "one\n");
    let build = || run(&env, &["type=bind,src=src,dst=/src"], "cat /src/sub/file > /out; date +%N >> /out");
    let first = build();
    assert_eq!(first["reused"], false);
    let again = build();
    assert_eq!((&again["reused"], &again["state"]), (&true.into(), &first["state"]));
    let old = SystemTime::now() - Duration::from_secs(86_400);
    fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    assert_eq!(build()["reused"], true);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(build()["reused"], false);
    // The same length and time: only the bytes tell.
    fs::write(&file, "two\n").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let changed = build();
    assert_eq!(changed["reused"], false);
    fs::write(&file, "one\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(build()["reused"], true);
}

#[test]
fn cve_2025_4953_writes_to_a_read_only_mount_reach_neither_host_nor_state() {
    let env = TestEnv::new();
    env.file("src/file", "host\n");
    let text = "echo x > /src/file; touch /src/new; rm /src/file; chmod 777 /src; mount -o remount,rw /src; mkdir /src/d; \
                cat /src/file; true";
    let ran = run(&env, &["type=bind,src=src,dst=/src"], text);
    assert_eq!((&ran["stdout"], &ran["changed"]), (&"host\n".into(), &false.into()), "{ran}");
    assert_eq!(fs::read_to_string(env.path("src/file")).unwrap(), "host\n");
    assert_eq!(names(&env.path("src")), ["file"]);
}

#[test]
fn mount_points_leave_no_trace_in_the_state() {
    let env = TestEnv::new();
    env.file("src/file", "f\n");
    let base =
        env.step("host", "mkdir -p /have/deep; echo old > /have/file; touch -d 2001-02-03 /have /have/deep");
    let listing = |rev: &str| env.json_lines(&["ls", "-lR", &format!("{rev}:/")]);
    let before = listing(&base);
    let from = |options: &[&str], text: &str| {
        env.json(&[&["run", "--from", &base], options, &["-c", text]].concat())
    };
    for target in
        ["/new", "/new/by/far", "/have", "/have/deep", "/have/new", "/have/deep/new/er", "/have/file/"]
    {
        for spec in ["type=bind,src=src", "type=tmpfs", "type=cache"] {
            let mount = format!("{spec},dst={target}");
            let ran = from(&["--mount", &mount], &format!("ls {target} > /dev/null; stat -c %Y /have"));
            assert_eq!(ran["exit_code"], 0, "{mount}: {ran}");
            assert_eq!((&ran["state"], &ran["changed"]), (&base.as_str().into(), &false.into()), "{mount}");
            if target != "/have" {
                assert_eq!(ran["stdout"].as_str().unwrap().trim(), "981158400", "{mount}");
            }
        }
    }
    // Directories on the way that were copied up and are as before.
    let mount = ["--mount", "type=bind,src=src,dst=/have/new/by/far"];
    let touched =
        from(&mount, "for d in /have /have/new /have/new/by; do touch $d/x; rm $d/x; chmod 755 $d; done");
    assert_eq!((&touched["exit_code"], &touched["changed"]), (&0.into(), &false.into()), "{touched}");
    let kept = from(&mount, "echo mine > /have/new/mine");
    let kept = kept["state"].as_str().unwrap();
    assert_eq!(env.ok(&["diff", "--name-status", &base, kept]), "A\t/have/new\nA\t/have/new/mine\n");
    assert_eq!(env.shell(kept, "cat /have/new/mine; ls /have/new")["stdout"], "mine\nmine\n");
    // A directory of the tree that is changed while a stub shows its attributes.
    let changed = from(&mount, "chmod 700 /have")["state"].as_str().unwrap().to_owned();
    assert_eq!(env.ok(&["diff", "--name-status", &base, &changed]), "M\t/have\n");
    assert_eq!(listing(&base), before);
}

#[test]
fn files_are_mounted_over_directories_and_directories_over_files() {
    let env = TestEnv::new();
    env.file("src/file", "f\n");
    let base = env.step("host", "mkdir -p /d/sub; echo file > /f; echo in > /d/sub/in");
    let mounts = ["--mount", "type=bind,src=src/file,dst=/d/sub", "--mount", "type=bind,src=src,dst=/f"];
    let ran = env.json(&[&["run", "--from", &base][..], &mounts, &["-c", "cat /d/sub /f/file"]].concat());
    assert_eq!((&ran["stdout"], &ran["changed"]), (&"f\nf\n".into(), &false.into()), "{ran}");
    assert_eq!(env.shell(&base, "cat /f /d/sub/in")["stdout"], "file\nin\n");
}

#[test]
fn targets_follow_the_links_of_the_state_and_never_leave_it() {
    let env = TestEnv::new();
    env.file("src/file", "f\n");
    let base = env.step(
        "host",
        "mkdir -p /real /links; ln -s ../real /links/rel; ln -s /real/sub /links/abs; ln -s ../run/net/conf /links/conf; \
         ln -s ../../../../../out /links/out; ln -s loop /links/loop; ln -s /proc/self /links/proc; echo x > /plain",
    );
    let seen = |source: &str, target: &str, text: &str| {
        let mount = format!("type=bind,src={source},dst={target}");
        let ran = env.json(&["run", "--from", &base, "--mount", &mount, "-c", text]);
        assert_eq!((&ran["exit_code"], &ran["changed"]), (&0.into(), &false.into()), "{mount}: {ran}");
        ran["stdout"].as_str().unwrap().to_owned()
    };
    assert_eq!(seen("src", "/links/rel", "cat /real/file"), "f\n");
    assert_eq!(seen("src", "/links/rel/deep", "cat /real/deep/file"), "f\n");
    assert_eq!(seen("src", "/links/abs", "cat /real/sub/file"), "f\n");
    // As /etc/resolv.conf on many systems: a link to what is only there at run time.
    assert_eq!(seen("src/file", "/links/conf", "cat /links/conf /run/net/conf"), "f\nf\n");
    assert_eq!(seen("src", "/links/out", "cat /out/file"), "f\n");
    assert!(!Path::new("/out").exists());
    // What a mount hides is not followed, whatever the order.
    let hidden = env.step(&base, "mkdir /z; ln -s /other /z/s");
    let mounts = ["--mount", "type=bind,src=src,dst=/z/s/t", "--mount", "type=tmpfs,dst=/z"];
    let ran = env.json(
        &[&["run", "--from", &hidden][..], &mounts, &["-c", "cat /z/s/t/file; ls -d /other || true"]]
            .concat(),
    );
    assert_eq!((&ran["stdout"], &ran["changed"]), (&"f\n".into(), &false.into()), "{ran}");
    for (target, told) in [
        ("/links/loop", "too many symbolic links"),
        ("/links/proc", "/proc"),
        ("/links/../proc/x", "/proc"),
        ("/plain/below", "/plain is not a directory"),
        ("/../x", "leaves the root"),
    ] {
        let mount = format!("type=bind,src=src,dst={target}");
        let line = env.fails(125, &["run", "--from", &base, "--mount", &mount, "-c", "true"]);
        assert!(line.contains(told), "{target}: {line}");
    }
}

#[test]
fn cve_2024_1753_links_of_a_source_are_the_hosts_and_links_inside_it_lead_nowhere_else() {
    let env = TestEnv::new();
    env.file("real/file", "f\n");
    env.file("outside", "host's own\n");
    symlink("real", env.path("link")).unwrap();
    symlink(env.path("outside"), env.path("real/out")).unwrap();
    assert_eq!(
        prints(
            &env,
            &["type=bind,src=link,dst=/m"],
            "cat /m/file; readlink /m/out | wc -l; cat /m/out || true"
        ),
        "f\n1\n"
    );
    let line = refused(&env, &["type=bind,src=missing,dst=/m"]);
    assert!(line.contains("missing"), "{line}");
    let line = refused(&env, &["type=bind,src=/dev/null,dst=/m"]);
    assert!(line.contains("device"), "{line}");
}

#[test]
fn cve_2024_9675_the_id_of_a_cache_is_no_path() {
    let env = TestEnv::new();
    for id in ["../../../../escaped", "/escaped", ".", "..", "a/b", "\u{1b}[31m\n", &"x".repeat(5000)] {
        let mount = format!("\"type=cache\",\"id={id}\",dst=/c");
        prints(&env, &[&mount], "echo here >> /c/log");
        assert_eq!(prints(&env, &[&mount], "cat /c/log"), "here\n", "{id:?}");
    }
    for dir in ["", "store", "store/caches"] {
        assert!(!names(&env.path(dir)).iter().any(|name| name.contains("escaped")), "{dir}");
    }
    let caches = names(&env.store().join("caches"));
    assert_eq!(caches.len(), 7);
    assert!(caches.iter().all(|name| name.len() == 32), "{caches:?}");
}

#[test]
fn cve_2024_23651_a_mount_point_in_a_cache_is_no_link() {
    let env = TestEnv::new();
    let host = env.file("host/secret", "host's own\n");
    prints(&env, &["type=cache,id=c,dst=/c"], "ln -s / /c/evil; ln -s /etc /c/etc");
    let line = refused(&env, &["type=cache,id=c,dst=/c", "type=tmpfs,dst=/c/evil/host"]);
    assert!(line.contains("mount point"), "{line}");
    let line = refused(&env, &["type=cache,id=c,dst=/c", "type=bind,src=host,dst=/c/etc"]);
    assert!(line.contains("mount point") || line.contains("bind"), "{line}");
    assert!(host.exists());
    // One that is not there is made, in the cache and nowhere else.
    let both = ["type=cache,id=c,dst=/c", "type=bind,src=host,dst=/c/new/host"];
    assert_eq!(prints(&env, &both, "cat /c/new/host/secret"), "host's own\n");
}

#[test]
fn cve_2024_23652_mount_points_in_a_host_directory_are_neither_made_nor_removed() {
    let env = TestEnv::new();
    env.file("src/have/file", "f\n");
    let line = refused(&env, &["type=bind,src=src,dst=/src,rw", "type=tmpfs,dst=/src/lacks"]);
    assert!(line.contains("/src/lacks"), "{line}");
    assert_eq!(names(&env.path("src")), ["have"]);
    let both = ["type=bind,src=src,dst=/src,rw", "type=tmpfs,dst=/src/have"];
    assert_eq!(
        prints(
            &env,
            &both,
            "ls -A /src/have | wc -l; echo x > /src/have/x; rmdir /src/have 2>/dev/null || true"
        ),
        "0\n"
    );
    assert_eq!(names(&env.path("src/have")), ["file"]);
    // What a command does around its mount points stays inside.
    let text = "rm -rf /a 2>/dev/null; mv /a /b 2>/dev/null; ln -s /src /a/x 2>/dev/null; true";
    run(&env, &["type=bind,src=src,dst=/a/mount"], text);
    assert_eq!(names(&env.path("src")), ["have"]);
    assert_eq!(fs::read_to_string(env.path("src/have/file")).unwrap(), "f\n");
}

#[test]
fn a_writable_mount_is_the_callers_and_such_a_run_is_not_remembered_unless_asked() {
    let env = TestEnv::new();
    env.file("work/in", "in\n");
    let args = |more: &[&'static str]| {
        let base = ["run", "--from", "host", "--mount", "type=bind,src=work,dst=/w,rw"];
        [&base[..], more, &["-c", "cat /w/in > /out; echo made > /w/made; touch /w/in"]].concat()
    };
    for _ in 0..2 {
        let ran = env.json(&args(&[]));
        assert_eq!((&ran["reused"], &ran["changes"]["added"]), (&false.into(), &1.into()), "{ran}");
    }
    let made = fs::metadata(env.path("work/made")).unwrap();
    assert_eq!(made.uid(), fs::metadata(env.path("work")).unwrap().uid());
    env.json(&args(&["--reuse", "always"]));
    assert_eq!(env.json(&args(&["--reuse", "always"]))["reused"], true);
}

#[test]
fn what_changes_while_it_is_used_is_not_remembered() {
    let env = TestEnv::new();
    env.file("src/file", "1\n");
    let mounts = ["--mount", "type=bind,src=src,dst=/src", "--mount", "type=bind,src=src,dst=/back,rw"];
    let args = [
        &["run", "--from", "host", "--reuse", "always"][..],
        &mounts,
        &["-c", "cat /src/file > /out; echo 2 > /back/file"],
    ]
    .concat();
    let ran = env.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("changed during the run"), "{}", ran.stderr);
    fs::write(env.path("src/file"), "1\n").unwrap();
    assert_eq!(env.json(&args)["reused"], false);
    // It was "2" behind the run, as before this one: now nothing changes.
    assert_eq!(env.json(&args)["reused"], false);
    assert_eq!(env.json(&args)["reused"], false);
}

#[test]
fn an_unreadable_source_is_refused_where_its_content_counts_and_shown_where_it_does_not() {
    let env = TestEnv::new();
    let file = env.file("src/file", "f\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&file).is_ok() {
        // Real root reads everything, so there is nothing to refuse.
        assert!(nix_root(&env));
        return;
    }
    let line = refused(&env, &["type=bind,src=src,dst=/src"]);
    assert!(line.contains("--disposable"), "{line}");
    let args =
        ["run", "--from", "host", "--disposable", "--mount", "type=bind,src=src,dst=/src", "-c", "ls /src"];
    assert_eq!(env.json(&args)["stdout"], "file\n");
}

fn nix_root(env: &TestEnv) -> bool {
    fs::metadata(env.path("src")).unwrap().uid() == 0
}

#[test]
fn a_socket_can_be_mounted_and_a_single_file() {
    let env = TestEnv::new();
    env.file("file", "f\n");
    let _listener = std::os::unix::net::UnixListener::bind(env.path("socket")).unwrap();
    let mounts = ["type=bind,src=socket,dst=/run/agent", "type=bind,src=file,dst=/etc/deep/file"];
    let text =
        "test -S /run/agent && cat /etc/deep/file; echo x > /etc/deep/file 2>/dev/null || echo refused";
    assert_eq!(prints(&env, &mounts, text), "f\nrefused\n");
}

#[test]
fn show_names_the_mounts_of_a_commit() {
    let env = TestEnv::new();
    let mount = "type=tmpfs,dst=/scratch";
    env.ok(&["run", "--from", "host", "--branch", "main", "--mount", mount, "-c", "touch /x"]);
    assert!(env.ok(&["show", "main"]).contains("mount:   tmpfs /scratch\n"));
    let shown = env.json(&["show", "main"]);
    assert_eq!(shown["mounts"][0]["type"], "tmpfs");
    assert_eq!(shown["mounts"][0]["path"], "/scratch");
}

#[test]
fn the_store_is_never_visible_in_a_mount() {
    let env = TestEnv::new();
    env.file("beside", "b\n");
    let home = env.path("").display().to_string();
    let home = home.trim_end_matches('/');
    let mount = format!("type=bind,src={home},dst=/all");
    assert_eq!(prints(&env, &[&mount], "cat /all/beside; ls -A /all/store | wc -l"), "b\n0\n");
    // The store changes with every run, and nothing of that counts.
    let build = || run(&env, &[&mount], "date +%N > /out");
    assert_eq!((&build()["reused"], &build()["reused"]), (&false.into(), &true.into()));
    let writable = format!("type=bind,src={home},dst=/all,rw");
    let text = "touch /all/store/x 2>/dev/null || echo refused";
    assert_eq!(prints(&env, &[&writable], text), "refused\n");
    for inside in ["store", "store/objects", "store/index.db"] {
        let line = refused(&env, &[&format!("type=bind,src={inside},dst=/m")]);
        assert!(line.contains("store"), "{line}");
    }
}

#[test]
fn a_tmpfs_has_its_size_and_mode_and_can_hold_other_mounts() {
    let env = TestEnv::new();
    env.file("src/file", "f\n");
    let text =
        "stat -c %a /t; head -c 200000 /dev/zero > /t/big 2>/dev/null || echo full; cat /t/deep/er/file";
    let mounts = ["type=tmpfs,dst=/t,size=64k,mode=750", "type=bind,src=src,dst=/t/deep/er"];
    assert_eq!(prints(&env, &mounts, text), "750\nfull\nf\n");
    assert_eq!(prints(&env, &["type=tmpfs,dst=/tmp"], "stat -c %a /tmp; touch /tmp/x"), "1777\n");
    assert_eq!(
        prints(&env, &["type=tmpfs,dst=/dev/shm,size=1m"], "touch /dev/shm/x; stat -f -c %T /dev/shm"),
        "tmpfs\n"
    );
    // In whatever order they are typed.
    let mounts = ["type=bind,src=src/file,dst=/t/a/b/file", "type=tmpfs,dst=/t/a", "type=tmpfs,dst=/t"];
    assert_eq!(prints(&env, &mounts, "cat /t/a/b/file"), "f\n");
}

#[test]
fn a_cache_is_kept_between_runs_and_is_no_part_of_state_or_key() {
    let env = TestEnv::new();
    let mount = ["type=cache,id=build,dst=/var/cache/build"];
    assert_eq!(run(&env, &mount, "echo one >> /var/cache/build/log; exit 3")["exit_code"], 3);
    let ran = run(&env, &mount, "cat /var/cache/build/log");
    assert_eq!((&ran["stdout"], &ran["changed"]), (&"one\n".into(), &false.into()));
    let step = || run(&env, &mount, "echo x >> /var/cache/build/log; date +%N > /out");
    assert_eq!((&step()["reused"], &step()["reused"]), (&false.into(), &true.into()));
    assert_eq!(
        prints(&env, &["type=cache,id=other,dst=/var/cache/build"], "ls /var/cache/build | wc -l"),
        "0\n"
    );
    assert_eq!(
        prints(&env, &["type=cache,id=build,dst=/c,ro"], "touch /c/x 2>/dev/null || tail -n 1 /c/log"),
        "x\n"
    );
    let modes = ["type=cache,id=mode,dst=/c,mode=1770"];
    assert_eq!(prints(&env, &modes, "stat -c '%a %u' /c"), "1770 0\n");
    // Twice in one run, in the strictest way: it does not wait for itself.
    let twice = ["type=cache,id=build,dst=/a", "type=cache,id=build,dst=/b,sharing=locked"];
    assert_eq!(prints(&env, &twice, "head -n 1 /a/log /b/log | grep -c one"), "2\n");
}

#[test]
fn a_locked_cache_is_waited_for_and_waiting_is_part_of_the_time() {
    let env = TestEnv::new();
    let go = env.path("go");
    let hold = |sharing: &str| {
        let mount = format!("type=cache,id=c,dst=/c,sharing={sharing}");
        let text = "echo held; while [ ! -e /w/go ]; do sleep 0.05; done; echo first >> /c/log";
        let args =
            ["run", "--from", "host", "--mount", &mount, "--mount", "type=bind,src=.,dst=/w,rw", "-c", text];
        let mut child = env.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut held = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut held).unwrap();
        child
    };
    let args = |sharing: &str, timeout: &str| {
        let mount = format!("type=cache,id=c,dst=/c,sharing={sharing}");
        ["run", "--from", "host", "--mount", &mount, "--timeout", timeout, "-c", "cat /c/log"]
            .map(str::to_owned)
    };
    let mut first = hold("locked");
    for sharing in ["locked", "shared"] {
        let ran = env.run(&args(sharing, "1s"));
        assert_eq!(ran.code, 124, "{}", ran.stderr);
        assert!(ran.stderr.contains("waiting for another run"), "{}", ran.stderr);
    }
    // One of its own does not wait.
    assert_ne!(env.run(&args("private", "60s")).code, 124);
    fs::write(&go, "").unwrap();
    let ran = env.run(&args("locked", "60s"));
    assert_eq!((ran.code, ran.text()), (0, "first\n".to_owned()), "{}", ran.stderr);
    assert!(first.wait().unwrap().success());
    // Several share.
    fs::remove_file(&go).unwrap();
    let mut first = hold("shared");
    assert_eq!(env.run(&args("shared", "60s")).text(), "first\n");
    // A holder that is killed holds nothing.
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(env.run(&args("locked", "60s")).text(), "first\n");
}

#[test]
fn bad_mounts_are_refused_in_one_line_and_leave_nothing() {
    let env = TestEnv::new();
    env.file("src/file", "f\n");
    for spec in [
        "",
        "type=nfs,dst=/x",
        "type=bind,src=src",
        "type=tmpfs,dst=x",
        "type=cache",
        "type=secret,id=x",
        "dst=/x",
    ] {
        env.fails(2, &["run", "--from", "host", "--mount", spec, "-c", "true"]);
    }
    env.fails(2, &["run", "--from", "host", "--volume", "src:/x:z", "-c", "true"]);
    for target in ["/", "//", "/.", "/proc", "/proc/x", "/sys", "/sys/x", "/dev", "/dev/null", "/dev/x/y"] {
        let line = refused(&env, &[&format!("type=tmpfs,dst={target}")]);
        assert!(line.contains("cannot mount at"), "{line}");
    }
    let line = refused(&env, &["type=tmpfs,dst=/x", "type=bind,src=src,dst=//x/"]);
    assert!(line.contains("two mounts"), "{line}");
    refused(&env, &["type=tmpfs,dst=/x,size=0"]);
    refused(&env, &["type=bind,src=src/file,dst=/x", "type=tmpfs,dst=/x/y"]);
    refused(&env, &["type=secret,id=a/b,src=src/file"]);
    assert!(!env.store().join("caches").exists());
}
