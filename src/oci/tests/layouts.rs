//! OCI layouts: choosing an image, checking what it promises, media types.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::super::testing::{LAYER_TYPE, OciImage, Place, TarMaker, descriptor, gzip, index_of};
use super::super::{ImageSource, ImportError, ImportOptions, Imported, LayerError};
use crate::object::Platform;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

fn layer(name: &str) -> Vec<u8> {
    TarMaker::new().file(name, "body").end()
}

fn source(place: &Place, reference: Option<&str>) -> ImageSource {
    ImageSource::OciLayout { dir: place.path("layout"), reference: reference.map(str::to_owned) }
}

fn try_layout(
    image: OciImage,
    reference: Option<&str>,
    options: &ImportOptions,
) -> Result<(Vec<String>, Imported), ImportError> {
    let place = Place::new();
    image.write_layout(&place.path("layout"));
    let imported = place.try_import(&source(&place, reference), options)?;
    let paths = place.files(&imported).paths().into_iter().map(str::to_owned).collect();
    Ok((paths, imported))
}

fn refused(image: OciImage) -> ImportError {
    try_layout(image, None, &ImportOptions::default()).map(|(paths, _)| paths).unwrap_err()
}

/// An image like `image` whose manifest has further fields in its descriptor, and its blobs.
fn described(image: OciImage, more: Value) -> (Value, OciImage) {
    let sealed = image.seal();
    let mut descriptor = sealed.descriptor();
    for (key, value) in more.as_object().unwrap() {
        descriptor[key] = value.clone();
    }
    (descriptor, sealed)
}

/// One layout of several images.
fn together(images: Vec<(Value, OciImage)>) -> OciImage {
    let mut all = images[0].1.clone();
    for (_, image) in &images[1..] {
        all.blobs.extend(image.blobs.clone());
    }
    all.index = index_of(&images.iter().map(|(descriptor, _)| descriptor.clone()).collect::<Vec<_>>());
    all
}

fn platform(os: &str, architecture: &str, variant: &str) -> Platform {
    Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() }
}

#[test]
fn an_image_comes_with_its_config_and_raw_documents() {
    let (paths, imported) =
        try_layout(OciImage::of(&[layer("a"), layer("b")]), None, &ImportOptions::default()).unwrap();
    assert_eq!(paths, ["a", "b"]);
    assert_eq!(imported.state.config.env, ["PATH=/bin"]);
    assert_eq!(imported.state.root, imported.root);
    let facts = imported.image.as_ref().unwrap();
    assert!(facts.manifest.is_some());
    assert_eq!((facts.layers.len(), imported.entries, imported.bytes), (2, 2, 8));
    assert_eq!(facts.layers[0].digest, facts.layers[0].diff_id);
    assert_eq!(facts.layers[0].media_type, LAYER_TYPE);
}

#[test]
fn the_media_type_does_not_decide_the_compression() {
    let plain = layer("a");
    for stored in
        [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap(), [gzip(&plain), vec![0; 700]].concat()]
    {
        let (paths, imported) = try_layout(
            OciImage::of_stored(&[(plain.clone(), stored.clone())]),
            None,
            &ImportOptions::default(),
        )
        .unwrap();
        assert_eq!(paths, ["a"]);
        let facts = imported.image.as_ref().unwrap();
        assert_eq!(facts.layers[0].size, stored.len() as u64);
        assert_ne!(facts.layers[0].digest, facts.layers[0].diff_id);
    }
}

#[test]
fn a_layer_that_is_not_what_its_digests_say_is_refused_and_nothing_stays_behind() {
    let plain = layer("a");
    let other = layer("b");
    // The diff_id is another archive's.
    let wrong_inside = OciImage::of_stored(&[(other.clone(), gzip(&plain))]);
    // The blob is another one of the same length.
    let mut wrong_outside = OciImage::of(std::slice::from_ref(&plain));
    for blob in wrong_outside.blobs.values_mut() {
        *blob = other.clone();
    }
    for image in [wrong_inside, wrong_outside] {
        let place = Place::new();
        image.write_layout(&place.path("layout"));
        let error = place.try_import(&source(&place, None), &ImportOptions::default()).unwrap_err();
        assert!(matches!(error, ImportError::Layer { source: LayerError::Mismatch { .. }, .. }), "{error}");
        assert_eq!(std::fs::read_dir(place.path("store/tmp")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(place.path("store/objects")).unwrap().count(), 1);
    }
}

#[test]
fn a_blob_of_another_length_and_a_missing_one_are_refused() {
    let mut longer = OciImage::of(&[layer("a")]);
    longer.blobs.values_mut().for_each(|blob| blob.extend_from_slice(&[0; 512]));
    assert!(matches!(refused(longer), ImportError::Mismatch { .. }));
    let mut missing = OciImage::of(&[layer("a")]);
    missing.blobs.clear();
    assert!(matches!(refused(missing), ImportError::Missing { .. }));
    let cut = gzip(&layer("a"));
    let cut = cut[..cut.len() - 9].to_vec();
    let error = refused(OciImage::of_stored(&[(layer("a"), cut)]));
    assert!(matches!(error, ImportError::Layer { source: LayerError::Compression { .. }, .. }), "{error}");
    let junk = [gzip(&layer("a")), b"junk".to_vec()].concat();
    let error = refused(OciImage::of_stored(&[(layer("a"), junk)]));
    assert!(matches!(error, ImportError::Layer { source: LayerError::Trailing { .. }, .. }), "{error}");
}

#[test]
fn documents_are_checked_too() {
    let place = Place::new();
    let image = OciImage::of(&[layer("a")]).seal();
    let digest = image.descriptor()["digest"].as_str().unwrap().replace(':', "/");
    image.write_layout(&place.path("layout"));
    let path = place.path("layout/blobs").join(digest);
    let text = std::fs::read_to_string(&path).unwrap().replace("\"schemaVersion\":2", "\"schemaVersion\":3");
    std::fs::write(path, text).unwrap();
    let error = place.try_import(&source(&place, None), &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ImportError::Mismatch { .. }), "{error}");
}

#[test]
fn digests_and_sizes_that_are_none_are_refused() {
    let mut evil = OciImage::of(&[layer("a")]);
    evil.index = index_of(&[json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:../../../../etc/passwd", "size": 10})]);
    assert!(matches!(refused(evil), ImportError::Digest { .. }));
    let mut negative = OciImage::of(&[layer("a")]);
    negative.manifest["layers"][0]["size"] = json!(-1);
    assert!(matches!(refused(negative), ImportError::Document { .. }));
    let mut evil_layer = OciImage::of(&[layer("a")]);
    evil_layer.manifest["layers"][0]["digest"] = json!("sha256:../x");
    assert!(matches!(refused(evil_layer), ImportError::Digest { .. }));
    let mut fewer = OciImage::of(&[layer("a"), layer("b")]);
    fewer.config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
    assert!(matches!(refused(fewer), ImportError::Mismatch { .. }));
    let mut none = OciImage::of(&[layer("a")]);
    none.config["rootfs"]["diff_ids"] = Value::Null;
    assert!(matches!(refused(none), ImportError::Mismatch { .. }));
}

#[test]
fn media_types_that_cannot_be_read_are_named() {
    let with = |media_type: &str| {
        let mut image = OciImage::of(&[layer("a")]);
        image.manifest["layers"][0]["mediaType"] = json!(media_type);
        image
    };
    for good in [
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        assert!(try_layout(with(good), None, &ImportOptions::default()).is_ok(), "{good}");
    }
    for bad in [
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.wasm.content.layer.v1+wasm",
        "",
    ] {
        assert!(matches!(refused(with(bad)), ImportError::Unsupported { .. }), "{bad}");
    }
    let mut foreign = with("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    foreign.blobs.clear();
    assert!(matches!(refused(foreign), ImportError::Unsupported { .. }));
    let mut artifact = OciImage::of(&[layer("a")]);
    artifact.manifest["config"] = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    assert!(matches!(refused(artifact), ImportError::Unsupported { .. }));
    let (mut old, image) = described(OciImage::of(&[layer("a")]), json!({}));
    old["mediaType"] = json!("application/vnd.docker.distribution.manifest.v1+prettyjws");
    assert!(matches!(refused(together(vec![(old, image)])), ImportError::Unsupported { .. }));
}

#[test]
fn a_document_that_is_two_things_is_refused() {
    let mut both = OciImage::of(&[layer("a")]);
    both.manifest["manifests"] = json!([]);
    assert!(matches!(refused(both), ImportError::Document { .. }));
    let mut other = OciImage::of(&[layer("a")]);
    other.manifest["mediaType"] = json!(INDEX_TYPE);
    assert!(matches!(refused(other), ImportError::Document { .. }));
}

#[test]
fn an_image_is_chosen_by_its_name_in_any_usual_spelling() {
    let named = |path: &str, key: &str, name: &str| {
        described(OciImage::of(&[layer(path)]), json!({"annotations": {key: name}}))
    };
    let all = || {
        together(vec![
            named("one", "org.opencontainers.image.ref.name", "v1"),
            named("two", "io.containerd.image.name", "docker.io/library/app:v2"),
        ])
    };
    let import = |reference| try_layout(all(), reference, &ImportOptions::default());
    assert_eq!(import(Some("v1")).unwrap().0, ["one"]);
    for name in ["docker.io/library/app:v2", "app:v2", "v2"] {
        let (paths, imported) = import(Some(name)).unwrap();
        assert_eq!(paths, ["two"]);
        assert_eq!(imported.name_hint.as_deref(), Some("docker.io/library/app:v2"));
    }
    assert!(matches!(import(None).unwrap_err(), ImportError::SeveralImages { .. }));
    assert!(matches!(import(Some("v3")).unwrap_err(), ImportError::NoSuchName { .. }));
    let digest = named("one", "x", "y").0["digest"].as_str().unwrap().to_owned();
    let (by_digest, image) = described(OciImage::of(&[layer("one")]), json!({}));
    assert_eq!(
        try_layout(together(vec![(by_digest, image)]), Some(&digest), &ImportOptions::default()).unwrap().0,
        ["one"]
    );
}

#[test]
fn an_image_is_chosen_by_its_platform_and_attestations_are_passed_over() {
    let for_platform = |path: &str, os: &str, architecture: &str, variant: &str| {
        let mut image = OciImage::of(&[layer(path)]);
        image.config["architecture"] = json!(architecture);
        described(image, json!({"platform": {"os": os, "architecture": architecture, "variant": variant}}))
    };
    let attestation = described(
        OciImage::of(&[layer("attestation")]),
        json!({"platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}),
    );
    let all = || {
        together(vec![
            attestation.clone(),
            for_platform("arm6", "linux", "arm", "v6"),
            for_platform("arm7", "linux", "arm", "v7"),
            for_platform("arm64", "linux", "arm64", "v8"),
            for_platform("amd64v3", "linux", "amd64", "v3"),
            for_platform("amd64", "linux", "amd64", ""),
            for_platform("windows", "windows", "amd64", ""),
        ])
    };
    let import = |wanted: Platform| {
        try_layout(all(), None, &ImportOptions { platform: Some(wanted), ..ImportOptions::default() })
    };
    for (wanted, path) in [
        (platform("linux", "arm", "v7"), "arm7"),
        (platform("linux", "arm", "v6"), "arm6"),
        (platform("linux", "arm64", ""), "arm64"),
        (platform("linux", "amd64", ""), "amd64"),
        (platform("linux", "amd64", "v3"), "amd64v3"),
    ] {
        assert_eq!(import(wanted).unwrap().0, [path]);
    }
    assert!(matches!(import(platform("linux", "s390x", "")).unwrap_err(), ImportError::NoPlatform { .. }));
    assert!(matches!(refused(together(vec![attestation.clone()])), ImportError::Unsupported { .. }));
    // The only image is taken for whatever it is, unless another platform was asked for.
    let only = together(vec![attestation.clone(), for_platform("s390", "linux", "s390x", "")]);
    assert_eq!(try_layout(only, None, &ImportOptions::default()).unwrap().0, ["s390"]);
}

#[test]
fn nested_indexes_are_followed_to_a_bound() {
    let nest = |times: usize| {
        let mut image = OciImage::of(&[layer("deep")]).seal();
        let mut inner = image.descriptor();
        for _ in 0..times {
            let mut index = index_of(&[inner]);
            index["mediaType"] = json!(INDEX_TYPE);
            let bytes = index.to_string().into_bytes();
            inner = descriptor(INDEX_TYPE, &bytes);
            image.blobs.insert(super::super::testing::sha256(&bytes), bytes);
        }
        image.index = index_of(&[inner]);
        image
    };
    assert_eq!(try_layout(nest(2), None, &ImportOptions::default()).unwrap().0, ["deep"]);
    assert!(matches!(refused(nest(9)), ImportError::Limit(_)));
    let mut wide = OciImage::of(&[layer("a")]).seal();
    wide.index = index_of(&vec![wide.descriptor(); 2000]);
    assert!(matches!(refused(wide), ImportError::Limit(_)));
}

#[test]
fn no_link_leads_out_of_a_layout() {
    let secret = layer("secret");
    for depth in ["blobs/sha256/file", "blobs/sha256", "blobs"] {
        let place = Place::new();
        let elsewhere = place.path("elsewhere");
        OciImage::of(std::slice::from_ref(&secret)).write_layout(&elsewhere);
        OciImage::of(std::slice::from_ref(&secret)).write_layout(&place.path("layout"));
        if depth.ends_with("file") {
            for entry in std::fs::read_dir(place.path("layout/blobs/sha256")).unwrap() {
                let path = entry.unwrap().path();
                std::fs::remove_file(&path).unwrap();
                symlink(elsewhere.join("blobs/sha256").join(path.file_name().unwrap()), path).unwrap();
            }
        } else {
            std::fs::remove_dir_all(place.path("layout").join(depth)).unwrap();
            symlink(elsewhere.join(depth), place.path("layout").join(depth)).unwrap();
        }
        let error = place.try_import(&source(&place, None), &ImportOptions::default()).unwrap_err();
        assert!(matches!(error, ImportError::NotAnImage { .. }), "{depth}: {error}");
    }
}

#[test]
fn a_fifo_in_a_blobs_place_does_not_stop_the_import() {
    let place = Place::new();
    OciImage::of(&[layer("a")]).write_layout(&place.path("layout"));
    for entry in std::fs::read_dir(place.path("layout/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    }
    assert!(place.try_import(&source(&place, None), &ImportOptions::default()).is_err());
}
