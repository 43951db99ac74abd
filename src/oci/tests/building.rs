//! States into images: what goes out, and that it comes in again as it was.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::export::write_layer;
use super::super::testing::{OciImage, Place, TarMaker, gzip};
use super::super::*;
use super::streams::{awkward, edited, path};
use crate::object::{self, Config, Draft, Meta, NewNode, Timestamp, TreeId, TreePath};

fn step(root: TreeId, text: &str) -> LineageStep {
    LineageStep { root, text: text.to_owned(), time_seconds: 1000 }
}

fn grown(
    root: TreeId,
    config: Config,
    base: Option<(ImageFacts, object::State)>,
    steps: Vec<LineageStep>,
) -> Lineage {
    Lineage { state: object::State { root, config }, base, steps }
}

fn built(place: &Place, lineage: &Lineage, layering: Layering) -> Built {
    let options = BuildOptions { layering, ..BuildOptions::default() };
    build(&place.store, &place.originals(), lineage, &options).unwrap()
}

fn bytes(part: &Part) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.write_to(&mut bytes).unwrap();
    bytes
}

fn json(part: &Part) -> serde_json::Value {
    serde_json::from_slice(&bytes(part)).unwrap()
}

/// Writes an image as a layout and imports that in a store of its own.
fn again(built: &Built) -> (Place, Imported) {
    let place = Place::new();
    let dir = place.path("out");
    write_layout(built, &dir, Some("tag")).unwrap();
    let imported = place.import(&ImageSource::OciLayout { dir, reference: Some("tag".into()) });
    (place, imported)
}

/// The root of an archive.
fn root_of(place: &Place, archive: &[u8]) -> TreeId {
    let file = place.file("root.tar", archive);
    place.import(&ImageSource::Tar { file }).root
}

#[test]
fn any_tree_goes_out_and_comes_in_again() {
    let place = Place::new();
    let tree = awkward(&place);
    // These names cannot be in an image, and a socket is left out.
    let root = edited(&place, Some(tree), |draft, _| {
        let meta = draft.get(&path("top")).unwrap().unwrap().0.clone();
        for name in ["top/.wh.plain", "top/.wh..wh..opq"] {
            draft.remove(&path(name)).unwrap();
        }
        draft.put_directory(&path("top"), meta).unwrap();
    });
    let with = edited(&place, Some(root), |draft, _| {
        let meta = Meta::root_owned(0o755, Timestamp::from_seconds(0));
        draft.put(&path("top/socket"), meta, NewNode::Socket).unwrap();
    });
    let image =
        built(&place, &grown(with, Config::default(), None, vec![step(with, "make it")]), Layering::Auto);
    assert_eq!(image.skipped.len(), 1);
    assert_eq!(again(&image).1.root, root);
    let config = json(&image.config);
    assert_eq!(config["history"].as_array().unwrap().len(), 1);
    assert_eq!(config["history"][0]["created_by"], "make it");
    assert_eq!(config["created"], "1970-01-01T00:16:40Z");
}

#[test]
fn an_unchanged_image_goes_out_with_its_own_digests_whatever_its_documents_say() {
    let (lower, upper) = (TarMaker::new().file("a", "1").end(), TarMaker::new().file("b", "2").end());
    for stored in [gzip as fn(&[u8]) -> Vec<u8>, |plain| zstd::encode_all(plain, 19).unwrap(), <[u8]>::to_vec]
    {
        let mut image =
            OciImage::of_stored(&[(lower.clone(), stored(&lower)), (upper.clone(), stored(&upper))]);
        image.config["future"] = serde_json::json!({"a": [1, 2.5e3]});
        image.config["config"]["Healthcheck"] = serde_json::json!({"Test": ["NONE"]});
        image.manifest["annotations"] = serde_json::json!({"k": "v"});
        let sealed = image.clone().seal();
        let place = Place::new();
        let dir = place.path("in");
        image.write_layout(&dir);
        let imported = place.import(&ImageSource::OciLayout { dir, reference: None });
        let facts = imported.image.clone().unwrap();
        let lineage =
            grown(imported.root, imported.state.config.clone(), Some((facts, imported.state)), vec![]);
        let image = built(&place, &lineage, Layering::Auto);
        assert!(image.unchanged);
        assert_eq!(image.manifest.digest.to_string(), sealed.descriptor()["digest"]);
        let out = place.path("out");
        write_layout(&image, &out, None).unwrap();
        for (digest, bytes) in &sealed.blobs {
            let path = out.join(format!("blobs/{}", digest.replace(':', "/")));
            assert!(std::fs::read(path).unwrap() == *bytes, "{digest}");
        }
    }
}

#[test]
fn layers_of_the_image_stay_and_each_commit_adds_one() {
    let lower = TarMaker::new().dir("d").file("d/keep", "1").file("d/gone", "2").file("e", "3").end();
    let place = Place::new();
    let dir = place.path("in");
    OciImage::of_stored(&[(lower.clone(), gzip(&lower))]).write_layout(&dir);
    let imported = place.import(&ImageSource::OciLayout { dir, reference: None });
    let first = edited(&place, Some(imported.root), |draft, _| {
        draft.remove(&path("d/gone")).unwrap();
    });
    let second = edited(&place, Some(first), |draft, batch| {
        let blob = batch.put_blob(b"new", None).unwrap();
        let node = NewNode::File { blob, size: 3, link: None };
        draft.put(&path("e"), Meta::root_owned(0o600, Timestamp::from_seconds(5)), node).unwrap();
    });
    let facts = imported.image.clone().unwrap();
    let steps = vec![step(first, "rm"), step(first, "nothing"), step(second, "write")];
    let mut config = imported.state.config.clone();
    config.env.push("NEW=1".into());
    let lineage = grown(second, config, Some((facts.clone(), imported.state)), steps);
    let image = built(&place, &lineage, Layering::PerCommit);
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.layers[0].part.digest, facts.layers[0].digest);
    let document = json(&image.config);
    let texts: Vec<_> =
        document["history"].as_array().unwrap().iter().map(|entry| entry["created_by"].clone()).collect();
    assert_eq!(texts, ["imported layer", "rm", "nothing", "write"]);
    assert_eq!(document["history"][2]["empty_layer"], true);
    assert_eq!(document["config"]["Env"], serde_json::json!(["PATH=/bin", "NEW=1"]));
    assert_eq!(document["config"]["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(again(&image).1.root, second);
    // One layer has the same files and tells the same story.
    let one = built(&place, &lineage, Layering::Auto);
    assert_eq!((one.layers.len(), again(&one).1.root), (1, second));
    let document = json(&one.config);
    let filled = document["history"].as_array().unwrap().iter().filter(|entry| entry["empty_layer"] != true);
    assert_eq!(filled.count(), 1);
}

#[test]
fn what_was_kept_and_is_gone_or_damaged_is_made_anew_and_told() {
    let lower = TarMaker::new().file("a", &"1".repeat(5000)).end();
    let place = Place::new();
    let dir = place.path("in");
    OciImage::of_stored(&[(lower.clone(), gzip(&lower))]).write_layout(&dir);
    let imported = place.import(&ImageSource::OciLayout { dir, reference: None });
    let facts = imported.image.clone().unwrap();
    let lineage =
        grown(imported.root, imported.state.config.clone(), Some((facts.clone(), imported.state)), vec![]);
    let original = place.originals().path(&facts.layers[0].digest);
    std::fs::write(&original, vec![b'x'; usize::try_from(facts.layers[0].size).unwrap()]).unwrap();
    let image = built(&place, &lineage, Layering::Auto);
    let error = write_layout(&image, &place.path("out"), None).unwrap_err();
    assert!(matches!(error, OutputError::Original(_)), "{error}");
    assert!(!original.exists());
    let image = built(&place, &lineage, Layering::Auto);
    assert!(!image.unchanged && image.notes.len() == 1);
    assert_eq!(again(&image).1.root, imported.root);
}

#[test]
fn a_damaged_skeleton_is_thrown_away_and_the_layer_made_anew() {
    let lower = TarMaker::new().file("a", &"1".repeat(5000)).file("b", "2").end();
    // Cut, changed so that zstd sees it, no skeleton at all, and one of another archive.
    let other = || {
        let place = Place::new();
        let dir = place.path("in");
        OciImage::of(&[TarMaker::new().file("c", "").end()]).write_layout(&dir);
        let imported = place.import(&ImageSource::OciLayout { dir, reference: None });
        let digest = imported.image.unwrap().layers[0].digest.clone();
        std::fs::read(place.originals().path(&digest).with_extension("skeleton")).unwrap()
    };
    let damages: [&dyn Fn(Vec<u8>) -> Vec<u8>; 4] = [
        &|bytes| bytes[..bytes.len() / 2].to_vec(),
        &|mut bytes| {
            bytes[10] ^= 0xff;
            bytes
        },
        &|_| b"nothing".to_vec(),
        &|_| other(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        for layering in [Layering::Auto, Layering::PerCommit] {
            let place = Place::new();
            let dir = place.path("in");
            OciImage::of(std::slice::from_ref(&lower)).write_layout(&dir);
            let imported = place.import(&ImageSource::OciLayout { dir, reference: None });
            let facts = imported.image.clone().unwrap();
            let skeleton = place.originals().path(&facts.layers[0].digest).with_extension("skeleton");
            std::fs::write(&skeleton, damage(std::fs::read(&skeleton).unwrap())).unwrap();
            let config = imported.state.config.clone();
            let lineage = grown(imported.root, config, Some((facts, imported.state)), vec![]);
            let image = built(&place, &lineage, layering);
            assert!(!image.unchanged && !image.notes.is_empty(), "damage {number}");
            assert!(!skeleton.exists(), "damage {number}");
            assert_eq!(again(&image).1.root, imported.root, "damage {number}");
        }
    }
}

#[test]
fn a_docker_archive_comes_in_and_goes_out_with_its_image_id() {
    let layer = TarMaker::new().file("a", "1").end();
    let digest = |bytes: &[u8]| super::super::testing::sha256(bytes);
    let config = format!(
        r#"{{"os":"linux","architecture":"{}", "odd" : 1,"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        object::Platform::host().architecture,
        digest(&layer)
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#;
    let member = |maker: TarMaker, name: &str, body: &[u8]| {
        let mut header = TarMaker::header(b'0', name.as_bytes());
        header.set_size(body.len() as u64);
        maker.add(header, body)
    };
    let maker = member(TarMaker::new(), "c.json", config.as_bytes());
    let maker = member(member(maker, "l.tar", &layer), "manifest.json", manifest.as_bytes());
    let place = Place::new();
    let file = place.file("in.tar", &maker.end());
    let imported = place.import(&ImageSource::DockerArchive { file, name: None });
    let facts = imported.image.clone().unwrap();
    let lineage = grown(imported.root, imported.state.config.clone(), Some((facts, imported.state)), vec![]);
    let image = built(&place, &lineage, Layering::Auto);
    assert!(image.unchanged);
    assert_eq!(image.config.digest.to_string(), digest(config.as_bytes()));
    let mut archive = Vec::new();
    write_docker_archive(&[(&image, Some("x:1"))], &mut archive).unwrap();
    let back = Place::new();
    let file = back.file("out.tar", &archive);
    let back = back.import(&ImageSource::DockerArchive { file, name: Some("x:1".into()) });
    assert_eq!((back.root, &back.image.unwrap().config.digest), (imported.root, &image.config.digest));
    // As an OCI image it is compressed, and has the same config.
    assert_eq!(again(&image).1.image.unwrap().config.digest, image.config.digest);
}

#[test]
fn names_that_mean_deletions_are_refused() {
    let place = Place::new();
    let root = root_of(&place, &TarMaker::new().file("d/.wh.x", "").end());
    let lineage = grown(root, Config::default(), None, vec![step(root, "tar")]);
    let error = build(&place.store, &place.originals(), &lineage, &BuildOptions::default()).unwrap_err();
    assert!(error.to_string().contains("/d/.wh.x"), "{error}");
}

#[test]
fn times_are_clamped_in_what_is_made() {
    let place = Place::new();
    let root = root_of(&place, &TarMaker::new().file("a", "").end());
    let lineage = grown(root, Config::default(), None, vec![step(root, "tar")]);
    let options = BuildOptions { epoch: Some(500), ..BuildOptions::default() };
    let image = build(&place.store, &place.originals(), &lineage, &options).unwrap();
    assert_eq!(json(&image.config)["created"], "1970-01-01T00:08:20Z");
    let (place, imported) = again(&image);
    assert_eq!(place.files(&imported).get("a").meta.mtime, Timestamp::from_seconds(500));
}

#[test]
fn the_time_of_an_image_that_grew_no_further_is_clamped_too() {
    let place = Place::new();
    let dir = place.path("in");
    let mut image = OciImage::of(&[TarMaker::new().file("a", "").end()]);
    image.config["created"] = serde_json::json!("2024-01-02T03:04:05.5Z");
    image.write_layout(&dir);
    let imported = place.import(&ImageSource::OciLayout { dir, reference: None });
    let facts = imported.image.clone().unwrap();
    let config = imported.state.config.clone();
    let lineage = grown(imported.root, config, Some((facts, imported.state)), vec![]);
    let created = |epoch| {
        let options = BuildOptions { layering: Layering::One, epoch, ..BuildOptions::default() };
        let image = build(&place.store, &place.originals(), &lineage, &options).unwrap();
        json(&image.config)["created"].as_str().unwrap().to_owned()
    };
    assert_eq!(created(None), "2024-01-02T03:04:05.5Z");
    assert_eq!(created(Some(1000)), "1970-01-01T00:16:40Z");
}

#[test]
fn a_layout_takes_several_images_and_a_tag_moves() {
    let place = Place::new();
    let image = |name: &str| {
        let root = root_of(&place, &TarMaker::new().file(name, "").end());
        built(&place, &grown(root, Config::default(), None, vec![step(root, name)]), Layering::Auto)
    };
    let (a, b) = (image("a"), image("b"));
    let dir = place.path("layout");
    for (image, tag) in [(&a, "one"), (&b, "two"), (&b, "one"), (&a, "three")] {
        write_layout(image, &dir, Some(tag)).unwrap();
    }
    let digest = |tag: &str| {
        let source = ImageSource::OciLayout { dir: dir.clone(), reference: Some(tag.into()) };
        place.import(&source).image.unwrap().manifest.unwrap().digest
    };
    assert_eq!(["one", "two", "three"].map(digest), [&b, &b, &a].map(|image| image.manifest.digest.clone()));
    let other = place.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("mine"), "").unwrap();
    assert!(matches!(write_layout(&a, &other, None), Err(OutputError::Occupied(_))));
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn the_digests_of_what_is_made_are_the_pinned_ones() {
    // A change here changes the digests of everything that is exported: it needs a line in the change log.
    let place = Place::new();
    let root = root_of(&place, &TarMaker::new().dir("d").file("d/a", "text\n").symlink("l", "d/a").end());
    let mut config = Config { env: vec!["A=1".into()], cmd: vec!["sh".into()], ..Config::default() };
    config.platform.architecture = "amd64".into();
    let lineage = grown(root, config, None, vec![step(root, "make")]);
    let image = built(&place, &lineage, Layering::Auto);
    let digests =
        [&image.layers[0].diff_id, &image.config.digest, &image.manifest.digest].map(ToString::to_string);
    assert_eq!(digests, PINNED);
}

const PINNED: [&str; 3] = [
    "sha256:3d84dd65c5e0408a0637703daae6a77aec62032cd4f780ca9174642d7147c29e",
    "sha256:5d39e4951df12eed63804e3f0cf14a05336c633ab008c9b56aa4f25641467ee7",
    "sha256:a402449f733501622aa17b07505a17aa94564812325ed57669e440796c6c6bf0",
];

/// What may stand at a path of a random tree.
#[derive(Debug, Clone)]
enum Thing {
    File(u8, u16),
    Directory(u16),
    Link(u8),
    HardLink,
}

fn things() -> impl Strategy<Value = BTreeMap<String, Thing>> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a.b"), Just("c")];
    let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let thing = prop_oneof![
        (any::<u8>(), 0u16..4).prop_map(|(byte, time)| Thing::File(byte % 3, time)),
        (0u16..4).prop_map(Thing::Directory),
        (0u8..3).prop_map(Thing::Link),
        Just(Thing::HardLink),
    ];
    proptest::collection::btree_map(path, thing, 0..12)
}

fn tree_of(place: &Place, things: &BTreeMap<String, Thing>) -> TreeId {
    let mut batch = place.store.batch().unwrap();
    let meta = |time: u16| Meta::root_owned(0o755, Timestamp::from_seconds(time.into()));
    let mut draft = Draft::empty(&place.store, meta(9));
    let mut last: Option<TreePath> = None;
    for (text, thing) in things {
        let path = path(text);
        draft.make_parents(&path, &meta(7)).unwrap();
        match thing {
            Thing::File(byte, time) => {
                let blob = batch.put_blob(&[*byte], None).unwrap();
                draft.put(&path, meta(*time), NewNode::File { blob, size: 1, link: None }).unwrap();
                last = Some(path);
            }
            Thing::Directory(time) => draft.put_directory(&path, meta(*time)).unwrap(),
            Thing::Link(target) => {
                draft.put(&path, meta(1), NewNode::Symlink { target: vec![b'a' + target] }).unwrap();
            }
            Thing::HardLink => {
                if let Some(target) = &last
                    && draft.leaf(target).unwrap().is_some()
                    && !path.starts_with(target)
                    && !target.starts_with(&path)
                {
                    draft.hard_link(&path, target).unwrap();
                }
            }
        }
    }
    let (root, _) = draft.finish(&mut batch).unwrap();
    batch.commit().unwrap();
    root
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_layer_between_any_two_trees_makes_the_second_of_the_first(old in things(), new in things()) {
        let place = Place::new();
        let (old, new) = (tree_of(&place, &old), tree_of(&place, &new));
        let layer = |old: Option<TreeId>, new: TreeId| {
            let mut bytes = Vec::new();
            let old = old.map(|old| place.store.root(&old).unwrap());
            write_layer(&place.store, old.as_ref(), &place.store.root(&new).unwrap(), None, &mut bytes).unwrap();
            bytes
        };
        let layers = [layer(None, old), layer(Some(old), new)];
        let dir = place.path("layout");
        OciImage::of(&layers).write_layout(&dir);
        let imported = place.import(&ImageSource::OciLayout { dir, reference: None });
        prop_assert_eq!(imported.root, new);
        prop_assert!(old != new || layers[1].len() == 1024, "a layer of nothing has entries");
    }
}
