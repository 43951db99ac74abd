//! Tar streams: out of a tree and in again.

use std::collections::BTreeMap;
use std::io::Read;

use proptest::prelude::*;

use super::super::testing::{Place, TarMaker, gzip};
use super::super::{ImportError, LayerError, Limits, TarWritten, read_tar, write_tar};
use crate::object::{Draft, Entry, Meta, NewNode, Node, PlacingError, Timestamp, TreeId, TreePath, Xattrs};

pub(super) fn path(text: impl AsRef<[u8]>) -> TreePath {
    TreePath::parse(text.as_ref()).unwrap()
}

fn root_meta() -> Meta {
    Meta::root_owned(0o755, Timestamp::from_seconds(0))
}

/// Makes a tree, starting from one or from nothing.
pub(super) fn edited(
    place: &Place,
    base: Option<TreeId>,
    edit: impl FnOnce(&mut Draft<'_>, &mut crate::store::Batch<'_>),
) -> TreeId {
    let mut batch = place.store.batch().unwrap();
    let mut draft = match base {
        Some(id) => Draft::from_root(&place.store, id, place.store.root(&id).unwrap()),
        None => Draft::empty(&place.store, root_meta()),
    };
    edit(&mut draft, &mut batch);
    let (id, _) = draft.finish(&mut batch).unwrap();
    batch.commit().unwrap();
    id
}

fn written(place: &Place, root: &TreeId, at: &str) -> (Vec<u8>, TarWritten) {
    let mut out = Vec::new();
    let root = place.store.root(root).unwrap();
    let written = write_tar(&place.store, &root, &path(at), None, &mut out).unwrap();
    (out, written)
}

fn try_read(place: &Place, base: Option<TreeId>, at: &str, mut bytes: &[u8]) -> Result<TreeId, ImportError> {
    let mut result = Ok(());
    let id = edited(place, base, |draft, batch| {
        result = read_tar(&mut bytes, batch, draft, &path(at), &Limits::default()).map(|_| ());
    });
    result.map(|()| id)
}

fn read(place: &Place, base: Option<TreeId>, at: &str, bytes: &[u8]) -> TreeId {
    try_read(place, base, at, bytes).unwrap()
}

fn entry(place: &Place, root: TreeId, at: &str) -> Entry {
    crate::object::entry_at(&place.store, &place.store.root(&root).unwrap(), &path(at)).unwrap().unwrap()
}

fn text(place: &Place, root: TreeId, at: &str) -> String {
    let Node::File { blob, .. } = entry(place, root, at).node else { panic!("{at} is no file") };
    String::from_utf8(place.store.read_blob(&blob).unwrap()).unwrap()
}

/// A tree with one of everything that is awkward in a tar stream.
pub(super) fn awkward(place: &Place) -> TreeId {
    edited(place, None, |draft, batch| {
        let mut xattrs = Xattrs::none();
        for (name, value) in [
            (&b"user.a"[..], &b"x\n=\0y"[..]),
            (b"user.b=%c", b"\xff"),
            (b"user.\xfe", b"12"),
            (b"user.empty", b""),
        ] {
            xattrs.set(name.to_vec(), value.to_vec()).unwrap();
        }
        let meta = |mode, seconds, nanoseconds| Meta {
            mode,
            uid: 3_000_000,
            gid: u32::MAX - 1,
            mtime: Timestamp::new(seconds, nanoseconds).unwrap(),
            xattrs: xattrs.clone(),
        };
        let blob = |bytes: &[u8]| NewNode::File {
            blob: batch.put_blob(bytes, None).unwrap(),
            size: bytes.len() as u64,
            link: None,
        };
        let long = "d".repeat(200);
        draft.put_directory(&path("top"), meta(0o1777, -5, 0)).unwrap();
        draft.put_directory(&path(format!("top/{long}")), meta(0o2750, 1, 1)).unwrap();
        draft.put(&path(format!("top/{long}/{long}")), meta(0o4755, -2, 999_999_999), blob(b"deep")).unwrap();
        draft.put(&path("top/empty"), meta(0, 1 << 34, 5), blob(b"")).unwrap();
        draft.put(&path("top/.wh.plain"), meta(0o644, 0, 0), blob(b"no whiteout")).unwrap();
        draft.put(&path("top/.wh..wh..opq"), meta(0o644, 0, 0), blob(b"")).unwrap();
        draft.put(&path(b"top/\xff\xfe name \n"), meta(0o600, 7, 7), blob(&[7; 1500])).unwrap();
        draft
            .put(
                &path([&b"top/\xff"[..], &[b'n'; 150]].concat()),
                meta(0o600, 7, 7),
                blob(b"long and no text"),
            )
            .unwrap();
        draft
            .put(&path("top/link"), meta(0o777, 9, 0), NewNode::Symlink { target: long.clone().into_bytes() })
            .unwrap();
        draft.put(&path("top/fifo"), meta(0o600, 9, 0), NewNode::Fifo).unwrap();
        draft
            .put(&path("top/char"), meta(0o600, 9, 0), NewNode::Char { major: 5, minor: 3_000_000 })
            .unwrap();
        draft.put(&path("top/block"), meta(0o600, 9, 0), NewNode::Block { major: 8, minor: 1 }).unwrap();
        draft.put(&path("top/one"), meta(0o644, 2, 2), blob(b"linked")).unwrap();
        draft.hard_link(&path(format!("top/{long}/two")), &path("top/one")).unwrap();
        draft.hard_link(&path("top/zwei"), &path("top/one")).unwrap();
    })
}

#[test]
fn a_tree_comes_back_from_its_stream_as_it_was() {
    let place = Place::new();
    let tree = awkward(&place);
    let (whole, facts) = written(&place, &tree, "/");
    assert_eq!((facts.entries, facts.skipped.len()), (16, 0));
    assert_eq!(read(&place, None, "/", &whole), tree);
    // Below a directory, and under its own name.
    let (part, _) = written(&place, &tree, "/top");
    assert_eq!(read(&place, None, "/", &part), tree);
    assert_eq!(written(&place, &tree, "/top").0, part);
}

#[test]
fn every_compression_is_read_in_pieces_of_any_size() {
    struct Slowly<'b>(&'b [u8]);
    impl Read for Slowly<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let step = self.0.len().min(to.len()).min(3);
            to[..step].copy_from_slice(&self.0[..step]);
            self.0 = &self.0[step..];
            Ok(step)
        }
    }
    let place = Place::new();
    let tree = awkward(&place);
    let (plain, _) = written(&place, &tree, "/");
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for stream in [gzip(&plain), zstd, plain] {
        let found = edited(&place, None, |draft, batch| {
            read_tar(&mut Slowly(&stream), batch, draft, &TreePath::root(), &Limits::default()).unwrap();
        });
        assert_eq!(found, tree);
    }
}

#[test]
fn sockets_are_left_out_and_named() {
    let place = Place::new();
    let tree = edited(&place, None, |draft, _| {
        draft.put(&path("socket"), root_meta(), NewNode::Socket).unwrap();
        draft.put(&path("fifo"), root_meta(), NewNode::Fifo).unwrap();
    });
    let (bytes, facts) = written(&place, &tree, "/");
    assert_eq!(facts.skipped.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["/socket"]);
    assert_eq!(place.tar(&bytes).unwrap().paths(), ["fifo"]);
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let place = Place::new();
    let tree = awkward(&place);
    let file = place.file("out.tar", &written(&place, &tree, "/top").0);
    let output = std::process::Command::new("tar")
        .args(["--utc", "--full-time", "--numeric-owner", "-tvf"])
        .arg(file)
        .env("LC_ALL", "C")
        .output();
    let output = output.expect("GNU tar is installed where tests run");
    let listing = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    // What no keyword of GNU tar could say.
    let passed_over = |line: &str| line.contains("'LIBARCHIVE.xattr.") || line.contains("'SCHILY.devminor'");
    assert!(output.status.success() && said.lines().all(passed_over), "{said}");
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(lines.len(), 15, "{listing}");
    let line = |end: &str| {
        *lines.iter().find(|line| line.ends_with(end)).unwrap_or_else(|| panic!("{end}: {listing}"))
    };
    assert!(line(" top/").starts_with("drwxrwxrwt 3000000/4294967294"), "{listing}");
    let linked: Vec<_> = lines.iter().filter(|line| line.starts_with('h')).collect();
    assert!(linked.len() == 2 && linked.iter().all(|line| line.ends_with("/two")), "{listing}");
    assert!(line("top/block").contains("8,1"), "{listing}");
    // GNU tar 1.34 writes fractions before 1970 as we do and adds them when it reads; whole seconds it reads right.
    assert!(line(" top/").contains("1969-12-31 23:59:55"), "{listing}");
    assert!(listing.contains("2514-05-30 01:53:04.000000005 top/empty"), "{listing}");
    assert!(lines.iter().any(|line| line.starts_with('l') && line.ends_with(&"d".repeat(200))), "{listing}");
}

#[test]
fn a_stream_goes_through_the_links_of_a_tree_and_never_throws_a_directory_away() {
    let place = Place::new();
    let base = edited(&place, None, |draft, _| {
        for dir in ["usr", "usr/bin", "opt"] {
            draft.put_directory(&path(dir), Meta::root_owned(0o711, Timestamp::from_seconds(7))).unwrap();
        }
        draft.put(&path("bin"), root_meta(), NewNode::Symlink { target: b"usr/bin".to_vec() }).unwrap();
        draft.put(&path("opt/up"), root_meta(), NewNode::Symlink { target: b"/../usr".to_vec() }).unwrap();
        draft.put(&path("loop"), root_meta(), NewNode::Symlink { target: b"loop".to_vec() }).unwrap();
        draft.put(&path("pipe"), root_meta(), NewNode::Fifo).unwrap();
    });
    let stream = TarMaker::new()
        .dir("bin/")
        .file("bin/tool", "t")
        .file("up/x", "x")
        .hard_link("bin/same", "bin/tool")
        .end();
    let at_root = read(&place, Some(base), "/", &stream);
    assert_eq!(text(&place, at_root, "/usr/bin/tool"), "t");
    assert!(matches!(entry(&place, at_root, "/bin").node, Node::Symlink { .. }));
    assert_eq!(entry(&place, at_root, "/usr/bin").meta.mode, 0o755);
    assert_eq!(entry(&place, at_root, "/usr").meta.mode, 0o711);
    let below = read(&place, Some(base), "/opt", &stream);
    assert_eq!(text(&place, below, "/usr/x"), "x");
    assert_eq!(text(&place, below, "/opt/bin/same"), "t");
    let refused = |stream: Vec<u8>| match try_read(&place, Some(base), "/", &stream) {
        Err(ImportError::Stream(LayerError::Placing(error))) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(TarMaker::new().file("usr", "").end()), PlacingError::Directory { .. }));
    assert!(matches!(refused(TarMaker::new().dir("pipe").end()), PlacingError::NotADirectory(_)));
    assert!(matches!(refused(TarMaker::new().file("pipe/x", "").end()), PlacingError::NotADirectory(_)));
    assert!(matches!(refused(TarMaker::new().file("loop/x", "").end()), PlacingError::TooManyLinks(_)));
    let out = try_read(&place, Some(base), "/opt", &TarMaker::new().file("../usr/x", "").end());
    assert!(matches!(out, Err(ImportError::Stream(LayerError::Path(_)))), "{out:?}");
    assert_eq!(read(&place, Some(base), "/opt", b""), base);
    assert!(try_read(&place, Some(base), "/opt", b"this is no tar archive").is_err());
}

#[test]
fn a_damaged_file_leaves_a_stream_without_an_end() {
    let place = Place::new();
    let tree = edited(&place, None, |draft, batch| {
        draft.put(&path("a"), root_meta(), NewNode::Fifo).unwrap();
        let blob = batch.put_blob(b"bytes", None).unwrap();
        draft.put(&path("b"), root_meta(), NewNode::File { blob, size: 6, link: None }).unwrap();
    });
    let mut out = Vec::new();
    let root = place.store.root(&tree).unwrap();
    write_tar(&place.store, &root, &TreePath::root(), None, &mut out).unwrap_err();
    assert_eq!(out.len(), 1024, "two headers and no end");
}

#[derive(Debug, Clone)]
enum Kind {
    Directory,
    File(Vec<u8>, u8),
    Symlink(Vec<u8>),
    Fifo,
    Char(u32, u32),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Directory),
        4 => (proptest::collection::vec(any::<u8>(), 0..1200), any::<u8>()).prop_map(|(bytes, link)| Kind::File(bytes, link)),
        1 => proptest::collection::vec(1u8.., 1..300).prop_map(Kind::Symlink),
        1 => Just(Kind::Fifo),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| Kind::Char(major, minor)),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let xattr = (proptest::collection::vec(1u8.., 1..20), proptest::collection::vec(any::<u8>(), 0..40));
    let xattrs = proptest::collection::vec(xattr, 0..3);
    (0u16..0o10000, 0..u32::MAX, 0..u32::MAX, -(1i64 << 40)..1 << 40, 0u32..1_000_000_000, xattrs).prop_map(
        |(mode, uid, gid, seconds, nanoseconds, pairs)| {
            let mut xattrs = Xattrs::none();
            pairs.into_iter().for_each(|(name, value)| xattrs.set(name, value).unwrap());
            Meta { mode, uid, gid, mtime: Timestamp::new(seconds, nanoseconds).unwrap(), xattrs }
        },
    )
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_name = proptest::collection::vec(
        any::<u8>().prop_filter("a name", |byte| !matches!(byte, 0 | b'/' | b'.')),
        1..200,
    );
    let mark = Just(b".wh.x".to_vec());
    prop_oneof![5 => any_name, 1 => mark, 3 => proptest::collection::vec(b'a'..b'd', 1..3)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back_from_its_stream(
        root in meta(),
        entries in proptest::collection::vec((any::<prop::sample::Index>(), name(), meta(), kind()), 0..25),
    ) {
        let place = Place::new();
        let tree = edited(&place, None, |draft, batch| {
            draft.set_meta(&TreePath::root(), root).unwrap();
            let mut directories = vec![TreePath::root()];
            let mut files: BTreeMap<u8, TreePath> = BTreeMap::new();
            for (parent, name, meta, kind) in entries {
                let at = directories[parent.index(directories.len())].join(&crate::object::Name::new(&name).unwrap());
                if draft.get(&at).unwrap().is_some() {
                    continue;
                }
                match kind {
                    Kind::Directory => {
                        draft.put_directory(&at, meta).unwrap();
                        directories.push(at);
                    }
                    Kind::File(bytes, link) => match files.get(&(link % 8)) {
                        Some(first) => draft.hard_link(&at, first).unwrap(),
                        None => {
                            let blob = batch.put_blob(&bytes, None).unwrap();
                            draft.put(&at, meta, NewNode::File { blob, size: bytes.len() as u64, link: None }).unwrap();
                            files.insert(link % 8, at);
                        }
                    },
                    Kind::Symlink(target) => draft.put(&at, meta, NewNode::Symlink { target }).unwrap(),
                    Kind::Fifo => draft.put(&at, meta, NewNode::Fifo).unwrap(),
                    Kind::Char(major, minor) => draft.put(&at, meta, NewNode::Char { major, minor }).unwrap(),
                }
            }
        });
        let (bytes, _) = written(&place, &tree, "/");
        prop_assert_eq!(read(&place, None, "/", &bytes), tree);
    }
}
