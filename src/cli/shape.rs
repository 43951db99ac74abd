//! How differences are shown: the options that `diff`, `show` and `log` share.

use treebox::blocking::Engine;
use treebox::object::TreePath;
use treebox::{ChangeKind, CompareOptions, Difference, Moved};

use super::exit::Failure;
use super::output::{self, HEADER, PLAIN, Span};
use super::patch::{self, Detail, Write};
use super::{stat, unified};

/// What is shown of what differs.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Shape {
    /// A letter (A added, M modified, D deleted, R renamed) and the path
    #[arg(long, group = "form")]
    name_status: bool,
    /// Only the paths
    #[arg(long, group = "form")]
    name_only: bool,
    /// How much of each path differs, and a summary
    #[arg(long, group = "form")]
    stat: bool,
    /// Added and deleted lines of each path, for programs
    #[arg(long, group = "form")]
    numstat: bool,
    /// What differs, as a patch that `git apply` and `patch -p1` take
    #[arg(short, long, group = "form")]
    patch: bool,
    /// A patch with N equal lines around each difference
    #[arg(short = 'U', long, value_name = "N")]
    #[arg(conflicts_with_all = ["name_status", "name_only", "stat", "numstat"])]
    unified: Option<usize>,
    /// Show what was moved as deleted and added
    #[arg(long)]
    no_renames: bool,
    /// Also show modification times where more differs, and directories of which only that differs
    #[arg(long)]
    times: bool,
}

/// The form that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    NameStatus,
    NameOnly,
    Stat,
    Numstat,
    Patch,
}

impl Shape {
    /// What was asked for; `None` when nothing was.
    pub(super) fn form(&self) -> Option<Form> {
        let chosen = [
            (self.name_status, Form::NameStatus),
            (self.name_only, Form::NameOnly),
            (self.stat, Form::Stat),
            (self.numstat, Form::Numstat),
            (self.patch || self.unified.is_some(), Form::Patch),
        ];
        chosen.into_iter().find_map(|(asked, form)| asked.then_some(form))
    }

    /// How the two states are to be compared.
    pub(super) fn options(&self, paths: &[TreePath]) -> CompareOptions {
        let each = matches!(self.form(), Some(Form::Patch | Form::Numstat));
        CompareOptions {
            paths: paths.to_vec(),
            renames: !self.no_renames,
            moved: if each { Moved::Each } else { Moved::Whole },
            directory_times: self.times,
        }
    }

    fn detail(&self) -> Detail {
        Detail { context: self.unified.unwrap_or(unified::DEFAULT_CONTEXT), times: self.times }
    }

    /// Writes differences line by line.
    pub(super) fn write(
        &self,
        engine: &Engine,
        differences: &[Difference],
        form: Form,
        columns: usize,
        write: &mut Write<'_>,
    ) -> Result<(), Failure> {
        match form {
            Form::NameStatus => differences.iter().try_for_each(|difference| write(name_status(difference))),
            Form::NameOnly => differences
                .iter()
                .try_for_each(|difference| write(vec![Span::name(difference.change.path.to_bytes())])),
            Form::Stat => stat::stat(engine, differences, columns, write),
            Form::Numstat => stat::numstat(engine, differences, write),
            Form::Patch => differences
                .iter()
                .try_for_each(|difference| patch::write(engine, difference, self.detail(), write)),
        }
    }

    /// A difference as a patch, as one text.
    pub(super) fn patch(&self, engine: &Engine, difference: &Difference) -> Result<Vec<u8>, Failure> {
        let mut text = Vec::new();
        patch::write(engine, difference, self.detail(), &mut |spans| {
            for span in &spans {
                text.extend_from_slice(span.bytes());
            }
            text.push(b'\n');
            Ok(())
        })?;
        Ok(text)
    }
}

/// The letter, a tab, the path; of what was moved both paths.
fn name_status(difference: &Difference) -> Vec<Span> {
    let change = &difference.change;
    let path = Span::name(change.path.to_bytes());
    let tab = || Span::text(PLAIN, "\t");
    if let Some(from) = &difference.renamed_from {
        return vec![Span::text(HEADER, "R100"), tab(), Span::name(from.to_bytes()), tab(), path];
    }
    let kind = change.kind();
    let style = match kind {
        ChangeKind::Added => output::ADDED,
        ChangeKind::Modified => output::MODIFIED,
        ChangeKind::Deleted => output::DELETED,
    };
    vec![Span::text(style, kind.letter().to_string()), tab(), path]
}
