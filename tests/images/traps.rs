//! Every item of the list of what unpackers get wrong, and the images by which others were broken into.
//!
//! Numbers are those of the list (see `fixtures/images`): 1 whiteouts, 2 whiteouts of nothing, 3 replacing, 4 parents, 5 opaque directories, 6
//! spellings, 7 and 8 hard links, 9 attributes, 10 pax, 11 times, 12 sparse files, 13 formats, 14 devices, 15 compression, 16 digests, 17
//! zstd:chunked, 18 layers from elsewhere, 19 indexes, 20 archives of images, 21 descriptors, 22 configs, 23 names.
//!
//! What concerns the running of an image (`/dev` and the working directory as links, users, groups, labels) is in `running.rs`. What is not
//! here, and why:
//! - docker#5656, CVE-2018-15664, CVE-2019-14271, CVE-2019-10152, CVE-2023-0778 are about copying out of and into running containers: `treebox cp` reads
//!   states, which nothing changes (`tests/cli/copying.rs`, `tests/engine/copying.rs`).
//! - CVE-2021-30465, CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881 are about mounting:
//!   `tests/escape`.
//! - CVE-2024-1753, CVE-2024-9407, CVE-2024-9675, CVE-2024-11218, CVE-2025-4953, CVE-2024-23651, CVE-2024-23652, CVE-2024-23653, CVE-2026-33747 are about build files and their cache
//!   mounts: `tests/cli/mounts.rs`, `tests/sandbox`.

use std::collections::BTreeSet;

use super::made::trap::{Image, Outcome, Trap};
use super::made::{cves, documents, headers, layout::OciImage, stored, traps};
use super::*;
use crate::support::names;

/// Imports every trap by every way it can go; gives what went wrong.
fn sprung(traps: Vec<Trap>, env: &TestEnv, canary: &Path) -> Vec<String> {
    let before = photographed(canary);
    let mut wrong = Vec::new();
    for trap in traps {
        let name = format!("{} ({})", trap.item, trap.name);
        // A store of its own each: what one image brought must not help the next.
        drop(std::fs::remove_dir_all(env.store()));
        let engine = engine(env);
        let found =
            imported(&engine, &placed(env, &trap.image)).map(|state| (lines(&engine, &state), state.tree()));
        match (&found, &trap.outcome) {
            (Ok((lines, _)), Outcome::Tree(expected)) if lines == expected => {}
            (Ok((lines, _)), Outcome::Tree(expected)) => {
                let only = |a: &[String], b: &[String]| {
                    a.iter()
                        .filter(|line| !b.contains(line))
                        .take(5)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join("\n    ")
                };
                wrong.push(format!(
                    "{name}:\n  has\n    {}\n  lacks\n    {}",
                    only(lines, expected),
                    only(expected, lines)
                ));
            }
            (Err(error), Outcome::Refused(reason)) if error.to_string().contains(reason) => {
                if !engine.images().unwrap().is_empty() {
                    wrong.push(format!("{name}: it was refused and has a name"));
                }
            }
            (Err(error), Outcome::Refused(reason)) => {
                wrong.push(format!("{name}: `{error}` does not say `{reason}`"))
            }
            (Ok((lines, _)), Outcome::Refused(_)) => wrong.push(format!("{name}: it was taken: {lines:?}")),
            (Err(error), Outcome::Tree(_)) => wrong.push(format!("{name}: {error}")),
        }
        // The other ways the same layers can come.
        if let Image::Layers(layers) = &trap.image {
            for (way, source) in other_ways(env, layers) {
                let again = imported(&engine, &source).map(|state| state.tree());
                match (&found, &again) {
                    (Ok((_, tree)), Ok(again)) if tree == again => {}
                    (Err(error), Err(again)) if trap.same_reason(&error.to_string(), &again.to_string()) => {}
                    _ => wrong.push(format!("{name}: as {way}: {again:?}")),
                }
            }
        }
        drop(engine);
        let left = names(&env.store().join("tmp"));
        if !left.is_empty() {
            wrong.push(format!("{name}: left behind: {left:?}"));
        }
        if photographed(canary) != before {
            wrong.push(format!("{name}: CHANGED THE HOST"));
        }
    }
    wrong
}

impl Trap {
    /// Errors name the archive's parts, which differ by the way an image came.
    fn same_reason(&self, first: &str, again: &str) -> bool {
        matches!(self.outcome, Outcome::Refused(reason) if first.contains(reason) && again.contains(reason))
    }
}

fn other_ways(env: &TestEnv, layers: &[Vec<u8>]) -> Vec<(&'static str, String)> {
    let compressed = |pack: fn(&[u8]) -> Vec<u8>| {
        OciImage::of_stored(&layers.iter().map(|layer| (layer.clone(), pack(layer))).collect::<Vec<_>>())
    };
    let mut docker = super::made::archive::TarMaker::new();
    let mut members = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        members.push(format!("{number}/layer.tar"));
        docker = docker.bytes(&members[number], layer);
    }
    let config = OciImage::of(layers).config.to_string();
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": members}]).to_string();
    let docker = docker.bytes("c.json", config.as_bytes()).bytes("manifest.json", manifest.as_bytes()).end();
    let archive = stored::gzip(&compressed(stored::zstd).archive());
    vec![
        ("a layout of gzip layers", layout(env, "gzip", compressed(stored::gzip))),
        (
            "a compressed archive of zstd layers",
            format!("oci-archive:{}", env.file("zstd.tar.gz", archive).display()),
        ),
        ("a docker-archive", format!("docker-archive:{}", env.file("docker.tar", docker).display())),
    ]
}

fn every(traps: impl FnOnce(&Path) -> Vec<Trap>, items: &[&str]) {
    let env = TestEnv::empty();
    let canary = canary(&env);
    let traps = traps(&canary);
    let have: BTreeSet<&str> = traps.iter().map(|trap| trap.item).collect();
    assert_eq!(have, items.iter().copied().collect(), "an item has no trap");
    let count = traps.len();
    let wrong = sprung(traps, &env, &canary);
    assert!(wrong.is_empty(), "{} of {count} traps:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn items_1_to_8_layers_combine_as_the_specification_says() {
    every(|_| traps::all(), &["1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[test]
fn items_9_to_14_and_23_entries_are_taken_in_exactly() {
    every(|_| headers::all(), &["9", "10", "11", "12", "13", "14", "23"]);
}

#[test]
fn items_15_to_22_documents_and_compression_are_not_believed() {
    every(|_| documents::all(), &["15", "16", "17", "18", "19", "20", "21", "22"]);
}

#[test]
fn images_by_which_others_were_broken_into_change_nothing_outside() {
    let known = [
        "CVE-2021-29136",
        "CVE-2021-32760",
        "CVE-2024-23650",
        "CVE-2025-11395",
        "CVE-2025-62518",
        "CVE-2026-17106",
        "CVE-2026-33055",
        "CVE-2026-33056",
        "GHSA-697p-8837-37h3",
        "GHSA-f689-h8m7-3jp2",
        "GHSA-g3rx-2m58-rr63",
        "GHSA-r3h2-rgqf-9hv9",
        "GO-2026-6597",
    ];
    every(cves::all, &known);
}

#[test]
fn the_command_line_tells_a_refusal_in_one_line() {
    let env = TestEnv::empty();
    let canary = canary(&env);
    let all = cves::all(&canary).into_iter().chain(documents::all());
    for trap in all.filter(|trap| matches!(trap.outcome, Outcome::Refused(_))) {
        env.fails(125, &["import", &placed(&env, &trap.image), "--name", "hostile"]);
    }
    assert_eq!(env.ok(&["images", "-q"]), "");
    assert_eq!(names(&env.store().join("tmp")), Vec::<String>::new());
}

#[test]
fn item_23_a_directory_of_a_hundred_thousand_names_is_one_of_them() {
    let env = TestEnv::empty();
    let mut maker = super::made::archive::TarMaker::new().dir("d");
    for number in 0..100_000 {
        maker = maker.file(&format!("d/{number:06}"), "");
    }
    let engine = engine(&env);
    let state = imported(&engine, &placed(&env, &Image::Root(maker.end()))).unwrap();
    let listed = engine.list(&state, &TreePath::parse(b"/d").unwrap(), false).unwrap();
    assert_eq!(listed.len(), 100_000);
    assert_eq!(listed[99_999].path.to_string(), "/d/099999");
}

#[test]
fn no_symlink_of_a_layout_is_followed() {
    // GHSA-r3h2-rgqf-9hv9: a blob that is a link shows a file of the host to who reads the image.
    let env = TestEnv::empty();
    let canary = canary(&env);
    let before = photographed(&canary);
    let image = || OciImage::of(&[super::made::archive::TarMaker::new().file("a", "a").end()]);
    let elsewhere = env.path("elsewhere");
    image().write_layout(&elsewhere);
    for part in ["blobs/sha256/*", "blobs/sha256", "blobs", "index.json"] {
        layout(&env, "layout", image());
        let directory = env.path("layout").join(part.trim_end_matches("/*"));
        let parts = match part.strip_suffix("/*") {
            Some(_) => std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect(),
            None => vec![directory],
        };
        for path in parts {
            let target = elsewhere.join(path.strip_prefix(env.path("layout")).unwrap());
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap()
            } else {
                std::fs::remove_file(&path).unwrap()
            }
            std::os::unix::fs::symlink(target, path).unwrap();
        }
        let said = env.fails(125, &["import", &format!("oci:{}", env.path("layout").display())]);
        assert!(said.contains("symbolic link") || said.contains("has no index.json"), "{part}: {said}");
    }
    assert_eq!(photographed(&canary), before);
}

#[test]
fn no_program_of_the_host_is_run_to_read_an_image() {
    // CVE-2026-41567: an archive made a daemon run a decompressor that the container had brought.
    use std::os::unix::fs::PermissionsExt;
    let env = TestEnv::empty();
    for tool in ["xz", "unxz", "gzip", "gunzip", "zstd", "unpigz", "bzip2", "tar", "sh"] {
        let path =
            env.file(&format!("bin/{tool}"), format!("#!/bin/sh\ntouch {}\n", env.path("ran").display()));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let plain = super::made::archive::TarMaker::new().file("a", "a").end();
    for pack in [stored::gzip, stored::zstd, stored::xz, stored::bzip2] {
        let archive = pack(&OciImage::of_stored(&[(plain.clone(), pack(&plain))]).archive());
        let file = env.file("archive", archive);
        let status = env
            .command(&["import", file.to_str().unwrap(), "-q"])
            .env("PATH", env.path("bin"))
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
    assert!(!env.path("ran").exists());
}

#[test]
fn what_is_known_of_an_image_does_not_vouch_for_another() {
    // An image that gives a known layer's diff_id and other bytes gets the known layer or nothing, never its own bytes under that name.
    let env = TestEnv::empty();
    let tar = |text: &str| super::made::archive::TarMaker::new().file("a", text).end();
    let engine = engine(&env);
    let good = imported(
        &engine,
        &layout(&env, "good", OciImage::of_stored(&[(tar("good"), stored::gzip(&tar("good")))])),
    )
    .unwrap();
    let evil = OciImage::of_stored(&[(tar("good"), stored::gzip(&tar("evil")))]);
    match imported(&engine, &layout(&env, "evil", evil)) {
        Ok(state) => assert_eq!(state.tree(), good.tree()),
        Err(error) => assert!(error.to_string().contains("differs"), "{error}"),
    }
    let first = lines(&engine, &engine.resolve("made").unwrap());
    assert!(first.iter().any(|line| line.contains("\"good\"")), "{first:?}");
}
