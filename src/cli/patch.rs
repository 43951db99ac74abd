//! Differences as a patch that `git apply` and GNU patch take.
//!
//! # Compatibility
//! Files and symlinks are told in Git's format. What Git has no words for stands in lines before a file's own, `# PATH: what`, which
//! both tools pass over: owners, extended attributes, times, hard links, directories and devices. Binary contents are told by size
//! and digest; such a patch is to be read, and `git apply` says that it cannot make them.

use treebox::blocking::Engine;
use treebox::object::{Entry, Kind, Node};
use treebox::{Contents, Difference};

use super::exit::Failure;
use super::output::{HEADER, PLAIN, Span};
use super::{text, time, unified};

/// How much a patch tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detail {
    /// Equal lines around a difference.
    pub(super) context: usize,
    /// Whether times are told where other things differ as well.
    pub(super) times: bool,
}

/// Takes a line.
pub(super) type Write<'w> = dyn FnMut(Vec<Span>) -> Result<(), Failure> + 'w;

/// Writes one difference.
pub(super) fn write(
    engine: &Engine,
    difference: &Difference,
    detail: Detail,
    write: &mut Write<'_>,
) -> Result<(), Failure> {
    let change = &difference.change;
    let new_path = change.path.to_bytes();
    let old_path = difference.renamed_from.as_ref().map_or_else(|| new_path.clone(), |path| path.to_bytes());
    let paths = Paths { old: &old_path, new: &new_path, renamed: difference.renamed_from.is_some() };
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    match (old, new) {
        (Some(left), Some(right)) if left.node.kind() != right.node.kind() => {
            // As Git does it: what was there goes, and something of another kind comes.
            one(engine, &paths, old, None, detail, write)?;
            one(engine, &paths, None, new, detail, write)
        }
        _ => one(engine, &paths, old, new, detail, write),
    }
}

struct Paths<'p> {
    old: &'p [u8],
    new: &'p [u8],
    renamed: bool,
}

fn one(
    engine: &Engine,
    paths: &Paths<'_>,
    old: Option<&Entry>,
    new: Option<&Entry>,
    detail: Detail,
    write: &mut Write<'_>,
) -> Result<(), Failure> {
    let Some(shown) = new.or(old) else { return Ok(()) };
    for note in notes(paths, old, new, detail) {
        let path = quoted(if new.is_some() { paths.new } else { paths.old });
        write(vec![Span::text(HEADER, [b"# ", path.as_slice(), b": ", note.as_bytes()].concat())])?;
    }
    if !matches!(shown.node.kind(), Kind::File | Kind::Symlink) {
        return Ok(());
    }
    let shown_path = String::from_utf8_lossy(if new.is_some() { paths.new } else { paths.old }).into_owned();
    let contents = engine.compare_contents(old, new).map_err(|error| error.met_at(shown_path))?;
    let header = header(paths, old, new, &contents);
    if header.is_empty() {
        return Ok(());
    }
    let (left, right) = (prefixed(b"a", paths.old), prefixed(b"b", paths.new));
    write(vec![Span::text(HEADER, [b"diff --git ", left.as_slice(), b" ", &right].concat())])?;
    for line in header {
        write(vec![Span::text(HEADER, line)])?;
    }
    let absent = b"/dev/null".to_vec();
    let (left, right) =
        (if old.is_some() { left } else { absent.clone() }, if new.is_some() { right } else { absent });
    match contents {
        Contents::Text { old, new, hunks } if !hunks.is_empty() => {
            write(vec![Span::text(HEADER, [b"--- ", ended(&left).as_slice()].concat())])?;
            write(vec![Span::text(HEADER, [b"+++ ", ended(&right).as_slice()].concat())])?;
            unified::unified(&old, &new, &hunks, detail.context, write)
        }
        Contents::Binary { too_long } => {
            let side = |name: &[u8], entry: Option<&Entry>| match entry {
                Some(entry) => [name, format!(" ({})", measured(entry)).as_bytes()].concat(),
                None => name.to_vec(),
            };
            let what: &[u8] = if too_long { b"Binary (too long for lines)" } else { b"Binary" };
            let (left, right) = (side(&left, old), side(&right, new));
            write(vec![Span::text(PLAIN, [what, b" files ", &left, b" and ", &right, b" differ"].concat())])
        }
        _ => Ok(()),
    }
}

/// Git's lines between the names and the contents; none when it would have nothing to say.
fn header(paths: &Paths<'_>, old: Option<&Entry>, new: Option<&Entry>, contents: &Contents) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mode = |entry: &Entry| match entry.node.kind() {
        Kind::Symlink => "120000".to_owned(),
        _ => format!("10{:04o}", entry.meta.mode),
    };
    let mut kept = String::new();
    match (old, new) {
        (None, Some(new)) => lines.push(format!("new file mode {}", mode(new)).into_bytes()),
        (Some(old), None) => lines.push(format!("deleted file mode {}", mode(old)).into_bytes()),
        (Some(old), Some(new)) if mode(old) != mode(new) => {
            lines.push(format!("old mode {}", mode(old)).into_bytes());
            lines.push(format!("new mode {}", mode(new)).into_bytes());
        }
        (_, Some(new)) => kept = format!(" {}", mode(new)),
        (None, None) => {}
    }
    if paths.renamed && old.is_some() && new.is_some() {
        lines.push(b"similarity index 100%".to_vec());
        lines.push([b"rename from ", quoted(&paths.old[1..]).as_slice()].concat());
        lines.push([b"rename to ", quoted(&paths.new[1..]).as_slice()].concat());
    }
    if *contents != Contents::Equal {
        let id = |entry: Option<&Entry>| match entry.map(|entry| &entry.node) {
            Some(Node::File { blob, .. }) => blob.short(),
            Some(Node::Symlink { target }) => treebox::object::BlobId::of(target).short(),
            _ => "0".repeat(12),
        };
        lines.push(format!("index {}..{}{kept}", id(old), id(new)).into_bytes());
    }
    lines
}

/// What Git has no words for.
fn notes(paths: &Paths<'_>, old: Option<&Entry>, new: Option<&Entry>, detail: Detail) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(shown) = new.or(old) else { return notes };
    let in_git = matches!(shown.node.kind(), Kind::File | Kind::Symlink);
    let (Some(left), Some(right)) = (old, new) else {
        let verb = if new.is_some() { "new" } else { "deleted" };
        if !in_git {
            notes.push(format!("{verb} {}, mode {:04o}", described(&shown.node), shown.meta.mode));
        }
        if new.is_some() {
            if (shown.meta.uid, shown.meta.gid) != (0, 0) {
                notes.push(format!("owner {}:{}", shown.meta.uid, shown.meta.gid));
            }
            notes.extend(xattrs(None, shown));
        }
        return notes;
    };
    if paths.renamed && !in_git {
        notes.push(format!("{} moved from {}", described(&right.node), text::escaped(paths.old, false)));
    }
    if !in_git && left.meta.mode != right.meta.mode {
        notes.push(format!("mode {:04o} -> {:04o}", left.meta.mode, right.meta.mode));
    }
    if !in_git && right.node.kind() != Kind::Directory && left.node != right.node {
        notes.push(format!("{} -> {}", described(&left.node), described(&right.node)));
    }
    let owner = |entry: &Entry| format!("{}:{}", entry.meta.uid, entry.meta.gid);
    if owner(left) != owner(right) {
        notes.push(format!("owner {} -> {}", owner(left), owner(right)));
    }
    notes.extend(xattrs(Some(left), right));
    let alone = only_time(left, right);
    if !alone && let Some(note) = link_note(&left.node, &right.node) {
        notes.push(note);
    }
    if left.meta.mtime != right.meta.mtime && (detail.times || (alone && !paths.renamed)) {
        notes.push(format!("time {} -> {}", time::rfc3339(left.meta.mtime), time::rfc3339(right.meta.mtime)));
    }
    notes
}

/// Whether nothing but the modification time differs.
pub(super) fn only_time(old: &Entry, new: &Entry) -> bool {
    let same = match (&old.node, &new.node) {
        (Node::Directory { .. }, Node::Directory { .. }) => true,
        (old, new) => old == new,
    };
    old.meta.same_but_time(&new.meta) && same
}

/// Which attributes besides time and content differ, in a few words.
pub(super) fn attributes(old: &Entry, new: &Entry) -> Vec<String> {
    let mut words = Vec::new();
    if old.meta.mode != new.meta.mode {
        words.push(format!("mode {:04o} -> {:04o}", old.meta.mode, new.meta.mode));
    }
    if (old.meta.uid, old.meta.gid) != (new.meta.uid, new.meta.gid) {
        let owner = |entry: &Entry| format!("{}:{}", entry.meta.uid, entry.meta.gid);
        words.push(format!("owner {} -> {}", owner(old), owner(new)));
    }
    if old.meta.xattrs != new.meta.xattrs {
        words.push("xattrs".to_owned());
    }
    if link_note(&old.node, &new.node).is_some() {
        words.push("links".to_owned());
    }
    words
}

fn link_note(old: &Node, new: &Node) -> Option<String> {
    let (Node::File { link: old, .. }, Node::File { link: new, .. }) = (old, new) else { return None };
    match (old, new) {
        (old, new) if old == new => None,
        (None, _) => Some("now the same file as another path".to_owned()),
        (_, None) => Some("no longer the same file as another path".to_owned()),
        _ => Some("the same file as other paths than before".to_owned()),
    }
}

fn xattrs(old: Option<&Entry>, new: &Entry) -> Vec<String> {
    let old_all = old.map(|entry| entry.meta.xattrs.clone()).unwrap_or_default();
    let show = |value: &[u8]| {
        let cut = &value[..value.len().min(MAX_XATTR_BYTES)];
        let more = if cut.len() < value.len() { "…" } else { "" };
        format!("\"{}\"{more}", text::escaped(cut, false))
    };
    let name = |name: &[u8]| text::escaped(name, false);
    let mut notes = Vec::new();
    for xattr in old_all.iter().filter(|xattr| new.meta.xattrs.get(&xattr.name).is_none()) {
        notes.push(format!("xattr {} removed, was {}", name(&xattr.name), show(&xattr.value)));
    }
    for xattr in new.meta.xattrs.iter() {
        match old_all.get(&xattr.name) {
            Some(value) if value == xattr.value => {}
            Some(value) => {
                notes.push(format!("xattr {} {} -> {}", name(&xattr.name), show(value), show(&xattr.value)));
            }
            None => notes.push(format!("xattr {} = {}", name(&xattr.name), show(&xattr.value))),
        }
    }
    notes
}

/// How much of an extended attribute's value is shown, in bytes.
const MAX_XATTR_BYTES: usize = 64;

/// `char device 1:3`, `directory`.
pub(super) fn described(node: &Node) -> String {
    match node {
        Node::Char { major, minor } => format!("char device {major}:{minor}"),
        Node::Block { major, minor } => format!("block device {major}:{minor}"),
        node => node.kind().as_str().to_owned(),
    }
}

/// `12 KiB, blake3 …`.
fn measured(entry: &Entry) -> String {
    let size = text::entry_size(entry);
    match &entry.node {
        Node::File { blob, .. } => format!("{size} bytes, blake3 {blob}"),
        _ => format!("{size} bytes"),
    }
}

/// `a/etc/passwd`, in quotes where Git would write them.
fn prefixed(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    quoted(&[prefix, path].concat())
}

/// A name behind `---` or `+++`: a tab ends it where blanks would leave its end unclear.
fn ended(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    if !name.starts_with(b"\"") && name.contains(&b' ') {
        name.push(b'\t');
    }
    name
}

/// A name in Git's quotes when it holds a quote, a backslash, or what is not safe on a terminal.
pub(super) fn quoted(name: &[u8]) -> Vec<u8> {
    let plain = !name.contains(&b'"') && !name.contains(&b'\\');
    if plain && text::escaped(name, false).as_bytes() == name {
        return name.to_vec();
    }
    let mut out = vec![b'"'];
    for byte in name {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            b'\t' => out.extend(b"\\t"),
            b' '..=b'~' => out.push(*byte),
            byte => out.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_quotes_them_where_that_is_needed() {
        let quote = |name: &[u8]| String::from_utf8(quoted(name)).unwrap();
        assert_eq!(quote(b"a/with blank"), "a/with blank");
        assert_eq!(quote("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(quote(b"a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(quote(b"a\nb\tc\x1b\xff"), r#""a\nb\tc\033\377""#);
        assert_eq!(ended(b"a/b c"), b"a/b c\t");
        assert_eq!(ended(b"a/b"), b"a/b");
    }
}
