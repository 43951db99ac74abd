//! The first commit whose file system fails a command.

mod search;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::search::{Next, Search};
use super::cancel::Cancel;
use super::command::{Command, Stdin};
use super::core::Core;
use super::error::{Error, ErrorKind, Result};
use super::live::Killer;
use super::naming::without_trailers;
use super::outcome::{Exited, Finished};
use super::state::State;
use crate::history::{Order, WalkOptions};
use crate::object::{CommitId, StateId};

/// What is searched for, and where.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BisectQuery {
    /// Revisions that pass, at least one. Their ancestors are taken to pass as well.
    pub good: Vec<String>,
    /// A revision that fails.
    pub bad: String,
    /// The test. It is run disposably, whatever it says of that.
    pub command: Command,
    /// Stops the search from elsewhere.
    pub cancel: Cancel,
}

impl BisectQuery {
    /// Between one revision that passes a command and one that fails it.
    pub fn new(good: impl Into<String>, bad: impl Into<String>, command: Command) -> Self {
        Self { good: vec![good.into()], bad: bad.into(), command, cancel: Cancel::new() }
    }

    /// One more revision that passes.
    pub fn good(mut self, rev: impl Into<String>) -> Self {
        self.good.push(rev.into());
        self
    }

    /// Lets somebody else stop it.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}

/// What a test says of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BisectVerdict {
    /// It exited 0.
    Good,
    /// It exited with 1 to 124, 126 or 127, was not found, could not be executed, or its time was up.
    Bad,
    /// It exited with 125: it cannot tell.
    Skip,
    /// It exited with 128 or more, or a signal ended it: something is wrong with the test.
    Abort,
}

/// Why a commit was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BisectPart {
    /// Whether it really passes.
    Good,
    /// Whether it really fails.
    Bad,
    /// Where histories parted: it has to pass, for what passes is no ancestor of what fails.
    Base,
    /// It halves what is left.
    Middle,
}

/// One test.
#[derive(Debug, Clone)]
pub struct BisectStep {
    /// The commit.
    pub commit: CommitId,
    /// Its state.
    pub state: StateId,
    /// The command that made it.
    pub made_by: String,
    /// Why it was tested.
    pub part: BisectPart,
    /// What came of it.
    pub tested: BisectVerdict,
    /// The exit code as a shell gives it.
    pub exit_code: i32,
    /// Whether the same state had been tested before, so that nothing ran.
    pub known: bool,
    /// How long it took.
    pub duration: Duration,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// How many commits may still be the first bad one.
    pub left: usize,
    /// About how many tests are to come.
    pub steps_left: u32,
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bisected {
    /// This commit fails and all its parents pass, or are ancestors of what passes.
    Found(CommitId),
    /// It is one of these, older ones first: all but the last cannot be tested.
    Undecided(Vec<CommitId>),
    /// This commit was said to pass, or is an ancestor of one that was, and does not; with the exit code.
    GoodFails(CommitId, i32),
    /// This commit was said to fail and does not; with the exit code.
    BadPasses(CommitId, i32),
    /// What was said to fail is, or leads to, what was said to pass: nothing lies between.
    Nothing,
    /// The test ended at this commit as no test does; with the exit code.
    Aborted(CommitId, i32),
}

impl super::blocking::Engine {
    /// Finds the first commit whose file system fails a command, in about log2 of the number of commits between; `hear` gets every test.
    ///
    /// Commits with the same state are tested once. Nothing is kept of the tests, and no ref moves.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] when it was stopped; whatever keeps a command from being run.
    pub fn bisect(&self, query: &BisectQuery, hear: &mut dyn FnMut(&BisectStep)) -> Result<Bisected> {
        self.core.bisect(query, hear)
    }
}

impl Core {
    fn bisect(self: &Arc<Self>, query: &BisectQuery, hear: &mut dyn FnMut(&BisectStep)) -> Result<Bisected> {
        if query.good.is_empty() {
            return Err(Error::invalid("a bisection needs at least one revision that passes"));
        }
        if query.command.stdin == Stdin::Piped {
            return Err(Error::invalid("a test that runs many times cannot have piped input"));
        }
        let history = self.history()?;
        let bad = self.resolve_commit(&query.bad)?;
        let good = query.good.iter().map(|rev| self.resolve_commit(rev)).collect::<Result<Vec<_>>>()?;
        // Newest first, and no parent before all its children: backwards, every commit comes after its parents.
        let options = WalkOptions {
            tips: vec![bad],
            hidden: good.clone(),
            order: Order::Topological,
            ..WalkOptions::default()
        };
        let mut walked = history.walk(&options)?.collect::<Result<Vec<_>, _>>()?;
        walked.reverse();
        if walked.is_empty() {
            return Ok(Bisected::Nothing);
        }
        let place: HashMap<CommitId, usize> =
            walked.iter().enumerate().map(|(at, walked)| (walked.id, at)).collect();
        let parents = walked
            .iter()
            .map(|walked| walked.parents.iter().filter_map(|parent| place.get(parent).copied()).collect());
        let mut search = Search::new(parents.collect());
        let mut tests = Tests { core: self, query, known: HashMap::new(), hear };

        let mut ends: Vec<_> = good.iter().map(|commit| (*commit, BisectPart::Good)).collect();
        for commit in &good {
            let bases = history.merge_bases(commit, &bad)?;
            ends.extend(bases.into_iter().filter(|base| base != commit).map(|base| (base, BisectPart::Base)));
        }
        for (commit, part) in ends {
            let (tested, code) = tests.test(commit, part, &search)?;
            match tested {
                BisectVerdict::Good => {}
                BisectVerdict::Abort => return Ok(Bisected::Aborted(commit, code)),
                BisectVerdict::Bad | BisectVerdict::Skip => return Ok(Bisected::GoodFails(commit, code)),
            }
        }
        let (tested, code) = tests.test(bad, BisectPart::Bad, &search)?;
        match tested {
            BisectVerdict::Bad => {}
            BisectVerdict::Abort => return Ok(Bisected::Aborted(bad, code)),
            BisectVerdict::Good | BisectVerdict::Skip => return Ok(Bisected::BadPasses(bad, code)),
        }
        loop {
            let at = match search.next() {
                Next::Test(at) => at,
                Next::Found(at) => return Ok(Bisected::Found(walked[at].id)),
                Next::Undecided(these) => {
                    return Ok(Bisected::Undecided(these.into_iter().map(|at| walked[at].id).collect()));
                }
            };
            let commit = walked[at].id;
            let step = tests.run(commit)?;
            match step.tested {
                BisectVerdict::Good => search.good(at),
                BisectVerdict::Bad => search.bad(at),
                BisectVerdict::Skip => search.skip(at),
                BisectVerdict::Abort => {}
            }
            let (tested, code) = tests.tell(step, BisectPart::Middle, &search);
            if tested == BisectVerdict::Abort {
                return Ok(Bisected::Aborted(commit, code));
            }
        }
    }

    /// Runs a command disposably, so that it can be stopped.
    fn try_out(self: &Arc<Self>, state: &State, command: &Command, cancel: &Cancel) -> Result<Finished> {
        let resolved = self.resolve_command(state, command)?;
        let resolved = match resolved.spec.root_mode == self.learn_root_mode()? {
            true => resolved,
            // Subordinate ids came or went since a worker last ran.
            false => self.resolve_command(state, command)?,
        };
        let (execution, _) = self.begin(state, command, resolved, None)?;
        let (mut child, ground) = execution.into_parts();
        let finished = {
            let _watched = cancel.watch(Killer::new(child.killer()));
            child.finish()?
        };
        if cancel.is_cancelled() {
            return Err(Error::cancelled("the search was stopped"));
        }
        // Concluded for its checks: a run over its limit of disk is no verdict.
        ground.conclude(finished.clone())?;
        Ok(finished)
    }
}

/// The tests of one search.
struct Tests<'t> {
    core: &'t Arc<Core>,
    query: &'t BisectQuery,
    known: HashMap<StateId, (BisectVerdict, i32)>,
    hear: &'t mut dyn FnMut(&BisectStep),
}

impl Tests<'_> {
    fn test(&mut self, commit: CommitId, part: BisectPart, search: &Search) -> Result<(BisectVerdict, i32)> {
        let step = self.run(commit)?;
        Ok(self.tell(step, part, search))
    }

    fn tell(&mut self, mut step: BisectStep, part: BisectPart, search: &Search) -> (BisectVerdict, i32) {
        step.part = part;
        (step.left, step.steps_left) = (search.left(), search.steps_left());
        (self.hear)(&step);
        (step.tested, step.exit_code)
    }

    /// Tests a commit, unless its state was tested before.
    fn run(&mut self, commit: CommitId) -> Result<BisectStep> {
        if self.query.cancel.is_cancelled() {
            return Err(Error::cancelled("the search was stopped"));
        }
        let state = self.core.state_at(commit)?;
        let record = self.core.history()?.read_commit(&commit)?;
        let made_by = without_trailers(&record.message).to_owned();
        let mut step = BisectStep {
            commit,
            state: state.id(),
            made_by,
            part: BisectPart::Middle,
            tested: BisectVerdict::Abort,
            exit_code: 0,
            known: true,
            duration: Duration::ZERO,
            stdout: Vec::new(),
            stderr: Vec::new(),
            left: 0,
            steps_left: 0,
        };
        if let Some(known) = self.known.get(&state.id()) {
            (step.tested, step.exit_code) = *known;
            return Ok(step);
        }
        let command = self.query.command.clone().disposable(true);
        step.known = false;
        step.exit_code = match self.core.try_out(&state, &command, &self.query.cancel) {
            Ok(finished) => {
                step.tested = verdict(finished.exited());
                step.duration = finished.duration;
                let code = finished.shell_code();
                (step.stdout, step.stderr) = (finished.stdout, finished.stderr);
                code
            }
            // As a shell tells of it.
            Err(error) => {
                step.tested = BisectVerdict::Bad;
                step.stderr = error.to_string().into_bytes();
                match error.kind() {
                    ErrorKind::CommandNotFound => 127,
                    ErrorKind::CommandNotExecutable => 126,
                    ErrorKind::TimedOut => 124,
                    _ => return Err(error),
                }
            }
        };
        self.known.insert(state.id(), (step.tested, step.exit_code));
        Ok(step)
    }
}

/// What an end says, as `git bisect run` has it.
fn verdict(exited: Exited) -> BisectVerdict {
    match exited.shell_code() {
        0 => BisectVerdict::Good,
        125 => BisectVerdict::Skip,
        1..=127 => BisectVerdict::Bad,
        _ => BisectVerdict::Abort,
    }
}
