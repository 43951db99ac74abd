//! `treebox doctor`: what this machine allows, the cause and the fix for what it does not.

use serde::Serialize;
use treebox::{Finding, Verdict};

use super::exit::{Exit, Failure};
use super::{Context, output};

#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    outcome: &'static str,
    detail: &'a str,
    cause: Option<&'a str>,
    fix: Option<&'a str>,
}

pub(super) fn perform(context: &mut Context) -> Result<Exit, Failure> {
    let findings = context.engine()?.doctor()?;
    let out = &mut context.out;
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    for Finding { name, outcome, detail, cause, fix } in &findings {
        let (word, style) = match outcome {
            Verdict::Ok => ("ok", output::ADDED),
            Verdict::Degraded => ("degraded", output::MODIFIED),
            Verdict::Failed => ("failed", output::DELETED),
        };
        if out.json() {
            let (cause, fix) = (cause.as_deref(), fix.as_deref());
            out.record(&Record { name, outcome: word, detail, cause, fix })?;
            continue;
        }
        writeln!(out, "{}  {name:width$}  {detail}", out.paint(style, format!("{word:8}")))?;
        for (label, text) in [("cause", cause), ("fix", fix)] {
            if let Some(text) = text {
                writeln!(out, "          {label}: {text}")?;
            }
        }
    }
    let works = findings.iter().all(|finding| finding.outcome != Verdict::Failed);
    Ok(if works { Exit::DONE } else { Exit::NO })
}
