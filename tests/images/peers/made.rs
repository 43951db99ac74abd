//! The images that are read, each as an OCI layout that another tool wrote.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tar::{Archive, Builder, EntryType, Header};

use super::layer::{Item, Layer};
use super::tools::{Bench, is_root};

const PROGRAM: &str = "/bin/busybox";
/// What `setcap cap_net_raw+ep` writes: version 2, effective; permitted bit 13.
const MAY_PING: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn directories(layer: &mut Layer, paths: &[&str]) {
    for path in paths {
        layer.add(Item::directory(path));
    }
}

/// A root file system of busybox: one file with many names.
pub(super) fn busybox() -> Layer {
    let program = std::fs::read(PROGRAM).expect("these tests need the package busybox-static");
    let mut layer = Layer::new();
    directories(
        &mut layer,
        &["./", "bin/", "etc/", "tmp/", "dev/", "proc/", "sys/", "var/", "usr/", "usr/bin/"],
    );
    layer.add(Item::file("bin/busybox", program).mode(0o755));
    for name in ["sh", "rm", "mkdir", "ln", "mv", "cat", "chmod", "chown", "touch", "cp"] {
        // Some tools give the file the mode that a hard link's header has.
        layer.add(Item::hard_link(format!("bin/{name}"), "bin/busybox").mode(0o755));
    }
    layer.add(Item::symlink("usr/bin/env", "../../bin/busybox"));
    layer.add(Item::file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"));
    layer
}

/// Everything that a layer can hold, below `all/`.
pub(super) fn everything() -> Layer {
    add_everything(busybox())
}

/// The same without programs, which are others on every machine.
pub(super) fn mixture() -> Layer {
    add_everything(Layer::new().with(Item::directory("./")))
}

fn add_everything(mut layer: Layer) -> Layer {
    directories(
        &mut layer,
        &["all/", "all/old/", "all/opaque/", "all/opaque/deep/", "all/kept/", "all/turned/"],
    );
    layer.add(Item::directory("all/sticky/").mode(0o1777));
    layer.add(Item::directory("all/closed/").mode(0o700).owner(33, 33));
    layer.add(Item::directory("all/group/").mode(0o2775).owner(0, 50));
    for (number, name) in
        ["old/file", "opaque/file", "opaque/deep/file", "kept/file", "turned/file"].iter().enumerate()
    {
        layer.add(Item::file(format!("all/{name}"), format!("{number} {name}\n")));
    }
    layer.add(Item::file("all/su", "set-user-id").mode(0o4755));
    layer.add(Item::file("all/ping", "may ping").mode(0o755).xattr("security.capability", MAY_PING));
    layer.add(Item::file("all/attributes", "x").xattr("user.a", b"1\n22 user.b=2\n\0\xff"));
    layer.add(Item::directory("all/attributes.d/").xattr("user.of", "a directory"));
    layer.add(Item::file("all/others", "").mode(0o604).owner(2_000_000, 3_000_000));
    layer.add(Item::file("all/old-time", "before 1970").time(-86_401, 0));
    layer.add(Item::file("all/far-time", "after 2038").time(5_000_000_000, 999_999_999));
    layer.add(Item::file("all/no-time", "").time(0, 1));
    layer.add(Item::file(
        "all/big",
        (0..3_000_000u32).flat_map(|n| (n % 251 * 7).to_le_bytes()).collect::<Vec<u8>>(),
    ));
    layer.add(Item::file("all/zeros", vec![0; 300_000]));
    layer.add(Item::symlink("all/dangling", "/nowhere/at/all"));
    layer.add(Item::symlink("all/to-directory", "kept"));
    layer.add(Item::fifo("all/fifo"));
    layer.add(Item::device("all/null", EntryType::Char, 1, 3));
    layer.add(Item::device("all/loop", EntryType::Block, 7, 300));
    layer.add(Item::file("all/one", "one of two"));
    layer.add(Item::hard_link("all/closed/two", "all/one"));
    layer.add(Item::file(b"all/not \xff utf-8\n\t", "its name is bytes"));
    layer.add(Item::file(format!("all/{}", "n".repeat(255)), "the longest name"));
    let deep = (0..40).fold("all".to_owned(), |path, n| {
        let path = format!("{path}/directory-{n}");
        layer.add(Item::directory(format!("{path}/")));
        path
    });
    layer.add(Item::file(format!("{deep}/file"), "deep down"));
    layer
}

/// Hides, replaces and links what `everything` has.
pub(super) fn changes() -> Layer {
    Layer::new()
        // Whiteouts may stand after what they must not hide.
        .with(Item::file("all/opaque/new", "in the opaque directory"))
        .with(Item::opaque("all/opaque"))
        .with(Item::whiteout("all/old"))
        .with(Item::whiteout("all/su"))
        .with(Item::whiteout("all/never-there"))
        // Over lower things: a file by a directory, a directory by a file, a link by a file, attributes alone.
        .with(Item::whiteout("all/zeros"))
        .with(Item::directory("all/zeros/").mode(0o711))
        .with(Item::file("all/zeros/inside", "a directory now"))
        .with(Item::file("all/turned", "a file now"))
        .with(Item::file("all/dangling", "no link now"))
        .with(Item::directory("all/kept/").mode(0o751).owner(5, 6))
        .with(Item::directory("all/attributes.d/"))
        // A hard link to what only a lower layer has, and one that leaves its group.
        .with(Item::hard_link("all/three", "all/one"))
        .with(Item::hard_link("bin/more", "/bin/busybox").mode(0o755))
        .with(Item::file("bin/cp", "a file of its own"))
        .with(Item::file("all/implied/parents/file", "no entry for its directories").time(1_600_000_000, 5))
        .with(Item::directory("all/implied/parents/"))
        .with(Item::directory("all/implied/"))
        // Tools write a directory whose entries changed; where none is written, umoci leaves the time of unpacking behind.
        .with(Item::directory("all/"))
}

/// Once more on top: what the second layer did is changed again.
pub(super) fn more_changes() -> Layer {
    Layer::new()
        .with(Item::directory("all/old/"))
        .with(Item::file("all/old/file", "back again"))
        .with(Item::whiteout("all/opaque/new"))
        .with(Item::whiteout("all/one"))
        .with(Item::opaque("all/implied"))
        .with(Item::directory("all/implied/").mode(0o700))
        .with(Item::hard_link("all/four", "all/closed/two"))
        .with(Item::fifo("all/fifo").mode(0o666))
        .with(Item::directory("all/closed/").mode(0o701))
        .with(Item::directory("all/"))
}

/// An OCI layout with one image by umoci, tag `it`, of these archives.
pub(super) fn by_umoci(bench: &Bench, name: &str, layers: &[&Path]) {
    bench.run("umoci", &["init", "--layout", name]);
    let image = format!("{name}:it");
    bench.run("umoci", &["new", "--image", &image]);
    for layer in layers {
        bench.run("umoci", &["raw", "add-layer", "--image", &image, layer.to_str().unwrap()]);
    }
    let config = ["config", "--image", &image, "--config.env", "A=1 2", "--config.workingdir", "/tmp"];
    bench.run("umoci", &[&config[..], &["--config.cmd", "/bin/sh"]].concat());
}

/// The same of layers that were written by hand.
pub(super) fn of_layers(bench: &Bench, name: &str, layers: Vec<Layer>) {
    let count = layers.len();
    let paths: Vec<PathBuf> = (0..count).map(|n| bench.path(&format!("{name}-{n}.layer"))).collect();
    for (layer, path) in layers.into_iter().zip(&paths) {
        layer.write(path);
    }
    by_umoci(bench, name, &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
}

/// Debian's smallest root file system as an archive. `.ci/test` makes it once for all users and says where in `TREEBOX_TEST_DEBIAN`.
pub(super) fn debian() -> &'static Path {
    static MADE: OnceLock<(PathBuf, Option<tempfile::TempDir>)> = OnceLock::new();
    let (path, _) = MADE.get_or_init(|| {
        if let Some(path) = std::env::var_os("TREEBOX_TEST_DEBIAN") {
            return (path.into(), None);
        }
        let bench = Bench::new();
        let mode = if is_root() { "--mode=root" } else { "--mode=unshare" };
        bench.run("mmdebstrap", &["--quiet", mode, "--variant=minbase", "bookworm", "debian.tar"]);
        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().join("debian.tar");
        std::fs::rename(bench.path("debian.tar"), &path).unwrap();
        (path, Some(kept))
    });
    path
}

/// An archive of Debian's root file system, and below `copy1/` and so on of copies of it in which every file is another.
pub(super) fn altered_copies(path: &Path, copies: u32) {
    let mut out = Builder::new(BufWriter::new(File::create(path).unwrap()));
    for copy in 0..=copies {
        let mut archive = Archive::new(BufReader::new(File::open(debian()).unwrap()));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let below = |name: &[u8]| match copy {
                0 => name.to_vec(),
                _ => [format!("copy{copy}/").as_bytes(), name].concat(),
            };
            let mut pax: Vec<(String, Vec<u8>)> = vec![("path".into(), below(&entry.path_bytes()))];
            if let Some(link) = entry.link_name_bytes() {
                let is_hard = entry.header().entry_type().is_hard_link();
                pax.push(("linkpath".into(), if is_hard { below(&link) } else { link.to_vec() }));
            }
            for record in entry.pax_extensions().unwrap().into_iter().flatten() {
                let record = record.unwrap();
                let key = record.key().unwrap();
                if !matches!(key, "path" | "linkpath" | "size") {
                    pax.push((key.to_owned(), record.value_bytes().to_vec()));
                }
            }
            let mut header = entry.header().clone();
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            if copy > 0 && !body.is_empty() {
                body.extend_from_slice(copy.to_string().as_bytes());
            }
            header.set_size(body.len() as u64);
            header.set_cksum();
            out.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
                .unwrap();
            out.append(&header, body.as_slice()).unwrap();
        }
    }
    // Once more, for its entries changed: umoci leaves the time of unpacking behind otherwise.
    let mut top = Header::new_ustar();
    top.set_entry_type(EntryType::Directory);
    top.set_path("./").unwrap();
    top.set_mode(0o755);
    top.set_mtime(1_700_000_000);
    top.set_uid(0);
    top.set_gid(0);
    top.set_size(0);
    top.set_cksum();
    out.append(&top, std::io::empty()).unwrap();
    out.into_inner().unwrap().flush().unwrap();
}
