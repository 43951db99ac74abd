//! Every bound on what an image may demand, changed by `--limit` and kept on every way an image can come.

use serde_json::json;

use super::made::archive::TarMaker;
use super::made::documents::nested;
use super::made::stored;
use super::*;

fn tar() -> TarMaker {
    TarMaker::new()
}

/// Every way the same layers can come: an uncompressed layout, one of gzip layers, a compressed archive, a docker-archive, and the last
/// layer as a root archive.
fn ways(env: &TestEnv, maker: TarMaker) -> Vec<String> {
    let bytes = maker.end();
    let image = |pack: fn(&[u8]) -> Vec<u8>| OciImage::of_stored(&[(bytes.clone(), pack(&bytes))]);
    let config = image(stored::gzip).config.to_string();
    let manifest = json!([{"Config": "c.json", "Layers": ["l.tar"]}]).to_string();
    let docker = tar()
        .bytes("l.tar", &bytes)
        .bytes("c.json", config.as_bytes())
        .bytes("manifest.json", manifest.as_bytes())
        .end();
    vec![
        layout(env, "plain", image(<[u8]>::to_vec)),
        layout(env, "gzip", image(stored::gzip)),
        format!(
            "oci-archive:{}",
            env.file("oci.tar.zst", stored::zstd(&image(stored::zstd).archive())).display()
        ),
        format!("docker-archive:{}", env.file("docker.tar", docker).display()),
        format!("tar:{}", env.file("root.tar.xz", stored::xz(&bytes)).display()),
    ]
}

/// One below what an image needs is refused and names the bound; what it needs is enough.
fn bounded(limit: &str, refused: u64, enough: u64, maker: impl Fn() -> TarMaker) {
    let env = TestEnv::empty();
    for source in ways(&env, maker()) {
        let at = |value: u64| format!("{limit}={value}");
        let said = env.fails(125, &["import", &source, "--limit", &at(refused)]);
        assert!(said.contains(&format!("is above the limit {refused} of `{limit}`")), "{source}: {said}");
        assert_eq!(env.ok(&["images", "-q"]), "", "{source}");
        env.ok(&["import", &source, "--limit", &at(enough), "--name", "it"]);
        env.ok(&["images", "rm", "it"]);
        drop(std::fs::remove_dir_all(env.store()));
    }
}

#[test]
fn entries_are_bounded() {
    // The archives of images have members of their own, five at most here.
    bounded("entries", 7, 8, || (0..8).fold(tar(), |maker, number| maker.file(&format!("f{number}"), "")));
}

#[test]
fn paths_are_bounded() {
    let path = "p".repeat(120);
    bounded("path_bytes", 119, 120, || tar().pax(b'x', &[("path", path.as_bytes())]).file("f", ""));
}

#[test]
fn extended_headers_are_bounded() {
    // Two of a block and a record each.
    bounded("header_bytes", 1100, 1300, || {
        tar().pax(b'x', &[("comment", &[b'x'; 100])]).pax(b'x', &[("a", &[b'x'; 100])]).file("f", "")
    });
}

#[test]
fn extended_attributes_are_bounded() {
    bounded("xattr_bytes", 8, 9, || tar().pax(b'x', &[("SCHILY.xattr.user.a", b"123")]).file("f", ""));
}

#[test]
fn regions_of_sparse_files_are_bounded() {
    let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,1,2,1,4,1")];
    bounded("sparse_regions", 2, 3, || tar().pax(b'x', records).file("f", "abc"));
}

#[test]
fn a_files_size_is_bounded_with_its_holes() {
    let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"200000"), ("GNU.sparse.map", b"0,3")];
    bounded("file_bytes", 199_999, 200_000, || tar().pax(b'x', records).file("f", "abc"));
}

#[test]
fn the_total_size_is_bounded_with_all_holes() {
    let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"200000"), ("GNU.sparse.map", b"0,3")];
    bounded("total_bytes", 399_999, 400_000, || {
        tar().pax(b'x', records).file("f", "abc").pax(b'x', records).file("g", "abc")
    });
    // Of the archive as of its files.
    bounded("total_bytes", 50_000, 60_000, || {
        (0..100).fold(tar(), |maker, number| maker.file(&format!("f{number}"), ""))
    });
}

#[test]
fn what_is_kept_in_memory_is_bounded() {
    bounded("metadata_bytes", 800, 900, || {
        (0..3).fold(tar(), |maker, number| {
            maker
                .pax(b'x', &[("SCHILY.xattr.user.a", &[b'x'; 200])])
                .symlink(&format!("s{number}"), &"t".repeat(80))
        })
    });
}

#[test]
fn how_far_a_stream_expands_is_bounded() {
    let env = TestEnv::empty();
    let bytes = tar().file("f", &"0".repeat(3 << 20)).end();
    let sources = [
        layout(&env, "gzip", OciImage::of_stored(&[(bytes.clone(), stored::gzip(&bytes))])),
        layout(&env, "zstd", OciImage::of_stored(&[(bytes.clone(), stored::zstd(&bytes))])),
        format!("tar:{}", env.file("root.tar.xz", stored::xz(&bytes)).display()),
        format!("tar:{}", env.file("root.tar.bz2", stored::bzip2(&bytes)).display()),
        format!(
            "oci-archive:{}",
            env.file("oci.tar.gz", stored::gzip(&OciImage::of(&[bytes]).archive())).display()
        ),
    ];
    for source in sources {
        let limits = ["--limit", "expansion_ratio=20", "--limit", "ratio_free_bytes=1M"];
        let said = env.fails(125, &[&["import", source.as_str()][..], &limits].concat());
        assert!(said.contains("is above the limit 20 of `expansion_ratio`"), "{source}: {said}");
        env.ok(&["import", &source, "--limit", "expansion_ratio=20", "--limit", "ratio_free_bytes=4M"]);
        drop(std::fs::remove_dir_all(env.store()));
    }
}

#[test]
fn indexes_are_bounded_in_depth_and_number() {
    let env = TestEnv::empty();
    let sealed = OciImage::of(&[tar().file("a", "a").end()]).seal();
    let deep = nested(sealed.clone(), 3);
    let mut wide = sealed.clone();
    wide.index = super::made::layout::index_of(&vec![sealed.descriptor(); 20]);
    for (image, limit, refused) in [(deep, "index_depth", 2), (wide, "index_manifests", 19)] {
        let archive = env.file("archive.tar", image.clone().archive());
        for source in [layout(&env, "layout", image), format!("oci-archive:{}", archive.display())] {
            let said = env.fails(125, &["import", &source, "--limit", &format!("{limit}={refused}")]);
            assert!(said.contains(&format!("is above the limit {refused} of `{limit}`")), "{said}");
            env.ok(&["import", &source, "--limit", &format!("{limit}={}", refused + 1)]);
        }
    }
}

#[test]
fn layers_are_bounded() {
    let env = TestEnv::empty();
    let layer = tar().file("a", "a").end();
    let layers = vec![layer.clone(); 4];
    let config = OciImage::of(&layers).config.to_string();
    let manifest = json!([{"Config": "c.json", "Layers": ["l.tar", "l.tar", "l.tar", "l.tar"]}]).to_string();
    let docker = tar()
        .bytes("l.tar", &layer)
        .bytes("c.json", config.as_bytes())
        .bytes("manifest.json", manifest.as_bytes())
        .end();
    let docker = format!("docker-archive:{}", env.file("docker.tar", docker).display());
    for source in [layout(&env, "layout", OciImage::of(&layers)), docker] {
        let said = env.fails(125, &["import", &source, "--limit", "layers=3"]);
        assert!(said.contains("is above the limit 3 of `layers`"), "{said}");
        env.ok(&["import", &source, "--limit", "layers=4"]);
    }
}

#[test]
fn documents_are_bounded_each_by_itself() {
    let env = TestEnv::empty();
    let padding = json!("x".repeat(20_000));
    let image = || OciImage::of(&[tar().file("a", "a").end()]);
    let with = |part: &str| {
        let mut made = image();
        match part {
            "index.json" => {
                made = made.seal();
                made.index["padding"] = padding.clone();
            }
            "config" => made.config["padding"] = padding.clone(),
            _ => made.manifest["padding"] = padding.clone(),
        }
        made
    };
    let config = with("config").config.to_string();
    let layer = tar().file("a", "a").end();
    let docker = |config: &str, manifest: &serde_json::Value| {
        let archive = tar()
            .bytes("l.tar", &layer)
            .bytes("c.json", config.as_bytes())
            .bytes("manifest.json", manifest.to_string().as_bytes())
            .end();
        format!("docker-archive:{}", env.file(&format!("docker-{}.tar", config.len()), archive).display())
    };
    let plain = json!([{"Config": "c.json", "Layers": ["l.tar"]}]);
    let padded = json!([{"Config": "c.json", "Layers": ["l.tar"], "padding": padding}]);
    let sources = [
        layout(&env, "index", with("index.json")),
        layout(&env, "manifest", with("manifest")),
        layout(&env, "config", with("config")),
        docker(&config, &plain),
        docker(&image().config.to_string(), &padded),
    ];
    for source in sources {
        let said = env.fails(125, &["import", &source, "--limit", "manifest_bytes=10000"]);
        assert!(said.contains("is above the limit 10000 of `manifest_bytes`"), "{source}: {said}");
        env.ok(&["import", &source, "--limit", "manifest_bytes=30K"]);
    }
}

#[test]
fn the_window_of_zstd_is_bounded() {
    let env = TestEnv::empty();
    let bytes = tar().file("f", &"0123456789".repeat(100_000)).end();
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(23).unwrap();
    std::io::Write::write_all(&mut encoder, &bytes).unwrap();
    let packed = encoder.finish().unwrap();
    let archive = {
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(23).unwrap();
        std::io::Write::write_all(&mut encoder, &OciImage::of(std::slice::from_ref(&bytes)).archive())
            .unwrap();
        encoder.finish().unwrap()
    };
    let sources = [
        layout(&env, "layout", OciImage::of_stored(&[(bytes, packed.clone())])),
        format!("tar:{}", env.file("root.tar.zst", packed).display()),
        format!("oci-archive:{}", env.file("oci.tar.zst", archive).display()),
    ];
    for source in sources {
        let said = env.fails(125, &["import", &source, "--limit", "zstd_window_log=20"]);
        assert!(said.contains("zstd"), "{source}: {said}");
        env.ok(&["import", &source, "--limit", "zstd_window_log=23"]);
    }
}

#[test]
fn the_bounds_are_named_in_the_help_and_a_wrong_name_is_told() {
    let env = TestEnv::empty();
    let said = env.fails(2, &["import", "host", "--limit", "wishes=3"]);
    for name in treebox::Limits::NAMES {
        assert!(said.contains(name), "{name}: {said}");
    }
    env.fails(2, &["import", "host", "--limit", "entries"]);
    env.fails(2, &["import", "host", "--limit", "entries=many"]);
    let help = env.ok(&["import", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for name in treebox::Limits::NAMES {
        assert!(help.contains(name), "{name}: {help}");
    }
}
