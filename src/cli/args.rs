//! What can be typed: the global options and the list of verbs. Each verb's own options stand in its file.

use std::path::PathBuf;

use clap::{
    Arg, ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};

use super::{
    bisect, blame, branch, cat, checkout, completions, cp, describe, diff, doctor, du, export, fsck, gc,
    grep, images, import, lineage, log, ls, merge, note, op, pick, pull, push, reflog, replay, reset, run,
    shell, show, switch, tag, undo, verify, why,
};

const GLOBAL: &str = "Global options";

/// Container file systems with a Git-like history: run a command once, branch from that exact file system as often as
/// you like.
///
/// REV is Git's revision syntax over branches, tags, image names, state ids and commit ids; REV:/path is a file in it.
#[derive(Debug, Parser)]
#[command(name = "treebox", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

impl Cli {
    /// The whole command line, for whoever parses or describes it.
    pub(super) fn everything() -> clap::Command {
        everywhere(Self::command())
    }

    /// What was typed.
    pub(super) fn typed() -> Result<Self, clap::Error> {
        let mut command = Self::everything();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        cli.global.verbose = verbose_at_any_level(&matches);
        Ok(cli)
    }
}

/// Gives every verb the option `--verbose`, and its letter where that is free.
fn everywhere(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |verb| {
            let taken = verb.get_arguments().any(|arg| arg.get_short() == Some('v'));
            let option = Arg::new("verbose").long("verbose").action(ArgAction::SetTrue);
            let option = option.help("Say more").help_heading(GLOBAL);
            everywhere(verb.arg(if taken { option } else { option.short('v') }))
        })
    })
}

fn verbose_at_any_level(matches: &ArgMatches) -> bool {
    matches.get_flag("verbose") || matches.subcommand().is_some_and(|(_, verb)| verbose_at_any_level(verb))
}

/// Options that every verb has, before or after it.
#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// The store's directory [default: $TREEBOX_STORE, else $XDG_DATA_HOME/treebox]
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    pub(super) store: Option<PathBuf>,
    /// Give one JSON document on stdout; JSON Lines where it lists
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) json: bool,
    /// Print nothing but results
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(super) quiet: bool,
    /// Say more
    // Not clap's own global: behind `grep` the letter is grep's. See `everywhere`.
    #[arg(short, long, help_heading = GLOBAL)]
    pub(super) verbose: bool,
    /// When to use colours; auto honours NO_COLOR
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = GLOBAL)]
    pub(super) color: When,
    /// Never show results through a pager; $TREEBOX_PAGER, $PAGER or less is used on a terminal
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) no_pager: bool,
    /// Which ids commands have: auto takes the first of mapped, recorded and plain that works
    #[arg(long, global = true, value_name = "KIND", default_value = "auto", help_heading = GLOBAL)]
    pub(super) identity: IdentityKind,
    /// What a power cut may take: commit, nothing that was reported; batch, the newest commits of some 30 s
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "commit",
        env = "TREEBOX_DURABILITY",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(super) durability: DurabilityKind,
}

/// When what was written is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DurabilityKind {
    /// When a command ends
    Commit,
    /// Some time later
    Batch,
}

/// Which ids commands have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum IdentityKind {
    /// The best that works
    Auto,
    /// Subordinate ids, or an error
    Mapped,
    /// One id; owners that root inside asks for are recorded
    Recorded,
    /// One id and nothing else
    Plain,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// On a terminal
    Auto,
    Always,
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Import(import::Args),
    Pull(pull::Args),
    Push(push::Args),
    Export(export::Args),
    Images(images::Args),
    Run(Box<run::Args>),
    Shell(Box<shell::Args>),
    Branch(branch::Args),
    Tag(tag::Args),
    Note(note::Args),
    Describe(describe::Args),
    Lineage(lineage::Args),
    Switch(switch::Args),
    Checkout(checkout::Args),
    /// Show HEAD: its branch, its state and what that came from
    Status,
    Log(log::Args),
    Show(show::Args),
    Diff(diff::Args),
    Blame(blame::Args),
    Why(why::Args),
    Ls(ls::Args),
    Cat(cat::Args),
    Grep(grep::Args),
    Cp(cp::Args),
    Merge(merge::Args),
    Replay(replay::Args),
    CherryPick(pick::Args),
    Reset(reset::Args),
    Reflog(reflog::Args),
    Undo(undo::Args),
    Op(op::Args),
    Bisect(Box<bisect::Args>),
    Verify(verify::Args),
    Gc(gc::Args),
    Du(du::Args),
    Fsck(fsck::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}
