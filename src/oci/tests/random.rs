//! Any bytes: what the `tar` crate writes is read exactly, and nothing panics the parser.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::entry::TarKind;
use super::super::limits::Limits;
use super::super::tarball::Tar;
use super::super::testing::{Place, TarMaker, gzip};

type PathAndBody = (Vec<u8>, Vec<u8>);

fn read(bytes: &[u8]) -> Result<Vec<PathAndBody>, super::super::LayerError> {
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    let mut tar = Tar::new(bytes, &limits);
    let mut found = Vec::new();
    while let Some(entry) = tar.next()? {
        let mut body = Vec::new();
        if let TarKind::File { size, regions } = &entry.kind {
            tar.copy_body(*size, regions.as_deref(), |piece| {
                body.extend_from_slice(piece);
                Ok(())
            })?;
            assert_eq!(body.len() as u64, *size);
        }
        found.push((entry.path, body));
    }
    Ok(found)
}

fn name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-z]{1,40}(/[a-z]{1,60}){0,5}").unwrap()
}

fn seed() -> Vec<u8> {
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"900"), ("GNU.sparse.map", b"4,3,90,3"), ("mtime", b"1.5")];
    let sparse: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"900")];
    let mut map = "2\n4\n3\n90\n3\n".to_owned();
    map.push_str(&"\0".repeat(512 - map.len()));
    let mut gnu = TarMaker::header(b'S', b"gnu");
    gnu.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    TarMaker::new()
        .dir("d")
        .pax(b'g', &[("uid", b"1")])
        .pax(b'x', records)
        .file("a", "onetwo")
        .pax(b'x', sparse)
        .file("b", &(map + "onetwo"))
        .add(gnu, b"")
        .pax(b'x', &[("SCHILY.xattr.user.x", b"1"), ("path", b"long/name")])
        .file("c", "body")
        .hard_link("h", "c")
        .symlink("s", "c")
        .end()
}

/// Makes every header's check sum right again, so that changes reach the code behind it.
fn repair(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_tar_crate_writes_is_read(files in proptest::collection::vec((name(), proptest::collection::vec(any::<u8>(), 0..2000), any::<bool>()), 0..12)) {
        let mut builder = tar::Builder::new(Vec::new());
        let mut expected = Vec::new();
        for (path, body, gnu) in &files {
            let mut header = if *gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
            header.set_mode(0o644);
            header.set_uid(1);
            header.set_gid(1);
            header.set_mtime(1);
            header.set_size(body.len() as u64);
            // A ustar header cannot hold every long path; then nothing is written.
            if builder.append_data(&mut header, path, &body[..]).is_ok() {
                expected.push((path.clone().into_bytes(), body.clone()));
            }
        }
        prop_assert_eq!(read(&builder.into_inner().unwrap()).unwrap(), expected);
    }

    #[test]
    fn random_bytes_do_not_panic_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn changed_archives_do_not_panic_the_parser(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), cut in any::<prop::sample::Index>()) {
        let mut bytes = seed();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        repair(&mut bytes);
        let _ = read(&bytes);
        let end = cut.index(bytes.len());
        let _ = read(&bytes[..end]);
    }

    #[test]
    fn changed_headers_do_not_panic_the_parser(changes in proptest::collection::vec((0usize..20, 0usize..512, any::<u8>()), 1..6)) {
        let mut bytes = seed();
        for (block, at, value) in changes {
            let at = (block * 512 + at) % bytes.len();
            bytes[at] = value;
        }
        repair(&mut bytes);
        let _ = read(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_layer_is_refused_or_imported_whole_and_never_hangs(at in any::<prop::sample::Index>(), value in any::<u8>(), compressed in any::<bool>()) {
        let mut bytes = if compressed { gzip(&seed()) } else { seed() };
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = Place::new().tar(&bytes);
    }

    #[test]
    fn what_is_imported_is_what_was_written(files in proptest::collection::btree_map("[a-c]{1,3}", proptest::collection::vec(any::<u8>(), 0..3000), 0..20)) {
        let mut maker = TarMaker::new();
        for (path, body) in &files {
            let mut header = TarMaker::header(b'0', path.as_bytes());
            header.set_size(body.len() as u64);
            maker = maker.add(header, body);
        }
        let imported = Place::new().tar(&maker.end()).unwrap();
        let found: BTreeMap<String, Vec<u8>> =
            imported.paths().into_iter().map(|path| (path.to_owned(), imported.bytes(path))).collect();
        prop_assert_eq!(found, files);
    }
}
