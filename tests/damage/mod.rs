//! Stores with something wrong, and the store of the first version that every later one opens.

mod archive;
mod fixtures;
mod formats;
mod power;
mod reads;
mod recipe;
mod store_v1;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The directory of the fixtures: `TREEBOX_TEST_FIXTURES` when the tests run away from the source.
fn fixtures() -> PathBuf {
    std::env::var_os("TREEBOX_TEST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures"), PathBuf::from)
}

/// What is in the store of version 1, by the names that `fixtures/store-v1.txt` gives.
fn known() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(fixtures().join("store-v1.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
}
