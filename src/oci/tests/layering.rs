//! How layers combine: whiteouts, opaque directories, replacements, hard links.

use super::super::testing::{Place, TarMaker};
use super::super::{ImportError, LayerError};
use crate::object::{Kind, Node, Timestamp};

fn tar() -> TarMaker {
    TarMaker::new()
}

fn paths(layers: Vec<TarMaker>) -> Vec<String> {
    let layers: Vec<_> = layers.into_iter().map(TarMaker::end).collect();
    Place::new().layers(&layers).unwrap().paths().into_iter().map(str::to_owned).collect()
}

fn refused(layers: Vec<TarMaker>) -> LayerError {
    let layers: Vec<_> = layers.into_iter().map(TarMaker::end).collect();
    match Place::new().layers(&layers) {
        Err(ImportError::Layer { source, .. }) => source,
        Err(other) => panic!("{other}"),
        Ok(files) => panic!("imported {:?}", files.paths()),
    }
}

#[test]
fn a_whiteout_hides_the_lower_layer_and_nothing_of_its_own_whatever_the_order() {
    let lower = || tar().file("a", "old").file("b", "old").file("keep", "k");
    for upper in
        [tar().file("a", "new").link(b'0', ".wh.a", ""), tar().link(b'0', ".wh.a", "").file("a", "new")]
    {
        let layers = [lower().end(), upper.link(b'0', ".wh.b", "").end()];
        let files = Place::new().layers(&layers).unwrap();
        assert_eq!(files.paths(), ["a", "keep"]);
        assert_eq!(files.text("a"), "new");
    }
}

#[test]
fn a_whiteout_removes_a_whole_directory_and_its_new_contents_get_a_plain_one() {
    let lower = tar().dir_mode("d", 0o700).file("d/old", "");
    let upper = tar().file("d/new", "").file(".wh.d", "").end();
    let files = Place::new().layers(&[lower.end(), upper]).unwrap();
    assert_eq!(files.paths(), ["d", "d/new"]);
    assert_eq!(files.get("d").meta.mode, 0o755);
    assert_eq!(files.get("d").meta.mtime, Timestamp::from_seconds(0));
}

#[test]
fn an_opaque_marker_counts_first_even_when_it_stands_last() {
    let lower = || tar().dir("d").file("d/old", "").dir("d/sub").file("d/sub/old", "").file("other", "");
    let upper = tar().dir("d").file("d/new", "").file("d/.wh..wh..opq", "");
    assert_eq!(paths(vec![lower(), upper]), ["d", "d/new", "other"]);
    let whiteout_inside = tar().file("d/.wh.old", "").file("d/.wh..wh..opq", "");
    assert_eq!(paths(vec![lower(), whiteout_inside]), ["d", "other"]);
    assert_eq!(paths(vec![lower(), tar().file(".wh..wh..opq", "").file("x", "")]), ["x"]);
}

#[test]
fn a_whiteout_of_something_missing_or_in_the_lowest_layer_does_nothing() {
    assert_eq!(paths(vec![tar().file(".wh.x", "").file("x", "").file("no/.wh.y", "")]), ["x"]);
    assert_eq!(paths(vec![tar().file("x", ""), tar().file(".wh.y", "").file("x/.wh.z", "")]), ["x"]);
    let twice = tar().file(".wh.x", "").file(".wh.x", "");
    assert_eq!(paths(vec![tar().file("x", ""), twice]), Vec::<String>::new());
}

#[test]
fn a_whiteout_without_a_name_is_refused() {
    for bad in [".wh.", "d/.wh.", ".wh..", ".wh...", "a/.wh.b/c"] {
        let error = refused(vec![tar().file("d/x", ""), tar().file(bad, "")]);
        assert!(matches!(error, LayerError::Whiteout(_)), "{bad}: {error}");
    }
}

#[test]
fn what_aufs_kept_for_itself_is_left_out_but_its_link_targets_resolve() {
    let layer = tar()
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/12.34", "body")
        .file(".wh..wh.aufs", "")
        .dir(".wh..wh.orph")
        .hard_link("a", ".wh..wh.plnk/12.34")
        .hard_link("b", ".wh..wh.plnk/12.34")
        .end();
    let files = Place::new().layers(&[layer]).unwrap();
    assert_eq!(files.paths(), ["a", "b"]);
    assert_eq!(files.text("a"), "body");
    assert!(files.link("a").is_some() && files.link("a") == files.link("b"));
}

#[test]
fn a_directory_over_a_directory_keeps_the_children_and_takes_the_attributes() {
    let files = Place::new()
        .layers(&[tar().dir_mode("d", 0o700).file("d/x", "").end(), tar().dir_mode("d", 0o1777).end()]);
    let files = files.unwrap();
    assert_eq!(files.paths(), ["d", "d/x"]);
    assert_eq!(files.get("d").meta.mode, 0o1777);
}

#[test]
fn anything_else_over_a_path_replaces_it() {
    let lower = || tar().dir("d").file("d/x", "").file("f", "").symlink("l", "d");
    assert_eq!(paths(vec![lower(), tar().file("d", "now a file")]), ["d", "f", "l"]);
    assert_eq!(paths(vec![lower(), tar().dir("f").file("f/y", "")]), ["d", "d/x", "f", "f/y", "l"]);
    let over_link = [lower().end(), tar().file("l", "own").end()];
    let files = Place::new().layers(&over_link).unwrap();
    assert_eq!((files.text("l"), files.paths().len()), ("own".into(), 4));
}

#[test]
fn an_entry_below_something_that_is_no_directory_makes_it_one() {
    let lower = || tar().symlink("lib", "usr/lib").dir("usr/lib").file("plain", "");
    let files = Place::new().layers(&[lower().end(), tar().file("lib/x", "x").file("plain/y", "").end()]);
    let files = files.unwrap();
    assert_eq!(files.get("lib").node.kind(), Kind::Directory);
    assert_eq!(files.text("lib/x"), "x");
    assert!(!files.entries.contains_key("usr/lib/x"));
    assert_eq!(files.get("plain").node.kind(), Kind::Directory);
}

#[test]
fn missing_parents_are_roots_with_a_fixed_time() {
    let files = Place::new().layers(&[tar().file("a/b/c", "x").end()]).unwrap();
    for parent in ["a", "a/b"] {
        let meta = &files.get(parent).meta;
        assert_eq!((meta.mode, meta.uid, meta.mtime), (0o755, 0, Timestamp::from_seconds(0)));
    }
}

#[test]
fn the_last_of_several_entries_for_one_path_counts_however_it_is_spelled() {
    let layer = tar().file("./a", "1").file("/a", "2").file("b//c", "3").file("b/./c", "4").file("a", "5");
    let files = Place::new().layers(&[layer.end()]).unwrap();
    assert_eq!(files.paths(), ["a", "b", "b/c"]);
    assert_eq!((files.text("a"), files.text("b/c")), ("5".into(), "4".into()));
}

#[test]
fn hard_links_reach_across_layers_and_may_be_absolute() {
    let layers =
        [tar().file("d/f", "body").end(), tar().hard_link("g", "/d/f").hard_link("h", "./d/f").end()];
    let files = Place::new().layers(&layers).unwrap();
    assert_eq!((files.text("g"), files.text("h")), ("body".into(), "body".into()));
    assert!(files.link("g").is_some());
    assert_eq!(files.link("d/f"), files.link("h"));
}

#[test]
fn hard_links_to_symlinks_and_devices_are_such_themselves() {
    let mut device = TarMaker::header(b'3', b"null");
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    let layer = tar().symlink("s", "nowhere").add(device, b"").hard_link("t", "s").hard_link("n", "null");
    let files = Place::new().layers(&[layer.end()]).unwrap();
    assert_eq!(files.get("t").node, Node::Symlink { target: b"nowhere".to_vec() });
    assert_eq!(files.get("n").node, Node::Char { major: 1, minor: 3 });
}

#[test]
fn a_link_keeps_the_file_it_was_made_to_when_the_target_is_replaced_later() {
    let layer = tar().file("a", "old").hard_link("b", "a").file("a", "new");
    let files = Place::new().layers(&[layer.end()]).unwrap();
    assert_eq!((files.text("a"), files.text("b")), ("new".into(), "old".into()));
    assert_eq!((files.link("a"), files.link("b")), (None, None));
}

#[test]
fn a_file_over_one_of_two_links_leaves_the_other_alone() {
    let layers = [tar().file("a", "old").hard_link("b", "a").end(), tar().file("b", "new").end()];
    let files = Place::new().layers(&layers).unwrap();
    assert_eq!((files.text("a"), files.text("b")), ("old".into(), "new".into()));
    assert_eq!(files.link("a"), None);
}

#[test]
fn a_link_to_nothing_to_a_directory_or_to_what_was_whited_out_is_refused() {
    let lower = || tar().file("a", "").dir("d");
    for upper in [
        tar().hard_link("b", "nowhere"),
        tar().hard_link("b", "d"),
        tar().file(".wh.a", "").hard_link("b", "a"),
        tar().hard_link("b", "/"),
    ] {
        let error = refused(vec![lower(), upper]);
        assert!(matches!(error, LayerError::Draft(_)), "{error}");
    }
    assert!(matches!(refused(vec![tar().hard_link("b", "../../etc/passwd")]), LayerError::Path(_)));
}

#[test]
fn an_empty_file_can_be_linked_and_setuid_stays() {
    let mut header = TarMaker::header(b'0', b"su");
    header.set_mode(0o104_755);
    let files = Place::new().layers(&[tar().add(header, b"").hard_link("su2", "su").end()]).unwrap();
    assert_eq!((files.get("su").meta.mode, files.get("su2").meta.mode), (0o4755, 0o4755));
    assert_eq!(files.link("su"), files.link("su2"));
}

#[test]
fn the_root_takes_attributes_and_cannot_become_anything_else() {
    let files = Place::new().layers(&[tar().dir_mode("./", 0o711).file("x", "").end()]).unwrap();
    assert_eq!(files.get("").meta.mode, 0o711);
    let files = Place::new().layers(&[tar().file("x", "").end()]).unwrap();
    assert_eq!(files.get("").meta.mode, 0o755);
    for path in [".", "/", "./", "a/.."] {
        let error = refused(vec![tar().symlink(path, "/etc")]);
        assert!(matches!(error, LayerError::Root), "{path}: {error}");
    }
}

#[test]
fn the_same_files_give_the_same_root_in_one_layer_or_in_several() {
    let place = Place::new();
    let one = place.layers(&[tar().dir("d").file("d/a", "1").file("d/b", "2").end()]).unwrap();
    let layers = [
        tar().dir("d").file("d/a", "0").file("gone", "").end(),
        tar().file(".wh.gone", "").end(),
        tar().file("d/b", "2").file("d/a", "1").end(),
    ];
    let three = place.layers(&layers).unwrap();
    assert_eq!(one.get(""), three.get(""));
}
