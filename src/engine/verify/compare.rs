//! How two trees differ, path by path.

use std::collections::HashMap;

use super::content::{self, Form, Moments};
use super::{Deviation, DiffersIn, hints};
use crate::engine::core::Core;
use crate::engine::error::Result;
use crate::object::{BlobId, Change, Entry, Name, Node, Timestamp, TreeId, TreePath};

/// The paths that differ between two root trees, parents first. Times later than `epoch` are equal, and directories have none.
pub(super) fn differences(
    core: &Core,
    old: &TreeId,
    new: &TreeId,
    epoch: Option<i64>,
    moments: Moments,
) -> Result<Vec<Deviation>> {
    let mut changes = Vec::new();
    core.each_change(old, new, &mut |change| {
        changes.push(change);
        true
    })?;
    let names = Names::new(&changes);
    let mut found = Vec::new();
    for change in &changes {
        found.extend(difference(core, change, epoch, moments, &names)?);
    }
    Ok(found)
}

fn difference(
    core: &Core,
    change: &Change,
    epoch: Option<i64>,
    moments: Moments,
    names: &Names<'_>,
) -> Result<Option<Deviation>> {
    let path = change.path.to_string();
    let (old, new) = match (&change.old, &change.new) {
        (Some(old), Some(new)) => (old, new),
        (old, _) => {
            let how = vec![if old.is_some() { DiffersIn::Missing } else { DiffersIn::New }];
            let random = names.other(change).map(|other| hints::random_name(&other.to_string()));
            let hint = random.or_else(|| hints::hint(&path, &how, None).map(str::to_owned));
            return Ok(Some(Deviation { path: change.path.clone(), how, detail: None, hint }));
        }
    };
    let (mut how, mut details, mut form) = (Vec::new(), Vec::new(), None);
    match (&old.node, &new.node) {
        (
            Node::File { blob: then, size: then_size, link: old_link },
            Node::File { blob: now, size: now_size, link: new_link },
        ) => {
            if then != now {
                let found = contents(core, (then, *then_size), (now, *now_size), moments)?;
                how.push(if found.order { DiffersIn::Order } else { DiffersIn::Content });
                details.push(found.detail);
                form = Some(found.form);
            }
            if old_link != new_link {
                how.push(DiffersIn::Links);
            }
        }
        (Node::Symlink { target: then }, Node::Symlink { target: now }) if then != now => {
            how.push(DiffersIn::Content);
            let (then, now) = (String::from_utf8_lossy(then), String::from_utf8_lossy(now));
            details.push(format!("to `{then}` then, to `{now}` now"));
        }
        (Node::Directory { .. }, Node::Directory { .. }) => {}
        (then, now) if then != now => {
            how.push(DiffersIn::Kind);
            details.push(format!("a {} then, a {} now", then.kind().as_str(), now.kind().as_str()));
        }
        _ => {}
    }
    attributes(old, new, epoch, &mut how, &mut details);
    if how.is_empty() {
        return Ok(None);
    }
    let hint = hints::hint(&path, &how, form).map(str::to_owned);
    let detail = (!details.is_empty()).then(|| details.join("; "));
    Ok(Some(Deviation { path: change.path.clone(), how, detail, hint }))
}

fn attributes(
    old: &Entry,
    new: &Entry,
    epoch: Option<i64>,
    how: &mut Vec<DiffersIn>,
    details: &mut Vec<String>,
) {
    let (then, now) = (&old.meta, &new.meta);
    if then.mode != now.mode {
        how.push(DiffersIn::Mode);
        details.push(format!("mode {:04o} then, {:04o} now", then.mode, now.mode));
    }
    if (then.uid, then.gid) != (now.uid, now.gid) {
        how.push(DiffersIn::Owner);
        details.push(format!("owner {}:{} then, {}:{} now", then.uid, then.gid, now.uid, now.gid));
    }
    if then.xattrs != now.xattrs {
        how.push(DiffersIn::Xattrs);
        let differ = |from: &Entry, other: &Entry| {
            let from = from
                .meta
                .xattrs
                .iter()
                .filter(|one| other.meta.xattrs.get(&one.name) != Some(&one.value[..]));
            from.map(|one| String::from_utf8_lossy(&one.name).into_owned()).collect::<Vec<_>>()
        };
        let mut names = [differ(old, new), differ(new, old)].concat();
        names.sort();
        names.dedup();
        details.push(format!("attributes {}", names.join(", ")));
    }
    let clamped = |time: Timestamp| epoch.map(Timestamp::from_seconds).map_or(time, |limit| time.min(limit));
    let is_directory =
        matches!(old.node, Node::Directory { .. }) || matches!(new.node, Node::Directory { .. });
    if !is_directory && clamped(then.mtime) != clamped(now.mtime) {
        how.push(DiffersIn::Mtime);
    }
}

fn contents(
    core: &Core,
    then: (&BlobId, u64),
    now: (&BlobId, u64),
    moments: Moments,
) -> Result<content::Found> {
    if then.1.max(now.1) > content::MAX_LOOKED_INTO_BYTES as u64 {
        let detail = format!("{} bytes then, {} bytes now", then.1, now.1);
        return Ok(content::Found { order: false, detail, form: Form::Other });
    }
    Ok(content::compare(&core.store.read_blob(then.0)?, &core.store.read_blob(now.0)?, moments))
}

/// What stands on one side only, by directory and content: so a file with a random name finds its other self.
struct Names<'c>(HashMap<Key, &'c TreePath>);

/// The directory, the content, and whether it is the result of now that has it.
type Key = (Vec<Name>, BlobId, bool);

impl<'c> Names<'c> {
    fn new(changes: &'c [Change]) -> Self {
        let mut names = HashMap::new();
        for change in changes {
            if let Some((key, _)) = key(change) {
                names.entry(key).or_insert(&change.path);
            }
        }
        Self(names)
    }

    /// The path on the other side that has the same content in the same directory, if there is one.
    fn other(&self, change: &Change) -> Option<&TreePath> {
        let ((directory, blob, is_new), size) = key(change)?;
        // Empty files are alike by nature.
        self.0.get(&(directory, blob, !is_new)).filter(|_| size > 0).copied()
    }
}

fn key(change: &Change) -> Option<(Key, u64)> {
    let (entry, is_new) = match (&change.old, &change.new) {
        (Some(old), None) => (old, false),
        (None, Some(new)) => (new, true),
        _ => return None,
    };
    let Node::File { blob, size, .. } = entry.node else { return None };
    let (_, directory) = change.path.names().split_last()?;
    Some(((directory.to_vec(), blob, is_new), size))
}
