//! Everything that a program needs to start.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::HostError;
use super::elf::{self, Elf};
use super::programs::DEFAULT_PATH;
use super::root::{Found, HostRoot};
use super::search::{Loader, Object, Search, musl_path_file};
use crate::object::{InvalidPath, TreePath};

/// The longest first line of a script (Linux `BINPRM_BUF_SIZE`).
const MAX_SCRIPT_HEAD_BYTES: u64 = 256;
/// How many scripts may interpret one another (Linux stops at five).
const MAX_INTERPRETERS: u32 = 5;

/// Finds what programs need. Nothing of the host is executed.
pub(super) struct Closure<'h> {
    host: &'h HostRoot,
    search: Search,
    path: &'h [TreePath],
    /// What was read of each file that is no symlink; `None` for what is no ELF file.
    read: HashMap<TreePath, Option<Rc<Elf>>>,
    loader: Loader,
}

/// The paths of a program and all it needs, as they are looked up: any of them may be a symlink.
pub(super) type Needs = BTreeSet<TreePath>;

struct Loaded {
    path: TreePath,
    real: TreePath,
    elf: Rc<Elf>,
    above: Option<usize>,
}

impl<'h> Closure<'h> {
    /// `path` is where programs are looked for.
    pub(super) fn new(host: &'h HostRoot, path: &'h [TreePath]) -> Result<Self, HostError> {
        let search = Search::of(host)?;
        Ok(Self { host, search, path, read: HashMap::new(), loader: Loader::Glibc })
    }

    pub(super) fn search(&self) -> &Search {
        &self.search
    }

    /// The path of a program that is named as in a shell.
    pub(super) fn locate(&self, program: &str) -> Result<TreePath, HostError> {
        if !program.starts_with('/') {
            return self.locate_in(program, self.path);
        }
        let path = TreePath::parse(program.as_bytes()).map_err(|source| bad_name(program, source))?;
        match self.host.find(&path)? {
            Some(_) => Ok(path),
            None => {
                Err(HostError::NoSuchPath { program: program.to_owned(), path: self.host.outside(&path) })
            }
        }
    }

    fn locate_in(&self, program: &str, directories: &[TreePath]) -> Result<TreePath, HostError> {
        let path = TreePath::parse(program.as_bytes()).map_err(|source| bad_name(program, source))?;
        if let [name] = path.names() {
            for directory in directories {
                let path = directory.join(name);
                if self.host.find_file(&path)?.is_some_and(|found| found.inode.mode & 0o111 != 0) {
                    return Ok(path);
                }
            }
        }
        Err(HostError::ProgramNotFound {
            program: program.to_owned(),
            searched: directories.iter().map(|directory| self.host.outside(directory)).collect(),
        })
    }

    /// The path of a default tool: as [`Self::locate`] but only in the default directories, so that a caller's own scripts do not shadow it.
    pub(super) fn locate_default(&self, tool: &str) -> Result<TreePath, HostError> {
        let path = DEFAULT_PATH.split(':').map(|directory| TreePath::parse(directory.as_bytes()));
        let path = path.collect::<Result<Vec<_>, _>>()?;
        self.locate_in(tool, &path)
    }

    /// Adds what a file needs if it is an ELF file, without the file itself.
    pub(super) fn add_if_elf(&mut self, path: &TreePath, needs: &mut Needs) -> Result<(), HostError> {
        let Some(found) = self.host.find_file(path)? else { return Ok(()) };
        let Some(elf) = self.elf(&found)? else { return Ok(()) };
        let mut own = Needs::new();
        self.add_elf(path, found.real, elf, &mut own)?;
        needs.append(&mut own);
        Ok(())
    }

    /// Adds a program, library or script with all it needs.
    pub(super) fn add(&mut self, path: &TreePath, needs: &mut Needs) -> Result<(), HostError> {
        self.add_at_depth(path, needs, 0)
    }

    fn add_at_depth(&mut self, path: &TreePath, needs: &mut Needs, depth: u32) -> Result<(), HostError> {
        if needs.contains(path) {
            return Ok(());
        }
        let Some(found) = self.host.find_file(path)? else {
            return Err(HostError::NoSuchPath { program: path.to_string(), path: self.host.outside(path) });
        };
        match self.elf(&found)? {
            Some(elf) => self.add_elf(path, found.real, elf, needs)?,
            None => self.add_script(path, needs, depth)?,
        }
        needs.insert(path.clone());
        Ok(())
    }

    /// Adds a library that a program may open by itself, when the host has it.
    pub(super) fn add_library(
        &mut self,
        like: &TreePath,
        library: &str,
        needs: &mut Needs,
    ) -> Result<(), HostError> {
        let Some(found) = self.host.find_file(like)? else { return Ok(()) };
        let Some(elf) = self.elf(&found)? else { return Ok(()) };
        let chain = [Object { path: like, real: &found.real, elf: &elf }];
        if let Some((path, _, _)) = self.find(&chain, library.as_bytes())? {
            self.add(&path, needs)?;
        }
        Ok(())
    }

    /// What an ELF file says; `None` for anything else.
    fn elf(&mut self, found: &Found) -> Result<Option<Rc<Elf>>, HostError> {
        if let Some(known) = self.read.get(&found.real) {
            return Ok(known.clone());
        }
        let file = self.host.open(&found.real)?;
        let path = self.host.outside(&found.real);
        let elf = elf::read(&file).map_err(|source| HostError::Elf { path, source })?.map(Rc::new);
        self.read.insert(found.real.clone(), elf.clone());
        Ok(elf)
    }

    fn add_elf(
        &mut self,
        path: &TreePath,
        real: TreePath,
        elf: Rc<Elf>,
        needs: &mut Needs,
    ) -> Result<(), HostError> {
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        if let Some(interpreter) = &elf.interpreter {
            let at = TreePath::parse(interpreter)?;
            if self.host.find_file(&at)?.is_none() {
                return Err(HostError::LoaderMissing {
                    program: self.host.outside(path),
                    loader: self.host.outside(&at),
                });
            }
            self.loader = Loader::of(interpreter);
            names.extend(at.split_last().map(|(_, name)| name.as_bytes().to_vec()));
            needs.insert(at);
            if let Loader::Musl(arch) = &self.loader {
                let file = musl_path_file(arch)?;
                if self.host.find_file(&file)?.is_some() {
                    needs.insert(file);
                }
            }
        }
        let mut loaded = vec![Loaded { path: path.clone(), real, elf, above: None }];
        let mut at = 0;
        while at < loaded.len() {
            let needed = Rc::clone(&loaded[at].elf);
            for library in &needed.needed {
                // One name is loaded once, wherever the first to ask for it found it.
                if !names.insert(library.clone()) || self.loader.is_itself(library) {
                    continue;
                }
                let chain = chain(&loaded, at);
                let Some((path, real, elf)) = self.find(&chain, library)? else {
                    return Err(self.library_missing(&loaded, at, library)?);
                };
                needs.insert(path.clone());
                if !loaded.iter().any(|other| other.real == real) {
                    loaded.push(Loaded { path, real, elf, above: Some(at) });
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// The first place with the library for the right processor.
    fn find(
        &mut self,
        chain: &[Object<'_>],
        library: &[u8],
    ) -> Result<Option<(TreePath, TreePath, Rc<Elf>)>, HostError> {
        let machine = chain.first().map(|object| object.elf.machine);
        for path in self.search.candidates(self.host, &self.loader, chain, library)? {
            let Some(found) = self.host.find_file(&path)? else { continue };
            match self.elf(&found) {
                Ok(Some(elf)) if Some(elf.machine) == machine => return Ok(Some((path, found.real, elf))),
                // As the loader does: what is no library for this processor is passed over.
                Ok(_) | Err(HostError::Elf { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn library_missing(&self, loaded: &[Loaded], at: usize, library: &[u8]) -> Result<HostError, HostError> {
        let candidates = self.search.candidates(self.host, &self.loader, &chain(loaded, at), library)?;
        Ok(HostError::LibraryMissing {
            program: self.host.outside(&loaded[0].path),
            needed_by: self.host.outside(&loaded[at].path),
            library: String::from_utf8_lossy(library).into_owned(),
            searched: candidates.iter().map(|path| self.host.outside(path)).collect(),
        })
    }

    /// Adds what a script's first line names; a file without such a line needs nothing.
    fn add_script(&mut self, path: &TreePath, needs: &mut Needs, depth: u32) -> Result<(), HostError> {
        let head = self.host.read(path, MAX_SCRIPT_HEAD_BYTES)?.unwrap_or_default();
        let Some(line) = head.strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next())
        else {
            return Ok(());
        };
        if depth >= MAX_INTERPRETERS {
            return Err(HostError::TooManyInterpreters { path: self.host.outside(path) });
        }
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let Some(interpreter) = words.next() else { return Ok(()) };
        let program = interpreter.rsplit(|byte| *byte == b'/').next();
        let at = TreePath::parse(interpreter)?;
        let missing = |interpreter: &[u8]| HostError::InterpreterMissing {
            script: self.host.outside(path),
            interpreter: String::from_utf8_lossy(interpreter).into_owned(),
        };
        if !interpreter.starts_with(b"/") || self.host.find_file(&at)?.is_none() {
            return Err(missing(interpreter));
        }
        let named = match program {
            // `env -S python3 -u`, `env LANG=C python3`: the first word that is neither an option nor an assignment.
            Some(b"env") => words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')),
            _ => None,
        };
        let named = match named {
            Some(word) => {
                let program = std::str::from_utf8(word).map_err(|_| missing(word))?;
                Some(self.locate(program).map_err(|_| missing(word))?)
            }
            None => None,
        };
        self.add_at_depth(&at, needs, depth + 1)?;
        named.map_or(Ok(()), |named| self.add_at_depth(&named, needs, depth + 1))
    }
}

fn bad_name(program: &str, source: InvalidPath) -> HostError {
    HostError::BadName { program: program.to_owned(), source }
}

/// The object that needs something and all that led to it, up to the program.
fn chain(loaded: &[Loaded], at: usize) -> Vec<Object<'_>> {
    let objects = std::iter::successors(Some(at), |at| loaded[*at].above).map(|at| &loaded[at]);
    objects.map(|object| Object { path: &object.path, real: &object.real, elf: &object.elf }).collect()
}
