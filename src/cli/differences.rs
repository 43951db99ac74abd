//! The shape of a difference in `--json`; [`super::records`] says what may change.

use serde::Serialize;
use treebox::Difference;
use treebox::blocking::Engine;

use super::exit::Failure;
use super::records::{Attributes, EntryRecord, lossy, text_or_base64};
use super::shape::{Form, Shape};
use super::stat::{self, Amount};

/// A path that differs: the newer side's attributes, the older's when it was deleted; `old` when both are there.
#[derive(Serialize)]
pub(super) struct DifferenceRecord {
    status: String,
    #[serde(flatten)]
    entry: EntryRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    renamed_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renamed_from_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Attributes>,
    /// With `--stat` and `--numstat`, of texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines_added: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines_deleted: Option<u64>,
    /// With `--stat` and `--numstat`, where the content is no text.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
    /// With `--patch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_base64: Option<String>,
}

impl DifferenceRecord {
    /// `None` when neither side has the path, which no comparison reports.
    fn new(difference: &Difference) -> Option<Self> {
        let change = &difference.change;
        let shown = change.new.as_ref().or(change.old.as_ref())?;
        let (renamed_from, renamed_from_base64) = match &difference.renamed_from {
            Some(path) => {
                let (text, base64) = lossy(&path.to_bytes());
                (Some(text), base64)
            }
            None => (None, None),
        };
        let status = if renamed_from.is_some() { 'R' } else { change.kind().letter() };
        Some(Self {
            status: status.to_string(),
            entry: EntryRecord::new(&change.path, shown),
            renamed_from,
            renamed_from_base64,
            old: change.old.as_ref().filter(|_| change.new.is_some()).map(Attributes::new),
            lines_added: None,
            lines_deleted: None,
            binary: false,
            patch: None,
            patch_base64: None,
        })
    }
}

/// The records of differences, each with what the form asks for.
pub(super) fn records<'a>(
    engine: &'a Engine,
    shape: &'a Shape,
    differences: &'a [Difference],
) -> impl Iterator<Item = Result<DifferenceRecord, Failure>> + 'a {
    differences.iter().filter_map(move |difference| {
        let mut record = DifferenceRecord::new(difference)?;
        Some(extended(engine, shape, difference, &mut record).map(|()| record))
    })
}

fn extended(
    engine: &Engine,
    shape: &Shape,
    difference: &Difference,
    record: &mut DifferenceRecord,
) -> Result<(), Failure> {
    match shape.form() {
        Some(Form::Stat | Form::Numstat) => match stat::amount(engine, difference)? {
            Amount::Lines { added, deleted } => {
                (record.lines_added, record.lines_deleted) = (Some(added), Some(deleted));
            }
            Amount::Bytes { .. } => record.binary = true,
            Amount::Other(_) => {}
        },
        Some(Form::Patch) => {
            (record.patch, record.patch_base64) = text_or_base64(&shape.patch(engine, difference)?);
        }
        _ => {}
    }
    Ok(())
}
