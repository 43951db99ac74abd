//! The rooms of `src/` and who may name whom.

use std::collections::BTreeSet;

use super::source::{File, repository, rust_files};

/// Each room with the rooms it may name. A room may always name itself.
const ROOMS: [(&str, &[&str]); 11] = [
    ("object", &[]),
    ("disk", &["object"]),
    ("store", &["object", "disk"]),
    ("index", &["object"]),
    ("history", &["object", "disk"]),
    ("worktree", &["object", "disk", "store"]),
    ("oci", &["object", "disk", "store"]),
    ("sandbox", &[]),
    ("worker", &["object", "disk", "store", "worktree", "sandbox"]),
    ("engine", &["object", "disk", "store", "index", "history", "worktree", "oci", "sandbox", "worker"]),
    ("cli", &[]),
];

/// A foreign library with the only files or rooms that name it.
const LIBRARIES: [(&str, &[&str]); 20] = [
    ("gix::", &["src/history/git.rs", "src/history/git/"]),
    ("imara_diff::", &["src/object/lines.rs"]),
    ("regex::", &["src/engine/grep.rs"]),
    ("rusqlite::", &["src/index/"]),
    ("oci_spec::", &["src/oci/"]),
    ("tar::", &["src/oci/"]),
    ("tar_core::", &["src/oci/"]),
    ("zstd::", &["src/oci/", "src/engine/bundle"]),
    ("oci_client::", &["src/oci/registry/"]),
    ("docker_credential::", &["src/oci/registry/"]),
    ("http_auth::", &["src/oci/registry/"]),
    ("reqwest::", &["src/oci/registry/"]),
    ("rustls::", &["src/oci/registry/"]),
    ("bytes::", &["src/oci/registry/"]),
    ("futures_util::", &["src/oci/registry/"]),
    ("toml::", &["src/oci/registry/"]),
    ("clap::", &["src/cli/"]),
    ("clap_complete::", &["src/cli/"]),
    ("anstyle::", &["src/cli/"]),
    ("indicatif::", &["src/cli/"]),
];

fn room_of(file: &File) -> Option<&str> {
    let below = file.path.strip_prefix("src/")?;
    let (room, _) = below.split_once('/')?;
    Some(room)
}

/// The names that follow `crate::` in a line; of a braced list all.
fn named(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if line[..at].ends_with(['$', '_']) || line[..at].ends_with(char::is_alphanumeric) {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        let word = |text: &'_ str| {
            text.len() - text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len()
        };
        match rest.strip_prefix('{') {
            Some(list) => names.extend(list.split([',', '}', ';']).map(|part| {
                let part = part.trim();
                &part[..word(part)]
            })),
            None => names.push(&rest[..word(rest)]),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn every_room_is_in_the_table() {
    let Some(root) = repository() else { return };
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for file in rust_files(&root, "src") {
        match room_of(&file) {
            Some(room) => {
                assert!(known.contains(room), "{}: the room `{room}` is not in the table", file.path)
            }
            None => assert!(
                ["src/lib.rs", "src/main.rs"].contains(&file.path.as_str()),
                "{}: a file stands in a room",
                file.path
            ),
        }
    }
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let Some(root) = repository() else { return };
    let mut wrong = Vec::new();
    for file in rust_files(&root, "src") {
        let Some(room) = room_of(&file) else { continue };
        let (_, may) = ROOMS.iter().find(|(name, _)| *name == room).expect("checked by the test above");
        for (number, line) in file.code() {
            for name in named(line) {
                let is_room = ROOMS.iter().any(|(room, _)| *room == name);
                if is_room && name != room && !may.contains(&name) {
                    wrong.push(format!("{}:{number}: `{room}` names `{name}`", file.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the command line may name of the library besides types, whose names begin with a capital.
const PUBLIC: [&str; 4] = ["blocking", "engine", "object", "worker"];

#[test]
fn the_command_line_sees_the_public_face_only() {
    let Some(root) = repository() else { return };
    let mut wrong = Vec::new();
    for file in rust_files(&root, "src") {
        if room_of(&file) != Some("cli") && file.path != "src/main.rs" {
            continue;
        }
        for (number, line) in file.code() {
            for name in named(&line.replace("treebox::", "crate::")) {
                let hidden = ROOMS.iter().any(|(room, _)| *room == name && name != "cli");
                if hidden && !PUBLIC.contains(&name) {
                    wrong.push(format!("{}:{number}: the command line names `{name}`", file.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn foreign_libraries_are_named_in_their_rooms_only() {
    let Some(root) = repository() else { return };
    let mut wrong = Vec::new();
    for file in rust_files(&root, "src") {
        for (number, line) in file.code() {
            for (library, rooms) in LIBRARIES {
                let names = line.match_indices(library).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if names && !rooms.iter().any(|room| file.path.starts_with(room)) {
                    wrong.push(format!("{}:{number}: names {library}", file.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_the_sandbox_only_and_says_why() {
    let Some(root) = repository() else { return };
    let mut wrong = Vec::new();
    for file in rust_files(&root, "src") {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in file.code() {
            let code = line.split("//").next().unwrap_or_default();
            let words: Vec<&str> = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            if !words.contains(&"unsafe") {
                continue;
            }
            if !file.path.starts_with("src/sandbox/") {
                wrong.push(format!("{}:{number}: unsafe outside src/sandbox", file.path));
            }
            // An `unsafe fn` type or signature states its contract in its documentation instead.
            let opens_block = code.contains("unsafe {");
            let before = lines[number.saturating_sub(6)..number].iter();
            if opens_block && !before.clone().any(|line| line.contains("SAFETY") || line.contains("reason ="))
            {
                wrong.push(format!("{}:{number}: an unsafe block without a SAFETY comment", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
