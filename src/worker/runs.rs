//! What runs in a session: sandboxes, the commands that joined them, and the loop's wait for any of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::protocol::{Request, Response, send};
use super::watch::Watch;
use crate::sandbox::{
    Channel, Emulator, Exceeded, FrameError, IdMap, Joined, LaunchError, Owned, Plan, Records, Sandbox,
    launch, launch_idle,
};

/// Everything under way, and the id maps that it was started with.
#[derive(Default)]
pub(super) struct Runs {
    sandboxes: Vec<Sandboxed>,
    map: Option<IdMap>,
    /// What the sandbox that ended last recorded, for the capture that follows.
    records: Records,
    /// What the host has said of the image's owners, for the sandbox that it starts next.
    told: Vec<Owned>,
}

/// One sandbox. The fields are dropped in their order: what joined has to be collected first, or init cannot end.
struct Sandboxed {
    joined: Vec<(u64, Joined)>,
    run: u64,
    sandbox: Sandbox,
    /// Answers root's calls, where root is emulated.
    emulator: Option<Emulator>,
    /// Of its bounds, if there is something to look after; none any more when one was exceeded.
    watch: Option<Watch>,
    exceeded: Option<Exceeded>,
}

/// What became of a request.
pub(super) enum Served {
    /// It was about runs and has been seen to.
    Done,
    /// It is about something else.
    Other(Request),
}

impl Runs {
    /// Whether anything is under way.
    pub(super) fn any(&self) -> bool {
        !self.sandboxes.is_empty()
    }

    /// What the sandbox that ended last recorded.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Waits for the host's next request or the end of something that runs, and tells the host of every end; whether the host
    /// has spoken.
    pub(super) fn watch(&mut self, host: &Channel) -> Result<bool, FrameError> {
        if !self.any() {
            // Receiving waits by itself.
            return Ok(true);
        }
        let mut watched = vec![PollFd::new(host.as_fd(), PollFlags::POLLIN)];
        let mut watch = |fd| watched.push(PollFd::new(fd, PollFlags::POLLIN));
        for one in &self.sandboxes {
            one.joined.iter().for_each(|(_, joined)| watch(joined.pidfd()));
            watch(one.sandbox.pidfd());
        }
        let emulators = self.sandboxes.iter().filter_map(|one| one.emulator.as_ref());
        emulators.flat_map(Emulator::listeners).for_each(watch);
        let pause = self.sandboxes.iter().filter_map(|one| one.watch.as_ref()?.pause()).min();
        let pause =
            pause.map_or(PollTimeout::NONE, |pause| PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX));
        if poll(&mut watched, pause).is_err() {
            // EINTR; anything else shows when the host is spoken to.
            return Ok(false);
        }
        let mut ready = watched.iter().map(|one| one.any().unwrap_or(true)).collect::<Vec<_>>().into_iter();
        let spoke = ready.next().unwrap_or(false);
        self.collect(host, &mut ready)?;
        if ready.any(|asked| asked) {
            self.sandboxes.iter_mut().filter_map(|one| one.emulator.as_mut()).for_each(Emulator::serve_all);
        }
        self.sandboxes.iter_mut().for_each(Sandboxed::look);
        Ok(spoke)
    }

    /// Collects what has ended, in the order in which `watch` listed it.
    fn collect(&mut self, host: &Channel, ended: &mut impl Iterator<Item = bool>) -> Result<(), FrameError> {
        for mut one in std::mem::take(&mut self.sandboxes) {
            for (run, joined) in std::mem::take(&mut one.joined) {
                if ended.next() == Some(true) {
                    let (ending, usage) = joined.wait();
                    send(host, &Response::Exited { run, ending, usage, exceeded: one.exceeded }, &[])?;
                } else {
                    one.joined.push((run, joined));
                }
            }
            if ended.next() == Some(true) {
                let Sandboxed { run, sandbox, joined, emulator, watch, exceeded } = one;
                self.records = emulator.map(Emulator::into_records).unwrap_or_default();
                drop(joined);
                let (ending, usage) = sandbox.wait();
                let exceeded = exceeded.or_else(|| watch?.last_look());
                send(host, &Response::Exited { run, ending, usage, exceeded }, &[])?;
            } else {
                self.sandboxes.push(one);
            }
        }
        Ok(())
    }

    /// Serves a request if it is about runs.
    pub(super) fn serve(
        &mut self,
        host: &Channel,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Served, FrameError> {
        match request {
            Request::Owned(some) => self.told.extend(some),
            Request::Run { run, mut plan } => {
                let streams = three(fds)?;
                let launched = self.launch(&mut plan, |plan, map| launch(plan, map, streams));
                self.started(host, run, &plan, launched)?;
            }
            Request::Open { run, mut plan } => {
                let launched = self.launch(&mut plan, launch_idle);
                self.started(host, run, &plan, launched)?;
            }
            Request::Join { run, within, mut plan } => {
                self.join(host, run, within, &mut plan, three(fds)?)?
            }
            // What is meant for a run that has ended meanwhile hits nobody.
            Request::Signal { run, signal } => {
                self.of(run, |sandbox| sandbox.signal(signal), |joined| joined.signal(signal));
            }
            Request::Kill { run } => self.of(run, Sandbox::kill, Joined::kill),
            other => return Ok(Served::Other(other)),
        }
        Ok(Served::Done)
    }

    /// The id maps of this process, read when they are first needed: the host writes them while the session starts.
    fn map(&mut self) -> Result<&IdMap, LaunchError> {
        if self.map.is_none() {
            let map = IdMap::of_this_process();
            self.map = Some(map.map_err(|err| LaunchError::unreadable("read the id maps", &err))?);
        }
        Ok(self.map.get_or_insert_with(IdMap::single))
    }

    /// Starts a sandbox, with a supervisor if the plan wants one.
    fn launch(
        &mut self,
        plan: &mut Plan,
        act: impl FnOnce(&Plan, &IdMap) -> Result<Sandbox, LaunchError>,
    ) -> Result<(Sandbox, Option<Emulator>), LaunchError> {
        let told = std::mem::take(&mut self.told);
        if let Some(emulation) = &mut plan.emulation {
            emulation.owned = told;
        }
        let mut emulator = Emulator::for_plan(plan)?;
        if let Some(emulator) = &mut emulator {
            emulator.admit(plan);
        }
        Ok((act(plan, self.map()?)?, emulator))
    }

    fn started(
        &mut self,
        host: &Channel,
        run: u64,
        plan: &Plan,
        launched: Result<(Sandbox, Option<Emulator>), LaunchError>,
    ) -> Result<(), FrameError> {
        match launched {
            Err(error) => send(host, &Response::NotStarted { run, error }, &[]),
            Ok((mut sandbox, mut emulator)) => {
                let (pid, terminal) = (sandbox.pid(), sandbox.take_terminal());
                if let (Some(emulator), Some(listener)) = (&mut emulator, sandbox.take_listener()) {
                    emulator.attach(listener);
                }
                let watch = Watch::new(plan);
                let joined = Vec::new();
                self.sandboxes.push(Sandboxed { joined, run, sandbox, emulator, watch, exceeded: None });
                tell_start(host, run, pid, terminal)
            }
        }
    }

    fn join(
        &mut self,
        host: &Channel,
        run: u64,
        within: u64,
        plan: &mut Plan,
        streams: [OwnedFd; 3],
    ) -> Result<(), FrameError> {
        let Some(map) = &self.map else { return Err(FrameError::Damaged("a command without a sandbox")) };
        let joined = match self.sandboxes.iter_mut().find(|one| one.run == within) {
            Some(one) => {
                if let Some(emulator) = &mut one.emulator {
                    emulator.admit(plan);
                }
                one.sandbox.join(plan, map, streams).map(|joined| (one, joined))
            }
            None => Err(LaunchError::over()),
        };
        match joined {
            Err(error) => send(host, &Response::NotStarted { run, error }, &[]),
            Ok((one, mut joined)) => {
                let (pid, terminal) = (joined.pid(), joined.take_terminal());
                if let (Some(emulator), Some(listener)) = (&mut one.emulator, joined.take_listener()) {
                    emulator.attach(listener);
                }
                one.joined.push((run, joined));
                tell_start(host, run, pid, terminal)
            }
        }
    }

    fn of(&self, run: u64, sandbox: impl Fn(&Sandbox), joined: impl Fn(&Joined)) {
        for one in &self.sandboxes {
            if one.run == run {
                sandbox(&one.sandbox);
            }
            one.joined.iter().filter(|(number, _)| *number == run).for_each(|(_, it)| joined(it));
        }
    }
}

impl Sandboxed {
    /// Looks after the bounds, and kills everything when one is exceeded.
    fn look(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        let tops = self.joined.iter().map(|(_, joined)| joined.pid());
        self.exceeded = watch.look(self.sandbox.pid(), tops);
        if self.exceeded.is_some() {
            self.watch = None;
            self.sandbox.kill();
        }
    }
}

fn tell_start(host: &Channel, run: u64, pid: i32, terminal: Option<OwnedFd>) -> Result<(), FrameError> {
    let fds: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
    send(host, &Response::Started { run, pid }, &fds)
}

fn three(fds: Vec<OwnedFd>) -> Result<[OwnedFd; 3], FrameError> {
    <[OwnedFd; 3]>::try_from(fds).map_err(|_| FrameError::Damaged("a run needs three streams"))
}
