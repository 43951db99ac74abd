//! From a command as asked for to the canonical spec that its key is made of.

use std::collections::BTreeMap;

use super::command::{Command, Stdin};
use super::core::{Core, mapped_ids};
use super::error::{Error, Result};
use super::foreign::check_system;
use super::hold::Held;
use super::mounts::ResolvedMount;
use super::state::State;
use crate::object::{
    BlobId, CommandSpec, Config, Draft, Injected, InjectedNode, Kind, Meta, NewNode, RootMode, RunKey,
    TreeId, TreePath,
};
use crate::sandbox::{DEFAULT_PATH, Identity, IdentityChoice};
use crate::worktree::scan::{Owners, ScanOptions, scan_path};

/// A command resolved against the state it runs on.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) spec: CommandSpec,
    /// The key; `None` when the input is not known beforehand.
    pub(super) key: Option<RunKey>,
    /// The config of the resulting state.
    pub(super) config: Config,
    /// The root tree to run on: the parent's, or with the injected files in it.
    pub(super) base: TreeId,
    /// Nobody deletes that tree, when it is no state's, while this lives.
    pub(super) held: Held,
    /// What is mounted.
    pub(super) mounts: Vec<ResolvedMount>,
    /// Whether nothing of the run is kept.
    pub(super) disposable: bool,
}

/// Root modes by the word under which the index remembers them.
const MODES: [(RootMode, &str); 3] =
    [(RootMode::Mapped, "mapped"), (RootMode::Recorded, "recorded"), (RootMode::Plain, "plain")];

/// The shell that runs shell text.
const SHELL: [&[u8]; 2] = [b"/bin/sh", b"-c"];

impl Core {
    /// Resolves a command; injected files are read and put into the store.
    pub(super) fn resolve_command(&self, parent: &State, command: &Command) -> Result<Resolved> {
        let config = &parent.value.config;
        check_system(config)?;
        let user = self.user(parent.value.root, command.user.as_deref().unwrap_or(&config.user))?;
        let mut env: BTreeMap<String, String> = BTreeMap::new();
        env.insert("PATH".into(), DEFAULT_PATH.into());
        env.insert("HOME".into(), user.home.clone());
        if command.terminal.is_some() {
            env.insert("TERM".into(), "xterm".into());
        }
        for entry in &config.env {
            if let Some((key, value)) = entry.split_once('=') {
                env.insert(key.to_owned(), value.to_owned());
            }
        }
        for (key, value) in &command.env {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::invalid(format!(
                    "`{key}` cannot be the name of an environment variable, or its value holds a NUL byte"
                )));
            }
            env.insert(key.clone(), value.clone());
        }
        let workdir = command.workdir.as_deref().unwrap_or(&config.workdir);
        let cwd = absolute_inside(&config.workdir, workdir);
        let mut result_config = config.clone();
        if command.keep_env {
            for (key, value) in &command.env {
                let prefix = format!("{key}=");
                result_config.env.retain(|entry| !entry.starts_with(&prefix));
                result_config.env.push(format!("{key}={value}"));
            }
        }
        if command.keep_workdir && command.workdir.is_some() {
            result_config.workdir.clone_from(&cwd);
        }
        if let crate::object::Program::Argv(argv) = &command.program
            && (argv.is_empty() || argv[0].is_empty() || argv.iter().any(|arg| arg.contains(&0)))
        {
            return Err(Error::invalid(
                "a command needs a program name, and no argument may hold a NUL byte",
            ));
        }
        let (injected, base, held) = self.inject(parent, command)?;
        let mounts = self.resolve_mounts(command)?;
        let stdin = match &command.stdin {
            Stdin::Bytes(bytes) if !bytes.is_empty() => Some(BlobId::of(bytes)),
            _ => None,
        };
        let spec = CommandSpec {
            program: command.program.clone(),
            env: env.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
            cwd: cwd.into_bytes(),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            umask: command.umask,
            hostname: command.hostname.clone(),
            stdin,
            injected,
            mounts: mounts.specs,
            network: command.network,
            root_mode: self.root_mode()?,
            read_only: command.read_only,
            epoch: command.epoch,
            keep_env: command.keep_env,
            keep_workdir: command.keep_workdir,
            allow: command.allow.clone(),
        };
        let key = (command.has_key() && mounts.known).then(|| spec.run_key(&parent.id));
        let (mounts, disposable) = (mounts.mounts, command.disposable);
        Ok(Resolved { spec, key, config: result_config, base, held, mounts, disposable })
    }

    /// How ids inside relate to ids on disk, as it was when a worker last started; asking does not start one if that is known.
    fn root_mode(&self) -> Result<RootMode> {
        Ok(match self.options.identity {
            IdentityChoice::Single => RootMode::Plain,
            IdentityChoice::Recorded => RootMode::Recorded,
            IdentityChoice::Subordinate => RootMode::Mapped,
            IdentityChoice::Auto => match self.remembered_root_mode()? {
                Some(mode) => mode,
                None => self.learn_root_mode()?,
            },
        })
    }

    fn root_mode_name(&self) -> String {
        format!("root-mode.{}", nix::unistd::geteuid())
    }

    fn remembered_root_mode(&self) -> Result<Option<RootMode>> {
        let word = self.index.meta(&self.root_mode_name())?;
        Ok(MODES.into_iter().find(|(_, known)| word.as_deref() == Some(known)).map(|(mode, _)| mode))
    }

    /// Starts the worker and remembers which ids it got.
    pub(super) fn learn_root_mode(&self) -> Result<RootMode> {
        let worker = self.worker()?;
        let one = matches!(worker.identity(), Identity::Single { .. });
        debug_assert_eq!(mapped_ids(worker.identity()) == 1, one);
        match self.options.identity {
            IdentityChoice::Single => return Ok(RootMode::Plain),
            IdentityChoice::Recorded => return Ok(RootMode::Recorded),
            _ => {}
        }
        let remembered = self.remembered_root_mode()?;
        let mode = match (one, remembered) {
            (false, _) => RootMode::Mapped,
            // What worked once is tried again without a probe; if it does not work any more, the launch says so.
            (true, Some(RootMode::Recorded)) => RootMode::Recorded,
            (true, _) if crate::sandbox::probe::emulates() => RootMode::Recorded,
            (true, _) => RootMode::Plain,
        };
        if self.options.identity == IdentityChoice::Auto && remembered != Some(mode) {
            let word = MODES.into_iter().find(|(known, _)| *known == mode).map(|(_, word)| word);
            self.index.set_meta(&self.root_mode_name(), word)?;
        }
        Ok(mode)
    }

    /// Whether a supervisor records owners.
    pub(super) fn records_owners(&self) -> Result<bool> {
        Ok(self.learn_root_mode()? == RootMode::Recorded)
    }

    /// Reads the files that a command brings along and makes the tree with them in it.
    fn inject(&self, parent: &State, command: &Command) -> Result<(Vec<Injected>, TreeId, Held)> {
        if command.injected.is_empty() {
            return Ok((Vec::new(), parent.value.root, parent.held.clone()));
        }
        let mut batch = self.store.batch()?;
        let mut injected = Vec::new();
        // Scanned into a draft of their own first: what is hashed into the key is exactly what was brought.
        let mut draft =
            Draft::from_root(&self.store, parent.value.root, self.store.root(&parent.value.root)?);
        for (source, dest) in &command.injected {
            let dest = TreePath::parse(dest.as_bytes()).map_err(|error| Error::invalid(error.to_string()))?;
            let mut alone = Draft::empty(&self.store, Meta::root_owned(0o755, Default::default()));
            let options = ScanOptions { owners: Owners::AllRoot, ..ScanOptions::default() };
            scan_path(source, &batch, &mut alone, &dest_in_alone(), &options)?;
            let brought = walk(&mut alone, &dest_in_alone())?;
            for (below, meta, node) in brought {
                let path = below.names()[1..].iter().fold(dest.clone(), |path, name| path.join(name));
                place(&mut draft, &path, &meta, &node)?;
                let node = match node {
                    None => InjectedNode::Directory,
                    Some(NewNode::File { blob, .. }) => InjectedNode::File(blob),
                    Some(NewNode::Symlink { target }) => InjectedNode::Symlink(target),
                    Some(_) => {
                        return Err(Error::invalid(format!(
                            "{} is no file, directory or symlink and cannot be copied in",
                            source.display()
                        )));
                    }
                };
                injected.push(Injected { path: path.to_bytes(), mode: meta.mode, node });
            }
        }
        injected.sort_by(|a, b| a.path.cmp(&b.path));
        let (base, _) = draft.finish(&mut batch)?;
        let undeleted = batch.commit()?;
        let held = self.hold_tree(base)?;
        drop(undeleted);
        Ok((injected, base, held))
    }
}

impl Resolved {
    /// The program and its arguments as they are executed.
    pub(super) fn argv(&self) -> Vec<Vec<u8>> {
        match &self.spec.program {
            crate::object::Program::Shell(text) => {
                SHELL.iter().map(|part| part.to_vec()).chain([text.clone().into_bytes()]).collect()
            }
            crate::object::Program::Argv(argv) => argv.clone(),
        }
    }
}

fn dest_in_alone() -> TreePath {
    TreePath::parse(b"/x").expect("a constant path is valid")
}

type Brought = Vec<(TreePath, Meta, Option<NewNode>)>;

/// Everything at and below a path of a draft, parents first; a directory has no node.
pub(super) fn walk(draft: &mut Draft<'_>, at: &TreePath) -> Result<Brought> {
    let mut found = Vec::new();
    let mut todo = vec![at.clone()];
    while let Some(path) = todo.pop() {
        match draft.get(&path)?.map(|(meta, kind)| (meta.clone(), kind)) {
            None => {}
            Some((meta, Kind::Directory)) => {
                for name in draft.names(&path)?.unwrap_or_default().iter().rev() {
                    todo.push(path.join(name));
                }
                found.push((path, meta, None));
            }
            Some((meta, _)) => {
                let node = draft.leaf(&path)?.map(|(_, node)| node.clone());
                found.push((path, meta, node));
            }
        }
    }
    Ok(found)
}

/// Places one brought entry; a directory that is there keeps its attributes, as `cp -r` does.
pub(super) fn place(
    draft: &mut Draft<'_>,
    path: &TreePath,
    meta: &Meta,
    node: &Option<NewNode>,
) -> Result<()> {
    draft.make_parents(path, &Meta::root_owned(0o755, meta.mtime))?;
    match node {
        None if matches!(draft.get(path)?, Some((_, Kind::Directory))) => {}
        None => draft.put_directory(path, meta.clone())?,
        Some(node) => draft.put(path, meta.clone(), node.clone())?,
    }
    Ok(())
}

/// A working directory as an absolute path; a relative one starts at the state's own.
fn absolute_inside(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else if path.is_empty() {
        "/".to_owned()
    } else {
        format!("{}/{path}", base.trim_end_matches('/'))
    }
}
