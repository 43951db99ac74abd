//! One execution: from layers and a plan to an exit status, and from an upper directory to a state.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, Complete};
use super::command::Command;
use super::core::{Core, mapped_ids, now_ms};
use super::error::{Error, Result};
use super::flight::Flight;
use super::hold::Held;
use super::layers::{Stack, make_layer};
use super::limits::Keeping;
use super::mounts::{RunMounts, Secrets};
use super::network::RunNetwork;
use super::outcome::{Finished, Outcome};
use super::room::RunRoom;
use super::spec::Resolved;
use super::state::{Origin, State};
use super::types::Sink;
use crate::disk::Scratch;
use crate::index::{MAX_INLINE_OUTPUT_BYTES, OutputRecord, Run, Usage};
use crate::object::{self, Draft, Feature, RootMode, StateId, TreeId};
use crate::sandbox::{Emulation, Exceeded, Plan, Rootfs, Upper};
use crate::store::Batch;
use crate::worker::{Session, SessionError};
use crate::worktree::layer::{
    Applied, BuildOptions, CaptureOptions, CapturedNode, IdRange, LayerEntry, LayerNode, apply,
};

/// A command under way in a sandbox of its own. The fields are dropped in their order: what runs ends before its files go.
pub(super) struct Execution {
    child: Child,
    ground: Ground,
}

/// What a sandbox stands on, and what its changes become.
pub(super) struct Ground {
    core: Arc<Core>,
    pub(super) parent: State,
    pub(super) resolved: Resolved,
    disposable: bool,
    /// What it reads on standard input, when that counts in its key.
    stdin: Option<Vec<u8>>,
    stack: Stack,
    mounts: RunMounts,
    /// How long the mounts had to be waited for, which is part of the time that a command has.
    waited: Duration,
    session: Option<Session>,
    pub(super) started_ms: i64,
    keeping: Keeping,
    /// What it may fill where the store may only grow so far.
    room: Option<RunRoom>,
    /// Held while others wait for the result.
    flight: Option<Flight>,
    /// Dropped last: it holds the upper directory.
    scratch: Scratch,
}

/// The directories of a run within its scratch.
struct RunDirs {
    all: PathBuf,
    upper: PathBuf,
    work: PathBuf,
    stubs: PathBuf,
}

fn run_dirs(scratch: &Scratch) -> RunDirs {
    let all = scratch.path().join("run");
    RunDirs { upper: all.join("upper"), work: all.join("work"), stubs: all.join("stubs"), all }
}

impl Core {
    /// Starts a command; gives the writing end of its input when that is piped.
    pub(super) fn begin(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: Resolved,
        sink: Option<Sink>,
    ) -> Result<(Execution, Option<File>)> {
        let (mut ground, plan) = self.ground(parent, command, resolved)?;
        let shortened = command
            .timeout
            .map(|limit| Command { timeout: Some(limit.saturating_sub(ground.waited)), ..command.clone() });
        let command = shortened.as_ref().unwrap_or(command);
        let launch = |plan, streams| ground.session().run(plan, streams);
        match Child::start(command, plan, ground.scratch.path(), sink, Complete::AtItsEnd, launch) {
            Ok((child, stdin)) => {
                ground.started_ms = child.started_ms();
                Ok((Execution { child, ground }, stdin))
            }
            Err(error) => {
                let error = self.explained(error, &ground.resolved);
                ground.abandon();
                Err(error)
            }
        }
    }

    /// Makes what a sandbox stands on, and the plan of it.
    pub(super) fn ground(
        self: &Arc<Self>,
        parent: &State,
        command: &Command,
        resolved: Resolved,
    ) -> Result<(Ground, Plan)> {
        self.store.writable()?;
        let session = self.session()?;
        let hint = self.layer_hint(parent)?;
        let met = |error: Error| error.met_at(parent.label());
        let mut stack = self.stack(&session, parent.value.root, hint).map_err(met)?;
        if resolved.base != parent.value.root {
            stack = self.stack(&session, resolved.base, Some(parent.value.root)).map_err(met)?;
        }
        let room = self.room_for_run()?;
        let scratch = Scratch::new(&self.layout().tmp())?;
        let asked = Instant::now();
        let network = RunNetwork::prepare(resolved.spec.network, &scratch);
        let prepared = network.and_then(|network| {
            let resolver = network.resolver_file.as_deref();
            let mounts = self.open_mounts(&session, &resolved, resolver, command.timeout)?;
            let waited = asked.elapsed();
            let mut plan = self.plan(&session, &resolved, &stack, &scratch, &mounts)?;
            plan.network = network.plan;
            let mut limits = command.limits;
            if let Some(room) = &room {
                limits.disk_bytes = Some(limits.disk_bytes.unwrap_or(u64::MAX).min(room.bytes));
            }
            let keeping = Keeping::arrange(&limits, &mut plan)?;
            Ok((mounts, waited, plan, keeping))
        });
        let (mounts, waited, plan, keeping) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let _ = clear(&session, &run_dirs(&scratch));
                self.release(session);
                return Err(error);
            }
        };
        let ground = Ground {
            core: Arc::clone(self),
            parent: parent.clone(),
            resolved,
            disposable: command.disposable,
            stdin: command.kept_stdin(),
            waited,
            stack,
            mounts,
            session: Some(session),
            started_ms: now_ms(),
            keeping,
            room,
            flight: None,
            scratch,
        };
        Ok((ground, plan))
    }

    fn plan(
        &self,
        session: &Session,
        resolved: &Resolved,
        stack: &Stack,
        scratch: &Scratch,
        mounts: &RunMounts,
    ) -> Result<Plan> {
        let dirs = run_dirs(scratch);
        let mut lowers = self.lower_paths(stack);
        let options = self.build_options(self.worker()?.identity())?;
        let data_lower = options.redirects.then(|| options.objects.clone());
        self.make_upper(session, resolved, &dirs, options.clone())?;
        let stubs = self.with_hidden(&resolved.base, &mounts.stubs.layer)?;
        if !stubs.is_empty() {
            make_layer(session, &dirs.stubs, &stubs, options)?;
            lowers.insert(0, dirs.stubs);
        }
        let upper = if resolved.spec.read_only {
            // Without an upper directory an overlay needs a second lower: the empty one that would have been the upper.
            lowers.insert(0, dirs.upper);
            None
        } else {
            Some(Upper { upper: dirs.upper, work: dirs.work })
        };
        let spec = &resolved.spec;
        let mut plan = Plan::new(Rootfs::Overlay { lowers, data_lower, upper }, Vec::new());
        resolved.payload(&mut plan);
        plan.hostname.clone_from(&spec.hostname);
        if let Some(emulation) = &mut plan.emulation {
            emulation.owned = self.owned(&resolved.base)?;
        }
        plan.mounts.clone_from(&mounts.plan);
        Ok(plan)
    }

    /// Makes the upper directory with the root's attributes, which an overlay shows as its own root's.
    fn make_upper(
        &self,
        session: &Session,
        resolved: &Resolved,
        dirs: &RunDirs,
        options: BuildOptions,
    ) -> Result<()> {
        let make = |path: &PathBuf| {
            std::fs::create_dir(path).map_err(|error| Error::disk("create directory", path, error))
        };
        make(&dirs.all)?;
        make(&dirs.work)?;
        let root = self.store.root(&resolved.base)?;
        let entry =
            LayerEntry { path: Vec::new(), meta: root.meta, node: LayerNode::Directory { opaque: false } };
        make_layer(session, &dirs.upper, &[entry], options)
    }
}

impl Resolved {
    /// Writes into a plan what concerns the payload: which program, as whom and where.
    pub(super) fn payload(&self, plan: &mut Plan) {
        let spec = &self.spec;
        plan.argv = self.argv();
        plan.env = spec.env.iter().map(|entry| entry.clone().into_bytes()).collect();
        plan.cwd.clone_from(&spec.cwd);
        plan.uid = spec.uid;
        plan.gid = spec.gid;
        plan.groups.clone_from(&spec.groups);
        plan.umask = u32::from(spec.umask);
        plan.emulation = (spec.root_mode == RootMode::Recorded).then(Emulation::default);
        plan.allow = spec.allow.iter().map(|feature| sandbox_feature(*feature)).collect();
    }
}

impl Execution {
    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    /// Others wait for what comes of it.
    pub(super) fn carry(&mut self, flight: Option<Flight>) {
        self.ground.flight = flight;
    }

    pub(super) fn into_parts(self) -> (Child, Ground) {
        (self.child, self.ground)
    }

    /// Waits for the end and makes of it what the command asked for.
    pub(super) fn finish(mut self) -> Result<Outcome> {
        let finished = self.child.finish()?;
        self.ground.conclude(finished)
    }
}

impl Ground {
    pub(super) fn session(&self) -> &Session {
        self.session.as_ref().expect("only what consumes it takes it")
    }

    pub(super) fn scratch(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Removes what was made for a sandbox that did not start.
    pub(super) fn abandon(mut self) {
        if let Some(session) = self.session.take() {
            let _ = clear(&session, &run_dirs(&self.scratch));
            self.core.release(session);
        }
    }

    /// Makes of what a sandbox has left what was asked for: a state, or nothing. Nothing runs in it any more.
    pub(super) fn conclude(mut self, finished: Finished) -> Result<Outcome> {
        self.forget_key_of_changed_sources();
        let mut outcome = Outcome {
            state: None,
            tree: None,
            parent: self.parent.clone(),
            key: self.resolved.key,
            changed: false,
            reused: false,
            exit_code: finished.exit_code,
            signal: finished.signal,
            timed_out: finished.timed_out,
            stdout: finished.stdout,
            stderr: finished.stderr,
            truncated: finished.truncated,
            duration: finished.duration,
            resources: finished.resources,
            changes: Default::default(),
            limits: self.keeping.limits(),
            killed_for: self.keeping.killed_for(finished.exceeded),
        };
        let session = self.session.take().expect("only what consumes it takes it");
        let kept = match self.over_disk(finished.exceeded) {
            Some(over) => Err(over),
            None if self.disposable => Ok(()),
            None => self.room_to_keep().and_then(|()| self.keep(&session, &mut outcome)),
        };
        let cleared = clear(&session, &run_dirs(&self.scratch));
        self.core.release(session);
        // What could not be kept others could not keep either: they need not try it one after the other.
        Flight::land(self.flight.take());
        kept?;
        cleared?;
        Ok(outcome)
    }

    /// The tree that a sandbox has left. Nothing of the run is remembered, and nothing names the tree.
    pub(super) fn tree_left(mut self, finished: &Finished) -> Result<(TreeId, Held)> {
        let session = self.session.take().expect("only what consumes it takes it");
        let left = match self.over_disk(finished.exceeded) {
            Some(over) => Err(over),
            None => self.room_to_keep().and_then(|()| self.capture_alone(&session)),
        };
        let cleared = clear(&session, &run_dirs(&self.scratch));
        self.core.release(session);
        let left = left?;
        cleared?;
        Ok(left)
    }

    fn capture_alone(&self, session: &Session) -> Result<(TreeId, Held)> {
        let mut tree = self.resolved.base;
        if !self.resolved.spec.read_only {
            let mut batch = self.core.store.batch()?;
            self.capture(session, &mut batch, &mut tree)?;
            let undeleted = batch.commit()?;
            let held = self.core.hold_tree(tree)?;
            drop(undeleted);
            return Ok((tree, held));
        }
        Ok((tree, self.resolved.held.clone()))
    }

    /// Takes the key away when a mounted source is not what was hashed: the result is kept, and nothing will ask for it by that key.
    fn forget_key_of_changed_sources(&mut self) {
        if self.disposable || self.resolved.key.is_none() {
            return;
        }
        if let Some(path) = self.resolved.mounts.iter().find_map(|mount| mount.changed_source()) {
            let path = path.display();
            self.core
                .notice(&format!("{path} changed during the run: its result is kept and not remembered"));
            self.resolved.key = None;
        }
    }

    /// The error of a run that wrote more than it might, or than there was room for.
    fn over_disk(&self, exceeded: Option<Exceeded>) -> Option<Error> {
        let over = self.keeping.over_disk(exceeded)?;
        match (&self.room, over) {
            (Some(room), Error::OverDisk { limit_bytes, written_bytes }) if limit_bytes == room.bytes => {
                Some(room.exceeded(written_bytes))
            }
            (_, over) => Some(over),
        }
    }

    /// Refuses to keep the result of a run that has filled the store's file system.
    ///
    /// Keeping takes hardly any room, since files are moved; but begun without any it would leave files in the store that nothing
    /// names, and with them a full file system.
    fn room_to_keep(&self) -> Result<()> {
        const LEAST_BYTES: u64 = 4 << 20;
        let path = self.scratch.path();
        let stat = rustix::fs::statvfs(path).map_err(|errno| Error::disk("look at", path, errno.into()))?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < LEAST_BYTES {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::disk("keep the result of the run in", self.core.layout().root(), full));
        }
        Ok(())
    }

    /// Turns the upper directory into a state and remembers the run.
    fn keep(&self, session: &Session, outcome: &mut Outcome) -> Result<()> {
        let core = &self.core;
        if self.room.is_some() {
            // Files and directories become blobs and a layer as they are.
            core.spent(core.held_by(&run_dirs(&self.scratch).upper));
        }
        let mut batch = core.store.batch()?;
        let mut dirty = false;
        let mut tree = self.resolved.base;
        let mut applied = None;
        if !self.resolved.spec.read_only {
            applied = Some(self.capture(session, &mut batch, &mut tree)?);
            dirty = tree != self.resolved.base;
        }
        let cut = outcome.truncated;
        self.mounts.secrets.mask(&mut outcome.stdout, cut);
        self.mounts.secrets.mask(&mut outcome.stderr, cut);
        let value = object::State { root: tree, config: self.resolved.config.clone() };
        let mut id = value.id();
        outcome.changed = id != self.parent.id;
        if outcome.changed {
            batch.put_state(&value)?;
        }
        let stdout = output(&batch, &outcome.stdout)?;
        let stderr = output(&batch, &outcome.stderr)?;
        if outcome.changed
            && let Some(stdin) = &self.stdin
        {
            // Its result may become a commit, and what a commit ran can be run again.
            batch.put_blob(stdin, None)?;
        }
        let large = matches!(stdout, OutputRecord::Blob(..)) || matches!(stderr, OutputRecord::Blob(..));
        let batch = if outcome.changed || large { Ok(batch.commit()?) } else { Err(batch) };
        let mut value = value;
        if dirty && self.resolved.spec.root_mode == RootMode::Recorded {
            core.carry_owned(&self.resolved.base, &tree)?;
        }
        if outcome.changed {
            outcome.changes = core.count_changes(&self.parent.value.root, &tree)?;
            if let Some(known) = self.same_but_for_times(&tree)? {
                // The run gave again what is remembered: the state keeps its name.
                id = known;
                value = core.store.state(&known)?;
            } else if let (true, Some(Applied { entries, upper_is_exact: true })) = (dirty, applied) {
                let name = core.layer_name(&tree, &self.scratch);
                session.rename(&run_dirs(&self.scratch).upper, &core.layout().layers().join(&name))?;
                core.enter_layer(name, tree, &self.stack, entries)?;
            }
        }
        let seq = core.index.insert_run(&self.row(outcome, id, stdout, stderr))?;
        outcome.state = Some(if outcome.changed {
            let origin = Origin::of_run(seq, self.parent.clone());
            let held = core.hold_state(id)?;
            State { core: Arc::clone(core), id, value: Arc::new(value), origin, held }
        } else {
            self.parent.clone()
        });
        outcome.tree = outcome.state.as_ref().map(State::tree);
        // From here on the row and the handle keep what the batch has kept from being deleted.
        drop(batch);
        Ok(())
    }

    fn capture(&self, session: &Session, batch: &mut Batch<'_>, tree: &mut TreeId) -> Result<Applied> {
        let core = &self.core;
        let worker = core.worker()?;
        let secrets = &self.mounts.secrets;
        let capture = session.capture(CaptureOptions {
            upper: run_dirs(&self.scratch).upper,
            objects: core.layout().objects(),
            scratch: batch.scratch().to_owned(),
            secrets: secrets.needles().clone(),
        })?;
        let mut captured = capture.entries;
        for entry in &captured {
            if let CapturedNode::File { blob, placed: true, .. } = &entry.node {
                batch.note_placed(*blob);
            }
        }
        let root = core.store.root(tree)?;
        let mut draft = Draft::from_root(&core.store, *tree, root);
        let leaks = Secrets::new_leaks(&mut draft, &captured, capture.leaks)?;
        if !leaks.is_empty() {
            return Err(secrets.refusal(&leaks));
        }
        let mapped = mapped_ids(worker.identity());
        let forgiven = self.mounts.stubs.forgive(&mut captured, mapped > 1);
        let recorded = self.resolved.spec.root_mode == RootMode::Recorded;
        let ids = IdRange { mapped, recorded };
        let mut applied = apply(&mut draft, &captured, ids, self.resolved.spec.epoch)?;
        applied.upper_is_exact &= !forgiven;
        (*tree, _) = draft.finish(batch)?;
        Ok(applied)
    }

    /// The state that an earlier run of the same key led to, when it differs from this tree in nothing but modification times.
    ///
    /// So a build step that does the same again, run afresh, gives the same state id, and files keep the times of one run.
    fn same_but_for_times(&self, tree: &TreeId) -> Result<Option<StateId>> {
        let Some(key) = &self.resolved.key else { return Ok(None) };
        let Some(known) = self.core.index.newest_successful_run(key)? else { return Ok(None) };
        let state = match self.core.store.state(&known.result) {
            Ok(state) if state.config == self.resolved.config => state,
            Ok(_) => return Ok(None),
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(self.core.differ_in_times_only(&state.root, tree)?.then_some(known.result))
    }

    fn row(&self, outcome: &Outcome, result: StateId, stdout: OutputRecord, stderr: OutputRecord) -> Run {
        // A run whose input was not known beforehand is remembered under a key that nothing asks for.
        let key = self.resolved.key.unwrap_or_else(|| {
            let mut hasher = object::BlobHasher::new();
            hasher.update(b"piped");
            hasher.update(&self.started_ms.to_le_bytes());
            hasher.update(self.scratch.path().as_os_str().as_encoded_bytes());
            object::RunKey::from_bytes(*hasher.finish().as_bytes())
        });
        Run {
            key,
            parent: self.parent.id,
            result,
            spec: self.resolved.spec.encode(),
            command: self.resolved.spec.program.text(),
            changed: outcome.changed,
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            timed_out: outcome.timed_out,
            stdout,
            stderr,
            truncated: outcome.truncated,
            usage: Usage {
                user_ms: outcome.resources.user_ms,
                system_ms: outcome.resources.system_ms,
                max_rss_kib: outcome.resources.max_rss_kib,
                read_bytes: outcome.resources.read_bytes,
                written_bytes: outcome.resources.written_bytes,
            },
            duration_ms: outcome.duration.as_secs_f64() * 1000.0,
            started_ms: self.started_ms,
            added: outcome.changes.added,
            modified: outcome.changes.modified,
            deleted: outcome.changes.deleted,
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = clear(&session, &run_dirs(&self.scratch));
        }
    }
}

fn sandbox_feature(feature: Feature) -> crate::sandbox::Feature {
    match feature {
        Feature::Userns => crate::sandbox::Feature::Userns,
        Feature::IoUring => crate::sandbox::Feature::IoUring,
        Feature::Keyring => crate::sandbox::Feature::Keyring,
        Feature::Socketcall => crate::sandbox::Feature::Socketcall,
    }
}

/// Removes what a run left and nobody keeps. What belongs to mapped ids only the worker can remove.
fn clear(session: &Session, dirs: &RunDirs) -> Result<(), SessionError> {
    match crate::sandbox::remove_tree(&dirs.all) {
        Ok(()) => Ok(()),
        Err(_) => session.remove(&dirs.all),
    }
}

fn output(batch: &Batch<'_>, bytes: &[u8]) -> Result<OutputRecord> {
    if bytes.len() <= MAX_INLINE_OUTPUT_BYTES {
        return Ok(OutputRecord::Inline(bytes.to_vec()));
    }
    Ok(OutputRecord::Blob(batch.put_blob(bytes, None)?, bytes.len() as u64))
}
