//! The fuzz targets, run on their seeds, on what fuzzing found, and on both changed a little.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::fuzzing;
use super::super::testing::fixtures::corpus::seeds;

/// What a target does with its input.
type Run = fn(&[u8]);

const TARGETS: [(&str, Run); 5] = [
    ("layer", fuzzing::layer),
    ("manifest", fuzzing::manifest),
    ("index", fuzzing::index),
    ("docker_archive", fuzzing::docker_archive),
    ("oci_archive", fuzzing::oci_archive),
];
/// All targets' files together.
const MAX_CORPUS_BYTES: usize = 200 * 1024;

/// `TREEBOX_TEST_FIXTURES` when the tests run away from the source.
fn corpus(target: &str) -> PathBuf {
    let fixtures = std::env::var_os("TREEBOX_TEST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures"), PathBuf::from);
    fixtures.join("corpus").join(target)
}

/// A target's files: name and bytes.
fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(corpus(target)).expect("every target has a corpus").map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_seeds_are_what_the_code_makes() {
    if std::env::var_os("TREEBOX_WRITE_CORPUS").is_some() {
        for (target, name, bytes) in seeds() {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(corpus(target).join(name), bytes).unwrap();
        }
    }
    let mut total = 0;
    for (target, _) in TARGETS {
        let (made, found): (Vec<_>, Vec<_>) =
            files(target).into_iter().partition(|(name, _)| name.starts_with("seed-"));
        assert!(found.iter().all(|(name, _)| name.starts_with("found-")), "{target}: {found:?}");
        total += made.iter().chain(&found).map(|(_, bytes)| bytes.len()).sum::<usize>();
        let mut expected: Vec<_> = seeds()
            .into_iter()
            .filter(|(of, ..)| *of == target)
            .map(|(_, name, bytes)| (name, bytes))
            .collect();
        expected.sort();
        let names =
            |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&made), names(&expected), "{target}");
        // A compressor may change what it writes; what is decompressed stays.
        let differ = made
            .iter()
            .zip(&expected)
            .filter(|(made, expected)| made != expected && made.1.get(257..262) == Some(b"ustar"));
        assert_eq!(
            differ.map(|(made, _)| &made.0).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{target}: TREEBOX_WRITE_CORPUS=1 writes them anew"
        );
    }
    assert!(total <= MAX_CORPUS_BYTES, "{total} bytes of seeds");
}

#[test]
fn every_target_takes_its_seeds_and_what_was_found_before() {
    for (target, run) in TARGETS {
        files(target).iter().for_each(|(_, bytes)| run(bytes));
        run(b"");
        run(&[0; 3000]);
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

/// What means something to one reader or another.
const WORDS: &[&[u8]] = &[
    b"null",
    b"-1",
    b"18446744073709551615",
    b"{}",
    b"[]",
    b"\"\"",
    b".wh.",
    b".wh..wh..opq",
    b"../",
    b"/",
    b"\xff\xff",
    b"\x80\x00",
    b"\n",
    b"sha256:",
    b"manifests",
    b"layers",
    b"512",
    b"\0",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    use prop::sample::Index;
    let words = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..9),
        prop::sample::select(WORDS).prop_map(<[u8]>::to_vec),
    ];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Mutation::Set(at, value)),
        1 => (any::<Index>(), 1usize..600).prop_map(|(at, len)| Mutation::Remove(at, len)),
        3 => (any::<Index>(), words).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (any::<Index>(), 1usize..1100).prop_map(|(at, len)| Mutation::Repeat(at, len)),
        1 => any::<Index>().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let range = |at: &prop::sample::Index, len: usize| {
        let at = at.index(bytes.len());
        at..(at + len).min(bytes.len())
    };
    match mutation {
        Mutation::Set(at, value) => {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        Mutation::Remove(at, len) => drop(bytes.drain(range(at, *len))),
        Mutation::Insert(at, new) => {
            let at = at.index(bytes.len());
            drop(bytes.splice(at..at, new.iter().copied()));
        }
        Mutation::Repeat(at, len) => {
            let range = range(at, *len);
            let piece = bytes[range.clone()].to_vec();
            drop(bytes.splice(range.start..range.start, piece));
        }
        Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_target_takes_changed_seeds(file in any::<prop::sample::Index>(), mutations in proptest::collection::vec(mutation(), 1..5)) {
        for (target, run) in TARGETS {
            let files = files(target);
            let mut bytes = files[file.index(files.len())].1.clone();
            mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
            run(&bytes);
        }
    }
}

#[test]
fn skeletons_take_any_bytes() {
    let mut records = vec![1, 5, 0, 0, 0];
    records.extend_from_slice(b"hello\x02");
    records.extend_from_slice(&[7; 32]);
    records.extend_from_slice(&[0; 8]);
    records.push(0);
    crate::object::fuzzing::shaking::shake("skeleton", fuzzing::skeleton, vec![records], 6_000);
}
