//! Every bound is kept and named.

use super::super::testing::{OciImage, Place, TarMaker, gzip};
use super::super::{ImageSource, ImportError, ImportOptions, LayerError, Limits};

fn passed(limits: Limits, layers: &[(Vec<u8>, Vec<u8>)]) -> &'static str {
    let place = Place::new();
    let dir = place.path("layout");
    OciImage::of_stored(layers).write_layout(&dir);
    let source = ImageSource::OciLayout { dir, reference: None };
    let options = ImportOptions { limits, ..ImportOptions::default() };
    match place.try_import(&source, &options).unwrap_err() {
        ImportError::Limit(error) | ImportError::Layer { source: LayerError::Limit(error), .. } => error.name,
        other => panic!("{other}"),
    }
}

fn plain(maker: TarMaker) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = maker.end();
    vec![(bytes.clone(), bytes)]
}

#[test]
fn what_goes_beyond_a_limit_is_refused_with_its_name() {
    let base = Limits::default();
    let tar = TarMaker::new;
    let two = || tar().file("aa", "123").file("b", "456");
    assert_eq!(passed(Limits { entries: 1, ..base }, &plain(two())), "entries");
    assert_eq!(passed(Limits { path_bytes: 1, ..base }, &plain(two())), "path_bytes");
    assert_eq!(passed(Limits { file_bytes: 2, ..base }, &plain(two())), "file_bytes");
    assert_eq!(passed(Limits { total_bytes: 5, ..base }, &plain(two())), "total_bytes");
    assert_eq!(passed(Limits { manifest_bytes: 10, ..base }, &plain(two())), "manifest_bytes");
    assert_eq!(passed(Limits { layers: 0, ..base }, &plain(two())), "layers");
    assert_eq!(passed(Limits { metadata_bytes: 2, ..base }, &plain(two())), "metadata_bytes");
    let xattr = || tar().pax(b'x', &[("SCHILY.xattr.user.a", b"12345")]).file("f", "");
    assert_eq!(passed(Limits { xattr_bytes: 10, ..base }, &plain(xattr())), "xattr_bytes");
    assert_eq!(passed(Limits { header_bytes: 520, ..base }, &plain(xattr())), "header_bytes");
    let sparse: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,1,2,1,4,1")];
    let sparse = tar().pax(b'x', sparse).file("f", "abc");
    assert_eq!(passed(Limits { sparse_regions: 2, ..base }, &plain(sparse)), "sparse_regions");
}

#[test]
fn a_chain_of_empty_extended_headers_comes_to_an_end() {
    let maker = (0..3000).fold(TarMaker::new(), |maker, _| maker.pax(b'x', &[]));
    assert_eq!(passed(Limits::default(), &plain(maker)), "header_bytes");
}

#[test]
fn a_hole_of_a_terabyte_is_refused_before_it_is_written() {
    let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"1099511627776"), ("GNU.sparse.map", b"0,1")];
    let maker = TarMaker::new().pax(b'x', records).file("f", "a");
    assert_eq!(passed(Limits::default(), &plain(maker)), "file_bytes");
}

#[test]
fn a_layer_that_expands_beyond_all_measure_is_refused() {
    let tar = TarMaker::new().file("f", &"0".repeat(3 << 20)).end();
    let stored = gzip(&tar);
    let layers = [(tar, stored)];
    assert_eq!(passed(Limits { total_bytes: 1 << 20, ..Limits::default() }, &layers), "total_bytes");
    let limits = Limits { ratio_free_bytes: 1 << 20, expansion_ratio: 20, ..Limits::default() };
    assert_eq!(passed(limits, &layers), "expansion_ratio");
}
