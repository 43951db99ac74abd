//! What a push sends, and what it does not.

use super::fake::{Fake, Reply};
use super::image::{TestImage, host};
use super::server::Server;
use super::{PLAIN, refused};
use crate::support::TestEnv;

fn methods(lines: &[String], method: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(&format!("{method} "))).count()
}

#[test]
fn only_what_a_registry_lacks_is_sent_and_digests_stay_what_they_were() {
    let mut server = Server::open();
    let env = TestEnv::empty();
    let image = TestImage::of_size(3_000_000);
    image.write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "made"]);
    let tool = server.image("team/tool");
    assert_eq!(env.ok(&["push", PLAIN, "-q", "made", &tool]).trim(), image.digest());
    let first = server.requests();
    assert_eq!(methods(&first, "PUT"), 4, "the config, two layers, the manifest: {first:?}");
    assert!(first.last().unwrap().starts_with("PUT /v2/team/tool/manifests/latest"), "{first:?}");

    let again = env.json(&["push", PLAIN, "made", &tool]);
    assert_eq!((&again["sent"], &again["present"]), (&0.into(), &3.into()));
    let second = server.requests();
    assert_eq!(
        (methods(&second, "HEAD"), methods(&second, "POST"), methods(&second, "PUT")),
        (3, 0, 1),
        "{second:?}"
    );

    // Another store pulls it and pushes it to another repository: nothing travels twice.
    let other = TestEnv::empty();
    let pulled = other.ok(&["pull", PLAIN, "-q", &tool]);
    let copy = server.image("elsewhere/copy:2");
    server.requests();
    let sent = other.json(&["push", PLAIN, pulled.trim(), &copy]);
    assert_eq!(
        (&sent["mounted"], &sent["sent"], &sent["digest"]),
        (&3.into(), &0.into(), &image.digest().into())
    );
    let third = server.requests();
    assert_eq!(
        (methods(&third, "POST"), methods(&third, "PATCH"), methods(&third, "PUT")),
        (3, 0, 1),
        "{third:?}"
    );
    assert_eq!(env.json(&["pull", PLAIN, &copy])["digest"], image.digest());
}

#[test]
fn an_upload_that_fails_is_made_again_and_a_refusal_is_told() {
    let env = TestEnv::empty();
    let image = TestImage::new(host(), &[&[("a", b"a")]]);
    image.write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "made"]);
    let uploads = std::sync::atomic::AtomicUsize::new(0);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "GET" => Reply::new(200, "{}"),
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").header("Location", "/upload/1?_state=x"),
        _ if request.path.starts_with("/upload/") => {
            match uploads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reply::new(503, ""),
                _ => Reply::new(201, "").header("Location", "/there"),
            }
        }
        _ => Reply::new(201, "").header("Location", "/there"),
    });
    env.ok(&["push", PLAIN, "made", &fake.tool()]);
    let asked = fake.asked();
    let bodies: Vec<_> = asked.iter().filter(|request| request.path.starts_with("/upload/")).collect();
    assert_eq!(bodies.len(), 3, "two blobs, one of them twice");
    let manifest = asked.last().unwrap();
    assert_eq!(manifest.body, image.manifest);
    assert_eq!(manifest.header("content-type"), Some(super::image::MANIFEST));

    let fake = Fake::start(|request| match request.method.as_str() {
        "GET" => Reply::new(200, "{}"),
        "HEAD" => Reply::new(404, ""),
        _ => Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#),
    });
    refused(&env, &["push", PLAIN, "made", &fake.tool()], &["refuses blob", "read only"]);
}

#[test]
fn a_changed_state_is_pushed_above_the_layers_it_grew_from() {
    let mut server = Server::open();
    let env = TestEnv::empty();
    TestImage::of_size(1_000_000).write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "made"]);
    let base = server.image("base/tool");
    env.ok(&["push", PLAIN, "made", &base]);
    env.ok(&["pull", PLAIN, &base]);
    env.ok(&["switch", "-c", "main", &format!("{base}:latest")]);
    let note = env.file("note", "changed\n");
    env.ok(&["cp", note.to_str().unwrap(), "main:/etc/note"]);
    server.requests();
    let derived = server.image("derived/tool:2");
    let sent = env.json(&["push", PLAIN, "--layers", "main", &derived]);
    assert_eq!(
        (&sent["mounted"], &sent["sent"]),
        (&2.into(), &2.into()),
        "the layers, then a config and a layer: {sent}"
    );
    let pulled = TestEnv::empty();
    let state = pulled.ok(&["pull", PLAIN, "-q", &derived]);
    assert_eq!(pulled.ok(&["cat", &format!("{}:/etc/note", state.trim())]), "changed\n");
    assert_eq!(pulled.ok(&["cat", &format!("{}:/etc/hello", state.trim())]), "hello\n");
    // One layer for all of it, the same bytes from anywhere.
    let squashed = env.ok(&["push", PLAIN, "-q", "--squash", "main", &derived]);
    assert_eq!(pulled.ok(&["push", PLAIN, "-q", "--squash", state.trim(), &derived]).len(), squashed.len());
}
