//! How the limits of a run were kept, for a person and for a script.

use serde::Serialize;
use treebox::{Limit, LimitKind, Mechanism, Outcome};

use crate::cli::text;

#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Entry<'a>>,
    killed_for: Option<&'static str>,
}

#[derive(Serialize)]
struct Entry<'a> {
    value: serde_json::Number,
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// What `--json` says; nothing when no limit was asked for.
pub(super) fn record<S>(outcome: &Outcome<S>) -> Option<Record<'_>> {
    let find = |kind| outcome.limits.iter().find(|limit| limit.kind == kind).map(entry);
    (!outcome.limits.is_empty()).then(|| Record {
        memory: find(LimitKind::Memory),
        cpus: find(LimitKind::Cpus),
        pids: find(LimitKind::Pids),
        disk: find(LimitKind::Disk),
        killed_for: outcome.killed_for.map(name),
    })
}

fn entry(limit: &Limit) -> Entry<'_> {
    let value = match limit.kind {
        LimitKind::Cpus => serde_json::Number::from_f64(limit.value as f64 / 1000.0),
        _ => None,
    };
    let by = match limit.by {
        Mechanism::Cgroup => "cgroup",
        Mechanism::PerUser => "user",
        Mechanism::Affinity => "affinity",
        _ => "watch",
    };
    Entry { value: value.unwrap_or_else(|| limit.value.into()), by, reason: limit.reason.as_deref() }
}

fn name(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Memory => "memory",
        LimitKind::Cpus => "cpus",
        LimitKind::Pids => "pids",
        _ => "disk",
    }
}

/// The limit that killed the command.
pub(super) fn killed_for<S>(outcome: &Outcome<S>) -> Option<&Limit> {
    outcome.limits.iter().find(|limit| Some(limit.kind) == outcome.killed_for)
}

/// `memory limit of 512.0 MiB`.
pub(super) fn text(limit: &Limit) -> String {
    format!("{} limit of {}", name(limit.kind), amount(limit))
}

fn amount(limit: &Limit) -> String {
    match limit.kind {
        LimitKind::Cpus => (limit.value as f64 / 1000.0).to_string(),
        LimitKind::Pids => limit.value.to_string(),
        _ => text::size(limit.value),
    }
}

/// `limits: memory 512 MiB and pids 100 by cgroup`, or by what else and why; nothing when there is no limit.
pub(super) fn line<S>(outcome: &Outcome<S>) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut reason = None;
    for limit in &outcome.limits {
        let by = match (limit.by, limit.kind) {
            (Mechanism::Cgroup, _) => "by cgroup",
            (Mechanism::PerUser, _) => "per user id inside, and watched in all",
            (Mechanism::Affinity, _) => "as whole processors, which the command may change",
            (_, LimitKind::Disk) => "watched",
            _ => "watched every 50 ms",
        };
        parts.push(format!("{} {} {by}", name(limit.kind), amount(limit)));
        reason = reason.or(limit.reason.as_deref());
    }
    let why = reason.map(|reason| format!(" (no cgroup: {reason})")).unwrap_or_default();
    (!parts.is_empty()).then(|| format!("limits: {}{why}", parts.join("; ")))
}
