//! How a state came to be, as an image tells it: the image it grew from, and the commits since.

use std::sync::Arc;

use serde_json::Value;

use super::core::Core;
use super::error::Result;
use super::image_record;
use super::naming::{said_in, without_trailers};
use super::state::State;
use crate::oci::{Lineage, LineageStep};

impl Core {
    /// Follows first parents from a state to the image that was imported, or to the first commit.
    pub(super) fn lineage(self: &Arc<Self>, state: &State) -> Result<Lineage> {
        let mut lineage = Lineage { state: (*state.value).clone(), base: None, steps: Vec::new() };
        let mut next = Some(self.name(state)?);
        while let Some(commit) = next {
            let record = self.history()?.read_commit(&commit)?;
            let value = said_in(&record);
            let at = self.store.state(&self.state_of_commit(&commit)?)?;
            if let Some(image) = value.get("image").and_then(image_record::read) {
                lineage.base = Some((image, at));
                break;
            }
            lineage.steps.push(LineageStep {
                root: at.root,
                text: step_text(&value, &record.message),
                time_seconds: record.time_seconds,
            });
            next = record.parents.first().copied();
        }
        lineage.steps.reverse();
        Ok(lineage)
    }
}

/// A commit as an image's history tells it: shell text as Docker does.
fn step_text(record: &Value, message: &str) -> String {
    if let Some(text) = record.pointer("/command/program/shell").and_then(Value::as_str) {
        return format!("/bin/sh -c {text}");
    }
    without_trailers(message).to_owned()
}
