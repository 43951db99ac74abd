//! Images that other tools push are pulled, and what is pushed other tools pull.

use std::path::Path;
use std::process::Command;

use super::PLAIN;
use super::image::{TestImage, host};
use super::server::{Server, program, run};
use crate::support::TestEnv;

fn tool(name: &str, env: &TestEnv) -> Command {
    let mut command = Command::new(program(name, name));
    env.isolate(&mut command);
    command.env("XDG_RUNTIME_DIR", env.path("run"));
    command
}

/// The image that `skopeo` sees under a name: digest and layers.
fn seen(env: &TestEnv, name: &str) -> serde_json::Value {
    let mut command = tool("skopeo", env);
    command.args(["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&run(&mut command)).unwrap()
}

fn check(env: &TestEnv, name: &str, path: &str, content: &str) {
    let pulled = env.json(&["pull", PLAIN, name]);
    assert_eq!(pulled["digest"], seen(env, name)["Digest"], "{name}");
    let state = pulled["state"].as_str().unwrap();
    assert_eq!(env.ok(&["cat", &format!("{state}:{path}")]), content, "{name}");
}

#[test]
fn what_skopeo_and_umoci_push_is_pulled_in_either_format_and_every_compression() {
    let env = TestEnv::empty();
    run(tool("umoci", &env).args(["init", "--layout", "made"]));
    run(tool("umoci", &env).args(["new", "--image", "made:one"]));
    env.file("tree/hello", "from umoci\n");
    run(tool("umoci", &env).args(["insert", "--rootless", "--image", "made:one", "tree", "/opt"]));
    let skopeo =
        |args: &[&str]| run(tool("skopeo", &env).args(["copy", "-q", "--insecure-policy"]).args(args));
    skopeo(&["--dest-decompress", "oci:made:one", "dir:plain"]);
    for (format, compression, ending) in
        [("oci", "gzip", "tar+gzip"), ("oci", "zstd", "tar+zstd"), ("v2s2", "gzip", "diff.tar.gzip")]
    {
        // One each: skopeo takes layers that a registry has in another compression.
        let server = Server::open();
        let name = server.image(&format!("peers/{format}:{compression}"));
        let to = format!("docker://{name}");
        let compressed =
            ["--dest-tls-verify=false", "--format", format, "--dest-compress-format", compression];
        skopeo(&[&compressed[..], &["dir:plain", &to]].concat());
        let raw = run(tool("skopeo", &env).args(["inspect", "--raw", "--tls-verify=false", &to]));
        assert!(raw.contains(&format!("{ending}\"")), "{compression}: {raw}");
        check(&env, &name, "/opt/hello", "from umoci\n");
    }
}

#[test]
fn what_is_pushed_skopeo_copies_with_the_same_digests() {
    let server = Server::open();
    let env = TestEnv::empty();
    let image = TestImage::new(host(), &[&[("etc/hello", b"hello\n")], &[("other", b"x")]]);
    image.write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "made"]);
    let name = server.image("out/tool:1");
    env.ok(&["push", PLAIN, "made", &name]);
    let inspected = seen(&env, &name);
    assert_eq!(inspected["Digest"], image.digest());
    let mut command = tool("skopeo", &env);
    command.args(["copy", "--insecure-policy", "--src-tls-verify=false", "--preserve-digests"]);
    run(command.args([&format!("docker://{name}"), "oci:copied:1"]));
    assert_eq!(env.ok(&["import", "oci:copied:1", "-q"]), env.ok(&["import", "oci:layout", "-q"]));
}

/// Arguments for tools that keep images in a storage of their own.
fn storage(env: &TestEnv) -> Vec<String> {
    let dir = |name: &str| env.path(name).to_str().unwrap().to_owned();
    ["--root", &dir("storage"), "--runroot", &dir("runroot"), "--storage-driver", "vfs"]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn what_buildah_and_podman_push_is_pulled_and_podman_pulls_what_is_pushed() {
    let server = Server::open();
    let env = TestEnv::empty();
    if !may_unshare(&env) {
        return;
    }
    let made = server.image("built/tool:1");
    env.file("hello", "from buildah\n");
    let with = |name: &str, args: &[&str]| {
        let mut command = tool(name, &env);
        command.args(storage(&env)).args(args).current_dir(env.path("."));
        run(&mut command).trim().to_owned()
    };
    let container = with("buildah", &["from", "scratch"]);
    with("buildah", &["copy", &container, "hello", "/hello"]);
    with("buildah", &["config", "--env", "A=b", &container]);
    let image = with("buildah", &["commit", "--format", "oci", &container, "built"]);
    with("buildah", &["push", "--tls-verify=false", &image, &format!("docker://{made}")]);
    check(&env, &made, "/hello", "from buildah\n");

    let docker = server.image("built/docker:1");
    with(
        "podman",
        &["push", "--tls-verify=false", "--format", "v2s2", &image, &format!("docker://{docker}")],
    );
    check(&env, &docker, "/hello", "from buildah\n");

    let back = server.image("built/back:1");
    env.ok(&["push", PLAIN, &docker, &back]);
    let pulled = with("podman", &["pull", "-q", "--tls-verify=false", &back]);
    assert_eq!(pulled, image, "podman's image id is the digest of the config");
}

/// Those two need subordinate ids or to be root; said aloud where they have neither.
fn may_unshare(env: &TestEnv) -> bool {
    if Path::new("/proc/self").exists() && nix::unistd::geteuid().is_root() {
        return true;
    }
    let can = tool("buildah", env).args(["unshare", "true"]).output().unwrap().status.success();
    if !can {
        eprintln!(
            "not checked: buildah and podman cannot keep images as this user, who has no subordinate ids"
        );
    }
    can
}
