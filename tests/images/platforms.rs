//! Images for several platforms: which is taken, and what happens to one that cannot run here.

use serde_json::json;

use super::made::documents::{attestation, described, for_platform, nested, together};
use super::made::layout::host_architecture;
use super::*;

/// One layout with an image for each of these, `OS/ARCH[/VARIANT]`; the image's one file is named like its platform, with dashes.
fn for_platforms(platforms: &[&str]) -> OciImage {
    let images = platforms.iter().map(|platform| {
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
        for_platform(&platform.replace('/', "-"), os, architecture, parts.next().unwrap_or_default())
    });
    // What BuildKit and others put beside images comes first, where it is met.
    together([attestation()].into_iter().chain(images).collect())
}

fn taken(env: &TestEnv, source: &str, platform: &str) -> String {
    let state = env.ok(&["import", source, "--platform", platform, "-q"]);
    env.ok(&["ls", &format!("{}:/", state.trim())]).trim().to_owned()
}

#[test]
fn the_platform_that_fits_best_is_taken_through_nested_indexes_too() {
    let env = TestEnv::empty();
    let all = [
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm64/v8",
        "linux/amd64/v3",
        "linux/amd64",
        "windows/amd64",
        "linux/386",
    ];
    for (name, image) in [("flat", for_platforms(&all)), ("nested", nested(for_platforms(&all), 3))] {
        let source = layout(&env, name, image);
        for (wanted, found) in [
            ("linux/arm/v7", "linux-arm-v7"),
            ("linux/arm/v6", "linux-arm-v6"),
            ("linux/arm64", "linux-arm64-v8"),
            ("linux/arm64/v8", "linux-arm64-v8"),
            ("linux/aarch64", "linux-arm64-v8"),
            ("linux/amd64", "linux-amd64"),
            ("linux/amd64/v3", "linux-amd64-v3"),
            ("linux/amd64/v2", "linux-amd64"),
            ("linux/386", "linux-386"),
            ("windows/amd64", "windows-amd64"),
        ] {
            assert_eq!(taken(&env, &source, wanted), found, "{name}: {wanted}");
        }
        let said = env.fails(125, &["import", &source, "--platform", "linux/riscv64"]);
        assert!(
            said.contains("there is no image for linux/riscv64") && said.contains("linux/arm/v6, "),
            "{said}"
        );
    }
}

#[test]
fn an_older_variant_of_a_processor_will_do_and_a_newer_one_will_not() {
    let env = TestEnv::empty();
    let source = layout(&env, "old", for_platforms(&["linux/arm/v5", "linux/arm/v6"]));
    // Of two that would run the newer one.
    assert_eq!(taken(&env, &source, "linux/arm/v7"), "linux-arm-v6");
    // Without a variant version 7 is meant, as containerd means it.
    assert_eq!(taken(&env, &source, "linux/arm"), "linux-arm-v6");
    let source = layout(&env, "new", for_platforms(&["linux/arm/v7", "linux/amd64/v4"]));
    env.fails(125, &["import", &source, "--platform", "linux/arm/v6"]);
    env.fails(125, &["import", &source, "--platform", "linux/amd64/v3"]);
}

#[test]
fn without_a_wish_this_machine_decides_and_the_only_image_is_taken_for_whatever_it_is() {
    let env = TestEnv::empty();
    let here = format!("linux/{}", host_architecture());
    let source = layout(&env, "both", for_platforms(&["linux/s390x", &here]));
    let state = env.ok(&["import", &source, "-q"]);
    assert_eq!(env.ok(&["ls", &format!("{}:/", state.trim())]).trim(), here.replace('/', "-"));
    let source = layout(&env, "only", for_platforms(&["linux/s390x"]));
    let state = env.ok(&["import", &source, "-q"]);
    assert_eq!(env.ok(&["ls", &format!("{}:/", state.trim())]).trim(), "linux-s390x");
}

#[test]
fn a_platform_is_held_against_what_the_config_says() {
    let env = TestEnv::empty();
    let mut image = OciImage::of(&[super::made::archive::TarMaker::new().file("a", "a").end()]);
    image.config["architecture"] = json!("s390x");
    // The index says one thing, the config another.
    let lying = described(image, &json!({"platform": {"os": "linux", "architecture": "arm64"}}));
    let source = layout(&env, "lying", together(vec![lying]));
    let said = env.fails(125, &["import", &source, "--platform", "linux/arm64"]);
    assert!(said.contains("there are: linux/s390x"), "{said}");
    for bad in ["linux", "linux/", "linux/arm/v7/x", "/arm"] {
        env.fails(2, &["import", &source, "--platform", bad]);
    }
}

/// An ELF file that does nothing but say what machine it is for.
fn program(machine: u16) -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    head.extend(2u16.to_le_bytes());
    head.extend(machine.to_le_bytes());
    head.resize(120, 0);
    head
}

/// An image whose shell is for another processor, with a script.
fn foreign(platform: &str) -> OciImage {
    let mut shell = super::made::archive::TarMaker::header(b'0', b"bin/busybox");
    let body = program(if host_architecture() == "s390x" { 183 } else { 22 });
    shell.set_size(body.len() as u64);
    shell.set_mode(0o755);
    let mut script = super::made::archive::TarMaker::header(b'0', b"bin/script");
    let text = b"#!/bin/sh -e\necho\n";
    script.set_size(text.len() as u64);
    script.set_mode(0o755);
    let maker = super::made::archive::TarMaker::new()
        .dir("bin")
        .add(shell, &body)
        .symlink("bin/sh", "busybox")
        .add(script, text);
    let mut image = OciImage::of(&[maker.end()]);
    image.config["architecture"] = json!(platform);
    image
}

#[test]
fn a_program_for_another_processor_is_told_as_such_with_126() {
    let env = TestEnv::empty();
    let theirs = if host_architecture() == "s390x" { "arm64" } else { "s390x" };
    // Whatever the config says: what counts is the program.
    for (name, platform) in [("honest", theirs), ("lying", host_architecture()), ("silent", "")] {
        let source = layout(&env, name, foreign(platform));
        env.ok(&["import", &source, "--name", name, "-q"]);
        let shell: &[&str] = &["-c", "echo"];
        for command in
            [shell, &["--", "/bin/busybox"], &["--", "sh"], &["--", "script"], &["--", "/bin/script"]]
        {
            let said = env.fails(126, &[&["run", "--from", name, "-q", "--disposable"], command].concat());
            let both = format!("is a program for {theirs} and this machine is {}", host_architecture());
            // The file is no real program of that machine either: an emulator that is registered refuses it in its own words.
            assert!(said.contains(&both), "{name} {command:?}: {said}");
        }
    }
    // No program for any machine keeps the kernel's word.
    let text = super::made::archive::TarMaker::new().add(
        {
            let mut header = super::made::archive::TarMaker::header(b'0', b"text");
            header.set_mode(0o755);
            header.set_size(4);
            header
        },
        b"text",
    );
    let source = layout(&env, "text", OciImage::of(&[text.end()]));
    env.ok(&["import", &source, "--name", "text", "-q"]);
    let said = env.fails(126, &["run", "--from", "text", "-q", "--disposable", "--", "/text"]);
    assert!(said.contains("cannot be executed"), "{said}");
}

#[test]
fn a_state_for_another_system_is_not_run_at_all() {
    let env = TestEnv::empty();
    let source = layout(&env, "windows", together(vec![for_platform("a", "windows", "amd64", "")]));
    env.ok(&["import", &source, "--name", "windows", "-q"]);
    let said = env.fails(126, &["run", "--from", "windows", "-q", "--", "/a"]);
    assert!(said.contains("the state is for windows/amd64 and this machine is linux/"), "{said}");
}
