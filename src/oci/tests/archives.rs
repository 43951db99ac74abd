//! Archives of images: `docker save` and OCI archives, compressed or not, and finding out which is which.

use super::super::testing::{OciImage, Place, TarMaker, gzip, sha256};
use super::super::{ImageSource, ImportError, ImportOptions, LayerError};

fn layer(name: &str) -> Vec<u8> {
    TarMaker::new().file(name, "body").end()
}

fn config(layers: &[Vec<u8>]) -> String {
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    serde_json::json!({"os": "linux", "architecture": crate::object::Platform::host().architecture, "rootfs": {"diff_ids": diff_ids}}).to_string()
}

fn member(maker: TarMaker, name: &str, body: &[u8]) -> TarMaker {
    let mut header = TarMaker::header(b'0', name.as_bytes());
    header.set_size(body.len() as u64);
    maker.add(header, body)
}

fn docker(file: std::path::PathBuf, name: Option<&str>) -> ImageSource {
    ImageSource::DockerArchive { file, name: name.map(str::to_owned) }
}

fn two_images() -> Vec<u8> {
    let (one, two) = (layer("one"), layer("two"));
    let maker = member(TarMaker::new(), "1/layer.tar", &one);
    let maker = member(maker, "2/layer.tar", &two);
    let maker = member(maker, "1.json", config(&[one]).as_bytes());
    let maker = member(maker, "2.json", config(&[two]).as_bytes());
    let manifest = r#"[{"Config":"1.json","RepoTags":["first:1"],"Layers":["1/layer.tar"]},
        {"Config":"2.json","RepoTags":["docker.io/library/second:latest"],"Layers":["2/layer.tar"]}]"#;
    member(maker, "manifest.json", manifest.as_bytes()).end()
}

#[test]
fn of_several_images_one_is_chosen_by_its_name() {
    let place = Place::new();
    let file = place.file("images.tar", &two_images());
    for (name, path) in [("first:1", "one"), ("second", "two"), ("2.json", "two")] {
        let imported = place.import(&docker(file.clone(), Some(name)));
        assert_eq!(place.files(&imported).paths(), [path]);
        assert_eq!(imported.name_hint.as_deref(), Some(name));
    }
    match place.try_import(&docker(file.clone(), None), &ImportOptions::default()) {
        Err(ImportError::SeveralImages { available, .. }) => {
            assert_eq!(available, "first:1, docker.io/library/second:latest");
        }
        other => panic!("{other:?}"),
    }
    let missing = place.try_import(&docker(file, Some("third")), &ImportOptions::default());
    assert!(matches!(missing, Err(ImportError::NoSuchName { .. })));
}

#[test]
fn layers_may_be_links_to_each_other_and_never_out_of_the_archive() {
    let body = layer("x");
    let manifest = |layers: &str| format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":{layers}}}]"#);
    let archive = |layers: &str, count| {
        let maker = member(TarMaker::new(), "a/layer.tar", &body);
        let maker = maker.symlink("b/layer.tar", "../a/layer.tar").hard_link("c/layer.tar", "b/layer.tar");
        let maker = maker.symlink("out.tar", "../../etc/passwd").symlink("abs.tar", "/etc/passwd");
        let maker = maker.symlink("round1.tar", "round2.tar").symlink("round2.tar", "round1.tar");
        let maker = member(maker, "c.json", config(&vec![body.clone(); count]).as_bytes());
        member(maker, "manifest.json", manifest(layers).as_bytes()).end()
    };
    let place = Place::new();
    let good = archive(r#"["a/layer.tar","b/layer.tar","./c/layer.tar"]"#, 3);
    let imported = place.import(&docker(place.file("good.tar", &good), None));
    assert_eq!(
        (place.files(&imported).paths(), imported.image.as_ref().unwrap().layers.len()),
        (vec!["x"], 3)
    );
    for bad in ["out.tar", "abs.tar", "round1.tar", "../../etc/passwd", "nowhere.tar", "/etc/passwd"] {
        let file = place.file("bad.tar", &archive(&format!("[{bad:?}]"), 1));
        let error = place.try_import(&docker(file, None), &ImportOptions::default()).unwrap_err();
        let fits = matches!(error, ImportError::NotAnImage { .. } | ImportError::Missing { .. });
        assert!(fits, "{bad}: {error}");
    }
}

#[test]
fn a_docker_archive_is_checked_against_its_config() {
    let place = Place::new();
    let archive = |config: &str, layers: &str| {
        let maker = member(TarMaker::new(), "l.tar", &layer("x"));
        let maker = member(maker, "c.json", config.as_bytes());
        let manifest = format!(r#"[{{"Config":"c.json","Layers":{layers}}}]"#);
        member(maker, "manifest.json", manifest.as_bytes()).end()
    };
    let wrong = archive(&config(&[layer("y")]), r#"["l.tar"]"#);
    let error =
        place.try_import(&docker(place.file("a", &wrong), None), &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ImportError::Layer { source: LayerError::Mismatch { .. }, .. }), "{error}");
    let more = archive(&config(&[layer("x")]), r#"["l.tar","l.tar"]"#);
    let error =
        place.try_import(&docker(place.file("b", &more), None), &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ImportError::Mismatch { .. }), "{error}");
    let evil = archive(r#"{"rootfs":{"diff_ids":["sha256:../../etc/passwd"]}}"#, r#"["l.tar"]"#);
    let error =
        place.try_import(&docker(place.file("c", &evil), None), &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ImportError::Digest { .. }), "{error}");
}

#[test]
fn what_a_file_holds_decides_what_it_is() {
    let place = Place::new();
    let detect = |name: &str, bytes: &[u8]| ImageSource::detect(&place.file(name, bytes)).unwrap();
    let oci = OciImage::of(&[layer("x")]).archive();
    let root = TarMaker::new().dir("./").dir("./etc").file("./etc/passwd", "").end();
    for (name, wrap) in [("plain", <[u8]>::to_vec as fn(&[u8]) -> Vec<u8>), ("gz", gzip)] {
        assert!(matches!(
            detect(&format!("d.{name}"), &wrap(&two_images())),
            ImageSource::DockerArchive { .. }
        ));
        assert!(matches!(detect(&format!("o.{name}"), &wrap(&oci)), ImageSource::OciArchive { .. }));
        assert!(matches!(detect(&format!("r.{name}"), &wrap(&root)), ImageSource::Tar { .. }));
        let imported = place.import(&detect(&format!("i.{name}"), &wrap(&oci)));
        assert_eq!(place.files(&imported).paths(), ["x"]);
    }
    OciImage::of(&[layer("x")]).write_layout(&place.path("layout"));
    assert!(matches!(ImageSource::detect(&place.path("layout")).unwrap(), ImageSource::OciLayout { .. }));
    std::fs::create_dir(place.path("empty")).unwrap();
    assert!(ImageSource::detect(&place.path("empty")).is_err());
    assert!(ImageSource::detect(&place.file("text", &[b'x'; 2000])).is_err());
    assert!(ImageSource::detect(&place.path("missing")).is_err());
}

#[test]
fn a_root_archive_may_be_compressed_in_any_way_and_gives_the_same_root() {
    use std::io::Write;
    let root = TarMaker::new().dir("etc").file("etc/f", "body").end();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&root).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&root).unwrap();
    let zstd = zstd::encode_all(&root[..], 1).unwrap();
    let place = Place::new();
    let plain = place.tar(&root).unwrap();
    for stored in [gzip(&root), zstd, xz.finish().unwrap(), bzip2.finish().unwrap()] {
        assert_eq!(place.tar(&stored).unwrap().get(""), plain.get(""));
    }
}

#[test]
fn a_pipe_is_a_root_archive() {
    let place = Place::new();
    let path = place.path("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let source = ImageSource::detect(&path).unwrap();
    assert_eq!(source, ImageSource::Tar { file: path.clone() });
    let writer = std::thread::spawn(move || std::fs::write(path, layer("x")).unwrap());
    let imported = place.import(&source);
    writer.join().unwrap();
    assert_eq!(place.files(&imported).paths(), ["x"]);
}
