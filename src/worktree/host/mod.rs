//! A small base made of the host's own programs and all they need to start.
//!
//! Programs, their loaders, libraries and interpreters lie in the base where they lie on the host, with the symlinks that lead to them.
//! Accounts and other configuration are made, not copied: a base tells nothing about the host's users or network.
//!
//! Nothing of the host is executed, and no setuid bit, extended attribute or owner is taken over.
//!
//! # Invariants
//! - Two builds from one unchanged host give the same tree: copied files keep the host's times, all else has time 0.
//! - A program that was named is in the base with all it needs, or the build fails. A default tool that cannot be taken is reported.

mod busybox;
mod cache;
mod closure;
mod elf;
mod error;
mod made;
mod place;
mod programs;
mod root;
mod search;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use elf::{Elf, ElfError, Machine, ReadAt, read as read_elf};
pub use error::HostError;
pub use programs::{DEFAULT_PATH, DEFAULT_PROGRAMS};

use self::busybox::Busybox;
use self::closure::{Closure, Needs};
use self::place::Placer;
use self::root::HostRoot;
use crate::object::{Config, Draft, InvalidPath, Kind, TreePath};
use crate::store::Batch;
use crate::worktree::scan::ScanError;

/// What a base is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HostBase {
    /// Programs that must be in it, beside the default tools: names looked up on `path`, or absolute paths.
    ///
    /// An absolute path of a directory takes everything below it, such as the standard library of an interpreter, with the libraries that the
    /// ELF files in it need.
    pub programs: Vec<String>,
    /// Whether the default tools ([`DEFAULT_PROGRAMS`]) are in it so far as the host has them.
    pub defaults: bool,
    /// Directories in which named programs are looked for before those of [`DEFAULT_PATH`]; usually the caller's `PATH`.
    pub path: Vec<PathBuf>,
    /// The host's root directory; another directory makes a base of another system's files.
    pub root: PathBuf,
}

impl Default for HostBase {
    fn default() -> Self {
        Self { programs: Vec::new(), defaults: true, path: Vec::new(), root: PathBuf::from("/") }
    }
}

impl HostBase {
    /// The default tools and these programs.
    pub fn with_programs(programs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { programs: programs.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// What a build did.
#[derive(Debug, Clone)]
pub struct HostReport {
    /// How commands run in the base.
    pub config: Config,
    /// The programs in it: as named, and the path inside.
    pub programs: Vec<(String, TreePath)>,
    /// Default tools that are links to the host's busybox.
    pub stand_ins: Vec<String>,
    /// What was not named and could not be taken: a tool or file, and why.
    pub skipped: Vec<(String, String)>,
    /// Entries placed.
    pub entries: u64,
    /// Sizes of the regular files in bytes.
    pub bytes: u64,
}

/// Fills an empty draft with a base of the host's programs. Blobs are in the batch when this returns.
pub fn build(base: &HostBase, batch: &Batch<'_>, draft: &mut Draft<'_>) -> Result<HostReport, HostError> {
    let host = HostRoot::new(&base.root);
    let path = search_path(base);
    let mut closure = Closure::new(&host, &path)?;
    let mut taken = Taken::default();
    taken.named(base, &host, &mut closure)?;
    let mut missing = Vec::new();
    if base.defaults {
        missing = taken.defaults(&mut closure)?;
    }
    let busybox = Busybox::stand_in(&host, &mut closure, &missing, &mut taken.needs)?;
    let stand_ins = busybox.as_ref().map(|busybox| busybox.applets().to_vec()).unwrap_or_default();
    taken.skipped.retain(|(tool, _)| !stand_ins.contains(&tool.as_str()));
    taken.opened_libraries(&mut closure)?;

    draft.set_meta(&TreePath::root(), place::DIRECTORY)?;
    let mut placer = Placer::new(&host, batch, draft);
    for directory in &taken.directories {
        for file in placer.place_all(directory)? {
            // Programs and modules below a named directory may need more than the base has use for.
            if let Err(error) = closure.add_if_elf(&file, &mut taken.needs) {
                taken.skipped.push((file.to_string(), error.to_string()));
            }
        }
    }
    for path in &taken.needs {
        placer.place(path)?;
    }
    taken.data(&mut placer)?;
    if let Some(busybox) = &busybox {
        busybox.place(&host, &mut placer)?;
    }
    let needs = &taken.needs;
    made::add(&host, &mut placer, batch, closure.search().cache_of(|path| needs.contains(path)))?;
    let (entries, bytes) = (placer.entries, placer.bytes);
    Ok(HostReport {
        config: config(&taken.programs),
        programs: taken.programs,
        stand_ins: stand_ins.into_iter().map(str::to_owned).collect(),
        skipped: taken.skipped,
        entries,
        bytes,
    })
}

/// What goes into a base.
#[derive(Default)]
struct Taken {
    needs: Needs,
    directories: Vec<TreePath>,
    programs: Vec<(String, TreePath)>,
    skipped: Vec<(String, String)>,
}

impl Taken {
    /// The programs that must be there.
    fn named(
        &mut self,
        base: &HostBase,
        host: &HostRoot,
        closure: &mut Closure<'_>,
    ) -> Result<(), HostError> {
        for program in &base.programs {
            let path = closure.locate(program)?;
            if host.find(&path)?.is_some_and(|found| found.inode.kind == Kind::Directory) {
                self.directories.push(path);
                continue;
            }
            closure.add(&path, &mut self.needs)?;
            self.programs.push((program.clone(), path));
        }
        Ok(())
    }

    /// The default tools, so far as they can be taken; gives those that cannot.
    fn defaults(&mut self, closure: &mut Closure<'_>) -> Result<Vec<&'static str>, HostError> {
        let mut missing = Vec::new();
        for tool in DEFAULT_PROGRAMS {
            let mut needs = Needs::new();
            let added = closure.locate_default(tool).and_then(|path| {
                closure.add(&path, &mut needs)?;
                Ok(path)
            });
            match added {
                Ok(path) => {
                    self.needs.append(&mut needs);
                    self.programs.push(((*tool).to_owned(), path));
                }
                Err(error) => {
                    missing.push(*tool);
                    self.skipped.push(((*tool).to_owned(), error.to_string()));
                }
            }
        }
        Ok(missing)
    }

    /// Libraries that the C library opens by itself, for each C library that something here needs.
    fn opened_libraries(&mut self, closure: &mut Closure<'_>) -> Result<(), HostError> {
        let is_c_library =
            |path: &&TreePath| path.names().last().is_some_and(|name| name.as_bytes() == b"libc.so.6");
        let c_libraries: Vec<TreePath> = self.needs.iter().filter(is_c_library).cloned().collect();
        for c_library in &c_libraries {
            for library in programs::OPENED_LIBRARIES {
                closure.add_library(c_library, library, &mut self.needs)?;
            }
        }
        Ok(())
    }

    /// Locale and terminal descriptions and the like, where the host has them.
    fn data(&mut self, placer: &mut Placer<'_, '_, '_, '_>) -> Result<(), HostError> {
        let mut paths: Vec<String> = programs::DATA.iter().map(|path| (*path).to_owned()).collect();
        for directory in programs::TERMINFO {
            for terminal in programs::TERMINALS {
                let first = terminal.as_bytes()[0];
                // By the first letter, or on file systems without case by its number.
                paths.push(format!("{directory}/{}/{terminal}", char::from(first)));
                paths.push(format!("{directory}/{first:x}/{terminal}"));
            }
        }
        for path in paths {
            match placer.place_all(&TreePath::parse(path.as_bytes())?) {
                Ok(_) => {}
                Err(HostError::Read(error @ ScanError::Unreadable { .. })) => {
                    self.skipped.push((path, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where programs are looked for: the caller's directories, then the default ones.
fn search_path(base: &HostBase) -> Vec<TreePath> {
    let own = base.path.iter().filter(|directory| directory.is_absolute());
    let own = own.map(|directory| directory.as_os_str().as_encoded_bytes());
    let mut path: Vec<TreePath> = Vec::new();
    for directory in own.chain(DEFAULT_PATH.split(':').map(str::as_bytes)) {
        let parsed: Result<TreePath, InvalidPath> = TreePath::parse(directory);
        path.extend(parsed.ok().filter(|directory| !path.contains(directory)));
    }
    path
}

/// The default `PATH`, and behind it the directories of programs that lie elsewhere.
fn config(programs: &[(String, TreePath)]) -> Config {
    let mut path = DEFAULT_PATH.to_owned();
    for (_, program) in programs {
        let Some((directory, _)) = program.split_last() else { continue };
        let Ok(directory) = String::from_utf8(directory.to_bytes()) else { continue };
        if !directory.contains(':') && !path.split(':').any(|known| known == directory) {
            path.push(':');
            path.push_str(&directory);
        }
    }
    Config { env: vec![format!("PATH={path}")], cmd: vec!["/bin/sh".to_owned()], ..Config::default() }
}
