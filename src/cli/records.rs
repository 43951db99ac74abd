//! The shapes of `--json`.
//!
//! # Compatibility
//! Field names are a contract with scripts: fields may be added, none renamed or taken away. Bytes that are no UTF-8 stand
//! in a field of the same name with `_base64` behind; for a path or a target the plain field then holds the closest
//! text as well.

use serde::Serialize;
use treebox::object::{Entry, Node, TreePath};
use treebox::{ChangeCounts, CommitInfo, Head, Image, Ref, ReflogLine, Resources, Written};

use super::text::entry_size;
use super::time;

/// Bytes of a stream: text where UTF-8, else base64. At most one of the two is there.
pub(super) fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64(bytes))),
    }
}

/// Base64 of RFC 4648 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// What a command wrote.
#[derive(Serialize)]
pub(super) struct OutputRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
}

impl OutputRecord {
    pub(super) fn new(stdout: &[u8], stderr: &[u8]) -> Self {
        let (stdout, stdout_base64) = text_or_base64(stdout);
        let (stderr, stderr_base64) = text_or_base64(stderr);
        Self { stdout, stdout_base64, stderr, stderr_base64 }
    }
}

/// Milliseconds with three digits behind the point.
pub(super) fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A path in a state and what is there.
#[derive(Serialize)]
pub(super) struct EntryRecord {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(flatten)]
    attributes: Attributes,
}

/// What is at a path.
#[derive(Serialize)]
pub(super) struct Attributes {
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    major: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minor: Option<u32>,
}

/// The closest text, and base64 where the bytes are none.
pub(super) fn lossy(bytes: &[u8]) -> (String, Option<String>) {
    (String::from_utf8_lossy(bytes).into_owned(), text_or_base64(bytes).1)
}

impl EntryRecord {
    pub(super) fn new(path: &TreePath, entry: &Entry) -> Self {
        let (path, path_base64) = lossy(&path.to_bytes());
        Self { path, path_base64, attributes: Attributes::new(entry) }
    }
}

impl Attributes {
    pub(super) fn new(entry: &Entry) -> Self {
        let meta = &entry.meta;
        let (target, target_base64) = match &entry.node {
            Node::Symlink { target } => {
                let (text, base64) = lossy(target);
                (Some(text), base64)
            }
            _ => (None, None),
        };
        let (major, minor) = match entry.node {
            Node::Char { major, minor } | Node::Block { major, minor } => (Some(major), Some(minor)),
            _ => (None, None),
        };
        Self {
            kind: entry.node.kind().as_str(),
            mode: format!("{:04o}", meta.mode),
            uid: meta.uid,
            gid: meta.gid,
            size: entry_size(entry),
            mtime: time::rfc3339(meta.mtime),
            target,
            target_base64,
            major,
            minor,
        }
    }
}

/// How many paths changed.
#[derive(Serialize)]
pub(super) struct Counts {
    added: u64,
    modified: u64,
    deleted: u64,
}

impl From<ChangeCounts> for Counts {
    fn from(counts: ChangeCounts) -> Self {
        Self { added: counts.added, modified: counts.modified, deleted: counts.deleted }
    }
}

/// What a run used.
#[derive(Serialize)]
pub(super) struct ResourcesRecord {
    user_ms: f64,
    system_ms: f64,
    max_rss_kib: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl From<Resources> for ResourcesRecord {
    fn from(used: Resources) -> Self {
        let Resources { user_ms, system_ms, max_rss_kib, read_bytes, written_bytes } = used;
        Self { user_ms, system_ms, max_rss_kib, read_bytes, written_bytes }
    }
}

/// A commit as `log` lists it.
#[derive(Serialize)]
pub(super) struct CommitRecord<'a> {
    commit: String,
    state: String,
    tree: String,
    parents: Vec<String>,
    command: &'a str,
    exit_code: Option<i32>,
    duration_ms: Option<f64>,
    started: Option<String>,
    changes: Counts,
    refs: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

impl<'a> From<&'a CommitInfo> for CommitRecord<'a> {
    fn from(info: &'a CommitInfo) -> Self {
        Self {
            commit: info.commit.to_string(),
            state: info.state.to_string(),
            tree: info.tree.to_string(),
            parents: info.parents.iter().map(ToString::to_string).collect(),
            command: &info.command,
            exit_code: info.exit_code,
            duration_ms: info.duration_ms,
            started: info.started_ms.map(time::rfc3339_ms),
            changes: info.changes.into(),
            refs: &info.refs,
            note: info.note.as_deref(),
        }
    }
}

/// A branch or tag.
#[derive(Serialize)]
pub(super) struct RefRecord<'a> {
    name: &'a str,
    state: String,
    commit: String,
    current: bool,
}

impl<'a> From<&'a Ref> for RefRecord<'a> {
    fn from(at: &'a Ref) -> Self {
        Self {
            name: &at.name,
            state: at.state.to_string(),
            commit: at.commit.to_string(),
            current: at.current,
        }
    }
}

/// Where HEAD is.
#[derive(Serialize)]
pub(super) struct HeadRecord<'a> {
    branch: Option<&'a str>,
    commit: Option<String>,
    state: Option<String>,
}

impl<'a> From<&'a Head> for HeadRecord<'a> {
    fn from(head: &'a Head) -> Self {
        Self {
            branch: head.branch.as_deref(),
            commit: head.commit.map(|id| id.to_string()),
            state: head.state.map(|id| id.to_string()),
        }
    }
}

/// An image name.
#[derive(Serialize)]
pub(super) struct ImageRecord<'a> {
    name: &'a str,
    state: String,
    commit: String,
    size: u64,
    entries: u64,
    source: &'a str,
    imported: String,
}

impl<'a> From<&'a Image> for ImageRecord<'a> {
    fn from(image: &'a Image) -> Self {
        Self {
            name: &image.name,
            state: image.state.to_string(),
            commit: image.commit.to_string(),
            size: image.size_bytes,
            entries: image.entries,
            source: &image.source,
            imported: time::rfc3339_ms(image.imported_ms),
        }
    }
}

/// One line of a reflog.
#[derive(Serialize)]
pub(super) struct ReflogRecord<'a> {
    name: String,
    commit: Option<String>,
    old: Option<String>,
    time: String,
    message: &'a str,
}

impl<'a> ReflogRecord<'a> {
    pub(super) fn new(of: &str, line: &'a ReflogLine) -> Self {
        Self {
            name: format!("{of}@{{{}}}", line.index),
            commit: line.new.map(|id| id.to_string()),
            old: line.old.map(|id| id.to_string()),
            time: time::rfc3339_seconds(line.time_seconds),
            message: &line.message,
        }
    }
}

/// A path that could not be taken over, and why.
#[derive(Serialize)]
pub(super) struct Skipped<'a> {
    path: &'a str,
    reason: &'a str,
}

/// The skipped paths of an import or a copy.
pub(super) fn skipped(list: &[(String, String)]) -> Vec<Skipped<'_>> {
    list.iter().map(|(path, reason)| Skipped { path, reason }).collect()
}

/// What was written to the host.
#[derive(Serialize)]
pub(super) struct WrittenRecord<'a> {
    state: String,
    path: String,
    to: String,
    entries: u64,
    skipped: Vec<Skipped<'a>>,
}

impl<'a> WrittenRecord<'a> {
    pub(super) fn new(state: String, path: &TreePath, to: &std::path::Path, written: &'a Written) -> Self {
        Self {
            state,
            path: path.to_string(),
            to: to.display().to_string(),
            entries: written.entries,
            skipped: skipped(&written.skipped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
