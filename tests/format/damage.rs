//! Damaged bytes are refused or are another value's canonical bytes; they never make a decoder panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use treebox::object::{CommandSpec, State, Tree};

use super::strategy;
use super::vector::pinned;

/// Decodes as everything. What is taken must be canonical: it encodes to the very bytes it came from.
fn check(bytes: &[u8]) {
    if let Ok(tree) = Tree::decode(bytes) {
        assert_eq!(tree.encode().unwrap().1, bytes);
    }
    if let Ok(root) = Tree::decode_root(bytes) {
        assert_eq!(Tree::encode_root(&root).1, bytes);
    }
    if let Ok(state) = State::decode(bytes) {
        assert_eq!(state.encode().1, bytes);
    }
    if let Ok(spec) = CommandSpec::decode(bytes) {
        assert_eq!(spec.encode(), bytes);
    }
}

fn refused(bytes: &[u8]) -> bool {
    Tree::decode(bytes).is_err()
        && Tree::decode_root(bytes).is_err()
        && State::decode(bytes).is_err()
        && CommandSpec::decode(bytes).is_err()
}

const PINNED: [&str; 8] = [
    "tree-empty",
    "tree-every-kind",
    "tree-root",
    "tree-linked",
    "state-full",
    "state-bare",
    "spec-full",
    "spec-shell",
];

#[test]
fn every_pinned_value_cut_short_or_with_a_byte_more_is_refused() {
    for name in PINNED {
        let bytes = pinned(name);
        assert!(!refused(&bytes), "{name} itself decodes");
        for len in 0..bytes.len() {
            assert!(refused(&bytes[..len]), "{name} cut to {len} bytes");
        }
        assert!(refused(&[&bytes[..], b"\0"].concat()), "{name} with a byte more");
    }
}

#[test]
fn every_flipped_bit_of_a_pinned_value_is_refused_or_another_canonical_value() {
    for name in PINNED {
        let bytes = pinned(name);
        for at in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            check(&bytes);
        }
    }
}

#[test]
fn every_magic_and_version_that_is_not_known_is_refused() {
    for name in PINNED {
        for at in 0..8 {
            let mut bytes = pinned(name);
            bytes[at] = bytes[at].wrapping_add(1);
            assert!(refused(&bytes), "{name} with byte {at} of its magic changed");
        }
    }
}

/// The pinned bytes with `new` instead of the bytes at `at`.
fn patched(name: &str, at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = pinned(name);
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

#[test]
fn one_defect_each_is_named() {
    let every = pinned("tree-every-kind");
    let at = |what: &[u8]| find(&every, what);
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("a count that cannot be", patched("tree-every-kind", 8, &[0xff; 4]), "a list longer than the bytes"),
        ("entries out of order", patched("tree-every-kind", at(b"\x05block"), b"\x05zlock"), "out of order"),
        ("the same name twice", patched("tree-every-kind", at(b"\x04file"), b"\x04fifo"), "out of order"),
        (
            "a slash in a name",
            patched("tree-every-kind", at(b"\x05block"), b"\x05b/ock"),
            "impossible file name",
        ),
        ("an unknown kind", patched("tree-every-kind", at(b"\x05block") + 6, &[9]), "unknown kind"),
        (
            "a mode with other bits",
            patched("tree-every-kind", at(b"\x05block") + 7, &[0, 0x80]),
            "mode above",
        ),
        (
            "a second of nanoseconds",
            patched("tree-every-kind", at(b"\x05block") + 25, &[0, 0xca, 0x9a, 0x3b]),
            "nanoseconds",
        ),
        ("a NUL in a symlink's target", patched("tree-every-kind", at(b"../caf"), b"\0"), "symlink target"),
        (
            "attributes out of order",
            patched("tree-every-kind", at(b"security.capability"), b"z"),
            "attributes out of order",
        ),
    ];
    for (what, bytes, reason) in cases {
        let error = Tree::decode(&bytes).expect_err(what).to_string();
        assert!(error.contains(reason), "{what}: {error}");
    }
    let full = pinned("state-full");
    let swapped = patched("state-full", find(&full, b"zwei") - 5, b"a");
    assert!(State::decode(&swapped).unwrap_err().to_string().contains("labels out of order"));
    let text = patched("state-full", find(&full, b"/srv"), b"\xff");
    assert!(State::decode(&text).unwrap_err().to_string().contains("not UTF-8"));
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        strategy::tree().prop_map(|tree| tree.encode().unwrap().1),
        strategy::root().prop_map(|root| Tree::encode_root(&root).1),
        strategy::state().prop_map(|state| state.encode().1),
        strategy::spec().prop_map(|spec| spec.encode()),
    ]
}

proptest! {
    #![proptest_config(strategy::config())]

    #[test]
    fn random_bytes_never_panic_a_decoder(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_sound_magic_never_panic_a_decoder(
        kind in 0usize..8,
        bytes in vec(any::<u8>(), 0..200),
    ) {
        check(&[&pinned(PINNED[kind])[..8], &bytes].concat());
    }

    #[test]
    fn mutated_values_never_panic_a_decoder(
        mut bytes in any_value(),
        edits in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<Index>()),
    ) {
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(&bytes);
    }
}
