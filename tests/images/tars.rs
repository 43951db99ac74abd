//! The same archives read by treebox, by the crate `tar`, by GNU tar and by Python: names, kinds, sizes, bytes and link targets agree
//! wherever the other is right.
//!
//! # Where they differ, and why
//! - The crate `tar` knows no pax sparse files, loses extended headers of which a value holds a newline, and passes global headers by:
//!   archives with those are not shown to it. Regions of old GNU sparse files have to be whole blocks for it, and no hole may
//!   be at the end. Of what stands at one path twice it gives both.
//! - GNU tar and Python drop what leads out of the root or begins with a slash in their own ways: such archives are refused or rooted here.
//! - Python takes a header of type `0` whose name ends with a slash for a file, as Go does and treebox too; GNU tar takes it for a directory.

use std::collections::BTreeMap;
use std::process::Command;

use proptest::prelude::*;

use super::made::archive::{TarMaker, padded};
use super::*;

/// Path, kind, size, link target and bytes of a file.
type Seen = BTreeMap<Vec<u8>, (char, Vec<u8>, Vec<u8>)>;

fn by_treebox(engine: &Engine, env: &TestEnv, bytes: &[u8]) -> Seen {
    let source = format!("tar:{}", env.file("a.tar", bytes).display());
    let state = imported(engine, &source).unwrap();
    let mut seen = Seen::new();
    for one in engine.list(&state, &TreePath::root(), true).unwrap() {
        let (kind, target, body) = match &one.entry.node {
            Node::File { .. } => ('f', Vec::new(), engine.read_file(&state, &one.path).unwrap()),
            Node::Directory { .. } => ('d', Vec::new(), Vec::new()),
            Node::Symlink { target } => ('l', target.clone(), Vec::new()),
            Node::Fifo => ('p', Vec::new(), Vec::new()),
            _ => ('?', Vec::new(), Vec::new()),
        };
        seen.insert(one.path.to_relative_bytes(), (kind, target, body));
    }
    seen
}

/// Hard links get the bytes of their target, as on a disk; a later entry takes the place of an earlier one.
fn by_tar_crate(bytes: &[u8]) -> Seen {
    use std::io::Read;
    let mut seen = Seen::new();
    let mut archive = ::tar::Archive::new(bytes);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry
            .path_bytes()
            .trim_ascii_end()
            .strip_suffix(b"/")
            .map_or(entry.path_bytes().to_vec(), <[u8]>::to_vec);
        let target = entry.link_name_bytes().map(|name| name.to_vec()).unwrap_or_default();
        let kind = entry.header().entry_type();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        let value = match kind {
            kind if kind.is_hard_link() => seen[&target].clone(),
            kind if kind.is_symlink() => ('l', target, Vec::new()),
            kind if kind.is_dir() => ('d', Vec::new(), Vec::new()),
            kind if kind.is_fifo() => ('p', Vec::new(), Vec::new()),
            _ => ('f', Vec::new(), body),
        };
        seen.insert(path, value);
    }
    with_parents(seen)
}

fn with_parents(mut seen: Seen) -> Seen {
    for path in seen.keys().cloned().collect::<Vec<_>>() {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            seen.entry(path[..at].to_vec()).or_insert(('d', Vec::new(), Vec::new()));
        }
    }
    seen
}

const PYTHON: &str = r#"
import sys, tarfile
seen = {}
with tarfile.open(sys.argv[1], errors='surrogateescape') as archive:
    for entry in archive:
        body = archive.extractfile(entry).read() if entry.isreg() else b''
        kind = 'f' if entry.isreg() else 'd' if entry.isdir() else 'l' if entry.issym() else 'p' if entry.isfifo() else '?'
        raw = lambda text: text.encode('utf-8', 'surrogateescape')
        name = raw(entry.name).rstrip(b'/')
        seen[name] = seen[raw(entry.linkname)] if entry.islnk() else (kind, raw(entry.linkname) if entry.issym() else b'', body)
for name, (kind, target, body) in seen.items():
    print(kind, name.hex() or '-', target.hex() or '-', body.hex() or '-')
"#;

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim_start_matches('-').as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// `None`, said aloud, where there is no Python; in CI there must be.
fn by_python(env: &TestEnv, bytes: &[u8]) -> Option<Seen> {
    let file = env.file("python.tar", bytes);
    let ran = Command::new("python3").arg("-c").arg(PYTHON).arg(file).output();
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) => {
            eprintln!("NOT COMPARED with Python's tarfile: python3: {error}");
            assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "CI needs python3");
            return None;
        }
    };
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let seen = text.lines().map(|line| {
        let mut words = line.split(' ');
        let kind = words.next().unwrap().chars().next().unwrap();
        let mut next = || unhex(words.next().unwrap());
        (next(), (kind, next(), next()))
    });
    Some(with_parents(seen.collect()))
}

/// What GNU tar unpacks; devices are not in what it is shown, so it needs no root.
fn by_gnu_tar(bytes: &[u8]) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar");
    std::fs::write(&file, bytes).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let ran = Command::new("tar")
        .arg("-xf")
        .arg(&file)
        .arg("-C")
        .arg(&out)
        .args(["--no-same-owner", "--no-same-permissions"])
        .output();
    let ran = ran.expect("GNU tar is installed where tests run");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut seen = Seen::new();
    let mut todo = vec![out.clone()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            use std::os::unix::ffi::OsStrExt;
            use std::os::unix::fs::FileTypeExt;
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            let value = if kind.is_symlink() {
                ('l', std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(), Vec::new())
            } else if kind.is_dir() {
                todo.push(path.clone());
                ('d', Vec::new(), Vec::new())
            } else if kind.is_fifo() {
                ('p', Vec::new(), Vec::new())
            } else {
                ('f', Vec::new(), std::fs::read(&path).unwrap())
            };
            seen.insert(path.strip_prefix(&out).unwrap().as_os_str().as_bytes().to_vec(), value);
        }
    }
    seen
}

fn differ(one: &Seen, other: &Seen) -> Vec<String> {
    let shown = |seen: &Seen, path: &Vec<u8>| {
        seen.get(path).map(|(kind, target, body)| format!("{kind} {} {}", target.escape_ascii(), shown(body)))
    };
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let different = paths.into_iter().filter(|path| one.get(*path) != other.get(*path));
    different
        .map(|path| format!("{}: {:?} and {:?}", path.escape_ascii(), shown(one, path), shown(other, path)))
        .collect()
}

/// Archives of every format that all four read.
fn common() -> Vec<(&'static str, Vec<u8>)> {
    let long = format!("{}end", "n/".repeat(60));
    let gnu = |code: u8, text: &str| {
        let mut header = TarMaker::header(code, b"././@LongLink");
        header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
        header.set_size(text.len() as u64 + 1);
        (header, [text.as_bytes(), b"\0"].concat())
    };
    let ((name, name_body), (link, link_body)) = (gnu(b'L', &long), gnu(b'K', &long));
    let size = |size: u64| {
        let mut header = TarMaker::header(b'0', b"f");
        header.set_size(size);
        header
    };
    let mut base_256 = size(0);
    base_256.as_mut_bytes()[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    let mut sparse = TarMaker::header(b'S', b"sparse");
    sparse.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    for (at, number) in [(386, 4096), (398, 512), (410, 9216), (422, 3), (483, 9219)] {
        sparse.as_mut_bytes()[at..at + 11].copy_from_slice(format!("{number:011o}").as_bytes());
    }
    sparse.set_size(515);
    let data = [vec![b'1'; 512], b"two".to_vec()].concat();
    let tar = TarMaker::new;
    let inner = padded(&tar().file("evil", "evil").unended());
    let pax_size = inner.len().to_string();
    vec![
        (
            "one of each",
            tar()
                .dir("d")
                .file("d/f", "body")
                .symlink("s", "d/f")
                .hard_link("h", "d/f")
                .add(TarMaker::header(b'6', b"p"), b"")
                .end(),
        ),
        ("a path twice", tar().file("a", "first").file("a", "second, longer").end()),
        (
            "GNU long names",
            tar().add(name, &name_body).file("cut", "x").add(link, &link_body).symlink("s", "cut").end(),
        ),
        (
            "pax names",
            tar()
                .pax(b'x', &[("path", long.as_bytes())])
                .file("cut", "x")
                .pax(b'x', &[("linkpath", b"a b")])
                .symlink("s", "cut")
                .end(),
        ),
        (
            "pax size over the header's",
            tar().pax(b'x', &[("size", pax_size.as_bytes())]).bare(size(0)).raw(&inner).file("z", "z").end(),
        ),
        ("base 256", tar().add(base_256, b"abc").file("z", "z").end()),
        ("old GNU sparse", tar().add(sparse, &data).file("z", "z").end()),
        ("no end", tar().file("a", "a").unended()),
        ("junk behind the end", [tar().file("a", "a").end(), vec![7; 700]].concat()),
        ("names that are no text", tar().add(TarMaker::header(b'0', b"raw\xff"), b"").end()),
    ]
}

#[test]
fn four_readers_agree_on_archives_that_all_of_them_know() {
    let env = TestEnv::empty();
    let engine = engine(&env);
    let mut wrong = Vec::new();
    for (name, bytes) in common() {
        let ours = by_treebox(&engine, &env, &bytes);
        let others = [
            ("the crate tar", Some(by_tar_crate(&bytes))),
            ("Python", by_python(&env, &bytes)),
            ("GNU tar", Some(by_gnu_tar(&bytes))),
        ];
        for (reader, theirs) in others {
            let different = theirs.map(|theirs| differ(&ours, &theirs)).unwrap_or_default();
            if !different.is_empty() {
                wrong.push(format!("{name}: {reader}: {}", different.join("; ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sparse_files_of_pax_are_what_gnu_tar_makes_of_them() {
    // The crate `tar` gives the map as bytes under the name `GNUSparseFile.0/real`; Python reads them.
    let env = TestEnv::empty();
    let engine = engine(&env);
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(dir.path().join("holes")).unwrap();
    for block in [3u64, 40, 41, 300] {
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(block << 16)).unwrap();
        std::io::Write::write_all(&mut file, &[block as u8; 5000]).unwrap();
    }
    file.set_len((310 << 16) + 77).unwrap();
    for options in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let made = Command::new("tar")
            .args(options)
            .args(["-S", "-cf", "-", "-C"])
            .arg(dir.path())
            .arg("holes")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert!(made.stdout.len() < 1 << 20, "it is sparse");
        let ours = by_treebox(&engine, &env, &made.stdout);
        assert!(differ(&ours, &by_gnu_tar(&made.stdout)).is_empty(), "{options:?}");
        if let Some(theirs) = by_python(&env, &made.stdout) {
            assert!(differ(&ours, &theirs).is_empty(), "{options:?}");
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-d]{1,3}(/[a-d]{1,2}|/[a-d]{50,70}){0,4}").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_tar_crate_writes_every_reader_reads_the_same(
        files in proptest::collection::btree_map(name(), (proptest::collection::vec(any::<u8>(), 0..1500), 0u8..5), 0..12),
    ) {
        // No path is a file here and a directory there.
        let paths: Vec<String> = files.keys().cloned().collect();
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut first: Option<String> = None;
        for (path, (body, kind)) in &files {
            if paths.iter().any(|other| other.starts_with(&format!("{path}/"))) {
                continue;
            }
            let mut header = ::tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            match (kind, &first) {
                (1, _) => {
                    header.set_entry_type(::tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), &b""[..]).unwrap();
                }
                (2, _) => {
                    header.set_entry_type(::tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, "to/".repeat(1 + body.len() % 60)).unwrap();
                }
                (3, Some(first)) => {
                    header.set_entry_type(::tar::EntryType::Link);
                    builder.append_link(&mut header, path, first).unwrap();
                }
                _ => {
                    header.set_size(body.len() as u64);
                    builder.append_data(&mut header, path, &body[..]).unwrap();
                    first.get_or_insert_with(|| path.clone());
                }
            }
        }
        let bytes = builder.into_inner().unwrap();
        let env = TestEnv::empty();
        let ours = by_treebox(&engine(&env), &env, &bytes);
        prop_assert_eq!(differ(&ours, &by_tar_crate(&bytes)), Vec::<String>::new());
        prop_assert_eq!(differ(&ours, &by_gnu_tar(&bytes)), Vec::<String>::new());
        if let Some(theirs) = by_python(&env, &bytes) {
            prop_assert_eq!(differ(&ours, &theirs), Vec::<String>::new());
        }
    }
}
