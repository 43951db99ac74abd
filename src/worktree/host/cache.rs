//! `/etc/ld.so.cache`, the list of libraries that glibc's loader looks in first.
//!
//! Layout (glibc `sysdeps/generic/dl-cache.h`): an optional old part that begins with `ld.so-1.7.0`, then a head of 48 bytes, entries of 24
//! bytes, and strings. Offsets of strings count from the head.
//!
//! # Invariants
//! - Every offset is checked; bad bytes give `None`, never a panic.

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEAD_BYTES: usize = 16;
const OLD_ENTRY_BYTES: usize = 12;
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEAD_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
/// Offset of the byte whose low two bits tell the byte order: 0 is not told, 2 is little-endian.
const FLAGS_AT: usize = 28;
const LITTLE_ENDIAN: u8 = 2;

/// One library of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheEntry {
    /// The loader's own word for processor and C library.
    pub(super) flags: u32,
    /// Needed kernel version, unused since glibc 2.36.
    pub(super) os_version: u32,
    /// Nonzero when it is for some processors of the kind only.
    pub(super) hardware: u64,
    /// The name that is looked for, such as `libc.so.6`.
    pub(super) name: Vec<u8>,
    /// Its path.
    pub(super) path: Vec<u8>,
}

/// Reads a cache; `None` when it is none or damaged.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<CacheEntry>> {
    let start = match bytes.strip_prefix(OLD_MAGIC) {
        Some(_) => {
            let count = usize::try_from(u32_at(bytes, 12)?).ok()?;
            let end = count.checked_mul(OLD_ENTRY_BYTES)?.checked_add(OLD_HEAD_BYTES)?;
            end.checked_next_multiple_of(8)?
        }
        None => 0,
    };
    let bytes = bytes.get(start..)?;
    bytes.strip_prefix(MAGIC)?;
    let order = *bytes.get(FLAGS_AT)? & 3;
    if order != 0 && order != LITTLE_ENDIAN {
        return None;
    }
    let count = usize::try_from(u32_at(bytes, 20)?).ok()?;
    let entries = bytes.get(HEAD_BYTES..)?.get(..count.checked_mul(ENTRY_BYTES)?)?;
    let entry = |entry: &[u8]| {
        Some(CacheEntry {
            flags: u32_at(entry, 0)?,
            name: text_at(bytes, u32_at(entry, 4)?)?,
            path: text_at(bytes, u32_at(entry, 8)?)?,
            os_version: u32_at(entry, 12)?,
            hardware: u64::from(u32_at(entry, 16)?) | u64::from(u32_at(entry, 20)?) << 32,
        })
    };
    entries.chunks_exact(ENTRY_BYTES).map(entry).collect()
}

/// Writes a cache. The entries must be in the order that a read cache had: the loader searches by halves.
pub(super) fn encode(entries: &[CacheEntry]) -> Vec<u8> {
    let strings_at = HEAD_BYTES + entries.len() * ENTRY_BYTES;
    let (mut table, mut strings) = (Vec::new(), Vec::new());
    for entry in entries {
        let mut place = |text: &[u8]| {
            let at =
                u32::try_from(strings_at + strings.len()).expect("names of a cache that was read fit again");
            strings.extend_from_slice(text);
            strings.push(0);
            at.to_le_bytes()
        };
        table.extend_from_slice(&entry.flags.to_le_bytes());
        table.extend_from_slice(&place(&entry.name));
        table.extend_from_slice(&place(&entry.path));
        table.extend_from_slice(&entry.os_version.to_le_bytes());
        table.extend_from_slice(&entry.hardware.to_le_bytes());
    }
    let len = |len: usize| u32::try_from(len).expect("as above").to_le_bytes();
    let mut out = Vec::with_capacity(strings_at + strings.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&len(entries.len()));
    out.extend_from_slice(&len(strings.len()));
    out.push(LITTLE_ENDIAN);
    out.resize(HEAD_BYTES, 0);
    out.extend_from_slice(&table);
    out.extend_from_slice(&strings);
    out
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn text_at(bytes: &[u8], at: u32) -> Option<Vec<u8>> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    // A path is never longer than PATH_MAX, so a cache without NULs is not searched to its end for every entry.
    let rest = &rest[..rest.len().min(4096)];
    Some(rest[..rest.iter().position(|byte| *byte == 0)?].to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<CacheEntry> {
        let entry = |name: &[u8], path: &[u8], hardware| CacheEntry {
            flags: 0x0303,
            os_version: 0,
            hardware,
            name: name.to_vec(),
            path: path.to_vec(),
        };
        vec![
            entry(b"libz.so.1", b"/lib/libz.so.1", 0),
            entry(b"libc.so.6", b"/lib/hw/libc.so.6", 1 << 62 | 3),
            entry(b"libc.so.6", b"/lib/libc.so.6", 0),
        ]
    }

    #[test]
    fn a_cache_reads_back_also_behind_an_old_part() {
        let new = encode(&sample());
        assert_eq!(parse(&new).unwrap(), sample());
        let mut old = [OLD_MAGIC, &[0], &1u32.to_le_bytes(), &[7; 12], &[0; 4]].concat();
        assert_eq!(old.len() % 8, 0);
        old.extend(&new);
        assert_eq!(parse(&old).unwrap(), sample());
        assert_eq!(parse(b"something else"), None);
    }

    #[test]
    fn the_cache_of_this_machine_is_understood() {
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else {
            eprintln!("SKIPPED: no /etc/ld.so.cache here");
            return;
        };
        let entries = parse(&bytes).unwrap();
        assert!(entries.iter().all(|entry| entry.path.starts_with(b"/")), "{entries:?}");
        assert!(!entries.is_empty());
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(
            damage in prop::collection::vec((0usize..300, any::<u8>()), 1..8),
            cut in 0usize..300,
        ) {
            let mut bytes = encode(&sample());
            for (at, byte) in damage {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = parse(&bytes);
            let _ = parse(&bytes[..cut.min(bytes.len())]);
            let _ = parse(&[OLD_MAGIC, &bytes].concat());
        }
    }
}
