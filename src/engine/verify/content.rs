//! How the bytes of one file differ between two runs: pure.

use std::io::Read;

use crate::object::{MAX_TEXT_BYTES, is_text, lines};

/// The longest content that is looked into, in bytes, compressed or not.
pub(super) const MAX_LOOKED_INTO_BYTES: usize = MAX_TEXT_BYTES;
/// How much of a line is told.
const MAX_TOLD_CHARS: usize = 80;

/// How two contents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether they hold the same lines or members in another order.
    pub(super) order: bool,
    /// Where the first difference is, or what it is about.
    pub(super) detail: String,
    /// What kind of content it is.
    pub(super) form: Form,
}

/// What a content is, as far as hints ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines; with what the two differing lines have in common.
    Text(Likeness),
    /// Members and their names, such as tar, ar and zip.
    Archive,
    /// gzip of which nothing but the header differs.
    GzipHeader,
    /// An ELF file.
    Elf,
    /// A data base of SQLite.
    Sqlite,
    /// Bytes that hold the time of the run as a number.
    Time,
    /// Anything else.
    Other,
}

/// When the two runs were, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moments {
    /// The recorded run, where it is known.
    pub(super) then: Option<i64>,
    /// The run of now.
    pub(super) now: i64,
}

impl Moments {
    /// How far a time in a file may be from the start of its run, in seconds.
    const NEAR_SECONDS: u64 = 3600;

    /// Whether around the first byte that differs both have the time of their run, as a number of 32 bits in either order.
    fn stand_at(self, at: usize, old: &[u8], new: &[u8]) -> bool {
        let Some(then) = self.then else { return false };
        let is_near = |bytes: &[u8], from: usize, moment: i64| {
            let Some(word) = bytes.get(from..from + 4).and_then(|word| <[u8; 4]>::try_from(word).ok()) else {
                return [false, false];
            };
            [u32::from_le_bytes(word), u32::from_be_bytes(word)]
                .map(|number| i64::from(number).abs_diff(moment) <= Self::NEAR_SECONDS)
        };
        (at.saturating_sub(3)..=at).any(|from| {
            let (old, new) = (is_near(old, from, then), is_near(new, from, self.now));
            old[0] && new[0] || old[1] && new[1]
        })
    }
}

/// What two lines that differ look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// They are the same but for digits: a time, a number, a process id.
    Digits,
    /// A path below a temporary or build directory stands in them.
    Path,
    /// They have a long word of random letters each.
    Random,
    /// Nothing in particular.
    None,
}

/// Compares two contents that differ.
pub(super) fn compare(old: &[u8], new: &[u8], moments: Moments) -> Found {
    gzip(old, new, moments).unwrap_or_else(|| compare_as_is(old, new, moments))
}

/// Compares without unpacking: what is packed twice is unpacked once, so that nothing unpacks to itself for ever.
fn compare_as_is(old: &[u8], new: &[u8], moments: Moments) -> Found {
    for (parse, word) in [(tar as Parse, "tar"), (ar as Parse, "ar"), (zip as Parse, "zip")] {
        if let (Some(old), Some(new)) = (parse(old), parse(new)) {
            return archive(word, &old, &new);
        }
    }
    if is_text(old) && is_text(new) {
        return text(old, new);
    }
    let at = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let mut detail = format!("byte {at} of {} then and {} now", old.len(), new.len());
    if moments.stand_at(at, old, new) {
        detail += ": the time of the run";
        return Found { order: false, detail, form: Form::Time };
    }
    let form = match old {
        [0x7f, b'E', b'L', b'F', ..] => Form::Elf,
        _ if old.starts_with(b"SQLite format 3\0") => Form::Sqlite,
        _ => Form::Other,
    };
    Found { order: false, detail, form }
}

fn text(old: &[u8], new: &[u8]) -> Found {
    let (left, right) = (lines(old), lines(new));
    let sorted = |mut lines: Vec<&[u8]>| {
        lines.sort_unstable();
        lines.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let order = left.len() == right.len() && sorted(left.clone()) == sorted(right.clone());
    let at = left.iter().zip(&right).take_while(|(old, new)| old == new).count();
    let (old, new) = (left.get(at).copied(), right.get(at).copied());
    let told = |line: Option<&[u8]>| line.map_or_else(|| "no line".to_owned(), shown);
    let mut detail = format!("line {}: {} then, {} now", at + 1, told(old), told(new));
    if order {
        detail = format!("the same lines in another order; {detail}");
    }
    Found { order, detail, form: Form::Text(likeness(old.unwrap_or_default(), new.unwrap_or_default())) }
}

/// A line between quotes, cut where it is long.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    match text.char_indices().nth(MAX_TOLD_CHARS) {
        Some((at, _)) => format!("`{}…`", &text[..at]),
        None => format!("`{text}`"),
    }
}

fn likeness(old: &[u8], new: &[u8]) -> Likeness {
    let without_digits = |line: &[u8]| {
        let mut out = Vec::with_capacity(line.len());
        for byte in line {
            match byte {
                b'0'..=b'9' if out.last() == Some(&b'0') => {}
                b'0'..=b'9' => out.push(b'0'),
                byte => out.push(*byte),
            }
        }
        out
    };
    let has = |line: &[u8], word: &str| line.windows(word.len()).any(|part| part == word.as_bytes());
    if ["/tmp/", "/var/tmp/", "/build/"].iter().any(|dir| has(old, dir) && has(new, dir)) {
        return Likeness::Path;
    }
    if !old.is_empty() && without_digits(old) == without_digits(new) {
        return Likeness::Digits;
    }
    let words = |line: &[u8]| {
        let words = line.split(|byte| !byte.is_ascii_alphanumeric());
        words.filter(|word| word.len() >= 16).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let (old, new) = (words(old), words(new));
    if old.len() == new.len() && old.iter().zip(&new).any(|(old, new)| old != new && old.len() == new.len()) {
        return Likeness::Random;
    }
    Likeness::None
}

/// Of two gzip files: that only their headers differ, or how what they hold differs.
fn gzip(old: &[u8], new: &[u8], moments: Moments) -> Option<Found> {
    let (old_inside, new_inside) = (gunzip(old)?, gunzip(new)?);
    if old_inside != new_inside {
        let found = compare_as_is(&old_inside, &new_inside, moments);
        return Some(Found { detail: format!("unpacked, {}", found.detail), ..found });
    }
    let time = |bytes: &[u8]| u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let detail = match (time(old), time(new)) {
        (then, now) if then != now => {
            format!("the same unpacked; the time in the gzip header is {then} then, {now} now")
        }
        _ => "the same unpacked; packed in another way or under another name".to_owned(),
    };
    Some(Found { order: false, detail, form: Form::GzipHeader })
}

fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < 18 || !bytes.starts_with(&[0x1f, 0x8b, 8]) {
        return None;
    }
    let mut inside = Vec::new();
    let most = MAX_LOOKED_INTO_BYTES as u64;
    let read = flate2::bufread::MultiGzDecoder::new(bytes).take(most + 1).read_to_end(&mut inside);
    (read.is_ok() && inside.len() as u64 <= most).then_some(inside)
}

/// A member of an archive: its name, what tells its content, and what else its header says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    name: Vec<u8>,
    content: Vec<u8>,
    header: Vec<u8>,
}

/// Reads the members of an archive; `None` when it is none of that kind.
type Parse = fn(&[u8]) -> Option<Vec<Member>>;

fn archive(word: &str, old: &[Member], new: &[Member]) -> Found {
    let found = |order, detail| Found { order, detail, form: Form::Archive };
    let name = |member: Option<&Member>| {
        member.map_or_else(
            || "no member".to_owned(),
            |member| format!("`{}`", String::from_utf8_lossy(&member.name)),
        )
    };
    let plain = |members: &[Member]| {
        let mut plain: Vec<_> = members.iter().map(|one| (one.name.clone(), one.content.clone())).collect();
        plain.sort_unstable();
        plain
    };
    let at = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (left, right) = (old.get(at), new.get(at));
    let order = old.iter().map(|one| &one.name).ne(new.iter().map(|one| &one.name));
    if plain(old) == plain(new) {
        return match order {
            true => found(
                true,
                format!(
                    "{word}: the same members in another order; number {} is {} then, {} now",
                    at + 1,
                    name(left),
                    name(right)
                ),
            ),
            false if left.is_none() => {
                found(false, format!("{word}: the same members; what is around them differs"))
            }
            false => found(
                false,
                format!(
                    "{word}: the same members with other times, owners or modes; the first is {}",
                    name(left)
                ),
            ),
        };
    }
    found(false, format!("{word}: member {} is {} then, {} now", at + 1, name(left), name(right)))
}

fn octal(field: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    usize::from_str_radix(text, 8).ok()
}

fn tar(bytes: &[u8]) -> Option<Vec<Member>> {
    const BLOCK: usize = 512;
    let mut members = Vec::new();
    let mut rest = bytes;
    while let Some(header) = rest.get(..BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        if &header[257..262] != b"ustar" {
            return None;
        }
        let size = octal(&header[124..136])?;
        let content = rest.get(BLOCK..BLOCK.checked_add(size)?)?;
        let field =
            |range: std::ops::Range<usize>| header[range].split(|byte| *byte == 0).next().unwrap_or_default();
        let mut name = field(345..500).to_vec();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(field(0..100));
        // The kind and the target of a link count as content.
        let content = [&header[156..257], content].concat();
        members.push(Member { name, content, header: header.to_vec() });
        rest = rest.get(BLOCK + size.div_ceil(BLOCK) * BLOCK..).unwrap_or_default();
    }
    (!members.is_empty()).then_some(members)
}

fn ar(bytes: &[u8]) -> Option<Vec<Member>> {
    let mut rest = bytes.strip_prefix(b"!<arch>\n")?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        let header = rest.get(..60)?;
        let size: usize = std::str::from_utf8(&header[48..58]).ok()?.trim().parse().ok()?;
        let content = rest.get(60..60_usize.checked_add(size)?)?;
        let name = header[..16].trim_ascii_end().to_vec();
        members.push(Member { name, content: content.to_vec(), header: header.to_vec() });
        rest = rest.get(60 + size + size % 2..).unwrap_or_default();
    }
    Some(members)
}

/// By the central directory, whose checksums stand for the contents.
fn zip(bytes: &[u8]) -> Option<Vec<Member>> {
    if !bytes.starts_with(b"PK\x03\x04") {
        return None;
    }
    let number = |at: usize, count: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(count)?)?;
        field
            .iter()
            .rev()
            .try_fold(0_usize, |number, byte| number.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    // The end record is at the end, before a comment of at most 64 KiB.
    let tail = bytes.len().saturating_sub(22 + 65_535);
    let end = tail + bytes[tail..].windows(4).rposition(|part| part == b"PK\x05\x06")?;
    let (count, mut at) = (number(end + 10, 2)?, number(end + 16, 4)?);
    let mut members = Vec::new();
    for _ in 0..count {
        if bytes.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let (name, extra, comment) = (number(at + 28, 2)?, number(at + 30, 2)?, number(at + 32, 2)?);
        let header = bytes.get(at..at + 46)?.to_vec();
        members.push(Member {
            name: bytes.get(at + 46..at + 46 + name)?.to_vec(),
            // Checksum and length; the packed length is the packer's affair.
            content: [&header[16..20], &header[24..28]].concat(),
            header,
        });
        at += 46 + name + extra + comment;
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Compares what two runs made at unknown times.
    fn compare(old: &[u8], new: &[u8]) -> Found {
        super::compare(old, new, Moments { then: None, now: 0 })
    }

    #[test]
    fn the_time_of_the_run_is_seen_in_bytes() {
        let moments = Moments { then: Some(1_700_000_000), now: 1_764_000_000 };
        let file = |time: [u8; 4]| [&[0, 9, 9][..], &time, &[7; 9]].concat();
        for make in [|time: u32| time.to_le_bytes(), |time: u32| time.to_be_bytes()] {
            let found = super::compare(&file(make(1_700_000_100)), &file(make(1_764_000_007)), moments);
            assert_eq!(
                (found.form, found.detail.ends_with(": the time of the run")),
                (Form::Time, true),
                "{found:?}"
            );
            let found = super::compare(&file(make(1_700_000_100)), &file(make(1_700_000_101)), moments);
            assert_eq!(found.form, Form::Other);
        }
        assert_eq!(super::compare(&[0, 1], &[0], moments).form, Form::Other);
    }

    fn gz(bytes: &[u8], time: u32) -> Vec<u8> {
        let mut out = flate2::GzBuilder::new().mtime(time).write(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn tar_of(members: &[(&str, &str, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content, time) in members {
            let mut header = [0; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[136..147].copy_from_slice(format!("{time:011o}").as_bytes());
            header[156] = b'0';
            header[257..263].copy_from_slice(b"ustar\0");
            out.extend_from_slice(&header);
            out.extend_from_slice(content.as_bytes());
            out.resize(out.len().div_ceil(512) * 512, 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    fn ar_of(members: &[(&str, &str, u64)]) -> Vec<u8> {
        let mut out = b"!<arch>\n".to_vec();
        for (name, content, time) in members {
            out.extend_from_slice(
                format!("{name:<16}{time:<12}0     0     100644  {:<10}`\n{content}", content.len())
                    .as_bytes(),
            );
            if content.len() % 2 == 1 {
                out.push(b'\n');
            }
        }
        out
    }

    #[test]
    fn the_first_line_that_differs_is_told() {
        let found = compare(b"a\nb\nc\n", b"a\nx\nc\n");
        assert_eq!((found.order, found.detail.as_str()), (false, "line 2: `b` then, `x` now"));
        assert_eq!(compare(b"a\n", b"a\nb").detail, "line 2: no line then, `b` now");
        let long = compare("ü".repeat(100).as_bytes(), b"");
        assert_eq!(long.detail, format!("line 1: `{}…` then, no line now", "ü".repeat(80)));
    }

    #[test]
    fn lines_in_another_order_are_the_same_lines() {
        let found = compare(b"a\nb\nb\n", b"b\na\nb\n");
        assert_eq!(
            (found.order, found.detail.as_str()),
            (true, "the same lines in another order; line 1: `a` then, `b` now")
        );
        assert!(!compare(b"a\nb\nb\n", b"b\na\na\n").order);
    }

    #[test]
    fn what_two_lines_have_in_common_is_seen() {
        let likeness = |old: &str, new: &str| match compare(old.as_bytes(), new.as_bytes()).form {
            Form::Text(likeness) => likeness,
            form => panic!("{form:?}"),
        };
        assert_eq!(likeness("built 2024-01-02 3:04", "built 2025-11-12 13:14"), Likeness::Digits);
        assert_eq!(likeness("at /tmp/tmp.aQ3/x", "at /tmp/tmp.b7Z/x"), Likeness::Path);
        assert_eq!(likeness("id 3f2a9c0d11e84b7ab0c1", "id 77de01b2c4a94f0c9e55"), Likeness::Random);
        assert_eq!(likeness("one", "two"), Likeness::None);
    }

    #[test]
    fn gzip_is_unpacked_before_it_is_compared() {
        let found = compare(&gz(b"same", 1), &gz(b"same", 2));
        assert_eq!(found.form, Form::GzipHeader);
        assert!(found.detail.ends_with("is 1 then, 2 now"), "{}", found.detail);
        let found = compare(&gz(b"a\nb\n", 1), &gz(b"a\nc\n", 2));
        assert_eq!(found.detail, "unpacked, line 2: `b` then, `c` now");
        let inside = |time| gz(&tar_of(&[("a", "x", time)]), 0);
        assert!(
            compare(&inside(1), &inside(2))
                .detail
                .starts_with("unpacked, tar: the same members with other times")
        );
        // Packed twice it is unpacked once.
        let twice = |time| gz(&gz(b"same", time), 0);
        assert!(compare(&twice(1), &twice(2)).detail.starts_with("unpacked, byte 4 of "));
        // Damaged, it is bytes as any.
        let cut = gz(b"same", 1);
        assert_eq!(compare(&cut[..cut.len() - 3], &gz(b"other", 1)).form, Form::Other);
    }

    #[test]
    fn members_of_archives_are_compared() {
        for (make, word) in [(tar_of as fn(&[(&str, &str, u64)]) -> Vec<u8>, "tar"), (ar_of, "ar")] {
            let base = make(&[("a", "x", 1), ("b", "yy", 1)]);
            let moved = compare(&base, &make(&[("b", "yy", 1), ("a", "x", 1)]));
            assert!(moved.order, "{word}");
            assert_eq!(
                moved.detail,
                format!("{word}: the same members in another order; number 1 is `a` then, `b` now")
            );
            let later = compare(&base, &make(&[("a", "x", 1), ("b", "yy", 9)]));
            assert_eq!(
                later.detail,
                format!("{word}: the same members with other times, owners or modes; the first is `b`")
            );
            let other = compare(&base, &make(&[("a", "x", 1), ("b", "zz", 1)]));
            assert_eq!(
                (other.order, other.detail),
                (false, format!("{word}: member 2 is `b` then, `b` now"))
            );
        }
    }

    #[test]
    fn members_of_a_zip_are_compared() {
        let zip_of = |members: &[(&str, u32, u32)]| {
            let mut out = b"PK\x03\x04".to_vec();
            let at = out.len() as u32;
            for (name, crc, time) in members {
                let mut entry = vec![0; 46];
                entry[..4].copy_from_slice(b"PK\x01\x02");
                entry[12..16].copy_from_slice(&time.to_le_bytes());
                entry[16..20].copy_from_slice(&crc.to_le_bytes());
                entry[28..30].copy_from_slice(&(name.len() as u16).to_le_bytes());
                out.extend_from_slice(&entry);
                out.extend_from_slice(name.as_bytes());
            }
            out.extend_from_slice(b"PK\x05\x06\0\0\0\0\0\0");
            out.extend_from_slice(&(members.len() as u16).to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&at.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out
        };
        let base = zip_of(&[("a", 1, 1), ("b", 2, 1)]);
        assert!(compare(&base, &zip_of(&[("b", 2, 1), ("a", 1, 1)])).order);
        assert!(compare(&base, &zip_of(&[("a", 1, 1), ("b", 2, 7)])).detail.contains("other times"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_compared_without_a_panic(
            kind in 0..6_usize,
            old in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..700),
            new in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..700),
        ) {
            let head: &[u8] = [&b""[..], b"!<arch>\n", b"PK\x03\x04", b"\x1f\x8b\x08", b"SQLite format 3\0", b"PK\x03\x04PK\x05\x06"][kind];
            let (old, new) = ([head, &old].concat(), [head, &new].concat());
            compare(&old, &new);
        }

        #[test]
        fn shuffled_lines_are_told_as_order(words in proptest::collection::vec("[a-c]{0,2}", 2..8), by in 1..7_usize) {
            let join = |words: &[String]| words.iter().map(|word| format!("{word}\n")).collect::<String>().into_bytes();
            let mut other = words.clone();
            other.rotate_left(by % words.len());
            let (old, new) = (join(&words), join(&other));
            if old != new {
                proptest::prop_assert!(compare(&old, &new).order);
            }
        }
    }
}
