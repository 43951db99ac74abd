//! Every form of an image gives one tree, and that tree is what umoci unpacks.

use std::path::{Path, PathBuf};

use treebox::blocking::{Engine, State};
use treebox::{Durability, EngineOptions, ImportSource, TreePath};

use super::compare::{Exactness, assert_same};
use super::layer::{Item, Layer};
use super::made;
use super::tools::{Bench, is_root};

/// These stores live for one test: no power cut matters to them, and a sync waits for all that the tools wrote.
fn open(store: &Path) -> Engine {
    let options = EngineOptions::at(store).durability(Durability::Batch);
    Engine::open(options.worker(crate::support::treebox())).unwrap()
}

pub(super) fn engine(bench: &Bench) -> Engine {
    open(&bench.path("store"))
}

pub(super) fn import(engine: &Engine, source: &str) -> State {
    engine
        .import(&ImportSource::parse(source).unwrap(), Some("it"))
        .unwrap_or_else(|error| panic!("{source}: {error}"))
        .state
}

/// Imports the image `it` of a layout in a store of its own.
pub(super) fn import_alone(bench: &Bench, source: &str) -> State {
    let store = tempfile::tempdir_in(bench.path("")).unwrap();
    import(&open(&store.path().join("store")), source)
}

/// The image `it` of the layout `name`: what umoci unpacks is in `name-umoci/rootfs` afterwards.
fn assert_read_as_umoci_unpacks(bench: &Bench, engine: &Engine, name: &str) -> State {
    let state = import(engine, &format!("oci:{}:it", bench.path(name).display()));
    let (image, bundle) = (format!("{name}:it"), format!("{name}-umoci"));
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    bench.run("umoci", &[&["unpack"], rootless, &["--image", &image, &bundle]].concat());
    assert_same(engine, &state, &bench.path(&bundle).join("rootfs"), Exactness::of_this_user());
    state
}

/// Other forms of the same image have the same tree. Every import is into an empty store.
fn assert_every_form_is_one_tree(bench: &Bench, name: &str, state: &State) {
    let forms = Forms { bench, name, state };
    forms.same("oci-archive", &forms.copy(&[], "oci-archive", "gzip.oci.tar"));
    forms.same("oci", &forms.copy(&["--dest-compress-format", "zstd"], "oci", "zstd"));
    let docker = forms.copy(&[], "docker-archive", "docker.tar");
    forms.same("docker-archive", &docker);
    let plain = ["--dest-oci-accept-uncompressed-layers"];
    bench.skopeo_copy(&plain, &format!("docker-archive:{}", docker.display()), &format!("oci:{name}-plain"));
    forms.same("oci", &forms.at("plain"));
    bench.skopeo_copy(&[], &format!("oci:{name}:it"), &format!("dir:{name}-dir"));
    bench.skopeo_copy(&[], &format!("dir:{name}-dir"), &format!("oci-archive:{name}-from-dir"));
    forms.same("oci-archive", &forms.at("from-dir"));
    bench.shell(&format!(
        "gzip -1 -k {name}-docker.tar; zstd -q -1 {name}-gzip.oci.tar -o {name}-zstd.oci.tar"
    ));
    forms.same("docker-archive", &forms.at("docker.tar.gz"));
    forms.same("oci-archive", &forms.at("zstd.oci.tar"));
    forms.root_file_system(&["tar", "tar.gz", "tar.zst", "tar.xz"]);
}

/// As many forms as there are kinds of them: for what is large.
fn assert_chosen_forms_are_one_tree(bench: &Bench, name: &str, state: &State) {
    let forms = Forms { bench, name, state };
    forms.same("oci", &forms.copy(&["--dest-compress-format", "zstd"], "oci", "zstd"));
    forms.same("docker-archive", &forms.copy(&[], "docker-archive", "docker.tar"));
    forms.root_file_system(&["tar.gz"]);
}

struct Forms<'f> {
    bench: &'f Bench,
    name: &'f str,
    state: &'f State,
}

impl Forms<'_> {
    fn at(&self, form: &str) -> PathBuf {
        self.bench.path(&format!("{}-{form}", self.name))
    }

    fn copy(&self, options: &[&str], kind: &str, form: &str) -> PathBuf {
        let name = self.name;
        self.bench.skopeo_copy(options, &format!("oci:{name}:it"), &format!("{kind}:{name}-{form}"));
        self.at(form)
    }

    fn same(&self, source: &str, archive: &Path) {
        let read = import_alone(self.bench, &format!("{source}:{}", archive.display()));
        assert_eq!(read.tree(), self.state.tree(), "{source} {}", archive.display());
        if !matches!(source, "tar" | "dir") {
            assert_eq!(read.config().env, self.state.config().env, "{source}");
        }
    }

    /// What umoci unpacked, read as it lies there and packed by GNU tar. Without root it lacks the owners.
    fn root_file_system(&self, endings: &[&str]) {
        if !is_root() {
            return;
        }
        let (name, rootfs) = (self.name, self.bench.path(&format!("{}-umoci", self.name)).join("rootfs"));
        let options = "--xattrs --xattrs-include='*' --numeric-owner --format=pax";
        self.bench.shell(&format!("tar {options} -cf {name}.tar -C {} .", rootfs.display()));
        self.bench.shell(&format!("gzip -1 -k {name}.tar; zstd -q -1 {name}.tar; xz -0 -k {name}.tar"));
        for ending in endings {
            self.same("tar", &self.bench.path(&format!("{name}.{ending}")));
        }
        self.same("dir", &rootfs);
    }
}

#[test]
fn an_extended_attribute_with_no_value_is_kept_as_gnu_tar_keeps_it() {
    // umoci drops it: Go's tar reader takes an empty pax record as one that was deleted.
    let bench = Bench::new();
    let layer =
        Layer::new().with(Item::directory("./").mode(0o755)).with(Item::file("f", "x").xattr("user.z", ""));
    layer.write(&bench.path("f.tar"));
    bench.shell("mkdir root; tar --xattrs --xattrs-include='*' -xpf f.tar -C root");
    let engine = engine(&bench);
    let state = import(&engine, &format!("tar:{}", bench.path("f.tar").display()));
    assert_same(&engine, &state, &bench.path("root"), Exactness::of_this_user());
    assert!(
        engine
            .entry(&state, &TreePath::parse(b"/f").unwrap())
            .unwrap()
            .entry
            .meta
            .xattrs
            .get(b"user.z")
            .is_some()
    );
}

#[test]
fn busybox_by_umoci_is_read_as_umoci_unpacks_it() {
    let bench = Bench::new();
    made::of_layers(&bench, "busybox", vec![made::busybox()]);
    let state = assert_read_as_umoci_unpacks(&bench, &engine(&bench), "busybox");
    assert_eq!(state.config().env, ["A=1 2"]);
    assert_every_form_is_one_tree(&bench, "busybox", &state);
}

#[test]
fn layers_that_delete_replace_and_link_are_read_as_umoci_unpacks_them() {
    let bench = Bench::new();
    let layers = vec![made::everything(), made::changes(), made::more_changes()];
    made::of_layers(&bench, "layers", layers);
    let state = assert_read_as_umoci_unpacks(&bench, &engine(&bench), "layers");
    assert_every_form_is_one_tree(&bench, "layers", &state);
}

#[test]
fn what_umoci_packs_after_changes_is_read_as_umoci_unpacks_it() {
    let bench = Bench::new();
    let engine = engine(&bench);
    made::of_layers(&bench, "packed", vec![made::everything()]);
    let rootless = if is_root() { "" } else { "--rootless" };
    bench.shell(&format!(
        "umoci unpack {rootless} --image packed:it bundle; cd bundle/rootfs
        rm -r all/old all/su; rm -r all/opaque; mkdir all/opaque; echo new > all/opaque/new
        ln all/one all/three; ln bin/busybox bin/more; rm all/turned/file; rmdir all/turned; echo file > all/turned
        rm all/zeros; mkdir all/zeros; chmod 751 all/kept; touch -d '2001-02-03 04:05:06.789012345' all/big
        cd ../..; umoci repack --image packed:it bundle"
    ));
    let state = assert_read_as_umoci_unpacks(&bench, &engine, "packed");
    assert_every_form_is_one_tree(&bench, "packed", &state);
}

#[test]
fn what_buildah_commits_is_read_as_umoci_unpacks_it() {
    let bench = Bench::new();
    let engine = engine(&bench);
    made::busybox().write(&bench.path("busybox.tar"));
    let container = match bench.buildah(&["from", "scratch"]) {
        Ok(container) => container,
        Err(error) if !is_root() => {
            return eprintln!("NOT TESTED: buildah, which this user cannot use here: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    let buildah = |args: &[&str]| bench.buildah(args).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    buildah(&["add", &container, "busybox.tar", "/"]);
    buildah(&["config", "--env", "A=1 2", "--cmd", "/bin/sh", &container]);
    buildah(&["commit", &container, "oci:one:it"]);
    let one = assert_read_as_umoci_unpacks(&bench, &engine, "one");
    assert_every_form_is_one_tree(&bench, "one", &one);
    let base = buildah(&["commit", &container]);
    let container = buildah(&["from", &base]);
    let script = "cd /; rm etc/passwd bin/chown; rm -r tmp; mkdir -m 1777 tmp; echo hi > tmp/new; ln bin/busybox usr/bin/busy; \
                  mv usr/bin/env usr/bin/env2; chmod 700 var; mkdir -p deep/er; ln tmp/new deep/er/new";
    match bench.buildah(&["run", &container, "--", "/bin/sh", "-ec", script]) {
        Err(error) if !is_root() => {
            return eprintln!("NOT TESTED: a step of buildah, which this user cannot run here: {error}");
        }
        ran => ran.unwrap(),
    };
    buildah(&["commit", &container, "oci:two:it"]);
    let two = assert_read_as_umoci_unpacks(&bench, &engine, "two");
    assert_every_form_is_one_tree(&bench, "two", &two);
}

#[test]
fn debian_is_read_as_umoci_unpacks_it() {
    let bench = Bench::new();
    made::by_umoci(&bench, "debian", &[made::debian()]);
    let state = assert_read_as_umoci_unpacks(&bench, &engine(&bench), "debian");
    assert_chosen_forms_are_one_tree(&bench, "debian", &state);
    // The archive itself has the same entries.
    let read = import_alone(&bench, &format!("tar:{}", made::debian().display()));
    assert_eq!(read.tree(), state.tree());
}

#[test]
#[ignore = "an image of 1.2 GB with 61 000 entries takes minutes and 8 GB of disk: cargo test -- --ignored a_large_image"]
fn a_large_image_is_read_as_umoci_unpacks_it() {
    let bench = Bench::new();
    let path = bench.path("large.tar");
    made::altered_copies(&path, 6);
    made::by_umoci(&bench, "large", &[&path]);
    let state = assert_read_as_umoci_unpacks(&bench, &engine(&bench), "large");
    assert_chosen_forms_are_one_tree(&bench, "large", &state);
    let read = import_alone(&bench, &format!("tar:{}", path.display()));
    assert_eq!(read.tree(), state.tree());
}
