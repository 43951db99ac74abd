//! Id maps: which ids of a user namespace stand for which ids outside.

use std::fmt::Write as _;
use std::io;

use serde::{Deserialize, Serialize};

/// One line of a map: `count` ids from `inner` on inside stand for as many from `outer` on outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id inside.
    pub inner: u32,
    /// The first id outside.
    pub outer: u32,
    /// How many ids.
    pub count: u32,
}

/// The maps of one user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
    /// Supplementary groups may be set.
    pub setgroups: bool,
}

impl IdMap {
    /// The maps of the calling process's own namespace, as /proc tells them.
    pub fn of_this_process() -> io::Result<Self> {
        let setgroups = std::fs::read("/proc/self/setgroups")?;
        Ok(Self {
            uids: read_map("/proc/self/uid_map")?,
            gids: read_map("/proc/self/gid_map")?,
            setgroups: setgroups.starts_with(b"allow"),
        })
    }

    /// Every id, as itself.
    pub fn everything() -> Self {
        let all = vec![IdRange { inner: 0, outer: 0, count: u32::MAX }];
        Self { uids: all.clone(), gids: all, setgroups: true }
    }

    /// Only id 0, as without privileges and subordinate ids.
    pub fn single() -> Self {
        let one = vec![IdRange { inner: 0, outer: 0, count: 1 }];
        Self { uids: one.clone(), gids: one, setgroups: false }
    }

    /// Whether a user id exists inside.
    pub fn has_uid(&self, uid: u32) -> bool {
        contains(&self.uids, uid)
    }

    /// Whether a group id exists inside.
    pub fn has_gid(&self, gid: u32) -> bool {
        contains(&self.gids, gid)
    }

    /// Maps for a namespace below this one in which every id of this one is itself.
    pub fn nested(&self) -> Self {
        let same = |ranges: &[IdRange]| {
            ranges.iter().map(|range| IdRange { outer: range.inner, ..*range }).collect()
        };
        Self { uids: same(&self.uids), gids: same(&self.gids), setgroups: self.setgroups }
    }

    /// Writes these maps for the process `pid`, whose namespace must be new.
    ///
    /// `deny` switches setgroups(2) off first, which the kernel wants from a caller without privileges.
    pub fn write(&self, pid: i32, deny: bool) -> io::Result<()> {
        if deny {
            std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        }
        std::fs::write(format!("/proc/{pid}/uid_map"), map_text(&self.uids))?;
        std::fs::write(format!("/proc/{pid}/gid_map"), map_text(&self.gids))
    }
}

fn contains(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id >= range.inner && id - range.inner < range.count)
}

fn read_map(path: &str) -> io::Result<Vec<IdRange>> {
    parse_map(&std::fs::read_to_string(path)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{path} is not an id map")))
}

/// Reads the text of a map; `None` when it is not one.
pub(crate) fn parse_map(text: &str) -> Option<Vec<IdRange>> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
        let range = IdRange { inner: words.next()??, outer: words.next()??, count: words.next()?? };
        words.next().is_none().then_some(range)
    };
    text.lines().map(line).collect()
}

/// The text of a map. The kernel wants it whole in one write.
pub(crate) fn map_text(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for range in ranges {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", range.inner, range.outer, range.count);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_written() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        let ranges = parse_map(text).unwrap();
        assert_eq!(ranges[1], IdRange { inner: 1, outer: 100_000, count: 65_536 });
        assert_eq!(map_text(&ranges), "0 1000 1\n1 100000 65536\n");
        assert_eq!(parse_map("0 1"), None);
        assert_eq!(parse_map("0 1 2 3"), None);
        assert_eq!(parse_map("0 -1 2"), None);
    }

    #[test]
    fn membership_knows_the_ends() {
        let map = IdMap::everything();
        assert!(map.has_uid(0) && map.has_uid(u32::MAX - 1) && !map.has_uid(u32::MAX));
        assert!(IdMap::single().has_gid(0) && !IdMap::single().has_gid(1));
        let shifted = IdMap { uids: vec![IdRange { inner: 5, outer: 9, count: 2 }], ..IdMap::single() };
        assert!(shifted.has_uid(6) && !shifted.has_uid(7) && !shifted.has_uid(4));
        assert_eq!(shifted.nested().uids, [IdRange { inner: 5, outer: 5, count: 2 }]);
    }
}
