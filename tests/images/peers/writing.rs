//! What treebox exports is what it imports again, and what other tools accept.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use treebox::blocking::{Engine, State};
use treebox::{
    Command, Compression, CopySource, ExportOptions, ExportTarget, ImportOptions, ImportSource, Layering,
    TreePath,
};

use super::compare::{Exactness, assert_same};
use super::layer::{Item, Layer};
use super::made;
use super::reading::{engine, import, import_alone};
use super::tools::{Bench, is_root};

/// Steps that make something of each kind of change to the image `everything` and what `changes` left of it.
const FIRST_STEP: &str = "cd /all; rm turned; mkdir turned; echo x > turned/file; rm -r zeros; ln one two";
const SECOND_STEP: &str = "cd /all; rm -r opaque; mkdir opaque; echo new > opaque/new; ln one five; chmod 751 kept; \
    touch -d 2001-02-03 big; mv two moved; echo more >> turned/file";

fn export(engine: &Engine, state: &State, target: &str, options: &ExportOptions) -> Option<String> {
    let exported = engine.export(state, &ExportTarget::parse(target).unwrap(), options);
    let exported = exported.unwrap_or_else(|error| panic!("{target}: {error}"));
    assert_eq!(exported.skipped, [], "{target}");
    exported.manifest
}

/// A state two steps above an image of two layers.
fn stepped(bench: &Bench, engine: &Engine) -> State {
    made::of_layers(bench, "base", vec![made::everything(), made::changes()]);
    let base = import(engine, &format!("oci:{}:it", bench.path("base").display()));
    let step = |state: &State, text: &str| {
        let outcome = state.run(&Command::shell(text)).unwrap();
        assert!(outcome.success(), "{text}: {}", String::from_utf8_lossy(&outcome.stderr));
        outcome.state().clone()
    };
    step(&step(&base, FIRST_STEP), SECOND_STEP)
}

fn one_layer() -> ExportOptions {
    ExportOptions::new().layering(Layering::One)
}

fn layers() -> ExportOptions {
    ExportOptions::new().layering(Layering::PerCommit)
}

/// The digest of the image `tag` of a layout.
fn manifest_digest(layout: &Path, tag: &str) -> String {
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap().iter();
    let mut named = manifests.filter(|one| one["annotations"]["org.opencontainers.image.ref.name"] == tag);
    named.next().unwrap()["digest"].as_str().unwrap().to_owned()
}

#[test]
fn an_unchanged_image_goes_out_with_the_digest_it_came_in_with() {
    let bench = Bench::new();
    let engine = engine(&bench);
    made::of_layers(&bench, "gzip", vec![made::everything(), made::changes(), made::more_changes()]);
    bench.skopeo_copy(&["--dest-compress-format", "zstd"], "oci:gzip:it", "oci:zstd:it");
    bench.skopeo_copy(&[], "oci:gzip:it", "docker-archive:docker.tar:it:1");
    bench.skopeo_copy(
        &["--dest-oci-accept-uncompressed-layers"],
        "docker-archive:docker.tar",
        "oci:plain:it",
    );
    for name in ["gzip", "zstd", "plain"] {
        let layout = bench.path(name);
        let state = import(&engine, &format!("oci:{}:it", layout.display()));
        let out = bench.path(&format!("{name}-out"));
        let digest = export(&engine, &state, &format!("oci:{}:it", out.display()), &ExportOptions::new());
        assert_eq!(digest.as_ref(), Some(&manifest_digest(&layout, "it")), "{name}");
        assert_eq!(digest, Some(manifest_digest(&out, "it")));
        // Every blob of it is there, and the same.
        for blob in std::fs::read_dir(out.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let theirs = std::fs::read(layout.join("blobs/sha256").join(blob.file_name())).unwrap();
            assert!(std::fs::read(blob.path()).unwrap() == theirs, "{name} {:?}", blob.file_name());
        }
        let again = import_alone(&bench, &format!("oci:{}:it", out.display()));
        assert_eq!((again.id(), again.tree()), (state.id(), state.tree()), "{name}");
    }
}

#[test]
fn every_form_that_is_exported_is_the_same_tree_when_it_is_imported() {
    let bench = Bench::new();
    let engine = engine(&bench);
    let state = stepped(&bench, &engine);
    for (layering, options) in [("one", one_layer()), ("layers", layers())] {
        for (number, compression) in
            [None, Some(Compression::None), Some(Compression::ZSTD)].into_iter().enumerate()
        {
            let mut options = options.clone();
            options.compression = compression;
            for kind in ["oci", "oci-archive", "docker-archive", "tar"] {
                let at = format!("{kind}:{}", bench.path(&format!("{layering}-{kind}-{number}")).display());
                export(&engine, &state, &at, &options);
                let again = import_alone(&bench, &at);
                assert_eq!(again.tree(), state.tree(), "{at}");
                if kind != "tar" {
                    assert_eq!(again.config().env, state.config().env, "{at}");
                    assert_eq!(again.config().cmd, state.config().cmd, "{at}");
                }
            }
        }
    }
}

#[test]
fn what_is_exported_is_what_umoci_unpacks_and_skopeo_copies() {
    let bench = Bench::new();
    let engine = engine(&bench);
    let state = stepped(&bench, &engine);
    for (name, options, count) in [("one", one_layer(), 1), ("layers", layers(), 4)] {
        let digest = export(&engine, &state, &format!("oci:{}:it", bench.path(name).display()), &options);
        let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
        let (image, bundle) = (format!("{name}:it"), format!("{name}-umoci"));
        bench.run("umoci", &[&["unpack"], rootless, &["--image", &image, &bundle]].concat());
        assert_same(&engine, &state, &bench.path(&bundle).join("rootfs"), Exactness::of_this_user());

        let inspected: Value =
            serde_json::from_slice(&bench.run("skopeo", &["inspect", &format!("oci:{name}:it")])).unwrap();
        assert_eq!(inspected["Digest"].as_str(), digest.as_deref());
        assert_eq!(inspected["Layers"].as_array().unwrap().len(), count, "{inspected}");
        assert_eq!(inspected["Env"][0], "A=1 2");
        for kind in ["docker-archive", "dir"] {
            bench.skopeo_copy(&[], &format!("oci:{name}:it"), &format!("{kind}:{name}-{kind}"));
            bench.skopeo_copy(&[], &format!("{kind}:{name}-{kind}"), &format!("oci:{name}-{kind}-back:it"));
            let back = bench.path(&format!("{name}-{kind}-back"));
            assert_eq!(
                import_alone(&bench, &format!("oci:{}:it", back.display())).tree(),
                state.tree(),
                "{kind}"
            );
        }
        // And what treebox writes as an archive, skopeo reads.
        for kind in ["docker-archive", "oci-archive"] {
            let file = bench.path(&format!("{name}.{kind}"));
            export(&engine, &state, &format!("{kind}:{}", file.display()), &options);
            bench.skopeo_copy(&[], &format!("{kind}:{name}.{kind}"), &format!("oci:{name}-{kind}-read:it"));
            let read = bench.path(&format!("{name}-{kind}-read"));
            assert_eq!(
                import_alone(&bench, &format!("oci:{}:it", read.display())).tree(),
                state.tree(),
                "{kind}"
            );
        }
    }
}

#[test]
fn podman_and_buildah_take_what_is_exported() {
    let bench = Bench::new();
    let engine = engine(&bench);
    // What they unpack without privileges may hold neither devices nor many owners.
    let dir = bench.path("root");
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", dir.join("bin/sh")).unwrap();
    let base = import(&engine, &format!("dir:{}", dir.display()));
    let step = |state: &State, text: &str| state.run(&Command::shell(text)).unwrap().state().clone();
    let first =
        step(&base, "mkdir /gone /kept; echo 1 > /gone/file; echo 2 > /kept/file; ln /kept/file /kept/link");
    let state = step(&first, "rm -r /gone; echo 3 > /kept/file; mkdir -p /deep/er; chmod 700 /deep");
    for (name, options) in [("one", one_layer()), ("layers", layers())] {
        export(
            &engine,
            &state,
            &format!("oci:{}:it", bench.path(&format!("{name}-oci")).display()),
            &options,
        );
        // They make an image name of the path, which the directory for the test would spoil.
        let oci = format!("oci:{name}-oci:it");
        for kind in ["docker-archive", "oci-archive"] {
            let target =
                format!("{kind}:{}:localhost/{kind}:it", bench.path(&format!("{name}-{kind}")).display());
            export(&engine, &state, &target, &options);
        }
        let container = match bench.buildah(&["from", &oci]) {
            Ok(container) => container,
            Err(error) if !is_root() => {
                return eprintln!("NOT TESTED: buildah and podman, which this user cannot use here: {error}");
            }
            Err(error) => panic!("{error}"),
        };
        // What buildah makes of the image is what it commits again.
        bench.buildah(&["commit", &container, &format!("oci:{name}-again:it")]).unwrap();
        let again = bench.path(&format!("{name}-again"));
        assert_eq!(
            import_alone(&bench, &format!("oci:{}:it", again.display())).tree(),
            state.tree(),
            "{name}"
        );

        let podman = |args: &[&str]| bench.podman(args).unwrap_or_else(|error| panic!("{args:?}: {error}"));
        podman(&["pull", "--quiet", &oci]);
        for kind in ["docker-archive", "oci-archive"] {
            podman(&["load", "--quiet", "--input", bench.path(&format!("{name}-{kind}")).to_str().unwrap()]);
        }
        let listed = podman(&["images", "--quiet", "--no-trunc"]);
        let ids: std::collections::BTreeSet<&str> = listed.lines().collect();
        assert!(!ids.is_empty());
        for id in ids {
            let inspected: Value = serde_json::from_str(&podman(&["image", "inspect", id])).unwrap();
            let layers = inspected[0]["RootFS"]["Layers"].as_array().unwrap();
            assert_eq!(layers.len(), if name == "one" { 1 } else { 3 }, "{inspected}");
            podman(&[
                "save",
                "--quiet",
                "--format",
                "oci-archive",
                "--output",
                &format!("{name}-saved.tar"),
                id,
            ]);
            let saved = bench.path(&format!("{name}-saved.tar"));
            assert_eq!(
                import_alone(&bench, &format!("oci-archive:{}", saved.display())).tree(),
                state.tree()
            );
            std::fs::remove_file(saved).unwrap();
            podman(&["rmi", "--force", id]);
        }
    }
}

/// Every file below a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(
                self::files(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)),
            );
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn an_export_has_the_same_bytes_in_every_store_for_every_user() {
    // All users who run the tests, on every machine, come to these digests.
    const ONE: &str = "sha256:7be514abdca6a337f5eff27744ecc9dd7932db4d08372fab25271c9799162abd";
    const LAYERS: &str = "sha256:d933bc96481571736ab938e56dc40dec5d7d46c23e089da648889cef204a3074";
    let mut seen: Vec<BTreeMap<String, Vec<u8>>> = Vec::new();
    for _ in 0..2 {
        let bench = Bench::new();
        let engine = engine(&bench);
        let path = |path: &str| TreePath::parse(path.as_bytes()).unwrap();
        made::mixture().write(&bench.path("base.tar"));
        let source = ImportSource::parse(&format!("tar:{}", bench.path("base.tar").display())).unwrap();
        let options = ImportOptions::new().name("it").platform("linux/amd64".parse().unwrap());
        let base = engine.import_with(&source, &options).unwrap().state;
        engine.create_branch("main", &base, false).unwrap();
        let more = Layer::new()
            .with(Item::file("more", "more").owner(7, 8).time(1_700_000_000, 1))
            .with(Item::directory("all/").mode(0o700));
        more.write(&bench.path("more.tar"));
        let mut tar = std::fs::File::open(bench.path("more.tar")).unwrap();
        let state = engine.copy_in(CopySource::Tar(&mut tar), "main", &path("/")).unwrap().state;
        for (name, options, expected) in [("one", one_layer(), ONE), ("layers", layers(), LAYERS)] {
            let digest = export(&engine, &state, &format!("oci:{}:it", bench.path(name).display()), &options);
            assert_eq!(digest.as_deref(), Some(expected), "{name}");
        }
        std::fs::create_dir(bench.path("out")).unwrap();
        for compression in ["none", "gzip", "zstd"] {
            for (name, options) in [("one", one_layer()), ("layers", layers())] {
                for kind in ["oci", "oci-archive", "docker-archive", "tar"] {
                    let at = bench.path(&format!("out/{name}-{kind}-{compression}"));
                    let options = options.clone().compression(compression.parse().unwrap());
                    export(&engine, &state, &format!("{kind}:{}", at.display()), &options);
                }
            }
        }
        seen.push(files(&bench.path("out")));
    }
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&seen[0]), names(&seen[1]));
    for (name, bytes) in &seen[0] {
        assert!(*bytes == seen[1][name], "{name} has other bytes the second time");
    }
}
