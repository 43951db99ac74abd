//! What one entry can say: names, numbers, times, attributes, sparse files, odd types.

use super::super::testing::{Place, TarMaker};
use super::super::{ImportError, LayerError};
use crate::object::{Kind, Node, Timestamp};

fn tar() -> TarMaker {
    TarMaker::new()
}

fn refused(maker: TarMaker) -> LayerError {
    refused_bytes(&maker.end())
}

fn refused_bytes(bytes: &[u8]) -> LayerError {
    match Place::new().tar(bytes) {
        Err(ImportError::Layer { source, .. }) => source,
        Err(other) => panic!("{other}"),
        Ok(files) => panic!("imported {:?}", files.paths()),
    }
}

#[test]
fn names_that_leave_the_root_are_refused_and_harmless_dots_are_not() {
    for bad in ["../x", "a/../../x", "/../x"] {
        assert!(matches!(refused(tar().file(bad, "")), LayerError::Path(_)), "{bad}");
    }
    let files = Place::new().tar(&tar().file("a/../b", "").file("/abs", "").end()).unwrap();
    assert_eq!(files.paths(), ["abs", "b"]);
}

#[test]
fn names_are_bytes_and_may_be_as_long_as_linux_allows() {
    let long = "x".repeat(255);
    let path = format!("{}/{long}", "d/".repeat(1000));
    let maker = tar().pax(b'x', &[("path", path.as_bytes())]).file("short", "1");
    let maker = maker.pax(b'x', &[("path", b"caf\xe9")]).file("short", "2");
    let files = Place::new().tar(&maker.add(TarMaker::header(b'0', b"raw\xff"), b"").end()).unwrap();
    assert_eq!(files.text("caf\\xe9"), "2");
    assert!(files.entries.contains_key("raw\\xff"));
    assert!(files.paths().iter().any(|path| path.ends_with(&long)));

    let too_long = "x".repeat(256);
    assert!(matches!(
        refused(tar().pax(b'x', &[("path", too_long.as_bytes())]).file("s", "")),
        LayerError::Path(_)
    ));
    let deep = "d/".repeat(3000);
    assert!(matches!(
        refused(tar().pax(b'x', &[("path", deep.as_bytes())]).file("s", "")),
        LayerError::Limit(_)
    ));
    assert!(matches!(refused(tar().pax(b'x', &[("path", b"a\0b")]).file("s", "")), LayerError::Path(_)));
    assert!(matches!(refused(tar().file("", "")), LayerError::Entry { .. }));
}

#[test]
fn pax_overrides_the_header_and_its_size_decides_where_the_next_entry_is() {
    let mut header = TarMaker::header(b'0', b"short");
    header.set_size(5);
    let records: &[(&str, &[u8])] = &[
        ("path", b"long"),
        ("size", b"1030"),
        ("uid", b"3000000"),
        ("gid", b"7"),
        ("mtime", b"-1.25"),
        ("comment", b"x"),
    ];
    let body = [b'b'; 1030];
    let mut bytes = tar().pax(b'x', records).end();
    bytes.truncate(bytes.len() - 1024);
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend_from_slice(&tar().file("next", "n").end());
    let files = Place::new().tar(&bytes).unwrap();
    assert_eq!(files.paths(), ["long", "next"]);
    assert_eq!(files.bytes("long"), body);
    let meta = &files.get("long").meta;
    assert_eq!((meta.uid, meta.gid), (3_000_000, 7));
    assert_eq!(meta.mtime, Timestamp::new(-2, 750_000_000).unwrap());
}

#[test]
fn numbers_that_are_none_are_refused() {
    for (key, value) in [
        ("size", &b"12x"[..]),
        ("size", b"-1"),
        ("uid", b"4294967296"),
        ("uid", b"4294967295"),
        ("gid", b"a"),
        ("mtime", b"noon"),
    ] {
        let error = refused(tar().pax(b'x', &[(key, value)]).file("f", ""));
        assert!(matches!(error, LayerError::Entry { .. }), "{key}: {error}");
    }
    let mut header = TarMaker::header(b'0', b"f");
    header.as_mut_bytes()[124..136].copy_from_slice(b"zzzzzzzzzzzz");
    assert!(matches!(refused(tar().add(header, b"")), LayerError::Header { .. }));
}

#[test]
fn an_empty_pax_value_gives_the_header_back_its_word() {
    let files =
        Place::new().tar(&tar().pax(b'x', &[("path", b""), ("uid", b"")]).file("f", "x").end()).unwrap();
    assert_eq!(files.text("f"), "x");
}

#[test]
fn times_before_1970_and_beyond_2242_are_read_from_base_256() {
    let with = |bytes: [u8; 12]| {
        let mut header = TarMaker::header(b'0', b"f");
        header.as_mut_bytes()[136..148].copy_from_slice(&bytes);
        let files = Place::new().tar(&tar().add(header, b"").end()).unwrap();
        files.get("f").meta.mtime
    };
    assert_eq!(with([0xff; 12]), Timestamp::from_seconds(-1));
    assert_eq!(with([0x80, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]), Timestamp::from_seconds(4 << 32));
}

#[test]
fn global_headers_give_defaults_and_cannot_move_entries() {
    let maker = tar().pax(b'g', &[("uid", b"5"), ("mtime", b"9.5"), ("comment", b"git")]).file("a", "");
    let maker = maker.pax(b'x', &[("uid", b"6")]).file("b", "").pax(b'g', &[("uid", b"7")]).file("c", "");
    let files = Place::new().tar(&maker.end()).unwrap();
    assert_eq!(["a", "b", "c"].map(|path| files.get(path).meta.uid), [5, 6, 7]);
    assert_eq!(files.get("b").meta.mtime, Timestamp::new(9, 500_000_000).unwrap());
    for key in ["path", "size", "linkpath"] {
        assert!(matches!(refused(tar().pax(b'g', &[(key, b"1")]).file("a", "")), LayerError::Header { .. }));
    }
}

#[test]
fn a_global_header_between_an_entry_and_its_pax_header_takes_nothing_away() {
    let maker = tar().pax(b'x', &[("path", b"real")]).pax(b'g', &[("comment", b"")]).file("f", "");
    assert_eq!(Place::new().tar(&maker.end()).unwrap().paths(), ["real"]);
}

#[test]
fn extended_attributes_are_exact_in_both_spellings() {
    let binary = b"\n=\0value\n12 a=b\n";
    let maker = tar().pax(
        b'x',
        &[
            ("SCHILY.xattr.user.bin", binary),
            ("SCHILY.xattr.user.empty", b""),
            ("LIBARCHIVE.xattr.user.a%3Db", b"aGVsbG8"),
            ("LIBARCHIVE.xattr.user.both", b"aGVsbG8="),
            ("SCHILY.xattr.user.both", b"own"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.whiteout", b""),
        ],
    );
    let files = Place::new().tar(&maker.file("f", "").end()).unwrap();
    let xattrs = &files.get("f").meta.xattrs;
    assert_eq!(xattrs.get(b"user.bin"), Some(&binary[..]));
    assert_eq!(xattrs.get(b"user.empty"), Some(&b""[..]));
    assert_eq!(xattrs.get(b"user.a=b"), Some(&b"hello"[..]));
    assert_eq!(xattrs.get(b"user.both"), Some(&b"own"[..]));
    assert_eq!(xattrs.get(b"trusted.overlay.opaque"), Some(&b"y"[..]));
    assert_eq!(xattrs.get(b"user.overlay.whiteout"), Some(&b""[..]));
}

#[test]
fn impossible_extended_attributes_are_refused() {
    let long = format!("SCHILY.xattr.user.{}", "x".repeat(300));
    for (key, value) in
        [(long.as_str(), &b"v"[..]), ("SCHILY.xattr.", b"v"), ("LIBARCHIVE.xattr.user.x", b"!!")]
    {
        let error = refused(tar().pax(b'x', &[(key, value)]).file("f", ""));
        assert!(matches!(error, LayerError::Xattr { .. } | LayerError::Entry { .. }), "{key}: {error}");
    }
}

#[test]
fn file_capabilities_lose_the_user_namespace_they_were_set_in() {
    let mut version_3 = vec![1, 0, 0, 3];
    version_3.extend_from_slice(&[7; 16]);
    version_3.extend_from_slice(&1000u32.to_le_bytes());
    let mut version_2 = vec![1, 0, 0, 2];
    version_2.extend_from_slice(&[7; 16]);
    let maker = tar().pax(b'x', &[("SCHILY.xattr.security.capability", &version_3)]).file("a", "");
    let maker = maker.pax(b'x', &[("SCHILY.xattr.security.capability", &version_2)]).file("b", "");
    let files = Place::new().tar(&maker.end()).unwrap();
    for path in ["a", "b"] {
        assert_eq!(files.get(path).meta.xattrs.get(b"security.capability"), Some(&version_2[..]));
    }
}

#[test]
fn gnu_long_names_and_links_are_read() {
    let long = "n/".repeat(120) + "end";
    let named = |code, text: &str| {
        let mut header = TarMaker::header(code, b"././@LongLink");
        header.set_size(text.len() as u64 + 1);
        (header, [text.as_bytes(), b"\0"].concat())
    };
    let (name, name_body) = named(b'L', &long);
    let (link, link_body) = named(b'K', &long);
    let maker = tar().add(name, &name_body).file("cut", "x").add(link, &link_body).symlink("s", "cut");
    let files = Place::new().tar(&maker.end()).unwrap();
    assert_eq!(files.text(&long), "x");
    assert_eq!(files.get("s").node, Node::Symlink { target: long.into_bytes() });
}

#[test]
fn devices_and_fifos_are_kept_as_what_they_are() {
    let mut device = TarMaker::header(b'4', b"sda");
    device.set_device_major(8).unwrap();
    device.set_device_minor(1).unwrap();
    let maker = tar().add(device, b"").add(TarMaker::header(b'6', b"pipe"), b"");
    let maker = maker.pax(b'x', &[("SCHILY.devmajor", b"5000"), ("SCHILY.devminor", b"70000")]);
    let files = Place::new().tar(&maker.add(TarMaker::header(b'3', b"big"), b"").end()).unwrap();
    assert_eq!(files.get("sda").node, Node::Block { major: 8, minor: 1 });
    assert_eq!(files.get("big").node, Node::Char { major: 5000, minor: 70_000 });
    assert_eq!(files.get("pipe").node.kind(), Kind::Fifo);
}

#[test]
fn an_unknown_type_is_named_and_a_volume_label_is_passed_over() {
    match refused(tar().add(TarMaker::header(b'Q', b"odd"), b"")) {
        LayerError::UnknownType { path, code } => assert_eq!((path, code), (b"odd".to_vec(), b'Q')),
        other => panic!("{other}"),
    }
    assert!(matches!(
        refused(tar().add(TarMaker::header(b'M', b"part"), b"")),
        LayerError::UnknownType { .. }
    ));
    let files =
        Place::new().tar(&tar().add(TarMaker::header(b'V', b"label"), b"").file("f", "").end()).unwrap();
    assert_eq!(files.paths(), ["f"]);
}

#[test]
fn a_hard_link_with_a_size_is_read_with_and_without_its_body() {
    let mut link = TarMaker::header(b'1', b"b");
    link.set_link_name_literal("a").unwrap();
    link.set_size(600);
    let body = "z".repeat(600);
    let with_body = tar().file("a", &body).add(link.clone(), body.as_bytes()).file("c", "c").end();
    let without = {
        link.set_cksum();
        let mut bytes = tar().file("a", &body).end();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend_from_slice(link.as_bytes());
        bytes.extend_from_slice(&tar().file("c", "c").end());
        bytes
    };
    for bytes in [with_body, without] {
        let files = Place::new().tar(&bytes).unwrap();
        assert_eq!(files.paths(), ["a", "b", "c"]);
        assert_eq!((files.text("b"), files.text("c")), (body.clone(), "c".into()));
    }
}

#[test]
fn an_old_file_whose_name_ends_with_a_slash_is_a_directory() {
    let mut old = TarMaker::header(b'0', b"d/");
    // The type of before ustar; with the newer one Go's reader, and so every engine, takes it for a file.
    old.as_mut_bytes()[156] = 0;
    let new = TarMaker::header(b'0', b"e/");
    let files = Place::new().tar(&tar().add(old, b"").add(new, b"").end()).unwrap();
    assert_eq!((files.get("d").node.kind(), files.get("e").node.kind()), (Kind::Directory, Kind::File));
}

fn holes() -> Vec<u8> {
    [vec![0; 4096], b"one".to_vec(), vec![0; 5093], b"two".to_vec(), vec![0; 100]].concat()
}

#[test]
fn sparse_files_of_all_three_pax_versions_and_of_old_gnu_are_filled_with_zeros() {
    let sparse_0_0: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"9295"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"4096"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"9192"),
        ("GNU.sparse.numbytes", b"3"),
    ];
    let sparse_0_1: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"9295"), ("GNU.sparse.map", b"4096,3,9192,3"), ("GNU.sparse.name", b"real")];
    let sparse_1_0: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", b"9295"),
    ];
    let mut map = b"2\n4096\n3\n9192\n3\n".to_vec();
    map.resize(512, 0);
    let with_size = [sparse_1_0, &[("size", b"518")]].concat();
    let mut gnu = TarMaker::header(b'S', b"real");
    gnu.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    gnu.set_size(6);
    for (at, text) in [
        (386, "00000010000"),
        (398, "00000000003"),
        (410, "00000021750"),
        (422, "00000000003"),
        (483, "00000022117"),
    ] {
        gnu.as_mut_bytes()[at..at + 11].copy_from_slice(text.as_bytes());
    }
    let file = |path: &str, body: &[u8]| {
        let mut header = TarMaker::header(b'0', path.as_bytes());
        header.set_size(body.len() as u64);
        (header, body.to_vec())
    };
    let add = |maker: TarMaker, (header, body): (tar::Header, Vec<u8>)| maker.add(header, &body);
    let with_map = [&map[..], b"onetwo"].concat();
    for maker in [
        add(tar().pax(b'x', sparse_0_0), file("real", b"onetwo")),
        add(tar().pax(b'x', sparse_0_1), file("GNUSparseFile.0/real", b"onetwo")),
        add(tar().pax(b'x', sparse_1_0), file("GNUSparseFile.0/real", &with_map)),
        add(tar().pax(b'x', &with_size), file("GNUSparseFile.0/real", &with_map)),
        tar().add(gnu, b"onetwo"),
    ] {
        let files = Place::new().tar(&maker.file("next", "n").end()).unwrap();
        assert_eq!(files.paths(), ["next", "real"]);
        assert_eq!(files.bytes("real"), holes());
    }
}

#[test]
fn a_sparse_map_that_lies_is_refused() {
    for map in [
        &b"0,3,2,3"[..],
        b"4,3,0,3",
        b"0,3,9000,600",
        b"0,3",
        b"0,3,6",
        b"18446744073709551615,3,0,3",
        b"0,9",
    ] {
        let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9295"), ("GNU.sparse.map", map)];
        let error = refused(tar().pax(b'x', records).file("f", "onetwo"));
        assert!(matches!(error, LayerError::Entry { .. }), "{error}");
    }
    let mut short = b"5\n1\n".to_vec();
    short.resize(512, 0);
    for body in [&b"x"[..], b"1000000000000\n", b"9\n", &short] {
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")];
        let body = String::from_utf8(body.to_vec()).unwrap();
        refused(tar().pax(b'x', records).file("f", &body));
    }
}

#[test]
fn archives_may_end_without_marks_or_with_junk_after_them() {
    let whole = tar().file("a", "1").file("b", "2").end();
    let unmarked = &whole[..whole.len() - 1024];
    let one_mark = &whole[..whole.len() - 512];
    let junk = [&whole[..], &tar().file("c", "3").end(), b"junk"].concat();
    for bytes in [&whole[..], unmarked, one_mark, &junk] {
        assert_eq!(Place::new().tar(bytes).unwrap().paths(), ["a", "b"]);
    }
    assert!(Place::new().tar(b"").unwrap().paths().is_empty());
}

#[test]
fn a_cut_archive_is_refused_wherever_the_cut_is() {
    let whole = tar().pax(b'x', &[("path", b"long")]).file("a", &"x".repeat(700)).end();
    let end = whole.len() - 1024;
    for cut in [1, 100, 511, 513, 600, 1024, 1100, 1600, 2100, end - 1] {
        let error = refused_bytes(&whole[..cut]);
        assert!(matches!(error, LayerError::Truncated { .. } | LayerError::Header { .. }), "{cut}: {error}");
    }
    let lone = [&whole[..end], &[0; 512], &tar().file("b", "").end()].concat();
    assert!(matches!(refused_bytes(&lone), LayerError::Header { .. }));
    let mut changed = whole;
    changed[1024] ^= 1;
    assert!(matches!(refused_bytes(&changed), LayerError::Header { .. }));
}

#[test]
fn whiteout_names_are_plain_in_a_root_archive() {
    let files = Place::new().tar(&tar().file("a", "").file(".wh.a", "x").end()).unwrap();
    assert_eq!(files.paths(), [".wh.a", "a"]);
}

#[test]
fn large_files_are_streamed_and_equal() {
    let body: String = (0..700_000).map(|number: u32| format!("{number:06}\n")).collect();
    let files = Place::new().tar(&tar().file("big", &body).file("after", "x").end()).unwrap();
    assert_eq!((files.text("big") == body, files.text("after")), (true, "x".into()));
}
