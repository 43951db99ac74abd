//! What this machine allows.

use super::core::Core;
use super::error::Result;
use super::types::{Finding, Verdict};
use crate::disk::Scratch;
use crate::sandbox::probe;

impl Core {
    pub(super) fn doctor(&self) -> Result<Vec<Finding>> {
        let scratch = Scratch::new(&self.layout().tmp())?;
        let findings = probe::all(scratch.path());
        Ok(findings
            .into_iter()
            .map(|finding| Finding {
                name: finding.name.to_string(),
                outcome: match finding.outcome {
                    probe::Outcome::Ok => Verdict::Ok,
                    probe::Outcome::Degraded => Verdict::Degraded,
                    probe::Outcome::Failed => Verdict::Failed,
                },
                detail: finding.detail,
                cause: text(finding.cause),
                fix: text(finding.fix),
            })
            .collect())
    }
}

fn text(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}
