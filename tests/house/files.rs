//! Rules about single files: size, leftovers, what must not be in them.

use std::collections::BTreeSet;
use std::fs;

use super::source::{repository, rust_files, tracked};

/// The longest file. In the models nine in ten stay under 400 lines.
const MAX_LINES: usize = 600;

#[test]
fn no_source_file_is_longer_than_six_hundred_lines() {
    let Some(root) = repository() else { return };
    let files = rust_files(&root, "src").into_iter().chain(rust_files(&root, "tests"));
    let long: Vec<String> = files
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "split them:\n{}", long.join("\n"));
}

#[test]
fn every_folder_and_file_of_tests_is_part_of_the_one_test_program() {
    let Some(root) = repository() else { return };
    let head = fs::read_to_string(root.join("tests/treebox.rs")).unwrap();
    for entry in fs::read_dir(root.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            assert!(head.contains(&format!("mod {name};")), "tests/{name} is not named in tests/treebox.rs");
            assert!(!path.join("main.rs").exists(), "tests/{name} is a program of its own");
        } else {
            assert_eq!(name, "treebox", "tests/{name}.rs is a program of its own: make it a folder");
        }
    }
    let mut modules = BTreeSet::new();
    for file in rust_files(&root, "tests") {
        let declared = file.code().filter_map(|(_, line)| {
            let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
            line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
        });
        modules.extend(declared);
    }
    for file in rust_files(&root, "tests") {
        let mut parts: Vec<&str> = file.path.trim_end_matches(".rs").split('/').collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        let name = *parts.last().unwrap();
        assert!(name == "treebox" || modules.contains(name), "{}: no `mod {name};` names it", file.path);
    }
}

#[test]
fn nothing_unfinished_is_left_in_the_source() {
    let Some(root) = repository() else { return };
    let mut found = Vec::new();
    for file in rust_files(&root, "src") {
        for (number, line) in file.code() {
            for word in ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX:"] {
                if line.contains(word) {
                    found.push(format!("{}:{number}: {word}", file.path));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn tests_are_not_skipped_in_silence() {
    let Some(root) = repository() else { return };
    let mut found = Vec::new();
    for file in rust_files(&root, "src").into_iter().chain(rust_files(&root, "tests")) {
        for (number, line) in file.code() {
            if line.trim() == "#[ignore]" {
                found.push(format!("{}:{number}: say why it is ignored", file.path));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_tracked_file_names_this_machine_or_a_live_registry() {
    let Some(root) = repository() else { return };
    let Some(tracked) = tracked(&root) else { return };
    // In pieces, so that this file does not name them itself.
    let machine = [concat!("/wor", "k/"), concat!("/ro", "ot/.cargo"), concat!("/ho", "me/")];
    let registries = [
        concat!("quay", ".io"),
        concat!("gcr", ".io"),
        concat!("registry-1.dock", "er.io"),
        concat!("public.ecr", ".aws"),
    ];
    let mut found = Vec::new();
    for path in tracked {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        for (at, line) in text.lines().enumerate() {
            for word in machine.iter().chain(&registries) {
                // `/workdir` and the like are names inside states.
                if line.contains(word) {
                    found.push(format!("{path}:{}: {word}", at + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_readers_look_for_is_there() {
    let Some(root) = repository() else { return };
    for name in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "store-format.md",
        "justfile",
        "deny.toml",
    ] {
        assert!(root.join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn every_limit_in_the_source_is_in_the_format_document() {
    let Some(root) = repository() else { return };
    let document = fs::read_to_string(root.join("store-format.md")).unwrap();
    let mut missing = Vec::new();
    for room in ["src/object", "src/store", "src/index", "src/history"] {
        for file in rust_files(&root, room).into_iter().filter(|file| !file.is_test()) {
            for (_, line) in file.code() {
                let Some(rest) = line.trim().strip_prefix("pub const MAX_") else { continue };
                let name = format!("MAX_{}", rest.split(':').next().unwrap());
                if !document.contains(&name) {
                    missing.push(format!("{}: {name}", file.path));
                }
            }
        }
    }
    assert!(missing.is_empty(), "store-format.md does not tell these limits:\n{}", missing.join("\n"));
}

#[test]
fn ci_runs_the_very_command_that_the_readme_gives() {
    let Some(root) = repository() else { return };
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let ci = fs::read_to_string(root.join(".ci/run")).unwrap();
    assert!(readme.lines().any(|line| line == "    .ci/test"), "README.md does not give the command");
    assert!(ci.lines().any(|line| line == "stage tests .ci/test"), ".ci/run does not run it");
}

#[test]
fn every_fuzz_target_has_a_program_and_a_corpus() {
    let Some(root) = repository() else { return };
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let programs = names("fuzz/fuzz_targets");
    assert_eq!(programs, names("fixtures/corpus"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let listed = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));
    assert_eq!(programs, listed.map(str::to_owned).collect());
    // Each calls a function that is there.
    for program in &programs {
        let text = fs::read_to_string(root.join(format!("fuzz/fuzz_targets/{program}.rs"))).unwrap();
        let call = text.split("treebox::").nth(1).unwrap().split('(').next().unwrap();
        let [room, "fuzzing", function] = call.split("::").collect::<Vec<_>>()[..] else {
            panic!("{program}: {call}")
        };
        let bodies = fs::read_to_string(root.join(format!("src/{room}/fuzzing.rs"))).unwrap();
        assert!(
            bodies.contains(&format!("pub fn {function}(bytes: &[u8])")),
            "{program}: {call} is not there"
        );
    }
}
