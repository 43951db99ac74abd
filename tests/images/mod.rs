//! Images in and out: what must come of images that others got wrong, of images made to mislead, and of registries.

mod limits;
mod peers;
mod platforms;
mod registry;
mod running;
mod tars;
mod traps;

/// The makers of images, which the tests of `src/oci` use too.
#[path = "../../fixtures/images/mod.rs"]
pub mod made;

use std::path::{Path, PathBuf};

use treebox::blocking::{Engine, State};
use treebox::object::{Node, TreePath};
use treebox::{EngineOptions, ImportSource};

use crate::support::TestEnv;
use made::layout::OciImage;
use made::trap::{Image, shown};

fn engine(env: &TestEnv) -> Engine {
    Engine::open(EngineOptions::at(env.store()).worker(crate::support::treebox())).unwrap()
}

/// Writes an image below the home; gives the source that names it.
fn placed(env: &TestEnv, image: &Image) -> String {
    let file = |name: &str, bytes: &[u8]| env.file(name, bytes).display().to_string();
    match image {
        Image::Layers(layers) => layout(env, "layout", OciImage::of(layers)),
        Image::Layout(image) => layout(env, "layout", image.clone()),
        Image::OciArchive(bytes) => format!("oci-archive:{}", file("oci.tar", bytes)),
        Image::DockerArchive(bytes) => format!("docker-archive:{}", file("docker.tar", bytes)),
        Image::Root(bytes) => format!("tar:{}", file("root.tar", bytes)),
    }
}

/// Writes an image as a layout; gives the source that names it.
fn layout(env: &TestEnv, name: &str, image: OciImage) -> String {
    let dir = env.path(name);
    drop(std::fs::remove_dir_all(&dir));
    image.write_layout(&dir);
    format!("oci:{}", dir.display())
}

fn imported(engine: &Engine, source: &str) -> treebox::Result<State> {
    engine.import(&ImportSource::parse(source)?, Some("made")).map(|imported| imported.state)
}

/// A whole tree, a line for each path, sorted: path, kind, mode, owner, time, what it holds, `=N` for the N-th group of hard links, attributes.
fn lines(engine: &Engine, state: &State) -> Vec<String> {
    let mut listed = engine.list(state, &TreePath::root(), true).unwrap();
    listed.push(engine.entry(state, &TreePath::root()).unwrap());
    let mut lines = Vec::new();
    for one in listed {
        let (meta, node) = (&one.entry.meta, &one.entry.node);
        let kind = match node {
            Node::File { .. } => 'f',
            Node::Directory { .. } => 'd',
            Node::Symlink { .. } => 'l',
            Node::Fifo => 'p',
            Node::Socket => 's',
            Node::Char { .. } => 'c',
            Node::Block { .. } => 'b',
        };
        let path = one.path.to_bytes().escape_ascii().to_string();
        let mut line =
            format!("{path} {kind} {:04o} {}:{} {}", meta.mode, meta.uid, meta.gid, meta.mtime.seconds());
        if meta.mtime.nanoseconds() != 0 {
            line += &format!(".{:09}", meta.mtime.nanoseconds());
        }
        let mut group = None;
        match node {
            Node::File { size, link, .. } => {
                let bytes = engine.read_file(state, &one.path).unwrap();
                assert_eq!(bytes.len() as u64, *size, "{path}");
                line += &format!(" {}", shown(&bytes));
                group = *link;
            }
            Node::Symlink { target } => line += &format!(" -> {}", target.escape_ascii()),
            Node::Char { major, minor } | Node::Block { major, minor } => {
                line += &format!(" {major},{minor}")
            }
            _ => {}
        }
        let xattrs = meta.xattrs.iter();
        let xattrs: String = xattrs
            .map(|xattr| format!(" {}=\"{}\"", xattr.name.escape_ascii(), xattr.value.escape_ascii()))
            .collect();
        lines.push((path, line, group, xattrs));
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let mut groups = Vec::new();
    let numbered = lines.into_iter().map(|(_, line, group, xattrs)| match group {
        None => format!("{line}{xattrs}"),
        Some(group) => {
            let at = groups.iter().position(|have| *have == group).unwrap_or_else(|| {
                groups.push(group);
                groups.len() - 1
            });
            format!("{line} ={}{xattrs}", at + 1)
        }
    });
    numbered.collect()
}

/// Everything about what is in a directory of the host, to be compared later.
fn photographed(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = Vec::new();
    let mut todo: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        seen.push(format!(
            "{} {:o} {}:{} {}.{} {} {}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.nlink(),
            content.escape_ascii()
        ));
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    seen.sort();
    seen
}

/// A directory of the host that images try to reach.
fn canary(env: &TestEnv) -> PathBuf {
    env.file("canary/secret", "secret");
    env.file("canary/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    std::os::unix::fs::symlink("secret", env.path("canary/link")).unwrap();
    env.path("canary")
}
