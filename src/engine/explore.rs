//! Several commands on one state, at once: all of them, or a race that the first success wins.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::blocking;
use super::cancel::{Cancel, CancelOnDrop};
use super::command::{Command, Stdin};
use super::core::Core;
use super::error::{Error, Result};
use super::face;
use super::live::Killer;
use super::outcome::Outcome;
use super::run::Begun;
use super::spec::Resolved;
use super::state::State;
use super::types::Target;
use crate::object::CommitId;

/// What became of one of several commands.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fate<S = State> {
    /// It exited 0, and in a race it was the first.
    Succeeded(Outcome<S>),
    /// It ended by itself, but not well. As for any run, its state is kept to be looked at.
    Failed(Outcome<S>),
    /// treebox could not run it or keep its result.
    Broken(Error),
    /// It exited 0 when another had won already; nothing of it is kept.
    Lost,
    /// It was killed, because another had won or all was cancelled; nothing of it is kept.
    Cancelled,
    /// Its turn never came.
    NeverStarted,
}

impl<S> Fate<S> {
    /// What came of it, if it ended by itself and was kept.
    pub fn outcome(&self) -> Option<&Outcome<S>> {
        match self {
            Self::Succeeded(outcome) | Self::Failed(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether it exited 0 and is kept.
    pub fn succeeded(&self) -> bool {
        matches!(self, Self::Succeeded(_))
    }

    fn of(outcome: Outcome<S>) -> Self {
        if outcome.success() { Self::Succeeded(outcome) } else { Self::Failed(outcome) }
    }

    fn map<T>(self, wrap: impl Fn(S) -> T) -> Fate<T> {
        match self {
            Self::Succeeded(outcome) => Fate::Succeeded(outcome.map(wrap)),
            Self::Failed(outcome) => Fate::Failed(outcome.map(wrap)),
            Self::Broken(error) => Fate::Broken(error),
            Self::Lost => Fate::Lost,
            Self::Cancelled => Fate::Cancelled,
            Self::NeverStarted => Fate::NeverStarted,
        }
    }
}

/// What became of a race.
#[derive(Debug)]
pub struct Race<S = State> {
    /// Which command won, counted from 0.
    pub winner: Option<usize>,
    /// What became of each command, in their order.
    pub fates: Vec<Fate<S>>,
}

impl<S> Race<S> {
    /// What came of the command that won.
    pub fn won(&self) -> Option<&Outcome<S>> {
        self.fates.get(self.winner?)?.outcome()
    }
}

/// How several commands are run.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExploreOptions {
    /// How many run at once; 0 is one for each processor.
    pub jobs: usize,
    /// Whether the first success ends it.
    pub race: bool,
    /// Stops everything from elsewhere.
    pub cancel: Cancel,
}

impl ExploreOptions {
    /// All commands, one for each processor at a time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs so many at once; 0 is one for each processor.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs;
        self
    }

    /// Ends with the first success.
    pub fn race(mut self, yes: bool) -> Self {
        self.race = yes;
        self
    }

    /// Lets somebody else stop everything.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}

/// What came of several commands together with what moved.
#[derive(Debug)]
pub struct Explored<S = State> {
    /// What became of each, and which won if it was a race.
    pub race: Race<S>,
    /// The commit of the winner's state, when something names it.
    pub commit: Option<CommitId>,
    /// The branch that is at the winner's state.
    pub branch: Option<String>,
}

/// Hears of each command's fate as soon as it is known, from several threads; the number is its place among the commands.
pub type FateSink<'h> = &'h (dyn Fn(usize, &Fate) + Sync);

impl State {
    /// Runs several commands on this state, at most `jobs` at once (0: one for each processor), until the first exits 0.
    ///
    /// The others are then killed whole and nothing of them is kept or remembered. What is remembered of any of them, as far as its
    /// reuse policy allows, wins at once.
    ///
    /// ```no_run
    /// # fn demo(base: &treebox::blocking::State) {
    /// use treebox::Command;
    ///
    /// let ways = ["gcc", "clang", "tcc"].map(|cc| Command::shell(format!("{cc} -o /out /main.c && /out")));
    /// let race = base.race(&ways, 2);
    /// match race.won() {
    ///     Some(outcome) => println!("{} was first: {:?}", race.winner.unwrap_or(0), outcome.state().id()),
    ///     None => println!("none works: {:?}", race.fates),
    /// }
    /// # }
    /// ```
    pub fn race(&self, commands: &[Command], jobs: usize) -> Race {
        let options = ExploreOptions::new().jobs(jobs).race(true);
        Field::new(self, commands, &options, &|_, _| {}).run()
    }

    /// Runs several commands on this state, at most `jobs` at once (0: one for each processor), and gives every outcome in their order.
    ///
    /// An error is that one command's alone.
    pub fn all(&self, commands: &[Command], jobs: usize) -> Vec<Result<Outcome>> {
        let options = ExploreOptions::new().jobs(jobs);
        let race = Field::new(self, commands, &options, &|_, _| {}).run();
        race.fates.into_iter().map(outcome).collect()
    }
}

/// The fate of one of several commands that nobody could stop.
fn outcome<S>(fate: Fate<S>) -> Result<Outcome<S>> {
    match fate {
        Fate::Succeeded(outcome) | Fate::Failed(outcome) => Ok(outcome),
        Fate::Broken(error) => Err(error),
        Fate::Lost | Fate::Cancelled | Fate::NeverStarted => Err(Error::cancelled("the command was stopped")),
    }
}

impl blocking::Engine {
    /// Runs several commands on the state where `target` begins, and tells of each as soon as its fate is known.
    ///
    /// A race moves what `target` says to the state of the winner, as [`blocking::Engine::step`] does. Without a race no ref moves,
    /// and `target` may say where to begin and nothing else.
    pub fn explore(
        &self,
        target: &Target,
        commands: &[Command],
        options: &ExploreOptions,
        hear: FateSink<'_>,
    ) -> Result<Explored> {
        self.core.explore(target, commands, options, hear)
    }
}

impl face::State {
    /// Runs several commands at once until the first exits 0; see [`blocking::State::race`].
    ///
    /// Dropping the future kills them all.
    pub async fn race(&self, commands: Vec<Command>, jobs: usize) -> Race<face::State> {
        let race = self.explored(commands, ExploreOptions::new().jobs(jobs).race(true)).await;
        let fates = race.fates.into_iter().map(|fate| fate.map(face::State::from_blocking)).collect();
        Race { winner: race.winner, fates }
    }

    /// Runs several commands at once and gives every outcome in their order; see [`blocking::State::all`].
    ///
    /// Dropping the future kills them all.
    pub async fn all(&self, commands: Vec<Command>, jobs: usize) -> Vec<Result<Outcome<face::State>>> {
        let race = self.explored(commands, ExploreOptions::new().jobs(jobs)).await;
        let fates = race.fates.into_iter();
        fates.map(|fate| outcome(fate.map(face::State::from_blocking))).collect()
    }

    async fn explored(&self, commands: Vec<Command>, options: ExploreOptions) -> Race {
        let guard = CancelOnDrop(options.cancel.clone());
        let (state, count) = (self.blocking().clone(), commands.len());
        let run = move || Ok(Field::new(&state, &commands, &options, &|_, _| {}).run());
        let race = face::unblock(run).await;
        drop(guard);
        // The runtime is shutting down: nothing ran.
        race.unwrap_or_else(|_| Race {
            winner: None,
            fates: (0..count).map(|_| Fate::NeverStarted).collect(),
        })
    }
}

impl Core {
    fn explore(
        self: &Arc<Self>,
        target: &Target,
        commands: &[Command],
        options: &ExploreOptions,
        hear: FateSink<'_>,
    ) -> Result<Explored> {
        if !options.race {
            if target.branch.is_some() || target.tag.is_some() {
                return Err(Error::invalid("a branch or tag can be at one result: only a race has one"));
            }
            let state = self.resolve(target.from.as_deref().unwrap_or("HEAD"))?;
            let race = Field::new(&state, commands, options, hear).run();
            return Ok(Explored { race, commit: None, branch: None });
        }
        if commands.iter().any(|command| command.disposable) {
            self.refuse_names_of_nothing(target)?;
        }
        let start = self.depart(target)?;
        let race = Field::new(start.parent(), commands, options, hear).run();
        let (mut commit, mut branch) = (None, None);
        if let (Some(winner), Some(outcome)) = (race.winner, race.won()) {
            let text = commands[winner].program.text();
            (commit, branch) = self.arrive(target, &start, outcome, &text)?;
        }
        Ok(Explored { race, commit, branch })
    }
}

/// Does the same work in several threads, this one among them: in `jobs` of them (0: one for each processor), and in no more than there
/// are things to do.
pub(in crate::engine) fn at_once(jobs: usize, things: usize, work: impl Fn() + Sync) {
    let jobs = match jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    std::thread::scope(|scope| {
        for number in 1..jobs.min(things) {
            let thread = std::thread::Builder::new().name(format!("treebox-job-{number}"));
            // With fewer threads than were asked for everything still gets its turn.
            if thread.spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

/// Several commands at their start.
struct Field<'f> {
    state: &'f State,
    commands: &'f [Command],
    options: &'f ExploreOptions,
    hear: FateSink<'f>,
    next: AtomicUsize,
    /// Stops those that have not won.
    others: Cancel,
    /// Who has won. It is held while a success is made a state, so that there is one winner, and one that cannot be kept is none.
    finish: Mutex<Option<usize>>,
    fates: Mutex<Vec<Option<Fate>>>,
}

impl<'f> Field<'f> {
    fn new(
        state: &'f State,
        commands: &'f [Command],
        options: &'f ExploreOptions,
        hear: FateSink<'f>,
    ) -> Self {
        Self {
            state,
            commands,
            options,
            hear,
            next: AtomicUsize::new(0),
            others: Cancel::new(),
            finish: Mutex::new(None),
            fates: Mutex::new(commands.iter().map(|_| None).collect()),
        }
    }

    fn run(self) -> Race {
        if self.options.race {
            self.ask_memory();
        }
        at_once(self.options.jobs, self.commands.len(), || self.work());
        let winner = self.finish.into_inner().unwrap_or_else(PoisonError::into_inner);
        let fates = self.fates.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (hear, fates) = (self.hear, fates.into_iter().enumerate());
        let fates = fates.map(|(at, fate)| {
            fate.unwrap_or_else(|| {
                hear(at, &Fate::NeverStarted);
                Fate::NeverStarted
            })
        });
        Race { winner, fates: fates.collect() }
    }

    /// Lets the first command that is remembered to succeed win, before anything is run.
    fn ask_memory(&self) {
        let core = &self.state.core;
        for (at, command) in self.commands.iter().enumerate().filter(|(_, command)| !command.always_runs()) {
            // What is wrong with a command is told when its turn comes.
            let Ok(resolved) = core.resolve_command(self.state, command) else { continue };
            if let Ok(Some(outcome)) = core.remembered(self.state, command, &resolved) {
                *self.finish.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
                self.others.cancel();
                self.tell(at, Fate::Succeeded(outcome));
                return;
            }
        }
    }

    /// Takes one command after the other until there is none, or nothing more is to begin.
    fn work(&self) {
        while !self.is_over() {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(command) = self.commands.get(at) else { return };
            let fate = self.one(at, command).unwrap_or_else(Fate::Broken);
            self.tell(at, fate);
        }
    }

    fn is_over(&self) -> bool {
        self.others.is_cancelled() || self.options.cancel.is_cancelled()
    }

    fn tell(&self, at: usize, fate: Fate) {
        (self.hear)(at, &fate);
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(fate);
    }

    fn one(&self, at: usize, command: &Command) -> Result<Fate> {
        if command.stdin == Stdin::Piped {
            return Err(Error::invalid("of several commands none can have piped input: use State::spawn"));
        }
        let core = &self.state.core;
        let resolved: Resolved = core.resolve_command(self.state, command)?;
        let cancels = [&self.others, &self.options.cancel];
        let execution = match core.begin_unless_remembered(self.state, command, resolved, None, &cancels) {
            Ok(Begun::Remembered(outcome)) => return self.cross(at, true, || Ok(*outcome)),
            Ok(Begun::Running(execution, _)) => execution,
            Err(Error::Cancelled(_)) if self.is_over() => return Ok(Fate::Cancelled),
            Err(error) => return Err(error),
        };
        let (mut child, ground) = execution.into_parts();
        let finished = {
            let _by_winner = self.others.watch(Killer::new(child.killer()));
            let _by_owner = self.options.cancel.watch(Killer::new(child.killer()));
            child.finish()?
        };
        let success = finished.success();
        if self.is_over() && !success {
            // Dropped, what it stood on is removed.
            return Ok(Fate::Cancelled);
        }
        self.cross(at, success, || ground.conclude(finished))
    }

    /// Makes a state of what has ended. In a race successes do this one at a time, and only the first does.
    fn cross(&self, at: usize, success: bool, conclude: impl FnOnce() -> Result<Outcome>) -> Result<Fate> {
        if !self.options.race || !success {
            return Ok(Fate::of(conclude()?));
        }
        let mut winner = self.finish.lock().unwrap_or_else(PoisonError::into_inner);
        if winner.is_some() {
            return Ok(Fate::Lost);
        }
        let outcome = conclude()?;
        *winner = Some(at);
        self.others.cancel();
        Ok(Fate::Succeeded(outcome))
    }
}
