use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, XattrFlags, mkfifoat, setxattr};

use super::fixture::TestStore;
use super::*;
use crate::object::{BlobId, DraftError, Entry, MAX_DEPTH, Node, TreeId, entry_at};

fn scan_all(store: &TestStore, options: &ScanOptions) -> (ScanReport, TreeId, Entry) {
    store.keep(|batch, draft| scan(&store.host(), batch, draft, &TreePath::root(), options))
}

fn scan_error(store: &TestStore, directory: &Path) -> ScanError {
    let batch = store.store.batch().unwrap();
    let root = crate::object::Meta::root_owned(0o755, crate::object::Timestamp::default());
    let mut draft = Draft::empty(&store.store, root);
    scan(directory, &batch, &mut draft, &TreePath::root(), &ScanOptions::default()).unwrap_err()
}

#[test]
fn every_kind_of_entry_is_read_with_its_attributes() {
    let store = TestStore::new();
    let host = store.host();
    fs::create_dir_all(host.join("sub/empty")).unwrap();
    fs::write(host.join("sub/small"), "hello").unwrap();
    fs::set_permissions(host.join("sub/small"), fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    fs::File::open(host.join("sub/small")).unwrap().set_modified(time).unwrap();
    let big: Vec<u8> = (0..3 * 1024 * 1024 + 1u32).map(|n| (n >> 3) as u8).collect();
    fs::write(host.join("big"), &big).unwrap();
    let sparse = fs::File::create(host.join("sparse")).unwrap();
    sparse.set_len(2 * 1024 * 1024).unwrap();
    symlink("../nowhere", host.join("sub/link")).unwrap();
    mkfifoat(CWD, host.join("fifo"), Mode::from_raw_mode(0o620)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(host.join("socket")).unwrap();
    let odd = OsStr::from_bytes(b"odd\xff\n name");
    fs::write(host.join(odd), "").unwrap();

    let (report, _, root) = scan_all(&store, &ScanOptions::default());
    assert_eq!(report.entries, 10);
    assert_eq!(report.bytes, 5 + big.len() as u64 + 2 * 1024 * 1024);
    assert!(report.skipped.is_empty());
    let small = store.entry(&root, "sub/small");
    assert_eq!(small.node, Node::File { blob: BlobId::of(b"hello"), size: 5, link: None });
    assert_eq!((small.meta.mode, small.meta.uid), (0o4751, rustix::process::geteuid().as_raw()));
    assert_eq!((small.meta.mtime.seconds(), small.meta.mtime.nanoseconds()), (1_700_000_000, 123_456_789));
    let Node::File { blob, size, .. } = store.entry(&root, "big").node else { panic!() };
    assert_eq!((blob, size), (BlobId::of(&big), big.len() as u64));
    assert_eq!(store.store.read_blob(&blob).unwrap(), big);
    let zeros = vec![0; 2 * 1024 * 1024];
    let Node::File { blob, .. } = store.entry(&root, "sparse").node else { panic!() };
    assert_eq!(blob, BlobId::of(&zeros));
    assert_eq!(store.entry(&root, "sub/link").node, Node::Symlink { target: b"../nowhere".to_vec() });
    assert_eq!(store.entry(&root, "fifo").node, Node::Fifo);
    assert_eq!(store.entry(&root, "socket").node, Node::Socket);
    assert_eq!(store.entry(&root, odd).node.kind(), Kind::File);
    assert_eq!(store.entry(&root, "sub/empty").node.kind(), Kind::Directory);
}

#[test]
fn hard_links_are_joined_again_and_a_link_out_of_the_tree_is_none() {
    let store = TestStore::new();
    let host = store.host();
    fs::create_dir_all(host.join("d")).unwrap();
    fs::write(host.join("a"), "same").unwrap();
    fs::hard_link(host.join("a"), host.join("d/b")).unwrap();
    fs::hard_link(host.join("a"), host.join("d/c")).unwrap();
    fs::write(host.join("lone"), "same").unwrap();
    fs::hard_link(host.join("lone"), store.dir.path().join("outside")).unwrap();

    let (report, _, root) = scan_all(&store, &ScanOptions::default());
    assert_eq!((report.entries, report.bytes), (6, 8));
    let group = |path: &str| match store.entry(&root, path).node {
        Node::File { link, .. } => link,
        _ => panic!(),
    };
    assert!(group("a").is_some());
    assert!(group("a") == group("d/b") && group("a") == group("d/c"));
    assert_eq!(group("lone"), None);
}

#[test]
fn attributes_of_the_file_are_kept_and_those_of_the_machine_are_counted() {
    assert!(is_portable(b"user.a") && is_portable(b"security.capability"));
    assert!(!is_portable(b"security.selinux") && !is_portable(b"trusted.overlay.opaque"));
    let store = TestStore::new();
    fs::create_dir(store.host()).unwrap();
    fs::write(store.host().join("f"), "").unwrap();
    let set = |name: &str| setxattr(store.host().join("f"), name, b"value\0", XattrFlags::empty());
    if set("user.treebox").is_err() {
        eprintln!("SKIPPED: the temporary directory's file system has no user attributes");
        return;
    }
    let trusted = set("trusted.treebox").is_ok();
    let (report, _, root) = scan_all(&store, &ScanOptions::default());
    let entry = store.entry(&root, "f");
    assert_eq!(entry.meta.xattrs.get(b"user.treebox"), Some(&b"value\0"[..]));
    if trusted {
        assert_eq!(entry.meta.xattrs.iter().count(), 1);
        assert_eq!(report.xattrs_left_out.get("trusted.treebox"), Some(&1));
    }
}

#[test]
fn the_owner_rules_map_ids_as_they_say() {
    assert_eq!(Owners::AsOnDisk.map(7, 8), (7, 8));
    assert_eq!(Owners::AllRoot.map(7, 8), (0, 0));
    assert_eq!(Owners::UserIsRoot(7).map(7, 8), (0, 0));
    assert_eq!(Owners::UserIsRoot(7).map(6, 7), (6, 7));
}

#[test]
fn what_is_excluded_is_reported_and_the_rest_is_there() {
    let store = TestStore::new();
    let host = store.host();
    fs::create_dir_all(host.join("keep/target/x")).unwrap();
    fs::create_dir_all(host.join("target")).unwrap();
    fs::write(host.join("target/big"), "x").unwrap();
    fs::write(host.join("keep/log"), "x").unwrap();
    fs::create_dir(host.join("store")).unwrap();
    let options = ScanOptions {
        exclude: vec![TreePath::parse(b"target").unwrap(), TreePath::parse(b"keep/log").unwrap()],
        exclude_directories: vec![host.join("keep/../store"), host.join("no such")],
        ..ScanOptions::default()
    };
    let (report, _, root) = scan_all(&store, &options);
    let gone = ["keep/log", "store", "target"].map(|name| (host.join(name), SkipReason::Excluded));
    assert_eq!(report.skipped, gone);
    store.entry(&root, "keep/target/x");
    assert_eq!(entry_at(&store.store, &root, &TreePath::parse(b"target").unwrap()).unwrap(), None);
}

#[test]
fn two_scans_below_a_path_give_one_tree_and_keep_what_was_there() {
    let store = TestStore::new();
    for n in 0..1500 {
        let dir = store.host().join(format!("d{}", n % 37));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{n}")), format!("{}", n % 400)).unwrap();
    }
    let at = TreePath::parse(b"/in").unwrap();
    let twice = [(); 2].map(|()| {
        store.keep(|batch, draft| {
            draft.put_directory(&at, crate::object::Meta::root_owned(0o700, Default::default()))?;
            let kept = at.join(&crate::object::Name::new(b"kept").unwrap());
            draft.put(
                &kept,
                crate::object::Meta::root_owned(0o600, Default::default()),
                crate::object::NewNode::Fifo,
            )?;
            scan(&store.host(), batch, draft, &at, &ScanOptions::default())
        })
    });
    assert_eq!(twice[0].1, twice[1].1);
    assert_eq!(twice[0].0, twice[1].0);
    assert_eq!(twice[0].0.entries, 1500 + 37 + 1);
    assert_eq!(store.entry(&twice[0].2, "in/kept").node, Node::Fifo);
    assert_eq!(store.entry(&twice[0].2, "in").meta.mode, 0o755);
}

#[test]
fn a_deep_directory_does_not_run_out_of_files_and_too_deep_is_an_error() {
    let store = TestStore::new();
    fs::create_dir(store.host()).unwrap();
    let deepen = |levels: usize| {
        let mut fd = rustix::fs::open(store.host(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            let _ = rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o755));
            let _ = rustix::fs::mkdirat(&fd, "e", Mode::from_raw_mode(0o755));
            fd = rustix::fs::openat(&fd, "d", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
    };
    deepen(MAX_DEPTH - 1);
    let (report, _, _) = scan_all(&store, &ScanOptions::default());
    assert_eq!(report.entries, 2 * (MAX_DEPTH as u64 - 1) + 1);
    deepen(MAX_DEPTH + 2);
    assert!(matches!(scan_error(&store, &store.host()), ScanError::Draft(DraftError::TooDeep(_))));
    // The standard library keeps a directory open for each level: more than the usual limit of 1024 files.
    let removed = std::process::Command::new("rm").arg("-rf").arg(store.host()).status().unwrap();
    assert!(removed.success());
}

#[test]
fn a_single_file_of_any_kind_is_read_and_a_directory_is_refused() {
    let store = TestStore::new();
    let host = store.host();
    fs::create_dir(&host).unwrap();
    fs::write(host.join("f"), "bytes").unwrap();
    symlink("f", host.join("l")).unwrap();
    mkfifoat(CWD, host.join("p"), Mode::from_raw_mode(0o600)).unwrap();
    let at = TreePath::parse(b"/x").unwrap();
    let read = |name: &str, follow_source| {
        let options = ScanOptions { follow_source, ..ScanOptions::default() };
        let (report, _, root) =
            store.keep(|batch, draft| scan_file(&host.join(name), batch, draft, &at, &options));
        assert_eq!(report.entries, 1);
        store.entry(&root, "x").node
    };
    let file = Node::File { blob: BlobId::of(b"bytes"), size: 5, link: None };
    assert_eq!(read("f", false), file);
    assert_eq!(read("l", true), file);
    assert_eq!(read("l", false), Node::Symlink { target: b"f".to_vec() });
    assert_eq!(read("p", true), Node::Fifo);
    let (_, _, root) = store.keep(|batch, draft| {
        scan_file(Path::new("/proc/self/stat"), batch, draft, &at, &ScanOptions::default())
    });
    assert!(
        matches!(store.entry(&root, "x").node, Node::File { size: 1.., .. }),
        "a file of /proc has no size"
    );
    assert!(matches!(scan_error(&store, &host.join("f")), ScanError::NotADirectory { .. }));
    assert!(matches!(scan_error(&store, &host.join("none")), ScanError::Disk(error) if error.is_not_found()));
}

#[test]
fn a_file_that_keeps_changing_is_an_error_that_names_it() {
    let store = TestStore::new();
    fs::create_dir(store.host()).unwrap();
    let path = store.host().join("busy");
    fs::write(&path, vec![1; 4 << 20]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            for tick in 0u64.. {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(tick);
                file.set_modified(time).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let batch = store.store.batch().unwrap();
        let seen = (0..500).any(|_| {
            let mut file = fs::File::open(&path).unwrap();
            let stored = FileReader::new(&batch)
                .store(&mut file, &path, |inode| inode.meta(Owners::AsOnDisk, crate::object::Xattrs::none()));
            matches!(stored, Err(ScanError::Changed { path: named }) if named == path)
        });
        stop.store(true, Ordering::Relaxed);
        assert!(seen);
    });
}

/// Ends the other thread's loop, also when the test fails: a scope waits for its threads.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_directory_swapped_for_a_symlink_is_never_followed() {
    let store = TestStore::new();
    let host = store.host();
    let outside = store.dir.path().join("outside");
    fs::create_dir_all(host.join("d")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, host.join("s")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, host.join("d"), CWD, host.join("s"), flags).unwrap();
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..300 {
            let mut batch = store.store.batch().unwrap();
            let root = crate::object::Meta::root_owned(0o755, Default::default());
            let mut draft = Draft::empty(&store.store, root);
            let at = TreePath::root();
            match scan(&host, &batch, &mut draft, &at, &ScanOptions::default()) {
                Ok(_) => {
                    let (_, root) = draft.finish(&mut batch).unwrap();
                    let Node::Directory { below, .. } = root.node else { panic!() };
                    assert_eq!(below.bytes, 0);
                }
                Err(error) => assert!(matches!(error, ScanError::Replaced { .. }), "{error}"),
            }
        }
    });
}

#[test]
fn what_the_caller_may_not_read_is_an_error_that_names_it() {
    let store = TestStore::new();
    let host = store.host();
    fs::create_dir_all(host.join("open")).unwrap();
    fs::write(host.join("open/shut"), "x").unwrap();
    fs::set_permissions(host.join("open/shut"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(store.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_user = rustix::process::geteuid().is_root();
    if as_user {
        // The whole store becomes nobody's, and this thread, with those it starts, becomes nobody.
        let nobody = std::process::Command::new("chown").args(["-R", "65534"]).arg(store.dir.path()).status();
        assert!(nobody.unwrap().success());
    }
    std::thread::scope(|scope| {
        let scanned = scope.spawn(|| {
            if as_user {
                let nobody = rustix::fs::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            scan_error(&store, &host)
        });
        let error = scanned.join().unwrap();
        assert!(
            matches!(&error, ScanError::Unreadable { path, .. } if *path == host.join("open/shut")),
            "{error}"
        );
    });
}
