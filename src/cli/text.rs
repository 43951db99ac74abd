//! How names, sizes, modes and times of a run look to a person.

use std::fmt::Write as _;
use std::time::Duration;

use treebox::ChangeCounts;
use treebox::object::{Entry, Node};

/// Bytes as text that is safe on a terminal: control bytes, bytes that are no UTF-8 and characters that turn the
/// direction of writing become `\xNN` or `\u{N}`. Newline and tab stay where `lines` says so.
pub(super) fn escaped(bytes: &[u8], lines: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let turns =
                matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            match c {
                '\n' | '\t' if lines => text.push(c),
                c if turns => _ = write!(text, "\\u{{{:x}}}", c as u32),
                c if c.is_control() => _ = write!(text, "\\x{:02x}", c as u32),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The first line of a command, with a mark where more follows.
pub(super) fn first_line(command: &str) -> String {
    let command = command.trim();
    match command.split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => command.to_owned(),
    }
}

/// A size with three digits or so: `0 B`, `12 B`, `1.5 KiB`, `310 MiB`.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        // 1023.95 would be rounded to 1024.0.
        if value < 1023.5 {
            let digits = usize::from(unit != "B" && value < 99.95);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0} PiB")
}

/// A duration: `0.02s`, `12.3s`, `4m05s`, `2h03m`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_secs() {
        0..10 => format!("{seconds:.2}s"),
        10..60 => format!("{seconds:.1}s"),
        whole @ 60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        whole => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

/// The mode as `ls -l` shows it, such as `drwxr-xr-t`.
pub(super) fn mode(entry: &Entry) -> String {
    let kind = match entry.node {
        Node::File { .. } => '-',
        Node::Directory { .. } => 'd',
        Node::Symlink { .. } => 'l',
        Node::Fifo => 'p',
        Node::Socket => 's',
        Node::Char { .. } => 'c',
        Node::Block { .. } => 'b',
    };
    let mode = entry.meta.mode;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

/// How many bytes an entry holds: a file's content, a symlink's target, else 0.
pub(super) fn entry_size(entry: &Entry) -> u64 {
    match &entry.node {
        Node::File { size, .. } => *size,
        Node::Symlink { target } => target.len() as u64,
        _ => 0,
    }
}

/// `(+1 ~0 -0)`: paths added, modified and deleted.
pub(super) fn changes(counts: ChangeCounts) -> String {
    format!("(+{} ~{} -{})", counts.added, counts.modified, counts.deleted)
}

/// `1 entry`, `2 entries`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use treebox::object::{Meta, Timestamp};

    use super::*;

    #[test]
    fn control_bytes_and_broken_utf8_are_escaped_and_letters_are_not() {
        assert_eq!(escaped("grün\x1b[31m\n".as_bytes(), false), r"grün\x1b[31m\x0a");
        assert_eq!(escaped(b"a\nb\t\x00\xff", true), "a\nb\t\\x00\\xff");
        assert_eq!(escaped("\u{202e}gpj.exe".as_bytes(), true), r"\u{202e}gpj.exe");
    }

    #[test]
    fn sizes_have_about_three_digits() {
        let shown: Vec<_> = [0, 12, 1023, 1024, 1536, 104_857_600, u64::MAX].into_iter().map(size).collect();
        assert_eq!(shown, ["0 B", "12 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 MiB", "16384 PiB"]);
    }

    #[test]
    fn durations_lose_digits_as_they_grow() {
        let shown: Vec<_> = [20, 12_345, 245_000, 7_380_000]
            .into_iter()
            .map(|ms| duration(Duration::from_millis(ms)))
            .collect();
        assert_eq!(shown, ["0.02s", "12.3s", "4m05s", "2h03m"]);
    }

    #[test]
    fn modes_look_as_ls_shows_them() {
        let entry = |mode, node| Entry { meta: Meta::root_owned(mode, Timestamp::default()), node };
        assert_eq!(mode(&entry(0o644, Node::Fifo)), "prw-r--r--");
        assert_eq!(mode(&entry(0o7777, Node::Socket)), "srwsrwsrwt");
        assert_eq!(mode(&entry(0o7000, Node::Char { major: 1, minor: 3 })), "c--S--S--T");
    }
}
