//! `treebox export`: what scripts rely on.

use crate::support::{TestEnv, names};

/// A branch `main` two commits above the host's programs.
fn grown() -> TestEnv {
    let env = TestEnv::on_main();
    env.ok(&[
        "run",
        "-q",
        "--epoch",
        "1000",
        "-c",
        "mkdir -p /made/deep; echo one > /made/one; ln /made/one /made/two",
    ]);
    env.ok(&[
        "run",
        "-q",
        "--epoch",
        "1000",
        "-c",
        "rm -r /made/deep; echo more >> /made/one; : && chmod 600 /made/two",
    ]);
    env
}

fn tree_of(env: &TestEnv, rev: &str) -> String {
    env.json(&["show", rev])["tree"].as_str().unwrap().to_owned()
}

#[test]
fn every_kind_of_export_comes_in_again_as_the_same_state() {
    let env = grown();
    let state = env.json(&["show", "main"])["state"].as_str().unwrap().to_owned();
    for (number, (dest, more)) in [
        ("oci:layout:a", &[][..]),
        ("oci:layout:b", &["--layers"]),
        ("oci-archive:oci.tar:c", &["--layers", "--compression", "zstd"]),
        ("oci-archive:plain.tar:d", &["--compression", "none"]),
        ("docker-archive:docker.tar:my/name:1", &["--layers"]),
        ("docker-archive:docker.tar.gz:my/name:1", &["--compression", "gzip:9"]),
    ]
    .into_iter()
    .enumerate()
    {
        let digest = env.ok(&[&["export", "-q", "main", dest], more].concat());
        assert!(digest.starts_with("sha256:") && digest.trim().len() == 71, "{dest}: {digest}");
        let again = env.ok(&["import", "-q", dest, "--name", &format!("again{number}")]);
        assert_eq!(again.trim(), state, "{dest}");
    }
    env.ok(&["export", "-q", "main", "tar:root.tar.zst", "--compression", "zstd"]);
    env.ok(&["import", "-q", "tar:root.tar.zst", "--name", "root"]);
    assert_eq!(tree_of(&env, "root"), tree_of(&env, "main"));
}

#[test]
fn two_stores_give_the_same_bytes() {
    let (one, other) = (grown(), grown());
    for dest in ["oci-archive:a", "docker-archive:b", "tar:c"] {
        let bytes = |env: &TestEnv| {
            env.ok(&["export", "-q", "main", dest, "--layers"]);
            std::fs::read(env.path(dest.split_once(':').unwrap().1)).unwrap()
        };
        assert!(bytes(&one) == bytes(&other), "{dest}");
    }
}

#[test]
fn an_image_goes_out_as_it_came_under_its_name() {
    let env = grown();
    let digest = env.ok(&["export", "-q", "main", "oci:made:v1", "--layers"]);
    env.ok(&["import", "-q", "oci:made:v1"]);
    // In a layout a name may be a tag alone: the image is called as the layout is.
    let again = env.json(&["export", "made:v1", "oci:other:v2"]);
    assert_eq!(again["digest"], digest.trim());
    assert_eq!((&again["unchanged"], &again["layers"]), (&true.into(), &3.into()));
    let squashed = env.json(&["export", "made:v1", "oci:other:v3", "--squash"]);
    assert_eq!((&squashed["unchanged"], &squashed["layers"]), (&false.into(), &1.into()));
    env.ok(&["export", "-q", "made:v1", "docker-archive:named.tar"]);
    env.ok(&["images", "rm", "made:v1"]);
    env.ok(&["import", "-q", "docker-archive:named.tar"]);
    assert!(env.ok(&["images"]).contains("made:v1"));
}

#[test]
fn several_states_go_into_one_docker_archive_and_share_its_layers() {
    let env = grown();
    env.ok(&["tag", "before", "main~1"]);
    env.ok(&["export", "-q", "main", "before", "host", "docker-archive:all.tar", "--layers"]);
    for (name, rev) in [("main:latest", "main"), ("before:latest", "before"), ("host:latest", "host")] {
        env.ok(&["import", "-q", &format!("docker-archive:all.tar:{name}"), "--name", "again"]);
        assert_eq!(tree_of(&env, "again"), tree_of(&env, rev), "{name}");
    }
    env.ok(&["export", "-q", "main", "docker-archive:one.tar", "--layers"]);
    let size = |name: &str| std::fs::metadata(env.path(name)).unwrap().len();
    assert!(size("all.tar") < size("one.tar") + 20_000);
    env.fails(2, &["export", "main", "before", "oci:several"]);
}

#[test]
fn the_files_go_to_a_directory_too() {
    let env = grown();
    env.ok(&["export", "-q", "main", "dir:files"]);
    assert_eq!(std::fs::read_to_string(env.path("files/made/one")).unwrap(), "one\nmore\n");
}

#[test]
fn a_state_without_a_name_can_be_exported() {
    let env = TestEnv::new();
    let state = env.step("host", "echo x > /x");
    env.ok(&["export", "-q", &state, "oci:anonymous"]);
    assert_eq!(env.ok(&["import", "-q", "oci:anonymous"]).trim(), state);
}

#[test]
fn an_archive_can_go_to_standard_output_and_a_broken_pipe_is_quiet() {
    let env = TestEnv::new();
    let ran = env.run(&["export", "host", "tar:-"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(&ran.stdout[257..262], b"ustar");
    let script = format!("{} export host tar:- | head -c 1000 | wc -c", crate::support::treebox().display());
    let mut shell = std::process::Command::new("sh");
    env.isolate(&mut shell);
    let output = shell.args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1000");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    env.fails(2, &["--json", "export", "host", "tar:-"]);
    env.fails(125, &["export", "host", "oci:-"]);
}

#[test]
fn bad_exports_say_what_is_wrong_and_leave_nothing() {
    let env = TestEnv::new();
    for dest in ["", "x", "oci:", "oci:d:", "floppy:a", "docker-archive::n"] {
        env.fails(125, &["export", "host", dest]);
    }
    env.fails(125, &["export", "nowhere", "tar:x.tar"]);
    env.fails(2, &["export", "host", "tar:x.tar", "--compression", "rar"]);
    env.fails(2, &["export", "host", "oci:x", "--layers", "--squash"]);
    env.file("busy/mine", "");
    let text = env.fails(125, &["export", "host", "oci:busy"]);
    assert!(text.contains("busy"), "{text}");
    assert_eq!(names(&env.path("busy")), ["mine"]);
    env.fails(125, &["export", "host", "tar:missing/x.tar"]);
    let marked = env.step("host", "mkdir /d; : > /d/.wh.x");
    let text = env.fails(125, &["export", &marked, "oci-archive:marked.tar"]);
    assert!(text.contains("/d/.wh.x"), "{text}");
    env.ok(&["export", "-q", &marked, "tar:marked-root.tar"]);
    assert_eq!(names(&env.path("")), ["busy", "marked-root.tar", "store"]);
}

#[test]
fn times_are_clamped_by_option_and_by_the_environment() {
    let env = TestEnv::new();
    let by_option = env.ok(&["export", "-q", "host", "oci:a", "--epoch", "1000"]);
    let output =
        env.command(&["export", "-q", "host", "oci:b"]).env("SOURCE_DATE_EPOCH", "1000").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), by_option);
    env.ok(&["import", "-q", "oci:a", "--name", "clamped"]);
    let listing = env.json(&["ls", "-l", "clamped:/bin/sh"]);
    assert_eq!(listing["mtime"], "1970-01-01T00:16:40.000000000Z");
}
