//! Where a loader looks for a library.
//!
//! glibc (`ld.so(8)`): DT_RPATH of the requester and of all above it when the requester has no DT_RUNPATH, its DT_RUNPATH, the cache, the
//! default directories. musl: DT_RUNPATH or DT_RPATH of the requester and of all above it, then `/etc/ld-musl-ARCH.path` or its three
//! default directories. `LD_LIBRARY_PATH` belongs to one caller's environment and is left out.

use std::collections::HashMap;

use super::HostError;
use super::cache::{self, CacheEntry};
use super::elf::Elf;
use super::root::HostRoot;
use crate::object::TreePath;

const CACHE: &[u8] = b"/etc/ld.so.cache";
const MAX_CACHE_BYTES: u64 = 64 * 1024 * 1024;
const MAX_CONF_BYTES: u64 = 1024 * 1024;
/// How deep configuration files may include one another.
const MAX_INCLUDES: u32 = 8;

const MACHINE_386: u16 = 3;
const MACHINE_ARM: u16 = 40;
const MACHINE_AMD64: u16 = 62;
const MACHINE_AARCH64: u16 = 183;
const MACHINE_RISCV: u16 = 243;

/// An object that is loaded: a program or a library of it.
pub(super) struct Object<'e> {
    /// The path it was found by.
    pub(super) path: &'e TreePath,
    /// The path without symlinks.
    pub(super) real: &'e TreePath,
    /// What it needs.
    pub(super) elf: &'e Elf,
}

/// Which loader starts a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loader {
    Glibc,
    /// musl, with the name of the processor in its file names.
    Musl(Vec<u8>),
}

impl Loader {
    /// The loader of that path, as a program names it.
    pub(super) fn of(interpreter: &[u8]) -> Self {
        let name = interpreter.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let arch = name.strip_prefix(b"ld-musl-").and_then(|rest| rest.strip_suffix(b".so.1"));
        arch.map_or(Self::Glibc, |arch| Self::Musl(arch.to_vec()))
    }

    /// Whether musl itself is that library: it never looks for these names.
    pub(super) fn is_itself(&self, library: &[u8]) -> bool {
        let own = [&b"libc."[..], b"libpthread.", b"librt.", b"libm.", b"libdl.", b"libutil.", b"libxnet."];
        matches!(self, Self::Musl(_)) && own.iter().any(|own| library.starts_with(own))
    }
}

/// The places of one host.
#[derive(Debug)]
pub(super) struct Search {
    cache: Option<Vec<CacheEntry>>,
    by_name: HashMap<Vec<u8>, Vec<usize>>,
    /// Directories of `/etc/ld.so.conf`, when there is no cache made of them.
    configured: Vec<Vec<u8>>,
}

impl Search {
    pub(super) fn of(host: &HostRoot) -> Result<Self, HostError> {
        let path = TreePath::parse(CACHE)?;
        let cache = host.read(&path, MAX_CACHE_BYTES)?.and_then(|bytes| cache::parse(&bytes));
        let mut configured = Vec::new();
        if cache.is_none() {
            read_conf(host, b"/etc/ld.so.conf", &mut configured, 0)?;
        }
        let mut by_name: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (at, entry) in cache.iter().flatten().enumerate() {
            by_name.entry(entry.name.clone()).or_default().push(at);
        }
        // Libraries for any processor of the kind before those for newer ones, so that the base runs on both.
        for entries in by_name.values_mut() {
            entries.sort_by_key(|at| cache.as_ref().map(|cache| cache[*at].hardware));
        }
        Ok(Self { cache, by_name, configured })
    }

    /// The cache entries for libraries of which `keep` says so; `None` when the host has no cache.
    pub(super) fn cache_of(&self, keep: impl Fn(&TreePath) -> bool) -> Option<Vec<CacheEntry>> {
        let is_kept = |entry: &&CacheEntry| {
            entry.hardware == 0 && TreePath::parse(&entry.path).is_ok_and(|path| keep(&path))
        };
        Some(self.cache.as_ref()?.iter().filter(is_kept).cloned().collect())
    }

    /// The paths at which the loader would look for a library, the first first.
    ///
    /// `chain` begins with the object that needs it and goes up to the program.
    pub(super) fn candidates(
        &self,
        host: &HostRoot,
        loader: &Loader,
        chain: &[Object<'_>],
        library: &[u8],
    ) -> Result<Vec<TreePath>, HostError> {
        let requester = chain.first().expect("a library is needed by something");
        if library.contains(&b'/') {
            return Ok(expand(library, requester));
        }
        let mut directories = Vec::new();
        match loader {
            Loader::Glibc => {
                if requester.elf.runpath.is_none() {
                    let old = chain.iter().filter(|object| object.elf.runpath.is_none());
                    old.for_each(|object| add_path(object, object.elf.rpath.as_deref(), &mut directories));
                }
                add_path(requester, requester.elf.runpath.as_deref(), &mut directories);
            }
            Loader::Musl(_) => {
                for object in chain {
                    let path = object.elf.runpath.as_deref().or(object.elf.rpath.as_deref());
                    add_path(object, path, &mut directories);
                }
            }
        }
        let mut found = Vec::new();
        let own = TreePath::parse(library)?;
        let in_directory = |directory: &TreePath| -> TreePath {
            let names = directory.names().iter().chain(own.names());
            names.cloned().collect::<Vec<_>>().into()
        };
        found.extend(directories.iter().map(in_directory));
        let defaults = match loader {
            Loader::Glibc => {
                let cached = self.by_name.get(library).into_iter().flatten();
                let cached = cached.filter_map(|at| self.cache.as_ref().map(|cache| &cache[*at].path));
                found.extend(cached.filter_map(|path| TreePath::parse(path).ok()));
                let mut defaults = self.configured.clone();
                defaults.extend(default_directories(requester.elf));
                defaults
            }
            Loader::Musl(arch) => musl_directories(host, arch)?,
        };
        let defaults = defaults.iter().filter_map(|directory| TreePath::parse(directory).ok());
        found.extend(defaults.map(|directory| in_directory(&directory)));
        Ok(found)
    }
}

/// Adds the directories of a DT_RPATH or DT_RUNPATH.
fn add_path(object: &Object<'_>, path: Option<&[u8]>, directories: &mut Vec<TreePath>) {
    for directory in path.unwrap_or_default().split(|byte| *byte == b':') {
        directories.extend(expand(directory, object));
    }
}

/// The paths that text with `$ORIGIN` and `$LIB` may stand for; none when it is relative, as such a path depends on where one stands.
fn expand(text: &[u8], object: &Object<'_>) -> Vec<TreePath> {
    let mut paths = Vec::new();
    // glibc takes the path that a library was opened by, musl and programs the real one.
    for origin in [object.real, object.path] {
        let mut origin = origin.clone();
        origin.pop();
        for library in library_directories(object.elf) {
            let mut out = replace(text, b"ORIGIN", &origin.to_bytes());
            out = replace(&out, b"LIB", library);
            let path = TreePath::parse(&out);
            if let Ok(path) = path
                && out.starts_with(b"/")
                && !out.contains(&b'$')
                && !paths.contains(&path)
            {
                paths.push(path);
            }
        }
    }
    paths
}

fn replace(text: &[u8], token: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..at]);
        let after = &rest[at + 1..];
        let braced =
            after.strip_prefix(b"{").and_then(|t| t.strip_prefix(token)).and_then(|t| t.strip_prefix(b"}"));
        match braced.or_else(|| after.strip_prefix(token)) {
            Some(after) => {
                out.extend_from_slice(with);
                rest = after;
            }
            None => {
                out.push(b'$');
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// What `$LIB` may stand for: Debian's word first, then everybody else's.
fn library_directories(elf: &Elf) -> &'static [&'static [u8]] {
    match (elf.machine.number, elf.machine.wide) {
        (MACHINE_AMD64, true) => &[b"lib/x86_64-linux-gnu", b"lib64", b"lib"],
        (MACHINE_AMD64, false) => &[b"lib/x86_64-linux-gnux32", b"libx32", b"lib"],
        (MACHINE_386, _) => &[b"lib/i386-linux-gnu", b"lib32", b"lib"],
        (MACHINE_AARCH64, _) => &[b"lib/aarch64-linux-gnu", b"lib64", b"lib"],
        (MACHINE_ARM, _) => &[b"lib/arm-linux-gnueabihf", b"lib/arm-linux-gnueabi", b"lib"],
        (MACHINE_RISCV, _) => &[b"lib/riscv64-linux-gnu", b"lib64/lp64d", b"lib64", b"lib"],
        (_, true) => &[b"lib64", b"lib"],
        (_, false) => &[b"lib"],
    }
}

/// The directories that glibc's loader has built in. Libraries of another processor in them are passed over.
fn default_directories(elf: &Elf) -> Vec<Vec<u8>> {
    let names = library_directories(elf).iter();
    names.flat_map(|name| [[b"/", *name].concat(), [b"/usr/", *name].concat()]).collect()
}

fn musl_directories(host: &HostRoot, arch: &[u8]) -> Result<Vec<Vec<u8>>, HostError> {
    let text = host.read(&musl_path_file(arch)?, MAX_CONF_BYTES)?;
    let text = text.unwrap_or_else(|| b"/lib:/usr/local/lib:/usr/lib".to_vec());
    let directories = text.split(|byte| matches!(byte, b':' | b'\n'));
    Ok(directories.filter(|directory| directory.starts_with(b"/")).map(<[u8]>::to_vec).collect())
}

/// The file that tells musl where libraries are.
pub(super) fn musl_path_file(arch: &[u8]) -> Result<TreePath, HostError> {
    Ok(TreePath::parse(&[b"/etc/ld-musl-", arch, b".path"].concat())?)
}

/// Reads the directories of `ld.so.conf`, with what it includes.
fn read_conf(host: &HostRoot, path: &[u8], into: &mut Vec<Vec<u8>>, depth: u32) -> Result<(), HostError> {
    let Ok(path) = TreePath::parse(path) else { return Ok(()) };
    let Some(text) = host.read(&path, MAX_CONF_BYTES)? else { return Ok(()) };
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        let Some(pattern) =
            line.strip_prefix(b"include").filter(|rest| rest.starts_with(b" ") || rest.starts_with(b"\t"))
        else {
            if line.starts_with(b"/") {
                into.push(line.to_vec());
            }
            continue;
        };
        if depth < MAX_INCLUDES {
            for included in glob(host, &path, pattern.trim_ascii())? {
                read_conf(host, &included, into, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// The paths that a pattern names; wildcards may be in its last name. A relative one begins at the directory of `from`.
fn glob(host: &HostRoot, from: &TreePath, pattern: &[u8]) -> Result<Vec<Vec<u8>>, HostError> {
    let mut whole = pattern.to_vec();
    if !pattern.starts_with(b"/") {
        let mut directory = from.clone();
        directory.pop();
        whole = [&directory.to_bytes(), &b"/"[..], pattern].concat();
    }
    let cut = whole.iter().rposition(|byte| *byte == b'/').expect("the pattern is absolute now");
    let (directory, last) = (&whole[..cut], &whole[cut + 1..]);
    let Ok(listed) = TreePath::parse(directory) else { return Ok(Vec::new()) };
    let names = host.list(&listed)?.into_iter().filter(|name| matches(last, name.as_bytes()));
    Ok(names.map(|name| [directory, b"/", name.as_bytes()].concat()).collect())
}

/// Whether a name fits a pattern of `*`, `?` and plain bytes; a leading dot must be written.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                fits(rest, name) || name.split_first().is_some_and(|(_, name)| fits(pattern, name))
            }
            (Some((b'?', rest)), Some((_, name))) => fits(rest, name),
            (Some((want, rest)), Some((have, name))) => want == have && fits(rest, name),
            _ => false,
        }
    }
    let stars = pattern.iter().filter(|byte| **byte == b'*').count();
    // Matching takes time exponential in the stars; nobody writes more than a few.
    stars <= 4 && name.starts_with(b".") == pattern.starts_with(b".") && fits(pattern, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worktree::host::elf::Machine;

    fn elf() -> Elf {
        let machine = Machine { wide: true, number: MACHINE_AMD64 };
        Elf { machine, interpreter: None, needed: Vec::new(), rpath: None, runpath: None }
    }

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_order_of_places_is_that_of_the_loader() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/ld.so.conf.d")).unwrap();
        std::fs::write(dir.path().join("etc/ld.so.conf"), "# all\ninclude ld.so.conf.d/*.conf\n").unwrap();
        std::fs::write(dir.path().join("etc/ld.so.conf.d/b.conf"), "/opt/b\n").unwrap();
        std::fs::write(dir.path().join("etc/ld.so.conf.d/a.conf"), " /opt/a # first\n").unwrap();
        std::fs::write(dir.path().join("etc/ld.so.conf.d/.hidden.conf"), "/opt/hidden\n").unwrap();
        let host = HostRoot::new(dir.path());
        let search = Search::of(&host).unwrap();
        let (at, at_program) = (path("/usr/lib/libx.so"), path("/opt/app/bin/p"));
        let library = Elf { runpath: None, rpath: Some(b"/lib/old".to_vec()), ..elf() };
        let program = Elf { rpath: Some(b"${ORIGIN}/../lib:relative:/x/$PLATFORM".to_vec()), ..elf() };
        let chain = [
            Object { path: &at, real: &at, elf: &library },
            Object { path: &at_program, real: &at_program, elf: &program },
        ];
        let found = search.candidates(&host, &Loader::Glibc, &chain, b"liby.so").unwrap();
        let begin = ["/lib/old/liby.so", "/opt/app/lib/liby.so", "/opt/a/liby.so", "/opt/b/liby.so"];
        assert_eq!(found[..4], begin.map(path));
        assert_eq!(found[4], path("/lib/x86_64-linux-gnu/liby.so"));
        let newer = Elf { runpath: Some(b"/new".to_vec()), ..library.clone() };
        let chain = [Object { elf: &newer, ..chain[0] }, Object { ..chain[1] }];
        let found = search.candidates(&host, &Loader::Glibc, &chain, b"liby.so").unwrap();
        assert_eq!(found[..2], ["/new/liby.so", "/opt/a/liby.so"].map(path));
        let found = search.candidates(&host, &Loader::Musl(b"x86_64".to_vec()), &chain, b"liby.so").unwrap();
        let musl = ["/new", "/opt/app/lib", "/lib", "/usr/local/lib", "/usr/lib"];
        assert_eq!(found, musl.map(|directory| path(&format!("{directory}/liby.so"))));
    }

    #[test]
    fn musl_is_recognised_and_is_its_own_c_library() {
        let musl = Loader::of(b"/lib/ld-musl-aarch64.so.1");
        assert_eq!(musl, Loader::Musl(b"aarch64".to_vec()));
        assert!(musl.is_itself(b"libc.musl-aarch64.so.1") && !musl.is_itself(b"libcrypto.so.3"));
        assert_eq!(Loader::of(b"/lib64/ld-linux-x86-64.so.2"), Loader::Glibc);
        assert!(!Loader::Glibc.is_itself(b"libc.so.6"));
    }
}
