//! The table of damages in `store-format.md` against the one in the code.

use treebox::{DamageKind, Severity};

/// The rows of the table: name and severity.
fn rows() -> Option<Vec<(String, String)>> {
    let root = std::env::var_os("TREEBOX_TEST_REPOSITORY")
        .map_or_else(|| std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")), std::path::PathBuf::from);
    let Ok(text) = std::fs::read_to_string(root.join("store-format.md")) else {
        eprintln!("not checked: the source is not at {}", root.display());
        return None;
    };
    let section = text.split("## What damage looks like").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.next()?.trim().to_owned()))
    };
    let severities = ["error", "warning", "info"];
    let is_kind = |(_, severity): &(String, String)| severities.contains(&severity.as_str());
    Some(section.lines().filter_map(row).filter(is_kind).collect())
}

#[test]
fn the_format_document_names_every_kind_of_damage_with_its_severity() {
    let Some(rows) = rows() else { return };
    let kinds: Vec<_> = DamageKind::ALL
        .iter()
        .map(|kind| (kind.as_str().to_owned(), kind.severity().as_str().to_owned()))
        .collect();
    assert_eq!(rows, kinds);
}

#[test]
fn names_of_damages_are_words_with_hyphens_and_told_once() {
    let mut names: Vec<_> = DamageKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), DamageKind::ALL.len());
    assert!(Severity::Info < Severity::Warning && Severity::Warning < Severity::Error);
}
