//! The command line: arguments, text, exit codes and JSON.
//!
//! One file per verb. [`args`] holds what can be typed, [`output`] is the one place that writes to stdout and stderr,
//! [`exit`] the one that turns errors into exit codes and hints, [`records`] has the shapes of `--json`.
//!
//! This room sees the public API alone. It never opens a file of the store, never decides what is remembered, and does
//! no work before the arguments are parsed: help and completions open no store.
//!
//! # Compatibility
//! Names, options, exit codes and JSON fields are a contract with scripts; the words of a text are not.

mod access;
mod args;
mod bisect;
mod blame;
mod branch;
mod cat;
mod checkout;
mod completions;
mod cp;
mod describe;
mod diff;
mod differences;
mod doctor;
mod du;
mod exit;
mod export;
mod fsck;
mod gc;
mod graph;
mod grep;
mod host;
mod images;
mod import;
mod lineage;
mod listing;
mod log;
mod ls;
mod merge;
mod note;
mod op;
mod output;
mod pager;
mod patch;
mod pick;
mod progress;
mod pull;
mod push;
mod records;
mod reflog;
mod replay;
mod reset;
mod rev_path;
mod run;
mod shape;
mod shell;
mod show;
mod stat;
mod status;
mod switch;
mod tag;
mod text;
mod time;
mod undo;
mod unified;
mod values;
mod verify;
mod why;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use treebox::blocking::Engine;
use treebox::{Durability, EngineOptions, IdentityChoice};

use args::{Cli, DurabilityKind, Global, IdentityKind, Verb};
use exit::{Exit, Failure};
use output::Output;

/// What a verb has at hand: the options that every verb has, and the output.
struct Context {
    global: Global,
    out: Output,
}

impl Context {
    /// Opens the store; verbs that need none never call this.
    fn engine(&self) -> Result<Engine, Failure> {
        self.engine_with(|options| options)
    }

    /// What was said of the store, and of how commands run.
    fn options(&self) -> Result<EngineOptions, Failure> {
        let options = match &self.global.store {
            Some(dir) => EngineOptions::at(dir),
            None => EngineOptions::from_env()?,
        };
        let identity = match self.global.identity {
            IdentityKind::Auto => IdentityChoice::Auto,
            IdentityKind::Mapped => IdentityChoice::Subordinate,
            IdentityKind::Recorded => IdentityChoice::Recorded,
            IdentityKind::Plain => IdentityChoice::Single,
        };
        let durability = match self.global.durability {
            DurabilityKind::Commit => Durability::Commit,
            DurabilityKind::Batch => Durability::Batch,
        };
        let options = match std::env::var("TREEBOX_MAX_SIZE") {
            Ok(text) if !text.is_empty() => {
                let bytes = values::size(&text)
                    .map_err(|error| Failure::Usage(format!("TREEBOX_MAX_SIZE: {error}")))?;
                options.max_size(Some(bytes))
            }
            _ => options,
        };
        Ok(options.identity(identity).durability(durability))
    }

    /// Opens the store with other options than usual.
    fn engine_with(&self, adapt: impl FnOnce(EngineOptions) -> EngineOptions) -> Result<Engine, Failure> {
        let engine = Engine::open(adapt(self.options()?))?;
        // This process ends with its one verb. What it leaves open the kernel closes faster, and the worker ends by itself when its socket closes.
        std::mem::forget(engine.clone());
        Ok(engine)
    }
}

/// Parses the arguments, performs the verb, and says how it went.
pub(crate) fn main() -> ExitCode {
    exit::report_panics_as_bugs();
    open_many_files();
    let cli = match Cli::typed() {
        Ok(cli) => cli,
        Err(error) => return exit::not_parsed(&error),
    };
    let mut context = Context { out: Output::new(&cli.global), global: cli.global };
    let done = catch_unwind(AssertUnwindSafe(|| perform(cli.verb, &mut context)));
    match done {
        Ok(result) => {
            let flushed = context.out.close();
            exit::conclude(result.and_then(|exit| flushed.map(|()| exit)), &context.out)
        }
        // The hook has told it.
        Err(_) => Exit::FAILED.into(),
    }
}

/// Allows this process as many open files as the system lets it have: deep trees take one for each level, and shells give 1024.
fn open_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn perform(verb: Verb, context: &mut Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Import(args) => import::perform(&args, context),
        Verb::Pull(args) => pull::perform(&args, context),
        Verb::Push(args) => push::perform(&args, context),
        Verb::Export(args) => export::perform(&args, context),
        Verb::Images(args) => images::perform(&args, context),
        Verb::Run(args) => run::perform(*args, context),
        Verb::Shell(args) => shell::perform(*args, context),
        Verb::Branch(args) => branch::perform(&args, context),
        Verb::Tag(args) => tag::perform(&args, context),
        Verb::Note(args) => note::perform(&args, context),
        Verb::Describe(args) => describe::perform(&args, context),
        Verb::Lineage(args) => lineage::perform(&args, context),
        Verb::Switch(args) => switch::perform(&args, context),
        Verb::Checkout(args) => checkout::perform(&args, context),
        Verb::Status => status::perform(context),
        Verb::Log(args) => log::perform(&args, context),
        Verb::Show(args) => show::perform(&args, context),
        Verb::Diff(args) => diff::perform(&args, context),
        Verb::Blame(args) => blame::perform(&args, context),
        Verb::Why(args) => why::perform(&args, context),
        Verb::Ls(args) => ls::perform(&args, context),
        Verb::Cat(args) => cat::perform(&args, context),
        Verb::Grep(args) => grep::perform(&args, context),
        Verb::Cp(args) => cp::perform(&args, context),
        Verb::Merge(args) => merge::perform(&args, context),
        Verb::Replay(args) => replay::perform(&args, context),
        Verb::CherryPick(args) => pick::perform(&args, context),
        Verb::Reset(args) => reset::perform(&args, context),
        Verb::Reflog(args) => reflog::perform(&args, context),
        Verb::Undo(args) => undo::perform(&args, context),
        Verb::Op(args) => op::perform(&args, context),
        Verb::Bisect(args) => bisect::perform(*args, context),
        Verb::Verify(args) => verify::perform(&args, context),
        Verb::Gc(args) => gc::perform(&args, context),
        Verb::Du(args) => du::perform(&args, context),
        Verb::Fsck(args) => fsck::perform(&args, context),
        Verb::Doctor(args) => doctor::perform(&args, context),
        Verb::Completions(args) => completions::perform(&args, context),
    }
}
