//! What `treebox branch` and `treebox tag` list, and in which order.

use std::str::FromStr;

use serde::Serialize;
use treebox::{RefListed, RefQuery, RefSort};

use super::time;

/// Options that pick and sort.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    /// List those whose names match a pattern such as 'feature/*'; without one all
    #[arg(short, long)]
    list: bool,
    /// Sort by name, date (when it last moved, else when its command ran) or depth (commits behind it by first parents);
    /// with a - before the key backwards
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    sort: Option<SortKey>,
    /// List those from which REV can be reached
    #[arg(long, value_name = "REV", num_args = 0..=1, default_missing_value = "HEAD")]
    contains: Option<String>,
    /// List those that can be reached from REV
    #[arg(long, value_name = "REV", num_args = 0..=1, default_missing_value = "HEAD", conflicts_with = "no_merged")]
    merged: Option<String>,
    /// List those that cannot be reached from REV
    #[arg(long, value_name = "REV", num_args = 0..=1, default_missing_value = "HEAD")]
    no_merged: Option<String>,
}

/// A key, perhaps with a `-` before it.
#[derive(Debug, Clone, Copy)]
struct SortKey {
    by: RefSort,
    reversed: bool,
}

impl FromStr for SortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (reversed, key) = text.strip_prefix('-').map_or((false, text), |key| (true, key));
        let by = match key {
            "name" | "refname" => RefSort::Name,
            "date" | "committerdate" | "creatordate" => RefSort::Moved,
            "depth" => RefSort::Depth,
            _ => return Err("the keys are name, date and depth, each perhaps with a - before it".to_owned()),
        };
        Ok(Self { by, reversed })
    }
}

impl Listing {
    /// Whether names on the command line are patterns, not something to make.
    pub(super) fn is_asked(&self) -> bool {
        self.list
            || self.sort.is_some()
            || self.contains.is_some()
            || self.merged.is_some()
            || self.no_merged.is_some()
    }

    /// The question to the engine.
    pub(super) fn query(&self, patterns: &[String], states: bool) -> RefQuery {
        RefQuery {
            patterns: patterns.to_vec(),
            sort: self.sort.map(|sort| sort.by).unwrap_or_default(),
            reversed: self.sort.is_some_and(|sort| sort.reversed),
            contains: self.contains.clone(),
            merged: self.merged.clone(),
            not_merged: self.no_merged.clone(),
            states,
        }
    }
}

/// A branch or tag in a list.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    name: &'a str,
    state: Option<String>,
    commit: String,
    current: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u64>,
}

impl<'a> From<&'a RefListed> for Record<'a> {
    fn from(at: &'a RefListed) -> Self {
        Self {
            name: &at.name,
            state: at.state.map(|id| id.to_string()),
            commit: at.commit.to_string(),
            current: at.current,
            moved: at.moved_seconds.map(time::rfc3339_seconds),
            depth: at.depth,
        }
    }
}
