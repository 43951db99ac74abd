use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::elf::tests::Sample;
use super::*;
use crate::object::{Entry, Node, TreeId, TreeSource};
use crate::worktree::scan::fixture::TestStore;

fn build_in(store: &TestStore, base: &HostBase) -> (HostReport, TreeId, Entry) {
    store.keep(|batch, draft| build(base, batch, draft))
}

fn build_error(base: &HostBase) -> HostError {
    let store = TestStore::new();
    let batch = store.store.batch().unwrap();
    let mut draft = Draft::empty(&store.store, place::DIRECTORY);
    build(base, &batch, &mut draft).unwrap_err()
}

/// Writes a tree to a directory, as plainly as can be.
fn write(store: &TestStore, directory: &Path, entry: &Entry) {
    let Node::Directory { tree, .. } = &entry.node else { panic!() };
    fs::create_dir_all(directory).unwrap();
    for (name, entry) in store.store.tree(tree).unwrap().entries() {
        let path = directory.join(name.as_os_str());
        match &entry.node {
            Node::Directory { .. } => write(store, &path, entry),
            Node::File { blob, .. } => {
                fs::write(&path, store.store.read_blob(blob).unwrap()).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(entry.meta.mode.into())).unwrap();
            }
            Node::Symlink { target } => {
                symlink(std::str::from_utf8(target).unwrap(), &path).unwrap();
            }
            other => panic!("{other:?} in a base"),
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(entry.meta.mode.into())).unwrap();
}

fn all_meta(store: &TestStore, entry: &Entry, check: &mut dyn FnMut(&[u8], &Entry)) {
    let Node::Directory { tree, .. } = &entry.node else { return };
    for (name, entry) in store.store.tree(tree).unwrap().entries() {
        check(name.as_bytes(), entry);
        all_meta(store, entry, check);
    }
}

/// Runs shell text in a root directory with the host's /dev and /proc; `None` where the machine forbids it.
fn run_in(root: &Path, text: &str) -> Option<Output> {
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let enter = "mount --rbind /dev \"$0/dev\" && mount --rbind /proc \"$0/proc\" || exit 99; \
                 exec chroot \"$0\" /bin/sh -c \"$1\"";
    let mut command = Command::new("unshare");
    command.args([flags, "--", "/bin/sh", "-c", enter]).arg(root).arg(text);
    let path = format!("PATH={DEFAULT_PATH}");
    let output = command.env_clear().envs(path.split_once('=')).env("LC_ALL", "C.UTF-8").output().ok()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let refused = output.status.code() == Some(99) || error.starts_with("unshare:");
    (!refused).then_some(output)
}

#[test]
fn the_tools_of_a_default_base_work_in_it() {
    let store = TestStore::new();
    let start = std::time::Instant::now();
    let (report, id, root) = build_in(&store, &HostBase::default());
    let first = start.elapsed();
    eprintln!(
        "{} entries, {} bytes in {first:?}; skipped {:?}",
        report.entries, report.bytes, report.skipped
    );
    assert_eq!(build_in(&TestStore::new(), &HostBase::default()).1, id, "two builds give the same tree");
    let start = std::time::Instant::now();
    assert_eq!(build_in(&store, &HostBase::default()).1, id);
    eprintln!("again in {:?}", start.elapsed());
    let Node::Directory { below, .. } = &root.node else { panic!() };
    assert_eq!(below.entries, report.entries);
    assert_eq!(report.config.env[0], format!("PATH={DEFAULT_PATH}"));
    all_meta(&store, &root, &mut |name, entry| {
        let setuid = entry.meta.mode & 0o6000;
        assert!(setuid == 0 && entry.meta.uid == 0 && entry.meta.gid == 0, "{}", name.escape_ascii());
    });

    let directory = store.dir.path().join("root");
    write(&store, &directory, &root);
    let names: Vec<_> = report.programs.iter().map(|(name, _)| name.as_str()).collect();
    let starts = names.iter().filter(|name| !["yes", "["].contains(name)).map(|name| {
        // A program whose loader or library is missing ends with 126 or 127.
        format!("{name} --version </dev/null >/dev/null 2>&1; s=$?; [ $s -lt 126 ] || echo \"{name} $s\";")
    });
    let text = format!("{}\n{}", starts.collect::<String>(), "echo done");
    let Some(output) = run_in(&directory, &text) else {
        eprintln!("SKIPPED: this machine allows no chroot");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{output:?}");
    for (text, check) in [
        ("bash -c 'echo $RANDOM'", &(|out: &str| out.trim().parse::<u16>().is_ok()) as &dyn Fn(&str) -> bool),
        ("od -An -N4 -tu4 /dev/urandom", &|out| out.trim().parse::<u32>().is_ok()),
        ("printf 'a\\nc\\nb\\n' | sort -r | tr -d '\\n'", &|out| out == "cba"),
        ("echo 1 2 | awk '{ print $1 + $2 }'", &|out| out == "3\n"),
        ("echo abc | sed s/b/x/", &|out| out == "axc\n"),
        ("ls -l /bin/sh /etc/passwd", &|out| out.contains("root root")),
        ("id", &|out| out.starts_with("uid=0(root) gid=0(root)")),
        ("TZ=UTC date -d @0 +%F", &|out| out == "1970-01-01\n"),
        ("ls -ld /tmp /root | cut -c1-10", &|out| out == "drwx------\ndrwxrwxrwt\n"),
        ("mkdir /tmp/d && echo x >/tmp/d/f && tar czf - -C /tmp d | tar tzf -", &|out| out == "d/\nd/f\n"),
        ("printf 'a\\n' >/tmp/a; printf 'b\\n' >/tmp/b; diff /tmp/a /tmp/b | head -n1", &|out| {
            out == "1c1\n"
        }),
        ("find /etc -name passwd | xargs grep -c nobody", &|out| out == "1\n"),
        ("getent passwd nobody | cut -d: -f3", &|out| out == "65534\n"),
        ("printf é | wc -m", &|out| out == "1\n"),
        ("sha256sum </dev/null | head -c 8", &|out| out == "e3b0c442"),
    ] {
        let output = run_in(&directory, text).unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(check(&shown), "{text}: {output:?}");
    }
}

/// A host of two scripts, without any ELF file.
fn small_host(store: &TestStore) -> std::path::PathBuf {
    let host = store.host();
    for directory in ["usr/bin", "usr/lib", "opt/tool/lib", "etc/alternatives"] {
        fs::create_dir_all(host.join(directory)).unwrap();
    }
    symlink("usr/bin", host.join("bin")).unwrap();
    symlink("/etc/alternatives/run", host.join("usr/bin/run")).unwrap();
    symlink("../../opt/tool/run-2", host.join("etc/alternatives/run")).unwrap();
    let program = |path: &str, text: &str, mode: u32| {
        fs::write(host.join(path), text).unwrap();
        fs::set_permissions(host.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    program("usr/bin/sh", "no ELF file", 0o4755);
    program("usr/bin/env", "no ELF file", 0o755);
    program("opt/tool/run-2", "#! /usr/bin/env -S LANG=C sh -u\n", 0o755);
    program("usr/bin/lost", "#!/usr/bin/env perl6\n", 0o755);
    program("usr/bin/loop", "#!/usr/bin/loop2\n", 0o755);
    program("usr/bin/loop2", "#!/usr/bin/loop\n", 0o755);
    program("opt/tool/lib/data", "data", 0o644);
    symlink("nowhere", host.join("opt/tool/lib/dangling")).unwrap();
    symlink("/", host.join("opt/tool/lib/up")).unwrap();
    program("usr/bin/busybox", "ELF\0which\0xargs\0", 0o755);
    host
}

fn small_base(host: &Path, programs: &[&str]) -> HostBase {
    HostBase { root: host.to_owned(), defaults: false, ..HostBase::with_programs(programs.iter().copied()) }
}

#[test]
fn links_interpreters_and_named_directories_come_along() {
    let store = TestStore::new();
    let host = small_host(&store);
    let (report, _, root) = build_in(&store, &small_base(&host, &["run", "/opt/tool/lib"]));
    let link = |path: &str| match store.entry(&root, path).node {
        Node::Symlink { target } => String::from_utf8(target).unwrap(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(link("/bin"), "usr/bin");
    assert_eq!(link("/usr/bin/run"), "/etc/alternatives/run");
    assert_eq!(link("/etc/alternatives/run"), "../../opt/tool/run-2");
    assert_eq!(link("/opt/tool/lib/dangling"), "nowhere");
    assert_eq!(link("/opt/tool/lib/up"), "/");
    assert_eq!(store.entry(&root, "/usr/bin/sh").meta.mode, 0o755, "no setuid bit");
    for path in ["/usr/bin/env", "/opt/tool/run-2", "/opt/tool/lib/data", "/tmp", "/etc/passwd"] {
        store.entry(&root, path);
    }
    assert_eq!(report.programs, [("run".to_owned(), TreePath::parse(b"/usr/bin/run").unwrap())]);
}

#[test]
fn a_named_program_that_cannot_be_taken_is_an_error_that_says_why() {
    let store = TestStore::new();
    let host = small_host(&store);
    let error = |program: &str| build_error(&small_base(&host, &[program]));
    let missing = error("none");
    assert!(matches!(&missing, HostError::ProgramNotFound { program, .. } if program == "none"));
    assert!(missing.to_string().contains("/usr/local/bin"), "{missing}");
    assert!(matches!(error("a/b"), HostError::ProgramNotFound { .. }));
    assert!(matches!(error(""), HostError::ProgramNotFound { .. }));
    assert!(matches!(error("/opt/none"), HostError::NoSuchPath { .. }));
    assert!(matches!(error("a\0b"), HostError::BadName { .. }));
    assert!(
        matches!(error("lost"), HostError::InterpreterMissing { interpreter, .. } if interpreter == "perl6")
    );
    assert!(matches!(error("loop"), HostError::TooManyInterpreters { .. }));
}

#[test]
fn default_tools_that_are_missing_are_reported_and_busybox_stands_in() {
    let store = TestStore::new();
    let host = small_host(&store);
    let base = HostBase { root: host, ..HostBase::default() };
    let (report, _, root) = build_in(&store, &base);
    assert_eq!(report.stand_ins, ["xargs", "which"]);
    assert_eq!(
        store.entry(&root, "/usr/bin/which").node,
        Node::Symlink { target: b"/usr/bin/busybox".to_vec() }
    );
    assert!(report.skipped.iter().any(|(tool, _)| tool == "ls"));
    assert!(!report.skipped.iter().any(|(tool, _)| tool == "which" || tool == "sh"));
}

#[test]
fn a_program_outside_the_default_path_brings_its_directory_into_the_path() {
    let store = TestStore::new();
    let host = small_host(&store);
    let mut base = small_base(&host, &["run-2"]);
    base.path = vec!["/opt/tool".into(), "relative".into()];
    let (report, _, _) = build_in(&store, &base);
    assert_eq!(report.config.env[0], format!("PATH={DEFAULT_PATH}:/opt/tool"));
}

#[test]
fn a_missing_library_is_named_with_the_places_looked_at() {
    let store = TestStore::new();
    let host = small_host(&store);
    // This test's own program, without any of its libraries and then with a loader that is none of its libraries.
    fs::copy("/proc/self/exe", host.join("usr/bin/me")).unwrap();
    let elf = read_elf(&fs::File::open("/proc/self/exe").unwrap()).unwrap().unwrap();
    let Some(loader) = elf.interpreter else {
        eprintln!("SKIPPED: a static test program");
        return;
    };
    assert!(matches!(build_error(&small_base(&host, &["me"])), HostError::LoaderMissing { .. }));
    let loader = host.join(std::str::from_utf8(&loader[1..]).unwrap());
    fs::create_dir_all(loader.parent().unwrap()).unwrap();
    fs::write(&loader, "").unwrap();
    let error = build_error(&small_base(&host, &["me"]));
    let HostError::LibraryMissing { library, searched, .. } = &error else { panic!("{error}") };
    assert_eq!(library.as_bytes(), elf.needed[0]);
    assert!(searched.iter().any(|path| path.ends_with(format!("usr/lib/{library}"))), "{error}");
}

#[test]
fn libraries_of_libraries_are_found_as_the_loader_finds_them() {
    let store = TestStore::new();
    let host = store.host();
    let put = |path: &str, bytes: &[u8]| {
        let path = host.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let sample = |wide, loader: &str, needed: &[&str], runpath: &str| {
        Sample { wide, loader, needed, runpath, rpath: "" }.bytes()
    };
    // A program with its own directory of libraries; one of them is there for another processor first.
    put(
        "opt/app/bin/p",
        &sample(true, "/lib64/ld-test.so", &["libone.so.1"], "$ORIGIN/../wrong:$ORIGIN/../lib"),
    );
    put("opt/app/wrong/libone.so.1", &sample(false, "", &[], ""));
    put("opt/app/lib/libone.so.1.2", &sample(true, "", &["libtwo.so", "ld-test.so"], ""));
    symlink("libone.so.1.2", host.join("opt/app/lib/libone.so.1")).unwrap();
    put("usr/lib/libtwo.so", &sample(true, "", &["libone.so.1"], ""));
    put("usr/lib64/ld-test.so", b"loader");
    symlink("usr/lib64", host.join("lib64")).unwrap();
    // The same for musl, whose C library is its loader.
    put("bin/m", &sample(true, "/lib/ld-musl-x86_64.so.1", &["libc.musl-x86_64.so.1", "libm3.so"], ""));
    put("lib/ld-musl-x86_64.so.1", b"loader");
    put("etc/ld-musl-x86_64.path", b"/lib\n/srv/lib\n");
    put("srv/lib/libm3.so", &sample(true, "", &[], ""));

    let (_, _, root) = build_in(&store, &small_base(&host, &["/opt/app/bin/p", "m"]));
    for path in [
        "/opt/app/bin/p",
        "/opt/app/lib/libone.so.1",
        "/opt/app/lib/libone.so.1.2",
        "/usr/lib/libtwo.so",
        "/usr/lib64/ld-test.so",
        "/lib64",
        "/bin/m",
        "/lib/ld-musl-x86_64.so.1",
        "/etc/ld-musl-x86_64.path",
        "/srv/lib/libm3.so",
    ] {
        store.entry(&root, path);
    }
    let wrong = TreePath::parse(b"/opt/app/wrong").unwrap();
    assert_eq!(crate::object::entry_at(&store.store, &root, &wrong).unwrap(), None);
}
