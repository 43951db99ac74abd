//! Registries that break off, overflow, lie, send elsewhere.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::fake::{Fake, Reply, Shelf};
use super::image::TestImage;
use super::{PLAIN, kept, refused};
use crate::support::TestEnv;

/// The second layer of the test image, which is the large one.
const BIG: usize = 1;

/// What is here of a layer that is not complete. Of others there may be some too: an error ends all downloads.
fn partial(env: &TestEnv, digest: &str) -> Option<std::path::PathBuf> {
    let path = env.store().join("originals/partial").join(digest.replace(':', "-"));
    path.exists().then_some(path)
}

fn ranges(fake: &Fake, blob: &str) -> Vec<Option<String>> {
    let asked = fake.asked().into_iter().filter(|request| request.path.ends_with(blob));
    asked.map(|request| request.header("range").map(str::to_owned)).collect()
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let image = TestImage::of_size(300_000);
    let (shelf, big) = (Shelf::of(&image), image.layer_digest(BIG));
    let blob = big.clone();
    let fake = Fake::start(move |request| {
        let reply = shelf.answer(request);
        if request.path.ends_with(&blob) && reply.body.len() > 100_000 { reply.cut(100_000) } else { reply }
    });
    let env = TestEnv::empty();
    let ran = env.run(&["pull", PLAIN, &fake.tool()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("trying again"), "{}", ran.stderr);
    let asked = ranges(&fake, &big);
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert_eq!(asked[..3], [None, Some("bytes=100000-".into()), Some("bytes=200000-".into())]);
}

#[test]
fn a_download_goes_on_in_the_next_pull_also_when_what_lies_there_is_damaged() {
    for damaged in [false, true] {
        let image = TestImage::of_size(300_000);
        let (shelf, big) = (Shelf::of(&image), image.layer_digest(BIG));
        let (blob, times) = (big.clone(), AtomicUsize::new(0));
        let fake = Fake::start(move |request| match request.path.ends_with(&blob) {
            true => match times.fetch_add(1, Ordering::Relaxed) {
                0 => shelf.answer(request).cut(150_000),
                1 => Reply::new(404, ""),
                _ => shelf.answer(request),
            },
            false => shelf.answer(request),
        });
        let env = TestEnv::empty();
        refused(&env, &["pull", PLAIN, &fake.tool()], &["has no blob"]);
        let path = partial(&env, &big).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 150_000);
        if damaged {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[7] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        fake.asked();
        env.ok(&["pull", PLAIN, &fake.tool()]);
        let rest = Some("bytes=150000-".to_owned());
        assert_eq!(ranges(&fake, &big), if damaged { vec![rest, None] } else { vec![rest] });
        assert!(!kept(&env).iter().any(|name| name.starts_with("partial/")), "{:?}", kept(&env));
    }
}

#[test]
fn a_registry_that_knows_no_ranges_sends_all_of_it_again() {
    let image = TestImage::of_size(300_000);
    let (shelf, big) = (Shelf::of(&image), image.layer_digest(BIG));
    let (blob, times) = (big.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |request| {
        let mut plain = request.clone();
        plain.headers.remove("range");
        let reply = shelf.answer(&plain);
        let first = request.path.ends_with(&blob) && times.fetch_add(1, Ordering::Relaxed) == 0;
        if first { reply.cut(100_000) } else { reply }
    });
    let env = TestEnv::empty();
    env.ok(&["pull", PLAIN, &fake.tool()]);
    assert_eq!(ranges(&fake, &big).len(), 2);
}

#[test]
fn a_busy_registry_is_asked_again_after_the_rest_that_it_wants() {
    let shelf = Shelf::of(&TestImage::of_size(1000));
    let seen: Mutex<HashMap<String, usize>> = Mutex::default();
    let fake = Fake::start(move |request| {
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(request.path.clone()).or_default();
        *times += 1;
        match *times {
            1 => Reply::new(429, "").header("Retry-After", "1"),
            2 => Reply::new(503, ""),
            _ => shelf.answer(request),
        }
    });
    let env = TestEnv::empty();
    let began = std::time::Instant::now();
    let pulled = env.json(&["pull", PLAIN, &fake.tool()]);
    assert_eq!(pulled["requests"], 12, "three of each");
    assert!(began.elapsed() > Duration::from_secs(3), "one after the other: manifest, config, layers");

    let fake = Fake::start(|_| Reply::new(429, "").header("Retry-After", "86400"));
    let began = std::time::Instant::now();
    refused(&env, &["pull", PLAIN, &fake.tool()], &["429", "86400 s of rest"]);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(fake.asked().len(), 1);

    let fake = Fake::start(|_| Reply::new(500, r#"{"errors":[{"message":"the disk\n is full"}]}"#));
    refused(&env, &["pull", PLAIN, &fake.tool()], &["answers 500", "(the disk is full)"]);
    assert_eq!(fake.asked().len(), 5);
}

#[test]
fn a_blob_that_is_another_one_is_not_kept() {
    let image = TestImage::of_size(1000);
    let mut shelf = Shelf::of(&image);
    let mut wrong = image.layers[BIG].clone();
    wrong[100] ^= 1;
    shelf.blobs.insert(image.layer_digest(BIG), wrong);
    let fake = Fake::serving(shelf);
    let env = TestEnv::empty();
    refused(&env, &["pull", PLAIN, &fake.tool()], &["is something else", &image.layer_digest(BIG)]);
    let hex = image.layer_digest(BIG).replace("sha256:", "");
    assert!(!kept(&env).iter().any(|name| name.contains(&hex)), "{:?}", kept(&env));
    assert_eq!(env.ok(&["images", "--json"]), "");
}

#[test]
fn whatever_goes_on_for_ever_is_cut_off() {
    let image = TestImage::of_size(1000);
    let config = super::image::digest(&image.config);
    for endless in ["/manifests/latest", &image.layer_digest(BIG), &config] {
        let (shelf, part) = (Shelf::of(&image), endless.to_owned());
        let fake = Fake::start(move |request| {
            let reply = shelf.answer(request);
            if request.path.ends_with(&part) { reply.endless() } else { reply }
        });
        let env = TestEnv::empty();
        refused(&env, &["pull", PLAIN, &fake.tool()], &["it was cut off"]);
        assert_eq!(partial(&env, &image.layer_digest(BIG)), None);
    }
    for status in [400, 401, 404] {
        let fake = Fake::start(move |_| Reply::new(status, "").endless());
        refused(&TestEnv::empty(), &["pull", PLAIN, &fake.tool()], &[]);
    }
}

#[test]
fn another_manifest_than_the_digest_asked_for_is_refused() {
    let (image, other) = (TestImage::of_size(10), TestImage::of_size(20));
    let mut shelf = Shelf::of(&image);
    let bytes = (super::image::MANIFEST.to_owned(), other.manifest.clone());
    shelf.manifests.insert(image.digest(), bytes);
    let fake = Fake::serving(shelf);
    let env = TestEnv::empty();
    let pinned = format!("{}@{}", fake.tool(), image.digest());
    refused(&env, &["pull", PLAIN, &pinned], &["is something else", &other.digest()]);
}

#[test]
fn two_pulls_at_once_fetch_a_blob_once() {
    let image = TestImage::of_size(1000);
    let (shelf, big) = (Shelf::of(&image), image.layer_digest(BIG));
    let fake = Fake::start(move |request| {
        if request.path.contains("/blobs/") {
            std::thread::sleep(Duration::from_millis(500));
        }
        shelf.answer(request)
    });
    let env = TestEnv::empty();
    env.ok(&["images"]);
    let tool = fake.tool();
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let (env, tool) = (&env, &tool);
            scope.spawn(move || env.ok(&["pull", PLAIN, tool, "--name", name]));
        }
    });
    assert_eq!(ranges(&fake, &big).len(), 1);
    assert_eq!(env.ok(&["cat", "one:/etc/hello"]), env.ok(&["cat", "two:/etc/hello"]));
    assert!(!kept(&env).iter().any(|name| name.starts_with("partial/")), "{:?}", kept(&env));
}

#[test]
fn what_was_damaged_here_is_fetched_again() {
    let image = TestImage::of_size(1000);
    let fake = Fake::serving(Shelf::of(&image));
    let env = TestEnv::empty();
    let damage = |bytes: &[u8]| {
        let mut wrong = bytes.to_vec();
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        let hex = super::image::digest(bytes).replace("sha256:", "");
        env.file(&format!("store/originals/sha256/{hex}"), wrong);
    };
    env.ok(&["images"]);
    damage(&image.config);
    damage(&image.manifest);
    damage(&image.layers[BIG]);
    // Layers are looked at while they are unpacked, so the next pull has to bring that one.
    refused(&env, &["pull", PLAIN, &fake.tool()], &["is damaged", "get the image again"]);
    env.ok(&["pull", PLAIN, &fake.tool()]);
    assert_eq!(
        fake.asked().len(),
        3 + 2,
        "two documents and the other layer, then the manifest and the layer"
    );
}
