//! What a pull asks for, what it keeps, what it is called.

use super::fake::{Fake, Reply, Shelf};
use super::image::{INDEX, MANIFEST, TestImage, descriptor, digest, host};
use super::server::Server;
use super::{PLAIN, kept, refused};
use crate::support::{TestEnv, bytes_below, names};
use serde_json::json;
use std::process::Stdio;

#[test]
fn an_image_comes_under_its_familiar_name_and_an_unchanged_one_costs_one_request() {
    let image = TestImage::of_size(100_000);
    let fake = Fake::serving(Shelf::of(&image));
    let env = TestEnv::empty();
    let tool = fake.tool();
    let first = env.json(&["pull", PLAIN, &tool]);
    assert_eq!(first["name"], format!("{tool}:latest"));
    assert_eq!(first["digest"], image.digest());
    assert_eq!(first["source"], "registry");
    let lines = fake.lines();
    assert_eq!(lines.len(), 4, "the manifest, the config, two layers: {lines:?}");
    assert_eq!(first["requests"], 4);
    assert_eq!(env.ok(&["cat", &format!("{tool}:latest:/etc/hello")]), "hello\n");

    let again = env.json(&["pull", PLAIN, &tool]);
    assert_eq!(again["source"], "unchanged");
    assert_eq!(again["state"], first["state"]);
    assert_eq!(fake.lines(), ["HEAD /v2/team/tool/manifests/latest"]);

    // The same layers under another name are not fetched again.
    let named = env.ok(&["pull", PLAIN, "-q", &tool, "--name", "mine"]);
    assert_eq!(named.trim(), first["state"]);
    assert_eq!(fake.lines(), ["GET /v2/team/tool/manifests/latest"]);
    assert_eq!(env.ok(&["cat", "mine:latest:/etc/hello"]), "hello\n");

    // What has a digest has it for ever.
    let pinned = format!("{tool}@{}", image.digest());
    env.ok(&["pull", PLAIN, &pinned]);
    assert_eq!(fake.lines(), [format!("GET /v2/team/tool/manifests/{}", image.digest())]);
    assert_eq!(env.json(&["pull", PLAIN, &pinned])["requests"], 0);
    assert!(fake.lines().is_empty());
}

#[test]
fn a_tag_that_moved_is_seen_and_only_what_is_new_is_fetched() {
    let old = TestImage::new(host(), &[&[("base", b"same")], &[("top", b"old")]]);
    let new = TestImage::new(host(), &[&[("base", b"same")], &[("top", b"new")]]);
    let shelf = std::sync::Arc::new(std::sync::Mutex::new(Shelf::of(&old)));
    let served = std::sync::Arc::clone(&shelf);
    let fake = Fake::start(move |request| served.lock().unwrap().answer(request));
    let env = TestEnv::empty();
    env.ok(&["pull", PLAIN, &fake.tool()]);
    *shelf.lock().unwrap() = Shelf::of(&new);
    fake.asked();
    env.ok(&["pull", PLAIN, &fake.tool()]);
    assert_eq!(env.ok(&["cat", &format!("{}:latest:/top", fake.tool())]), "new");
    let blobs: Vec<_> = fake.lines().into_iter().filter(|line| line.contains("/blobs/")).collect();
    assert_eq!(blobs.len(), 2, "the config and the upper layer: {blobs:?}");
    assert!(!blobs.iter().any(|line| line.contains(&old.layer_digest(0))), "{blobs:?}");
}

#[test]
fn a_registry_without_head_or_digests_is_asked_plainly() {
    let image = TestImage::of_size(10);
    let shelf = Shelf::of(&image);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(405, ""),
        _ => {
            let mut reply = shelf.answer(request);
            reply.headers.retain(|(name, _)| name != "Docker-Content-Digest");
            reply
        }
    });
    let env = TestEnv::empty();
    env.ok(&["pull", PLAIN, &fake.tool()]);
    fake.asked();
    assert_eq!(env.json(&["pull", PLAIN, &fake.tool()])["source"], "unchanged");
    assert_eq!(fake.lines(), ["HEAD /v2/team/tool/manifests/latest", "GET /v2/team/tool/manifests/latest"]);
}

#[test]
fn without_a_network_a_known_name_is_used_when_that_is_asked_for() {
    let image = TestImage::of_size(10);
    let mut server = Server::open();
    let env = TestEnv::empty();
    image.write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "here"]);
    let tool = server.image("tool");
    env.ok(&["push", PLAIN, "here", &tool]);
    server.requests();
    let state = env.ok(&["pull", PLAIN, "-q", &tool]);
    let asked = server.requests();
    assert_eq!(asked.len(), 1, "everything but the manifest is here from the import: {asked:?}");
    drop(server);
    refused(&env, &["pull", PLAIN, &tool], &["cannot get", "--offline uses that"]);
    assert_eq!(env.ok(&["pull", "--offline", "-q", &tool]), state);
    assert!(env.run(&["pull", "--offline", &tool]).stderr.contains("no registry was asked"));
    let ran = refused(&env, &["pull", "--offline", "unknown"], &["no image `unknown:latest` here"]);
    assert!(!ran.contains("cannot get"), "{ran}");
    let gone = tool.replace("/tool", "/other");
    assert!(!refused(&env, &["pull", PLAIN, &gone], &["cannot get"]).contains("--offline"));
}

#[test]
fn one_of_several_platforms_is_chosen_however_deep_it_lies_and_attestations_are_none() {
    let mine = TestImage::new(host(), &[&[("arch", b"mine")]]);
    let other = TestImage::new("riscv64", &[&[("arch", b"other")]]);
    let platform = |image: &TestImage, architecture: &str| {
        let mut descriptor = descriptor(MANIFEST, &image.manifest);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let mut attestation = platform(&other, "unknown");
    attestation["platform"]["os"] = json!("unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    attestation["digest"] = json!(digest(b"never fetched"));
    let bytes = |value: &serde_json::Value| serde_json::to_vec(value).unwrap();
    let inner = bytes(&json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [attestation, platform(&other, "riscv64"), platform(&mine, host())],
    }));
    // The outer one does not say what it is; the registry does.
    let outer = bytes(&json!({"schemaVersion": 2, "manifests": [descriptor(INDEX, &inner)]}));
    let mut shelf = Shelf::default();
    shelf.add(&mine);
    shelf.add(&other);
    shelf.name("inner", INDEX, &inner);
    shelf.name("latest", INDEX, &outer);
    let fake = Fake::serving(shelf);
    let env = TestEnv::empty();
    env.ok(&["pull", PLAIN, &fake.tool()]);
    assert_eq!(env.ok(&["cat", &format!("{}:latest:/arch", fake.tool())]), "mine");
    assert_eq!(fake.lines().len(), 5, "two indexes, a manifest, a config, a layer");
    env.ok(&["pull", PLAIN, &fake.tool(), "--platform", "linux/riscv64"]);
    assert_eq!(env.ok(&["cat", &format!("{}:latest:/arch", fake.tool())]), "other");
    fake.asked();
    assert_eq!(
        env.json(&["pull", PLAIN, &fake.tool(), "--platform", "linux/riscv64"])["source"],
        "unchanged"
    );
    assert_eq!(fake.lines().len(), 1);
    refused(
        &env,
        &["pull", PLAIN, &fake.tool(), "--platform", "linux/s390x"],
        &["no image for linux/s390x", "riscv64"],
    );
}

#[test]
fn what_is_no_image_is_told_and_the_urls_of_a_layer_are_never_followed() {
    let elsewhere = Fake::serving(Shelf::default());
    let image = TestImage::of_size(10);
    let mut foreign: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    foreign["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    foreign["layers"][0]["urls"] = json!([format!("http://{}/layer", elsewhere.host())]);
    let foreign = serde_json::to_vec(&foreign).unwrap();
    let mut shelf = Shelf::of(&image);
    shelf.blobs.remove(&image.layer_digest(0));
    shelf.name("foreign", MANIFEST, &foreign);
    shelf.name(
        "old",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        br#"{"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}"#,
    );
    shelf.name("text", "text/html", b"<html>log in first</html>");
    let fake = Fake::serving(shelf);
    let env = TestEnv::empty();
    let tag = |tag: &str| format!("{}:{tag}", fake.tool());
    refused(&env, &["pull", PLAIN, &tag("foreign")], &["not fetched from elsewhere"]);
    assert!(elsewhere.lines().is_empty());
    refused(&env, &["pull", PLAIN, &tag("old")], &["schema 1"]);
    refused(&env, &["pull", PLAIN, &tag("text")], &["cannot be understood"]);
    refused(&env, &["pull", PLAIN, &tag("none")], &["has no manifest `none`", "no such thing"]);
    assert_eq!(env.run(&["pull", "A B"]).code, 125);
    assert_eq!(env.ok(&["images", "--json"]), "");
}

#[test]
fn a_large_document_and_too_many_bytes_are_not_even_fetched() {
    let image = TestImage::of_size(100_000);
    let fake = Fake::serving(Shelf::of(&image));
    let env = TestEnv::empty();
    let limited = |limit: &str| refused(&env, &["pull", PLAIN, &fake.tool(), "--limit", limit], &[]);
    assert!(limited("manifest_bytes=100").contains("more than 100 bytes"));
    assert!(limited("total_bytes=50000").contains("total_bytes"));
    assert!(!fake.lines().iter().any(|line| line.contains(&image.layer_digest(1))));
    assert!(!kept(&env).iter().any(|name| name.starts_with("partial/")), "{:?}", kept(&env));
}

#[test]
fn a_program_without_a_runtime_and_one_inside_of_a_runtime_pull_alike() {
    let fake = Fake::serving(Shelf::of(&TestImage::of_size(10)));
    let dir = tempfile::tempdir().unwrap();
    let mut options = treebox::PullOptions::new();
    options.registry.tls_verify = Some(false);
    let engine = treebox::blocking::Engine::open(treebox::EngineOptions::at(dir.path())).unwrap();
    let outside = engine.pull(&fake.tool(), &options).unwrap();
    assert_eq!(outside.how, treebox::PulledHow::Fetched);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let inside = engine.pull(&fake.tool(), &options).unwrap();
        assert_eq!((inside.state.id(), inside.how), (outside.state.id(), treebox::PulledHow::Unchanged));
        let other = treebox::Engine::open(treebox::EngineOptions::at(dir.path())).await.unwrap();
        let pulled = other.pull(&fake.tool(), &options).await.unwrap();
        assert_eq!((pulled.state.id(), pulled.requests), (outside.state.id(), 1));
    });
}

#[test]
fn of_eight_processes_that_pull_an_image_each_layer_is_fetched_and_read_once() {
    let image = TestImage::of_size(3_000_000);
    let fake = Fake::serving(Shelf::of(&image));
    let (once, many) = (TestEnv::empty(), TestEnv::empty());
    once.ok(&["pull", PLAIN, &fake.tool(), "-q"]);
    many.ok(&["branch"]);
    fake.asked();
    let pull = || many.command(&["pull", PLAIN, &fake.tool(), "-q"]).stdout(Stdio::piped()).spawn().unwrap();
    let pulls: Vec<_> = (0..8).map(|_| pull()).collect();
    let states: Vec<_> = pulls.into_iter().map(|pull| pull.wait_with_output().unwrap().stdout).collect();
    assert!(states.iter().all(|state| state.len() == 65 && *state == states[0]), "{states:?}");
    let lines = fake.lines();
    for number in 0..2 {
        let blob = format!("GET /v2/team/tool/blobs/{}", image.layer_digest(number));
        assert_eq!(lines.iter().filter(|line| **line == blob).count(), 1, "{lines:?}");
    }
    for part in ["objects", "originals"] {
        assert_eq!(bytes_below(&many.store().join(part)), bytes_below(&once.store().join(part)), "{part}");
    }
    assert_eq!(names(&many.store().join("flights")), Vec::<String>::new());
}
